"""Normalizations that exporters write as several real operators become one again.

Looks at real values only, between a DequantizeLinear and a QuantizeLinear: where a quantizer has put integers between
the operators, each of them is its own rounding and stays. Functions of one variable such as GELU need no recognition;
whatever their spelling, they become one table.

Requires: types (``fold``). Ensures: (x - mean(x)) / sqrt(var(x) + eps) * gain + offset over trailing axes is a
LayerNormalization, x / sqrt(mean(x^2) + eps) * gain a SimplifiedLayerNormalization, wherever their inner values have no
other use.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .ir import Array
from .source import SourceGraph, SourceNode, constant_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A spelled-out normalization.

    Attributes:
        op: the operator that does the same.
        value: what is normalized.
        axis: over this axis and those behind it.
        epsilon: added to the variance.
        gain: name of the constant factor, or "".
        offset: name of the constant summand, or "".
        members: the nodes it replaces; the last computes the result.
    """

    op: str
    value: str
    axis: int
    epsilon: float
    gain: str = ""
    offset: str = ""
    members: tuple[SourceNode, ...]


def recognise(graph: SourceGraph) -> SourceGraph:
    """``graph`` with its spelled-out normalizations as one node each."""
    search = _Search(graph)
    by_last: dict[str, Found] = {}
    for node in graph.nodes:
        found = search.normalization(node)
        if found is not None and search.is_private(found):
            by_last[found.members[-1].name] = found
    gone = {member.name for found in by_last.values() for member in found.members}
    nodes: list[SourceNode] = []
    constants = dict(graph.constants)
    types = dict(graph.types)
    for node in graph.nodes:
        if node.name in by_last:
            nodes.append(_fused(by_last[node.name], graph, constants))
        elif node.name not in gone:
            nodes.append(node)
    types |= {name: constant_type(array) for name, array in constants.items() if name not in types}
    return graph.with_nodes(nodes, constants=constants, types=types)


def _fused(found: Found, graph: SourceGraph, constants: dict[str, Array]) -> SourceNode:
    last = found.members[-1]
    gain = found.gain
    if not gain:
        gain = f"{last.name}:gain"
        constants[gain] = np.ones(graph.types[found.value].shape[found.axis :], np.float32)
    inputs = (found.value, gain, found.offset) if found.offset else (found.value, gain)
    return SourceNode(
        name=last.name,
        op=found.op,
        inputs=inputs,
        outputs=last.outputs,
        attributes={"axis": found.axis, "epsilon": found.epsilon},
        source=tuple(dict.fromkeys(name for member in found.members for name in member.source)),
    )


