"""What the public matrix kernels share: operand checks, parameter arrays, the workspace, and the slow epilogue.

Called by ``matmul``, ``conv`` and their like. Nothing jitted in here.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from isa import law

Array = np.ndarray[Any, Any]

MODES = {
    np.dtype(np.int8): 0, np.dtype(np.uint8): 0, np.dtype(np.int16): 1, np.dtype(np.uint16): 1,
    np.dtype(np.int32): 2, np.dtype(np.int64): 3,
}  # fmt: skip
"""How a destination type is delivered; see ``compiled.deliver``."""

SIGNED = {np.dtype(np.int8): 1, np.dtype(np.uint8): 0, np.dtype(np.int16): 1, np.dtype(np.uint16): 0}

KINDS = {np.dtype(np.uint8): 0, np.dtype(np.int8): 1, np.dtype(np.uint16): 2, np.dtype(np.int16): 3}
"""How jitted code names an activation type; see ``compiled.convert``."""

ALL_KINDS = {**KINDS, np.dtype(np.int32): 4, np.dtype(np.int64): 5}
"""``KINDS`` and the accumulator types."""

LIMITS = {dtype: (int(np.iinfo(str(dtype)).min), int(np.iinfo(str(dtype)).max)) for dtype in ALL_KINDS}

_NO_BIAS = np.empty(0, np.int32)
_ZERO = np.zeros(1, np.int32)
_UNIT = np.ones(1, np.float32)
_LOCAL = threading.local()


def bias_array(bias: Array | None, channels: int) -> Array:
    """``bias`` as int32[channels], or an empty array for none."""
    if bias is None:
        return _NO_BIAS
    if bias.dtype != np.int32 or bias.shape != (channels,):
        raise ValueError(f"bias is {bias.dtype}{list(bias.shape)}; wanted int32[{channels}]")
    return bias


def zero_array(zero: Any, channels: int) -> Array:
    """A zero point or one per channel as int32[1 or channels]."""
    if isinstance(zero, np.ndarray) and zero.ndim:
        if zero.dtype != np.int32 or zero.shape != (channels,):
            raise ValueError(f"zero point is {zero.dtype}{list(zero.shape)}; wanted an integer or int32[{channels}]")
        return zero
    return np.array([zero], np.int32) if zero else _ZERO


def multiplier_array(multiplier: Any, channels: int, raw: bool) -> Array:
    """A multiplier or one per channel as float32[1 or channels]; none belongs to raw accumulators only."""
    if isinstance(multiplier, np.ndarray) and multiplier.ndim:
        if multiplier.dtype != np.float32 or multiplier.shape != (channels,):
            raise ValueError(
                f"multiplier is {multiplier.dtype}{list(multiplier.shape)}; wanted a number or float32[{channels}]"
            )
        return multiplier
    if multiplier is None:
        if not raw:
            raise ValueError("a requantized destination needs a multiplier")
        return _UNIT
    return np.array([multiplier], np.float32)


def fits(src: Array, zero: int, weight_zeros: Array, dst_zero: int) -> bool:
    """Whether zero points are as the compiled kernels expect: others are legal, but take the numpy tier.

    The source's is a value of its type; those of the weights and of the destination leave room in 16 bits.
    """
    smallest, largest = LIMITS[src.dtype]
    return (
        smallest <= zero <= largest
        and abs(dst_zero) < 1 << 14
        and (weight_zeros is _ZERO or bool(np.abs(weight_zeros).max() < 1 << 14))
    )


def accumulation(a: Array, b: Array, dst: Array, partial: Array | None) -> tuple[int, bool]:
    """How products of ``a`` and ``b`` are accumulated and delivered: the destination's mode, and whether in 64 bits.

    Raises:
        ValueError: if the types do not fit together, or the partial accumulators are not dst's shape.
    """
    mode = MODES.get(dst.dtype)
    if mode is None:
        raise ValueError(f"dst is {dst.dtype}; wanted 8 or 16 bits, int32 or int64")
    if a.dtype not in SIGNED or b.dtype not in SIGNED:
        raise ValueError(f"operands are {a.dtype} and {b.dtype}; wanted 8- or 16-bit integers")
    wide = a.itemsize > 1 or b.itemsize > 1
    accumulator = np.int64 if wide else np.int32
    if (mode >= 2 and dst.dtype != accumulator) or (partial is not None and partial.dtype != accumulator):
        raise ValueError(f"accumulators of {a.dtype} by {b.dtype} are {np.dtype(accumulator)}")
    if partial is not None:
        if partial.shape != dst.shape:
            raise ValueError(f"partial {partial.shape} is not of dst's shape {dst.shape}")
        require_contiguous_axis(partial=partial)
    return mode, wide


def require_contiguous_axis(**arrays: Array) -> None:
    """Refuse arrays whose last axis has gaps.

    Raises:
        ValueError: naming the array.
    """
    for name, array in arrays.items():
        if array.strides[-1] != array.itemsize and array.shape[-1] > 1 and array.size:
            raise ValueError(f"the last axis of {name} is not contiguous")


def limits(dtype: Any, low: int | None, high: int | None) -> tuple[int, int]:
    """The clamp limits, by default those of the destination type."""
    smallest, largest = LIMITS[dtype]
    return smallest if low is None else low, largest if high is None else high


def workspace(size: int) -> Array:
    """At least ``size`` scratch bytes at a 64-byte boundary, of this thread, overwritten by its next kernel."""
    held: Array | None = getattr(_LOCAL, "held", None)
    if held is None or held.size < size:
        room = np.empty(max(2 * size, 1 << 18) + 64, np.uint8)
        skip = -room.ctypes.data % 64
        held = _LOCAL.held = room[skip : room.size - 64 + skip]
    return held


def finish(acc: Array, dst: Array, bias: Array, multiplier: Array, partial: Array | None,
           zero: int, low: int, high: int, wide: bool) -> None:  # fmt: skip
    """The numpy tier's epilogue: add bias and partial sums to int64 ``acc``, wrap, requantize, store."""
    if bias.size:
        acc = acc + bias
    if partial is not None:
        acc = acc + partial
    acc = acc.astype(np.int64 if wide else np.int32)
    if MODES[dst.dtype] >= 2:
        dst[...] = acc
    else:
        dst[...] = law.requantize(acc, multiplier, zero, low, high)


