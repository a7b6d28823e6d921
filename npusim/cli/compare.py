"""``npusim compare``: one model for several core allocations and machines, side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from npusim.cli.files import write_json
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


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    parser.usage = "npusim compare --model FILE [--npu_modes LIST] [--hardware LIST] [--config FILE] [--KEY VALUE ...]"
    add("--model", required=True, metavar="FILE", help="ONNX model, float or quantized")
    add("--npu_modes", metavar="LIST", help="NPU1,NPU2,NPU3 (every one the machines have, up to NPU3)")
    add("--hardware", default="ax650n", metavar="LIST", help="built-in names or TOML files, with commas (ax650n)")
    add("--json", metavar="FILE", help="write the rows as JSON; - for standard output")
    add("--config", metavar="FILE", help="configuration of the builds: .json (with comments), .yaml or .toml")
    add_options(parser, leave_out=NOT_COMPARED)
    parser.set_defaults(execute=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from npusim.session.builder import build, load_graph, prepare_model
    from npusim.session.configuration import load as load_configuration
    from npusim.session.machine import cores_of, npu_modes

    machines = [load(name) for name in _listed(arguments.hardware, "--hardware")]
    asked = _listed(arguments.npu_modes, "--npu_modes") if arguments.npu_modes is not None else None
    points = [(m, mode) for m in machines for mode in asked or npu_modes(m)[:DEFAULT_MODES]]
    for machine, mode in points:  # before anything takes time
        cores_of(mode, machine)
    configuration = load_configuration(arguments.config, given_options(arguments))
    progress = Progress(arguments.model)
    rows = []
    try:
        prepared = prepare_model(arguments.model, configuration, report=lambda stage, _: progress.step(0.0, stage))
        progress.step(0.0, "import")
        # with a fallback, which nodes the compiler refuses depends on the point: each imports the model for itself
        fallback = configuration.build.cpu_fallback
        model = prepared if fallback else load_graph(prepared.model, prepared.open_shapes)
        for index, (machine, mode) in enumerate(points):
            progress.step(index / len(points), f"{mode} of {machine.machine.name}")
            built = build(model, npu_mode=mode, hardware=machine, cpu_fallback=fallback)
            rows.append(_row(built, arguments.model))
    finally:
        progress.done()
    agree = all(row["outputs"] == rows[0]["outputs"] for row in rows)
    if arguments.json:
        write_json(arguments.json, {"rows": rows, "outputs_agree": agree})
    if arguments.json != "-":
        _print(rows, agree)
    for note in prepared.notes:
        print(f"npusim: {note}", file=sys.stderr)
    return 0 if agree else 1


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
