"""The demonstration behind ``make demo``: one INT8 matmul on one core and on three, from assembly to exact integers.

Each program is assembled, proven free of races and deadlocks, and run on the simulated AX650N. The outputs are
compared with one another and with the same arithmetic written in NumPy.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from isa.assembler import assemble
from isa.verify import verify
from npusim.cli.text import table
from npusim.config import load
from npusim.report.summary import summarize
from npusim.sim import Job, limits_of, simulate

EXAMPLES = Path(__file__).parent
ROWS, DEPTH, COLUMNS = 768, 256, 256
ZERO_POINT, MULTIPLIER = 128, np.float32(0.0005)


def main() -> None:
    hardware = load("ax650n")
    peak = hardware.peak_ops_per_second / 1e12
    print(f"machine   {hardware.machine.description} ({peak:.2f} TOPS at {hardware.machine.clock_hz / 1e6:.0f} MHz)")
    print(f"workload  u8[{ROWS}, {DEPTH}] x s8[{DEPTH}, {COLUMNS}], requantized to u8\n")
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (ROWS, DEPTH), dtype=np.uint8)
    w = generator.integers(-127, 128, (DEPTH, COLUMNS), dtype=np.int8)

    rows, outputs = [], []
    for name in ("matmul_1core", "matmul_3core"):
        program = assemble((EXAMPLES / f"{name}.npuasm").read_text(encoding="utf-8"), name)
        report = verify(program, limits_of(hardware))
        verdict = "proven" if not report.violations else report.violations[0].message
        print(f"{name}: {len(program)} instructions on {program.cores} core(s), {verdict}")
        begin = time.perf_counter()
        result = simulate(hardware, Job(program=program.with_stamp(report.stamp), inputs={"x": x, "w": w}))
        seconds = time.perf_counter() - begin
        figures = summarize(result.trace, hardware, 0, result.cycles, program.cores)
        outputs.append(result.outputs["y"].reshape(ROWS, COLUMNS))
        rows.append((name, program.cores, figures.cycles, figures.cycles / hardware.machine.clock_hz * 1e6,
                     f"{figures.mac_utilization:.1%}", figures.dram_bytes, seconds))  # fmt: skip
    print()
    print(table(("program", "cores", "cycles", "us", "of peak MACs", "DRAM bytes", "simulated in s"), rows))

    # the law: exact int32 sum, one float32 multiply, round half to even, saturate, add the zero point
    accumulator = (x.astype(np.int32) - ZERO_POINT) @ w.astype(np.int32)
    scaled = np.rint(accumulator.astype(np.float32) * MULTIPLIER).astype(np.int64) + ZERO_POINT
    expected = np.clip(scaled, 0, 255).astype(np.uint8)
    agree = all(np.array_equal(expected, output) for output in outputs)
    print(f"\noutputs of both programs equal NumPy's {expected.size:,} integers: {'yes' if agree else 'NO'}")
    if not agree:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
