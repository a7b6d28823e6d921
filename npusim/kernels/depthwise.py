"""Depthwise convolution of quantized images: every channel with its own kernel.

Called by the executor and by users. The jitted loops are in ``compiled``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import tier
from .compiled.workspace import depthwise_layout
from .conv import Pair, check, taps
from .operands import KINDS, Array, finish, fits, workspace
from .threads import split

_NO_PARTIAL = np.empty((0, 0, 0), np.uint8)


def depthwise(
    src: Array,
    weights: Array,
    dst: Array,
    *,
    kernel: Pair,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    pad: Pair = (0, 0),
    src_zero: int = 0,
    weight_zero: Any = 0,
    bias: Array | None = None,
    partial: Array | None = None,
    multiplier: Any = None,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """Convolve each channel of one image with its own kernel and requantize, exactly.

    Args:
        src: [h, w, c] of 8 or 16 bits.
        weights: dense [kernel rows, kernel columns, c] of any shape; 8 bits or int16.
        dst: [oh, ow, c].

    The other arguments, and what is raised, are those of ``conv``.
    """
    channels = dst.shape[2]
    if src.shape[2] != channels or weights.size != kernel[0] * kernel[1] * channels:
        raise ValueError(f"shapes do not fit: src {src.shape}, {weights.size} weights of {kernel}, dst {dst.shape}")
    mode, wide, bias_, zeros, multipliers, low, high = check(
        src, weights, dst, partial, kernel, stride, dilation, bias, weight_zero, multiplier, low, high
    )
    if dst.size == 0:
        return
    chosen = tier.active()
    if chosen is tier.Tier.NUMPY or src.size == 0 or not fits(src, src_zero, zeros, dst_zero):
        patches = taps(src.astype(np.int64) - src_zero, dst.shape[:2], kernel, stride, dilation, pad, 0)
        kernels = weights.reshape(*kernel, channels).astype(np.int64) - zeros
        acc = np.einsum("yxijc,ijc->yxc", patches, kernels)
        finish(acc, dst, bias_, multipliers, partial, dst_zero, low, high, wide)
        return
    geometry = (*kernel, *stride, *dilation, *pad, 1, 0)
    out_h, out_w = dst.shape[:2]
    plain = mode == 0 and partial is None and weights.dtype == np.int8 and not wide and not zeros.any()
    if plain and chosen is tier.Tier.VNNI:
        pitch = (channels + 63) // 64 * 64
        planes = (kernel[0] + 3) // 4
        columns = max(pad[1] + src.shape[1], (out_w - 1) * stride[1] + (kernel[1] - 1) * dilation[1] + 1)
        slots = (kernel[0] - 1) * dilation[0] + 1
        size = (
            pitch * (8 + 4 * planes * kernel[1])
            + (planes * columns + 4 * stride[1]) * 256
            + slots * (columns * pitch + 64)
        )
        flip = 128 if src.dtype == np.int8 else 0
        views = (src.view(np.uint8), weights.reshape(-1).view(np.uint8), dst.view(np.uint8))

        def run(begin: int, end: int) -> None:
            _vnni().depthwise(*views, geometry, flip, src_zero + flip, bias_, multipliers, dst_zero, low, high,
                              workspace(size + 256), begin, end)  # fmt: skip

        # A step multiplies a quarter as fast as in a matrix product.
        split(run, out_h, 8 * dst.size * kernel[0] * kernel[1])
        return
    taps_count = kernel[0] * kernel[1]
    compiled = _portable()
    run_rows = compiled.depthwise_wide if wide else compiled.depthwise
    size = channels * (8 + 4 * taps_count) if wide else depthwise_layout(channels, taps_count)[-1]
    arrays = (src.view(np.uint8), weights.reshape(-1).view(np.uint8), dst.view(np.uint8),
              _NO_PARTIAL if partial is None else partial.view(np.uint8))  # fmt: skip

    def run_portable(begin: int, end: int) -> None:
        run_rows(*arrays, geometry, KINDS[src.dtype], KINDS[weights.dtype], src_zero, zeros, bias_, multipliers, mode,
                 dst_zero, low, high, workspace(size), begin, end)  # fmt: skip

    split(run_portable, out_h, 8 * dst.size * taps_count)


@cache
def _vnni() -> Any:
    from .compiled import depthwise_vnni

    return depthwise_vnni


@cache
def _portable() -> Any:
    from .compiled import depthwise_portable

    return depthwise_portable
