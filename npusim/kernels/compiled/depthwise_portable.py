"""Depthwise convolution of any element types as plain loops over channels.

Called by ``npusim.kernels.depthwise`` on the portable tier, and on the VNNI tier for what its kernel leaves out.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .build import kernel
from .convert import item_bytes, put, widen
from .geometry import tap_column, tap_row
from .laws import narrow_requantize, requantize
from .memory import bytes_at, longs_at, shorts_at, signed_bytes_at, unsigned_shorts_at, words_at
from .signatures import BYTE_IMAGE, BYTE_IMAGE_OUT, BYTE_RUN, FLOATS, WORDS, WORKSPACE

BYTES, RAW, RAW_WIDE = 0, 2, 3


@njit
def _gather_kernels(target, weights, channels, taps, kind, zeros):
    """Weights less their zero points as int32[taps][channels]."""
    for tap in range(taps):
        line = words_at(target + 4 * tap * channels, channels)
        widen(line, weights + tap * channels * item_bytes(kind), channels, kind, 0)
        for c in range(channels):
            line[c] -= zeros[0] if zeros.size == 1 else zeros[c]


@njit
def _add_products(acc, pixel, line, zero):
    for c in range(acc.size):
        acc[c] += np.int32((np.int32(pixel[c]) - zero) * line[c])


@njit
def _add_wide_products(acc, pixel, line, zero):
    for c in range(acc.size):
        acc[c] += (np.int64(pixel[c]) - np.int64(zero)) * np.int64(line[c])


@njit
def _tap(narrow, acc, source, channels, kind, wide, line, zero):
    """Add one kernel position to the 32-bit or 64-bit accumulators."""
    if not wide:
        if kind == 0:
            _add_products(narrow, bytes_at(source, channels), line, zero)
        else:
            _add_products(narrow, signed_bytes_at(source, channels), line, zero)
    elif kind == 0:
        _add_wide_products(acc, bytes_at(source, channels), line, zero)
    elif kind == 1:
        _add_wide_products(acc, signed_bytes_at(source, channels), line, zero)
    elif kind == 2:
        _add_wide_products(acc, unsigned_shorts_at(source, channels), line, zero)
    else:
        _add_wide_products(acc, shorts_at(source, channels), line, zero)


@njit
def _finish(target, narrow, acc, addend, multiplier, mode, wide, zero, low, high):
    """Add the partial accumulators at ``addend``, if not 0, and store a pixel."""
    channels = acc.size
    if addend and wide:
        partial = longs_at(addend, channels)
        for c in range(channels):
            acc[c] += partial[c]
    elif addend:
        words = words_at(addend, channels)
        for c in range(channels):
            narrow[c] += words[c]
    if mode == BYTES and not wide:
        octets = bytes_at(target, channels)
        floor, ceiling, point = np.float32(low - zero), np.float32(high - zero), np.int32(zero)
        for c in range(channels):
            factor = multiplier[0] if multiplier.size == 1 else multiplier[c]
            octets[c] = narrow_requantize(narrow[c], factor, point, floor, ceiling)
        return
    item = 8 if mode == RAW_WIDE else (4 if mode == RAW else mode + 1)
    for c in range(channels):
        value = acc[c] if wide else np.int64(narrow[c])
        if mode < RAW:
            factor = multiplier[0] if multiplier.size == 1 else multiplier[c]
            value = requantize(value, factor, zero, low, high)
        put(target + c * item, value, item)


@kernel(types.void(
    BYTE_IMAGE, BYTE_RUN, BYTE_IMAGE_OUT, BYTE_IMAGE, types.UniTuple(types.int64, 10), types.int64, types.int64,
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
    acc = longs_at(workspace.ctypes.data, channels)
    narrow = words_at(workspace.ctypes.data + 8 * channels, channels)
    kernels = workspace.ctypes.data + 12 * channels
    _gather_kernels(kernels, weights.ctypes.data, channels, kernel_h * kernel_w, weight_kind, weight_zero)
    for y in range(begin, end):
        for x in range(dst.shape[1]):
            for c in range(channels):
                start = np.int32(0) if bias.size == 0 else bias[c]
                acc[c] = start
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
                    line = words_at(kernels + 4 * (i * kernel_w + j) * channels, channels)
                    _tap(narrow, acc, source, channels, src_kind, wide, line, np.int32(src_zero))
            addend = 0
            if partial.size:
                addend = partial.ctypes.data + y * partial.strides[0] + x * partial.strides[1]
            target = dst.ctypes.data + y * dst.strides[0] + x * dst.strides[1]
            _finish(target, narrow, acc, addend, multiplier, mode, wide, zero, low, high)
