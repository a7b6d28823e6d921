"""The arithmetic law: every rounding the machine makes, written once.

The instructions' ``operation()`` calls these on arrays; ``npusim.kernels`` compiles the same functions for
scalars (they use only what numba compiles). Nothing here knows instructions, shapes or addresses.

Notation of the docstrings: ``f32(.)`` is one binary32 rounding, ``rne`` rounds half to even, ``acc`` is the exact
integer sum. The formulas were established by reading the ONNX specification and by experiment against
onnxruntime 1.32 (0 mismatches in 38 million outputs); ``docs/numerics.md`` tells the story.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

# Values are scalars inside a compiled kernel and arrays inside operation(): hence Any.

EXP_TABLE_BITS = 31
"""Fraction bits of the softmax exponential table: entry 0 is 2**31, the largest power of two in a u32."""


def clamp(value: Any, low: Any, high: Any) -> Any:
    """``value`` limited to ``[low, high]``; the types of value and bounds must agree."""
    return np.minimum(np.maximum(value, low), high)


def requantize_multiplier(src_scale: Any, weight_scale: Any, dst_scale: Any) -> Any:
    """``m = f32(f32(src_scale * weight_scale) / dst_scale)``: the factor of Conv and MatMul, float32."""
    return np.float32(np.float32(src_scale) * np.float32(weight_scale)) / np.float32(dst_scale)


def gemm_multiplier(alpha: Any, a_scale: Any, b_scale: Any, dst_scale: Any) -> Any:
    """``m = f32(f32(f32(alpha * a_scale) * b_scale) / dst_scale)``: the factor of Gemm, float32."""
    return requantize_multiplier(np.float32(alpha) * np.float32(a_scale), b_scale, dst_scale)


def global_average_multiplier(src_scale: Any, dst_scale: Any, count: int) -> Any:
    """``m = f32(src_scale / f32(dst_scale * count))``: the factor of GlobalAveragePool, float32."""
    return np.float32(src_scale) / np.float32(np.float32(dst_scale) * np.float32(count))


def requantize(acc: Any, multiplier: Any, zero_point: Any, low: Any, high: Any) -> Any:
    """Bring an exact accumulator to the output's scale: ``v = f32(f32(acc) * m)``, clamp, ``rne(v) + zp``.

    Args:
        acc: int32 accumulator (int64 for 16-bit activations), bias included.
        multiplier: float32, from ``requantize_multiplier``.
        zero_point: of the output.
        low: smallest output value, zero point included: the type's minimum or a fused activation's.
        high: largest output value.

    Returns:
        The integers in ``[low, high]``, as int64.
    """
    value = np.float32(acc) * np.float32(multiplier)
    clamped = clamp(value, np.float32(low - zero_point), np.float32(high - zero_point))
    return np.int64(np.rint(clamped)) + np.int64(zero_point)


def dequantize(value: Any, scale: Any, zero_point: Any) -> Any:
    """DequantizeLinear: ``f32(f32(q - zp) * s)``, the difference taken in integers. Returns float32."""
    return np.float32(np.int64(value) - np.int64(zero_point)) * np.float32(scale)


def quantize(value: Any, scale: Any, zero_point: Any, low: Any, high: Any) -> Any:
    """QuantizeLinear: ``v = f32(x / s)``, a true division; clamp; ``rne(v) + zp``. NaN gives ``low``. Returns int64."""
    ratio = np.float32(value) / np.float32(scale)
    floor = np.float32(low - zero_point)
    # fmax returns the number where the other operand is NaN: that is how NaN becomes the lowest value.
    clamped = np.minimum(np.fmax(ratio, floor), np.float32(high - zero_point))
    return np.int64(np.rint(clamped)) + np.int64(zero_point)


def fma(a: Any, b: Any, c: Any) -> Any:
    """``f32(a * b + c)`` of float32 operands with a single rounding. Returns float32.

    The product is exact in float64; the sum is rounded to odd there, which makes the second rounding, to float32,
    the correct one (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE TC 57, 2008).
    """
    product = np.float64(a) * np.float64(b)
    addend = np.float64(c)
    total = product + addend
    shadow = total - product
    error = (product - (total - shadow)) + (addend - shadow)  # TwoSum: total + error is exact
    even = (np.asarray(total).view(np.int64) & 1) == 0
    nudged = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.float32(np.where((error != 0) & even, nudged, total))


def add_offset(a_ratio: Any, a_zero: Any, b_ratio: Any, b_zero: Any, dst_zero: Any) -> Any:
    """The constant term F of the 8-bit Add: ``t = fma(rA, za, f32(rB * zb)); F = f32(zc - t)``. Returns float32."""
    product = np.float32(b_ratio) * np.float32(b_zero)
    return np.float32(dst_zero) - fma(a_ratio, np.float32(a_zero), product)


def add(a: Any, b: Any, a_ratio: Any, b_ratio: Any, offset: Any, low: Any, high: Any) -> Any:
    """8-bit Add: ``v = fma(a, rA, fma(b, rB, F))`` on the raw integers, ``sat(rne(v))``. Returns int64.

    ``rA = f32(as / cs)``, ``rB = f32(bs / cs)``, F from ``add_offset``. Where operand A is the one that broadcasts,
    onnxruntime exchanges the operands first; whoever emits the instruction does so too.
    """
    value = fma(np.float32(a), a_ratio, fma(np.float32(b), b_ratio, offset))
    return np.int64(np.rint(clamp(value, np.float32(low), np.float32(high))))


def mul_ratio(a_scale: Any, b_scale: Any, dst_scale: Any) -> Any:
    """``r = f32(f32(as * bs) / cs)`` of the 8-bit Mul, float32: the same as the requantize multiplier."""
    return requantize_multiplier(a_scale, b_scale, dst_scale)


def mul(a: Any, a_zero: Any, b: Any, b_zero: Any, ratio: Any, dst_zero: Any, low: Any, high: Any) -> Any:
    """8-bit Mul: ``v = f32(f32(f32((a-za)*(b-zb)) * r) + zc)``, ``sat(rne(v))``. Returns int64.

    The zero point is added before rounding, unlike in ``requantize``.
    """
    product = (np.int64(a) - np.int64(a_zero)) * (np.int64(b) - np.int64(b_zero))
    value = np.float32(product) * np.float32(ratio) + np.float32(dst_zero)
    return np.int64(np.rint(clamp(value, np.float32(low), np.float32(high))))


def average(total: Any, count: Any, dst_scale: Any, dst_zero: Any, low: Any, high: Any) -> Any:
    """AveragePool's last steps: ``y = f32(total / count)``, ``v = f32(f32(y / ys) + zp)``, ``sat(rne(v))``.

    Args:
        total: float32 sum of the dequantized values, accumulated in float32 in row-major order.
        count: how many values the window counts.

    Returns:
        int64; the zero point is added before rounding.
    """
    mean = np.float32(total) / np.float32(count)
    value = mean / np.float32(dst_scale) + np.float32(dst_zero)
    return np.int64(np.rint(clamp(value, np.float32(low), np.float32(high))))


def quantize_real(value: Any, scale: Any, zero_point: Any, low: Any, high: Any) -> Any:
    """Round a float64 result correctly through QuantizeLinear: to float32 once, then ``quantize``. Returns int64."""
    return quantize(np.float32(value), scale, zero_point, low, high)


def layer_norm_epsilon(epsilon: Any, src_scale: Any, length: int) -> Any:
    """``E = eps * n^2 / s^2``: epsilon in units of the integer variance ``n * sum(q^2) - sum(q)^2``. float64."""
    scale = np.float64(np.float32(src_scale))
    return np.float64(np.float32(epsilon)) * np.float64(length) * np.float64(length) / (scale * scale)


def rms_norm_epsilon(epsilon: Any, src_scale: Any, length: int) -> Any:
    """``E = eps * n / s^2``: epsilon in units of ``sum((q - zp)^2)``. float64."""
    scale = np.float64(np.float32(src_scale))
    return np.float64(np.float32(epsilon)) * np.float64(length) / (scale * scale)


def layer_norm_factor(total: Any, squares: Any, length: int, epsilon: Any) -> Any:
    """One row's factor ``r = 1 / sqrt(V + E)`` with ``V = n * sum(q^2) - sum(q)^2``, an exact int64. float64.

    The scale of the source cancels: ``(x - mean) / sqrt(var + eps) = (n q - sum(q)) * r``.
    """
    variance = np.int64(length) * np.int64(squares) - np.int64(total) * np.int64(total)
    return np.float64(1.0) / np.sqrt(np.float64(variance) + epsilon)


def rms_norm_factor(squares: Any, length: int, epsilon: Any) -> Any:
    """One row's factor ``r = sqrt(n) / sqrt(S + E)`` with ``S = sum((q - zp)^2)`` exact. float64."""
    return np.sqrt(np.float64(length)) / np.sqrt(np.float64(squares) + epsilon)