def integer_matmul(a: Array, b: Array) -> Array:
    """Exact product of integer matrices below 2**17 in magnitude, as int64, through float64 BLAS."""
    if a.shape[-1] > 1 << 18:
        return np.matmul(a.astype(np.int64), b.astype(np.int64))
    return np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64)


def as_rows(src: Array, dst: Array) -> tuple[Array, Array]:
    """Two arrays of one shape as views [rows, count] with a contiguous last axis.

    Raises:
        ValueError: if the shapes differ, or an array is neither of that form nor contiguous.
    """
    if src.shape != dst.shape:
        raise ValueError(f"src {src.shape} and dst {dst.shape} differ in shape")
    if src.ndim != 2:
        if not (src.flags.c_contiguous and dst.flags.c_contiguous):
            raise ValueError(f"{src.ndim} axes need contiguous arrays; wanted [rows, count]")
        count = src.shape[-1] if src.ndim else 1
        return src.reshape(-1, count), dst.reshape(-1, count)
    if (src.strides[1] != src.itemsize or dst.strides[1] != dst.itemsize) and src.shape[1] > 1:
        raise ValueError("the last axis is not contiguous")
    return src, dst


def require_images(src: Array, dst: Array, kernel: Any, stride: Any, dilation: Any) -> None:
    """Three axes, 8- or 16-bit integers, contiguous channels, a sensible window.

    Raises:
        ValueError: if not.
    """
    for name, array in (("src", src), ("dst", dst)):
        if array.ndim != 3 or array.dtype not in KINDS:
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}; wanted 8- or 16-bit integers of three axes")
    require_contiguous_axis(src=src, dst=dst)
    if min(kernel) < 1 or min(stride) < 1 or min(dilation) < 1:
        raise ValueError(f"kernel {kernel}, stride {stride} and dilation {dilation} must be at least 1")
