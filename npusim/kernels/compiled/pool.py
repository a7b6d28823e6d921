"""Pooling over windows of an image, over whole images, and along one axis.

Called by ``npusim.kernels.pool`` and ``.reduce``, operands checked. Loops run over channels, which are contiguous.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .build import kernel
from .convert import activation, item_bytes, put_activation
from .geometry import tap_column, tap_row
from .laws import average, dequantize, quantize_real, requantize
from .memory import (
    bytes_at,
    doubles_at,
    floats_at,
    longs_at,
    shorts_at,
    signed_bytes_at,
    unsigned_shorts_at,
    words_at,
)  # fmt: skip
from .signatures import BYTE_IMAGE, BYTE_IMAGE_OUT, WORKSPACE

_GEOMETRY = types.UniTuple(types.int64, 10)


@njit
def _raise_to(target, source):
    for c in range(target.size):
        if source[c] > target[c]:
            target[c] = source[c]


@kernel(types.void(BYTE_IMAGE, BYTE_IMAGE_OUT, _GEOMETRY, types.int64, types.int64))
def max_pool(src, dst, geometry, kind, least):
    """The largest element under each window position, by byte views; ``least`` where there is none."""
    height, width = src.shape[0], src.shape[1]
    channels = dst.shape[2] // item_bytes(kind)
    for y in range(dst.shape[0]):
        for x in range(dst.shape[1]):
            there = dst.ctypes.data + y * dst.strides[0] + x * dst.strides[1]
            if kind < 2:
                bytes_at(there, channels)[:] = np.uint8(least & 255)
            else:
                unsigned_shorts_at(there, channels)[:] = np.uint16(least & 65535)
            for i in range(geometry[0]):
                row = tap_row(geometry, y, i)
                if row < 0 or row >= height:
                    continue
                for j in range(geometry[1]):
                    column = tap_column(geometry, x, j)
                    if column < 0 or column >= width:
                        continue
                    here = src.ctypes.data + row * src.strides[0] + column * src.strides[1]
                    if kind == 0:
                        _raise_to(bytes_at(there, channels), bytes_at(here, channels))
                    elif kind == 1:
                        _raise_to(signed_bytes_at(there, channels), signed_bytes_at(here, channels))
                    elif kind == 2:
                        _raise_to(unsigned_shorts_at(there, channels), unsigned_shorts_at(here, channels))
                    else:
                        _raise_to(shorts_at(there, channels), shorts_at(here, channels))


@kernel(types.void(
    BYTE_IMAGE, BYTE_IMAGE_OUT, _GEOMETRY, types.UniTuple(types.int64, 9), types.float32, types.float32, WORKSPACE,
))  # fmt: skip
def average_pool(src, dst, geometry, integers, src_scale, dst_scale, workspace):
    """The average under each window position.

    ``integers``: kind of the source, item bytes of the destination, zero points of both, clamp limits, whether padding
    counts, padding below and on the right.
    """
    kind, item, src_zero, zero, low, high, count_padding, below, right = integers
    height, width, top, left = src.shape[0], src.shape[1], geometry[6], geometry[7]
    step = item_bytes(kind)
    channels = dst.shape[2] // item
    narrow = step == 1 and item == 1
    singles = floats_at(workspace.ctypes.data, channels)
    doubles = doubles_at(workspace.ctypes.data + 4 * channels, channels)
    for y in range(dst.shape[0]):
        for x in range(dst.shape[1]):
            singles[:] = 0
            doubles[:] = 0
            count = 0
            for i in range(geometry[0]):
                row = tap_row(geometry, y, i)
                for j in range(geometry[1]):
                    column = tap_column(geometry, x, j)
                    if row < 0 or row >= height or column < 0 or column >= width:
                        if count_padding and -top <= row < height + below and -left <= column < width + right:
                            count += 1
                        continue
                    count += 1
                    here = src.ctypes.data + row * src.strides[0] + column * src.strides[1]
                    for c in range(channels):
                        real = dequantize(activation(here + c * step, kind), src_scale, src_zero)
                        if narrow:
                            singles[c] += real
                        else:
                            doubles[c] += np.float64(real)
            there = dst.ctypes.data + y * dst.strides[0] + x * dst.strides[1]
            for c in range(channels):
                if narrow:
                    put_activation(there + c, average(singles[c], count, dst_scale, zero, low, high), 1)
                else:
                    result = quantize_real(doubles[c] / np.float64(count), dst_scale, zero, low, high)
                    put_activation(there + c * item, result, item)


@njit
def _add_pixel(totals, source):
    for c in range(totals.size):
        totals[c] += np.int32(source[c])


@kernel(types.void(
    BYTE_IMAGE, BYTE_IMAGE_OUT, types.int64, types.int64, types.float32, types.UniTuple(types.int64, 4), WORKSPACE,
))  # fmt: skip
def global_average(src, dst, kind, item, multiplier, integers, workspace):
    """Sum of each channel over the image, requantized; ``integers``: zero points of src and dst, clamp limits."""
    src_zero, zero, low, high = integers
    height, width = src.shape[0], src.shape[1]
    channels = dst.shape[2] // item
    totals = longs_at(workspace.ctypes.data, channels)
    row_sums = words_at(workspace.ctypes.data + 8 * channels, channels)
    totals[:] = 0
    for y in range(height):
        row_sums[:] = 0  # 32 bits hold 32,767 elements of 16 bits
        for x in range(width):
            here = src.ctypes.data + y * src.strides[0] + x * src.strides[1]
            if kind == 0:
                _add_pixel(row_sums, bytes_at(here, channels))
            elif kind == 1:
                _add_pixel(row_sums, signed_bytes_at(here, channels))
            elif kind == 2:
                _add_pixel(row_sums, unsigned_shorts_at(here, channels))
            else:
                _add_pixel(row_sums, shorts_at(here, channels))
            if x % 16384 == 16383 or x == width - 1:
                for c in range(channels):
                    totals[c] += row_sums[c]
                row_sums[:] = 0
    for c in range(channels):
        total = totals[c] - np.int64(src_zero) * (height * width)
        put_activation(dst.ctypes.data + c * item, requantize(total, multiplier, zero, low, high), item)


SUM, MEAN, MAX, MIN = range(4)


@kernel(types.void(
    BYTE_IMAGE, BYTE_IMAGE_OUT, types.int64, types.UniTuple(types.int64, 6), types.float32, types.float32, WORKSPACE,
))  # fmt: skip
def reduce_middle(src, dst, operation, integers, src_scale, dst_scale, workspace):
    """Reduce [outer, length, inner] to [outer, 1, inner] in float64, in ascending order.

    ``integers``: kind of the source, item bytes of the destination, zero points of both, clamp limits.
    """
    kind, item, src_zero, zero, low, high = integers
    step = item_bytes(kind)
    inner, length = dst.shape[2] // item, src.shape[1]
    values = doubles_at(workspace.ctypes.data, inner)
    for o in range(dst.shape[0]):
        for index in range(length):
            here = src.ctypes.data + o * src.strides[0] + index * src.strides[1]
            for c in range(inner):
                real = np.float64(dequantize(activation(here + c * step, kind), src_scale, src_zero))
                if index == 0:
                    values[c] = real
                elif operation == MAX:
                    values[c] = max(values[c], real)
                elif operation == MIN:
                    values[c] = min(values[c], real)
                else:
                    values[c] += real
        for c in range(inner):
            value = values[c] / np.float64(length) if operation == MEAN else values[c]
            result = quantize_real(value, dst_scale, zero, low, high)
            put_activation(dst.ctypes.data + o * dst.strides[0] + c * item, result, item)


@kernel(types.void(
    BYTE_IMAGE, BYTE_IMAGE_OUT, types.int64, types.boolean, types.boolean,
))  # fmt: skip
def locate_middle(src, dst, kind, largest, last):
    """The position of the extreme of [outer, length, inner] along the middle, as int32 [outer, 1, inner]."""
    step = item_bytes(kind)
    inner = dst.shape[2] // 4
    for o in range(dst.shape[0]):
        positions = words_at(dst.ctypes.data + o * dst.strides[0], inner)
        for c in range(inner):
            here = src.ctypes.data + o * src.strides[0] + c * step
            best, place = activation(here, kind), 0
            for index in range(1, src.shape[1]):
                value = activation(here + index * src.strides[1], kind)
                better = value > best if largest else value < best
                if better or (last and value == best):
                    best, place = value, index
            positions[c] = place


@kernel(types.void(
    BYTE_IMAGE, BYTE_IMAGE_OUT, types.UniTuple(types.Array(types.int64, 1, "C", readonly=True), 4),
    types.UniTuple(types.Array(types.float64, 1, "C", readonly=True), 2), types.UniTuple(types.int64, 6),
    types.float32, types.float32,
))  # fmt: skip
def resize(src, dst, positions, weights, integers, src_scale, dst_scale):
    """Interpolate along columns, then along rows, in float64.

    ``positions``: low and high source rows, low and high source columns. ``integers``: as ``reduce_middle``.
    """
    kind, item, src_zero, zero, low, high = integers
    step = item_bytes(kind)
    tops, bottoms, lefts, rights = positions
    downs, acrosses = weights
    for y in range(dst.shape[0]):
        upper_row = src.ctypes.data + tops[y] * src.strides[0]
        lower_row = src.ctypes.data + bottoms[y] * src.strides[0]
        down = downs[y]
        for x in range(dst.shape[1]):
            left, right, across = lefts[x] * src.strides[1], rights[x] * src.strides[1], acrosses[x]
            there = dst.ctypes.data + y * dst.strides[0] + x * dst.strides[1]
            for c in range(dst.shape[2] // item):
                value = 0.0
                for edge in range(2):
                    row = upper_row if edge == 0 else lower_row
                    near = np.float64(dequantize(activation(row + left + c * step, kind), src_scale, src_zero))
                    far = np.float64(dequantize(activation(row + right + c * step, kind), src_scale, src_zero))
                    between = near * (1.0 - across) + far * across
                    value = between * (1.0 - down) if edge == 0 else value + between * down
                put_activation(there + c * item, quantize_real(value, dst_scale, zero, low, high), item)
