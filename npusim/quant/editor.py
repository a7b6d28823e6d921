"""Rewriting a graph of ONNX nodes: who computes a value, who reads it, and exchanging one node for another.

Used by the passes of the float graph optimization. Knows no operator.
"""

from __future__ import annotations

from dataclasses import replace

from npusim.graph.ir import Array
from npusim.graph.source import SourceGraph, SourceNode, ValueType, constant_type


class Editor:
    """A graph while a pass rewrites it.

    Attributes:
        graph: as it was before the pass.
        constants: as they are now.
        types: of all values, those of the graph and new ones.
    """

    def __init__(self, graph: SourceGraph) -> None:
        self.graph = graph
        self.constants: dict[str, Array] = dict(graph.constants)
        self.types: dict[str, ValueType] = dict(graph.types)
        self._nodes: dict[str, SourceNode] = {}
        self._producers: dict[str, str] = {}
        self._readers: dict[str, list[str]] = {}
        for node in graph.nodes:
            self.put(node)

    def put(self, node: SourceNode) -> None:
        """Add a node, in the place of one of the same name."""
        if node.name in self._nodes:
            self.remove(self._nodes[node.name])
        self._nodes[node.name] = node
        for name in filter(None, node.outputs):
            self._producers[name] = node.name
        for name in filter(None, node.inputs):
            self._readers.setdefault(name, []).append(node.name)

    def remove(self, node: SourceNode) -> None:
        """Take a node out; what it computes is then for another one to compute."""
        del self._nodes[node.name]
        for name in node.outputs:
            if self._producers.get(name) == node.name:
                del self._producers[name]
        for name in filter(None, node.inputs):
            self._readers[name].remove(node.name)

    def current(self, node: SourceNode) -> SourceNode | None:
        """What a node of the original graph is by now; None where it is gone."""
        return self._nodes.get(node.name)

    def producer(self, value: str) -> SourceNode | None:
        """The node that computes a value; None for inputs and constants."""
        name = self._producers.get(value)
        return None if name is None else self._nodes[name]

    def readers(self, value: str) -> list[SourceNode]:
        """The nodes that read a value, one entry for each time."""
        return [self._nodes[name] for name in self._readers.get(value, [])]

    def is_private(self, value: str) -> bool:
        """Whether a value is read exactly once, by a node."""
        return len(self._readers.get(value, [])) == 1 and value not in self.graph.outputs

    def number(self, value: str) -> float | None:
        """The value of a constant of one element."""
        array = self.constants.get(value)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def constant(self, name: str, array: Array) -> str:
        """Add a constant under ``name``, or a variation of it that is free."""
        candidate, count = name, 1
        while candidate in self.types:
            count += 1
            candidate = f"{name}:{count}"
        self.constants[candidate] = array
        self.types[candidate] = constant_type(array)
        return candidate

    def redirect(self, old: str, new: str) -> None:
        """Let the readers of one value read another."""
        for node in self.readers(old):
            if node.name in self._nodes:
                inputs = tuple(new if name == old else name for name in node.inputs)
                self.put(replace(node, inputs=inputs))

    def finish(self) -> SourceGraph:
        """The rewritten graph, without what nobody reads."""
        graph = self.graph.with_nodes(self._nodes.values(), constants=self.constants, types=self.types)
        return drop_unused(graph)


def drop_unused(graph: SourceGraph) -> SourceGraph:
    """``graph`` without nodes and constants that no output needs."""
    wanted = set(graph.outputs)
    kept: list[SourceNode] = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    constants = {name: array for name, array in graph.constants.items() if name in wanted}
    return graph.with_nodes(reversed(kept), constants=constants)
