"""Where everything lies in an ``.axmodel``, and what must hold between its pieces.

Shared by ``writing`` and ``reading``: the keys of the metadata, the checksum, and the checks that both sides make.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from isa.program import Program, Segment, SegmentKind, segment_name

from .records import ELEMENT_TYPES, OPERATOR, AxmodelError, CpuPart, NpuPart, Part, Port

ONE_PROGRAM = "1"
"""Version of the layout with one NPU node that computes the whole model."""
SEVERAL_PARTS = "2"
"""Version with a node for each part, on the NPU or on the CPU, in the order in which they run."""
FORMATS = (ONE_PROGRAM, SEVERAL_PARTS)

CPU_OPERATOR = "cpu subgraph"
PROGRAM = "npu_program"
PRODUCER = "npusim"
FORMAT_KEY = "npusim_axmodel"
TEXTS = ("npu_mode", "hardware", "hardware_fingerprint", "isa_version")
RECORDS = ("tensors", "layers", "versions", "config", "hardware_values")
REASONS = "cpu_reasons"
"""Record of the second layout only."""

_PROGRAM_HEAD_BYTES = 56  # magic, versions, sizes and SHA-256 of a program file (isa.container)
_DTYPE_NAMES = {int(code): name for name, code in ELEMENT_TYPES.items()}


def blob_name(part_name: str) -> str:
    """The initialiser that holds a part's program or model: ``npu_program`` for the first program."""
    kind, _, number = part_name.rpartition("_")
    stem = PROGRAM if kind == "subgraph_npu" else "cpu_model"
    return stem if (stem, number) == (PROGRAM, "0") else f"{stem}_{number}"


def value_info(port: Port) -> onnx.ValueInfoProto:
    """A port as ONNX declares it."""
    return helper.make_tensor_value_info(port.name, ELEMENT_TYPES[port.dtype], port.shape)


def port_of(value: onnx.ValueInfoProto) -> Port:
    """A port as ONNX declares it, without its scale."""
    tensor = value.type.tensor_type
    shape = tuple(int(dim.dim_value) if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return Port(name=value.name, dtype=_DTYPE_NAMES.get(tensor.elem_type, ""), shape=shape)


def to_json(value: Any) -> str:
    """The same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def checksum(metadata: Mapping[str, str], graph: onnx.GraphProto, blobs: Sequence[tuple[str, bytes]]) -> str:
    """SHA-256 of all that surrounds the programs, of the models, and of the heads of the program files.

    A program file holds a checksum of its own in its head.

    Args:
        metadata: all of them; the checksum itself is left aside.
        graph: of the file.
        blobs: operator of each node, and what it runs.
    """
    digest = hashlib.sha256(to_json({k: v for k, v in metadata.items() if k != "checksum"}).encode())
    digest.update(graph.name.encode())
    if metadata[FORMAT_KEY] != ONE_PROGRAM:  # which value is an output and which is inside
        digest.update(f"{len(graph.input)} {len(graph.output)} {len(graph.value_info)}".encode())
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.node):
        digest.update(value.SerializeToString(deterministic=True))
    for operator, blob in blobs:
        digest.update(blob[:_PROGRAM_HEAD_BYTES] if operator == OPERATOR else hashlib.sha256(blob).digest())
    return digest.hexdigest()


# ----------------------------------------------------------------------------------------------------------- checking


def check_parts(parts: Sequence[Part], inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Refuse parts that do not fit one another, or the model's inputs and outputs.

    Raises:
        AxmodelError: naming the part and the tensor.
    """
    known = {port.name: port for port in inputs}
    for port in inputs:
        _check_type("input", port)
    for part in parts:
        for port in part.inputs:
            if port != known.get(port.name):
                before = f"before it there is {known[port.name]}" if port.name in known else "nothing makes it"
                raise AxmodelError(f"{part.name} reads {port}; {before}")
        if isinstance(part, CpuPart):
            _check_model(part)
        else:
            _check_program(part.program, part.inputs, part.outputs)
        for port in part.outputs:
            if port.name in known:
                raise AxmodelError(f"{part.name} makes {port.name!r}, which there is already")
            known[port.name] = port
    for port in outputs:
        if port != known.get(port.name):
            raise AxmodelError(f"no part makes the output {port}")


def _check_type(kind: str, port: Port) -> None:
    if port.dtype not in ELEMENT_TYPES or any(extent < 0 for extent in port.shape):
        raise AxmodelError(f"{kind} {port} has no fixed type and shape")


def _check_program(program: Program, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Refuse ports that are not the program's segments of the same kind and size."""
    for kind, ports in ((SegmentKind.INPUT, inputs), (SegmentKind.OUTPUT, outputs)):
        segments: dict[str, Segment] = {s.name: s for s in program.segments if s.kind is kind}
        for port in ports:
            _check_type(str(kind), port)
            held = segments.pop(segment_name(port.name), None)
            if held is None:
                raise AxmodelError(f"its program has no {kind} {port.name!r}")
            if held.size_bytes != port.size_bytes:
                sizes = f"{held.size_bytes} bytes in the program, {port.size_bytes} by its shape"
                raise AxmodelError(f"{kind} {port.name!r} has {sizes}")
        if segments:
            raise AxmodelError(f"{kind} {next(iter(segments))!r} of its program is not declared")


def _check_model(part: CpuPart) -> None:
    """Refuse a model that is none, reaches outside of the file, or has other inputs and outputs than the ports."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(part.model)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf's DecodeError and the checker's ValidationError
        reason = (str(error).splitlines() or [""])[0]
        raise AxmodelError(f"the model of {part.name} is no ONNX model: {reason}") from error
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        raise AxmodelError(f"the model of {part.name} has data outside of the file")
    for kind, values, ports in (
        ("input", proto.graph.input, part.inputs),
        ("output", proto.graph.output, part.outputs),
    ):
        for port in ports:
            _check_type(f"{kind} of {part.name}", port)
        found, declared = [port_of(value) for value in values], [(port.name, port.dtype, port.shape) for port in ports]
        if [(port.name, port.dtype, port.shape) for port in found] != declared:
            text = ", ".join(map(str, found)) or "none"
            raise AxmodelError(f"the {kind}s of {part.name} are not those of its model: {text}")


def names_of(parts: Sequence[Part]) -> tuple[str, ...]:
    """The names that parts have by their kinds and order: ``subgraph_npu_0``, ``cpu_0``, ``subgraph_npu_1``."""
    counts = {NpuPart: 0, CpuPart: 0}
    names = []
    for part in parts:
        stem = "subgraph_npu" if isinstance(part, NpuPart) else "cpu"
        names.append(f"{stem}_{counts[type(part)]}")
        counts[type(part)] += 1
    return tuple(names)
