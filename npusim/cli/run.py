"""``npusim run``: execute programs, one or several side by side, and say what came out and how long it took."""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from isa.program import Program, SegmentKind
from npusim.cli.files import write_bytes, write_json
from npusim.cli.programs import read_program
from npusim.cli.text import count, table
from npusim.config import Hardware, load
from npusim.errors import UsageError

MODES = ("full", "time", "values")


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    add = parser.add_argument
    add("--model", "-m", action="append", required=True, help="program file or source; repeat to run several at once")
    add(
        "--cores",
        action="append",
        help="physical cores of a model, such as 0 or 0,2: in the order of the models; others get free ones",
    )
    add("--target_hardware", default="ax650n", help="built-in name or TOML file (ax650n)")
    add("--input_dir", help="folder of <input>.bin files; with several models, <program>/<input>.bin")
    add("--output_dir", help="folder for <output>.bin files; with several models, <program>/<output>.bin")
    add("--list", dest="listing", metavar="FILE", help="run once per line: a subfolder of input_dir and output_dir")
    add(
        "--random_input",
        action="store_true",
        help="seeded random bytes for the inputs; they are written beside the outputs",
    )
    add("--mode", choices=MODES, default="full", help="values and time, time only, or values only (full)")
    add("--max_cycles", type=int, help="stop with an error after this cycle")
    add("--allow_unverified", action="store_true", help="run a program that does not verify")
    add("--show_trace", nargs="?", const=50, type=int, metavar="N", help="print the first N instructions retired (50)")
    add("--trace", metavar="FILE", help="write the whole trace as CSV")
    add("--json", metavar="FILE", help="write the results as JSON; - for standard output")
    parser.set_defaults(execute=_run)


def _run(arguments: argparse.Namespace) -> int:
    hardware = load(arguments.target_hardware)
    programs = [read_program(path) for path in arguments.model]
    names = [program.name for program in programs]
    if len(set(names)) != len(names):
        raise UsageError(f"two programs are named {max(names, key=names.count)}: their files would collide")
    cores = _assign_cores(programs, arguments.cores or [])
    rows: list[dict[str, Any]] = []
    for folder in _folders(arguments.listing):
        rows += _run_once(arguments, hardware, programs, cores, folder)
    if arguments.json:
        write_json(arguments.json, rows[0] if len(rows) == 1 else {"rows": rows})
    return 0


def _run_once(
    arguments: argparse.Namespace,
    hardware: Hardware,
    programs: list[Program],
    cores: list[tuple[int, ...]],
    folder: str,
) -> list[dict[str, Any]]:
    from npusim.sim import Job, Mode, simulate

    mode = Mode(arguments.mode)
    several = len(programs) > 1
    inputs = [{} if mode is Mode.TIME else _inputs(arguments, p, folder, several) for p in programs]
    jobs = [Job(program=p, cores=c, inputs=i) for p, c, i in zip(programs, cores, inputs, strict=True)]
    result = simulate(
        hardware,
        jobs,
        mode=mode,
        allow_unverified=arguments.allow_unverified,
        max_cycles=arguments.max_cycles,
    )
    quiet = arguments.json == "-"
    rows = []
    for index, program in enumerate(programs):
        row = _record(result, index, program, hardware)
        rows.append(row)
        if arguments.output_dir:
            target = _place(arguments.output_dir, folder, program, several)
            _write_outputs(target, result.jobs[index].outputs, inputs[index] if arguments.random_input else {})
        if not quiet:
            _print(row, result.jobs[index].cores, hardware, "\n" if index or folder else "")
    if result.recorded is not None:
        if arguments.show_trace is not None and not quiet:
            print(f"\n{result.trace.to_table(arguments.show_trace)}")
        if arguments.trace:
            write_bytes(arguments.trace, _csv(result.trace).encode())
    return rows


