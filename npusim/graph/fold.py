"""Types of every value, and constants for whatever depends on constants and shapes only.

One walk in topological order: the shape arithmetic that exporters leave behind folds away as the shapes become known,
and what it computed decides the shapes behind it. DequantizeLinear of a constant stays, because its integers are what
the machine stores.

Requires: inputs with fixed shapes. Ensures: every value has a type, and no node has only constant inputs but
quantization and what reads it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from npusim.errors import did_you_mean

from .ir import DTYPES, Array
from .refusal import ModelError, UnsupportedError
from .source import ELEMENT_TYPES, SourceGraph, SourceNode, ValueType, constant_type, type_proto

LARGEST_FOLDED = 1 << 26
"""Elements of the largest constant that folding makes: a small file must not fill the memory."""

_LARGEST_DATA = 4096  # elements of a constant that shape inference may look at; shapes and scales are far smaller

NOT_FOLDED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "RandomNormal", "RandomUniform",
                        "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"})  # fmt: skip
"""Quantization is kept for its integers, random numbers because they are no constants."""

FOLDED_ONLY = ("ConstantOfShape", "NonZero", "Range", "Shape", "Size")
"""Operators that exporters use for arithmetic on shapes, and that stand for no operation of the graph."""

SAME_TYPE = frozenset(
    {
        "LayerNormalization", "SimplifiedLayerNormalization", "com.microsoft.Gelu", "com.microsoft.FastGelu",
        "com.microsoft.QuickGelu", "com.microsoft.BiasGelu", "Gelu", "GroupNormalization", "HardSwish", "Mish",
        "RMSNormalization", "Swish",
    }
)  # fmt: skip
"""Operators whose result has the type of their first input, for versions that ONNX itself does not describe."""


def fold(graph: SourceGraph) -> SourceGraph:
    """``graph`` with a type for every value and its constant parts computed.

    Raises:
        ModelError: shapes do not fit together.
        UnsupportedError: a shape depends on data, or a value has an element type the integer graph cannot name.
    """
    walk = _Walk(graph)
    kept = [kept for node in graph.nodes if (kept := walk.visit(node)) is not None]
    live = {name for node in kept for name in node.inputs} | set(graph.outputs)
    constants = {name: array for name, array in walk.constants.items() if name in live}
    return graph.with_nodes(kept, constants=constants, types=walk.types)


class _Walk:
    """What is known so far: constants and types."""

    def __init__(self, graph: SourceGraph) -> None:
        self.graph = graph
        self.constants = dict(graph.constants)
        self.declared = {name: graph.types[name] for name in graph.types if name not in graph.inputs}
        self.types = {name: graph.types[name] for name in graph.inputs}
        self.opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
        for name, array in graph.constants.items():
            self._note_constant(name, array)

    def visit(self, node: SourceNode) -> SourceNode | None:
        """Note what a node computes; the node, or None where it is folded away."""
        if node.op == "Constant":
            self._note_constant(node.output, _constant_value(node))
            return None
        self.types |= self._infer(node)
        shape_like = node.op in ("Shape", "Size") and node.inputs[0] in self.types
        if shape_like or self._is_constant(node):
            inputs = {name: self.constants[name] for name in node.inputs if name in self.constants}
            if shape_like:  # only the shape is read: a stand-in without memory behind it
                value = self.types[node.inputs[0]]
                inputs[node.inputs[0]] = np.broadcast_to(np.zeros((), DTYPES[value.dtype]), value.shape)
            if self._evaluate(node, inputs):
                return None
        if node.op == "Cast" and self.types[node.inputs[0]].dtype == self.types[node.output].dtype:
            return replace(node, op="Identity", attributes={})
        return node

    def _is_constant(self, node: SourceNode) -> bool:
        return node.op not in NOT_FOLDED and all(name in self.constants for name in node.inputs if name)

    def _note_constant(self, name: str, array: Array) -> None:
        try:
            self.types[name] = constant_type(array)
        except KeyError:
            return  # an element type without a name: whoever reads it is refused
        self.constants[name] = array

    def _evaluate(self, node: SourceNode, inputs: dict[str, Array]) -> bool:
        """Compute a node's outputs as constants; False where they would be too large or nobody knows how."""
        outputs = [name for name in node.outputs if name]
        sizes = [int(np.prod(self.types[name].shape, dtype=np.float64)) for name in outputs if name in self.types]
        if max(sizes, default=0) > LARGEST_FOLDED:
            return False
        results = _run(node, inputs, outputs, self.opsets)
        if results is None:
            return False
        for name, array in zip(outputs, results, strict=True):
            self._note_constant(name, np.asarray(array))
        return True

    def _infer(self, node: SourceNode) -> dict[str, ValueType]:
        unknown = next((name for name in node.inputs if name and name not in self.types), None)
        if unknown is not None:
            raise UnsupportedError(
                node=node.name,
                op=node.op,
                constraint=f"its input {unknown!r} has an element type without integer form",
                way_out="use float32, or integers of 8 to 64 bits",
            )
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            return {node.output: self._quantized_type(node)}
        found = self._inferred(node)
        for name in node.outputs:
            if name and name not in found:
                found[name] = self._fallback_type(node, name)
        return found

    def _quantized_type(self, node: SourceNode) -> ValueType:
        if not node.input(0) or not node.input(1):
            raise ModelError(f"node {node.name!r} ({node.op}) is malformed: it needs a tensor and a scale")
        shape = self.types[node.inputs[0]].shape
        integers = [name for name in (node.inputs[0] if node.op == "DequantizeLinear" else "", node.input(2)) if name]
        for name in integers:
            if self.types[name].dtype[0] not in "su":
                dtype = self.types[name].dtype
                raise ModelError(f"node {node.name!r} ({node.op}) is malformed: {name!r} holds {dtype} and no integers")
        if node.op == "DequantizeLinear":
            return ValueType(self.types[node.inputs[1]].dtype, shape)
        if node.input(2):
            return ValueType(self.types[node.inputs[2]].dtype, shape)
        code = int(node.attributes.get("output_dtype", 0)) or onnx.TensorProto.UINT8
        if code not in ELEMENT_TYPES:
            raise UnsupportedError(
                node=node.name, op=node.op, constraint="it makes an element type without integer form",
                way_out="quantize to integers of 8 or 16 bits",
            )  # fmt: skip
        return ValueType(ELEMENT_TYPES[code], shape)

    def _inferred(self, node: SourceNode) -> dict[str, ValueType]:
        """What ONNX's own inference knows of the outputs."""
        domain, _, op = node.op.rpartition(".")
        try:
            schema = onnx.defs.get_schema(op, self.graph.opsets.get(domain, 1), domain)
        except onnx.defs.SchemaError:
            return {}
        names = [name for name in node.inputs if name]
        data = {
            name: numpy_helper.from_array(self.constants[name], name)
            for name in names
            if name in self.constants and self.constants[name].size <= _LARGEST_DATA
        }
        try:
            types = onnx.shape_inference.infer_node_outputs(
                schema, node.proto(), {name: type_proto(self.types[name]) for name in names}, data,
                opset_imports=self.opsets,
            )  # fmt: skip
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
            shapes = ", ".join(f"{self.types[name].dtype}{list(self.types[name].shape)}" for name in names)
            reason = str(error).splitlines()[0] if str(error) else "inference failed"
            raise ModelError(f"node {node.name!r} ({node.op}) cannot take {shapes}: {reason}") from error
        return {name: value for name, proto in types.items() if name and (value := _value_type(proto)) is not None}

    def _fallback_type(self, node: SourceNode, name: str) -> ValueType:
        if node.op in SAME_TYPE and name == node.output:
            return self.types[node.inputs[0]]
        if name in self.declared:
            return self.declared[name]
        if "." not in node.op and not onnx.defs.has(node.op):
            near = did_you_mean(node.op, {schema.name for schema in onnx.defs.get_all_schemas()})
            raise ModelError(f"node {node.name!r} ({node.op}): ONNX has no such operator; {near or 'check its domain'}")
        raise UnsupportedError(
            node=node.name,
            op=node.op,
            constraint=f"the shape of its output {name!r} cannot be inferred",
            way_out="state it as value_info in the model, or remove what depends on data",
        )


