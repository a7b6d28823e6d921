"""Layer norm, RMS norm and softmax over rows.

Called by ``npusim.kernels.normalize``, operands checked. Elements are read as ``(u ^ flip) - shift``, one formula for
signed and unsigned bytes; 16-bit elements take the plain kernels below.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .build import kernel
from .convert import activation, item_bytes, put_activation
from .laws import (
    layer_norm_factor,
    narrow_round,
    norm_coefficient,
    normalize,
    rms_norm_factor,
    softmax,
    softmax_numerator,
)  # fmt: skip
from .lookup import PERMUTES
from .memory import bytes_at, doubles_at, unsigned_words_at
from .rows import exponentials, largest_byte, moments, normalize_row, scale_row
from .signatures import BYTE_ROWS, BYTE_ROWS_OUT, FLOATS, UNSIGNED_WORDS, WORKSPACE

CHUNK = 16
"""Rows that go through each step together: steps of different rows overlap, those of one row wait for one another."""


@kernel(types.void(
    BYTE_ROWS, BYTE_ROWS_OUT, FLOATS, FLOATS, types.int64, types.int64, types.float32, types.float64, types.int64,
    types.int64, types.int64, types.int64, WORKSPACE,
))  # fmt: skip
def norm_bytes(src, dst, gain, offset, flip, shift, scale, epsilon, rms, zero, low, high, workspace):
    """Layer norm, or RMS norm where ``rms``, of [rows, n] bytes; ``scale`` is the destination's.

    Elements are ``(u ^ flip) - shift``: for RMS norm the shift holds the zero point too.
    """
    rows, n = src.shape
    gains = doubles_at(workspace.ctypes.data, n)
    offsets = doubles_at(workspace.ctypes.data + 8 * n, n)
    for i in range(n):
        gains[i] = norm_coefficient(gain[i], scale)
        offsets[i] = norm_coefficient(offset[i], scale) if offset.size else 0.0
    floor, ceiling = np.float32(low - zero), np.float32(high - zero)
    slope = 1 if rms else n
    intercepts, factors = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.float64)
    for first in range(0, rows, CHUNK):
        count = min(CHUNK, rows - first)
        source = src.ctypes.data + first * src.strides[0]
        target = dst.ctypes.data + first * dst.strides[0]
        for r in range(count):
            total, squares = moments(source + r * src.strides[0], n, flip, shift)
            if rms:
                intercepts[r], factors[r] = shift, rms_norm_factor(squares, n, epsilon)
            else:
                intercepts[r], factors[r] = n * shift + total, layer_norm_factor(total, squares, n, epsilon)
        for r in range(count):
            normalize_row(target + r * dst.strides[0], source + r * src.strides[0], n, flip, slope, intercepts[r],
                          factors[r], gains.ctypes.data, offsets.ctypes.data, floor, ceiling, zero)  # fmt: skip


@kernel(types.void(
    BYTE_ROWS, BYTE_ROWS_OUT, FLOATS, FLOATS, types.int64, types.int64, types.int64, types.float32, types.float64,
    types.int64, types.int64, types.int64, types.int64,
))  # fmt: skip
def norm_any(src, dst, gain, offset, src_kind, dst_item, src_zero, scale, epsilon, rms, zero, low, high):
    """As ``norm_bytes`` for elements of any activation type; ``src_zero`` counts for RMS norm only."""
    item = item_bytes(src_kind)
    n = src.shape[1] // item
    for r in range(src.shape[0]):
        here, there = src.ctypes.data + r * src.strides[0], dst.ctypes.data + r * dst.strides[0]
        total, squares = 0, 0
        for i in range(n):
            q = activation(here + i * item, src_kind) - src_zero
            total += q
            squares += q * q
        factor = rms_norm_factor(squares, n, epsilon) if rms else layer_norm_factor(total, squares, n, epsilon)
        for i in range(n):
            q = activation(here + i * item, src_kind) - src_zero
            deviation = q if rms else n * q - total
            shift = norm_coefficient(offset[i], scale) if offset.size else 0.0
            result = normalize(deviation, factor, norm_coefficient(gain[i], scale), shift, zero, low, high)
            put_activation(there + i * dst_item, result, dst_item)


CHUNK_BYTES = 1 << 14
"""Numerators of the rows that softmax works on at a time: half of a level-1 cache."""

NEAR_TIE = 0.5 - 2.0**-20
"""Distance from an integer beyond which a product with the reciprocal might round otherwise than the division."""


@njit
def _gather(numerators, source, count, flip, largest, table):
    """Entries of the table at an address for ``largest - (u ^ flip)``, and their sum, on CPUs without byte permutes."""
    entries, octets, mask = unsigned_words_at(numerators, count), bytes_at(source, count), np.uint8(flip)
    words = unsigned_words_at(table, 256)
    total = np.uint64(0)
    for i in range(count):
        entry = words[np.uint8(largest) - (octets[i] ^ mask)]
        entries[i] = entry
        total += np.uint64(entry)
    return np.int64(total)


@njit
def _divide_row(target, numerators, count, steps, total, low, high, zero):
    """The law's own division, for rows with a product near a tie."""
    octets, entries = bytes_at(target, count), unsigned_words_at(numerators, count)
    for i in range(count):
        value = np.float64(entries[i]) * steps / total
        octets[i] = narrow_round(value, np.float64(low), np.float64(high)) + zero


