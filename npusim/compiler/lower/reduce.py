"""Reductions: many elements along some axes make one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from isa.dtypes import ACTIVATION_TYPES, DType
from isa.instruction import Unit
from isa.instructions import (
    ArgMax,
    ArgMin,
    Parameters,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Requantize,
)
from npusim.graph import Node

from ..context import Context, LoweringError, dtype_of, lowers, scaled_block
from ..core import COUNT_LIMIT, Core
from ..plan import Operand
from ..view import View, dense
from .cut import stretches, sub_view, tile_bytes
from .movement import relayout

REDUCTIONS: dict[str, Any] = {
    "reduce_mean": ReduceMean, "reduce_sum": ReduceSum, "reduce_max": ReduceMax, "reduce_min": ReduceMin,
}  # fmt: skip
POSITIONS: dict[str, Any] = {"arg_max": ArgMax, "arg_min": ArgMin}
GRANULE = 64


@dataclass(frozen=True, slots=True)
class Nest:
    """A reduction as the machine sees it: ``[outer][length][inner]`` becomes ``[outer][inner]``.

    Attributes:
        source: three axes, each one factor.
        result: two axes, dense.
    """

    source: View
    result: View


@lowers(*REDUCTIONS)
def reduce(ctx: Context, node: Node) -> None:
    """Reduced axes that lie next to each other are one; others are brought together first."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    nest = _nest(ctx, node, tuple(node.attributes["axes"]))
    block = scaled_block(node, [x], y).pack()
    for core, source, result in _tiles(ctx, node, nest, y.numpy.itemsize):
        a, b = core.fetch(source), core.room(result)
        fields = {"params": core.constant(block), "dst_type": dtype_of(y)}
        core.run(Unit.TENG, REDUCTIONS[node.op](dst=b.address, **_loops(a), **fields))
        core.flush(result, b)
        core.release()


@lowers(*POSITIONS)
def position(ctx: Context, node: Node) -> None:
    """The machine finds s32 positions, which are then widened."""
    y = ctx.tensor(node.output)
    nest = _nest(ctx, node, (node.attributes["axis"],))
    for core, source, result in _tiles(ctx, node, nest, y.numpy.itemsize + 4):
        a, b = core.fetch(source), core.room(result)
        count = math.prod(result.shape)
        wide = b.dtype is not DType.S32
        found = core.temporary(4 * count) if wide else b.address
        cls, last = POSITIONS[node.op], int(node.attributes["select_last"])
        core.run(Unit.TENG, cls(dst=found, **_loops(a), select_last=last))
        if wide:
            params = core.constant(Parameters().pack())
            core.run(
                Unit.TENG,
                Requantize(
                    src=found, dst=b.address, count=count, params=params, src_type=DType.S32, dst_type=dtype_of(y)
                ),
            )  # fmt: skip
        core.flush(result, b)
        core.release()


def _nest(ctx: Context, node: Node, axes: Sequence[int]) -> Nest:
    """Source and result with the reduced axes as the middle one."""
    x = ctx.tensor(node.inputs[0])
    if dtype_of(x) not in ACTIVATION_TYPES:
        raise LoweringError(
            f"{node.name} ({node.op}): its operand has type {x.dtype}; the machine reduces s8, u8, s16 and u16, "
            "so quantize it first"
        )
    order = ctx.view(node.inputs[0]).order
    long = [axis for axis in order if x.shape[axis] > 1]
    places = [k for k, axis in enumerate(long) if axis in axes]
    if places and places[-1] - places[0] + 1 != len(places):
        order = (*(a for a in order if a not in axes), *(a for a in order if a in axes))
        long = [axis for axis in order if x.shape[axis] > 1]
        places = [k for k, axis in enumerate(long) if axis in axes]
    src = relayout(ctx, node.inputs[0], order)
    first, last = (places[0], places[-1] + 1) if places else (len(long), len(long))
    extents = [x.shape[axis] for axis in long]
    shape = math.prod(extents[:first]), math.prod(extents[first:last]), math.prod(extents[last:])
    if shape[1] > COUNT_LIMIT:
        raise LoweringError(
            f"{node.name} ({node.op}): it reduces {shape[1]} elements to one; the machine reduces at most "
            f"{COUNT_LIMIT} at a time, so reduce one axis after the other"
        )
    source = View(src.storage, src.offset, dense("", shape).axes)
    kept = [axis for axis in order if axis not in axes]
    if node.attributes["keepdims"]:
        result_order = [*(a for a in order if a in axes), *kept]
    else:
        survivors = [axis for axis in range(len(x.shape)) if axis not in axes]
        result_order = [survivors.index(axis) for axis in kept]
    dst = ctx.new(node.output, order=result_order)
    return Nest(source, View(dst.storage, dst.offset, dense("", (shape[0], shape[2])).axes))


def _tiles(ctx: Context, node: Node, nest: Nest, result_bytes: int) -> Iterator[tuple[Core, View, View]]:
    """Parts of source and result that fit: along the slow axis, or the fast one where a slow index is too large."""
    item = ctx.tensor(node.inputs[0]).numpy.itemsize
    outer, length, inner = nest.source.shape
    index_bytes = inner * (length * item + result_bytes)
    smallest = min(core.arena.size for core in ctx.cores)
    column_bytes = length * item + result_bytes
    if column_bytes * min(inner, GRANULE) > smallest:
        raise LoweringError(
            f"{node.name} ({node.op}): {length} elements that are reduced together do not fit the OCM of "
            f"{smallest} bytes; reduce one axis after the other"
        )
    whole = ((0, outer), (0, length), (0, inner))
    if outer >= len(ctx.cores) and index_bytes <= tile_bytes(ctx.cores[0]):
        for core, low, high in ctx.shares(outer):
            for o0, o1 in stretches(core, low, high, index_bytes):
                box = ((o0, o1), *whole[1:])
                yield core, sub_view(nest.source, box), sub_view(nest.result, (box[0], box[2]))
        return
    for core, low, high in ctx.shares(inner, GRANULE):
        for o in range(outer):
            for i0, i1 in stretches(core, low, high, column_bytes):
                box = ((o, o + 1), (0, length), (i0, i1))
                yield core, sub_view(nest.source, box), sub_view(nest.result, (box[0], box[2]))


def _loops(source: Operand) -> dict[str, Any]:
    """Extents and strides of a source in OCM as instruction fields."""
    (outer, length, inner), item = (math.prod(n for n, _ in axis) for axis in source.axes), source.item_bytes
    slow, middle = (axis[0][1] if axis else 0 for axis in source.axes[:2])
    return {
        "src": source.address, "src_type": source.dtype, "outer": outer, "length": length, "inner": inner,
        "src_outer_stride": slow * item, "src_stride": (middle or inner) * item,
    }  # fmt: skip
