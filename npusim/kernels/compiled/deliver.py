"""From a tile's accumulators to destinations other than requantized bytes, and to sums with earlier accumulators.

Called by the matrix drivers. The tile itself requantizes the common case.
"""

from __future__ import annotations

from numba import njit

from .laws import requantize
from .memory import bytes_at, floats_at, longs_at, shorts_at, words_at
from .workspace import DST, PARTIAL, SCRATCH

BYTES, SHORTS, RAW = 0, 1, 2
"""Destination modes: 8 bits, 16 bits, the accumulators themselves."""


@njit
def deliver(base, rows, count, first, scale, mode, partial, low, high, zero):
    """Add partial accumulators to int32[rows][32] in the scratch section and store ``count`` columns from ``first``."""
    targets, partials = longs_at(base + DST, rows), longs_at(base + PARTIAL, rows)
    scales = floats_at(scale, count)
    for r in range(rows):
        accumulators = words_at(base + SCRATCH + 128 * r, count)
        if partial:
            addends = words_at(partials[r] + 4 * first, count)
            for j in range(count):
                accumulators[j] += addends[j]
        if mode == RAW:
            results = words_at(targets[r] + 4 * first, count)
            for j in range(count):
                results[j] = accumulators[j]
        elif mode == SHORTS:
            shorts = shorts_at(targets[r] + 2 * first, count)
            for j in range(count):
                shorts[j] = requantize(accumulators[j], scales[j], zero, low, high)
        else:
            octets = bytes_at(targets[r] + first, count)
            for j in range(count):
                octets[j] = requantize(accumulators[j], scales[j], zero, low, high)