def norm_coefficient(value: Any, dst_scale: Any) -> Any:
    """A gain or an offset of a normalization in output steps: ``f64(value) / f64(dst_scale)``. float64."""
    return np.float64(np.float32(value)) / np.float64(np.float32(dst_scale))


def normalize(deviation: Any, factor: Any, gain: Any, offset: Any, zero_point: Any, low: Any, high: Any) -> Any:
    """Layer norm and RMS norm of one element: ``v = (d * r) * g + b`` in float64, clamp, ``rne(v) + zp``. int64.

    Args:
        deviation: exact integer: ``n q - sum(q)`` for layer norm, ``q - zp`` for RMS norm.
        factor: of the row, from ``layer_norm_factor`` or ``rms_norm_factor``.
        gain: of the channel, from ``norm_coefficient``.
        offset: of the channel, from ``norm_coefficient``; 0.0 where there is none.
    """
    value = np.float64(deviation) * factor * gain + offset
    clamped = clamp(value, np.float64(low - zero_point), np.float64(high - zero_point))
    return np.int64(np.rint(clamped)) + np.int64(zero_point)


def softmax_numerator(fine: Any, coarse: Any) -> Any:
    """Join the two table entries of a 16-bit softmax: ``(fine * coarse + 2^30) >> 31``. uint64."""
    half = np.uint64(1 << (EXP_TABLE_BITS - 1))
    return (np.uint64(fine) * np.uint64(coarse) + half) >> np.uint64(EXP_TABLE_BITS)


