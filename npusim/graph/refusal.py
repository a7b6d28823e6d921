"""What can be wrong with a model, and the rules that say what can be lowered.

A constraint is a predicate whose docstring completes the sentence "it needs ...": the refusal message and the support
table are made from it. The rules themselves live in ``rules``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from npusim.errors import NpusimError

if TYPE_CHECKING:
    from .ir import Graph, Node, Tensor
    from .lowering import Lowering
    from .source import SourceNode
    from .target import Target

CPU_WAY_OUT = "allow CPU subgraphs (--cpu_fallback), or quantize the model differently"


class ModelError(NpusimError, ValueError):
    """A file is no ONNX model that can be read: damaged, inconsistent, or reaching outside of its folder.

    Attributes:
        source: the file's name as the user gave it, or an empty string.
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(f"{source}: {message}" if source else message)
        self.source = source


class UnsupportedError(NpusimError):
    """The model is sound, but a part of it has no integer operation.

    Attributes:
        node: name of the ONNX node, or an empty string where the model as a whole is meant.
        op: its operator.
        constraint: what it would have needed.
        way_out: what the user can do.
    """

    def __init__(self, *, node: str, op: str, constraint: str, way_out: str = CPU_WAY_OUT) -> None:
        where = f"node {node!r} ({op}): " if node else ""
        super().__init__(f"{where}{constraint}; {way_out}")
        self.node = node
        self.op = op
        self.constraint = constraint
        self.way_out = way_out


class Refusal(Exception):
    """A rule cannot lower a node; caught where the value becomes a CPU subgraph, so it never leaves ``npusim.graph``.

    Attributes:
        node: the ONNX node.
        constraint: what it would have needed, as a clause.
    """

    def __init__(self, node: SourceNode, constraint: str) -> None:
        super().__init__(constraint)
        self.node = node
        self.constraint = constraint


Predicate = Callable[["Lowering", "SourceNode"], bool]
Rule = Callable[["Lowering", "SourceNode", "Target"], "Tensor"]
AnyRule = TypeVar("AnyRule", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How one ONNX operator is lowered.

    Attributes:
        op: ONNX operator, with its domain unless that is the default one.
        attributes: those the rule understands; any other one on a node is refused.
        constraints: checked in this order before the rule runs.
        rule: returns the tensor that holds the quantized result.
    """

    op: str
    attributes: frozenset[str]
    constraints: tuple[Predicate, ...]
    rule: Rule

    @property
    def sentences(self) -> tuple[str, ...]:
        """The constraints in words."""
        return tuple(sentence(constraint) for constraint in self.constraints)


def sentence(constraint: Predicate) -> str:
    """The words of one constraint: its docstring's first line."""
    words = (constraint.__doc__ or constraint.__name__).splitlines()[0].rstrip(".")
    return f"it needs {words[0].lower()}{words[1:]}"


ENTRIES: dict[str, Entry] = {}
"""Every operator with a rule of its own, by name."""


def lowers(*ops: str, attributes: str = "", needs: Iterable[Predicate] = ()) -> Callable[[AnyRule], AnyRule]:
    """Register a rule for ONNX operators.

    Args:
        ops: operator names, with the domain in front unless it is the default one.
        attributes: names of the attributes the rule understands, separated by blanks.
        needs: constraints that hold before the rule runs.
    """

    def register(rule: AnyRule) -> AnyRule:
        for op in ops:
            assert op not in ENTRIES, f"two rules for {op}"
            ENTRIES[op] = Entry(op=op, attributes=frozenset(attributes.split()), constraints=tuple(needs), rule=rule)
        return rule

    return register


def check_attributes(node: SourceNode, understood: Iterable[str]) -> None:
    """Refuse a node with an attribute that its rule does not know: ignoring it could change the meaning.

    Raises:
        Refusal: naming the attribute.
    """
    unknown = sorted(set(node.attributes) - set(understood))
    if unknown:
        raise Refusal(node, f"its attribute {unknown[0]!r} is not understood")


def check(entry: Entry, lowering: Lowering, node: SourceNode) -> None:
    """Refuse a node that breaks one of its operator's constraints.

    Raises:
        Refusal: with the first broken constraint in words.
    """
    check_attributes(node, entry.attributes)
    for constraint in entry.constraints:
        if not constraint(lowering, node):
            raise Refusal(node, sentence(constraint))


def refuse_empty(graph: Graph) -> None:
    """Refuse a graph with a tensor that has no elements: there is nothing to compute, and no room to put it.

    Raises:
        UnsupportedError: naming the node that makes or reads it, or the input.
    """
    way_out = "fix the shapes, or take it out of the model"
    for name in (*graph.inputs, *graph.outputs):
        if graph.tensor(name).size == 0 and name not in graph.producers:
            what = f"tensor {graph.tensor(name)} of the model's interface has no elements"
            raise UnsupportedError(node="", op="", constraint=what, way_out=way_out)
    for node in graph.nodes:
        for name in (*node.inputs, *node.outputs):
            if graph.tensor(name).size == 0:
                first = node.source[0] if node.source else node.name
                what = f"its tensor {graph.tensor(name)} has no elements"
                raise UnsupportedError(node=first, op=node.op, constraint=what, way_out=way_out)


def unsupported(node: Node) -> UnsupportedError:
    """The error for a CPU node of the integer graph, for a caller whose user did not allow CPU subgraphs."""
    attributes = node.attributes
    return UnsupportedError(node=attributes["blame"], op=attributes["blame_op"], constraint=attributes["reason"])
