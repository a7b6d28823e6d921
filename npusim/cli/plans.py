"""``npusim compare --plan``: which allocation of the cores serves a mix of models best."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from npusim.cli.files import write_csv, write_json
from npusim.cli.fleet import milliseconds, missed, record
from npusim.cli.options import given_options
from npusim.cli.progress import Progress
from npusim.cli.text import MOST_BATCH, count, paint, table, whole_number
from npusim.errors import UsageError

if TYPE_CHECKING:
    from npusim.session.fleet import FleetModel
    from npusim.session.plans import Plans


def compare(arguments: argparse.Namespace, repeat: int) -> int:
    """Simulate the plans and print them, the best one last."""
    from npusim.session.configuration import load as load_configuration
    from npusim.session.plans import compare_plans

    if "," in arguments.hardware:
        raise UsageError("--plan compares allocations of one machine; --hardware names several")
    progress = Progress("plans")
    try:
        plans = compare_plans(
            arguments.model,
            list(dict.fromkeys(arguments.plan)),
            fps=arguments.fps or [None],
            deadline_ms=[milliseconds(text) for text in arguments.deadline or [None]],
            batch=[whole_number("-b", text, 1, MOST_BATCH) for text in arguments.batch or ["1"]],
            repeat=whole_number("-r", arguments.repeat or str(repeat), 1),
            warmup=whole_number("-w", arguments.warmup or "1", 0),
            hardware=arguments.hardware,
            report=progress.step,
            config=load_configuration(arguments.config, given_options(arguments)),
        )
    finally:
        progress.done()
    if arguments.json:
        write_json(arguments.json, _record(plans))
    if arguments.csv:
        write_csv(arguments.csv, plans.records())
    if "-" not in (arguments.json, arguments.csv):
        _print(plans)
    for note in plans.notes:
        print(f"npusim: {note}", file=sys.stderr)
    return 0


def _record(plans: Plans) -> dict[str, Any]:
    rows, each = [], []
    for result in plans.results:
        fleet = record(result.fleet)
        rows += [{"plan": result.plan, **row} for row in fleet.pop("rows")]
        each.append({"plan": result.plan, "ways": result.ways, **asdict(result.marks), **fleet})
    return {"best": plans.best.plan, "verdict": plans.verdict, "plans": each, "rows": rows}


COLUMNS: dict[str, Callable[[FleetModel], object]] = {
    "model": lambda model: model.name,
    "type": lambda model: model.npu_mode,
    "affinity": lambda model: model.affinity,
    "alone ms": lambda model: model.alone_ms,
    "avg ms": lambda model: model.together.avg_ms,
    "p99 ms": lambda model: model.together.p99_ms,
    "wait ms": lambda model: model.together.wait_ms,
    "slow-down": lambda model: f"{model.slowdown:.2f}x",
    "asked fps": lambda model: "max" if model.fps_asked is None else f"{model.fps_asked:,g}",
    "fps": lambda model: f"{model.together.fps:,.1f}",
    "missed": lambda model: missed(model.together),
}
"""The table's columns, each made from a model under a plan."""


def _print(plans: Plans) -> None:
    rows = []
    for result in plans.results:
        for index, model in enumerate(result.fleet.models):
            name = paint(result.plan, "good") if result is plans.best else result.plan
            rows.append(("" if index else name, *(cell(model) for cell in COLUMNS.values())))
    print(table(("plan", *COLUMNS), rows, "<<<<"))
    print()
    tried = ", ".join(f"{result.plan}: {result.ways}" for result in plans.results)
    fleet = plans.results[0].fleet
    calls = f"{count(fleet.repeat, 'call')} of each model after {fleet.warmup} to warm up"
    print(f"each plan with its best way to place the models (ways tried: {tried}); at least {calls}")
    print(paint(plans.verdict, "bold"))
