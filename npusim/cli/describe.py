"""``npusim info`` for built models and for the supported operators."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from npusim import axmodel
from npusim.axmodel import Axmodel, Description, NpuPart, Part, Port
from npusim.cli.files import write_json
from npusim.cli.text import count, table


def print_model(path: str, target: str | None) -> int:
    """Describe an ``.axmodel``; of a vendor's, what it declares."""
    description = axmodel.describe(path)
    model = axmodel.read(path) if description.runnable else None
    if target:
        write_json(target, _record(description, model))
        if target == "-":
            return 0
    print(f"{description.name}: axmodel by {description.producer or 'an unknown producer'}")
    print()
    print(f"npu_mode   {description.npu_mode or 'not declared'}")
    if model is not None:
        versions = ", ".join(f"{name} {version}" for name, version in model.versions.items())
        print(f"hardware   {model.hardware} ({model.hardware_fingerprint[:16]})")
        programs = count(len(model.programs), "program")
        print(f"programs   {programs}, {_instructions(model):,} instructions, instruction set {model.isa_version}")
        print(f"built by   {versions}")
        print(f"layers     {len(model.layers):,}")
    print()
    ports = model or description
    rows = [("input", *_cells(port)) for port in ports.inputs] + [("output", *_cells(port)) for port in ports.outputs]
    print(table(("", "tensor", "type", "shape", "scale", "zero point"), rows, "<<<<>>"))
    if model is not None and model.cpu_parts:
        print()
        parts = [(part.name, _work(part), _exchange(part)) for part in model.parts]
        print(table(("part", "runs", "reads and writes"), parts, "<<<"))
    if model is None:
        print()
        print("A vendor's program is for silicon and cannot be simulated: rebuild the model from its ONNX or quantized")
        print("ONNX with npusim build.")
    return 0


def _instructions(model: Axmodel) -> int:
    return sum(map(len, model.programs))


def _work(part: Part) -> str:
    if isinstance(part, NpuPart):
        return f"{len(part.program):,} instructions"
    return f"on the CPU because of {', '.join(f'{r.node} ({r.op}): {r.constraint}' for r in part.reasons)}"


def _exchange(part: Part) -> str:
    return f"{', '.join(port.name for port in part.inputs)} -> {', '.join(port.name for port in part.outputs)}"


def _cells(port: Port) -> tuple[str, ...]:
    shape = "x".join(str(extent) if extent >= 0 else "?" for extent in port.shape) or "scalar"
    scale = str(np.float32(port.scale)) if port.scale is not None else ""
    return port.name, port.dtype or "?", shape, scale, "" if port.zero_point is None else str(port.zero_point)


def _record(description: Description, model: Axmodel | None) -> dict[str, Any]:
    record = asdict(description)
    if model is None:
        return record
    return record | {
        "inputs": [asdict(port) for port in model.inputs],
        "outputs": [asdict(port) for port in model.outputs],
        "hardware": model.hardware,
        "hardware_fingerprint": model.hardware_fingerprint,
        "isa_version": model.isa_version,
        "versions": dict(model.versions),
        "config": dict(model.config),
        "cores": model.cores,
        "instructions": _instructions(model),
        "fingerprints": [program.fingerprint() for program in model.programs],
        "cpu_parts": [
            {"name": part.name, "reasons": [asdict(reason) for reason in part.reasons]} for part in model.cpu_parts
        ],
        "layers": [asdict(layer) for layer in model.layers],
    }


def print_operators(target: str | None) -> int:
    """The ONNX operators that can be built, with what each needs."""
    from npusim.graph import support_table

    rows = support_table()
    if target:
        write_json(target, {"rows": [{"op": name, "needs": list(needs)} for name, needs in rows]})
        if target == "-":
            return 0
    print(table(("operator", "needs"), [(name, "; ".join(needs)) for name, needs in rows], "<<"))
    return 0
