"""The ``.axmodel`` container: an ONNX protobuf that holds one program and all that is needed to run and describe it.

Written by ``session``, read by ``session`` and ``cli``. What the program means, and how a machine is made from the
values stored here, is not this module's business.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from isa import container
from isa.errors import IsaError
from isa.program import ISA_MAJOR, ISA_MINOR, Program, Segment, SegmentKind
from npusim.errors import NpusimError

FORMAT = "1"
"""Version of the layout; a file of another one is refused."""

OPERATOR = "neu mode"
NODE = "subgraph_npu_0"
PROGRAM = "npu_program"
PRODUCER = "npusim"

_FORMAT_KEY = "npusim_axmodel"
_TEXTS = ("npu_mode", "hardware", "hardware_fingerprint", "isa_version")
_RECORDS = ("tensors", "layers", "versions", "config", "hardware_values")
_PROGRAM_HEAD_BYTES = 56  # magic, versions, sizes and SHA-256 of a program file (isa.container)
_LARGEST_BYTES = (1 << 31) - 1  # of a protobuf message

ELEMENT_TYPES = {
    "s8": TensorProto.INT8,
    "u8": TensorProto.UINT8,
    "s16": TensorProto.INT16,
    "u16": TensorProto.UINT16,
    "s32": TensorProto.INT32,
    "u32": TensorProto.UINT32,
    "s64": TensorProto.INT64,
    "u64": TensorProto.UINT64,
    "f16": TensorProto.FLOAT16,
    "f32": TensorProto.FLOAT,
    "f64": TensorProto.DOUBLE,
    "bool": TensorProto.BOOL,
}
"""Element types by the name a port has."""

_DTYPE_NAMES = {int(code): name for name, code in ELEMENT_TYPES.items()}


class AxmodelError(NpusimError, ValueError):
    """A file is no ``.axmodel`` that can be run: foreign, damaged, or of another version.

    Attributes:
        source: the file's name as the user gave it, or an empty string.
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(f"{source}: {message}" if source else message)
        self.source = source


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or an output.

    Attributes:
        name: as in the model.
        dtype: a key of ``ELEMENT_TYPES``; "" for a type that it lacks (in a vendor's file only).
        shape: extents, outermost first; -1 where a vendor's file leaves one open.
        scale: of a quantized tensor with one scale; None for others.
        zero_point: of the same.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense tensor."""
        size = helper.tensor_dtype_to_np_dtype(ELEMENT_TYPES[self.dtype]).itemsize
        for extent in self.shape:
            size *= extent
        return int(size)

    def __str__(self) -> str:
        label = f" q({np.float32(self.scale)!s}, {self.zero_point})" if self.scale is not None else ""
        return f"{self.name}: {self.dtype or '?'}[{','.join(map(str, self.shape))}]{label}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerName:
    """A layer: what instructions name as their origin.

    Attributes:
        name: the origin.
        op: its operation.
        source: ONNX nodes it came from.
    """

    name: str
    op: str
    source: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Axmodel:
    """A built model.

    Attributes:
        name: the model's.
        program: whose input and output segments are named after the ports and hold dense row-major tensors.
        inputs: in the model's order.
        outputs: in the model's order.
        npu_mode: ``NPU1``: how many cores it was built for.
        hardware: name of the machine it was built for.
        hardware_fingerprint: of that machine's values.
        hardware_values: that machine, by dotted key.
        layers: in the order of the program.
        versions: of what built it, by name.
        config: what it was built with, by dotted key.
        isa_version: of the instruction set.
    """

    name: str
    program: Program
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    npu_mode: str
    hardware: str
    hardware_fingerprint: str
    hardware_values: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[LayerName, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    isa_version: str = f"{ISA_MAJOR}.{ISA_MINOR}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What can be said of a file without running it, ours or a vendor's.

    Attributes:
        name: of the graph.
        producer: who wrote it.
        inputs: in the file's order.
        outputs: in the file's order.
        npu_mode: where the file's metadata say it, or "".
        nodes: names of its NPU subgraphs.
        runnable: whether it was written by npusim; ``read`` takes it unless it is damaged.
    """

    name: str
    producer: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    npu_mode: str
    nodes: tuple[str, ...]
    runnable: bool


# ---------------------------------------------------------------------------------------------------------- writing


def wrap(model: Axmodel) -> bytes:
    """The model as the bytes of a file; the same model always gives the same bytes.

    Raises:
        AxmodelError: ports that do not fit the program, or a program too large for a protobuf.
    """
    _check_ports(model.program, model.inputs, model.outputs)
    program = container.to_bytes(model.program)
    if len(program) > _LARGEST_BYTES - (1 << 24):
        raise AxmodelError(f"the program has {len(program):,} bytes; a protobuf holds at most {_LARGEST_BYTES:,}")
    node = helper.make_node(
        OPERATOR, [*(port.name for port in model.inputs), PROGRAM], [port.name for port in model.outputs],
        name=NODE, cores=model.program.cores, npu_mode=model.npu_mode,
    )  # fmt: skip
    blob = TensorProto(name=PROGRAM, data_type=TensorProto.UINT8, dims=[len(program)], raw_data=program)
    inputs, outputs = ([_value(port) for port in ports] for ports in (model.inputs, model.outputs))
    graph = helper.make_graph([node], model.name, inputs, outputs, [blob])
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)], producer_name=PRODUCER)
    proto.producer_version = model.versions.get("npusim", "")
    metadata = _metadata(model)
    metadata["checksum"] = _checksum(metadata, graph, program)
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return bytes(proto.SerializeToString(deterministic=True))


