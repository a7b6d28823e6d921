"""Putting a tensor together from parts of others: concatenation, borders, shifts and repetition are all this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isa.instruction import Unit
from isa.instructions import Fill

from ..context import Context, LoweringError
from ..core import Core
from ..joint import Dim, joint_dims
from ..plan import Operand
from ..view import Box, View
from .cut import boxes, sub_view
from .move import COUNT_LIMIT, MOVE_TYPES, chunks, move

FILL_DIMS = 3


@dataclass(frozen=True, slots=True)
class Part:
    """What stands in one box of a result.

    Attributes:
        box: the box.
        view: where its elements come from; of the box's shape, or of extent 1 along an axis it repeats along.
        value: without a view, the element that fills the box, as its unsigned bits.
    """

    box: Box
    view: View | None = None
    value: int = 0


def copy(ctx: Context, src: View, dst: View) -> None:
    """Move all elements of one view to another of the same shape."""
    assemble(ctx, dst, [Part(tuple((0, extent) for extent in dst.shape), src)])


def assemble(ctx: Context, dst: View, parts: Sequence[Part]) -> None:
    """Write a result whose boxes come from ``parts``; the cores share its slowest axis.

    Args:
        ctx: the compilation.
        dst: the result; each of its axes is one factor.
        parts: disjoint boxes that cover it.
    """
    item = ctx.plan.storages[dst.storage].item_bytes
    operands = [p.view for p in parts if p.view is not None and p.view.shape == dst.shape]
    for core, box in boxes(ctx, dst, 2 * item, operands):
        target = sub_view(dst, box)
        result = core.room(target)
        for part in parts:
            overlap = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(part.box, box, strict=True)]
            if all(low < high for low, high in overlap):
                _place(core, part, overlap, result, box)
        core.flush(target, result)
        core.release()


def _place(
    core: Core, part: Part, overlap: Sequence[tuple[int, int]], result: Operand, box: Sequence[tuple[int, int]]
) -> None:
    """One part's share of a tile."""
    within = [(low - start, high - start) for (low, high), (start, _) in zip(overlap, box, strict=True)]
    place = _sub_operand(result, within)
    if part.view is None:
        fill(core, place, part.value)
        return
    extents = part.view.shape
    wanted = tuple(
        (0, 1) if extents[axis] == 1 else (low - part.box[axis][0], high - part.box[axis][0])
        for axis, (low, high) in enumerate(overlap)
    )
    for corner, piece in part.view.pieces(wanted):
        repeated = [extents[axis] == 1 for axis in range(len(extents))]
        target = _sub_operand(
            place,
            [
                (0, high - low) if again else (at, at + extent)
                for at, extent, again, (low, high) in zip(corner, piece.shape, repeated, within, strict=True)
            ],
        )
        move(core, core.fetch(piece), target)


def _sub_operand(operand: Operand, box: Sequence[tuple[int, int]]) -> Operand:
    """A box of an operand in OCM whose axes are single factors."""
    view = sub_view(View("", 0, operand.axes), box)
    return Operand(operand.address + view.offset * operand.item_bytes, view.axes, operand.dtype)


def fill(core: Core, dst: Operand, value: int) -> None:
    """Set every element of an operand."""
    dims = joint_dims([dst.axes])
    assert dims is not None, "one operand refines itself"
    item = dst.item_bytes
    if item not in MOVE_TYPES:
        raise LoweringError(f"elements of {item} bytes cannot be filled; cast them after the border is made")
    run = Dim(1, (1,))
    if dims and dims[-1].strides == (1,):
        run = dims.pop()
    for (address,), outer in chunks((dst.address,), dims, FILL_DIMS, COUNT_LIMIT, item):
        fields: dict[str, Any] = {}
        for level, dim in zip(range(len(outer), 0, -1), outer, strict=True):
            fields |= {f"count_{level}": dim.size, f"dst_stride_{level}": dim.strides[0] * item}
        core.run(Unit.CV, Fill(dst=address, run=run.size, value=value, data_type=MOVE_TYPES[item], **fields))