def _value_type(proto: onnx.TypeProto) -> ValueType | None:
    """The type, where element type and all extents are known."""
    tensor = proto.tensor_type
    if tensor.elem_type not in ELEMENT_TYPES or not tensor.HasField("shape"):
        return None
    if not all(extent.HasField("dim_value") for extent in tensor.shape.dim):
        return None
    return ValueType(ELEMENT_TYPES[tensor.elem_type], tuple(extent.dim_value for extent in tensor.shape.dim))


def _constant_value(node: SourceNode) -> Array:
    """The tensor of a Constant node.

    Raises:
        UnsupportedError: its value is no dense tensor of numbers.
    """
    attributes = node.attributes
    if "value" in attributes:
        return np.asarray(attributes["value"])
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64),
                        ("value_ints", np.int64)):  # fmt: skip
        if name in attributes:
            return np.asarray(attributes[name], dtype)
    raise UnsupportedError(
        node=node.name, op=node.op, constraint="its value is no dense tensor of numbers", way_out="replace it"
    )


def _run(node: SourceNode, inputs: dict[str, Array], outputs: list[str], opsets: list[Any]) -> list[Array] | None:
    """Evaluate one node with ONNX's reference; None where the reference cannot."""
    graph = helper.make_graph(
        [node.proto()],
        "constant",
        [helper.make_value_info(name, type_proto(constant_type(array))) for name, array in inputs.items()],
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
    )
    try:
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets))
        with np.errstate(all="ignore"):
            return list(evaluator.run(None, inputs))
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError, KeyError, AttributeError):
        return None
