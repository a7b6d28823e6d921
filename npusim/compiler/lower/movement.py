"""Movement of elements: free where views express it, copies in OCM where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isa.dtypes import DType
from isa.instruction import Unit
from isa.instructions import Copy, Transpose
from npusim.graph import Node

from ..context import Context, LoweringError, lowers
from ..joint import Dim, joint_dims
from ..plan import Core, Operand
from ..view import View, dense

COPY_DIMS = 4
MOVE_TYPES = {1: DType.U8, 2: DType.U16, 4: DType.S32}


@lowers("reshape", "reinterpret")
def reshape(ctx: Context, node: Node) -> None:
    """Regroup factors; where there is no grouping, copy to the plain order first."""
    shape = ctx.tensor(node.output).shape
    view = ctx.view(node.inputs[0]).reshape(shape)
    if view is None:
        view = relayout(ctx, node.inputs[0], range(len(ctx.tensor(node.inputs[0]).shape))).reshape(shape)
    assert view is not None, "a dense tensor has every shape"
    alias(ctx, node, view)


@lowers("transpose")
def transpose(ctx: Context, node: Node) -> None:
    """Another order of the axes of the same bytes."""
    alias(ctx, node, ctx.view(node.inputs[0]).transpose(node.attributes["permutation"]))


def alias(ctx: Context, node: Node, view: View) -> None:
    """Let a result be a view of its operand."""
    ctx.views[node.output] = view


def relayout(ctx: Context, name: str, order: Sequence[int]) -> View:
    """A view of the tensor whose axes lie densely in ``order``, each as one factor; copied where it is not so yet."""
    view, tensor = ctx.view(name), ctx.tensor(name)
    wanted = dense(view.storage, tensor.shape, order)
    if view.axes == wanted.axes:
        return view
    made = f"{name}@{''.join(map(str, order))}"
    if made not in ctx.views:
        ctx.views[made] = ctx.place(made, tensor, dense(made, tensor.shape, order))
        copy(ctx, view, ctx.views[made])
    return ctx.views[made]


def copy(ctx: Context, src: View, dst: View) -> None:
    """Move all elements of one view to another of the same shape; the cores share the destination's slowest axis."""
    axis = next((a for a in dst.order if dst.shape[a] > 1), 0)
    for core, low, high in ctx.shares(dst.shape[axis]):
        source, result = src.slice(axis, low, high), dst.slice(axis, low, high)
        if source is None or result is None:  # the cores' shares would cut a factor
            source, result, core, low, high = src, dst, ctx.cores[0], 0, dst.shape[axis]
        a = core.fetch(source)
        b = core.room(result)
        move(core, a, b)
        core.flush(result, b)
        core.release()
        if high - low == dst.shape[axis]:
            return


def move(core: Core, src: Operand, dst: Operand) -> None:
    """Copies and transposes in OCM from one operand to another of the same shape."""
    dims = joint_dims([dst.axes, src.axes])
    if dims is None:
        raise LoweringError("two groupings of one tensor have no common factors")
    _move(core, src.address, dst.address, dims, src.item_bytes)


def _move(core: Core, src: int, dst: int, dims: list[Dim], item: int) -> None:
    inner = dims[-1] if dims else Dim(1, (1, 1))
    if inner.strides == (1, 1):
        outer, run = dims[:-1], inner.size * item
    elif inner.strides[0] == 1 and any(d.strides[1] == 1 for d in dims) and item in MOVE_TYPES:
        _transpose(core, src, dst, dims, item)
        return
    else:
        outer, run = dims, item
    if len(outer) > COPY_DIMS:
        _unroll(core, src, dst, dims, 0, item)
        return
    fields: dict[str, Any] = {}
    for level, dim in zip(range(len(outer), 0, -1), outer, strict=True):
        fields[f"count_{level}"] = dim.size
        fields[f"dst_stride_{level}"], fields[f"src_stride_{level}"] = (s * item for s in dim.strides)
    core.run(Unit.CV, Copy(src=src, dst=dst, run=run, **fields))


def _transpose(core: Core, src: int, dst: int, dims: list[Dim], item: int) -> None:
    """The destination's fastest dimension becomes columns of the source: the transposer's work."""
    rows = dims[-1]
    columns = next(d for d in dims if d.strides[1] == 1)
    others = [d for d in dims if d not in (rows, columns)]
    if len(others) > 1:
        _unroll(core, src, dst, dims, dims.index(others[0]), item)
        return
    batch = others[0] if others else Dim(1, (0, 0))
    core.run(
        Unit.CV,
        Transpose(
            src=src, dst=dst, batch=batch.size, rows=rows.size, columns=columns.size,
            src_batch_stride=batch.strides[1] * item, src_row_stride=rows.strides[1] * item,
            dst_batch_stride=batch.strides[0] * item, dst_row_stride=columns.strides[0] * item,
            data_type=MOVE_TYPES[item],
        ),
    )  # fmt: skip


def _unroll(core: Core, src: int, dst: int, dims: list[Dim], which: int, item: int) -> None:
    """One move for every index of a dimension."""
    dim, rest = dims[which], dims[:which] + dims[which + 1 :]
    for index in range(dim.size):
        _move(core, src + index * dim.strides[1] * item, dst + index * dim.strides[0] * item, rest, item)