def softmax(numerator: Any, total: Any, dst_scale: Any, zero_point: Any, low: Any, high: Any) -> Any:
    """Softmax's division: ``v = (e * f64(1 / ys)) / S`` in float64, clamp, ``rne(v) + zp``. Returns int64.

    ``numerator`` is the element's entry of the exponential table, ``total`` the exact integer sum over the row. With
    ``ys`` a power of two the product is exact and the division is the only rounding.
    """
    steps = np.float64(1.0) / np.float64(np.float32(dst_scale))
    value = np.float64(numerator) * steps / np.float64(total)
    clamped = clamp(value, np.float64(low - zero_point), np.float64(high - zero_point))
    return np.int64(np.rint(clamped)) + np.int64(zero_point)


# Tables are computed at build time and travel with the program, so that no machine's math library changes a result.


def exp_table(src_scale: Any) -> np.ndarray[Any, Any]:
    """The softmax table: entry d is ``rne(exp(-d * s) * 2^31)`` for d = max - q in 0..255. uint32[256]."""
    distance = np.arange(256, dtype=np.float64) * np.float64(np.float32(src_scale))
    return np.rint(np.exp(-distance) * float(1 << EXP_TABLE_BITS)).astype(np.uint32)


def coarse_exp_table(src_scale: Any) -> np.ndarray[Any, Any]:
    """The second table of a 16-bit softmax: entry d is ``rne(exp(-256 d * s) * 2^31)``. uint32[256]."""
    distance = np.arange(256, dtype=np.float64) * 256.0 * np.float64(np.float32(src_scale))
    return np.rint(np.exp(-distance) * float(1 << EXP_TABLE_BITS)).astype(np.uint32)


def lookup_table(
    function: Callable[[Any], Any],
    src_dtype: Any,
    src_scale: Any,
    src_zero: int,
    dst_dtype: Any,
    dst_scale: Any,
    dst_zero: int,
) -> np.ndarray[Any, Any]:
    """The table of ``Quantize(function(Dequantize(q)))`` for every q of the source type.

    Args:
        function: float64 array to float64 array, elementwise.
        src_dtype: 8- or 16-bit integer NumPy type of the source.
        dst_dtype: 8- or 16-bit integer NumPy type of the result.

    Returns:
        256 or 65,536 entries of ``dst_dtype``; entry order follows the unsigned reading of the source element.
    """
    source, result = np.dtype(src_dtype), np.iinfo(np.dtype(dst_dtype))
    unsigned = np.arange(1 << (8 * source.itemsize), dtype=np.dtype(f"u{source.itemsize}"))
    real = np.float64(dequantize(unsigned.view(source), src_scale, src_zero))
    with np.errstate(all="ignore"):
        values = function(real)
    return quantize_real(values, dst_scale, dst_zero, result.min, result.max).astype(dst_dtype)
