"""``npusim bench`` with several models, or with requests by the clock: each model's figures alone and together."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from npusim import __version__
from npusim.cli.files import write_csv, write_json
from npusim.cli.programs import read_model
from npusim.cli.progress import Progress
from npusim.cli.text import paint, table
from npusim.config import load
from npusim.errors import UsageError
from npusim.session.blocks import parse_mask

if TYPE_CHECKING:
    from npusim.session.calls import Together
    from npusim.session.fleet import Fleet, FleetModel


def bench_fleet(arguments: argparse.Namespace, repeat: int, warmup: int, vnpu: int, batches: Sequence[int]) -> int:
    """Run the models side by side and print what became of them."""
    from npusim.session.fleet import simulate_fleet, spread
    from npusim.session.machine import hardware_of

    models = [read_model(path) for path in arguments.model]
    machine = load(arguments.target_hardware) if arguments.target_hardware else None
    mask_machine = machine or hardware_of(models[0])
    masks = [None if text is None else parse_mask(text, mask_machine) for text in arguments.affinity or [None]]
    deadlines = [milliseconds(text) for text in arguments.deadline or [None]]
    progress = Progress("calls")
    try:
        fleet = simulate_fleet(
            models,
            affinity=spread(masks, len(models), "-a"),
            vnpu=vnpu,
            fps=spread(arguments.fps or [None], len(models), "--fps"),
            deadline_ms=spread(deadlines, len(models), "--deadline"),
            batch=spread(batches, len(models), "-b"),
            repeat=repeat,
            warmup=warmup,
            hardware=machine,
            report=progress.step,
        )
    finally:
        progress.done()
    if arguments.json:
        write_json(arguments.json, record(fleet))
    if arguments.csv:
        write_csv(arguments.csv, fleet.records())
    if "-" not in (arguments.json, arguments.csv):
        _print(fleet)
    return 0


def milliseconds(text: str | None) -> float | None:
    """A time as a user writes it.

    Raises:
        UsageError: no number.
    """
    try:
        return None if text is None else float(text)
    except ValueError:
        raise UsageError(f"--deadline takes milliseconds such as 33.3, not {text!r}") from None


def record(fleet: Fleet) -> dict[str, Any]:
    """A fleet for JSON: rows in the fixed form, each with its calls together."""
    return {
        "hardware": fleet.hardware.machine.name,
        "vnpu": fleet.vnpu,
        "repeat": fleet.repeat,
        "warmup": fleet.warmup,
        "milliseconds": fleet.milliseconds,
        "dram_gb_per_second": fleet.dram_gb_per_second,
        "rows": [_row(fleet, model) for model in fleet.models],
    }


def _row(fleet: Fleet, model: FleetModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "npu_mode": model.npu_mode,
        "hardware": fleet.hardware.machine.name,
        "cores": list(model.cores),
        "affinity": model.affinity,
        "batch": model.batch,
        "fps_asked": model.fps_asked,
        **model.summary.record(),
        "alone_ms": model.alone_ms,
        "slowdown": model.slowdown,
        "together": model.together.record(),
    }


COLUMNS: dict[str, Callable[[FleetModel], object]] = {
    "model": lambda model: model.name,
    "type": lambda model: model.npu_mode,
    "affinity": lambda model: model.affinity,
    "batch": lambda model: model.batch,
    "alone ms": lambda model: model.alone_ms,
    "min ms": lambda model: model.together.min_ms,
    "avg ms": lambda model: model.together.avg_ms,
    "max ms": lambda model: model.together.max_ms,
    "slow-down": lambda model: f"{model.slowdown:.2f}x",
    "fps": lambda model: f"{model.together.fps:,.1f}",
    "busy": lambda model: f"{model.together.busy:.0%}",
    "calls": lambda model: model.together.calls,
}
"""The table's columns, each made from a model."""

CLOCK_COLUMNS: dict[str, Callable[[FleetModel], object]] = {
    "model": lambda model: model.name,
    "asked fps": lambda model: "max" if model.fps_asked is None else f"{model.fps_asked:,g}",
    "p50 ms": lambda model: model.together.p50_ms,
    "p90 ms": lambda model: model.together.p90_ms,
    "p99 ms": lambda model: model.together.p99_ms,
    "wait ms": lambda model: model.together.wait_ms,
    "deadline ms": lambda model: "" if model.together.deadline_ms is None else model.together.deadline_ms,
    "missed": lambda model: missed(model.together),
}
"""Those of a second table, where any model has a deadline."""


def missed(together: Together) -> str:
    """``2 of 10``, in red where any deadline was missed; empty without deadlines."""
    if together.deadline_ms is None:
        return ""
    return paint(f"{together.missed} of {together.due}", "bad" if together.missed else "good")


def _print(fleet: Fleet) -> None:
    machine = fleet.hardware.machine
    print("Run AxModels:")
    lines = {
        "vnpu": fleet.vnpu,
        "repeat": f"{fleet.repeat}, until the last model has had as many",
        "warmup": fleet.warmup,
        "tool ver": f"npusim {__version__}",
        "hardware": machine.name,
    }
    print("\n".join(f"{key:>12}: {value}" for key, value in lines.items()))
    print()
    deadlines = any(model.together.deadline_ms is not None for model in fleet.models)
    for columns, align in ((COLUMNS, "<<<"), (CLOCK_COLUMNS, "<")) if deadlines else ((COLUMNS, "<<<"),):
        print(table(tuple(columns), [[cell(model) for cell in columns.values()] for model in fleet.models], align))
        print()
    for one, other, cores in fleet.shared():
        print(f"{one} and {other} take turns on core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))}")
    for model in fleet.models:
        if model.together.unanswered > 1:
            print(f"{model.name}: {model.together.unanswered} requests had no answer when the run ended")
    peak = fleet.hardware.dram.bytes_per_second / 1e9
    print(f"DRAM {fleet.dram_gb_per_second:.1f} GB/s of {peak:.1f}; {fleet.milliseconds:,.1f} ms on the machine")
