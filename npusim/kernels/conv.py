"""Convolutions of quantized images: dense and grouped.

Called by the executor and by users. The jitted loops are in ``compiled``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import tier
from .compiled.workspace import portable_layout
from .operands import (
    SIGNED,
    Array,
    accumulation,
    bias_array,
    finish,
    fits,
    integer_matmul,
    limits,
    multiplier_array,
    require_contiguous_axis,
    workspace,
    zero_array,
)  # fmt: skip
from .threads import LEAST_TILES, split
from .wide import deliver, fits_words, sum_of_planes

_NO_PARTIAL = np.empty((0, 0, 0), np.int32)

Pair = tuple[int, ...]
Geometry = tuple[int, ...]
"""Kernel, stride, dilation (rows, columns each), pad above and left, groups, transposed."""


def conv(
    src: Array,
    weights: Array,
    dst: Array,
    *,
    kernel: Pair,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    pad: Pair = (0, 0),
    groups: int = 1,
    src_zero: int = 0,
    weight_zero: Any = 0,
    bias: Array | None = None,
    partial: Array | None = None,
    multiplier: Any = None,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """Convolve one image and requantize, exactly.

    Args:
        src: [h, w, c] of 8 or 16 bits.
        weights: dense blocks ``[groups][ceil(n/32)][ceil(k/4)][32][4]`` of any shape, n output channels a group and
            k = kernel rows x kernel columns x input channels of the group; int8, uint8 or int16.
        dst: [oh, ow, oc]: 8 or 16 bits, or int32 (int64 where an operand has 16 bits) for raw accumulators.
        kernel: rows, columns.
        stride: of rows, columns.
        dilation: of rows, columns.
        pad: above, left; a tap outside the image contributes nothing, also below and on the right.
        groups: of channels.
        src_zero: zero point of the source.
        weight_zero: zero point of the weights, or int32[oc].
        bias: int32[oc].
        partial: accumulators of an earlier convolution, int32 (int64) of dst's shape, added.
        multiplier: float32 factor or float32[oc]; see ``isa.law.requantize``.
        dst_zero: zero point of the destination.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    Channels are contiguous; rows and pixels may have any stride.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    _convolve(src, weights, dst, (*kernel, *stride, *dilation, *pad, groups, 0), src_zero, weight_zero, bias, partial,
              multiplier, dst_zero, low, high)  # fmt: skip


