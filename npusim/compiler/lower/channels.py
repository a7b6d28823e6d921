"""Functions of one variable that differ from channel to channel: a table for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from isa import law
from isa.instruction import Unit
from isa.instructions import Lookup
from npusim.graph import Node

from ..context import Context, LoweringError, clamp_of, dtype_of, lowers, scale_of, zero_of
from ..plan import Operand
from ..view import View, dense
from .cut import boxes, sub_view
from .movement import relayout

MOST_TABLES = 4096
"""Tables of one node, each an instruction."""
ENTRIES = 256


@lowers("tables")
def tables(ctx: Context, node: Node) -> None:
    """The varying axis is brought to the front, so that what one table serves is contiguous; cores share that axis."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    made = _tables(ctx, node)
    order = (node.attributes["expression"].axis, *_others(node, len(x.shape)))
    src, dst = relayout(ctx, node.inputs[0], order), ctx.new(node.output, order=order)
    rows = (len(made), math.prod(x.shape) // len(made))
    source, result = (View(view.storage, view.offset, dense("", rows).axes) for view in (src, dst))
    item_bytes = x.numpy.itemsize + y.numpy.itemsize
    table_bytes = -(-ENTRIES * y.numpy.itemsize // rows[1])
    types: dict[str, Any] = {"src_type": dtype_of(x), "dst_type": dtype_of(y)}
    for core, box in boxes(ctx, result, item_bytes + table_bytes, [source]):
        part, target = sub_view(source, box), sub_view(result, box)
        a, b = core.fetch(part), core.room(target)
        used = made[slice(*box[0])]
        ranges = list(_equal(used))
        place = core.constant(b"".join(used[low] for low, _ in ranges), common=False)
        for number, (low, high) in enumerate(ranges):
            core.run(
                Unit.TENG,
                Lookup(
                    src=a.address + low * _pitch(a), dst=b.address + low * _pitch(b), rows=high - low,
                    count=box[1][1] - box[1][0], src_row_stride=_pitch(a), dst_row_stride=_pitch(b),
                    table=place + number * len(used[low]), **types,
                ),
            )  # fmt: skip
        core.flush(target, b)
        core.release()


def _others(node: Node, rank: int) -> list[int]:
    return [axis for axis in range(rank) if axis != node.attributes["expression"].axis]


def _tables(ctx: Context, node: Node) -> list[bytes]:
    """The table of each index of the axis.

    Raises:
        LoweringError: there are more of them than is reasonable.
    """
    x, y, expression = ctx.tensor(node.inputs[0]), ctx.tensor(node.output), node.attributes["expression"]
    extent = x.shape[expression.axis]
    if extent > MOST_TABLES:
        raise LoweringError(
            f"{node.name} ({node.op}): its function differs {extent} times along axis {expression.axis}, each time a "
            f"table of its own; the compiler takes up to {MOST_TABLES}"
        )
    made = (
        law.lookup_table(
            expression.at(index), x.numpy, scale_of(x), zero_of(x), y.numpy, scale_of(y), zero_of(y)
        ).clip(*clamp_of(node, y))
        for index in range(extent)
    )  # fmt: skip
    return [np.asarray(table, y.numpy).tobytes() for table in made]


def _equal(made: list[bytes]) -> Iterator[tuple[int, int]]:
    """Ranges of equal tables that follow one another."""
    start = 0
    for index in range(1, len(made) + 1):
        if index == len(made) or made[index] != made[start]:
            yield start, index
            start = index


def _pitch(operand: Operand) -> int:
    """Bytes from one row to the next; 0 where there is one row."""
    return operand.axes[0][0][1] * operand.item_bytes if operand.axes[0] else 0
