"""Passes over the integer graph that keep its meaning: less movement, nothing unused, rolls named as such.

Run by ``npusim.graph.load`` behind ``lowering``. Each takes a graph and returns a new one; none knows ONNX.
"""

from __future__ import annotations

from dataclasses import replace

from .ir import Graph, Node, with_nodes
from .ops import MOVEMENT


def drop_unused(graph: Graph) -> Graph:
    """Remove nodes and tensors that no result needs.

    Requires: topological order. Ensures: every node's result is read, or is a result of the graph.
    """
    wanted = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return with_nodes(graph, reversed(kept))


def _rename_inputs(node: Node, names: dict[str, str]) -> Node:
    if not any(name in names for name in node.inputs):
        return node
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))


def share_equal(graph: Graph) -> Graph:
    """Compute once what several nodes compute: same operation, operands, attributes and type of the result.

    Requires: topological order. Ensures: no two nodes are equal but for their names; results of the graph stay.
    """
    seen: dict[object, str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        node = _rename_inputs(node, renamed)
        result = graph.output_of(node)
        key = (node.op, node.inputs, tuple(node.attributes.items()), result.dtype, result.shape, result.quantization)
        if key in seen and node.output not in graph.outputs:
            renamed[node.output] = seen[key]
            continue
        seen.setdefault(key, node.output)
        kept.append(node)
    return with_nodes(graph, kept)


def join_movement(graph: Graph) -> Graph:
    """Join reshapes with reshapes and transposes with transposes, and drop those that change nothing.

    Requires: topological order. Ensures: no reshape reads a reshape, no transpose a transpose that nobody else reads,
    and none of them leaves its operand as it is, unless the result is one of the graph's.
    """
    producers: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        node = _joined(_rename_inputs(node, renamed), producers)
        if _changes_nothing(graph, node) and node.output not in graph.outputs:
            renamed[node.output] = node.inputs[0]
            continue
        kept.append(node)
        producers |= dict.fromkeys(node.outputs, node)
    return drop_unused(with_nodes(graph, kept))


def _joined(node: Node, producers: dict[str, Node]) -> Node:
    """``node`` reading what its producer reads, where both are of one kind."""
    before = producers.get(node.inputs[0]) if node.inputs else None
    if before is None or before.op != node.op or node.op not in ("reshape", "transpose"):
        return node
    source = tuple(dict.fromkeys((*before.source, *node.source)))
    if node.op == "reshape":
        return replace(node, inputs=before.inputs, source=source)
    inner = before.attributes["permutation"]
    permutation = tuple(inner[axis] for axis in node.attributes["permutation"])
    return replace(node, inputs=before.inputs, source=source, attributes={"permutation": permutation})


def _changes_nothing(graph: Graph, node: Node) -> bool:
    if node.op == "transpose":
        permutation = node.attributes["permutation"]
        return bool(permutation == tuple(range(len(permutation))))
    if node.op == "reshape":
        (source,) = graph.inputs_of(node)
        result = graph.output_of(node)
        return source.shape == result.shape and source.quantization == result.quantization
    return False


def label_movement(graph: Graph) -> Graph:
    """Give what is only moved the quantization of what it is moved to.

    Requires: topological order. Ensures: a tensor without quantization that data movement alone turns into a quantized
    one has its quantization.
    """
    tensors = dict(graph.tensors)
    for node in reversed(graph.nodes):
        if node.op not in MOVEMENT and node.attributes.get("mode") != "nearest":
            continue
        quantization = tensors[node.output].quantization
        sources = node.inputs[:1] if node.op == "gather" else node.inputs
        for name in sources:
            if (
                node.op != "reinterpret"
                and quantization is not None
                and quantization.per_tensor
                and tensors[name].quantization is None
            ):
                tensors[name] = replace(tensors[name], quantization=quantization)
    return with_nodes(graph, graph.nodes, tensors)


def find_rolls(graph: Graph) -> Graph:
    """Turn concat(slice(x, n..), slice(x, ..n)) into a roll, and rolls of rolls into one.

    Requires: topological order. Ensures: a cyclic shift whose parts nobody else reads is a single ``roll``.
    """
    producers = dict(graph.producers)
    kept = []
    for node in graph.nodes:
        found = _roll(graph, node, producers)
        if found is not None:
            node = found
            before = producers.get(node.inputs[0])
            if before is not None and before.op == "roll":
                node = _joined_roll(before, node)
            producers[node.output] = node
        kept.append(node)
    return drop_unused(with_nodes(graph, kept))


def _roll(graph: Graph, node: Node, producers: dict[str, Node]) -> Node | None:
    if node.op != "concat" or len(node.inputs) != 2:
        return None
    parts = [producers.get(name) for name in node.inputs]
    behind, front = parts
    if behind is None or front is None or behind.op != "slice" or front.op != "slice":
        return None
    if behind.inputs != front.inputs or {*behind.attributes["steps"], *front.attributes["steps"]} != {1}:
        return None
    axis = node.attributes["axis"]
    source, result = graph.tensor(behind.inputs[0]), graph.output_of(node)
    cut = graph.output_of(front).shape[axis]
    starts = [0] * len(source.shape)
    fits = source.shape == result.shape and front.attributes["starts"] == tuple(starts)
    starts[axis] = cut
    if not fits or behind.attributes["starts"] != tuple(starts):
        return None
    names = tuple(dict.fromkeys((*behind.source, *front.source, *node.source)))
    shift = source.shape[axis] - cut
    return replace(
        node, op="roll", inputs=behind.inputs, attributes={"axes": (axis,), "shifts": (shift,)}, source=names
    )


def _joined_roll(before: Node, node: Node) -> Node:
    attributes = {
        "axes": (*before.attributes["axes"], *node.attributes["axes"]),
        "shifts": (*before.attributes["shifts"], *node.attributes["shifts"]),
    }
    source = tuple(dict.fromkeys((*before.source, *node.source)))
    return replace(node, inputs=before.inputs, attributes=attributes, source=source)
