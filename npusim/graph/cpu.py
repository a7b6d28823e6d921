"""CPU subgraphs: the parts of a model that no integer operation stands for, as ONNX models of their own.

Asked for by ``lowering``. Whether they may run, and where, is the session's business.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .ir import Tensor
from .refusal import Refusal
from .source import SourceGraph, SourceNode, type_proto

if TYPE_CHECKING:
    from .lowering import Lowering

NO_QUANTIZATION = "its result stays real: it needs a QuantizeLinear behind it"

_OLDEST_STAMP = 11
_IR_VERSION = 10  # of the ONNX file format: the newest that knows nothing newer than operator set 21 needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Cone:
    """Nodes whose results only they and ``root`` need.

    Attributes:
        root: the value they compute.
        nodes: in topological order.
        leaves: live values they read from elsewhere.
    """

    root: str
    nodes: tuple[SourceNode, ...]
    leaves: tuple[str, ...]


def subgraph(lowering: Lowering, root: str, refusal: Refusal | None) -> Tensor:
    """The tensor of a value computed on the CPU; values it needs from other subgraphs are made first.

    Args:
        lowering: the graph so far.
        root: name of the ONNX value, real or integer.
        refusal: why it is not an integer operation, where that is known.
    """
    if refusal is not None:
        lowering.refusals.setdefault(refusal.node.name, refusal)
    made: dict[str, Tensor] = {}
    pending = [root]
    while pending:
        value = pending[-1]
        cone = _cone(lowering, value)
        missing = [leaf for leaf in cone.leaves if leaf not in made and lowering.needs_cpu(leaf)]
        if missing:
            pending += missing
            continue
        pending.pop()
        if value not in made:
            made |= _emit(lowering, cone)
    return made[root]


def _cone(lowering: Lowering, root: str) -> Cone:
    source = lowering.source
    top = source.producers[root]
    members = {top.name: top}
    uses_inside: dict[str, int] = {}
    leaves: dict[str, None] = {}
    waiting: list[tuple[int, str]] = []  # the last node first, so that all its readers are known when it is its turn
    known: set[str] = set()

    def look_behind(node: SourceNode) -> None:
        for name in filter(None, node.inputs):
            uses_inside[name] = uses_inside.get(name, 0) + 1
            if name in source.constants:
                continue
            if lowering.needs_cpu(name):
                producer = source.producers[name]
                if producer.name not in known:
                    known.add(producer.name)
                    heapq.heappush(waiting, (-source.positions[producer.name], producer.name))
            else:
                leaves[name] = None

    look_behind(top)
    while waiting:
        position, name = heapq.heappop(waiting)
        node = source.nodes[-position]
        outputs = [output for output in node.outputs if output]
        if all(source.uses.get(output, 0) == uses_inside.get(output, 0) for output in outputs):
            members[name] = node
            look_behind(node)
        else:
            leaves |= dict.fromkeys(output for output in outputs if output in uses_inside)
    ordered = tuple(sorted(members.values(), key=lambda node: source.positions[node.name]))
    return Cone(root=root, nodes=ordered, leaves=tuple(leaves))


def _emit(lowering: Lowering, cone: Cone) -> dict[str, Tensor]:
    """Add the node; its results by ONNX value: the root and whatever else its operator computes for others."""
    source = lowering.source
    inputs = [lowering.real(leaf) if lowering.is_real(leaf) else lowering.integer(leaf) for leaf in cone.leaves]
    top = cone.nodes[-1]
    refused = next((lowering.refusals[n.name] for n in reversed(cone.nodes) if n.name in lowering.refusals), None)
    blamed = refused.node if refused is not None else top
    roots = (cone.root, *(name for name in top.outputs if name != cone.root and source.uses.get(name)))
    results = [
        Tensor(name=lowering.unique(name), shape=source.types[name].shape, dtype=source.types[name].dtype)
        for name in roots
    ]
    whole = SourceNode(
        name=top.name,
        op=top.op,
        inputs=cone.leaves,
        outputs=roots,
        source=tuple(dict.fromkeys(name for node in cone.nodes for name in node.source)),
    )
    lowering.add(
        "cpu",
        inputs,
        results[0],
        whole,
        others=results[1:],
        ops=tuple(node.op for node in cone.nodes),
        blame=blamed.source[0] if blamed.source else blamed.name,
        blame_op=blamed.op,
        reason=refused.constraint if refused is not None else NO_QUANTIZATION,
        model=_model(source, cone, roots),
    )
    for name, tensor in zip(roots, results, strict=True):
        lowering.remember(name, tensor)
    return dict(zip(roots, results, strict=True))


def _model(source: SourceGraph, cone: Cone, roots: tuple[str, ...]) -> bytes:
    """The cone as an ONNX model: inputs are its leaves in order, the root is its first output; values have types."""
    inner = dict.fromkeys(name for node in cone.nodes for name in node.outputs if name and name not in roots)
    read = dict.fromkeys(name for node in cone.nodes for name in node.inputs if name in source.constants)
    graph = helper.make_graph(
        [node.proto() for node in cone.nodes],
        f"{source.name}:{cone.root}",
        [helper.make_value_info(leaf, type_proto(source.types[leaf])) for leaf in cone.leaves],
        [helper.make_value_info(root, type_proto(source.types[root])) for root in roots],
        [numpy_helper.from_array(np.array(source.constants[name], order="C"), name) for name in read],
        value_info=[helper.make_value_info(name, type_proto(source.types[name])) for name in inner],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in _oldest_opsets(source, cone).items()]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString())


def _oldest_opsets(source: SourceGraph, cone: Cone) -> dict[str, int]:
    """Operator sets in which the cone's operators mean the same: a runtime may not know the model's own stamp yet."""
    versions = {**source.opsets, "": min(source.opset, _OLDEST_STAMP)}
    for node in cone.nodes:
        domain, _, op = node.op.rpartition(".")
        if not domain and onnx.defs.has(op, source.opset):
            versions[""] = max(versions[""], onnx.defs.get_schema(op, source.opset).since_version)
    return versions
