"""Depthwise convolution of any element types as plain loops over channels.

Called by ``npusim.kernels.depthwise`` on the portable tier, and on the VNNI tier for what its kernel leaves out.
"""

from __future__ import annotations

import numpy as np
from numba import types

from .build import kernel
from .convert import item_bytes, widen
from .geometry import tap_column, tap_row
from .laws import requantize
from .memory import bytes_at, longs_at, shorts_at, words_at
from .signatures import BYTE_IMAGE, BYTE_IMAGE_OUT, BYTE_RUN, FLOATS, WORDS, WORKSPACE

_ANY_IMAGE = types.Array(types.uint8, 3, "A", readonly=True)


@kernel(types.void(
    BYTE_IMAGE, BYTE_RUN, BYTE_IMAGE_OUT, _ANY_IMAGE, types.UniTuple(types.int64, 10), types.int64, types.int64,
    types.int64, WORDS, WORDS, FLOATS, types.int64, types.int64, types.int64, types.int64, WORKSPACE, types.int64,
    types.int64,
))  # fmt: skip
def depthwise(src, weights, dst, partial, geometry, src_kind, weight_kind, src_zero, weight_zero, bias, multiplier,
              mode, zero, low, high, workspace, begin, end):  # fmt: skip
    """Convolve output rows ``begin`` to ``end``.

    Args:
        src: byte view [h, w, c * item bytes].
        weights: bytes of [kernel rows][kernel columns][c].
        dst: byte view.
        partial: byte view of the accumulators, or of size 0.
        src_kind: see ``convert``.
        mode: see ``deliver``; 3 is raw s64.
    """
    kernel_h, kernel_w = geometry[0], geometry[1]
    height, width = src.shape[0], src.shape[1]
    item = item_bytes(src_kind)
    channels = src.shape[2] // item
    wide = src_kind >= 2 or weight_kind >= 2
    base = workspace.ctypes.data
    acc = longs_at(base, channels)
    narrow = words_at(base, channels)
    pixel = words_at(base + 8 * channels, channels)
    kernels = words_at(base + 12 * channels, kernel_h * kernel_w * channels)
    for tap in range(kernel_h * kernel_w):
        line = kernels[tap * channels : (tap + 1) * channels]
        widen(line, weights.ctypes.data + tap * channels * item_bytes(weight_kind), channels, weight_kind, 0)
        for c in range(channels):
            line[c] -= weight_zero[0] if weight_zero.size == 1 else weight_zero[c]
    for y in range(begin, end):
        for x in range(dst.shape[1]):
            for c in range(channels):
                start = np.int32(0) if bias.size == 0 else bias[c]
                if wide:
                    acc[c] = start
                else:
                    narrow[c] = start
            for i in range(kernel_h):
                row = tap_row(geometry, y, i)
                if row < 0 or row >= height:
                    continue
                for j in range(kernel_w):
                    column = tap_column(geometry, x, j)
                    if column < 0 or column >= width:
                        continue
                    source = src.ctypes.data + row * src.strides[0] + column * src.strides[1]
                    widen(pixel, source, channels, src_kind, src_zero)
                    line = kernels[(i * kernel_w + j) * channels :]
                    if wide:
                        for c in range(channels):
                            acc[c] += np.int64(pixel[c]) * np.int64(line[c])
                    else:
                        for c in range(channels):
                            narrow[c] += np.int32(pixel[c] * line[c])
            if not wide:
                for c in range(channels - 1, -1, -1):
                    acc[c] = narrow[c]
            if partial.size:
                addend = partial.ctypes.data + y * partial.strides[0] + x * partial.strides[1]
                if wide:
                    for c in range(channels):
                        acc[c] += longs_at(addend, channels)[c]
                else:
                    for c in range(channels):
                        acc[c] = np.int32(acc[c] + words_at(addend, channels)[c])
            target = dst.ctypes.data + y * dst.strides[0] + x * dst.strides[1]
            if mode == 3:
                longs_at(target, channels)[:] = acc
            elif mode == 2:
                raw = words_at(target, channels)
                for c in range(channels):
                    raw[c] = acc[c]
            elif mode == 1:
                shorts = shorts_at(target, channels)
                for c in range(channels):
                    factor = multiplier[0] if multiplier.size == 1 else multiplier[c]
                    shorts[c] = requantize(acc[c], factor, zero, low, high)
            else:
                octets = bytes_at(target, channels)
                for c in range(channels):
                    factor = multiplier[0] if multiplier.size == 1 else multiplier[c]
                    octets[c] = requantize(acc[c], factor, zero, low, high)
