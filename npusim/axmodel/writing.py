"""Writing an ``.axmodel``: a built model as the bytes of an ONNX protobuf."""

from __future__ import annotations

import os
from typing import Any

import onnx
from onnx import TensorProto, helper

from isa import container
from isa.files import write_bytes

from .layout import (
    CPU_OPERATOR,
    FORMAT_KEY,
    ONE_PROGRAM,
    PRODUCER,
    REASONS,
    SEVERAL_PARTS,
    TEXTS,
    blob_name,
    check_parts,
    checksum,
    names_of,
    to_json,
    value_info,
)
from .records import OPERATOR, Axmodel, AxmodelError, CpuPart, NpuPart, Part, Port

_LARGEST_BYTES = (1 << 31) - 1  # of a protobuf message


def wrap(model: Axmodel) -> bytes:
    """The model as the bytes of a file; the same model always gives the same bytes.

    Raises:
        AxmodelError: parts that do not fit together, or programs too large for a protobuf.
    """
    check_parts(model.parts, model.inputs, model.outputs)
    assert tuple(part.name for part in model.parts) == names_of(model.parts), "parts are numbered by kind"
    blobs = [_content(part) for part in model.parts]
    total = sum(map(len, blobs))
    if total > _LARGEST_BYTES - (1 << 24):
        raise AxmodelError(f"the parts have {total:,} bytes; a protobuf holds at most {_LARGEST_BYTES:,}")
    inputs, outputs, inner = (
        [value_info(port) for port in ports] for ports in (model.inputs, model.outputs, _inner(model))
    )
    tensors = [
        TensorProto(name=blob_name(part.name), data_type=TensorProto.UINT8, dims=[len(blob)], raw_data=blob)
        for part, blob in zip(model.parts, blobs, strict=True)
    ]
    nodes = [_node(model, part) for part in model.parts]
    graph = helper.make_graph(nodes, model.name, inputs, outputs, tensors, value_info=inner)
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], producer_name=PRODUCER)
    proto.producer_version = model.versions.get("npusim", "")
    metadata = _metadata(model)
    kinds = [node.op_type for node in nodes]
    metadata["checksum"] = checksum(metadata, graph, list(zip(kinds, blobs, strict=True)))
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return bytes(proto.SerializeToString(deterministic=True))


def save(model: Axmodel, path: str | os.PathLike[str]) -> None:
    """Write a file; an existing one is replaced only once the new one is complete."""
    write_bytes(path, wrap(model))


def _content(part: Part) -> bytes:
    return part.model if isinstance(part, CpuPart) else container.to_bytes(part.program)


def _node(model: Axmodel, part: Part) -> onnx.NodeProto:
    inputs = [*(port.name for port in part.inputs), blob_name(part.name)]
    outputs = [port.name for port in part.outputs]
    if isinstance(part, NpuPart):
        return helper.make_node(
            OPERATOR, inputs, outputs, name=part.name, cores=part.program.cores, npu_mode=model.npu_mode
        )
    return helper.make_node(CPU_OPERATOR, inputs, outputs, name=part.name)


def _inner(model: Axmodel) -> list[Port]:
    """What parts exchange."""
    shown = {port.name for port in model.outputs}
    return [port for part in model.parts for port in part.outputs if port.name not in shown]


def _metadata(model: Axmodel) -> dict[str, str]:
    tensors = {
        port.name: {"scale": port.scale, "zero_point": port.zero_point}
        for port in (*model.inputs, *model.outputs, *_inner(model))
        if port.scale is not None
    }
    records: dict[str, Any] = {
        "tensors": tensors,
        "layers": [[layer.name, layer.op, list(layer.source)] for layer in model.layers],
        "versions": dict(model.versions),
        "config": dict(model.config),
        "hardware_values": dict(model.hardware_values),
    }
    if not model.is_one_program:
        records[REASONS] = {
            part.name: [[reason.node, reason.op, reason.constraint] for reason in part.reasons]
            for part in model.cpu_parts
        }
    texts = {key: getattr(model, key) for key in TEXTS}
    layout = ONE_PROGRAM if model.is_one_program else SEVERAL_PARTS
    return {FORMAT_KEY: layout, **texts, **{key: to_json(value) for key, value in records.items()}}
