"""Products of two live tensors: what attention is made of. One instruction multiplies a batch of matrices."""

from __future__ import annotations

from typing import Any

from isa.instruction import Unit
from isa.instructions import Matmul, MatrixLayout
from npusim.graph import Node

from ..context import Context
from ..core import Core
from ..joint import Dim, joint_dims
from ..partition import CONV_UNITS
from ..plan import Operand
from ..view import View
from .cut import shared_axis
from .movement import relayout

BATCH_DIMS = 2


def batched_matmul(ctx: Context, node: Node, fields: dict[str, Any], block: bytes) -> None:
    """Batches are shared among the cores, and among the two units of a core.

    Args:
        fields: types and flags of the instruction.
        block: its parameter block.
    """
    rank = len(ctx.tensor(node.output).shape)
    a, b = (_matrices(ctx, name, rank) for name in node.inputs[:2])
    dst = ctx.new(node.output, order=_result_order(ctx, node))
    batches = [d for d in dst.order if d < rank - 2 and dst.shape[d] > 1]
    if not batches:
        rows = dst.shape[rank - 2]
        for core, low, high in ctx.shares(rows, 16):
            for turn, (r0, r1) in enumerate(_halves(low, high)):
                x, y = (_cut(view, rank - 2, r0, r1) for view in (a, dst))
                _product(core, CONV_UNITS[turn], x, b, y, fields, block)
        return
    axis = shared_axis(ctx, dst, batches)
    for core, low, high in ctx.shares(dst.shape[axis]):
        for turn, (first, last) in enumerate(_halves(low, high)):
            x, w, y = (_cut(view, axis, first, last) for view in (a, b, dst))
            _product(core, CONV_UNITS[turn], x, w, y, fields, block)


def _halves(low: int, high: int) -> list[tuple[int, int]]:
    middle = (low + high + 1) // 2
    return [part for part in ((low, middle), (middle, high)) if part[0] < part[1]]


def _cut(view: View, axis: int, low: int, high: int) -> View:
    """A range of one axis; all of it where the view repeats along the axis."""
    if view.shape[axis] == 1:
        return view
    part = view.slice(axis, low, high)
    assert part is not None, "matrices have one factor an axis, and so have the batches that are cut"
    return part


def _matrices(ctx: Context, name: str, rank: int) -> View:
    """The operand with leading axes added and each axis a single factor, one of the matrix axes contiguous."""
    view = ctx.view(name)
    shape = view.shape
    single = all(len(axis) <= 1 for axis in view.axes)
    contiguous = any(extent == 1 or axis[-1][1] == 1 for extent, axis in zip(shape[-2:], view.axes[-2:], strict=True))
    if not (single and contiguous):
        view = relayout(ctx, name, range(len(shape)))
    return View(view.storage, view.offset, ((),) * (rank - len(shape)) + view.axes)


def _result_order(ctx: Context, node: Node) -> tuple[int, ...]:
    """The plain order, or that of the transpose which is all that becomes of the result."""
    rank = len(ctx.tensor(node.output).shape)
    consumers = ctx.graph.consumers.get(node.output, ())
    if len(consumers) == 1 and consumers[0].op == "transpose" and node.output not in ctx.graph.outputs:
        permutation = tuple(consumers[0].attributes["permutation"])
        if permutation[-1] == rank - 1:  # rows of the result stay contiguous
            return permutation
    return tuple(range(rank))


def _product(core: Core, unit: Unit, a: View, b: View, dst: View, fields: dict[str, Any], block: bytes) -> None:
    """Fetch, multiply, store."""
    x, w, y = core.fetch(a), core.fetch(b), core.room(dst)
    dims = joint_dims([y.axes[:-2], x.axes[:-2], w.axes[:-2]])
    assert dims is not None, "batches have one factor an axis"
    (m, k), n = a.shape[-2:], b.shape[-1]
    shape = {
        "m": m, "k": k, "n": n, "dst_row_stride": _stride(y, -2, n) * y.item_bytes,
        **_stored(x, "a", m, k), **_stored(w, "b", k, n),
    }  # fmt: skip
    _emit(core, unit, x, w, y, dims, shape | fields | {"params": core.constant(block)})
    core.flush(dst, y)
    core.release()


def _stored(operand: Operand, name: str, rows: int, columns: int) -> dict[str, Any]:
    """Row stride and layout of a matrix, whichever of its axes is contiguous."""
    by_rows = columns == 1 or _stride(operand, -1, 1) == 1
    stride = _stride(operand, -2, columns) if by_rows else _stride(operand, -1, rows)
    if name == "a":
        return {"a_row_stride": stride * operand.item_bytes, "a_transposed": int(not by_rows)}
    layout = MatrixLayout.ROW_MAJOR if by_rows else MatrixLayout.TRANSPOSED
    return {"b_row_stride": stride * operand.item_bytes, "b_layout": layout}


def _stride(operand: Operand, axis: int, otherwise: int) -> int:
    """Elements between entries of an axis; ``otherwise`` where it has one entry."""
    factors = operand.axes[axis]
    return factors[0][1] if factors else otherwise


def _emit(core: Core, unit: Unit, x: Operand, w: Operand, y: Operand, dims: list[Dim], fields: dict[str, Any]) -> None:
    """One instruction, or one for every index of the slowest batch dimension where there are too many."""
    if len(dims) > BATCH_DIMS:
        head, rest = dims[0], dims[1:]
        for index in range(head.size):
            moved = [o.at(index * s) for o, s in zip((x, w, y), (head.strides[1], head.strides[2], head.strides[0]),
                                                     strict=True)]  # fmt: skip
            _emit(core, unit, moved[0], moved[1], moved[2], rest, fields)
        return
    outer = dims[0] if len(dims) > 1 else Dim(1, (0, 0, 0))
    inner = dims[-1] if dims else Dim(1, (0, 0, 0))
    strides: dict[str, Any] = {
        f"{name}_{level}_stride": dim.strides[position] * operand.item_bytes
        for level, dim in (("outer", outer), ("inner", inner))
        for name, operand, position in (("dst", y, 0), ("a", x, 1), ("b", w, 2))
    }
    core.run(
        unit,
        Matmul(
            a=x.address, b=w.address, dst=y.address, batch_outer=outer.size, batch_inner=inner.size,
            **strides, **fields,
        ),
    )  # fmt: skip
