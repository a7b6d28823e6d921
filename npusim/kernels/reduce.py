"""Reductions along one axis, and resampling of images.

Called by the executor and by users. The jitted loops are in ``compiled``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from isa import law

from . import tier
from .operands import KINDS, Array, limits, require_images, workspace

_OPERATIONS = {"sum": 0, "mean": 1, "max": 2, "min": 3}
_STEPS: dict[str, Any] = {"sum": np.add, "mean": np.add, "max": np.maximum, "min": np.minimum}


def reduce(
    operation: str,
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
    """Reduce the middle axis of the dequantized values in float64, in ascending order; round correctly once.

    Args:
        operation: ``sum``, ``mean``, ``max`` or ``min``.
        src: [outer, length, inner] of 8 or 16 bits; inner contiguous.
        dst: [outer, inner] of 8 or 16 bits; inner contiguous.
        src_scale: of the source, float32; the destination's likewise.
        src_zero: zero point of the source; the destination's likewise.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    if operation not in _OPERATIONS:
        raise ValueError(f"operation {operation!r}; allowed: {', '.join(_OPERATIONS)}")
    result = _checked(src, dst)
    require_images(src, result, (1, 1), (1, 1), (1, 1))
    low, high = limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    src_scale, dst_scale = np.float32(src_scale), np.float32(dst_scale)
    if tier.active() is tier.Tier.NUMPY:
        real = law.dequantize(src, src_scale, src_zero).astype(np.float64)
        total = real[:, 0]
        for index in range(1, src.shape[1]):
            total = _STEPS[operation](total, real[:, index])
        if operation == "mean":
            total = total / src.shape[1]
        dst[...] = law.quantize_real(total, dst_scale, dst_zero, low, high)
        return
    integers = (KINDS[src.dtype], dst.itemsize, src_zero, dst_zero, low, high)
    _compiled().reduce_middle(src.view(np.uint8), result.view(np.uint8), _OPERATIONS[operation], integers, src_scale,
                              dst_scale, workspace(8 * dst.shape[1]))  # fmt: skip


def arg_reduce(operation: str, src: Array, dst: Array, *, select_last: bool = False) -> None:
    """The position of the extreme integer along the middle axis.

    Args:
        operation: ``max`` or ``min``.
        src: [outer, length, inner] of 8 or 16 bits; inner contiguous.
        dst: int32[outer, inner]; inner contiguous.
        select_last: among equals take the last position instead of the first.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    if operation not in ("max", "min"):
        raise ValueError(f"operation {operation!r}; allowed: max, min")
    result = _checked(src, dst)
    if dst.dtype != np.int32 or src.dtype not in KINDS:
        raise ValueError(f"{src.dtype} to {dst.dtype}; wanted 8- or 16-bit integers to int32")
    if dst.size == 0:
        return
    if tier.active() is tier.Tier.NUMPY:
        find = np.argmax if operation == "max" else np.argmin
        dst[...] = src.shape[1] - 1 - find(src[:, ::-1], axis=1) if select_last else find(src, axis=1)
        return
    _compiled().locate_middle(
        src.view(np.uint8), result.view(np.uint8), KINDS[src.dtype], operation == "max", select_last
    )


def resize(
    src: Array,
    dst: Array,
    *,
    rows: tuple[Array, Array, Array],
    columns: tuple[Array, Array, Array],
    src_scale: Any,
    dst_scale: Any,
    src_zero: int = 0,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """Resample an image at given positions, in float64, along columns and then along rows; round correctly once.

    Args:
        src: [h, w, c] of 8 or 16 bits; rows and pixels of any stride.
        dst: [oh, ow, c] of 8 or 16 bits.
        rows: for every destination row the low and the high source row, integers, and the weight of the high one.
        columns: likewise for columns.
        src_scale: of the source, float32; the destination's likewise.
        src_zero: zero point of the source; the destination's likewise.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    Raises:
        ValueError: if shapes, types or strides do not fit, or a position lies outside the source.
    """
    require_images(src, dst, (1, 1), (1, 1), (1, 1))
    if src.shape[2] != dst.shape[2]:
        raise ValueError(f"src {src.shape} and dst {dst.shape} differ in channels")
    positions, weights = [], []
    for axis, (first, second, weight) in enumerate((rows, columns)):
        for place in (first, second):
            if place.shape != (dst.shape[axis],) or (
                place.size and not 0 <= place.min() <= place.max() < src.shape[axis]
            ):
                raise ValueError(f"positions along axis {axis} are not {dst.shape[axis]} below {src.shape[axis]}")
            positions.append(np.ascontiguousarray(place, np.int64))
        if weight.shape != (dst.shape[axis],):
            raise ValueError(f"{weight.shape} weights along axis {axis}; wanted {dst.shape[axis]}")
        weights.append(np.ascontiguousarray(weight, np.float64))
    low, high = limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    src_scale, dst_scale = np.float32(src_scale), np.float32(dst_scale)
    if tier.active() is tier.Tier.NUMPY:
        top, bottom, left, right = positions
        down, across = weights[0][:, None, None], weights[1][None, :, None]
        real = law.dequantize(src, src_scale, src_zero).astype(np.float64)
        upper = real[top][:, left] * (1 - across) + real[top][:, right] * across
        lower = real[bottom][:, left] * (1 - across) + real[bottom][:, right] * across
        dst[...] = law.quantize_real(upper * (1 - down) + lower * down, dst_scale, dst_zero, low, high)
        return
    integers = (KINDS[src.dtype], dst.itemsize, src_zero, dst_zero, low, high)
    _compiled().resize(src.view(np.uint8), dst.view(np.uint8), tuple(positions), tuple(weights), integers, src_scale,
                       dst_scale)  # fmt: skip


def _checked(src: Array, dst: Array) -> Array:
    """``dst`` as [outer, 1, inner]."""
    if src.ndim != 3 or dst.shape != (src.shape[0], src.shape[2]) or src.shape[1] < 1:
        raise ValueError(f"src {src.shape} does not reduce to dst {dst.shape}")
    return dst[:, None]


@cache
def _compiled() -> Any:
    from .compiled import pool

    return pool
