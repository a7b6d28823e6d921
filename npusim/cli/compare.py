"""``npusim compare``: one model for several core allocations and machines; with ``--plan``, a mix of models.

Plans are simulated and printed by ``plans``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from npusim.cli.files import write_csv, write_json
from npusim.cli.options import add_options, given_options
from npusim.cli.progress import Progress
from npusim.cli.results import cpu_table
from npusim.cli.text import count, table
from npusim.config import load
from npusim.errors import UsageError

if TYPE_CHECKING:
    from npusim.session.builder import Built

NOT_COMPARED = ("input", "output_dir", "output_name", "work_dir", "target_hardware", "npu_mode")
"""Keys of a build that this command has other arguments for, or no use."""

DEFAULT_MODES = 3
"""By default a machine is compared with up to so many cores."""

REPEAT = 5
"""Calls of each model under each plan, unless the user asks for another number."""

PLAN_OPTIONS = ("fps", "deadline", "batch", "repeat", "warmup")
"""Options that mean nothing without a plan."""


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    parser.usage = (
        "npusim compare --model FILE [--npu_modes LIST] [--hardware LIST] [--config FILE] [--KEY VALUE ...]\n"
        "       npusim compare --plan SIZES [--plan SIZES ...] -m FILE [-m FILE ...] [--fps RATE ...] [--KEY VALUE ...]"
    )
    add(
        "-m", "--model", required=True, action="append", metavar="FILE",
        help="ONNX model, float or quantized; with --plan again for more, and built models (.axmodel), too",
    )  # fmt: skip
    add("--npu_modes", metavar="LIST", help="NPU1,NPU2,NPU3 (every one the machines have, up to NPU3)")
    add("--hardware", default="ax650n", metavar="LIST", help="built-in names or TOML files, with commas (ax650n)")
    add(
        "--plan", action="append", metavar="SIZES",
        help="blocks of cores, such as 3, 1+1+1 or 2+1; again for more: which serves the models best, side by side",
    )  # fmt: skip
    add(
        "--fps", action="append", metavar="RATE",
        help="with --plan: calls a second, or max: as fast as possible (max); one for all models, or one for each",
    )  # fmt: skip
    add("--deadline", action="append", metavar="MS", help="with --plan: after which a call is late (period of --fps)")
    add("-b", "--batch", action="append", metavar="N", help="with --plan: inferences in a call (1)")
    add("-r", "--repeat", metavar="N", help=f"with --plan: calls of each model, at least ({REPEAT})")
    add("-w", "--warmup", metavar="N", help="with --plan: calls before them (1)")
    add("--json", metavar="FILE", help="write the rows as JSON; - for standard output")
    add("--csv", metavar="FILE", help="write the rows as CSV; - for standard output")
    add("--config", metavar="FILE", help="configuration of the builds: .json (with comments), .yaml or .toml")
    add_options(parser, leave_out=NOT_COMPARED)
    parser.set_defaults(execute=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.plan:
        from npusim.cli.plans import compare

        if arguments.npu_modes is not None:
            raise UsageError("--plan tries every npu_mode that fits a block; leave --npu_modes out")
        return compare(arguments, REPEAT)
    for option in PLAN_OPTIONS:
        if getattr(arguments, option) is not None:
            raise UsageError(f"--{option} needs --plan, such as --plan 1+1+1 --plan 2+1")
    if len(arguments.model) > 1:
        raise UsageError("several models are compared by plans: give --plan, such as --plan 1+1+1 --plan 2+1")
    return _compare_modes(arguments, arguments.model[0])


def _compare_modes(arguments: argparse.Namespace, path: str) -> int:
    from npusim.session.builder import build, load_graph, prepare_model
    from npusim.session.configuration import load as load_configuration
    from npusim.session.machine import cores_of, npu_modes

    machines = [load(name) for name in _listed(arguments.hardware, "--hardware")]
    asked = _listed(arguments.npu_modes, "--npu_modes") if arguments.npu_modes is not None else None
    points = [(m, mode) for m in machines for mode in asked or npu_modes(m)[:DEFAULT_MODES]]
    for machine, mode in points:  # before anything takes time
        cores_of(mode, machine)
    configuration = load_configuration(arguments.config, given_options(arguments))
    progress = Progress(path)
    rows = []
    try:
        prepared = prepare_model(path, configuration, report=lambda stage, _: progress.step(0.0, stage))
        progress.step(0.0, "import")
        # with a fallback, which nodes the compiler refuses depends on the point: each imports the model for itself
        fallback = configuration.build.cpu_fallback
        model = prepared if fallback else load_graph(prepared.model, prepared.open_shapes)
        for index, (machine, mode) in enumerate(points):
            progress.step(index / len(points), f"{mode} of {machine.machine.name}")
            built = build(model, npu_mode=mode, hardware=machine, cpu_fallback=fallback)
            rows.append(_row(built, path))
    finally:
        progress.done()
    agree = all(row["outputs"] == rows[0]["outputs"] for row in rows)
    if arguments.json:
        write_json(arguments.json, {"rows": rows, "outputs_agree": agree})
    if arguments.csv:
        write_csv(arguments.csv, [_flat(row) for row in rows])
    if "-" not in (arguments.json, arguments.csv):
        _print(rows, agree)
    for note in prepared.notes:
        print(f"npusim: {note}", file=sys.stderr)
    return 0 if agree else 1


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not isinstance(value, list | tuple | dict)}


def _listed(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"{option} names nothing")
    return list(dict.fromkeys(names))


def _row(built: Built, path: str) -> dict[str, Any]:
    """Run on seeded random inputs, and record."""
    from npusim.cli.programs import Runnable
    from npusim.cli.results import job_record
    from npusim.session.call import call
    from npusim.session.samples import random_feeds
    from npusim.sim import Mode

    model, machine = built.axmodel, built.hardware
    result = call(model, machine, random_feeds(model.inputs), Mode.FULL)
    subject = Runnable(path=path, name=model.name, content=model)
    return job_record(result, 0, subject, machine)


COLUMNS: dict[str, Callable[[dict[str, Any]], object]] = {
    "hardware": lambda row: row["hardware"],
    "npu_mode": lambda row: row["npu_mode"],
    "cycles": lambda row: row["cycles"],
    "ms": lambda row: row["latency_ms"],
    "CPU ms": lambda row: row["host_ms"],
    "fps": lambda row: f"{row['fps']:,.1f}",
    "MAC utilization": lambda row: f"{row['mac_utilization']:.1%}",
    "DRAM bytes": lambda row: row["dram_bytes"],
}
"""The table's columns, each made from a row."""


def _print(rows: list[dict[str, Any]], agree: bool) -> None:
    print(f"{rows[0]['model']}: {rows[0]['macs']:,} MACs")
    print()
    columns = COLUMNS if any(row["cpu_parts"] for row in rows) else {n: c for n, c in COLUMNS.items() if n != "CPU ms"}
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    speedups = [f"{rows[0]['cycles'] / row['cycles']:.2f}x" if row["cycles"] else "" for row in rows]
    print(table((*columns, "speedup"), [(*c, s) for c, s in zip(cells, speedups, strict=True)], "<<"))
    if rows[0]["cpu_parts"]:
        print()
        print(cpu_table(rows[0]["cpu_parts"]))
    print()
    what = count(len(rows[0]["outputs"]), "output")
    if len(rows) == 1:
        print(f"one point: nothing to compare its {what} with")
    elif agree:
        print(f"outputs agree: {what}, the same bytes in all {len(rows)} builds (seeded random inputs)")
    else:
        differing = [row for row in rows if row["outputs"] != rows[0]["outputs"]]
        names = ", ".join(f"{row['npu_mode']} of {row['hardware']}" for row in differing)
        print(f"outputs DIFFER from those of {rows[0]['npu_mode']} of {rows[0]['hardware']}: {names}")
