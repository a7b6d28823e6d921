"""How fast the event loop is: instructions and burst groups a second in time-only mode.

``python benchmarks/engine.py [--json FILE]`` prints a row per program; times are of the event loop alone, process CPU
time, the best of five.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from isa.instruction import Instruction, Unit, Wait, unit_number
from isa.instructions import Copy, Load, Matmul, Store
from isa.program import Program, Segment, SegmentKind, make_program
from npusim.config import load
from npusim.sim import Job, Mode
from npusim.sim.engine import Engine
from npusim.sim.loader import load as load_jobs

REPEATS = 5


def matmul(*waits: Wait) -> Instruction:
    return Matmul(a=0, b=4096, dst=8192, params=65536, m=8, k=64, n=32, a_row_stride=64, b_row_stride=32,
                  dst_row_stride=32, waits=waits)  # fmt: skip


def copy(*waits: Wait) -> Instruction:
    return Copy(src=8192, dst=16384, run=256, waits=waits)


def free_running() -> Program:
    """Three cores, four busy units each, nobody waits."""
    streams = {}
    for core in range(3):
        for unit in (Unit.CONV0, Unit.CONV1):
            streams[unit_number(core, unit)] = [matmul()] * 10_000
        streams[unit_number(core, Unit.CV)] = [copy()] * 10_000
    return make_program("free_running", streams)


def pipeline() -> Program:
    """On every core, conv0, conv1 and cv wait for one another in turn: each instruction waits once."""
    streams: dict[int, list[Instruction]] = {}
    n = 10_000
    for core in range(3):
        conv0, conv1, cv = (unit_number(core, u) for u in (Unit.CONV0, Unit.CONV1, Unit.CV))
        streams[conv0] = [matmul(*([Wait(cv, k)] if k else [])) for k in range(n)]
        streams[conv1] = [matmul(Wait(conv0, k + 1)) for k in range(n)]
        streams[cv] = [copy(Wait(conv1, k + 1)) for k in range(n)]
    return make_program("pipeline", streams)


def tiles() -> Program:
    """Double-buffered tiles on three cores: two loads, a product on each conv unit, a copy, a store; many waits."""
    streams: dict[int, list[Instruction]] = {}
    n = 3_000
    size = 4096
    for core in range(3):
        conv0, conv1, cv, sdma = (unit_number(core, u) for u in (Unit.CONV0, Unit.CONV1, Unit.CV, Unit.SDMA))
        streams[conv0] = [matmul(Wait(sdma, 3 * k + 1)) for k in range(n)]
        streams[conv1] = [matmul(Wait(sdma, 3 * k + 2), *([Wait(cv, k)] if k else [])) for k in range(n)]
        streams[cv] = [copy(Wait(conv0, k + 1), Wait(conv1, k + 1)) for k in range(n)]
        streams[sdma] = []
        for k in range(n):
            after = [Wait(cv, k - 1)] if k > 1 else []
            streams[sdma] += [
                Load(ocm=0, segment=0, offset=0, run=size, waits=tuple(after)),
                Load(ocm=4096, segment=0, offset=size, run=size),
                Store(ocm=8192, segment=1, offset=0, run=1024, waits=tuple([Wait(cv, k)] if k else [])),
            ]
    return make_program("tiles", streams, SEGMENTS)


def streaming() -> Program:
    """Three cores load as fast as DRAM goes."""
    stream = [Load(ocm=0, segment=0, offset=0, run=1 << 16)] * 500
    return make_program("streaming", {unit_number(core, Unit.SDMA): stream for core in range(3)}, SEGMENTS)


SEGMENTS = (
    Segment(name="x", kind=SegmentKind.INPUT, size_bytes=1 << 16),
    Segment(name="y", kind=SegmentKind.OUTPUT, size_bytes=1 << 16),
)
PROGRAMS: tuple[Callable[[], Program], ...] = (free_running, pipeline, tiles, streaming)


def measure(program: Program) -> dict[str, object]:
    """One row: the best of several runs of the event loop."""
    loaded = load_jobs(load("ax650n"), [Job(program=program)], Mode.TIME, allow_unverified=True)
    seconds = float("inf")
    for _ in range(REPEATS):
        engine = Engine(loaded)
        before = time.process_time()
        engine.run()
        seconds = min(seconds, time.process_time() - before)
    groups = sum(len(s.transfers.data) for s in loaded.streams if s.transfers is not None)
    return {
        "program": program.name,
        "instructions": len(loaded),
        "burst_groups": groups,
        "seconds": round(seconds, 4),
        "instructions_per_s": round(len(loaded) / seconds),
        "burst_groups_per_s": round(groups / seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    file = parser.parse_args().json
    rows = []
    for build in PROGRAMS:
        row = measure(build())
        rows.append(row)
        print(*(f"{key}={value}" for key, value in row.items()))
    if file is not None:
        file.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
