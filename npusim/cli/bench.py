"""``npusim bench``: the latency of built models, one in the form of the board's ``ax_run_model``, several side by side.

A lone model that is called back to back finds the machine at rest each time, and one simulation stands for all
repetitions: minimum, maximum and average are the same number. Models that share the machine, or that are called by the
clock, are simulated call by call.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from npusim import __version__
from npusim.cli.files import write_csv, write_json
from npusim.cli.programs import Runnable, read_model
from npusim.cli.results import cpu_table, job_record
from npusim.cli.text import MOST_BATCH, paint, whole_number
from npusim.config import Hardware, load
from npusim.errors import UsageError
from npusim.session.blocks import VNPU, Claim, mask_of, parse_mask, place

if TYPE_CHECKING:
    from npusim.axmodel import Axmodel

REPEAT_TOGETHER = 10
"""Repetitions of models that are simulated call by call, unless the user asks for another number."""


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    add("-m", "--model", required=True, action="append", metavar="FILE", help="built model (.axmodel); again for more")
    add("-r", "--repeat", metavar="N", help=f"repetitions of each model (1; {REPEAT_TOGETHER} for several models)")
    add("-w", "--warmup", default="1", metavar="N", help="calls before them (1)")
    add(
        "-a",
        "--affinity",
        action="append",
        metavar="MASK",
        help="cores the model may use: 0b001, 5 or 0x7; bit n is core n (any); one for all models, or one for each",
    )
    add(
        "-v",
        "--vnpu",
        default="0",
        metavar="N",
        help="virtual NPU: 0 one block of all cores, 1 one core each, 2 big-little 2+1, 3 little-big 1+2 (0)",
    )
    add("-b", "--batch", action="append", metavar="N", help="inferences in a call (1); one for all, or one for each")
    add(
        "--fps",
        action="append",
        metavar="RATE",
        help="calls a second by the clock, or max: as fast as possible (max); one for all models, or one for each",
    )
    add("--deadline", action="append", metavar="MS", help="after which a call is late (the period of --fps)")
    add("--target_hardware", help="built-in name or TOML file (the one the models were built for)")
    add("--json", metavar="FILE", help="write the result as JSON; - for standard output")
    add("--csv", metavar="FILE", help="write a line a model as CSV; - for standard output")
    parser.set_defaults(execute=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    several = len(arguments.model) > 1 or arguments.fps is not None or arguments.deadline is not None
    repeat = whole_number("-r", arguments.repeat or str(REPEAT_TOGETHER if several else 1), 1)
    warmup, vnpu = whole_number("-w", arguments.warmup, 0), whole_number("-v", arguments.vnpu, 0)
    batches = [whole_number("-b", text, 1, MOST_BATCH) for text in arguments.batch or ["1"]]
    if several:
        from npusim.cli.fleet import bench_fleet

        return bench_fleet(arguments, repeat, warmup, vnpu, batches)
    for option, values in (("-a", arguments.affinity or [None]), ("-b", batches)):
        if len(values) > 1:
            raise UsageError(f"{option} was given {len(values)} times, for one model")
    return _bench_one(arguments, repeat, warmup, vnpu, batches[0])


def _bench_one(arguments: argparse.Namespace, repeat: int, warmup: int, vnpu: int, batch: int) -> int:
    from npusim.session.call import call
    from npusim.session.fleet import batch_ms
    from npusim.session.machine import hardware_of
    from npusim.sim import Mode

    path = arguments.model[0]
    model = read_model(path)
    hardware = load(arguments.target_hardware) if arguments.target_hardware else hardware_of(model)
    cores = _place_one(model, (arguments.affinity or [None])[0], vnpu, hardware)
    result = call(model, hardware, {}, Mode.TIME, cores=cores)
    row = job_record(result, 0, Runnable(path=path, name=model.name, content=model), hardware)
    del row["outputs"]
    latency = row["latency_ms"] if batch == 1 else batch_ms(model, hardware, batch)
    row |= {
        "affinity": mask_of(cores, hardware),
        "vnpu": VNPU[vnpu],
        "repeat": repeat,
        "warmup": warmup,
        "batch": batch,
        "min_ms": latency,
        "max_ms": latency,
        "avg_ms": latency,
    }
    if arguments.json:
        write_json(arguments.json, row)
    if arguments.csv:
        write_csv(arguments.csv, [{key: value for key, value in row.items() if isinstance(value, str | int | float)}])
    if "-" not in (arguments.json, arguments.csv):
        _print(row, path)
    return 0


def _place_one(model: Axmodel, mask: str | None, vnpu: int, hardware: Hardware) -> Sequence[int]:
    claim = Claim(
        name=model.name, npu_mode=model.npu_mode, cores=model.cores, mask=parse_mask(mask, hardware)
    )  # fmt: skip
    return place([claim], vnpu, hardware)[0]


def _print(row: dict[str, Any], path: str) -> None:
    cores = len(row["cores"])
    lines = {
        "model": path,
        "type": f"{row['npu_mode']} ({cores} Core)",
        "vnpu": row["vnpu"],
        "affinity": row["affinity"],
        "repeat": row["repeat"],
        "warmup": row["warmup"],
        "batch": row["batch"],
        "tool ver": f"npusim {__version__}",
        "hardware": row["hardware"],
        "cycles": f"{row['cycles']:,}",
    }
    if row["cpu_parts"]:
        lines["host"] = f"{row['host_ms']:.3f} ms of CPU parts and the launches behind them"
    rule = "-" * 70
    print("Run AxModel:")
    print("\n".join(f"{key:>12}: {value}" for key, value in lines.items()))
    print(rule)
    times = (("min", "min_ms"), ("max", "max_ms"), ("avg", "avg_ms"))
    print("  " + "   ".join(f"{name} = {paint(f'{row[key]:7.3f} ms', 'bold')}" for name, key in times))
    print(rule)
    if row["cpu_parts"]:
        print(cpu_table(row["cpu_parts"]))
