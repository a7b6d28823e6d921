"""Reading an ``.axmodel``: strictly where it is ours, and for its declarations where a vendor's toolchain wrote it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from isa import container
from isa.errors import IsaError

from .layout import (
    CPU_OPERATOR,
    FORMAT_KEY,
    FORMATS,
    ONE_PROGRAM,
    PRODUCER,
    REASONS,
    RECORDS,
    TEXTS,
    blob_name,
    check_parts,
    checksum,
    names_of,
    port_of,
)
from .records import OPERATOR, Axmodel, AxmodelError, CpuPart, Description, LayerName, NpuPart, Part, Port, Reason


def read(source: str | os.PathLike[str] | bytes) -> Axmodel:
    """The model in a file or in its bytes.

    Raises:
        AxmodelError: no ``.axmodel``, a vendor's, one of another version, truncated or altered.
        OSError: the file cannot be read.
    """
    data, label = _content(source)
    try:
        return _read(_parse(data))
    except AxmodelError as error:
        raise AxmodelError(str(error), label) from error
    except IsaError as error:
        raise AxmodelError(f"its program cannot be read: {error}", label) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise AxmodelError(f"is damaged: its metadata are malformed ({error})", label) from error


def describe(source: str | os.PathLike[str] | bytes) -> Description:
    """What a file declares, whether we wrote it or a vendor's toolchain did.

    Raises:
        AxmodelError: no ``.axmodel``.
        OSError: the file cannot be read.
    """
    data, label = _content(source)
    try:
        return _describe(_parse(data))
    except AxmodelError as error:
        raise AxmodelError(str(error), label) from error


def is_axmodel(data: bytes) -> bool:
    """Whether bytes are an ``.axmodel``, ours or a vendor's."""
    try:
        return bool(_parse(data))
    except AxmodelError:
        return False


def _content(source: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, ""
    return Path(source).read_bytes(), str(source)


def _parse(data: bytes) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError; no part of what onnx exports
        raise AxmodelError("is no .axmodel, or is cut off: it is not an ONNX protobuf") from error
    if proto.producer_name == PRODUCER and any(entry.key == FORMAT_KEY for entry in proto.metadata_props):
        return proto
    if not any(node.op_type == OPERATOR for node in proto.graph.node):
        if proto.producer_name == PRODUCER:
            raise AxmodelError("is cut off: it has no NPU subgraph")
        raise AxmodelError(
            "is an ONNX file without NPU subgraphs; build it first" if proto.graph.node else "is no .axmodel"
        )
    return proto


def _read(proto: onnx.ModelProto) -> Axmodel:
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    if FORMAT_KEY not in metadata:
        if proto.producer_name == PRODUCER:
            raise AxmodelError("is cut off: its metadata are missing")
        raise AxmodelError(_refusal(_describe(proto)))
    layout = metadata[FORMAT_KEY]
    if layout not in FORMATS:
        read_here = f"this npusim reads {' and '.join(FORMATS)}"
        raise AxmodelError(f"has layout version {layout!r}; {read_here}: build the model again")
    keys = (*RECORDS, REASONS) if layout != ONE_PROGRAM else RECORDS
    missing = [key for key in (*TEXTS, *keys, "checksum") if key not in metadata]
    if missing:
        raise AxmodelError(f"is cut off: its metadata lack {', '.join(missing)}")
    blobs = _blobs(proto.graph, layout)
    programs = {name: container.from_bytes(data) for name, (operator, data) in blobs.items() if operator == OPERATOR}
    if checksum(metadata, proto.graph, list(blobs.values())) != metadata["checksum"]:
        raise AxmodelError("is damaged: its checksum does not match")
    records = {key: json.loads(metadata[key]) for key in keys}
    for key, record in records.items():
        if not isinstance(record, list if key == "layers" else dict):
            raise TypeError(f"{key} is a {type(record).__name__}")
    known = {value.name: value for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info)}
    ports = {name: _labelled(port_of(value), records["tensors"]) for name, value in known.items()}
    parts: list[Part] = []
    for node in proto.graph.node:
        inputs, outputs = _ports(node.name, node.input[:-1], ports), _ports(node.name, node.output, ports)
        if node.name in programs:
            parts.append(NpuPart(name=node.name, program=programs[node.name], inputs=inputs, outputs=outputs))
        else:
            reasons = tuple(_reason(*entry) for entry in records[REASONS].get(node.name, ()))
            data = blobs[node.name][1]
            parts.append(CpuPart(name=node.name, model=data, inputs=inputs, outputs=outputs, reasons=reasons))
    if tuple(part.name for part in parts) != names_of(parts):
        raise AxmodelError(f"is damaged: its parts are called {', '.join(part.name for part in parts)}")
    inputs, outputs = (tuple(ports[value.name] for value in side) for side in (proto.graph.input, proto.graph.output))
    check_parts(parts, inputs, outputs)
    for name, program in programs.items():
        if metadata["npu_mode"] != f"NPU{program.cores}":
            raise AxmodelError(f"is damaged: {name} is for NPU{program.cores}, the model for {metadata['npu_mode']}")
    model = Axmodel(
        name=proto.graph.name, parts=tuple(parts), inputs=inputs, outputs=outputs,
        **{key: metadata[key] for key in TEXTS},
        hardware_values=dict(records["hardware_values"]), versions=dict(records["versions"]),
        config=dict(records["config"]),
        layers=tuple(_layer(*entry) for entry in records["layers"]),
    )  # fmt: skip
    if layout == ONE_PROGRAM and not model.is_one_program:
        raise AxmodelError("is damaged: its inputs and outputs are not those of its program")
    return model