def _assign_cores(programs: list[Program], given: list[str]) -> list[tuple[int, ...]]:
    """The cores asked for; programs without any get the lowest that are free."""
    if len(given) > len(programs):
        raise UsageError(f"{count(len(given), 'core list')} for {count(len(programs), 'model')}")
    chosen: list[tuple[int, ...] | None] = [_cores(text) for text in given]
    chosen += [None] * (len(programs) - len(chosen))
    taken = {core for cores in chosen if cores for core in cores}
    free = (core for core in range(1 << 16) if core not in taken)
    return [
        cores if cores is not None else tuple(next(free) for _ in range(program.cores))
        for program, cores in zip(programs, chosen, strict=True)
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


def _place(base: str, folder: str, program: Program, several: bool) -> Path:
    return Path(base) / folder / (program.name if several else "")


def _inputs(arguments: argparse.Namespace, program: Program, folder: str, several: bool) -> dict[str, Any]:
    wanted = [s for s in program.segments if s.kind is SegmentKind.INPUT]
    if arguments.random_input:
        return {s.name: _random_bytes(s.name, s.size_bytes) for s in wanted}
    if arguments.input_dir is None:
        missing = [s.name for s in wanted if s.data is None]
        if missing:
            raise UsageError(f"{program.name} needs {', '.join(missing)}: give --input_dir or --random_input")
        return {}
    place = _place(arguments.input_dir, folder, program, several)
    return {
        s.name: np.fromfile(place / file_name(s.name), dtype=np.uint8)
        for s in wanted
        if s.data is None or (place / file_name(s.name)).exists()
    }


def _random_bytes(name: str, size_bytes: int) -> np.ndarray[Any, Any]:
    """The same bytes for the same name, on every machine."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.frombuffer(np.random.default_rng(seed).bytes(size_bytes), dtype=np.uint8)


def file_name(tensor: str) -> str:
    """``<tensor>.bin`` with characters outside ``[A-Za-z0-9_-]`` replaced by ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", tensor) + ".bin"


def _write_outputs(place: Path, outputs: dict[str, Any], inputs: dict[str, Any]) -> None:
    for name, data in {**inputs, **outputs}.items():
        write_bytes(place / file_name(name), data.tobytes())


def _record(result: Any, index: int, program: Program, hardware: Hardware) -> dict[str, Any]:
    """One job as the fixed JSON record."""
    job = result.jobs[index]
    row: dict[str, Any] = {
        "model": program.name,
        "npu_mode": f"NPU{program.cores}",
        "hardware": hardware.machine.name,
        "mode": result.mode.value,
        "cores": list(job.cores),
    }
    if result.recorded is not None:
        from npusim.report.summary import summarize

        row |= summarize(result.trace, hardware, index, job.cycles, program.cores).record()
    row["outputs"] = {
        name: {"bytes": int(data.size), "sha256": hashlib.sha256(data.tobytes()).hexdigest()}
        for name, data in job.outputs.items()
    }
    return row


def _print(row: dict[str, Any], cores: tuple[int, ...], hardware: Hardware, before: str) -> None:
    where = f"core {cores[0]}" if len(cores) == 1 else f"cores {', '.join(map(str, cores))}"
    print(f"{before}{row['model']} on {row['hardware']}, {where}")
    if "cycles" in row:
        seconds = row["cycles"] / hardware.machine.clock_hz
        traffic = row["dram_bytes"] / seconds / 1e9 if seconds else 0.0
        print(f"  cycles       {row['cycles']:,}")
        print(f"  latency      {row['latency_ms']:.4f} ms, {hardware.machine.launch_ms} ms of it the call itself")
        print(f"  MACs         {row['macs']:,}, {row['mac_utilization']:.1%} of the peak of its cores")
        print(f"  DRAM         {row['dram_bytes']:,} bytes, {traffic:.1f} GB/s")
        print()
        header = ("unit", "instructions", "busy cycles", "stall cycles", "utilization")
        uses = [
            (u["name"], u["instructions"], u["busy_cycles"], u["stall_cycles"], f"{u['utilization']:.1%}")
            for u in row["units"]
        ]
        print("\n".join(f"  {line}" for line in table(header, uses).splitlines()))
    if row["outputs"]:
        print()
        for name, output in row["outputs"].items():
            print(f"  {name}: {output['bytes']:,} bytes, sha256 {output['sha256'][:16]}")


def _csv(trace: Any) -> str:
    """All columns of a trace, one instruction a line, after the names of unit, instruction and origin."""
    columns = trace.columns()
    lines = [",".join(["name", "mnemonic", "origin_name", *columns])]
    spelled = trace.rows()
    for row, *values in zip(spelled, *(column.tolist() for column in columns.values()), strict=True):
        lines.append(",".join([row.unit, row.mnemonic, f'"{row.origin}"', *map(str, values)]))
    return "\n".join(lines) + "\n"
