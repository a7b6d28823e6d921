"""``npusim bench``: the latency of a built model, in the form of the board's ``ax_run_model``.

The machine is deterministic and a call begins with it at rest, so one simulation stands for all repetitions: minimum,
maximum and average are the same number.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from npusim import __version__
from npusim.cli.files import write_json
from npusim.cli.programs import Runnable, read_model
from npusim.cli.results import cpu_table, job_record
from npusim.config import Hardware, load
from npusim.errors import UsageError

VNPU = {0: "Disable", 1: "STD", 2: "BigLittle", 3: "LittleBig"}
"""Partitions of the cores by the number the command takes."""


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    add("-m", "--model", required=True, metavar="FILE", help="built model (.axmodel)")
    add("-r", "--repeat", default="1", metavar="N", help="repetitions (1); all take the same time")
    add("-w", "--warmup", default="1", metavar="N", help="calls before them (1)")
    add("-a", "--affinity", metavar="MASK", help="cores the model may use: 0b001, 5 or 0x7; bit n is core n (any)")
    add(
        "-v",
        "--vnpu",
        default="0",
        metavar="N",
        help="partition of the cores: 0 one block, 1 one core each, 2 big-little 2+1, 3 little-big 1+2 (0)",
    )
    add("--target_hardware", help="built-in name or TOML file (the one the model was built for)")
    add("--json", metavar="FILE", help="write the result as JSON; - for standard output")
    parser.set_defaults(execute=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    from npusim.session.call import call
    from npusim.session.machine import hardware_of
    from npusim.sim import Mode

    repeat, warmup = _number("-r", arguments.repeat, 1), _number("-w", arguments.warmup, 0)
    vnpu = _number("-v", arguments.vnpu, 0)
    model = read_model(arguments.model)
    hardware = load(arguments.target_hardware) if arguments.target_hardware else hardware_of(model)
    blocks = blocks_of(vnpu, hardware)
    cores = choose_cores(parse_mask(arguments.affinity, hardware), blocks, model.cores, model.npu_mode, vnpu)
    result = call(model, hardware, {}, Mode.TIME, cores=cores)
    subject = Runnable(path=arguments.model, name=model.name, content=model)
    row = job_record(result, 0, subject, hardware)
    del row["outputs"]
    latency = row["latency_ms"]
    row |= {
        "affinity": mask_of(cores, hardware),
        "vnpu": VNPU[vnpu],
        "repeat": repeat,
        "warmup": warmup,
        "min_ms": latency,
        "max_ms": latency,
        "avg_ms": latency,
    }
    if arguments.json:
        write_json(arguments.json, row)
    if arguments.json != "-":
        _print(row, arguments.model)
    return 0


def _number(option: str, text: str, least: int) -> int:
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < least:
        raise UsageError(f"{option} takes a whole number from {least} on, not {text!r}")
    return int(text)


def parse_mask(text: str | None, hardware: Hardware) -> int:
    """An affinity mask; all cores where none is given.

    Raises:
        UsageError: no number, no core, or a core the machine lacks.
    """
    everything = (1 << hardware.machine.cores) - 1
    if text is None:
        return everything
    try:
        mask = int(text, 0)
    except ValueError:
        raise UsageError(f"-a takes a mask such as 0b001, 1 or 0x7, not {text!r}") from None
    if not 0 < mask <= everything:
        name = hardware.machine.name
        raise UsageError(f"-a {text}: the masks of {name} are 0b1 to {everything:#b}, one bit a core")
    return mask


def blocks_of(vnpu: int, hardware: Hardware) -> tuple[tuple[int, ...], ...]:
    """The blocks of cores of a partition.

    Raises:
        UsageError: no such partition of this machine.
    """
    cores = tuple(range(hardware.machine.cores))
    if vnpu not in VNPU:
        raise UsageError(f"-v takes {', '.join(f'{key} ({name})' for key, name in VNPU.items())}, not {vnpu}")
    if vnpu > 1 and len(cores) != 3:
        raise UsageError(f"-v {vnpu} ({VNPU[vnpu]}) parts three cores; {hardware.machine.name} has {len(cores)}")
    return {
        0: (cores,),
        1: tuple((core,) for core in cores),
        2: (cores[:2], cores[2:]),
        3: (cores[:1], cores[1:]),
    }[vnpu]


def choose_cores(mask: int, blocks: Sequence[Sequence[int]], needed: int, npu_mode: str, vnpu: int) -> tuple[int, ...]:
    """The lowest cores of the mask that lie in one block and are as many as the model needs.

    Raises:
        UsageError: no block has as many.

    >>> choose_cores(0b111, [(0, 1), (2,)], 1, "NPU1", 2)
    (0,)
    >>> choose_cores(0b110, [(0,), (1, 2)], 2, "NPU2", 3)
    (1, 2)
    """
    for block in blocks:
        allowed = tuple(core for core in block if mask >> core & 1)
        if len(allowed) >= needed:
            return allowed[:needed]
    sizes = "+".join(str(len(block)) for block in blocks)
    raise UsageError(
        f"an {npu_mode} model needs {needed} cores in one block: affinity {mask:#b} with -v {vnpu} "
        f"({VNPU[vnpu]}, {sizes}) has no block with as many"
    )


def mask_of(cores: Sequence[int], hardware: Hardware) -> str:
    """The mask of some cores, one digit per core of the machine.

    >>> mask_of((0, 2), load("ax650n"))
    '0b101'
    """
    return f"0b{sum(1 << core for core in cores):0{hardware.machine.cores}b}"


def _print(row: dict[str, Any], path: str) -> None:
    cores = len(row["cores"])
    lines = {
        "model": path,
        "type": f"{row['npu_mode']} ({cores} Core)",
        "vnpu": row["vnpu"],
        "affinity": row["affinity"],
        "repeat": row["repeat"],
        "warmup": row["warmup"],
        "batch": 1,
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
    print(f"  min = {row['min_ms']:7.3f} ms   max = {row['max_ms']:7.3f} ms   avg = {row['avg_ms']:7.3f} ms")
    print(rule)
    if row["cpu_parts"]:
        print(cpu_table(row["cpu_parts"]))