class _Search:
    """Looks backwards from a division for the rest of a normalization."""

    def __init__(self, graph: SourceGraph) -> None:
        self.graph = graph
        self.readers: dict[str, list[SourceNode]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)

    def normalization(self, node: SourceNode) -> Found | None:
        """The normalization whose division is ``node``."""
        parts = self._quotient(node)
        if parts is None:
            return None
        numerator, variance_value, epsilon, members = parts
        square = self._mean(variance_value)
        if square is None:
            return None
        squared, axis, mean_node = square
        base = self._square(squared)
        if base is None:
            return None
        centred, square_node = base
        members = (mean_node, square_node, *members)
        centre = self._centred(numerator)
        if centre is not None:
            value, centre_axis, nodes = centre
            other = self._centred(centred)
            if centred != numerator and (other is None or other[:2] != (value, axis)):
                return None
            members = (*nodes, *(other[2] if other else ()), *members)
            found = Found(op="LayerNormalization", value=value, axis=axis, epsilon=epsilon, members=members)
            return self._scaled(found) if centre_axis == axis else None
        if centred != numerator:
            return None
        return self._scaled(
            Found(op="SimplifiedLayerNormalization", value=numerator, axis=axis, epsilon=epsilon, members=members)
        )

    def is_private(self, found: Found) -> bool:
        """Whether nobody else reads a value inside of it."""
        names = {member.name for member in found.members}
        for member in found.members[:-1]:
            for output in filter(None, member.outputs):
                if output in self.graph.outputs or any(r.name not in names for r in self.readers.get(output, ())):
                    return False
        return True

    def _producer(self, value: str, *ops: str) -> SourceNode | None:
        node = self.graph.producers.get(value)
        return node if node is not None and node.op in ops else None

    def _number(self, value: str) -> float | None:
        array = self.graph.constants.get(value)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def _quotient(self, node: SourceNode) -> tuple[str, str, float, tuple[SourceNode, ...]] | None:
        """``node`` as numerator / sqrt(variance + epsilon): numerator, variance, epsilon and the nodes of it."""
        if node.op == "Div":
            root = self._root(node.inputs[1], 0.5)
            return None if root is None else (node.inputs[0], root[0], root[1], (*root[2], node))
        if node.op == "Mul":
            for numerator, factor in (node.inputs, tuple(reversed(node.inputs))):
                inverse = self._producer(factor, "Reciprocal")
                power = self._root(inverse.inputs[0], 0.5) if inverse is not None else self._root(factor, -0.5)
                if power is not None:
                    nodes = (*power[2], *([inverse] if inverse is not None else []), node)
                    return numerator, power[0], power[1], nodes
        return None

    def _root(self, value: str, exponent: float) -> tuple[str, float, tuple[SourceNode, ...]] | None:
        """``value`` as (variance + epsilon) to the power of ``exponent``."""
        node = self._producer(value, "Sqrt", "Pow")
        if node is None:
            return None
        power = 0.5 if node.op == "Sqrt" else self._number(node.inputs[1])
        total = self._producer(node.inputs[0], "Add")
        if power != exponent or total is None:
            return None
        for variance, summand in (total.inputs, tuple(reversed(total.inputs))):
            epsilon = self._number(summand)
            if epsilon is not None:
                return variance, epsilon, (total, node)
        return None

    def _mean(self, value: str) -> tuple[str, int, SourceNode] | None:
        """``value`` as the mean over trailing axes that stay: its operand, the first of the axes, the node."""
        node = self._producer(value, "ReduceMean")
        if node is None or not node.attributes.get("keepdims", 1):
            return None
        rank = len(self.graph.types[node.inputs[0]].shape)
        axes = self.graph.constants.get(node.input(1)) if node.input(1) else node.attributes.get("axes")
        if axes is None:
            return None
        positive = sorted(int(axis) % rank for axis in axes)
        if not positive or positive != list(range(positive[0], rank)):
            return None
        return node.inputs[0], positive[0], node

    def _square(self, value: str) -> tuple[str, SourceNode] | None:
        """``value`` as a square: its base and the node."""
        node = self._producer(value, "Pow", "Mul")
        if node is None:
            return None
        is_square = node.inputs[0] == node.inputs[1] if node.op == "Mul" else self._number(node.inputs[1]) == 2.0
        return (node.inputs[0], node) if is_square else None

    def _centred(self, value: str) -> tuple[str, int, tuple[SourceNode, ...]] | None:
        """``value`` as x - mean(x): x, the first axis, the nodes."""
        node = self._producer(value, "Sub")
        mean = self._mean(node.inputs[1]) if node is not None else None
        if node is None or mean is None or mean[0] != node.inputs[0]:
            return None
        return node.inputs[0], mean[1], (mean[2], node)

    def _scaled(self, found: Found) -> Found:
        """With the gain and the offset that follow."""
        found = self._followed(found, "Mul", "gain")
        return self._followed(found, "Add", "offset") if found.op == "LayerNormalization" else found

    def _followed(self, found: Found, op: str, what: str) -> Found:
        result = found.members[-1].output
        readers = self.readers.get(result, [])
        if len(readers) != 1 or readers[0].op != op or result in self.graph.outputs:
            return found
        node = readers[0]
        others = [name for name in node.inputs if name != result]
        row = self.graph.types[found.value].shape[found.axis :]
        if len(others) != 1 or not self._is_row(others[0], row):
            return found
        if what == "gain":
            return replace(found, gain=others[0], members=(*found.members, node))
        return replace(found, offset=others[0], members=(*found.members, node))

    def _is_row(self, value: str, row: tuple[int, ...]) -> bool:
        """Whether a value is a constant, quantized or not, of the shape of a row."""
        dequantize = self._producer(value, "DequantizeLinear")
        name = dequantize.inputs[0] if dequantize is not None else value
        return name in self.graph.constants and self.graph.types[value].shape == row
