"""Where a model is quantized: which tensors carry integers, which share their parameters, and in which type.

Decided from the float graph alone, before anything is measured. The rules mirror what ``npusim.graph`` joins into one
integer operation, so that no rounding is put inside of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from npusim.graph.refusal import ENTRIES
from npusim.graph.rules.expression import POINTWISE
from npusim.graph.rules.movement import MOVES
from npusim.graph.source import SourceGraph, SourceNode

from .editor import drop_unused
from .layers import FLOAT, Choice

BOUNDS = ("Relu", "Clip")
"""Operators that become the clamp of the operation in front of them."""

_KEEPING = ("GlobalMaxPool", "ReduceMax", "ReduceMin")
"""Operators that compute nothing new: their result is among the elements of their operand, as for movement."""

_PRODUCTS = ("Conv", "MatMul")
"""Products that take a constant Add behind them as their bias."""

_LONGEST = 60
"""Operators of the longest pointwise chain; the import tries 64."""

BITS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16}

JOINING = {"Concat": slice(None), "ScatterElements": slice(0, None, 2), "ScatterND": slice(0, None, 2)}
"""Movement that takes elements of several operands, which may have ranges of their own: which operands these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tensors with the same parameters, because only movement lies between them.

    Attributes:
        name: of the tensor the others come from.
        members: all of them, in topological order.
        roots: those whose values are not among another one's.
        data_type: in which integers they are kept.
    """

    name: str
    members: tuple[str, ...]
    roots: tuple[str, ...]
    data_type: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement:
    """The plan of quantization of one float graph.

    Attributes:
        graph: the float graph with types.
        choices: types of every node by its name; nodes that become one operation have one choice.
        inner: values that are never rounded, because they are inside of one operation.
        groups: by tensor; tensors that stay float have none.
    """

    graph: SourceGraph
    choices: Mapping[str, Choice]
    inner: frozenset[str]
    groups: Mapping[str, Group]

    @property
    def roots(self) -> tuple[str, ...]:
        """Tensors whose ranges have to be known, in topological order."""
        return tuple(dict.fromkeys(root for group in self.groups.values() for root in group.roots))

    def read_type(self, node: SourceNode, value: str) -> str:
        """The type in which a node reads a tensor."""
        group = self.groups.get(value)
        if group is None or is_movement(node):
            return FLOAT if group is None else group.data_type
        return self.choices[node.name].data_type


def place(graph: SourceGraph, choices: Mapping[str, Choice]) -> Placement:
    """Decide where ``graph`` is quantized.

    Args:
        graph: float, with types; see ``fold``.
        choices: types of every node; see ``choose_types``.
    """
    graph = drop_unused(graph)
    chosen = dict(choices)
    search = _Search(graph, chosen)
    search.settle()
    _unite_choices(graph, chosen, search.inner)
    groups = _groups(graph, chosen, search.inner)
    return Placement(graph=graph, choices=chosen, inner=frozenset(search.inner), groups=groups)


def is_live(graph: SourceGraph, value: str) -> bool:
    """Whether a value is a float32 activation."""
    return bool(value) and value not in graph.constants and graph.types[value].dtype == "f32"


def is_movement(node: SourceNode) -> bool:
    """Whether a node's result holds elements of its operands and nothing else."""
    if node.op == "Resize":
        return bool(node.attributes.get("mode", "nearest") == "nearest")
    if node.attributes.get("reduction", "none") != "none":  # a scatter that adds
        return False
    return node.op in MOVES or node.op in _KEEPING


def moved_values(graph: SourceGraph, node: SourceNode) -> list[str]:
    """The operands whose elements a movement takes, constants included."""
    names = node.inputs[JOINING.get(node.op, slice(1))]
    return [name for name in names if name and graph.types[name].dtype == "f32"]


