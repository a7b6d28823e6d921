"""Functions of one variable that differ from channel to channel: a table for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from isa import law
from isa.dtypes import DType
from isa.instruction import Unit
from isa.instructions import Lookup
from npusim.graph import Node

from ..context import Context, LoweringError, clamp_of, dtype_of, lowers, scale_of, zero_of
from ..core import Core
from ..plan import Operand
from ..view import View, dense
from .cut import TILES, boxes, sub_view, tile_bytes
from .move import move
from .movement import relayout

MOST_TABLES = 4096
"""Tables of one node, each an instruction."""
LEAST_PIXELS = 330
"""Of a tile, for every tile takes every table: so many elements take as long to transpose there and back as to look up
(microarchitecture 4 and 5, the AX650N: 2 / 16 cycles an element against 36 a table and 1 / 64 an element)."""


@dataclass(frozen=True, slots=True)
class _Work:
    """Tables along an axis, and the operands' types.

    Attributes:
        tables: the bytes of each.
        axis: along which they differ.
        types: of source and result.
    """

    tables: list[bytes]
    axis: int
    types: tuple[DType, DType]


@lowers("tables")
def tables(ctx: Context, node: Node) -> None:
    """What one table serves has to be contiguous: channels are brought to the front, in a tile or in the tensor."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    work = _Work(_tables(ctx, node), node.attributes["expression"].axis, (dtype_of(x), dtype_of(y)))
    view = ctx.view(node.inputs[0])
    fastest = next((axis for axis in reversed(view.order) if x.shape[axis] > 1), -1)
    last = view.axes == dense("", x.shape, view.order).axes and fastest == work.axis
    many = math.prod(x.shape) // x.shape[work.axis] >= LEAST_PIXELS * len(ctx.cores)
    if last and many and sum(map(len, work.tables)) <= tile_bytes(ctx.cores[0]):
        _channels_last(ctx, node, work)
    else:
        _channels_first(ctx, node, work)


def _channels_last(ctx: Context, node: Node, work: _Work) -> None:
    """Tiles of whole pixels, transposed in OCM there and back; the cores share pixels, the result keeps the order."""
    source, channels = ctx.view(node.inputs[0]), len(work.tables)
    result = ctx.new(node.output, order=source.order)
    shape = (math.prod(source.shape) // channels, channels)
    source, result = (View(view.storage, view.offset, dense("", shape).axes) for view in (source, result))
    pixel_bytes = 2 * channels * sum(dtype.numpy.itemsize for dtype in work.types)
    for core, low, high in ctx.shares(shape[0]):
        tiles = max(-(-(high - low) * pixel_bytes // tile_bytes(core)), min(TILES, (high - low) // LEAST_PIXELS))
        step = -(-(high - low) // tiles)
        for first in range(low, high, step):
            box = ((first, min(high, first + step)), (0, channels))
            _turned(core, work, sub_view(source, box), sub_view(result, box))


def _turned(core: Core, work: _Work, part: View, target: View) -> None:
    """One tile of pixels."""
    pixels, channels = part.shape
    a, b = core.fetch(part), core.room(target)
    axes = dense("", part.shape, (1, 0)).axes
    source, result = (
        Operand(core.temporary(pixels * channels * dtype.numpy.itemsize), axes, dtype) for dtype in work.types
    )
    move(core, a, source)
    _look_up(core, work, work.tables, (source.address, result.address), (pixels, pixels), pixels)
    move(core, result, b)
    core.flush(target, b)
    core.release()


def _channels_first(ctx: Context, node: Node, work: _Work) -> None:
    """The tensor with the varying axis in front, which the cores share."""
    x = ctx.tensor(node.inputs[0])
    order = (work.axis, *(axis for axis in range(len(x.shape)) if axis != work.axis))
    src, dst = relayout(ctx, node.inputs[0], order), ctx.new(node.output, order=order)
    rows = (len(work.tables), math.prod(x.shape) // len(work.tables))
    source, result = (View(view.storage, view.offset, dense("", rows).axes) for view in (src, dst))
    item_bytes = sum(dtype.numpy.itemsize for dtype in work.types)
    table_bytes = -(-len(work.tables[0]) // rows[1])
    for core, box in boxes(ctx, result, item_bytes + table_bytes, [source]):
        part, target = sub_view(source, box), sub_view(result, box)
        a, b = core.fetch(part), core.room(target)
        some, count = work.tables[slice(*box[0])], box[1][1] - box[1][0]
        _look_up(core, work, some, (a.address, b.address), (_pitch(a), _pitch(b)), count)
        core.flush(target, b)
        core.release()


def _look_up(
    core: Core, work: _Work, some: list[bytes], places: tuple[int, int], pitches: tuple[int, int], count: int
) -> None:
    """Each table on its row of ``count`` elements.

    Args:
        core: whose unit works.
        work: types.
        some: the tables, one for each row.
        places: addresses of the first row of source and result.
        pitches: elements from one row to the next.
        count: elements of a row.
    """
    ranges = list(_equal(some))
    table = core.constant(b"".join(some[low] for low, _ in ranges), common=False)
    strides = [pitch * dtype.numpy.itemsize for pitch, dtype in zip(pitches, work.types, strict=True)]
    for number, (low, high) in enumerate(ranges):
        src, dst = (place + low * stride for place, stride in zip(places, strides, strict=True))
        core.run(
            Unit.TENG,
            Lookup(
                src=src, dst=dst, table=table + number * len(some[low]), count=count, rows=high - low,
                src_row_stride=strides[0], dst_row_stride=strides[1], src_type=work.types[0], dst_type=work.types[1],
            ),
        )  # fmt: skip


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
    """Elements from one row to the next; 0 where there is one row."""
    return operand.axes[0][0][1] if operand.axes[0] else 0
