"""Predicted against measured latency: ``python -m benchmarks.fidelity [--json F] [--keep FOLDER]``.

The machine is ``ax650n`` as its file describes it, with no fitting; the measured latencies are those of
``benchmarks/data/ax650n_calibration.csv``, which names the source of every row. Weights are seeded, which changes no
cycle.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.simulate import MODES, quantized

DATA = Path(__file__).parent / "data" / "ax650n_calibration.csv"
MODELS = {"Swin_t": "swin_t", "ResNet50": "resnet50", "MobileNetv2": "mobilenet_v2", "DeiT_t": "deit_t"}
OLDER = "older toolchain"


def measured() -> dict[tuple[str, str], float]:
    """Latency in ms by model and mode, of today's toolchain."""
    with DATA.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "model" and OLDER not in row["notes"]]
    return {(MODELS[row["model"]], row["npu_mode"]): float(row["latency_ms"]) for row in rows if row["model"] in MODELS}


def predict(path: Path, npu_mode: str) -> dict[str, Any]:
    """Predicted latency, and where the cycles go: busy shares of the kinds of units."""
    from npusim import graph as graphs
    from npusim.compiler.build import compile_graph
    from npusim.config import load
    from npusim.report.summary import summarize
    from npusim.sim import Job, Mode, simulate

    hardware, cores = load("ax650n"), MODES[npu_mode]
    program = compile_graph(graphs.load(path), hardware, cores)
    result = simulate(hardware, Job(program=program), mode=Mode.TIME)
    figures = summarize(result.trace, hardware, 0, result.cycles, cores)
    shares: dict[str, list[float]] = {}
    for use in figures.units:
        shares.setdefault(use.name.split(".")[1].rstrip("01"), []).append(use.utilization)
    row = {"predicted_ms": figures.latency_ms, "mac_utilization": figures.mac_utilization, "cycles": figures.cycles}
    return row | {kind: sum(values) / len(values) for kind, values in shares.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the quantized models here")
    arguments = parser.parse_args(argv)
    board, rows = measured(), []
    print("| model | mode | predicted ms | measured ms | ratio | MACs | conv busy | teng busy | cv busy | sdma busy |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with TemporaryDirectory() as scratch:
        folder = Path(arguments.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name in MODELS.values():
            path = quantized(name, folder)
            for npu_mode in MODES:
                row: dict[str, Any] = {"model": name, "npu_mode": npu_mode, "measured_ms": board[name, npu_mode]}
                row |= predict(path, npu_mode)
                rows.append(row)
                busy = " | ".join(f"{row.get(kind, 0):.0%}" for kind in ("conv", "teng", "cv", "sdma"))
                print(
                    f"| {name} | {npu_mode} | {row['predicted_ms']:.3f} | {row['measured_ms']:.3f} | "
                    f"{row['predicted_ms'] / row['measured_ms']:.2f} | {row['mac_utilization']:.0%} | {busy} |",
                    flush=True,
                )
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
