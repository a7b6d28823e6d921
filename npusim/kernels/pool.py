"""Pooling of quantized images, over windows and over whole images.

Called by the executor and by users. The jitted loops are in ``compiled``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from isa import law

from . import tier
from .conv import Pair, taps
from .operands import KINDS, LIMITS, Array, limits, require_images, workspace


def max_pool(src: Array, dst: Array, *, kernel: Pair, stride: Pair = (1, 1), dilation: Pair = (1, 1),
             pad: Pair = (0, 0)) -> None:  # fmt: skip
    """The largest integer under each window position; padding never wins.

    Args:
        src: [h, w, c] of 8 or 16 bits; rows and pixels of any stride.
        dst: [oh, ow, c] of the same type.
        kernel: rows, columns; stride, dilation and pad (above, left) likewise.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    require_images(src, dst, kernel, stride, dilation)
    if src.dtype != dst.dtype or src.shape[2] != dst.shape[2]:
        raise ValueError(f"{src.dtype}{src.shape} to {dst.dtype}{dst.shape}: types or channels differ")
    if dst.size == 0:
        return
    least = LIMITS[src.dtype][0]
    if tier.active() is tier.Tier.NUMPY or src.size == 0:
        dst[...] = taps(src, dst.shape[:2], kernel, stride, dilation, pad, least).max(axis=(2, 3))
        return
    geometry = (*kernel, *stride, *dilation, *pad, 1, 0)
    _compiled().max_pool(src.view(np.uint8), dst.view(np.uint8), geometry, KINDS[src.dtype], least)


def average_pool(
    src: Array,
    dst: Array,
    *,
    kernel: Pair,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    pad: Pair = (0, 0),
    pad_end: Pair = (0, 0),
    count_padding: bool = False,
    src_scale: Any,
    dst_scale: Any,
    src_zero: int = 0,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """The average under each window position; bytes by ``isa.law.average``, 16-bit types through float64.

    Args:
        src: [h, w, c] of 8 or 16 bits; rows and pixels of any stride.
        dst: [oh, ow, c] of 8 or 16 bits.
        kernel: rows, columns; stride, dilation and pad (above, left) likewise.
        pad_end: padding below, on the right, for ``count_padding``.
        count_padding: whether padding counts as zeros, below and on the right as far as ``pad_end`` says.
        src_scale: of the source, float32; the destination's likewise.
        src_zero: zero point of the source; the destination's likewise.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    require_images(src, dst, kernel, stride, dilation)
    low, high = limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    src_scale, dst_scale = np.float32(src_scale), np.float32(dst_scale)
    if tier.active() is tier.Tier.NUMPY:
        height, width = src.shape[:2]
        window = (dst.shape[:2], kernel, stride, dilation)
        counted = np.full((height + pad[0] + pad_end[0], width + pad[1] + pad_end[1], 1), int(count_padding))
        counted[pad[0] :, pad[1] :][:height, :width] = 1
        counts = taps(counted, *window, (0, 0), 0).sum(axis=(2, 3))
        real = taps(law.dequantize(src, src_scale, src_zero), *window, pad, 0)
        narrow = src.itemsize == dst.itemsize == 1
        total: Array = np.zeros(dst.shape, np.float32 if narrow else np.float64)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                total = total + real[:, :, i, j]
        if narrow:
            dst[...] = law.average(total, counts, dst_scale, dst_zero, low, high)
        else:
            dst[...] = law.quantize_real(total / counts, dst_scale, dst_zero, low, high)
        return
    geometry = (*kernel, *stride, *dilation, *pad, 1, 0)
    integers = (KINDS[src.dtype], dst.itemsize, src_zero, dst_zero, low, high, int(count_padding), *pad_end)
    _compiled().average_pool(src.view(np.uint8), dst.view(np.uint8), geometry, integers, src_scale, dst_scale,
                             workspace(12 * dst.shape[2]))  # fmt: skip


def global_average_pool(
    src: Array,
    dst: Array,
    *,
    src_zero: int = 0,
    multiplier: Any,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """Average each channel over the image: exact sum, then ``isa.law.requantize``.

    Args:
        src: [h, w, c] of 8 or 16 bits; rows and pixels of any stride.
        dst: [c] of 8 or 16 bits.
        src_zero: zero point of the source; the destination's likewise.
        multiplier: float32, of ``isa.law.global_average_multiplier``.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    if dst.ndim != 1:
        raise ValueError(f"dst {dst.shape} is not [channels]")
    result = dst[None, None]
    require_images(src, result, (1, 1), (1, 1), (1, 1))
    low, high = limits(dst.dtype, low, high)
    if tier.active() is tier.Tier.NUMPY or src.size == 0:
        total = (src.astype(np.int64) - src_zero).sum(axis=(0, 1))
        dst[...] = law.requantize(total, np.float32(multiplier), dst_zero, low, high)
        return
    _compiled().global_average(src.view(np.uint8), result.view(np.uint8), KINDS[src.dtype], dst.itemsize, multiplier,
                               (src_zero, dst_zero, low, high), workspace(12 * dst.size))  # fmt: skip


@cache
def _compiled() -> Any:
    from .compiled import pool

    return pool
