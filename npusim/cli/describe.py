"""``npusim info`` for built models and for the supported operators."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from isa.instruction import Unit
from npusim import axmodel
from npusim.axmodel import Axmodel, Description, NpuPart, Part, Port
from npusim.cli.contents import Contents, contents_of
from npusim.cli.files import write_json
from npusim.cli.text import count, table


def print_model(path: str, target: str | None, layers: bool) -> int:
    """Describe an ``.axmodel``; of a vendor's, what it declares.

    Args:
        path: the file.
        target: where to write the description as JSON; None for nowhere.
        layers: whether to list the layers.
    """
    description = axmodel.describe(path)
    model = axmodel.read(path) if description.runnable else None
    contents = contents_of(model.programs) if model is not None else Contents()
    file_bytes = Path(path).stat().st_size
    if target:
        write_json(target, _record(description, model, contents) | {"file_bytes": file_bytes})
        if target == "-":
            return 0
    print(f"{description.name}: axmodel by {description.producer or 'an unknown producer'}, {file_bytes:,} bytes")
    print()
    print(f"npu_mode      {description.npu_mode or 'not declared'}")
    if model is not None:
        _print_built(model, contents)
    else:
        print(f"subgraphs     {', '.join(description.nodes)}")
    print()
    ports = model or description
    rows = [("input", *_cells(port)) for port in ports.inputs] + [("output", *_cells(port)) for port in ports.outputs]
    print(table(("", "tensor", "type", "shape", "scale", "zero point"), rows, "<<<<>>"))
    if model is not None and model.cpu_parts:
        print()
        parts = [(part.name, _work(part), _exchange(part)) for part in model.parts]
        print(table(("part", "runs", "reads and writes"), parts, "<<<"))
    if model is not None and layers:
        print()
        work = [
            (layer.name, layer.op, contents.layer_instructions[layer.name], contents.layer_macs[layer.name],
             ", ".join(layer.source))
            for layer in model.layers
        ]  # fmt: skip
        print(table(("layer", "operation", "instructions", "MACs", "ONNX nodes"), work, "<<>><"))
    if model is None:
        print()
        print("A vendor's program is for silicon and cannot be simulated: rebuild the model from its ONNX or quantized")
        print("ONNX with npusim build.")
    return 0


def _print_built(model: Axmodel, contents: Contents) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in model.versions.items())
    units = ", ".join(
        f"{contents.instructions[str(unit)]:,} {unit}" for unit in Unit if contents.instructions[str(unit)]
    )
    segments = ", ".join(f"{size:,} {kind}" for kind, size in contents.segment_bytes.items())
    operations = Counter(layer.op for layer in model.layers)
    shown = ", ".join(f"{number} {op}" for op, number in operations.most_common())
    print(f"hardware      {model.hardware} ({model.hardware_fingerprint[:16]})")
    print(f"built by      {versions}; instruction set {model.isa_version}")
    print(f"programs      {len(model.programs):,}")
    print(f"instructions  {contents.instructions.total():,}: {units}")
    print(f"MACs          {contents.macs:,}")
    print(f"DRAM bytes    {contents.segment_bytes.total():,}: {segments}")
    print(f"layers        {len(model.layers):,}: {shown}")


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


def _record(description: Description, model: Axmodel | None, contents: Contents) -> dict[str, Any]:
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
        "instructions": contents.instructions.total(),
        "unit_instructions": dict(contents.instructions),
        "mnemonics": dict(contents.mnemonics),
        "macs": contents.macs,
        "parameter_bytes": contents.parameter_bytes,
        "segment_bytes": dict(contents.segment_bytes),
        "fingerprints": [program.fingerprint() for program in model.programs],
        "cpu_parts": [
            {"name": part.name, "reasons": [asdict(reason) for reason in part.reasons]} for part in model.cpu_parts
        ],
        "layers": [
            asdict(layer)
            | {"instructions": contents.layer_instructions[layer.name], "macs": contents.layer_macs[layer.name]}
            for layer in model.layers
        ],
    }


def print_operators(target: str | None) -> int:
    """The ONNX operators that can be built, with what each needs."""
    from npusim.graph import support_table

    rows = support_table()
    if target:
        write_json(target, {"rows": [{"op": name, "needs": list(needs)} for name, needs in rows]})
        if target == "-":
            return 0
    lines: list[tuple[str, str]] = []
    for name, needs in rows:
        wanted = [sentence.removeprefix("it needs ") for sentence in needs] or ["nothing in particular"]
        lines += [(name if index == 0 else "", sentence) for index, sentence in enumerate(wanted)]
    print(table(("operator", "needs"), lines, "<<"))
    print()
    print(
        f"{count(len(rows), 'operator')}; a node that lacks what its operator needs is refused by name, or runs on the"
    )
    print("CPU and is priced as such (npusim build --cpu_fallback)")
    return 0
