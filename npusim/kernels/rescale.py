"""Changes of scale or type: requantize, rescale, quantize, dequantize.

Called by the executor and by users. The jitted loops are in ``compiled``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from isa import law

from . import tier
from .operands import ALL_KINDS, KINDS, LIMITS, Array, as_rows, limits, multiplier_array, workspace


def requantize(
    src: Array,
    dst: Array,
    *,
    src_zero: int = 0,
    multiplier: Any = None,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """Bring integers to another scale: ``rne(f32(q - src_zero) * multiplier) + dst_zero``, clamped.

    Args:
        src: [rows, count] integers of 8 to 64 bits, rows of any stride; or any shape if contiguous.
        dst: integers of the same shape. 32- and 64-bit ones take ``q - src_zero`` saturated, without a multiply.
        src_zero: zero point of the source.
        multiplier: float32 factor or float32[count].
        dst_zero: zero point of the destination.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    if src.dtype not in ALL_KINDS or dst.dtype not in ALL_KINDS:
        raise ValueError(f"{src.dtype} to {dst.dtype}: not integers of the machine")
    src, dst = as_rows(src, dst)
    raw = dst.itemsize >= 4
    multipliers = multiplier_array(multiplier, dst.shape[1], raw)
    low, high = LIMITS[dst.dtype] if raw else limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    if tier.active() is tier.Tier.NUMPY:
        values = src.astype(np.int64) - src_zero
        dst[...] = np.clip(values, low, high) if raw else law.requantize(values, multipliers, dst_zero, low, high)
        return
    rows, results = src.view(np.uint8), dst.view(np.uint8)
    if src.itemsize == 4 and dst.itemsize == 1 and src_zero == 0 and abs(dst_zero) < 1 << 14:
        _compiled().words_to_bytes(rows, results, multipliers, dst_zero, low, high)
    elif src.itemsize == dst.itemsize == 1 and multipliers.size == 1:
        _compiled().bytes_to_bytes(rows, results, src.dtype == np.int8, src_zero, multipliers[0], 0.0, dst_zero, low,
                                   high, workspace(256))  # fmt: skip
    else:
        integers = (ALL_KINDS[src.dtype], dst.itemsize, src_zero, dst_zero, low, high)
        _compiled().any_to_any(rows, results, integers, multipliers, 0.0, False)


def rescale(
    src: Array,
    dst: Array,
    *,
    src_scale: Any,
    dst_scale: Any,
    src_zero: int = 0,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """DequantizeLinear followed by QuantizeLinear, to the bit.

    Both arrays hold 8- or 16-bit integers; see ``requantize`` for shapes, limits and errors.
    """
    _require_activations(src, dst)
    src, dst = as_rows(src, dst)
    low, high = limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    src_scale, dst_scale = np.float32(src_scale), np.float32(dst_scale)
    if tier.active() is tier.Tier.NUMPY:
        real = law.dequantize(src, src_scale, src_zero)
        dst[...] = law.quantize(real, dst_scale, dst_zero, low, high)
    elif src.itemsize == dst.itemsize == 1:
        _compiled().bytes_to_bytes(src.view(np.uint8), dst.view(np.uint8), src.dtype == np.int8, src_zero, src_scale,
                                   dst_scale, dst_zero, low, high, workspace(256))  # fmt: skip
    else:
        integers = (KINDS[src.dtype], dst.itemsize, src_zero, dst_zero, low, high)
        factors = np.array([src_scale], np.float32)
        _compiled().any_to_any(src.view(np.uint8), dst.view(np.uint8), integers, factors, dst_scale, True)


def quantize(
    src: Array, dst: Array, *, dst_scale: Any, dst_zero: int = 0, low: int | None = None, high: int | None = None
) -> None:
    """QuantizeLinear: float32 to 8- or 16-bit integers; NaN gives the smallest value, infinities saturate.

    See ``requantize`` for shapes, limits and errors.
    """
    if src.dtype != np.float32 or dst.dtype not in KINDS:
        raise ValueError(f"{src.dtype} to {dst.dtype}; wanted float32 to 8- or 16-bit integers")
    src, dst = as_rows(src, dst)
    low, high = limits(dst.dtype, low, high)
    if tier.active() is tier.Tier.NUMPY:
        with np.errstate(all="ignore"):
            dst[...] = law.quantize(src, np.float32(dst_scale), dst_zero, low, high)
    elif dst.size:
        _compiled().floats_to_any(src.view(np.uint8), dst.view(np.uint8), dst.itemsize, dst_scale, dst_zero, low, high)


def dequantize(src: Array, dst: Array, *, src_scale: Any, src_zero: int = 0) -> None:
    """DequantizeLinear: integers of 8, 16 or 32 bits to float32. See ``requantize`` for shapes and errors."""
    if src.dtype not in ALL_KINDS or dst.dtype != np.float32:
        raise ValueError(f"{src.dtype} to {dst.dtype}; wanted integers to float32")
    src, dst = as_rows(src, dst)
    if tier.active() is tier.Tier.NUMPY:
        dst[...] = law.dequantize(src, np.float32(src_scale), src_zero)
    elif dst.size:
        _compiled().any_to_floats(src.view(np.uint8), dst.view(np.uint8), ALL_KINDS[src.dtype], src_scale, src_zero)


def _require_activations(src: Array, dst: Array) -> None:
    if src.dtype not in KINDS or dst.dtype not in KINDS:
        raise ValueError(f"{src.dtype} to {dst.dtype}: not 8- and 16-bit integers")


@cache
def _compiled() -> Any:
    from .compiled import rescale

    return rescale