def conv_transpose(
    src: Array,
    weights: Array,
    dst: Array,
    *,
    kernel: Pair,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    pad: Pair = (0, 0),
    groups: int = 1,
    src_zero: int = 0,
    weight_zero: Any = 0,
    bias: Array | None = None,
    partial: Array | None = None,
    multiplier: Any = None,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """Transposed convolution: each source pixel adds its kernel, scaled, to the destination; then requantize.

    Source pixel (y, x) and kernel position (i, j) meet destination pixel (y * stride + i * dilation - pad above,
    x * stride + j * dilation - pad left); what falls outside is dropped. Arguments and errors are those of ``conv``.
    """
    _convolve(src, weights, dst, (*kernel, *stride, *dilation, *pad, groups, 1), src_zero, weight_zero, bias, partial,
              multiplier, dst_zero, low, high)  # fmt: skip


def _convolve(src: Array, weights: Array, dst: Array, geometry: Geometry, src_zero: int, weight_zero: Any,
              bias: Array | None, partial: Array | None, multiplier: Any, dst_zero: int, low: int | None,
              high: int | None) -> None:  # fmt: skip
    kernel, stride, dilation, groups = geometry[:2], geometry[2:4], geometry[4:6], geometry[8]
    out_h, out_w, out_channels = dst.shape
    channels = src.shape[2]
    if groups < 1 or channels % groups or out_channels % groups:
        raise ValueError(f"{groups} groups do not divide {channels} source and {out_channels} destination channels")
    mode, wide, bias_, zeros, multipliers, low, high = check(
        src, weights, dst, partial, kernel, stride, dilation, bias, weight_zero, multiplier, low, high
    )
    n, k = out_channels // groups, kernel[0] * kernel[1] * (channels // groups)
    blocks, steps = (n + 31) // 32, (k + 3) // 4
    if weights.size != groups * blocks * steps * 128:
        raise ValueError(f"weights have {weights.size} elements; {groups} x {blocks} x {steps} blocks of 128 wanted")
    if dst.size == 0:
        return
    blocked = weights.reshape(-1)
    chosen = tier.active()
    jitted = chosen is not tier.Tier.NUMPY and k > 0 and src.size > 0 and fits(src, src_zero, zeros, dst_zero)
    if jitted and wide and fits_words(k, blocked, zeros):

        def multiply(src: Array, src_zero: int, weights: Array, weight_zero: Any, acc: Array) -> None:
            _convolve(src, weights, acc, geometry, src_zero, weight_zero, None, None, None, 0, None, None)

        acc = sum_of_planes(src, src_zero, blocked, zeros, dst.shape, multiply)
        deliver(acc, dst, bias_, multipliers, partial, dst_zero, low, high)
        return
    if not jitted or wide:
        _numpy(src, blocked, dst, geometry, src_zero, zeros, bias_, partial, multipliers,
               dst_zero, low, high, wide)  # fmt: skip
        return
    portable = chosen is tier.Tier.PORTABLE
    size = portable_layout(k, n)[-1] if portable else 8192 + blocks * 704 + 32 * (k + 192)
    signs = SIGNED[src.dtype] + 2 * SIGNED[weights.dtype]
    compiled = _portable() if portable else _vnni()
    views = (src.view(np.uint8), blocked.view(np.uint8), dst.view(np.uint8))

    def run(begin: int, end: int) -> None:
        compiled.conv(*views, _NO_PARTIAL if partial is None else partial, geometry, signs, src_zero, zeros, bias_,
                      multipliers, mode, dst_zero, low, high, workspace(size), begin, end)  # fmt: skip

    split(run, -(-out_h * out_w // compiled.MAX_ROWS), 2 * out_h * out_w * out_channels * k, LEAST_TILES[chosen])


def check(src: Array, weights: Array, dst: Array, partial: Array | None, kernel: Pair, stride: Pair, dilation: Pair,
           bias: Array | None, weight_zero: Any, multiplier: Any, low: int | None,
           high: int | None) -> tuple[Any, ...]:  # fmt: skip
    """Types, strides and parameter arrays of any convolution."""
    if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1:
        raise ValueError(f"kernel {kernel}, stride {stride} and dilation {dilation} must be at least 1")
    mode, wide = accumulation(src, weights, dst, partial)
    require_contiguous_axis(src=src, dst=dst)
    if not weights.flags.c_contiguous:
        raise ValueError("weights are not contiguous")
    channels = dst.shape[2]
    low, high = limits(dst.dtype, low, high)
    return (mode, wide, bias_array(bias, channels), zero_array(weight_zero, channels),
            multiplier_array(multiplier, channels, mode >= 2), low, high)  # fmt: skip


@cache
def _vnni() -> Any:
    from .compiled import matrix_vnni

    return matrix_vnni


@cache
def _portable() -> Any:
    from .compiled import matrix_portable

    return matrix_portable


def taps(image: Array, out_size: Pair, kernel: Pair, stride: Pair, dilation: Pair, pad: Pair, padding: int) -> Array:
    """A view [oh, ow, kernel rows, kernel columns, c] of the padded image: the pixels under each kernel position."""
    height, width, channels = image.shape
    out_h, out_w = out_size
    rows = max((out_h - 1) * stride[0] + (kernel[0] - 1) * dilation[0] + 1, pad[0] + height)
    columns = max((out_w - 1) * stride[1] + (kernel[1] - 1) * dilation[1] + 1, pad[1] + width)
    padded = np.full((rows, columns, channels), padding, image.dtype)
    padded[pad[0] : pad[0] + height, pad[1] : pad[1] + width] = image
    row, column, channel = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded, (out_h, out_w, *kernel, channels),
        (row * stride[0], column * stride[1], row * dilation[0], column * dilation[1], channel),
    )  # fmt: skip


def _numpy(src: Array, blocked: Array, dst: Array, geometry: Geometry, src_zero: int, zeros: Array, bias: Array,
           partial: Array | None, multipliers: Array, dst_zero: int, low: int, high: int,
           wide: bool) -> None:  # fmt: skip
    out_h, out_w, out_channels = dst.shape
    kernel, groups = geometry[:2], geometry[8]
    n, in_group = out_channels // groups, src.shape[2] // groups
    k = kernel[0] * kernel[1] * in_group
    image = src.astype(np.int64) - src_zero
    if geometry[9]:
        patches = _transposed_taps(image, (out_h, out_w), geometry)
    else:
        patches = taps(image, (out_h, out_w), kernel, geometry[2:4], geometry[4:6], geometry[6:8], 0)
    panels = blocked.reshape(groups, -(-n // 32), -(-k // 4), 32, 4).transpose(0, 1, 3, 2, 4)
    panels = panels.reshape(groups, -(-n // 32) * 32, -1)[:, :n, :k].astype(np.int64)
    zeros = np.broadcast_to(zeros, (out_channels,))
    acc = np.empty((out_h * out_w, out_channels), np.int64)
    for g in range(groups):
        here = slice(g * n, (g + 1) * n)
        columns = patches[..., g * in_group : (g + 1) * in_group].reshape(out_h * out_w, k)
        acc[:, here] = integer_matmul(columns, (panels[g] - zeros[here, None]).T)
    finish(acc.reshape(dst.shape), dst, bias, multipliers, partial, dst_zero, low, high, wide)


def _transposed_taps(image: Array, out_size: Pair, geometry: Geometry) -> Array:
    """[oh, ow, kernel rows, kernel columns, c]: the source pixel that meets each kernel position, or 0."""
    result = np.zeros((*out_size, *geometry[:2], image.shape[2]), image.dtype)
    places = []
    for axis in range(2):
        position = np.arange(out_size[axis])[:, None] + geometry[6 + axis]
        position = position - np.arange(geometry[axis]) * geometry[4 + axis]
        index, between = np.divmod(position, geometry[2 + axis])
        places.append(np.where(between == 0, index, -1))
    for i in range(geometry[0]):
        for j in range(geometry[1]):
            rows, columns = places[0][:, i], places[1][:, j]
            y, x = (rows >= 0) & (rows < image.shape[0]), (columns >= 0) & (columns < image.shape[1])
            result[np.ix_(y, x, [i], [j])] = image[np.ix_(rows[y], columns[x])][:, :, None, None]
    return result
