"""How long the simulator takes for whole models: ``python -m benchmarks.simulate [--json F] [MODEL ...]``.

Models have seeded weights and are quantized by onnxruntime's static quantizer. Times are wall-clock, warm: kernels are
compiled and each figure is the best of three. ``run_s`` is values and time, ``time_only_s`` time alone; both on a
verified program, loading included: every run gets a program of its own, since what loading finds out is remembered for
as long as the program lives. Peak memory is that of a process of its own that builds and runs the model once.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

MODELS = ("swin_t", "resnet50", "deit_t", "yolov5s")
MODES = {"NPU1": 1, "NPU3": 3}
REPEATS = 3


def best(repeats: int, action: Callable[[], Any]) -> tuple[float, Any]:
    """The shortest of several runs, in seconds, and the last result."""
    shortest, result = float("inf"), None
    for _ in range(repeats):
        begin = time.perf_counter()
        result = action()
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest, result


def quantized(name: str, folder: Path) -> Path:
    """The INT8 model in a file."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        command = [sys.executable, "-m", "models", name, "-o", str(path), "--quantize", "u8s8"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def measure(path: Path, npu_mode: str, repeats: int = REPEATS) -> dict[str, Any]:
    """One row."""
    from isa.verify import verify
    from npusim import graph as graphs
    from npusim.compiler.build import compile_graph
    from npusim.config import load
    from npusim.report.summary import summarize
    from npusim.sim import Job, Mode, Result, limits_of, simulate

    hardware, cores = load("ax650n"), MODES[npu_mode]
    graph = graphs.load(path)
    compile_s, program = best(repeats, lambda: compile_graph(graphs.load(path), hardware, cores))
    program = program.with_stamp(verify(program, limits_of(hardware)).stamp)
    random = np.random.default_rng(0)
    inputs = {name: random.normal(size=graph.tensors[name].shape).astype(np.float32) for name in graph.inputs}

    def run(mode: Mode) -> Result:
        return simulate(hardware, Job(program=replace(program), inputs=inputs), mode=mode)

    run(Mode.FULL)  # compiles or loads the kernels
    run_s, _ = best(repeats, lambda: run(Mode.FULL))
    time_only_s, result = best(repeats, lambda: run(Mode.TIME))
    figures = summarize(result.trace, hardware, 0, result.cycles, cores)
    return {
        "model": path.stem,
        "npu_mode": npu_mode,
        "compile_s": compile_s,
        "run_s": run_s,
        "time_only_s": time_only_s,
        "cycles": result.cycles,
        "cycles_per_s": result.cycles / run_s,
        "instructions": len(program),
        "latency_ms": figures.latency_ms,
        "mac_utilization": figures.mac_utilization,
        "dram_bytes": figures.dram_bytes,
    }


def peak_rss_mb(path: Path, npu_mode: str) -> float:
    """Peak resident memory of a process that builds and runs the model once."""
    command = [sys.executable, "-m", "benchmarks.simulate", "--one", str(path), npu_mode]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def own_peak_mb() -> float:
    """Peak resident memory of this process; ru_maxrss would include what its parent had when it was started."""
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the quantized models here")
    parser.add_argument("--one", nargs=2, metavar=("FILE", "MODE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        measure(Path(arguments.one[0]), arguments.one[1], repeats=1)
        print(own_peak_mb())
        return
    rows = []
    with TemporaryDirectory() as scratch:
        folder = Path(arguments.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        print("model       mode  compile s   run s  time only s      cycles      ms  MAC util  DRAM MB  peak MB")
        for name in arguments.models:
            path = quantized(name, folder)
            for npu_mode in MODES:
                row = measure(path, npu_mode) | {"peak_rss_mb": peak_rss_mb(path, npu_mode)}
                rows.append(row)
                print(
                    f"{row['model']:<11} {npu_mode}  {row['compile_s']:9.2f} {row['run_s']:7.2f} "
                    f"{row['time_only_s']:12.2f} {row['cycles']:11,} {row['latency_ms']:7.3f} "
                    f"{row['mac_utilization']:9.1%} {row['dram_bytes'] / 1e6:8.1f} {row['peak_rss_mb']:8.0f}",
                    flush=True,
                )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
