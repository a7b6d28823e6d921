"""Which type every node computes in: ``layer_configs`` applied to the float graph.

Called by ``quantize`` before tensors are placed. Selectors that match nothing are refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from npusim.errors import UsageError, did_you_mean
from npusim.graph.refusal import ENTRIES
from npusim.graph.rules.expression import POINTWISE
from npusim.graph.rules.movement import MOVES
from npusim.graph.source import SourceGraph, SourceNode

from .settings import DATA_TYPES, WEIGHT_DATA_TYPES, LayerConfig, QuantSettings

FLOAT = "FP32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The types of one node.

    Attributes:
        data_type: of its activations, one of ``DATA_TYPES``.
        weight_data_type: of its constant weights.
        rank: which entry of ``layer_configs`` chose it; -1 for the default. The higher one wins where nodes share.
    """

    data_type: str = "U8"
    weight_data_type: str = "S8"
    rank: int = -1


def choose_types(
    graph: SourceGraph, settings: QuantSettings, sources: Mapping[str, tuple[str, ...]]
) -> dict[str, Choice]:
    """The types of every node, by its name.

    Args:
        graph: the float graph.
        settings: what the user asks for.
        sources: names that the user's own model has for each node.

    Raises:
        UsageError: a selector matches nothing, or a type does not exist.
    """
    default = Choice(data_type="U16" if settings.highest_mix_precision else "U8")
    choices = {node.name: default if is_known(node) else Choice(data_type=FLOAT) for node in graph.nodes}
    for rank, config in enumerate(settings.layer_configs):
        where = f"layer_configs[{rank}]"
        chosen = _checked_choice(config, rank, where)
        for name in _selected(graph, config, sources, where):
            if chosen.data_type == FLOAT or choices[name].rank >= 0 or choices[name].data_type != FLOAT:
                choices[name] = chosen
    return choices


def is_known(node: SourceNode) -> bool:
    """Whether an operator may have an integer operation at all."""
    return node.op in ENTRIES or node.op in MOVES or node.op in POINTWISE


def _checked_choice(config: LayerConfig, rank: int, where: str) -> Choice:
    _check_type(config.data_type, DATA_TYPES, f"{where}.data_type")
    if config.weight_data_type:
        _check_type(config.weight_data_type, WEIGHT_DATA_TYPES, f"{where}.weight_data_type")
    ways = [bool(config.layer_names), bool(config.op_types),
            bool(config.start_tensor_names or config.end_tensor_names)]  # fmt: skip
    if sum(ways) != 1:
        raise UsageError(f"{where} needs exactly one of layer_names, op_types, or start_tensor_names and "
                         "end_tensor_names")  # fmt: skip
    return Choice(data_type=config.data_type, weight_data_type=config.weight_data_type or "S8", rank=rank)


def _check_type(word: str, allowed: Sequence[str], where: str) -> None:
    if word not in allowed:
        raise UsageError(f"{where} is one of {', '.join(allowed)}, not {word!r}", did_you_mean(word, allowed))


def _selected(
    graph: SourceGraph, config: LayerConfig, sources: Mapping[str, tuple[str, ...]], where: str
) -> Iterable[str]:
    """Names of the nodes that an entry selects."""
    if config.layer_names:
        return _named(graph, config.layer_names, sources, f"{where}.layer_names")
    if config.op_types:
        return _of_types(graph, config.op_types, f"{where}.op_types")
    return _between(graph, config.start_tensor_names, config.end_tensor_names, where)


def _named(graph: SourceGraph, names: Sequence[str], sources: Mapping[str, tuple[str, ...]], where: str) -> list[str]:
    owners: dict[str, list[str]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys((node.name, *sources.get(node.name, ()))):
            owners.setdefault(name, []).append(node.name)
    return [owner for name in names for owner in _found(owners, name, where, "layer")]


def _of_types(graph: SourceGraph, ops: Sequence[str], where: str) -> list[str]:
    owners: dict[str, list[str]] = {}
    for node in graph.nodes:
        owners.setdefault(node.op.rpartition(".")[2], []).append(node.name)
    return [owner for op in ops for owner in _found(owners, op, where, "layer of type")]


def _found(owners: Mapping[str, list[str]], word: str, where: str, what: str) -> list[str]:
    if word not in owners:
        near = did_you_mean(word, owners)
        raise UsageError(f"{where}: the optimized model has no {what} {word!r}", near)
    return owners[word]


def _between(graph: SourceGraph, starts: Sequence[str], ends: Sequence[str], where: str) -> list[str]:
    """Nodes on a path from one of the tensors ``starts`` to one of ``ends``; an empty side is open."""
    values = {*graph.inputs, *graph.producers}
    for name, key in (*((n, "start_tensor_names") for n in starts), *((n, "end_tensor_names") for n in ends)):
        if name not in values:
            raise UsageError(f"{where}.{key}: the model has no tensor {name!r}", did_you_mean(name, values))
    reached = set(starts or graph.inputs)
    behind = set()
    for node in graph.nodes:
        if reached.intersection(node.inputs):
            reached.update(node.outputs)
            behind.add(node.name)
    wanted = set(ends or graph.outputs)
    found = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            if not set(node.outputs).isdisjoint(starts):
                continue
            wanted.update(node.inputs)
            if node.name in behind:
                found.append(node.name)
    if not found:
        raise UsageError(f"{where}: no layer lies between {list(starts)} and {list(ends)}")
    return found[::-1]
