"""Parts of tensors in other places: slices, concatenation, borders, shifts and repetition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from npusim.graph import Node

from ..context import Context, LoweringError, lowers
from ..view import View
from .assemble import Part, assemble
from .cut import single
from .movement import alias, relayout

MOST_PARTS = 4096
"""Boxes of one result above which the plan would be unreasonably long."""


@dataclass(frozen=True, slots=True)
class Run:
    """A range of one axis of a result.

    Attributes:
        low: first index.
        high: last index plus one.
        source: index of the operand at which it begins; None for a border.
        repeat: whether that one entry fills the whole range.
    """

    low: int
    high: int
    source: int | None
    repeat: bool = False


@lowers("slice")
def slice_(ctx: Context, node: Node) -> None:
    """A view; steps backwards, and steps between contiguous elements, are copied."""
    view = ctx.view(node.inputs[0])
    shape = ctx.tensor(node.output).shape
    starts, steps = node.attributes["starts"], node.attributes["steps"]
    part: View | None = view
    for axis, (start, step, extent) in enumerate(zip(starts, steps, shape, strict=True)):
        if part is not None:
            part = strided(part, axis, int(start), int(step), extent)
    if part is not None and _contiguous_runs(part, view):
        alias(ctx, node, part)
        return
    if part is not None:
        ctx.new(node.output, order=view.order)
        assemble(ctx, ctx.view(node.output), [Part(_whole(shape), part)])
        return
    rows = [
        list(index_runs([start + step * k for k in range(extent)]))
        for start, step, extent in zip(starts, steps, shape, strict=True)
    ]
    compose(ctx, node, rows)


def strided(view: View, axis: int, start: int, step: int, extent: int) -> View | None:
    """Every ``step``-th entry of an axis from ``start`` on, or None where factors do not express it."""
    if step < 0 and extent > 1:
        return None
    if step == 1 or extent == 1:
        return view.slice(axis, start, start + extent)
    cut = view.slice(axis, start, start + (extent - 1) * step + 1)
    if cut is None or len(cut.axes[axis]) != 1:
        return None
    factor = (extent, cut.axes[axis][0][1] * step)
    return replace(cut, axes=(*cut.axes[:axis], (factor,), *cut.axes[axis + 1 :]))


def _contiguous_runs(part: View, whole: View) -> bool:
    """Whether the slice leaves contiguous elements where the operand has them; others are gathered once, here."""
    finest = [min((s for axis in v.axes for n, s in axis if n > 1), default=1) for v in (part, whole)]
    return finest[0] == finest[1] or finest[0] == 1


def _whole(shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple((0, extent) for extent in shape)


def index_runs(indices: Sequence[int]) -> Iterator[Run]:
    """Ranges of consecutive indices."""
    start = 0
    for k in range(1, len(indices) + 1):
        if k == len(indices) or indices[k] != indices[k - 1] + 1:
            yield Run(start, k, int(indices[start]))
            start = k


def compose(ctx: Context, node: Node, runs: Sequence[Sequence[Run]], value: int = 0) -> None:
    """A result whose boxes are all combinations of one run of each axis.

    Args:
        ctx: the compilation.
        node: its first operand is where the elements come from.
        runs: the runs of each axis.
        value: what stands in boxes that have a border along some axis.
    """
    view = ctx.view(node.inputs[0])
    count = math.prod(len(axis) for axis in runs)
    if count > MOST_PARTS:
        raise LoweringError(
            f"{node.name} ({node.op}): its result has {count} separate parts, more than "
            f"the {MOST_PARTS} the compiler moves one by one; split the node, or use smaller extents"
        )
    if not single(view):
        view = relayout(ctx, node.inputs[0], range(len(view.shape)))
    parts = []
    for combination in product(*runs):
        box = tuple((run.low, run.high) for run in combination)
        source: View | None = view
        for axis, run in enumerate(combination):
            if source is not None and run.source is None:
                source = None
            if source is not None and run.source is not None:
                source = source.slice(axis, run.source, run.source + (1 if run.repeat else run.high - run.low))
                assert source is not None, "an axis of one factor can be cut anywhere"
        parts.append(Part(box, source, value))
    assemble(ctx, ctx.new(node.output, order=view.order), parts)


@lowers("concat")
def concat(ctx: Context, node: Node) -> None:
    """Every operand is copied to its place; the result keeps the order of the largest."""
    axis, shape = node.attributes["axis"], ctx.tensor(node.output).shape
    views = [ctx.view(name) for name in node.inputs]
    largest = max(views, key=lambda view: math.prod(view.shape))
    parts, at = [], 0
    for view in views:
        extent = view.shape[axis]
        if extent:
            box = list(_whole(shape))
            box[axis] = (at, at + extent)
            parts.append(Part(tuple(box), view))
        at += extent
    assemble(ctx, ctx.new(node.output, order=largest.order), parts)


@lowers("roll")
def roll(ctx: Context, node: Node) -> None:
    """Each shifted axis has two parts: what stays ahead, and what comes around."""
    shape = ctx.tensor(node.output).shape
    shifts = [0] * len(shape)
    for axis, shift in zip(node.attributes["axes"], node.attributes["shifts"], strict=True):
        shifts[axis] += int(shift)
    runs = []
    for extent, shift in zip(shape, shifts, strict=True):
        by = shift % extent
        around = [Run(0, by, extent - by)] if by else []
        runs.append([*around, Run(by, extent, 0)])
    compose(ctx, node, runs)


@lowers("pad")
def pad(ctx: Context, node: Node) -> None:
    """Borders are filled, or copied from the edge or from what they mirror."""
    x = ctx.tensor(node.inputs[0])
    rank = len(x.shape)
    pads, mode = node.attributes["pads"], node.attributes["mode"]
    runs = [_bordered(extent, pads[axis], pads[axis + rank], mode) for axis, extent in enumerate(x.shape)]
    value = int(np.array([node.attributes["value"]]).astype(x.numpy).view(f"u{x.numpy.itemsize}")[0])
    compose(ctx, node, runs, value)


def _bordered(extent: int, before: int, behind: int, mode: str) -> list[Run]:
    end = before + extent
    middle = Run(before, end, 0)
    if mode == "reflect":
        front = [Run(k, k + 1, _mirrored(k - before, extent)) for k in range(before)]
        back = [Run(k, k + 1, _mirrored(k - before, extent)) for k in range(end, end + behind)]
        return [*front, middle, *back]
    edge = mode == "edge"
    front = [Run(0, before, 0 if edge else None, edge)] if before else []
    back = [Run(end, end + behind, extent - 1 if edge else None, edge)] if behind else []
    return [*front, middle, *back]


def _mirrored(index: int, extent: int) -> int:
    """The index that a reflection shows at ``index``; borders longer than the tensor go to and fro."""
    period = max(1, 2 * (extent - 1))
    index %= period
    return min(index, period - index) if extent > 1 else 0


@lowers("expand")
def expand(ctx: Context, node: Node) -> None:
    """Axes of extent 1 repeat, and missing ones are put in front."""
    shape = ctx.tensor(node.output).shape
    view = ctx.view(node.inputs[0])
    missing = len(shape) - len(view.shape)
    view = View(view.storage, view.offset, ((),) * missing + view.axes)
    assemble(ctx, ctx.new(node.output, order=view.order), [Part(_whole(shape), view)])


@lowers("tile")
def tile(ctx: Context, node: Node) -> None:
    """One part for each repetition."""
    x = ctx.tensor(node.inputs[0])
    runs = [
        [Run(0, times, 0, repeat=True)] if extent == 1 else [Run(k * extent, (k + 1) * extent, 0) for k in range(times)]
        for extent, times in zip(x.shape, node.attributes["repeats"], strict=True)
    ]
    compose(ctx, node, runs)
