"""Resampling of channels-last images by position tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from isa.instruction import Unit
from isa.instructions import Interpolation, Parameters, Resize
from npusim.graph import Node, Tensor

from ..context import Context, clamp_of, dtype_of, lowers, scaled_block
from ..view import View
from .cut import step_of, sub_view
from .matrix import CHANNELS_LAST, image_fields
from .movement import relayout


@lowers("resize")
def resize(ctx: Context, node: Node) -> None:
    """Images after one another; result rows are shared among the cores, and read the source rows their table names."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    src = relayout(ctx, node.inputs[0], CHANNELS_LAST)
    dst = ctx.new(node.output, order=CHANNELS_LAST)
    count, channels, height, width = y.shape
    source_row, result_row = x.shape[3] * channels * x.numpy.itemsize, width * channels * y.numpy.itemsize
    index_bytes = result_row + -(-source_row * x.shape[2] // height)
    for image in range(count):
        for core, low, high in ctx.shares(height):
            step = step_of(core, high - low, index_bytes, 2 * source_row)
            for r0 in range(low, high, step):
                _resample(ctx, node, core, (src, dst), image, (r0, min(high, r0 + step)))


def _resample(ctx: Context, node: Node, core: Any, views: tuple[View, View], image: int, rows: tuple[int, int]) -> None:
    """One tile: rows of one image."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    attributes = node.attributes
    linear = attributes["mode"] == "linear"
    low_rows = np.array(attributes["rows"][slice(*rows)])
    high_rows = np.array(attributes["rows_high"][slice(*rows)]) if linear else low_rows
    first, last = int(min(low_rows.min(), high_rows.min())), int(max(low_rows.max(), high_rows.max())) + 1
    tables = [(low_rows - first).astype("<i4")]
    if linear:
        tables += [(high_rows - first).astype("<i4"), np.array(attributes["row_weights"][slice(*rows)], "<f4")]
    tables.append(np.array(attributes["columns"], "<i4"))
    if linear:
        tables += [np.array(attributes["columns_high"], "<i4"), np.array(attributes["column_weights"], "<f4")]
    whole = (0, x.shape[1])
    part = sub_view(views[0], ((image, image + 1), whole, (first, last), (0, x.shape[3])))
    target = sub_view(views[1], ((image, image + 1), whole, rows, (0, y.shape[3])))
    source, result = core.fetch(part), core.room(target)
    fields = {
        **image_fields(source, result), "params": core.constant(_block(node, x, y)),
        "tables": core.constant(b"".join(table.tobytes() for table in tables), common=False),
        "src_type": dtype_of(x), "dst_type": dtype_of(y),
        "interpolation": Interpolation.LINEAR if linear else Interpolation.NEAREST,
    }  # fmt: skip
    fields["channels"] = fields.pop("in_channels")
    core.run(Unit.TENG, Resize(**fields))
    core.flush(target, result)
    core.release()


def _block(node: Node, x: Tensor, y: Tensor) -> bytes:
    """The parameter block; integers without a scale keep their values."""
    if x.quantization is None or y.quantization is None:
        low, high = clamp_of(node, y)
        return Parameters(low=low, high=high).pack()
    return scaled_block(node, [x], y).pack()