class _Search:
    """Which values lie inside of one integer operation.

    Every value has a leaf: the rounded tensor it is a function of, itself where no such function is known. A value
    inside of a chain is read only by the rest of the chain.
    """

    def __init__(self, graph: SourceGraph, choices: dict[str, Choice]) -> None:
        self.graph = graph
        self.choices = choices
        self.inner: set[str] = set()
        self.rounded: set[str] = set()  # values that were found to be no inner ones
        self.readers: dict[str, list[SourceNode]] = {}
        for node in graph.nodes:
            for name in filter(None, node.inputs):
                self.readers.setdefault(name, []).append(node)

    def settle(self) -> None:
        """Find the largest set of inner values that is consistent."""
        while True:
            leaves, joined = self._walk()
            inner = {value for value in leaves if self._is_inner(value, leaves, joined)}
            rounded = {value for value, leaf in leaves.items() if leaf != value and value not in inner}
            lost = self._without_operation(leaves, joined)
            if rounded <= self.rounded and not lost:
                self.inner = inner
                return
            self.rounded |= rounded
            for name in lost:
                self.choices[name] = replace(self.choices[name], data_type=FLOAT)

    def _walk(self) -> tuple[dict[str, str], set[str]]:
        """The leaf of every live value, and the values that join what reads them."""
        leaves = {name: name for name in self.graph.inputs if is_live(self.graph, name)}
        depth: dict[str, int] = {}
        joined: set[str] = set()
        for node in self.graph.nodes:
            operands = [name for name in node.inputs if is_live(self.graph, name)]
            follows = self._joins(node, operands, joined)
            if follows:
                joined.add(follows)
            leaf = "" if follows else self._expression_leaf(node, operands, leaves)
            length = 1 + max((depth.get(name, 0) for name in operands), default=0)
            for value in node.outputs:
                if not is_live(self.graph, value):
                    continue
                inside = leaf and value not in self.rounded and length < _LONGEST
                leaves[value] = leaf if inside else value
                depth[value] = length if inside else 0
        return leaves, joined

    def _expression_leaf(self, node: SourceNode, operands: list[str], leaves: Mapping[str, str]) -> str:
        """The one rounded tensor that a pointwise node is a function of, or ""."""
        if self.choices[node.name].data_type == FLOAT or not self.is_pointwise(node):
            return ""
        found = {leaves[name] for name in operands}
        if len(found) != 1:
            return ""
        (leaf,) = found
        shape = self.graph.types[node.output].shape
        return leaf if self.graph.types[leaf].shape == shape else ""

    def is_pointwise(self, node: SourceNode) -> bool:
        """Whether a node's constant operands allow it in a function of one variable."""
        constants = [self.graph.constants[name] for name in node.inputs if name in self.graph.constants]
        if node.op == "PRelu" and self.choices[node.name].data_type in ("U8", "S8"):  # a table for each channel
            return all(array.size == max(array.shape, default=1) for array in constants)
        return node.op in POINTWISE and all(array.size == 1 for array in constants)

    def _joins(self, node: SourceNode, operands: list[str], joined: set[str]) -> str:
        """The operand whose operation a node becomes part of, or ""."""
        if len(operands) != 1 or self.choices[node.name].data_type == FLOAT:
            return ""
        (value,) = operands
        producer = self.graph.producers.get(value)
        if producer is None or self.graph.uses[value] != 1 or self.choices[producer.name].data_type == FLOAT:
            return ""
        if self.graph.types[value].shape != self.graph.types[node.output].shape:
            return ""
        is_operation = producer.op in ENTRIES and not is_movement(producer)
        if node.op in BOUNDS and self.is_pointwise(node):
            pointwise = self.is_pointwise(producer) and not any(name in joined for name in producer.inputs)
            lone = pointwise and sum(is_live(self.graph, name) for name in producer.inputs) == 1
            return value if is_operation and not lone else ""
        if producer.op not in _PRODUCTS or producer.input(2):
            return ""
        return value if self._is_bias(node, producer) or self._is_factor(node, producer) else ""

    def _is_bias(self, node: SourceNode, product: SourceNode) -> bool:
        array = next((self.graph.constants[name] for name in node.inputs if name in self.graph.constants), None)
        if node.op != "Add" or array is None:
            return False
        axis = 1 if product.op == "MatMul" else len(self.graph.types[product.output].shape) - 1  # from the last
        extents = (1,) * (axis - array.ndim) + array.shape
        channels = self.graph.types[product.output].shape[-axis]
        return array.size in (1, channels) and extents[-axis] in (1, channels) and array.size == extents[-axis]

    def _is_factor(self, node: SourceNode, product: SourceNode) -> bool:
        if node.op not in ("Mul", "Div") or product.op != "MatMul":
            return False
        constant = next((name for name in node.inputs if name in self.graph.constants), "")
        if not constant or (node.op == "Div" and node.inputs[1] != constant):
            return False
        array = self.graph.constants[constant]
        return array.size == 1 and float(array.reshape(())) > 0

    def _is_inner(self, value: str, leaves: Mapping[str, str], joined: set[str]) -> bool:
        if value in joined:
            return True
        leaf = leaves[value]
        if leaf == value or value in self.graph.outputs or value in self.rounded:
            return False
        readers = self.readers.get(value, [])
        return bool(readers) and all(leaves.get(reader.output) == leaf or self._chain_end(reader, leaf, leaves)
                                     for reader in readers)  # fmt: skip

    def _chain_end(self, reader: SourceNode, leaf: str, leaves: Mapping[str, str]) -> bool:
        """Whether a reader whose own result is rounded is still a function of the leaf."""
        operands = [name for name in reader.inputs if is_live(self.graph, name)]
        return self._expression_leaf(reader, operands, leaves) == leaf

    def _without_operation(self, leaves: Mapping[str, str], joined: set[str]) -> list[str]:
        """Pointwise nodes that are no function of one variable and have no other operation."""
        lost = []
        for node in self.graph.nodes:
            if node.op in ENTRIES or node.op not in POINTWISE or self.choices[node.name].data_type == FLOAT:
                continue
            operands = [name for name in node.inputs if is_live(self.graph, name)]
            if operands and not self._expression_leaf(node, operands, leaves) and joined.isdisjoint(operands):
                lost.append(node.name)
        return lost


