"""The range of every tensor that carries integers, from what calibration saw and from how tensors hang together.

Called by ``quantize`` behind calibration. How a range is chosen from a histogram is the business of ``observers``, what
integers it means that of ``parameters``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from npusim.graph.source import SourceGraph, SourceNode

from .observers import Statistic, choose_range
from .parameters import Range, constant_range
from .placement import BITS, JOINING, Group, Placement, is_live, is_movement, moved_values
from .settings import QuantSettings

SAME_STEP = 1.01
"""Squared ratio of steps up to which rounding errors count as the same: symmetric parameters are then no worse."""

MASKED_MARGIN = 3.0
"""How far the sum of the masked probabilities stays below half a step of one, as an exponent of e."""

JOINED_WIDTH = 1.25
"""How much wider the range of a tensor may become for a Concat to copy it instead of rounding it again."""


def tensor_ranges(
    placement: Placement, statistics: Mapping[str, Statistic], settings: QuantSettings
) -> dict[str, Range]:
    """The range of every tensor that carries integers, by name; equal for tensors that share their parameters."""
    groups = {group.name: group for group in placement.groups.values()}
    ranges = {name: _observed(placement, group, statistics, settings) for name, group in groups.items() if group.roots}
    shared = {name: name for name in groups}
    for node in placement.graph.nodes:
        if node.op in JOINING and node.output in placement.groups:
            _place_joined(placement, node, ranges, shared)
        elif node.op == "Add" and node.output in placement.groups:
            _bound_mask(placement, node, ranges, shared)
    if settings.transformer_opt_level >= 1:
        for node in placement.graph.nodes:
            if node.op == "MatMul" and all(name in placement.groups for name in node.inputs):
                for name in node.inputs:
                    owner = _owner(shared, placement.groups[name].name)
                    ranges[owner] = symmetric_if_no_worse(ranges[owner])
    return {value: ranges[_owner(shared, group.name)] for value, group in placement.groups.items()}


def symmetric_if_no_worse(range_: Range) -> Range:
    """The symmetric range around ``range_`` where its step is hardly larger, else ``range_`` itself.

    Both clip the same values or the symmetric one fewer, so the squared step decides on the error.
    """
    largest = max(-range_.low, range_.high)
    if range_.probability or not range_.high > range_.low:
        return range_
    ratio = 2 * largest / (range_.high - range_.low)
    return replace(range_, symmetric=True) if ratio**2 <= SAME_STEP else range_


def _observed(
    placement: Placement, group: Group, statistics: Mapping[str, Statistic], settings: QuantSettings
) -> Range:
    producers = [placement.graph.producers.get(root) for root in group.roots]
    if all(node is not None and node.op == "Softmax" for node in producers):
        return Range(low=0.0, high=1.0, observer="softmax", probability=True)
    bits = BITS[group.data_type]
    ends = [choose_range(statistics[root], settings.calibration_method, 1 << bits) for root in group.roots]
    observer = settings.calibration_method if bits == 8 else "MinMax"
    return Range(low=min(low for low, _ in ends), high=max(high for _, high in ends), observer=observer)


def _owner(shared: dict[str, str], name: str) -> str:
    while shared[name] != name:
        name = shared[name]
    return name


def _place_joined(placement: Placement, node: SourceNode, ranges: dict[str, Range], shared: dict[str, str]) -> None:
    """The range of what a Concat or a scatter makes of several operands, and which of them share it."""
    result = placement.groups[node.output]
    operands: dict[str, Range] = {}
    for name in moved_values(placement.graph, node):
        group = placement.groups.get(name)
        if group is not None:
            owner = _owner(shared, group.name)
            operands[owner] = ranges[owner]
        elif not is_live(placement.graph, name):
            operands[name] = constant_range(placement.graph.constants[name])
    low, high = min(r.low for r in operands.values()), max(r.high for r in operands.values())
    if all(range_.probability for range_ in operands.values()):
        ranges[result.name] = next(iter(operands.values()))
    else:
        ranges[result.name] = Range(low=low, high=high, observer="concat")
    for name in moved_values(placement.graph, node):
        group = placement.groups.get(name)
        if group is None or group.data_type != result.data_type or group.name == result.name:
            continue
        own = ranges[_owner(shared, group.name)]
        widened = high - low > JOINED_WIDTH * (own.high - own.low)
        if not own.probability and (not widened or _only_moves_to(placement, group, node)):
            shared[_owner(shared, group.name)] = result.name


def _bound_mask(placement: Placement, node: SourceNode, ranges: dict[str, Range], shared: dict[str, str]) -> None:
    """Cut what an attention mask adds to the range of logits down to what a softmax can tell from it.

    A mask adds -100 or less to some logits, and a range that wide leaves few steps for the others. The largest logit of
    a row is at least the operand's smallest value plus the row's largest constant; what lies far enough below that has
    a probability that rounds to zero, wherever exactly it lies.
    """
    graph, group = placement.graph, placement.groups[node.output]
    mask = next((graph.constants[name] for name in node.inputs if name in graph.constants), None)
    operand = next((placement.groups[name] for name in node.inputs if name in placement.groups), None)
    extent = graph.types[node.output].shape[-1:]
    if mask is None or operand is None or group.roots != (node.output,) or mask.shape[-1:] != extent:
        return
    if not all(_is_row_softmax(graph, reader, extent) for reader in _readers_behind_moves(placement, group)):
        return
    far = math.log(2 << BITS[group.data_type]) + math.log(extent[0]) + MASKED_MARGIN
    low = ranges[_owner(shared, operand.name)].low + float(mask.max(axis=-1).min()) - far
    own = ranges[group.name]
    if own.low < low < own.high:
        ranges[group.name] = replace(own, low=min(low, 0.0))


def _is_row_softmax(graph: SourceGraph, node: SourceNode | None, extent: tuple[int, ...]) -> bool:
    """Whether a node is a softmax over the last axis, of rows as long as the mask's; None stands for an output."""
    if node is None or node.op != "Softmax":
        return False
    shape = graph.types[node.inputs[0]].shape
    return node.attributes.get("axis", -1) in (-1, len(shape) - 1) and shape[-1:] == extent


def _readers_behind_moves(placement: Placement, group: Group) -> list[SourceNode | None]:
    """Who reads the tensors of a group beside its own movement; None for an output of the graph, or a Transpose."""
    graph, members = placement.graph, set(group.members)
    found: list[SourceNode | None] = [None for name in members if name in graph.outputs]
    for node in graph.nodes:
        if members.intersection(node.inputs):
            kept = node.op in ("Reshape", "Squeeze", "Unsqueeze") and members.issuperset(node.outputs)
            found += [] if kept else [None] if is_movement(node) else [node]
    return found


def _only_moves_to(placement: Placement, group: Group, last: SourceNode) -> bool:
    """Whether the tensors of a group are read by movement within the group and by ``last`` alone."""
    graph = placement.graph
    if any(member in graph.outputs for member in group.members):
        return False
    for node in graph.nodes:
        if node is last or not set(group.members).intersection(node.inputs):
            continue
        if not is_movement(node) or any(name in placement.groups and placement.groups[name] is not group
                                        for name in node.outputs):  # fmt: skip
            return False
    return True
