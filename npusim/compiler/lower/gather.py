"""Rows of a tensor by index."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from isa.dtypes import DType
from isa.instruction import Unit
from isa.instructions import Gather, Parameters, Requantize
from npusim.graph import Node

from ..context import Context, LoweringError, lowers
from ..core import Core
from ..view import View, dense
from .assemble import Part, assemble
from .cut import single, stretches, sub_view
from .movement import relayout
from .rearrange import index_runs

FEW_RUNS = 16
"""Runs of consecutive indices up to which they are copied as blocks."""
INDEX_BYTES = 4


@lowers("gather")
def gather(ctx: Context, node: Node) -> None:
    """Blocks of consecutive rows are copied; scattered and live indices go through the machine's gather."""
    axis, index = node.attributes["axis"], ctx.tensor(node.inputs[1])
    if index.data is not None:
        extent = ctx.tensor(node.inputs[0]).shape[axis]
        flat = np.where(index.data < 0, index.data + extent, index.data).reshape(-1)
        runs = list(index_runs([int(i) for i in flat]))
        if len(runs) <= FEW_RUNS:
            _blocks(ctx, node, [(run.low, run.high, int(run.source or 0)) for run in runs])
            return
        if _is_long(ctx, node):
            _by_stretches(ctx, node, flat.astype("<i4"))
        else:
            _scattered(ctx, node, flat.astype("<i4").tobytes())
        return
    _scattered(ctx, node, None)


def _blocks(ctx: Context, node: Node, runs: list[tuple[int, int, int]]) -> None:
    axis = node.attributes["axis"]
    view = ctx.view(node.inputs[0])
    if not single(view):
        view = relayout(ctx, node.inputs[0], range(len(view.shape)))
    shape = list(view.shape)
    shape[axis] = ctx.tensor(node.inputs[1]).size
    parts = []
    for low, high, start in runs:
        box = [(0, extent) for extent in shape]
        box[axis] = (low, high)
        parts.append(Part(tuple(box), view.slice(axis, start, start + high - low)))
    result = ctx.new(node.output)
    flat = result.reshape(shape)
    assert flat is not None, "a dense tensor has every shape"
    assemble(ctx, flat, parts)


@dataclass(frozen=True, slots=True)
class _Shape:
    """[outer][rows][inner] of the table, and how many rows are asked for."""

    outer: int
    rows: int
    inner: int
    count: int


def _scattered(ctx: Context, node: Node, indices: bytes | None) -> None:
    """One instruction for each slow index of the table; the cores share slow indices, or parts of rows."""
    x, index = ctx.tensor(node.inputs[0]), ctx.tensor(node.inputs[1])
    axis = node.attributes["axis"]
    src = relayout(ctx, node.inputs[0], range(len(x.shape)))
    shape = _Shape(math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :]), index.size)
    table = _three(src.storage, src.offset, (shape.outer, shape.rows, shape.inner))
    result = _three(ctx.new(node.output).storage, 0, (shape.outer, shape.count, shape.inner))
    item = x.numpy.itemsize
    ids = None if indices is not None else relayout(ctx, node.inputs[1], range(len(index.shape)))
    if shape.outer >= len(ctx.cores):
        pieces = [(core, o, 0, shape.inner) for core, low, high in ctx.shares(shape.outer) for o in range(low, high)]
    else:
        pieces = [(core, o, low, high) for core, low, high in ctx.shares(shape.inner, 64) for o in range(shape.outer)]
    for core, outer, low, high in pieces:
        for i0, i1 in stretches(core, low, high, (shape.rows + shape.count) * item, 3 * INDEX_BYTES * shape.count):
            part, target = (_cut(view, outer, i0, i1) for view in (table, result))
            a, y = core.fetch(part), core.room(target)
            where = core.constant(indices) if indices is not None else _indices(core, ids, index.size)
            width = i1 - i0
            core.run(
                Unit.CV,
                Gather(
                    table=a.address, indices=where, dst=y.address, table_rows=shape.rows, count=shape.count,
                    run=width * item, table_row_stride=_stride(a.axes[1], width) * item,
                    dst_row_stride=_stride(y.axes[1], width) * item,
                ),
            )  # fmt: skip
            core.flush(target, y)
            core.release()


def _is_long(ctx: Context, node: Node) -> bool:
    """Whether a column of the table, the indices and a column of the result are too long to stand side by side."""
    x, index = ctx.tensor(node.inputs[0]), ctx.tensor(node.inputs[1])
    column_bytes = (x.shape[node.attributes["axis"]] + index.size) * x.numpy.itemsize
    return column_bytes + INDEX_BYTES * index.size > ctx.cores[0].arena.size // 2


def _by_stretches(ctx: Context, node: Node, indices: np.ndarray[Any, Any]) -> None:
    """Constant indices, some after the other, with the part of the table that they reach; cores share them."""
    x = ctx.tensor(node.inputs[0])
    axis = node.attributes["axis"]
    src = relayout(ctx, node.inputs[0], range(len(x.shape)))
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    table = _three(src.storage, src.offset, (outer, x.shape[axis], inner))
    result = _three(ctx.new(node.output).storage, 0, (outer, indices.size, inner))
    run = inner * x.numpy.itemsize
    for core, low, high in ctx.shares(indices.size):
        for first, last in stretches(core, low, high, 2 * run + INDEX_BYTES):
            some = indices[first:last]
            start, stop = int(some.min()), int(some.max()) + 1
            places = (some - start).astype("<i4").tobytes()
            for slow in range(outer):
                part, target = (
                    sub_view(view, ((slow, slow + 1), box, (0, inner)))
                    for view, box in ((table, (start, stop)), (result, (first, last)))
                )
                a, y = core.fetch(part), core.room(target)
                core.run(
                    Unit.CV,
                    Gather(
                        table=a.address, indices=core.constant(places, common=False), dst=y.address,
                        table_rows=stop - start, count=last - first, run=run, table_row_stride=run, dst_row_stride=run,
                    ),
                )  # fmt: skip
                core.flush(target, y)
                core.release()


def _three(storage: str, offset: int, shape: tuple[int, int, int]) -> View:
    return View(storage, offset, dense(storage, shape).axes)


def _cut(view: View, outer: int, low: int, high: int) -> View:
    part = view.slice(0, outer, outer + 1)
    part = part.slice(2, low, high) if part is not None and view.shape[2] > 1 else part
    assert part is not None, "an axis of one factor can be cut anywhere"
    return part


def _stride(axis: tuple[tuple[int, int], ...], otherwise: int) -> int:
    return axis[0][1] if axis else otherwise


def _indices(core: Core, ids: View | None, count: int) -> int:
    """Live indices as s32 in OCM."""
    assert ids is not None, "indices are constant or live"
    source = core.fetch(ids)
    if source.dtype is DType.S32:
        return source.address
    if source.dtype is not DType.S64:
        raise LoweringError(f"indices have type {source.dtype}; the machine takes s32 and s64")
    target = core.temporary(count * INDEX_BYTES)
    core.run(
        Unit.TENG,
        Requantize(
            src=source.address, dst=target, count=count, params=core.constant(Parameters().pack()), src_type=DType.S64,
            dst_type=DType.S32,
        ),
    )  # fmt: skip
    return target
