"""QuantizeLinear and DequantizeLinear of constants, in the roundings ONNX prescribes.

Used while a model is imported; the same two functions as the machine's law, on arrays that may be per-channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .ir import DTYPES, Array, Quantization


def spread(values: Any, quantization: Quantization, shape: tuple[int, ...]) -> Any:
    """A scale or zero point of ``quantization`` in a form that broadcasts over a tensor of ``shape``."""
    if quantization.axis is None:
        return values
    values = np.asarray(values)
    if quantization.block:
        wide = np.repeat(values, quantization.block, axis=quantization.axis)
        return np.take(wide, np.arange(shape[quantization.axis]), axis=quantization.axis)
    return values.reshape([-1 if axis == quantization.axis else 1 for axis in range(len(shape))])


def quantize(real: Array, quantization: Quantization, dtype: str) -> Array:
    """``rne(clamp(f32(x / s))) + zp`` in the integer type ``dtype``; NaN gives the smallest value."""
    info = np.iinfo(DTYPES[dtype])
    real = np.asarray(real, np.float32)
    zero = spread(quantization.zero_point, quantization, real.shape)
    with np.errstate(all="ignore"):
        ratio = real / spread(np.asarray(quantization.scale, np.float32), quantization, real.shape)
    low, high = np.float32(info.min - np.asarray(zero)), np.float32(info.max - np.asarray(zero))
    clamped = np.minimum(np.fmax(ratio, low), high)
    return np.asarray(np.rint(clamped).astype(np.int64) + zero).astype(DTYPES[dtype])


def dequantize(integers: Array, quantization: Quantization) -> Array:
    """``f32(f32(q - zp) * s)``, float32."""
    zero = spread(quantization.zero_point, quantization, integers.shape)
    difference = (integers.astype(np.int64) - zero).astype(np.float32)
    scale = spread(np.asarray(quantization.scale, np.float32), quantization, integers.shape)
    return np.asarray(difference * scale, np.float32)
