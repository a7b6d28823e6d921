"""Layer norm, RMS norm and softmax of quantized rows.

Called by the executor and by users. The jitted loops are in ``compiled``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from isa import law

from . import tier
from .operands import KINDS, Array, as_rows, limits, workspace
from .threads import split_rows

MAX_LENGTH = 1 << 14
"""Rows are shorter than this, so that n * sum(q^2) of 16-bit elements fits 64 bits."""

NORM_OPERATIONS, SOFTMAX_OPERATIONS = 80, 160
"""Operations of a product that take as long as an element, on AVX2: when threads are worth it."""

_NO_OFFSET = np.empty(0, np.float32)


def layer_norm(
    src: Array,
    dst: Array,
    *,
    gain: Array,
    offset: Array,
    src_scale: Any,
    epsilon: Any,
    dst_scale: Any,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """Normalize every row to mean 0 and variance 1, then ``* gain + offset``; see ``isa.law.normalize``.

    Args:
        src: [rows, n] of 8 or 16 bits, n < 16,384; rows of any stride.
        dst: [rows, n] of 8 or 16 bits; may be ``src``.
        gain: float32[n].
        offset: float32[n].
        src_scale: of the source; its zero point cancels.
        epsilon: added to the variance; positive.
        dst_scale: of the destination.
        dst_zero: zero point of the destination.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    Raises:
        ValueError: if shapes, types or strides do not fit, or scale or epsilon is not positive.
    """
    _norm(src, dst, gain, offset, src_scale, 0, epsilon, dst_scale, dst_zero, low, high)


def rms_norm(
    src: Array,
    dst: Array,
    *,
    gain: Array,
    src_scale: Any,
    src_zero: int,
    epsilon: Any,
    dst_scale: Any,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """Divide every row by its root mean square, then ``* gain``; see ``isa.law.normalize``.

    ``src_zero`` is the source's zero point; the other arguments, and what is raised, are those of ``layer_norm``.
    """
    _norm(src, dst, gain, None, src_scale, src_zero, epsilon, dst_scale, dst_zero, low, high)


def _norm(src: Array, dst: Array, gain: Array, offset: Array | None, src_scale: Any, src_zero: int, epsilon: Any,
          dst_scale: Any, dst_zero: int, low: int | None, high: int | None) -> None:  # fmt: skip
    src, dst = _checked(src, dst)
    n = src.shape[1]
    rms = offset is None
    offset_ = _NO_OFFSET if offset is None else offset
    if (
        gain.shape != (n,)
        or gain.dtype != np.float32
        or (not rms and (offset_.shape, offset_.dtype) != ((n,), gain.dtype))
    ):
        raise ValueError(f"gain {gain.dtype}{gain.shape}, offset {offset_.dtype}{offset_.shape}; wanted float32[{n}]")
    if not (src_scale > 0 and epsilon > 0 and dst_scale > 0):
        raise ValueError(f"scales {src_scale}, {dst_scale} and epsilon {epsilon} must be positive")
    low, high = limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    eps = law.rms_norm_epsilon(epsilon, src_scale, n) if rms else law.layer_norm_epsilon(epsilon, src_scale, n)
    if tier.active() is tier.Tier.NUMPY:
        q = src.astype(np.int64) - src_zero
        total, squares = q.sum(axis=1), (q * q).sum(axis=1)
        factor = law.rms_norm_factor(squares, n, eps) if rms else law.layer_norm_factor(total, squares, n, eps)
        deviation = q if rms else n * q - total[:, None]
        shift = np.float64(0) if rms else law.norm_coefficient(offset_, dst_scale)
        dst[...] = law.normalize(
            deviation, factor[:, None], law.norm_coefficient(gain, dst_scale), shift, dst_zero, low, high
        )
        return
    narrow = src.itemsize == dst.itemsize == 1 and abs(src_zero) < 1024 and abs(dst_zero) < 1 << 14
    flip, kind, item = 128 if src.dtype == np.int8 else 0, KINDS[src.dtype], dst.itemsize

    def run(rows: Array, results: Array) -> None:
        if narrow:
            _compiled().norm_bytes(rows, results, gain, offset_, flip, flip + src_zero, dst_scale, eps, rms, dst_zero,
                                   low, high, workspace(16 * n))  # fmt: skip
        else:
            _compiled().norm_any(rows, results, gain, offset_, kind, item, src_zero, dst_scale, eps, rms, dst_zero, low,
                                 high)  # fmt: skip

    split_rows(run, src.view(np.uint8), dst.view(np.uint8), NORM_OPERATIONS)


def softmax(
    src: Array,
    dst: Array,
    *,
    table: Array,
    coarse_table: Array | None = None,
    dst_scale: Any,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
    valid: int | None = None,
) -> None:
    """Softmax of every row; see ``isa.law.softmax``.

    Args:
        src: [rows, n] of 8 or 16 bits, n < 16,384; rows of any stride.
        dst: [rows, n] of 8 or 16 bits; may be ``src``.
        table: uint32[256] of ``isa.law.exp_table``; entry 0 is 2**31.
        coarse_table: uint32[256] of ``isa.law.coarse_exp_table``, for a 16-bit source.
        dst_scale: of the destination.
        dst_zero: zero point of the destination.
        low: smallest result, zero point included; by default the type's.
        high: largest result.
        valid: elements of a row that take part, by default all; the others become ``low``.

    Raises:
        ValueError: if shapes, types, tables or strides do not fit.
    """
    src, dst = _checked(src, dst)
    n = src.shape[1]
    used = n if valid is None else valid
    tables = (table,) if src.itemsize == 1 else (table, coarse_table)
    for one in tables:
        if one is None or one.dtype != np.uint32 or one.shape != (256,) or one[0] != 1 << law.EXP_TABLE_BITS:
            raise ValueError("a softmax table is uint32[256] and begins with 2**31; a 16-bit source takes two")
    if not 0 < used <= n:
        raise ValueError(f"{used} elements of {n} cannot take part")
    low, high = limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    if tier.active() is tier.Tier.NUMPY:
        q = src[:, :used].astype(np.int64)
        distance = q.max(axis=1, keepdims=True) - q
        numerator = table[distance & 255].astype(np.uint64)
        if coarse_table is not None and src.itemsize == 2:
            numerator = law.softmax_numerator(numerator, coarse_table[distance >> 8])
        total = numerator.sum(axis=1, keepdims=True, dtype=np.uint64)
        dst[:, :used] = law.softmax(numerator, total, dst_scale, dst_zero, low, high)
        dst[:, used:] = low
        return
    narrow = src.itemsize == dst.itemsize == 1 and abs(dst_zero) < 1 << 14
    flip, kind, item = 128 if src.dtype == np.int8 else 0, KINDS[src.dtype], dst.itemsize
    coarse = table if coarse_table is None else coarse_table

    def run(rows: Array, results: Array) -> None:
        if narrow:
            room = workspace(4 * n + (1 << 15))
            _compiled().softmax_bytes(rows, results, table, flip, dst_scale, dst_zero, low, high, used, room)
        else:
            _compiled().softmax_any(rows, results, table, coarse, kind, item, dst_scale, dst_zero, low, high, used)

    split_rows(run, src.view(np.uint8), dst.view(np.uint8), SOFTMAX_OPERATIONS)


def _checked(src: Array, dst: Array) -> tuple[Array, Array]:
    if src.dtype not in KINDS or dst.dtype not in KINDS:
        raise ValueError(f"{src.dtype} to {dst.dtype}: not 8- and 16-bit integers")
    if src.ndim < 1 or src.shape[-1] >= MAX_LENGTH:
        raise ValueError(f"shape {src.shape}: wanted rows shorter than {MAX_LENGTH}")
    return as_rows(src, dst)


@cache
def _compiled() -> Any:
    from .compiled import normalize

    return normalize