@kernel(types.void(
    BYTE_ROWS, BYTE_ROWS_OUT, UNSIGNED_WORDS, types.int64, types.float32, types.int64, types.int64, types.int64,
    types.int64, WORKSPACE,
))  # fmt: skip
def softmax_bytes(src, dst, table, flip, scale, zero, low, high, used, workspace):
    """Softmax of the first ``used`` of [rows, n] bytes; the others become ``low``."""
    rows, n = src.shape
    planes = workspace.ctypes.data
    numerators = planes + 1024
    octets = bytes_at(planes, 1024)
    for d in range(256):
        if not PERMUTES:
            unsigned_words_at(planes, 256)[d] = table[d]
            continue
        for plane in range(4):
            octets[256 * plane + d] = (table[d] >> np.uint32(8 * plane)) & np.uint32(255)
    steps = 1.0 / np.float64(scale)
    floor, ceiling = np.float32(low - zero), np.float32(high - zero)
    step = 4 * (n + 64)
    chunk = max(1, min(CHUNK, CHUNK_BYTES // step))
    tops, totals = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.float64)
    for first in range(0, rows, chunk):
        count = min(chunk, rows - first)
        source = src.ctypes.data + first * src.strides[0]
        target = dst.ctypes.data + first * dst.strides[0]
        for r in range(count):
            tops[r] = largest_byte(source + r * src.strides[0], used, flip)
        for r in range(count):
            row, entries = source + r * src.strides[0], numerators + r * step
            if PERMUTES:
                totals[r] = np.float64(exponentials(entries, row, used, flip, tops[r], planes))
            else:
                totals[r] = np.float64(_gather(entries, row, used, flip, tops[r], planes))
        for r in range(count):
            row, entries = target + r * dst.strides[0], numerators + r * step
            if scale_row(row, entries, used, steps / totals[r], floor, ceiling, zero) > NEAR_TIE:
                _divide_row(row, entries, used, steps, totals[r], floor, ceiling, np.int32(zero))
            if used < n:
                bytes_at(row + used, n - used)[:] = np.uint8(low & 255)


@kernel(types.void(
    BYTE_ROWS, BYTE_ROWS_OUT, UNSIGNED_WORDS, UNSIGNED_WORDS, types.int64, types.int64, types.float32, types.int64,
    types.int64, types.int64, types.int64,
))  # fmt: skip
def softmax_any(src, dst, table, coarse, src_kind, dst_item, scale, zero, low, high, used):
    """As ``softmax_bytes`` for elements of any activation type; 16-bit ones use the coarse table too."""
    item = item_bytes(src_kind)
    n = src.shape[1] // item
    numerators = np.empty(n, np.uint64)
    for r in range(src.shape[0]):
        here, there = src.ctypes.data + r * src.strides[0], dst.ctypes.data + r * dst.strides[0]
        largest = activation(here, src_kind)
        for i in range(1, used):
            largest = max(largest, activation(here + i * item, src_kind))
        total = np.uint64(0)
        for i in range(used):
            distance = largest - activation(here + i * item, src_kind)
            numerators[i] = np.uint64(table[distance & 255])
            if item == 2:
                numerators[i] = softmax_numerator(numerators[i], coarse[distance >> 8])
            total += numerators[i]
        for i in range(n):
            result = softmax(numerators[i], total, scale, zero, low, high) if i < used else low
            put_activation(there + i * dst_item, result, dst_item)
