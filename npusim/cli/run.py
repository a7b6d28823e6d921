"""``npusim run``: execute programs, one or several side by side, and say what came out and how long it took."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isa.files import write_bytes
from isa.program import SegmentKind, segment_name
from npusim.cli.files import file_name, write_json
from npusim.cli.programs import Runnable, read_runnable
from npusim.cli.results import job_record, perlayer_csv, print_record
from npusim.cli.text import count, whole_number
from npusim.config import Hardware, load
from npusim.errors import UsageError

if TYPE_CHECKING:
    from npusim.sim import Mode, Result

MODES = ("full", "time", "values")
DEFAULT_HARDWARE = "ax650n"
PERLAYER_NAME = "perlayer"
MOST_CYCLES = 10**15


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    add(
        "--model",
        "-m",
        action="append",
        required=True,
        help="axmodel, program file or source; repeat to run several at once",
    )
    add(
        "--cores",
        action="append",
        help="physical cores of a model, such as 0 or 0,2: in the order of the models; others get free ones",
    )
    add("--target_hardware", help="built-in name or TOML file (a model's own, otherwise ax650n)")
    add("--input_dir", help="folder of <input>.bin files; with several models, <program>/<input>.bin")
    add("--output_dir", help="folder for <output>.bin files; with several models, <program>/<output>.bin")
    add("--list", dest="listing", metavar="FILE", help="run once per line: a subfolder of input_dir and output_dir")
    add(
        "--random_input",
        action="store_true",
        help="seeded random values for the inputs; they are written beside the outputs",
    )
    add(
        "--enable_perlayer_output",
        action="store_true",
        help=f"write the layers' figures into the output folder, as {PERLAYER_NAME}.csv and {PERLAYER_NAME}.json",
    )
    add("--mode", choices=MODES, default="full", help="values and time, time only, or values only (full)")
    add("--max_cycles", metavar="N", help="stop with an error after this cycle")
    add("--allow_unverified", action="store_true", help="run a program that does not verify")
    add("--show_trace", nargs="?", const="50", metavar="N", help="print the first N instructions retired (50)")
    add("--trace", metavar="FILE", help="write the whole trace as CSV")
    add("--json", metavar="FILE", help="write the results as JSON; - for standard output")
    parser.set_defaults(execute=_run)


def _run(arguments: argparse.Namespace) -> int:
    subjects = [read_runnable(path) for path in arguments.model]
    names = [subject.name for subject in subjects]
    if len(set(names)) != len(names):
        raise UsageError(f"two programs are named {max(names, key=names.count)}: their files would collide")
    if arguments.enable_perlayer_output and (not arguments.output_dir or arguments.mode == "values"):
        raise UsageError("--enable_perlayer_output needs --output_dir to write to, and a mode with time")
    if arguments.mode == "values" and (arguments.trace or arguments.show_trace):
        raise UsageError("--trace and --show_trace need a mode with time")
    if arguments.show_trace is not None:
        arguments.show_trace = whole_number("--show_trace", arguments.show_trace, 1)
    if arguments.max_cycles is not None:
        arguments.max_cycles = whole_number("--max_cycles", arguments.max_cycles, 1, MOST_CYCLES)
    hardware = find_machine(arguments.target_hardware, subjects)
    cores = _assign_cores([subject.cores for subject in subjects], arguments.cores or [])
    rows: list[dict[str, Any]] = []
    for folder in _folders(arguments.listing):
        rows += _run_once(arguments, hardware, subjects, cores, folder)
    if arguments.json:
        write_json(arguments.json, rows[0] if len(rows) == 1 else {"rows": rows})
    return 0


def find_machine(named: str | None, subjects: Sequence[Runnable]) -> Hardware:
    """The machine named, or the one that the models were built for.

    Raises:
        UsageError: models built for different machines.
    """
    if named is not None:
        return load(named)
    models = [subject for subject in subjects if subject.model is not None]
    if not models:
        return load(DEFAULT_HARDWARE)
    from npusim.session.machine import hardware_of

    machines = [hardware_of(subject.model) for subject in models if subject.model is not None]
    for subject, machine in zip(models, machines, strict=True):
        if machine.fingerprint() != machines[0].fingerprint():
            built = f"{models[0].name} was built for {machines[0].machine.name}"
            raise UsageError(f"{built}, {subject.name} for {machine.machine.name}: name one with --target_hardware")
    return machines[0]


def _run_once(
    arguments: argparse.Namespace,
    hardware: Hardware,
    subjects: list[Runnable],
    cores: list[tuple[int, ...]],
    folder: str,
) -> list[dict[str, Any]]:
    from npusim.sim import Mode

    mode = Mode(arguments.mode)
    several = len(subjects) > 1
    inputs = [{} if mode is Mode.TIME else _inputs(arguments, s, folder, several) for s in subjects]
    result = _simulate(arguments, hardware, subjects, cores, inputs, mode)
    quiet = arguments.json == "-"
    rows = []
    for index, subject in enumerate(subjects):
        row = job_record(result, index, subject, hardware)
        rows.append(row)
        if arguments.output_dir:
            target = _place(arguments.output_dir, folder, subject, several)
            _write_outputs(target, result.jobs[index].outputs, inputs[index] if arguments.random_input else {})
            if arguments.enable_perlayer_output:
                write_bytes(target / f"{PERLAYER_NAME}.csv", perlayer_csv(row).encode())
                write_json(str(target / f"{PERLAYER_NAME}.json"), {"model": row["model"], "layers": row["layers"]})
        if not quiet:
            if index or folder:
                print()
            print_record(row, hardware)
    if result.recorded is not None:
        if arguments.show_trace is not None and not quiet:
            print(f"\n{result.trace.to_table(arguments.show_trace)}")
        if arguments.trace:
            write_bytes(arguments.trace, _csv(result.trace).encode())
    return rows


def _simulate(
    arguments: argparse.Namespace, hardware: Hardware, subjects: list[Runnable], cores: list[tuple[int, ...]],
    inputs: list[dict[str, Any]], mode: Mode,
) -> Result:  # fmt: skip
    """A model by itself part by part; programs, and models that are one, side by side."""
    limits = {"allow_unverified": arguments.allow_unverified, "max_cycles": arguments.max_cycles}
    if len(subjects) == 1 and subjects[0].model is not None:
        from npusim.session.call import call

        return call(subjects[0].model, hardware, inputs[0], mode, cores=cores[0], **limits)
    from npusim.sim import Job, simulate

    jobs = [
        Job(program=s.program, cores=c, inputs={segment_name(name): data for name, data in i.items()}, name=s.name)
        for s, c, i in zip(subjects, cores, inputs, strict=True)
    ]
    return simulate(hardware, jobs, mode=mode, **limits)


def _assign_cores(needed: list[int], given: list[str]) -> list[tuple[int, ...]]:
    """The cores asked for; subjects without any get the lowest that are free."""
    if len(given) > len(needed):
        raise UsageError(f"{count(len(given), 'core list')} for {count(len(needed), 'model')}")
    chosen: list[tuple[int, ...] | None] = [_cores(text) for text in given]
    chosen += [None] * (len(needed) - len(chosen))
    taken = {core for cores in chosen if cores for core in cores}
    free = (core for core in range(1 << 16) if core not in taken)
    return [
        cores if cores is not None else tuple(next(free) for _ in range(number))
        for number, cores in zip(needed, chosen, strict=True)
    ]


def _cores(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise UsageError(f"--cores takes numbers such as 0 or 0,2, not {text!r}")
    return tuple(int(core) for core in text.split(","))


def _folders(listing: str | None) -> list[str]:
    """Subfolders named in a list file, or one run without any."""
    if listing is None:
        return [""]
    lines = Path(listing).read_text(encoding="utf-8").splitlines()
    folders = [line.strip() for line in lines if line.strip()]
    for folder in folders:
        if Path(folder).is_absolute() or ".." in Path(folder).parts:
            raise UsageError(f"{listing}: {folder} leaves the input folder")
    if not folders:
        raise UsageError(f"{listing} names no folder")
    return folders


def _place(base: str, folder: str, subject: Runnable, several: bool) -> Path:
    own = re.sub(r"[^A-Za-z0-9_.-]|^[.]+", "_", subject.name)  # a name from a file must not lead anywhere else
    return Path(base) / folder / (own if several else "")


def _inputs(arguments: argparse.Namespace, subject: Runnable, folder: str, several: bool) -> dict[str, Any]:
    wanted = _wanted(subject)
    if arguments.random_input:
        if subject.model is not None:
            from npusim.session.samples import random_feeds

            return random_feeds(subject.model.inputs)
        return {name: _random_bytes(name, size_bytes) for name, size_bytes, _ in wanted}
    if arguments.input_dir is None:
        missing = [name for name, _, has_default in wanted if not has_default]
        if missing:
            raise UsageError(f"{subject.name} needs {', '.join(missing)}: give --input_dir or --random_input")
        return {}
    place = _place(arguments.input_dir, folder, subject, several)
    return {
        name: _read_bytes(place / file_name(name), size_bytes)
        for name, size_bytes, has_default in wanted
        if not has_default or (place / file_name(name)).exists()
    }


def _wanted(subject: Runnable) -> list[tuple[str, int, bool]]:
    """Name and bytes of each input, and whether it has a default."""
    if subject.model is not None:
        return [(port.name, port.size_bytes, False) for port in subject.model.inputs]
    segments = [s for s in subject.program.segments if s.kind is SegmentKind.INPUT]
    return [(s.name, s.size_bytes, s.data is not None) for s in segments]


def _read_bytes(path: Path, size_bytes: int) -> np.ndarray[Any, Any]:
    data = np.fromfile(path, dtype=np.uint8)
    if data.size != size_bytes:
        raise UsageError(f"{path} has {data.size} bytes, the input takes {size_bytes}")
    return data


def _random_bytes(name: str, size_bytes: int) -> np.ndarray[Any, Any]:
    """The same bytes for the same name, on every machine."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.frombuffer(np.random.default_rng(seed).bytes(size_bytes), dtype=np.uint8)


def _write_outputs(place: Path, outputs: dict[str, Any], inputs: dict[str, Any]) -> None:
    for name, data in {**inputs, **outputs}.items():
        write_bytes(place / file_name(name), data.tobytes())


def _csv(trace: Any) -> str:
    """All columns of a trace, one instruction a line, after the names of unit, instruction and origin."""
    columns = trace.columns()
    lines = [",".join(["name", "mnemonic", "origin_name", *columns])]
    spelled = trace.rows()
    for row, *values in zip(spelled, *(column.tolist() for column in columns.values()), strict=True):
        lines.append(",".join([row.unit, row.mnemonic, f'"{row.origin}"', *map(str, values)]))
    return "\n".join(lines) + "\n"
