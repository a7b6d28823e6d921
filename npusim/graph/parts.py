"""The parts of a graph that run one after the other: on the NPU, and, where no integer operation serves, on the CPU.

Called by ``session`` for graphs with CPU nodes. What a part costs, and what runs it, is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .ir import Graph, Node, with_nodes
from .source import ValueType, type_proto


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Nodes that run together.

    Attributes:
        graph: the nodes with what they read from elsewhere as inputs, and what others read as outputs.
        on_cpu: whether they are CPU nodes.
    """

    graph: Graph
    on_cpu: bool


def split(graph: Graph) -> tuple[Part, ...]:
    """Cut a graph into parts of one kind each, as few as possible, every part behind those it reads from.

    Requires: topological order. Ensures: parts alternate between NPU and CPU; a graph without CPU nodes is one part and
    stays as it is. Results that are inputs of the graph belong to no part; one that is wanted twice is computed once.
    """
    levels = min((_levels(graph, on_cpu) for on_cpu in (False, True)), key=len)
    computed = set(graph.outputs) <= graph.producers.keys() and len(set(graph.outputs)) == len(graph.outputs)
    if len(levels) == 1 and not graph.cpu_nodes and computed:
        return (Part(graph=graph, on_cpu=False),)
    readers: dict[str, set[int]] = {}
    for index, nodes in enumerate(levels):
        for name in (name for node in nodes for name in node.inputs):
            readers.setdefault(name, set()).add(index)
    return tuple(_part(graph, index, nodes, readers) for index, nodes in enumerate(levels))


def _levels(graph: Graph, on_cpu: bool) -> list[list[Node]]:
    """The nodes by part, taking as many of one kind as can run, then as many of the other."""
    known = {*graph.inputs, *(name for name, tensor in graph.tensors.items() if tensor.is_constant)}
    levels: list[list[Node]] = []
    pending = list(graph.nodes)
    while pending:
        taken, left = [], []
        for node in pending:
            if (node.op == "cpu") == on_cpu and known.issuperset(node.inputs):
                taken.append(node)
                known.update(node.outputs)
            else:
                left.append(node)
        if taken:
            levels.append(taken)
        pending, on_cpu = left, not on_cpu
    return levels


def _part(graph: Graph, index: int, nodes: list[Node], readers: dict[str, set[int]]) -> Part:
    made = [name for node in nodes for name in node.outputs]
    read = dict.fromkeys(name for node in nodes for name in node.inputs)
    needed = {name for name in made if name in graph.outputs or readers.get(name, set()) - {index}}
    on_cpu = nodes[0].op == "cpu"
    inputs = [name for name in graph.inputs if name in read]
    inputs += [name for name in read if name not in {*inputs, *made} and not graph.tensor(name).is_constant]
    outputs = [name for name in dict.fromkeys(graph.outputs) if name in needed]
    outputs += [name for name in made if name in needed and name not in outputs]
    whole = Graph(
        name=graph.name, inputs=tuple(inputs), outputs=tuple(outputs), nodes=tuple(nodes), tensors=graph.tensors
    )
    return Part(graph=with_nodes(whole, nodes), on_cpu=on_cpu)


def cpu_model(part: Graph) -> bytes:
    """A CPU part as one ONNX model, whose inputs and outputs are called and ordered as the part's."""
    joined = onnx.GraphProto(name=part.name)
    opsets: dict[str, int] = {}
    version = 0
    constants = {name: t.data for name, t in part.tensors.items() if t.data is not None}
    for node in part.nodes:
        proto = onnx.ModelProto.FromString(node.attributes["model"])
        version = max(version, proto.ir_version)
        for entry in proto.opset_import:
            opsets[entry.domain] = max(opsets.get(entry.domain, 1), entry.version)
        _append(joined, proto.graph, node, part)
    present = {tensor.name for tensor in joined.initializer}
    joined.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(data), name)
                              for name, data in constants.items() if name not in present)  # fmt: skip
    joined.input.extend(_value(part, name) for name in part.inputs)
    joined.output.extend(_value(part, name) for name in part.outputs)
    inner = [name for node in part.nodes for name in node.outputs if name not in part.outputs]
    joined.value_info.extend(_value(part, name) for name in inner)
    imports = [helper.make_opsetid(domain, number) for domain, number in sorted(opsets.items())]
    return bytes(helper.make_model(joined, opset_imports=imports, ir_version=version).SerializeToString())


def _append(joined: onnx.GraphProto, body: onnx.GraphProto, node: Node, part: Graph) -> None:
    """Add one node's model; a value inside of it whose name a tensor of the part has gets another one."""
    names = dict(zip((value.name for value in body.input), node.inputs, strict=True))
    names |= zip((value.name for value in body.output), node.outputs, strict=True)
    present = {tensor.name: tensor for tensor in joined.initializer}
    for tensor in body.initializer:
        same = present.get(tensor.name)
        if tensor.name in part.tensors or (same is not None and same != tensor):
            names[tensor.name] = f"{node.name}:{tensor.name}"
        if same is None or tensor.name in names:
            joined.initializer.add().CopyFrom(tensor)
            joined.initializer[-1].name = names.get(tensor.name, tensor.name)
    for value in body.value_info:
        if value.name in part.tensors:
            names[value.name] = f"{node.name}:{value.name}"
        joined.value_info.add().CopyFrom(value)
        joined.value_info[-1].name = names.get(value.name, value.name)
    for inner in body.node:
        added = joined.node.add()
        added.CopyFrom(inner)
        added.input[:] = [names.get(name, name) for name in inner.input]
        added.output[:] = [names.get(name, name) for name in inner.output]


def _value(part: Graph, name: str) -> onnx.ValueInfoProto:
    tensor = part.tensor(name)
    return helper.make_value_info(name, type_proto(ValueType(tensor.dtype, tensor.shape)))
