"""``npusim info``: what a machine, a program or a built model consists of."""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from isa.instruction import Unit, unit_name
from isa.program import Program
from npusim.cli.files import write_json
from npusim.cli.programs import MODEL_SUFFIX, ONNX_SUFFIX, PROGRAM_SUFFIX, SOURCE_SUFFIX, read_program
from npusim.cli.progress import Progress
from npusim.cli.text import table
from npusim.config import Hardware, load

OPERATORS = "ops"

UNIT_ROLES = {
    Unit.CONV0: "convolution and matrix products, with bias, requantize and clamp",
    Unit.CONV1: "as conv0",
    Unit.TENG: "elementwise, tables, pooling, reductions, normalization, softmax",
    Unit.CV: "copies, transposes, padding and gathers inside OCM",
    Unit.SDMA: "DRAM <-> OCM, multicast, core to core",
}


def configure(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    del name
    parser.add_argument(
        "subject",
        nargs="?",
        default="ax650n",
        help="built-in machine, TOML file, axmodel, program file or source; ops: the supported operators (ax650n)",
    )
    parser.add_argument("--layers", action="store_true", help="list the layers of a built model, too")
    parser.add_argument("--json", metavar="FILE", help="write the description as JSON; - for standard output")
    parser.add_argument("--warmup", action="store_true", help="compile all kernels for this machine, or load them")
    parser.set_defaults(execute=_info)


def _info(arguments: argparse.Namespace) -> int:
    if arguments.warmup:
        return _warm_up()
    if Path(arguments.subject).suffix in (SOURCE_SUFFIX, PROGRAM_SUFFIX):
        return _program(read_program(arguments.subject), arguments.json)
    if Path(arguments.subject).suffix in (MODEL_SUFFIX, ONNX_SUFFIX):
        from npusim.cli import describe

        return describe.print_model(arguments.subject, arguments.json, arguments.layers)
    if arguments.subject == OPERATORS:
        from npusim.cli import describe

        return describe.print_operators(arguments.json)
    return _hardware(load(arguments.subject), arguments.json)


def _warm_up() -> int:
    from npusim import kernels

    begin = time.perf_counter()
    progress = Progress("kernels")
    for name, done, total in kernels.warmup():
        progress.step(done / total, name)
    progress.done()
    print(f"kernels of the {kernels.active().value} tier are ready ({time.perf_counter() - begin:.1f} s)")
    return 0


def _hardware(hardware: Hardware, target: str | None) -> int:
    sections = [f for f in fields(hardware) if f.name not in ("provenance", "source")]
    rows = [
        (f"{section.name}.{key.name}", getattr(getattr(hardware, section.name), key.name))
        for section in sections
        for key in fields(getattr(hardware, section.name))
    ]
    if target:
        write_json(target, _hardware_record(hardware, rows))
        if target == "-":
            return 0
    machine, peak = hardware.machine, hardware.peak_ops_per_second / 1e12
    print(f"{machine.name}: {machine.description}")
    print()
    print(f"peak     {peak:.2f} TOPS INT8 ({machine.declared_tops} declared), {peak / machine.cores:.2f} a core")
    print(f"         {hardware.peak_macs_per_cycle:,} MAC a cycle at {machine.clock_hz / 1e6:,.0f} MHz")
    print(f"OCM      {hardware.ocm.bytes:,} bytes a core in {hardware.ocm.banks} banks")
    print(f"DRAM     {hardware.dram.bytes_per_second / 1e9:.1f} GB/s peak, {hardware.dram.bytes / 2**30:.0f} GiB")
    print(f"units    {machine.cores} cores with")
    print("\n".join(f"           {unit!s:<6} {role}" for unit, role in UNIT_ROLES.items()))
    print()
    noted = [(key, value, hardware.provenance[key]) for key, value in rows if key in hardware.provenance]
    print(table(("value", "", "source", "note"), [(k, v, p.kind, p.note) for k, v, p in noted], "<><<"))
    return 0


def _hardware_record(hardware: Hardware, rows: list[tuple[str, Any]]) -> dict[str, Any]:
    values = {
        key: {"value": value}
        | (
            {"source": str(hardware.provenance[key].kind), "note": hardware.provenance[key].note}
            if key in hardware.provenance
            else {}
        )
        for key, value in rows
    }
    return {
        "hardware": hardware.machine.name,
        "peak_tops": hardware.peak_ops_per_second / 1e12,
        "peak_macs_per_cycle": hardware.peak_macs_per_cycle,
        "fingerprint": hardware.fingerprint(),
        "values": values,
    }


def _program(program: Program, target: str | None) -> int:
    streams = {unit_name(unit): len(program.streams[unit]) for unit in sorted(program.streams)}
    segments = [
        {"name": s.name, "kind": str(s.kind), "size_bytes": s.size_bytes, "data": s.data is not None}
        for s in program.segments
    ]
    if target:
        record = {
            "program": program.name,
            "cores": program.cores,
            "instructions": len(program),
            "streams": streams,
            "segments": segments,
            "fingerprint": program.fingerprint(),
            "stamp": program.stamp,
        }
        write_json(target, record)
        if target == "-":
            return 0
    print(f"{program.name}: {len(program):,} instructions for {program.cores} core{'s' * (program.cores > 1)}")
    print(f"{'carries a verification stamp' if program.stamp else 'not verified yet'}")
    print()
    print(table(("unit", "instructions"), streams.items()))
    if segments:
        print()
        print(table(("segment", "kind", "bytes"), [(s.name, s.kind, s.size_bytes) for s in program.segments], "<<>"))
    return 0
