"""Reading an ONNX file: bytes to a checked ``SourceGraph``.

Called by ``npusim.graph.load``. Whatever is wrong with a file becomes one ``ModelError`` here; what operators mean is
decided later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from npusim.errors import UsageError, did_you_mean

from .ir import Array
from .refusal import ModelError, UnsupportedError
from .source import ELEMENT_TYPES, SourceGraph, SourceNode, ValueType, numpy_type, sort_nodes

OLDEST_OPSET = 10
"""The first operator set with QuantizeLinear, ConvInteger and their like."""
DEFAULT_DOMAIN_NAMES = ("", "ai.onnx")

DATA_TYPE_KEY, FLOAT_TYPE = "npusim.data_type", "FP32"
"""Metadata of a node that stays real whatever stands around it: what a quantizer writes on request."""

Shapes = Mapping[str, Sequence[int]]


def read_model(model: str | Path | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, Path | None, str]:
    """The parsed file, the folder its external data may lie in, and the name that errors use.

    Raises:
        ModelError: no such file, or no ONNX protobuf.
    """
    if isinstance(model, onnx.ModelProto):
        return model, None, ""
    folder, label = None, ""
    if isinstance(model, bytes):
        data = model
    else:
        path = Path(model)
        folder, label = path.parent, str(model)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror or error}", label) from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError; no part of what onnx exports
        raise ModelError("is not an ONNX model, or is cut off", label) from error
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError("is not an ONNX model: it has no graph or no operator set", label)
    if proto.functions:
        try:
            proto = onnx.inliner.inline_local_functions(proto)
        except Exception as error:  # whatever the inliner and the parser throw
            raise ModelError(f"has functions that cannot be inlined: {error}", label) from error
    return proto, folder, label


def import_model(
    model: str | Path | bytes | onnx.ModelProto,
    input_shapes: Shapes | None = None,
    constants: Mapping[str, Array] | None = None,
) -> SourceGraph:
    """Read and check a model.

    Args:
        model: path, file content or parsed model.
        input_shapes: extents of inputs by name; needed where the model leaves them open.
        constants: inputs that become constants, such as a scale fed at run time.

    Raises:
        ModelError: the file is damaged, inconsistent, or names data outside of its folder.
        UnsupportedError: the operator set is too old, or it uses control flow or sparse tensors.
        UsageError: ``input_shapes`` or ``constants`` do not fit the model's inputs.
    """
    proto, folder, label = read_model(model)
    try:
        return _import(proto, folder, label, input_shapes or {}, constants or {})
    except ModelError as error:
        raise (error if error.source or not label else ModelError(str(error), label)) from error


def _import(
    proto: onnx.ModelProto, folder: Path | None, label: str, shapes: Shapes, bound: Mapping[str, Array]
) -> SourceGraph:
    opsets = _opsets(proto)
    graph = proto.graph
    if graph.sparse_initializer:
        raise UnsupportedError(
            node="", op="", constraint=f"{label or 'the model'} has sparse initialisers", way_out="make them dense"
        )
    _check_text(graph.name, *(value.name for value in (*graph.initializer, *graph.input, *graph.output)))
    _check_text(*(value.name for value in graph.value_info), *(entry.domain for entry in proto.opset_import))
    constants = {tensor.name: tensor_array(tensor, folder) for tensor in graph.initializer}
    feeds = [value for value in graph.input if value.name not in constants]
    constants |= _bound_constants(bound, feeds)
    feeds = [value for value in feeds if value.name not in bound]
    types = _input_types(feeds, shapes)
    nodes = tuple(_nodes(graph, folder, opsets))
    _check_names(nodes, [*types, *constants], [value.name for value in graph.output])
    types |= _declared_types(graph)
    return SourceGraph(
        name=graph.name or "model",
        opsets=opsets,
        inputs=tuple(value.name for value in feeds),
        outputs=tuple(value.name for value in graph.output),
        nodes=sort_nodes(nodes),
        constants=constants,
        types=types,
        kept_real=_kept_real(graph, nodes),
    )


def _kept_real(graph: onnx.GraphProto, nodes: tuple[SourceNode, ...]) -> frozenset[str]:
    """Names of the nodes that the file marks as real."""
    marked = [
        any((e.key, e.value) == (DATA_TYPE_KEY, FLOAT_TYPE) for e in proto.metadata_props) for proto in graph.node
    ]
    return frozenset(node.name for node, real in zip(nodes, marked, strict=True) if real)


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    opsets = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain in DEFAULT_DOMAIN_NAMES else entry.domain
        opsets[domain] = int(entry.version)
    version = opsets.setdefault("", onnx.defs.onnx_opset_version())
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest:
        raise UnsupportedError(
            node="",
            op="",
            constraint=f"the model uses operator set {version}; {OLDEST_OPSET} to {newest} are understood",
            way_out="convert it with onnx.version_converter",
        )
    return opsets


# ---------------------------------------------------------------------------------------------------------- tensors


def tensor_array(tensor: TensorProto, folder: Path | None) -> Array:
    """The values of a tensor, from the file itself or from its external data.

    Raises:
        ModelError: sizes that do not fit, an unknown element type, or data outside of ``folder``.
    """
    if any(extent < 0 for extent in tensor.dims):
        raise ModelError(f"tensor {tensor.name!r} has a negative extent")
    try:
        if tensor.data_location == TensorProto.EXTERNAL:
            return _external_array(tensor, folder)
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"tensor {tensor.name!r} is damaged: {reason}") from error


def _external_array(tensor: TensorProto, folder: Path | None) -> Array:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    what = f"external data of tensor {tensor.name!r}"
    if folder is None:
        raise ModelError(f"{what} cannot be found: give the model's path instead of its content")
    dtype = numpy_type(tensor.data_type)
    if dtype is None:
        raise ModelError(f"{what} has element type {TensorProto.DataType.Name(tensor.data_type)}")
    home = folder.resolve()
    path = (home / location).resolve()  # follows symbolic links, so that none leads outside
    if not location or not path.is_relative_to(home) or path == home:
        raise ModelError(f"{what} lies outside of the model's folder: {location!r}")
    offset = int(entries.get("offset", 0))
    elements = int(np.prod(tensor.dims, dtype=np.float64))
    length = elements * dtype.itemsize
    if offset < 0 or int(entries.get("length", length)) != length:
        raise ModelError(f"{what} has {entries.get('length')} bytes where its shape needs {length}")
    try:
        if path.stat().st_size < offset + length:
            raise ModelError(f"{what} is cut off: {location!r} ends before byte {offset + length}")
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        raise ModelError(f"{what} cannot be read: {error.strerror or error}") from error
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(tuple(tensor.dims))


# ------------------------------------------------------------------------------------------------------------ nodes


def _nodes(graph: onnx.GraphProto, folder: Path | None, opsets: Mapping[str, int]) -> Iterator[SourceNode]:
    taken: set[str] = set()
    context = onnx.checker.C.CheckerContext()
    context.ir_version = onnx.IR_VERSION
    context.opset_imports = dict(opsets)
    for proto in graph.node:
        _check_text(proto.name, proto.op_type, proto.domain, *proto.input, *proto.output)
        _check_text(*(attribute.name for attribute in proto.attribute))
        domain = "" if proto.domain in DEFAULT_DOMAIN_NAMES else proto.domain
        op = f"{domain}.{proto.op_type}" if domain else proto.op_type
        output = next((name for name in proto.output if name), "")
        name = proto.name or f"{proto.op_type}:{output}"
        while name in taken:
            name = f"{name}:{output or 'again'}"
        taken.add(name)
        if not output:
            raise ModelError(f"node {name!r} ({op}) has no output")
        attributes = {attribute.name: _attribute(name, op, attribute, folder) for attribute in proto.attribute}
        if not domain and onnx.defs.has(op, opsets[""]):
            try:
                onnx.checker.check_node(proto, context)
            except onnx.checker.ValidationError as error:
                raise ModelError(f"node {name!r} ({op}) is malformed: {str(error).splitlines()[0]}") from error
        yield SourceNode(
            name=name,
            op=op,
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes=attributes,
            source=(name,),
        )


def _attribute(node: str, op: str, attribute: AttributeProto, folder: Path | None) -> Any:
    """An attribute as a plain value: bytes become str where they are text, lists become tuples."""
    if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
        raise UnsupportedError(
            node=node,
            op=op,
            constraint="it has a body of its own (control flow)",
            way_out="unroll it, or export the model with fixed conditions",
        )
    if attribute.type == AttributeProto.TENSOR:
        return tensor_array(attribute.t, folder)
    try:
        value = helper.get_attribute_value(attribute)
    except ValueError as error:
        raise ModelError(f"node {node!r} ({op}): attribute {attribute.name!r} is damaged") from error
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, str | int | float):
        return value
    try:
        return tuple(item.decode("utf-8", errors="replace") if isinstance(item, bytes) else item for item in value)
    except TypeError as error:
        raise UnsupportedError(
            node=node, op=op, constraint=f"attribute {attribute.name!r} is neither number, text nor tensor"
        ) from error


def _check_text(*values: str | bytes) -> None:
    """Names are text; the parser hands out what is not as bytes.

    Raises:
        ModelError: a name that is not UTF-8.
    """
    for value in values:
        if not isinstance(value, str):
            raise ModelError(f"it holds a name that is no text: {value!r}")


def _check_names(nodes: tuple[SourceNode, ...], given: Sequence[str], outputs: Sequence[str]) -> None:
    """Every value has one origin and every name that is read exists.

    Raises:
        ModelError: naming the value and who reads it.
    """
    known = set(given)
    for node in nodes:
        for name in node.outputs:
            if name and name in known:
                raise ModelError(f"node {node.name!r} ({node.op}) computes {name!r}, which exists already")
            known.add(name)
    if not outputs:
        raise ModelError("has no outputs")
    known.add("")
    for node in nodes:
        for name in node.inputs:
            if name not in known:
                raise ModelError(f"node {node.name!r} ({node.op}) reads {name!r}, which nothing computes")
    for name in outputs:
        if name not in known or not name:
            raise ModelError(f"the output {name!r} is computed by nothing")


# ------------------------------------------------------------------------------------------------- inputs and shapes


def _bound_constants(bound: Mapping[str, Array], feeds: Sequence[onnx.ValueInfoProto]) -> dict[str, Array]:
    names = [value.name for value in feeds]
    for name in bound:
        if name not in names:
            raise UsageError(f"the model has no input {name!r}, only {', '.join(names)}", did_you_mean(name, names))
    return {name: np.asarray(array) for name, array in bound.items()}


def _input_types(feeds: Sequence[onnx.ValueInfoProto], shapes: Shapes) -> dict[str, ValueType]:
    names = [value.name for value in feeds]
    for name in shapes:
        if name not in names:
            raise UsageError(f"the model has no input {name!r}, only {', '.join(names)}", did_you_mean(name, names))
    return {value.name: _input_type(value, shapes.get(value.name)) for value in feeds}


def _input_type(value: onnx.ValueInfoProto, wanted: Sequence[int] | None) -> ValueType:
    code = value.type.tensor_type.elem_type
    if not value.type.HasField("tensor_type") or code not in ELEMENT_TYPES:
        known = value.type.HasField("tensor_type") and code in TensorProto.DataType.values()
        what = f"element type {TensorProto.DataType.Name(code)}" if known else "a type that is no tensor"
        raise UnsupportedError(
            node="",
            op="",
            constraint=f"input {value.name!r} has {what}",
            way_out="use float32, or integers of 8 to 64 bits",
        )
    tensor = value.type.tensor_type
    declared = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    ranked = tensor.HasField("shape")
    if wanted is None:
        wanted = [extent or 0 for extent in declared]
        if not ranked or None in declared:
            shown = [
                extent if extent is not None else d.dim_param or "?"
                for extent, d in zip(declared, tensor.shape.dim, strict=True)
            ]
            raise UsageError(
                f"input {value.name!r} has {'the shape ' + str(shown) if ranked else 'no shape'}: "
                f"give its extents in input_shapes, as {value.name}:1x3x224x224"
            )
    fits = not ranked or (
        len(wanted) == len(declared) and all(d in (None, w) for d, w in zip(declared, wanted, strict=True))
    )
    if not fits or any(extent < 0 for extent in wanted):
        raise UsageError(f"input {value.name!r} of shape {declared} cannot have the extents {list(wanted)}")
    return ValueType(ELEMENT_TYPES[tensor.elem_type], tuple(int(extent) for extent in wanted))


def _declared_types(graph: onnx.GraphProto) -> dict[str, ValueType]:
    """Types the file states for its values; only a fallback for operators that ONNX cannot infer."""
    types = {}
    inputs = {value.name for value in graph.input}
    for value in (*graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        extents = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
        known = tensor.HasField("shape") and tensor.elem_type in ELEMENT_TYPES and min(extents, default=0) >= 0
        if known and value.name not in inputs:
            types[value.name] = ValueType(ELEMENT_TYPES[tensor.elem_type], tuple(extents))
    return types
