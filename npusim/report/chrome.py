"""The trace file: a run in the trace event format that Perfetto and Chrome open.

Written by ``npusim profile --trace``. A process is a core, a thread is a unit; flows are waits, counters are DRAM
bandwidth and OCM in use. Format: "Trace Event Format", https://github.com/google/perfetto (docs/data-sources).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from isa.instruction import OPCODES
from npusim.report.critical import predecessors
from npusim.report.curve import Curve
from npusim.report.lanes import Lane, lane_label, lanes, tiles
from npusim.report.profile import Profile
from npusim.sim.trace import STALL_BARRIER, physical_name

Event = dict[str, Any]

GZIP_SUFFIX = ".gz"
_MEMORY = "memory"


def trace_bytes(profile: Profile, *, compressed: bool = False) -> bytes:
    """The file's bytes, the same for the same profile; gzip where asked for."""
    document = {
        "traceEvents": list(trace_events(profile)),
        "displayTimeUnit": "ns",
        "otherData": {
            "model": profile.name,
            "npu_mode": profile.npu_mode,
            "hardware": profile.hardware.machine.name,
            "clock_hz": profile.hardware.machine.clock_hz,
            "cycles": profile.summary.cycles,
        },
    }
    data = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return gzip.compress(data, mtime=0) if compressed else data


def trace_events(profile: Profile) -> Iterator[Event]:
    """The events: names, slices by lane, flows, counters."""
    clock = _Clock(profile.hardware.machine.clock_hz)
    drawn = [lane for lane in lanes(profile.trace, profile.cores) if lane.rows.size]
    yield from _names(profile, drawn)
    for lane in drawn:
        yield from _slices(profile, lane, clock)
    yield from _flows(profile, clock)
    yield from _counters(profile, clock)


class _Clock:
    """Cycles as microseconds in whole nanoseconds: slices that touch in cycles touch in the file."""

    def __init__(self, clock_hz: int) -> None:
        self.clock_hz = clock_hz

    def nanoseconds(self, cycle: int) -> int:
        return round(cycle * 1e9 / self.clock_hz)

    def microseconds(self, cycle: int) -> float:
        return self.nanoseconds(cycle) / 1e3


def _pid(core: int) -> int:
    return core + 1  # 0 is the idle process of a kernel trace


def _names(profile: Profile, drawn: list[Lane]) -> Iterator[Event]:
    memory = _pid(profile.hardware.machine.cores)
    for pid, name in [*((_pid(core), f"core{core}") for core in profile.cores), (memory, _MEMORY)]:
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": pid, "name": "process_sort_index", "args": {"sort_index": pid}}
    for lane in drawn:
        place = {"ph": "M", "pid": _pid(lane.core), "tid": lane.unit + 1}
        yield {**place, "name": "thread_name", "args": {"name": lane_label(lane.unit)}}
        yield {**place, "name": "thread_sort_index", "args": {"sort_index": lane.unit + 1}}


def _slices(profile: Profile, lane: Lane, clock: _Clock) -> Iterator[Event]:
    trace = profile.trace.take(lane.rows)
    names, tile = trace.origin_names, tiles(profile.trace)[lane.rows]
    for k, (start, end, origin) in enumerate(
        zip(trace.start.tolist(), trace.end.tolist(), trace.origin.tolist(), strict=True)
    ):
        mnemonic = OPCODES[int(trace.opcode[k])].layout.mnemonic
        layer = names[int(trace.job[k])][origin] if origin >= 0 else ""
        begin = clock.nanoseconds(start)
        args = {
            "instruction": mnemonic, "pc": int(trace.position[k]), "start": start, "cycles": end - start,
            "macs": int(trace.macs[k]), "bytes": int(trace.bytes[k]), "dram_bytes": int(trace.dram_bytes[k]),
            "stall": int(trace.stall_cycles[k]), "waited_for": _cause(int(trace.stall_cause[k])),
        }  # fmt: skip
        if sources := profile.sources.get(layer):
            args["onnx"] = ", ".join(sources)
        yield {
            "ph": "X", "pid": _pid(lane.core), "tid": lane.unit + 1, "ts": begin / 1e3,
            "dur": (clock.nanoseconds(end) - begin) / 1e3, "cat": mnemonic,
            "name": f"{layer} #{tile[k]}" if layer else mnemonic, "args": args,
        }  # fmt: skip


def _cause(cause: int) -> str:
    if cause >= 0:
        return physical_name(cause)
    return "barrier" if cause == STALL_BARRIER else ""


def _flows(profile: Profile, clock: _Clock) -> Iterator[Event]:
    """An arrow for every wait that made a unit stand still: from the last nanosecond of what it waited for."""
    trace = profile.trace
    before = predecessors(trace, profile.hardware)
    for number, row in enumerate(np.flatnonzero((trace.stall_cause >= 0) & (before >= 0)).tolist()):
        source = int(before[row])
        flow = {"cat": "wait", "name": "wait", "id": number + 1}
        left = max(clock.nanoseconds(int(trace.end[source])) - 1, clock.nanoseconds(int(trace.start[source])))
        for phase, at, place in (("s", left / 1e3, source), ("f", clock.microseconds(int(trace.start[row])), row)):
            event = {"ph": phase, "pid": _pid(int(trace.core[place])), "tid": int(trace.unit[place]) + 1, "ts": at}
            yield {**event, **flow, **({"bp": "e"} if phase == "f" else {})}


def _counters(profile: Profile, clock: _Clock) -> Iterator[Event]:
    memory = _pid(profile.hardware.machine.cores)
    per_second = profile.hardware.machine.clock_hz / 1e9
    for label, curve in (("DRAM read GB/s", profile.reads), ("DRAM write GB/s", profile.writes)):
        rates = Curve(cycles=curve.cycles, values=np.round(curve.values * per_second, 3))
        yield from _counter(memory, label, rates, clock)
    yield from _counter(memory, "DRAM scratch bytes", profile.scratch, clock)
    for core, curve in zip(profile.cores, profile.ocm, strict=True):
        yield from _counter(_pid(core), "OCM bytes", curve, clock)


def _counter(pid: int, label: str, curve: Curve, clock: _Clock) -> Iterator[Event]:
    for cycle, value in zip(curve.cycles.tolist(), curve.values.tolist(), strict=True):
        yield {"ph": "C", "pid": pid, "ts": clock.microseconds(cycle), "name": label, "args": {"value": value}}
