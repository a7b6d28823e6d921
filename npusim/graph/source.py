"""The ONNX side of the import: a model's nodes, constants and types as plain records.

Filled by ``import_onnx``, rewritten by ``unpack``, ``fold`` and ``recognise``, consumed by ``lowering``. Integer
operations do not appear here; those are the business of ``ir``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from .ir import DTYPE_NAMES, DTYPES, Array
from .refusal import ModelError

ELEMENT_TYPES: dict[int, str] = {
    TensorProto.FLOAT: "f32",
    TensorProto.UINT8: "u8",
    TensorProto.INT8: "s8",
    TensorProto.UINT16: "u16",
    TensorProto.INT16: "s16",
    TensorProto.INT32: "s32",
    TensorProto.INT64: "s64",
    TensorProto.BOOL: "bool",
    TensorProto.FLOAT16: "f16",
    TensorProto.DOUBLE: "f64",
    TensorProto.UINT32: "u32",
    TensorProto.UINT64: "u64",
}
"""ONNX element types that an integer graph can name."""

ELEMENT_CODES = {name: code for code, name in ELEMENT_TYPES.items()}


@dataclass(frozen=True, slots=True)
class ValueType:
    """Element type (a key of ``ir.DTYPES``) and extents of one value."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceNode:
    """One ONNX node.

    Attributes:
        name: unique in the graph.
        op: operator; with its domain in front (``com.microsoft.Gelu``) unless that is the default one.
        inputs: value names; "" where an optional one is left out.
        outputs: value names; "" where nobody wants one.
        attributes: int, float, str, bytes, tuples of these, or arrays.
        source: names of the model's own nodes that it stands for.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    source: tuple[str, ...] = ()

    def input(self, index: int) -> str:
        """The name of an input, or "" where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    def proto(self) -> onnx.NodeProto:
        """The node as ONNX writes it."""
        domain, _, op = self.op.rpartition(".")
        attributes = {
            key: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            for key, value in self.attributes.items()
        }
        return helper.make_node(op, self.inputs, self.outputs, name=self.name, domain=domain, **attributes)


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceGraph:
    """An ONNX graph whose nodes stand in topological order.

    Attributes:
        name: of the graph.
        opsets: version per domain; "" is the default domain.
        inputs: values fed at run time.
        outputs: results.
        nodes: in topological order.
        constants: initialisers and folded values by name.
        types: of inputs, and after ``fold`` of every value.
        kept_real: names of nodes that the model wants computed in float32.
    """

    name: str
    opsets: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[SourceNode, ...]
    constants: Mapping[str, Array]
    types: Mapping[str, ValueType]
    kept_real: frozenset[str] = frozenset()

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self.opsets.get("", 1)

    @cached_property
    def producers(self) -> dict[str, SourceNode]:
        """The node that computes a value, by the value's name."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    @cached_property
    def uses(self) -> dict[str, int]:
        """How often a value is read, graph outputs included."""
        counts: dict[str, int] = {}
        for name in (*(name for node in self.nodes for name in node.inputs), *self.outputs):
            counts[name] = counts.get(name, 0) + 1
        return counts

    @cached_property
    def positions(self) -> dict[str, int]:
        """Index of each node by its name."""
        return {node.name: index for index, node in enumerate(self.nodes)}

    def with_nodes(self, nodes: Iterable[SourceNode], **changes: Any) -> SourceGraph:
        """This graph with other nodes, sorted topologically.

        Raises:
            ModelError: the nodes form a cycle.
        """
        return replace(self, nodes=sort_nodes(tuple(nodes)), **changes)


def constant_type(array: Array) -> ValueType:
    """The type of a constant.

    Raises:
        KeyError: NumPy type without a name in ``ir.DTYPES``.
    """
    return ValueType(DTYPE_NAMES[array.dtype], tuple(array.shape))


def type_proto(value: ValueType) -> onnx.TypeProto:
    """A value's type as ONNX writes it."""
    return helper.make_tensor_type_proto(ELEMENT_CODES[value.dtype], value.shape)


def numpy_type(code: int) -> np.dtype[Any] | None:
    """NumPy type of an ONNX element type, or None where the integer graph has no name for it."""
    name = ELEMENT_TYPES.get(code)
    return None if name is None else DTYPES[name]


def sort_nodes(nodes: tuple[SourceNode, ...]) -> tuple[SourceNode, ...]:
    """Nodes in topological order; those already in order keep their places.

    Raises:
        ModelError: the nodes form a cycle.
    """
    producers = {output: index for index, node in enumerate(nodes) for output in node.outputs if output}
    missing = [0] * len(nodes)
    readers: list[list[int]] = [[] for _ in nodes]
    for index, node in enumerate(nodes):
        for name in {name for name in node.inputs if name in producers}:
            missing[index] += 1
            readers[producers[name]].append(index)
    if all(producers[name] < index for index, node in enumerate(nodes) for name in node.inputs if name in producers):
        return nodes
    ready = [index for index in reversed(range(len(nodes))) if missing[index] == 0]
    order: list[int] = []
    while ready:
        index = ready.pop()
        order.append(index)
        for reader in readers[index]:
            missing[reader] -= 1
            if missing[reader] == 0:
                ready.append(reader)
    if len(order) < len(nodes):
        stuck = next(node for index, node in enumerate(nodes) if missing[index] > 0)
        raise ModelError(f"node {stuck.name!r} ({stuck.op}) reads its own result: the graph has a cycle")
    return tuple(nodes[index] for index in order)
