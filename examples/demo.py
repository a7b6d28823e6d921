"""The demonstration behind ``make demo``: ``python -m examples.demo`` from the root of the checkout.

First an INT8 matmul in assembly, on one core and on three, against the same arithmetic in NumPy. Then two float models,
quantized with real images and built for one, two and three cores: a Swin trained on digits, which reads held-out ones,
and Swin-T, whose latency stands beside what the board took. Every allocation gives the same answers.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import models
import npusim
from isa.assembler import assemble
from isa.verify import verify
from models.digits import normalized
from npusim.cli.text import table
from npusim.config import Hardware, load
from npusim.report.summary import summarize
from npusim.session.classification import classify, top
from npusim.session.labels import imagenet_names
from npusim.sim import Job, limits_of
from npusim.sim import simulate as run_jobs

ROOT = Path(__file__).resolve().parents[1]
ROWS, DEPTH, COLUMNS = 768, 256, 256
ZERO_POINT, MULTIPLIER = 128, np.float32(0.0005)
MODES = ("NPU1", "NPU2", "NPU3")
DIGITS = 40
CROPS = 32
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # ImageNet's, as Swin-T's training took them out
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
    calibration = [{"image": image[None]} for image in normalized(data["calibration_images"])]
    built = npusim.build(folder / "digits_swin.onnx", calibration=calibration)
    print(f"quantized with {len(calibration)} digits; {len(images):,} others were held out in training\n")
    rows, answers = [], []
    for mode in MODES:
        built = npusim.build(built.prepared, npu_mode=mode)
        session = built.session()
        logits = np.stack([session.run(None, {"image": image[None]})[0][0] for image in images[:DIGITS]])
        answers.append(logits)
        right = int((logits.argmax(1) == labels[:DIGITS]).sum())
        rows.append((mode, built.cycles, built.summary.latency_ms, f"{right} of {DIGITS}"))
    print(table(("allocation", "cycles", "ms", "digits read"), rows))
    agree = all(np.array_equal(answers[0], other) for other in answers)
    print(f"\nthe same {answers[0].size} logits on every allocation: {said(agree)}")
    return agree


def photographs(folder: Path) -> Path:
    """Square cuts from scikit-learn's two photographs, one file each, the same on every machine."""
    generator = np.random.default_rng(0)
    images = load_sample_images().images
    for index in range(CROPS):
        pixels = images[index % len(images)]
        high, wide, _ = pixels.shape
        side = int(generator.integers(224, high))
        y, x = int(generator.integers(high - side + 1)), int(generator.integers(wide - side + 1))
        Image.fromarray(pixels[y : y + side, x : x + side]).save(folder / f"{index:02}.png")
    return folder


def swin_t() -> bool:
    """Swin-T at its real size; its weights are seeded, so only its time means something."""
    print(f"\n3. Swin-T, 224x224, quantized with {CROPS} cuts from two photographs\n")
    rows, answers = [], []
    with tempfile.TemporaryDirectory() as folder:
        data = photographs(Path(folder))
        entry = {"calibration_dataset": str(data), "calibration_mean": MEAN, "calibration_std": STD}
        image = (data / "00.png").read_bytes()
        model = models.build("swin_t")
        with timed("quantize, compile, prove and time it for NPU1"):
            built = npusim.build(model, config={"quant": {"input_configs": [entry]}})
    for mode in MODES:
        if mode != built.axmodel.npu_mode:
            with timed(f"compile, prove and time it for {mode}"):
                built = npusim.build(built.prepared, npu_mode=mode)
        with timed(f"classify on {mode}"):
            answers.append(classify(built.session(), image))
        figures = built.summary
        board = f"{BOARD_MS[mode]:.3f}" if mode in BOARD_MS else ""
        rows.append((mode, figures.cycles, figures.latency_ms, board, figures.fps, f"{figures.mac_utilization:.1%}",
                     figures.dram_bytes / 1e6))  # fmt: skip
    print(table(("allocation", "cycles", "ms", "board ms", "fps", "of peak MACs", "DRAM MB"), rows))
    agree = all(np.array_equal(answers[0], other) for other in answers)
    print(f"\nthe same {answers[0].size} logits on every allocation: {said(agree)}")
    best = top(answers[0], imagenet_names(), 1)[0]
    print(f"best: {best}; the weights are seeded, not trained: labels mean nothing until pretrained ones are given")
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
