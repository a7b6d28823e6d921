"""The demonstration behind ``make demo``: ``python -m examples.demo`` from the root of the checkout.

First an INT8 matmul in assembly, on one core and on three, against the same arithmetic in NumPy. Then a Swin trained on
digits, quantized and built for one, two and three cores: it reads held-out digits, and every allocation gives the same
answers. Last Swin-T, whose latency on each allocation stands beside what the board took.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

import models
import npusim
from isa.assembler import assemble
from isa.verify import verify
from models.digits import normalized
from models.quantize import quantize
from npusim.cli.text import table
from npusim.config import Hardware, load
from npusim.report.summary import summarize
from npusim.sim import Job, limits_of
from npusim.sim import simulate as run_jobs

ROOT = Path(__file__).resolve().parents[1]
ROWS, DEPTH, COLUMNS = 768, 256, 256
ZERO_POINT, MULTIPLIER = 128, np.float32(0.0005)
MODES = ("NPU1", "NPU2", "NPU3")
DIGITS = 40
BOARD_MS = {"NPU1": 6.334, "NPU3": 2.492}  # Swin-T, benchmarks/data/ax650n_calibration.csv


def main() -> None:
    hardware = load("ax650n")
    peak = hardware.peak_ops_per_second / 1e12
    print(f"machine: {hardware.machine.description} ({peak:.2f} TOPS at {hardware.machine.clock_hz / 1e6:.0f} MHz)")
    agree = [matmul(hardware), digits(), swin_t()]
    if not all(agree):
        raise SystemExit(1)


def matmul(hardware: Hardware) -> bool:
    """Hand-written programs: proven, run, and compared with NumPy."""
    print(f"\n1. Assembly: u8[{ROWS}, {DEPTH}] x s8[{DEPTH}, {COLUMNS}], requantized to u8\n")
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (ROWS, DEPTH), dtype=np.uint8)
    w = generator.integers(-127, 128, (DEPTH, COLUMNS), dtype=np.int8)
    rows, outputs = [], []
    for name in ("matmul_1core", "matmul_3core"):
        program = assemble((ROOT / "examples" / f"{name}.npuasm").read_text(encoding="utf-8"), name)
        report = verify(program, limits_of(hardware))
        result = run_jobs(hardware, Job(program=program.with_stamp(report.stamp), inputs={"x": x, "w": w}))
        figures = summarize(result.trace, hardware, 0, result.cycles, program.cores)
        outputs.append(result.outputs["y"].reshape(ROWS, COLUMNS))
        verdict = "proven" if report.clean else report.violations[0].message
        used = f"{figures.mac_utilization:.1%}"
        rows.append((name, len(program), verdict, figures.cycles, used, figures.dram_bytes))
    print(table(("program", "instructions", "verifier", "cycles", "of peak MACs", "DRAM bytes"), rows, "<><"))
    # the law: exact int32 sum, one float32 multiply, round half to even, saturate, add the zero point
    accumulator = (x.astype(np.int32) - ZERO_POINT) @ w.astype(np.int32)
    scaled = np.rint(accumulator.astype(np.float32) * MULTIPLIER).astype(np.int64) + ZERO_POINT
    expected = np.clip(scaled, 0, 255).astype(np.uint8)
    agree = all(np.array_equal(expected, output) for output in outputs)
    print(f"\nboth equal NumPy's {expected.size:,} integers: {said(agree)}")
    return agree


def digits() -> bool:
    """A trained Swin: quantized, built for each allocation, and asked about digits it never saw."""
    print("\n2. A Swin trained on 8x8 digits (window attention, shifted windows, layer norm, GELU)\n")
    folder = ROOT / "models" / "trained"
    data = np.load(folder / "digits.npz")
    images, labels = normalized(data["test_images"]), data["test_labels"]
    calibration = normalized(data["calibration_images"])
    model = quantize(onnx.load(folder / "digits_swin.onnx"), calibration=(image[None] for image in calibration))
    rows, answers = [], []
    for mode in MODES:
        built = npusim.build(model, npu_mode=mode)
        session = built.session()
        (name,) = (port.name for port in session.get_inputs())
        logits = np.stack([session.run(None, {name: image[None]})[0][0] for image in images[:DIGITS]])
        answers.append(logits)
        right = int((logits.argmax(1) == labels[:DIGITS]).sum())
        rows.append((mode, built.cycles, built.summary.latency_ms, f"{right} of {DIGITS}"))
    print(table(("allocation", "cycles", "ms", "digits read"), rows))
    agree = all(np.array_equal(answers[0], other) for other in answers)
    print(f"\nthe same {answers[0].size} logits on every allocation: {said(agree)}")
    return agree


def swin_t() -> bool:
    """Swin-T at its real size; its weights are seeded, so only its time means something."""
    print("\n3. Swin-T, 224x224, INT8 (seeded weights: its labels mean nothing until pretrained ones are given)\n")
    with timed("build and quantize the model"):
        model = quantize(models.build("swin_t"))
    image = np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype(np.float32)
    rows, answers = [], []
    for mode in MODES:
        with timed(f"compile, prove and time it for {mode}"):
            built = npusim.build(model, npu_mode=mode)
        with timed(f"classify on {mode}"):
            session = built.session()
            answers.append(session.run(None, {session.get_inputs()[0].name: image})[0])
        figures = built.summary
        board = f"{BOARD_MS[mode]:.3f}" if mode in BOARD_MS else ""
        rows.append((mode, figures.cycles, figures.latency_ms, board, figures.fps, f"{figures.mac_utilization:.1%}",
                     figures.dram_bytes / 1e6))  # fmt: skip
    print(table(("allocation", "cycles", "ms", "board ms", "fps", "of peak MACs", "DRAM MB"), rows))
    agree = all(np.array_equal(answers[0], other) for other in answers)
    print(f"\nthe same {answers[0].size} logits on every allocation: {said(agree)}")
    return agree


def said(agree: bool) -> str:
    return "yes" if agree else "NO"


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say on standard error what takes time, and how long it took."""
    begin = time.perf_counter()
    yield
    print(f"  {what}: {time.perf_counter() - begin:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
