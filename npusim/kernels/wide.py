"""Products of 16-bit operands, as sums of products of their bytes.

Called by ``matmul`` and ``conv`` for what accumulates in 64 bits. The products of bytes run as any others, on the tier
in use; nothing is jitted in here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .operands import SIGNED, Array
from .rescale import requantize

Multiply = Callable[[Array, int, Array, Any, Array], None]
"""Writes the int32 accumulators of two operands of bytes: a, its zero point, b, its zero points, the accumulators."""

_HALF = 8
"""Bits of a plane: ``q - zero`` is 256 times the difference of the high bytes, plus that of the low ones."""


def fits_words(k: int, b: Array, zeros: Array) -> bool:
    """Whether ``k`` products of bytes, each less its zero point, stay within 32 bits.

    The zero points of 16-bit weights are split with them; those of 8-bit ones may be as large as they like.
    """
    largest = 255 if b.itemsize > 1 else 255 + int(np.abs(zeros).max())
    return k * 255 * largest < 1 << 31


def sum_of_planes(a: Array, a_zero: int, b: Array, zeros: Array, shape: tuple[int, ...], multiply: Multiply) -> Array:
    """The int64 accumulators of two operands, one of them at least of 16 bits, without bias.

    Args:
        a: 8- or 16-bit integers, contiguous along the last axis.
        a_zero: zero point of ``a``, a value of its type.
        b: likewise; the planes have its layout.
        zeros: int32[1] or int32[channels], zero points of ``b``.
        shape: of the accumulators.
        multiply: computes the accumulators of two planes.
    """
    total, part = np.zeros(shape, np.int64), np.empty(shape, np.int32)
    columns = list(_planes(b, zeros))
    for left, left_zero, left_bits in _planes(a, np.array([a_zero], np.int32)):
        for right, right_zeros, right_bits in columns:
            multiply(left, int(left_zero[0]), right, right_zeros if zeros.size > 1 else int(right_zeros[0]), part)
            total += part.astype(np.int64) << (left_bits + right_bits)
    return total


def deliver(acc: Array, dst: Array, bias: Array, multipliers: Array, partial: Array | None, zero: int, low: int,
            high: int) -> None:  # fmt: skip
    """Add bias and partial sums to ``acc``, requantize it if ``dst`` is narrower, store."""
    if bias.size:
        acc += bias
    if partial is not None:
        acc += partial
    if dst.dtype == np.int64:
        dst[...] = acc
        return
    result, channels = np.empty(dst.shape, dst.dtype), dst.shape[-1]
    multiplier = multipliers if multipliers.size > 1 else multipliers[0]
    requantize(acc.reshape(-1, channels), result.reshape(-1, channels), multiplier=multiplier, dst_zero=zero, low=low,
               high=high)  # fmt: skip
    dst[...] = result


def _planes(array: Array, zeros: Array) -> Iterator[tuple[Array, Array, int]]:
    """The bytes of the elements, low and high, with their part of the zero points and the bits they stand above."""
    if array.itemsize == 1:
        yield array, zeros, 0
        return
    octets = array.view(np.uint8)
    yield np.ascontiguousarray(octets[..., ::2]), zeros & 255, 0
    high = np.ascontiguousarray(octets[..., 1::2])
    yield high.view(np.int8) if SIGNED[array.dtype] else high, zeros >> _HALF, _HALF