def save(model: Axmodel, path: str | os.PathLike[str]) -> None:
    """Write a file; an existing one is replaced only once the new one is complete."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(wrap(model))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _value(port: Port) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(port.name, ELEMENT_TYPES[port.dtype], port.shape)


def _metadata(model: Axmodel) -> dict[str, str]:
    tensors = {
        port.name: {"scale": port.scale, "zero_point": port.zero_point}
        for port in (*model.inputs, *model.outputs)
        if port.scale is not None
    }
    records: dict[str, Any] = {
        "tensors": tensors,
        "layers": [[layer.name, layer.op, list(layer.source)] for layer in model.layers],
        "versions": dict(model.versions),
        "config": dict(model.config),
        "hardware_values": dict(model.hardware_values),
    }
    texts = {key: getattr(model, key) for key in _TEXTS}
    return {_FORMAT_KEY: FORMAT, **texts, **{key: _json(value) for key, value in records.items()}}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _checksum(metadata: Mapping[str, str], graph: onnx.GraphProto, program: bytes) -> str:
    """SHA-256 of all that surrounds the program, and of the head of the program file, which holds its own checksum."""
    digest = hashlib.sha256(_json({k: v for k, v in metadata.items() if k != "checksum"}).encode())
    digest.update(graph.name.encode())
    for value in (*graph.input, *graph.output, *graph.node):
        digest.update(value.SerializeToString(deterministic=True))
    digest.update(program[:_PROGRAM_HEAD_BYTES])
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------- reading


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
    if not any(node.op_type == OPERATOR for node in proto.graph.node):
        if proto.producer_name == PRODUCER:
            raise AxmodelError("is cut off: it has no NPU subgraph")
        raise AxmodelError(
            "is an ONNX file without NPU subgraphs; build it first" if proto.graph.node else "is no .axmodel"
        )
    return proto


def _read(proto: onnx.ModelProto) -> Axmodel:
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    if _FORMAT_KEY not in metadata:
        if proto.producer_name == PRODUCER:
            raise AxmodelError("is cut off: its metadata are missing")
        raise AxmodelError(_refusal(_describe(proto)))
    if metadata[_FORMAT_KEY] != FORMAT:
        found = metadata[_FORMAT_KEY]
        raise AxmodelError(f"has layout version {found!r}; this npusim reads {FORMAT}: build the model again")
    missing = [key for key in (*_TEXTS, *_RECORDS, "checksum") if key not in metadata]
    if missing:
        raise AxmodelError(f"is cut off: its metadata lack {', '.join(missing)}")
    blobs = [tensor for tensor in proto.graph.initializer if tensor.name == PROGRAM]
    if len(blobs) != 1 or not blobs[0].raw_data:
        raise AxmodelError(f"is damaged: it does not hold its program ({PROGRAM})")
    data = blobs[0].raw_data
    program = container.from_bytes(data)
    if _checksum(metadata, proto.graph, data) != metadata["checksum"]:
        raise AxmodelError("is damaged: its checksum does not match")
    records = {key: json.loads(metadata[key]) for key in _RECORDS}
    for key, record in records.items():
        if not isinstance(record, list if key == "layers" else dict):
            raise TypeError(f"{key} is a {type(record).__name__}")
    description = _describe(proto)
    inputs, outputs = (
        tuple(_labelled(port, records["tensors"]) for port in ports)
        for ports in (description.inputs, description.outputs)
    )
    _check_ports(program, inputs, outputs)
    return Axmodel(
        name=proto.graph.name, program=program, inputs=inputs, outputs=outputs,
        **{key: metadata[key] for key in _TEXTS},
        hardware_values=dict(records["hardware_values"]), versions=dict(records["versions"]),
        config=dict(records["config"]),
        layers=tuple(_layer(*entry) for entry in records["layers"]),
    )  # fmt: skip


def _layer(name: str, op: str, source: list[str]) -> LayerName:
    if not all(isinstance(text, str) for text in (name, op, *source)):
        raise TypeError("a layer's names are texts")
    return LayerName(name=name, op=op, source=tuple(source))


def _labelled(port: Port, tensors: Mapping[str, Mapping[str, Any]]) -> Port:
    label = tensors.get(port.name)
    if label is None:
        return port
    scale, zero = float(label["scale"]), int(label["zero_point"])
    return Port(name=port.name, dtype=port.dtype, shape=port.shape, scale=scale, zero_point=zero)


def _check_ports(program: Program, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> None:
    """Refuse ports that are not the program's segments of the same kind and size."""
    for kind, ports in ((SegmentKind.INPUT, inputs), (SegmentKind.OUTPUT, outputs)):
        segments: dict[str, Segment] = {s.name: s for s in program.segments if s.kind is kind}
        for port in ports:
            if port.dtype not in ELEMENT_TYPES or any(extent < 0 for extent in port.shape):
                raise AxmodelError(f"{kind} {port} has no fixed type and shape")
            held = segments.pop(port.name, None)
            if held is None:
                raise AxmodelError(f"its program has no {kind} {port.name!r}")
            if held.size_bytes != port.size_bytes:
                sizes = f"{held.size_bytes} bytes in the program, {port.size_bytes} by its shape"
                raise AxmodelError(f"{kind} {port.name!r} has {sizes}")
        if segments:
            raise AxmodelError(f"{kind} {next(iter(segments))!r} of its program is not declared")


# ------------------------------------------------------------------------------------------------------- describing


def _describe(proto: onnx.ModelProto) -> Description:
    constants = {tensor.name for tensor in proto.graph.initializer}
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return Description(
        name=proto.graph.name,
        producer=" ".join(part for part in (proto.producer_name, proto.producer_version) if part),
        inputs=tuple(_port(value) for value in proto.graph.input if value.name not in constants),
        outputs=tuple(_port(value) for value in proto.graph.output),
        npu_mode=_npu_mode(metadata),
        nodes=tuple(node.name or node.op_type for node in proto.graph.node if node.op_type == OPERATOR),
        runnable=_FORMAT_KEY in metadata or proto.producer_name == PRODUCER,
    )


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    shape = tuple(int(dim.dim_value) if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
    return Port(name=value.name, dtype=_DTYPE_NAMES.get(tensor.elem_type, ""), shape=shape)


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
