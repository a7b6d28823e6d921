"""Transposed convolutions: every source pixel adds its kernel to the result."""

from __future__ import annotations

import math
from typing import Any

from isa.instructions import ConvTranspose, block_weights
from npusim.graph import Node

from ..context import Context, LoweringError, lowers
from ..core import Core
from ..partition import CONV_UNITS
from ..view import View
from .cut import step_of, sub_view
from .matrix import CHANNELS_LAST, Epilogue, epilogue, image_fields, window_fields
from .movement import relayout

PAD_LIMIT = 255


@lowers("conv_transpose")
def conv_transpose(ctx: Context, node: Node) -> None:
    """Images after one another; result rows are shared among the cores, and all of them use the same weights."""
    x, w, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.inputs[1]), ctx.tensor(node.output)
    if w.data is None:
        raise LoweringError(f"{node.name} (conv_transpose): its weights are computed; the machine needs constant ones")
    groups, channels = int(node.attributes["groups"]), y.shape[1]
    src = relayout(ctx, node.inputs[0], CHANNELS_LAST)
    dst = ctx.new(node.output, order=CHANNELS_LAST)
    depth, per_group, *kernel = w.data.reshape(groups, -1, *w.data.shape[1:]).shape[1:]
    flat = w.data.reshape(groups, depth, per_group, *kernel).transpose(0, 2, 3, 4, 1).reshape(groups, per_group, -1)
    blob = b"".join(block_weights(group).tobytes() for group in flat)
    rest = epilogue(ctx, node, channels)
    result_row = y.shape[3] * channels * y.numpy.itemsize
    source_row = math.prod(x.shape[1::2]) * x.numpy.itemsize
    index_bytes = result_row + -(-source_row // node.attributes["strides"][0])
    halo = source_row * (kernel[0] * node.attributes["dilations"][0] // node.attributes["strides"][0] + 1)
    turn = 0
    for image in range(x.shape[0]):
        for core, low, high in ctx.shares(y.shape[2]):
            step = step_of(core, high - low, index_bytes, halo)
            for r0 in range(low, high, step):
                rows = (r0, min(high, r0 + step))
                _spread(
                    node, core, CONV_UNITS[turn % 2], (src, dst), (image, *rows), (kernel[0], kernel[1]), blob, rest
                )
                turn += 1


def _spread(
    node: Node, core: Core, unit: Any, views: tuple[View, View], rows: tuple[int, int, int], kernel: tuple[int, int],
    blob: bytes, rest: Epilogue,
) -> None:  # fmt: skip
    """One tile: rows of one image."""
    src, dst = views
    image, r0, r1 = rows
    first, last, pad_top = touching_rows(node, kernel[0], src.shape[2], (r0, r1))
    if pad_top > PAD_LIMIT:
        raise LoweringError(
            f"{node.name} (conv_transpose): row {r0} of its result lies {pad_top} rows behind the source rows that "
            f"reach it; the machine can skip {PAD_LIMIT}, so use a smaller stride, kernel or padding"
        )
    channels, groups = dst.shape[1], int(node.attributes["groups"])
    part = sub_view(src, ((image, image + 1), (0, src.shape[1]), (first, last), (0, src.shape[3])))
    target = sub_view(dst, ((image, image + 1), (0, channels), (r0, r1), (0, dst.shape[3])))
    source, result = core.fetch(part), core.room(target)
    params, flags = rest.block(0, channels)
    fields: dict[str, Any] = {
        **image_fields(source, result), **window_fields(node, kernel), **rest.types, **flags,
        "pad_top": pad_top, "pad_left": node.attributes["pads"][1], "out_channels": channels, "groups": groups,
        "weights": core.constant(blob), "params": core.constant(params),
    }  # fmt: skip
    core.run(unit, ConvTranspose(**fields))
    core.flush(target, result)
    core.release()


def touching_rows(node: Node, kernel_rows: int, height: int, rows: tuple[int, int]) -> tuple[int, int, int]:
    """The source rows that add to result rows, first and last plus one, and the rows above the first result row.

    Source row y and kernel row i meet result row ``y * stride + i * dilation - pad``.
    """
    stride, dilation, pad = (node.attributes[name][0] for name in ("strides", "dilations", "pads"))
    reach = (kernel_rows - 1) * dilation
    first = min(-(-(rows[0] + pad - reach) // stride), (rows[0] + pad) // stride)
    first = min(max(first, 0), height - 1)
    last = min(height, (rows[1] - 1 + pad) // stride + 1)
    return first, max(last, first + 1), rows[0] + pad - first * stride
