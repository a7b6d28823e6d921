"""Convolutions and matrix products with constant weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from isa import law
from isa.dtypes import DType
from isa.instructions import Conv, DepthwiseConv, Parameters, block_weights
from isa.region import ceil_div
from npusim.graph import Node

from ..context import Context, LoweringError, clamp_of, dtype_of, lowers, scale_of, zero_of
from ..packing import span
from ..partition import Piece, Product, pieces
from ..plan import Operand
from ..view import View
from .attention import batched_matmul
from .movement import relayout

OC_GRANULE = 32
"""Output channels of one weight block: channels are cut in multiples of it."""
CHANNELS_LAST = (0, 2, 3, 1)
"""Order of the axes of [N, C, H, W] in storage."""
RAW = (DType.S32, DType.S64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epilogue:
    """What turns the accumulators of a node into its result, for all channels.

    Attributes:
        bias: int32[channels], or None.
        factors: float32[channels].
        zeros: zero point of the weights, int64[channels].
        head: the block's head, but for the weights' zero point.
        types: element types, as instruction fields.
    """

    bias: np.ndarray[Any, Any] | None
    factors: np.ndarray[Any, Any]
    zeros: np.ndarray[Any, Any]
    head: dict[str, int]
    types: dict[str, DType]

    def block(self, low: int, high: int) -> tuple[bytes, dict[str, int]]:
        """The parameter block of channels [low, high), and the flags that go with it."""
        uniform = bool((self.zeros == self.zeros[0]).all())
        arrays = [] if self.bias is None else [self.bias[low:high].astype("<i4")]
        arrays.append(self.factors[low:high].astype("<f4"))
        if not uniform:
            arrays.append(self.zeros[low:high].astype("<i4"))
        flags = {"has_bias": int(self.bias is not None), "per_channel": 1, "channel_zeros": int(not uniform)}
        zero_b = int(self.zeros[0]) if uniform else 0
        return Parameters(**self.head, zero_b=zero_b).pack(*arrays), flags


def epilogue(ctx: Context, node: Node, channels: int) -> Epilogue:
    """The epilogue of a product: its first operand, its weights, and a bias if there is a third."""
    x, w, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.inputs[1]), ctx.tensor(node.output)
    assert w.quantization is not None
    raw = dtype_of(y) in RAW
    scales = of_channels(np.asarray(w.quantization.scale, np.float32), channels)
    alpha = node.attributes.get("alpha")
    if raw:
        factors = np.ones(channels, np.float32)
    elif alpha is None:
        factors = np.asarray(law.requantize_multiplier(scale_of(x), scales, scale_of(y)), np.float32)
    else:
        factors = np.asarray(law.gemm_multiplier(alpha, scale_of(x), scales, scale_of(y)), np.float32)
    low, high = (-128, 127) if raw else clamp_of(node, y)
    return Epilogue(
        bias=ctx.tensor(node.inputs[2]).data if len(node.inputs) > 2 else None,
        factors=factors,
        zeros=of_channels(np.asarray(w.quantization.zero_point, np.int64), channels),
        head={"zero_a": zero_of(x), "zero": 0 if raw else zero_of(y), "low": low, "high": high},
        types={"src_type": dtype_of(x), "weight_type": dtype_of(w), "dst_type": dtype_of(y)},
    )


def of_channels(values: np.ndarray[Any, Any], channels: int) -> np.ndarray[Any, Any]:
    """One value for each channel, from one for all, one for each, or those of a group that all groups share."""
    return np.tile(values.reshape(-1), channels // values.size)


@lowers("conv")
def conv(ctx: Context, node: Node) -> None:
    """Channels-last images after one another; one instruction per piece of the result."""
    x, w, y = ctx.tensor(node.inputs[0]), ctx.tensor(node.inputs[1]), ctx.tensor(node.output)
    if len(x.shape) != 4 or w.data is None:
        raise LoweringError(f"{node.name} (conv): input {x.shape}; the machine takes 2-D images and constant weights")
    groups, channels = int(node.attributes["groups"]), y.shape[1]
    src = relayout(ctx, node.inputs[0], CHANNELS_LAST)
    dst = ctx.new(node.output, order=CHANNELS_LAST)
    plain = groups == 1
    depthwise = groups == x.shape[1] == channels and not plain
    granule = OC_GRANULE if plain or depthwise else channels // groups
    rest = epilogue(ctx, node, channels)
    row = x.shape[1] * x.shape[3] * x.numpy.itemsize
    stride, reach = node.attributes["strides"][0], (w.shape[2] - 1) * node.attributes["dilations"][0] + 1
    work = Product(
        rows=y.shape[2], pixels=y.shape[3], taps=w.shape[2] * w.shape[3], depth=1 if depthwise else w.shape[1],
        channels=channels, groups=1 if depthwise else groups, granule=granule, weight_bytes=w.data.nbytes,
        source_bytes=x.size // x.shape[0], row_bytes=(row * stride, y.shape[3] * channels * y.numpy.itemsize),
        halo_bytes=row * max(0, reach - stride),
    )  # fmt: skip
    for index in range(x.shape[0]):
        image, result = src.slice(0, index, index + 1), dst.slice(0, index, index + 1)
        assert image is not None
        assert result is not None
        for piece in pieces(ctx, work):
            _convolve(node, piece, image, result, w.data, rest, groups, depthwise)


def window_fields(node: Node, kernel: tuple[int, int]) -> dict[str, int]:
    """Kernel, strides and dilations as instruction fields."""
    a = node.attributes
    return {
        "kernel_height": kernel[0], "kernel_width": kernel[1],
        "stride_height": a["strides"][0], "stride_width": a["strides"][1],
        "dilation_height": a["dilations"][0], "dilation_width": a["dilations"][1],
    }  # fmt: skip


def source_rows(node: Node, kernel_rows: int, height: int, rows: tuple[int, int]) -> tuple[int, int, int]:
    """The source rows that result rows need, first and last plus one, and the padding above the first."""
    a = node.attributes
    top = rows[0] * a["strides"][0] - a["pads"][0]
    bottom = (rows[1] - 1) * a["strides"][0] - a["pads"][0] + (kernel_rows - 1) * a["dilations"][0] + 1
    low = min(max(top, 0), height - 1)
    return low, min(max(bottom, low + 1), height), max(0, -top)


def image_fields(source: Operand, result: Operand) -> dict[str, int]:
    """Addresses, sizes and strides of two channels-last images as instruction fields."""
    extents = [tuple(int(np.prod([n for n, _ in axis])) for axis in o.axes) for o in (source, result)]
    fields = {"src": source.address, "dst": result.address, "in_height": extents[0][2], "in_width": extents[0][3],
              "out_height": extents[1][2], "out_width": extents[1][3], "in_channels": extents[0][1]}  # fmt: skip
    for name, operand in (("src", source), ("dst", result)):
        pixel = stride_of(operand, 3, stride_of(operand, 2, extents[name == "dst"][1]))
        row = stride_of(operand, 2, pixel * extents[name == "dst"][3])
        fields[f"{name}_pixel_stride"] = pixel * operand.item_bytes
        fields[f"{name}_row_stride"] = row * operand.item_bytes
    return fields


def stride_of(operand: Operand, axis: int, otherwise: int) -> int:
    """Elements from one entry of an axis to the next; ``otherwise`` where it has only one entry."""
    factors = [f for f in operand.axes[axis] if f[0] > 1]
    assert len(factors) <= 1, "an image's axis is one factor"
    return factors[0][1] if factors else otherwise


def _convolve(
    node: Node, piece: Piece, src: View, dst: View, weights: np.ndarray[Any, Any], rest: Epilogue, groups: int,
    depthwise: bool,
) -> None:  # fmt: skip
    core, (c0, c1), channels = piece.core, piece.channels, dst.shape[1]
    first, last = c0 * groups // channels, ceil_div(c1 * groups, channels)
    kernel = weights.shape[2:]
    low, high, pad_top = source_rows(node, kernel[0], src.shape[2], piece.rows)
    per_group = src.shape[1] // groups
    part, result_view = src.slice(2, low, high), dst.slice(2, *piece.rows)
    assert part is not None
    assert result_view is not None
    if (first, last) != (0, groups):
        part = part.slice(1, first * per_group, last * per_group)
        assert part is not None
    if (c0, c1) != (0, channels):
        result_view = result_view.slice(1, c0, c1)
        assert result_view is not None
    if piece.common:
        core.open(dst.slice(2, *piece.share))
    source, result = core.fetch(part), core.room(result_view)
    tile = weights[c0:c1]
    if depthwise:
        blob = np.ascontiguousarray(tile[:, 0].transpose(1, 2, 0)).tobytes()
    else:
        flat = tile.transpose(0, 2, 3, 1).reshape(last - first, (c1 - c0) // (last - first), -1)
        blob = b"".join(block_weights(group).tobytes() for group in flat)
    params, flags = rest.block(c0, c1)
    fields = {
        **image_fields(source, result), **window_fields(node, (kernel[0], kernel[1])), **rest.types, **flags,
        "pad_top": pad_top, "pad_left": node.attributes["pads"][1],
        "weights": core.constant(blob, common=piece.common), "params": core.constant(params, common=piece.common),
    }  # fmt: skip
    if depthwise:
        core.run(piece.unit, DepthwiseConv(**fields))
    else:
        core.run(piece.unit, Conv(**fields, out_channels=c1 - c0, groups=last - first))
    core.flush(result_view, result)
    core.release()


@lowers("matmul")
def matmul(ctx: Context, node: Node) -> None:
    """A constant second operand is a 1 x 1 convolution over the tokens; live ones are batched products."""
    w = ctx.tensor(node.inputs[1])
    if w.data is None or len(w.shape) != 2:
        live_matmul(ctx, node)
        return
    depth, channels = w.shape
    src = token_rows(ctx, node.inputs[0], plain=True)
    dst = ctx.new(
        node.output, like=ctx.view(node.inputs[0]) if src.storage == ctx.view(node.inputs[0]).storage else None
    )
    tokens = src.shape[0]
    result = View(dst.storage, 0, (((tokens, channels),), ((channels, 1),)))
    rest = epilogue(ctx, node, channels)
    weights = np.ascontiguousarray(w.data.T)
    row_bytes = (
        depth * ctx.tensor(node.inputs[0]).numpy.itemsize, channels * ctx.tensor(node.output).numpy.itemsize
    )  # fmt: skip
    work = Product(
        rows=tokens, pixels=1, taps=1, depth=depth, channels=channels, groups=1, granule=OC_GRANULE,
        weight_bytes=w.data.nbytes, source_bytes=tokens * depth, row_bytes=row_bytes, halo_bytes=0,
    )  # fmt: skip
    for piece in pieces(ctx, work):
        core, (r0, r1), (c0, c1) = piece.core, piece.rows, piece.channels
        part, result_view = src.slice(0, r0, r1), result.slice(0, r0, r1)
        assert part is not None
        assert result_view is not None
        if (c0, c1) != (0, channels):
            result_view = result_view.slice(1, c0, c1)
            assert result_view is not None
        if piece.common:
            core.open(result.slice(0, *piece.share))
        a, y = core.fetch(part), core.room(result_view)
        params, flags = rest.block(c0, c1)
        fields: dict[str, Any] = {**rest.types, **flags}
        core.run(
            piece.unit,
            Conv(
                src=a.address, dst=y.address, in_height=1, out_height=1, in_width=r1 - r0, out_width=r1 - r0,
                in_channels=depth, out_channels=c1 - c0, src_pixel_stride=depth * a.item_bytes, src_row_stride=0,
                dst_pixel_stride=stride_of(y, 0, c1 - c0) * y.item_bytes, dst_row_stride=0,
                weights=core.constant(block_weights(weights[c0:c1]).tobytes(), common=piece.common),
                params=core.constant(params, common=piece.common), **fields,
            ),
        )  # fmt: skip
        core.flush(result_view, y)
        core.release()


def live_matmul(ctx: Context, node: Node) -> None:
    """Two live operands, or batches of constant ones: one multiplier, or one per column."""
    channels = ctx.tensor(node.output).shape[-1]
    rest = epilogue(ctx, node, channels)
    block, flags = rest.block(0, channels)
    batched_matmul(ctx, node, {**rest.types, **flags}, block)


def token_rows(ctx: Context, name: str, *, plain: bool = False) -> View:
    """A tensor as [tokens, features] in the order of its storage, features contiguous; copied where it is not dense."""
    view, tensor = ctx.view(name), ctx.tensor(name)
    features = tensor.shape[-1]
    low, high = span(view)
    regrouped = plain and any(len(axis) > 1 for axis in view.axes)
    if regrouped or not (high - low == tensor.size and (features == 1 or view.axes[-1] == ((features, 1),))):
        view = relayout(ctx, name, range(len(tensor.shape)))
    tokens = tensor.size // features
    axes = (((tokens, features),) if tokens > 1 else (), ((features, 1),) if features > 1 else ())
    return View(view.storage, view.offset, axes)
