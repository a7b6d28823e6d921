"""Changes of scale or type over rows: requantize, rescale, quantize, dequantize.

Called by ``npusim.kernels.rescale``, operands checked. A byte has 256 values: its results come from a table made on
the spot. Accumulators take vector code, everything else plain loops over the law.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .build import kernel
from .convert import element, item_bytes, put
from .laws import dequantize, quantize, requantize
from .lookup import PERMUTES, permute_rows
from .memory import bytes_at, floats_at
from .rows import requantize_row
from .signatures import BYTE_ROWS, BYTE_ROWS_OUT, FLOATS, WORKSPACE


@kernel(types.void(BYTE_ROWS, BYTE_ROWS_OUT, FLOATS, types.int64, types.int64, types.int64))
def words_to_bytes(src, dst, multiplier, zero, low, high):
    """Requantize int32 (a byte view, [rows, 4 count]) without a zero point to bytes."""
    rows, count = dst.shape
    step = 0 if multiplier.size == 1 else 4
    src_pitch, dst_pitch = src.strides[0], dst.strides[0]
    if step == 0 and src_pitch == 4 * count and dst_pitch == count:
        rows, count = 1, rows * count
    for r in range(rows):
        there, here = dst.ctypes.data + r * dst_pitch, src.ctypes.data + r * src_pitch
        requantize_row(there, here, count, multiplier.ctypes.data, step, np.float32(low - zero),
                       np.float32(high - zero), zero)  # fmt: skip


@kernel(types.void(
    BYTE_ROWS, BYTE_ROWS_OUT, types.int64, types.int64, types.float32, types.float32, types.int64, types.int64,
    types.int64, WORKSPACE,
))  # fmt: skip
def bytes_to_bytes(src, dst, signed, src_zero, factor, scale, zero, low, high, workspace):
    """Requantize bytes by ``factor`` where ``scale`` is 0, else dequantize by ``factor`` and quantize by ``scale``."""
    rows, count = src.shape
    table = bytes_at(workspace.ctypes.data, 256)
    for i in range(256):
        q = np.int64(np.int8(i)) if signed else i
        if scale == 0:
            table[i] = requantize(q - src_zero, factor, zero, low, high)
        else:
            table[i] = quantize(dequantize(q, factor, src_zero), scale, zero, low, high)
    src_pitch, dst_pitch = src.strides[0], dst.strides[0]
    if src_pitch == count and dst_pitch == count:
        rows, count = 1, rows * count
    if PERMUTES:
        permute_rows(dst.ctypes.data, dst_pitch, src.ctypes.data, src_pitch, rows, count, table.ctypes.data)
    else:
        for r in range(rows):
            source = bytes_at(src.ctypes.data + r * src_pitch, count)
            target = bytes_at(dst.ctypes.data + r * dst_pitch, count)
            for i in range(count):
                target[i] = table[source[i]]


@njit
def _saturate(value, low, high):
    return min(max(value, low), high)


@kernel(types.void(
    BYTE_ROWS, BYTE_ROWS_OUT, types.UniTuple(types.int64, 6), FLOATS, types.float32, types.boolean,
))  # fmt: skip
def any_to_any(src, dst, integers, factors, scale, is_rescale):
    """Requantize or rescale between any integer types.

    ``integers``: kind of the source, item bytes of the destination, zero points of both, clamp limits. 32- and 64-bit
    destinations saturate ``q - zero`` without a multiply.
    """
    kind, item, src_zero, zero, low, high = integers
    src_item = item_bytes(kind)
    for r in range(dst.shape[0]):
        here, there = src.ctypes.data + r * src.strides[0], dst.ctypes.data + r * dst.strides[0]
        for i in range(dst.shape[1] // item):
            q = element(here + i * src_item, kind)
            if is_rescale:
                result = quantize(dequantize(q, factors[0], src_zero), scale, zero, low, high)
            elif item >= 4:
                result = _saturate(q - src_zero, low, high)
            else:
                result = requantize(q - src_zero, factors[0] if factors.size == 1 else factors[i], zero, low, high)
            put(there + i * item, result, item)


@kernel(types.void(BYTE_ROWS, BYTE_ROWS_OUT, types.int64, types.float32, types.int64, types.int64, types.int64))
def floats_to_any(src, dst, item, scale, zero, low, high):
    """Quantize float32 (a byte view)."""
    for r in range(dst.shape[0]):
        there, count = dst.ctypes.data + r * dst.strides[0], dst.shape[1] // item
        values = floats_at(src.ctypes.data + r * src.strides[0], count)
        for i in range(count):
            put(there + i * item, quantize(values[i], scale, zero, low, high), item)


@kernel(types.void(BYTE_ROWS, BYTE_ROWS_OUT, types.int64, types.float32, types.int64))
def any_to_floats(src, dst, kind, scale, zero):
    """Dequantize to float32 (a byte view)."""
    item = item_bytes(kind)
    for r in range(dst.shape[0]):
        here, count = src.ctypes.data + r * src.strides[0], dst.shape[1] // 4
        values = floats_at(dst.ctypes.data + r * dst.strides[0], count)
        for i in range(count):
            values[i] = dequantize(element(here + i * item, kind), scale, zero)
