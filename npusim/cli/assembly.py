"""``npusim asm``, ``disasm`` and ``verify``: programs as text, as files, and proven."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from isa.container import MAGIC, save
from isa.disassembler import disassemble
from isa.files import write_bytes
from isa.program import Program
from isa.verify import Report
from npusim.cli.files import write_json
from npusim.cli.programs import PROGRAM_SUFFIX, read_program
from npusim.cli.text import count, whole_number


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    if name == "asm":
        parser.add_argument("source", help="assembly source (.npuasm)")
        parser.add_argument("-o", "--output", help=f"program file; by default the source's name with {PROGRAM_SUFFIX}")
        parser.set_defaults(execute=_asm)
    elif name == "disasm":
        parser.add_argument("program", help="program file or assembly source")
        parser.add_argument("-o", "--output", help="text file; by default standard output")
        parser.add_argument("--no_data", action="store_true", help="leave out the bytes of the segments")
        parser.set_defaults(execute=_disasm)
    else:
        parser.add_argument("program", help="program file or assembly source")
        parser.add_argument("--target_hardware", default="ax650n", help="built-in name or TOML file (ax650n)")
        parser.add_argument("--max_violations", default="20", metavar="N", help="how many to list (20)")
        parser.add_argument("--no_stamp", action="store_true", help="do not write the stamp into the program file")
        parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output")
        parser.set_defaults(execute=_verify)


def _asm(arguments: argparse.Namespace) -> int:
    program = read_program(arguments.source)
    output = Path(arguments.output or Path(arguments.source).with_suffix(PROGRAM_SUFFIX))
    save(program, output)
    units = count(len(program.streams), "unit")
    print(f"{output}: {count(len(program), 'instruction')} on {units} of {count(program.cores, 'core')}")
    return 0


def _disasm(arguments: argparse.Namespace) -> int:
    text = disassemble(read_program(arguments.program), data=not arguments.no_data)
    if arguments.output:
        write_bytes(arguments.output, text.encode())
    else:
        sys.stdout.write(text)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from isa.verify import verify
    from npusim.config import load
    from npusim.sim import limits_of

    most = whole_number("--max_violations", arguments.max_violations, 1)
    hardware = load(arguments.target_hardware)
    program = read_program(arguments.program)
    begin = time.perf_counter()
    report = verify(program, limits_of(hardware), max_violations=most)
    seconds = time.perf_counter() - begin
    for violation in report.violations:
        print(f"{violation.kind}: {violation.message}")
    size = f"{count(len(program), 'instruction')}, {count(program.cores, 'core')}"
    if report.violations:
        print(f"{program.name}: NOT verified for {hardware.machine.name} ({size})")
    else:
        print(f"{program.name}: verified for {hardware.machine.name} ({size})")
        _stamp(arguments, program.with_stamp(report.stamp))
    print(f"verified in {seconds:.3f} s", file=sys.stderr)
    if arguments.json:
        _write_json(arguments.json, program.name, hardware.machine.name, report)
    return 1 if report.violations else 0


def _stamp(arguments: argparse.Namespace, stamped: Program) -> None:
    path = Path(arguments.program)
    if not arguments.no_stamp and path.read_bytes().startswith(MAGIC):
        save(stamped, path)
        print(f"{path}: stamped")


def _write_json(target: str, program: str, hardware: str, report: Report) -> None:
    rows = [{"kind": str(v.kind), "message": v.message} for v in report.violations]
    write_json(target, {"program": program, "hardware": hardware, "verified": not rows, "violations": rows})