def _blobs(graph: onnx.GraphProto, layout: str) -> dict[str, tuple[str, bytes]]:
    """Operator and content of each node by its name."""
    found: dict[str, tuple[str, bytes]] = {}
    held = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in (OPERATOR, CPU_OPERATOR) or node.name in found or not node.input:
            raise AxmodelError(f"is damaged: it has a node {node.name!r} ({node.op_type}) that is no part")
        tensor = held.pop(blob_name(node.name), None)
        if tensor is None or not tensor.raw_data or node.input[-1] != tensor.name:
            raise AxmodelError(f"is damaged: it does not hold what {node.name} runs ({blob_name(node.name)})")
        found[node.name] = (node.op_type, tensor.raw_data)
    if held or (layout == ONE_PROGRAM and [operator for operator, _ in found.values()] != [OPERATOR]):
        raise AxmodelError("is damaged: its initialisers are not those of its parts")
    return found


def _ports(part: str, names: Sequence[str], ports: Mapping[str, Port]) -> tuple[Port, ...]:
    for name in names:
        if name not in ports:
            raise AxmodelError(f"is damaged: {part} has a tensor {name!r} that is not declared")
    return tuple(ports[name] for name in names)


def _reason(node: str, op: str, constraint: str) -> Reason:
    if not all(isinstance(text, str) for text in (node, op, constraint)):
        raise TypeError("a reason is made of texts")
    return Reason(node=node, op=op, constraint=constraint)


def _layer(name: str, op: str, source: list[str]) -> LayerName:
    if not all(isinstance(text, str) for text in (name, op, *source)):
        raise TypeError("a layer's names are texts")
    return LayerName(name=name, op=op, source=tuple(source))


def _labelled(port: Port, tensors: Mapping[str, Mapping[str, Any]]) -> Port:
    label = tensors.get(port.name)
    return replace(port, scale=float(label["scale"]), zero_point=int(label["zero_point"])) if label else port


# ------------------------------------------------------------------------------------------------------- describing


def _describe(proto: onnx.ModelProto) -> Description:
    constants = {tensor.name for tensor in proto.graph.initializer}
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return Description(
        name=proto.graph.name,
        producer=" ".join(part for part in (proto.producer_name, proto.producer_version) if part),
        inputs=tuple(port_of(value) for value in proto.graph.input if value.name not in constants),
        outputs=tuple(port_of(value) for value in proto.graph.output),
        npu_mode=_npu_mode(metadata),
        nodes=tuple(node.name or node.op_type for node in proto.graph.node if node.op_type == OPERATOR),
        runnable=FORMAT_KEY in metadata or proto.producer_name == PRODUCER,
    )


def _npu_mode(metadata: Mapping[str, str]) -> str:
    """The value of a property called npu_mode, or of such a member of a property that is JSON."""
    for key, value in metadata.items():
        if key.casefold() == "npu_mode":
            return value
    for value in metadata.values():
        try:
            members = json.loads(value)
        except (ValueError, RecursionError):
            continue
        if isinstance(members, dict) and isinstance(members.get("npu_mode"), str):
            return str(members["npu_mode"])
    return ""


def _refusal(found: Description) -> str:
    """Why a vendor's file cannot be run, and what it declares."""
    mode = f", npu_mode {found.npu_mode}" if found.npu_mode else ""
    ports = f"inputs {', '.join(map(str, found.inputs))}; outputs {', '.join(map(str, found.outputs))}"
    return (
        f"is a vendor's axmodel ({found.producer or 'producer unknown'}{mode}; {ports}), whose program is for silicon "
        "and undocumented; rebuild it with npusim build from its ONNX or quantized ONNX"
    )
