"""Pooling of channels-last images."""

from __future__ import annotations

from typing import Any

from isa import law
from isa.instruction import Unit
from isa.instructions import AveragePool, GlobalAveragePool, MaxPool, Parameters
from npusim.graph import Node

from ..context import Context, LoweringError, clamp_of, dtype_of, lowers, scale_of, scaled_block, zero_of
from ..core import Core
from ..view import View
from .cut import step_of, stretches, sub_view, tile_bytes
from .matrix import CHANNELS_LAST, image_fields, source_rows, window_fields
from .movement import relayout

CHANNEL_GRANULE = 64
KERNEL_LIMIT = 255


@lowers("max_pool", "average_pool")
def pool(ctx: Context, node: Node) -> None:
    """Images after one another; the cores share result rows, and channels are cut where rows are too large."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    kernel = node.attributes["kernel"]
    if max(kernel) > KERNEL_LIMIT:
        raise LoweringError(
            f"{node.name} ({node.op}): a window of {kernel[0]} x {kernel[1]}; the machine's have at most "
            f"{KERNEL_LIMIT} rows and columns, so pool in two steps or reduce over the axes"
        )
    views = relayout(ctx, node.inputs[0], CHANNELS_LAST), ctx.new(node.output, order=CHANNELS_LAST)
    count, channels, height, width = y.shape
    source_row, result_row = x.shape[3] * x.numpy.itemsize, width * y.numpy.itemsize  # of one channel
    stride, reach = node.attributes["strides"][0], (kernel[0] - 1) * node.attributes["dilations"][0] + 1
    most = tile_bytes(ctx.cores[0]) // (reach * source_row + result_row)
    group = channels if channels <= most else max(CHANNEL_GRANULE, most // CHANNEL_GRANULE * CHANNEL_GRANULE)
    for image in range(count):
        for core, low, high in ctx.shares(height):
            for c0 in range(0, channels, group):
                c1 = min(channels, c0 + group)
                index_bytes = (c1 - c0) * (result_row + source_row * stride)
                step = step_of(core, high - low, index_bytes, (c1 - c0) * source_row * max(0, reach - stride))
                for r0 in range(low, high, step):
                    box = ((image, image + 1), (c0, c1), (r0, min(high, r0 + step)), (0, width))
                    _pool(ctx, node, core, views, box)


def _pool(ctx: Context, node: Node, core: Core, views: tuple[View, View], box: tuple[tuple[int, int], ...]) -> None:
    """One tile of the result."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    kernel = node.attributes["kernel"]
    low, high, pad_top = source_rows(node, kernel[0], x.shape[2], box[2])
    part = sub_view(views[0], (box[0], box[1], (low, high), (0, x.shape[3])))
    target = sub_view(views[1], box)
    source, result = core.fetch(part), core.room(target)
    fields: dict[str, Any] = {
        **image_fields(source, result), **window_fields(node, (kernel[0], kernel[1])),
        "pad_top": pad_top, "pad_left": node.attributes["pads"][1],
    }  # fmt: skip
    if node.op == "max_pool":
        core.run(Unit.TENG, MaxPool(**fields, data_type=dtype_of(x)))
    else:
        core.run(
            Unit.TENG,
            AveragePool(
                **fields, src_type=dtype_of(x), dst_type=dtype_of(y),
                params=core.constant(scaled_block(node, [x], y).pack()),
                count_padding=node.attributes["count_padding"],
                pad_bottom=node.attributes["pads"][2] if high == x.shape[2] else 0,
                pad_right=node.attributes["pads"][3],
            ),
        )  # fmt: skip
    core.flush(target, result)
    core.release()


@lowers("global_average_pool")
def global_average_pool(ctx: Context, node: Node) -> None:
    """Images after one another; channels are shared among the cores."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    src = relayout(ctx, node.inputs[0], CHANNELS_LAST)
    dst = ctx.new(node.output)
    count, channels, height, width = x.shape
    low, high = clamp_of(node, y)
    head = Parameters(
        zero_a=zero_of(x), zero=zero_of(y), low=low, high=high,
        factor_a=law.global_average_multiplier(scale_of(x), scale_of(y), height * width),
    )  # fmt: skip
    for image in range(count):
        for core, c0, c1 in ctx.shares(channels, CHANNEL_GRANULE):
            for first, last in stretches(core, c0, c1, height * width * x.numpy.itemsize + y.numpy.itemsize):
                part = sub_view(src, ((image, image + 1), (first, last), (0, height), (0, width)))
                target = sub_view(dst, ((image, image + 1), (first, last), (0, 1), (0, 1)))
                source, result = core.fetch(part), core.room(target)
                fields = image_fields(source, source)
                core.run(
                    Unit.TENG,
                    GlobalAveragePool(
                        src=source.address, dst=result.address, params=core.constant(head.pack()), height=height,
                        width=width, channels=last - first, src_row_stride=fields["src_row_stride"],
                        src_pixel_stride=fields["src_pixel_stride"], src_type=dtype_of(x), dst_type=dtype_of(y),
                    ),
                )  # fmt: skip
                core.flush(target, result)
                core.release()
