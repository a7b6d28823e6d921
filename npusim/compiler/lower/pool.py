"""Pooling of channels-last images."""

from __future__ import annotations

from typing import Any

from isa import law
from isa.instruction import Unit
from isa.instructions import AveragePool, GlobalAveragePool, MaxPool, Parameters
from npusim.graph import Node

from ..context import Context, clamp_of, dtype_of, lowers, scale_of, scaled_block, zero_of
from .matrix import CHANNELS_LAST, image_fields, source_rows, window_fields
from .movement import relayout


@lowers("max_pool", "average_pool")
def pool(ctx: Context, node: Node) -> None:
    """Result rows are shared among the cores."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    src = relayout(ctx, node.inputs[0], CHANNELS_LAST)
    dst = ctx.new(node.output, order=CHANNELS_LAST)
    kernel = tuple(node.attributes["kernel"])
    for core, r0, r1 in ctx.shares(y.shape[2]):
        low, high, pad_top = source_rows(node, kernel[0], x.shape[2], (r0, r1))
        part, result_view = src.slice(2, low, high), dst.slice(2, r0, r1)
        assert part is not None
        assert result_view is not None
        source, result = core.fetch(part), core.room(result_view)
        fields: dict[str, Any] = {
            **image_fields(source, result), **window_fields(node, (kernel[0], kernel[1])),
            "pad_top": pad_top, "pad_left": node.attributes["pads"][1],
        }  # fmt: skip
        if node.op == "max_pool":
            core.run(Unit.TENG, MaxPool(**fields, data_type=dtype_of(x)))
        else:
            last = r1 == y.shape[2]
            core.run(
                Unit.TENG,
                AveragePool(
                    **fields, src_type=dtype_of(x), dst_type=dtype_of(y),
                    params=core.constant(scaled_block(node, [x], y).pack()),
                    count_padding=node.attributes["count_padding"],
                    pad_bottom=node.attributes["pads"][2] if last else 0, pad_right=node.attributes["pads"][3],
                ),
            )  # fmt: skip
        core.flush(result_view, result)
        core.release()


@lowers("global_average_pool")
def global_average_pool(ctx: Context, node: Node) -> None:
    """Channels are shared among the cores."""
    x, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.output)
    src = relayout(ctx, node.inputs[0], CHANNELS_LAST)
    dst = ctx.new(node.output)
    low, high = clamp_of(node, y)
    head = Parameters(
        zero_a=zero_of(x), zero=zero_of(y), low=low, high=high,
        factor_a=law.global_average_multiplier(scale_of(x), scale_of(y), x.shape[2] * x.shape[3]),
    )  # fmt: skip
    for core, c0, c1 in ctx.shares(x.shape[1], 64):
        part, result_view = src.slice(1, c0, c1), dst.slice(1, c0, c1)
        assert part is not None
        assert result_view is not None
        source, result = core.fetch(part), core.room(result_view)
        image = image_fields(source, source)
        core.run(
            Unit.TENG,
            GlobalAveragePool(
                src=source.address, dst=result.address, params=core.constant(head.pack()), height=x.shape[2],
                width=x.shape[3], channels=c1 - c0, src_row_stride=image["src_row_stride"],
                src_pixel_stride=image["src_pixel_stride"], src_type=dtype_of(x), dst_type=dtype_of(y),
            ),
        )  # fmt: skip
        core.flush(result_view, result)
        core.release()
