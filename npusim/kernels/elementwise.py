"""Arithmetic on two quantized tensors.

Called by the executor and by users. The jitted loops are in ``compiled``.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from isa import law

from . import tier
from .operands import KINDS, Array, limits, require_contiguous_axis

_OPERATIONS = {"add": 0, "mul": 1, "sub": 2, "div": 3, "min": 4, "max": 5}
_FUNCTIONS = {
    "add": np.add, "mul": np.multiply, "sub": np.subtract, "div": np.divide, "min": np.minimum, "max": np.maximum,
}  # fmt: skip


def add(a: Array, b: Array, dst: Array, **quantization: Any) -> None:
    """``dst = a + b``: bytes by ``isa.law.add``, 16-bit types through float64. Arguments as ``elementwise``."""
    elementwise("add", a, b, dst, **quantization)


def mul(a: Array, b: Array, dst: Array, **quantization: Any) -> None:
    """``dst = a * b``: bytes by ``isa.law.mul``, 16-bit types through float64. Arguments as ``elementwise``."""
    elementwise("mul", a, b, dst, **quantization)


def sub(a: Array, b: Array, dst: Array, **quantization: Any) -> None:
    """``dst = a - b`` through float64. Arguments as ``elementwise``."""
    elementwise("sub", a, b, dst, **quantization)


def div(a: Array, b: Array, dst: Array, **quantization: Any) -> None:
    """``dst = a / b`` through float64; 0/0 gives the smallest value. Arguments as ``elementwise``."""
    elementwise("div", a, b, dst, **quantization)


def minimum(a: Array, b: Array, dst: Array, **quantization: Any) -> None:
    """The smaller real value of a and b. Arguments as ``elementwise``."""
    elementwise("min", a, b, dst, **quantization)


def maximum(a: Array, b: Array, dst: Array, **quantization: Any) -> None:
    """The larger real value of a and b. Arguments as ``elementwise``."""
    elementwise("max", a, b, dst, **quantization)


def elementwise(
    operation: str,
    a: Array,
    b: Array,
    dst: Array,
    *,
    a_scale: Any,
    b_scale: Any,
    dst_scale: Any,
    a_zero: int = 0,
    b_zero: int = 0,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """``dst = operation(a, b)`` of quantized tensors.

    Args:
        operation: ``add``, ``mul``, ``sub``, ``div``, ``min`` or ``max``.
        a: 8- or 16-bit integers of at most four axes; an axis of length 1, or a missing leading one, repeats.
        b: likewise.
        dst: 8- or 16-bit integers; may be an operand of the same shape, type and strides.
        a_scale: of a, float32; the others likewise.
        a_zero: zero point of a; the others likewise.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    The last axis of every operand is contiguous.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    code = _OPERATIONS.get(operation)
    if code is None:
        raise ValueError(f"operation {operation!r}; allowed: {', '.join(_OPERATIONS)}")
    a, b, dst = _four_axes(a, b, dst)
    low, high = limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    narrow = a.itemsize == b.itemsize == dst.itemsize == 1
    a_scale, b_scale, dst_scale = np.float32(a_scale), np.float32(b_scale), np.float32(dst_scale)
    if tier.active() is tier.Tier.NUMPY or not (
        -LARGEST_ZERO < min(a_zero, b_zero) <= max(a_zero, b_zero) < LARGEST_ZERO
    ):
        _numpy(operation, a, b, dst, (a_scale, b_scale, dst_scale), (a_zero, b_zero, dst_zero), low, high, narrow)
        return
    if narrow and code < 2:
        a_flip, b_flip = (128 if x.dtype == np.int8 else 0 for x in (a, b))
        if code == 0:
            a_ratio, b_ratio, offset = _add_constants(a_scale, b_scale, dst_scale, a_zero, b_zero, dst_zero)
            signs, constants = (a_flip, a_flip, b_flip, b_flip), (a_ratio, b_ratio, offset, low, high)
        else:
            ratio = law.mul_ratio(a_scale, b_scale, dst_scale)
            signs = (a_flip, a_flip + a_zero, b_flip, b_flip + b_zero)
            constants = (ratio, np.float32(dst_zero), np.float32(0), low, high)
        _compiled().bytes_by_bytes(a.view(np.uint8), b.view(np.uint8), dst.view(np.uint8), code, signs, constants)
        return
    integers = (KINDS[a.dtype], KINDS[b.dtype], dst.itemsize, a_zero, b_zero, dst_zero, low, high)
    _compiled().through_reals(
        a.view(np.uint8), b.view(np.uint8), dst.view(np.uint8), code, integers, (a_scale, b_scale, dst_scale)
    )


def _four_axes(a: Array, b: Array, dst: Array) -> tuple[Array, Array, Array]:
    """The operands with missing axes in front, refused if they do not fit."""
    for name, array in (("a", a), ("b", b), ("dst", dst)):
        if array.dtype not in KINDS or array.ndim > 4:
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}; wanted 8- or 16-bit integers of <= 4 axes")
    a, b, dst = (x if x.ndim == 4 else x[(None,) * (4 - x.ndim)] for x in (a, b, dst))
    for name, array in (("a", a), ("b", b)):
        if any(mine not in (1, whole) for mine, whole in zip(array.shape, dst.shape, strict=True)):
            raise ValueError(f"{name} {array.shape} does not broadcast to dst {dst.shape}")
    require_contiguous_axis(a=a, b=b, dst=dst)
    return a, b, dst


@lru_cache(maxsize=4096)
def _add_constants(
    a_scale: Any, b_scale: Any, dst_scale: Any, a_zero: int, b_zero: int, dst_zero: int
) -> tuple[Any, ...]:
    """The ratios and the constant term of ``law.add``; remembered, as the law's fma is slow for scalars."""
    a_ratio, b_ratio = a_scale / dst_scale, b_scale / dst_scale
    return a_ratio, b_ratio, law.add_offset(a_ratio, a_zero, b_ratio, b_zero, dst_zero)


LARGEST_ZERO = 16384
"""Products of operands less their zero points stay within 32 bits below this; larger ones take the numpy tier."""


def _numpy(operation: str, a: Array, b: Array, dst: Array, scales: tuple[Any, ...], zeros: tuple[int, ...],
           low: int, high: int, narrow: bool) -> None:  # fmt: skip
    if narrow and operation == "add":
        a_ratio, b_ratio = scales[0] / scales[2], scales[1] / scales[2]
        offset = law.add_offset(a_ratio, zeros[0], b_ratio, zeros[1], zeros[2])
        dst[...] = law.add(a, b, a_ratio, b_ratio, offset, low, high)
    elif narrow and operation == "mul":
        dst[...] = law.mul(a, zeros[0], b, zeros[1], law.mul_ratio(*scales), zeros[2], low, high)
    else:
        left = np.float64(law.dequantize(a, scales[0], zeros[0]))
        right = np.float64(law.dequantize(b, scales[1], zeros[1]))
        with np.errstate(all="ignore"):
            dst[...] = law.quantize_real(_FUNCTIONS[operation](left, right), scales[2], zeros[2], low, high)


@cache
def _compiled() -> Any:
    from .compiled import elementwise

    return elementwise