def _unite_choices(graph: SourceGraph, choices: dict[str, Choice], inner: Iterable[str]) -> None:
    """Give nodes that become one operation one choice: the latest that the user made for any of them."""
    sets = _Sets(node.name for node in graph.nodes)
    readers: dict[str, list[str]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node.name)
    for value in inner:
        for reader in readers[value]:
            sets.join(graph.producers[value].name, reader)
    for names in sets.members().values():
        best = max((choices[name] for name in names), key=lambda choice: choice.rank)
        for name in names:
            choices[name] = best


def _groups(graph: SourceGraph, choices: Mapping[str, Choice], inner: set[str]) -> dict[str, Group]:
    values = [name for name in graph.inputs if is_live(graph, name)]
    values += [name for node in graph.nodes for name in node.outputs if is_live(graph, name) and name not in inner]
    sets = _Sets(values)
    moved: set[str] = set()
    for node in graph.nodes:
        if not is_movement(node) or choices[node.name].data_type == FLOAT:
            continue
        operands = [name for name in moved_values(graph, node) if is_live(graph, name)]
        results = [name for name in node.outputs if is_live(graph, name)]
        if not operands:
            continue
        moved.update(results)  # the result of a Concat has no range of its own either
        if node.op not in JOINING:
            for result in results:
                sets.join(operands[0], result)
    demands = _demands(graph, choices, inner)
    groups: dict[str, Group] = {}
    for members in sets.members().values():
        wanted = [demand for name in members for demand in demands.get(name, [])]
        integer = [demand for demand in wanted if demand[2] != FLOAT]
        if not integer or (len(integer) < len(wanted) and not any(demand[0] for demand in integer)):
            continue  # float on all sides; movement between them is no reason to round
        data_type = max(integer, key=lambda demand: demand[:2])[2]
        roots = tuple(name for name in members if name not in moved)
        group = Group(name=members[0], members=tuple(members), roots=roots, data_type=data_type)
        groups |= dict.fromkeys(members, group)
    for node in graph.nodes:
        if node.op in JOINING and node.output in groups:
            groups |= _as_it_comes(node, groups, demands)
    return groups


def _as_it_comes(
    node: SourceNode, groups: Mapping[str, Group], demands: Mapping[str, list[tuple[int, int, str]]]
) -> dict[str, Group]:
    """The group of a Concat's result in the operands' widest type, where movement alone reads it."""
    group = groups[node.output]
    operands = [groups[name] for name in node.inputs if name in groups]
    if not operands or any(bits for name in group.members for bits, _, _ in demands.get(name, [])):
        return {}
    widest = max(operands, key=lambda operand: BITS[operand.data_type])
    return dict.fromkeys(group.members, replace(group, data_type=widest.data_type))


def _demands(
    graph: SourceGraph, choices: Mapping[str, Choice], inner: set[str]
) -> dict[str, list[tuple[int, int, str]]]:
    """What producers and readers want of each value: bits, rank and type, a producer's first.

    Movement takes what comes, unless the user has chosen: it asks for no bits.
    """
    demands: dict[str, list[tuple[int, int, str]]] = {}
    for node in graph.nodes:
        choice = choices[node.name]
        passive = is_movement(node) and choice.rank < 0
        demand = (0 if passive else BITS.get(choice.data_type, 0), choice.rank, choice.data_type)
        for value in (*node.outputs, *node.inputs):
            if is_live(graph, value) and value not in inner:
                demands.setdefault(value, []).append(demand)
    return demands


class _Sets:
    """Disjoint sets of names that grow together."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parents = {name: name for name in names}

    def find(self, name: str) -> str:
        """The name that stands for a set."""
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name

    def join(self, a: str, b: str) -> None:
        """Make one set of two; the first one's name stands for both."""
        self._parents[self.find(b)] = self.find(a)

    def members(self) -> dict[str, list[str]]:
        """All sets by the name that stands for them, in the order of the names."""
        found: dict[str, list[str]] = {}
        for name in self._parents:
            found.setdefault(self.find(name), []).append(name)
        return found
