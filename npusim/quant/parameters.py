"""Scales and zero points: from ranges of tensors and from weights.

Called by ``quantize`` between calibration and emission. Ranges are per tensor, because a tensor may be read in several
types; ``parameters_of`` gives the integers of one type.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.graph.ir import DTYPES, Array

SMALLEST_SCALE = 2.0**-60
"""Below it a tensor counts as all zeros: products of two scales have to stay normal float32 numbers."""

_LARGEST_BIAS = 2.0**30
"""Of an int32 bias: half of what fits, so that the products have as much room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The real numbers that a tensor's integers cover.

    Attributes:
        low: smallest, at most 0.
        high: largest, at least 0.
        observer: which method chose it, or why it is fixed.
        symmetric: whether the zero point is the middle of the type.
        probability: results of a softmax: the scale is a power of two that onnxruntime computes exactly with.
    """

    low: float
    high: float
    observer: str
    symmetric: bool = False
    probability: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """How integers stand for the reals of one tensor: ``(q - zero_point) * scale``.

    Attributes:
        scale: float32.
        zero_point: within the type.
        data_type: one of ``settings.DATA_TYPES`` but FP32.
    """

    scale: np.float32
    zero_point: int
    data_type: str

    @property
    def dtype(self) -> str:
        """The type as ``npusim.graph`` calls it."""
        return self.data_type.lower()


def parameters_of(range_: Range, data_type: str) -> Parameters:
    """The parameters of a range in one type.

    >>> wide = Range(low=-1.0, high=1.55, observer="MinMax")
    >>> parameters_of(wide, "U8")
    Parameters(scale=np.float32(0.01), zero_point=100, data_type='U8')
    """
    info = np.iinfo(DTYPES[data_type.lower()])
    levels = int(info.max) - int(info.min)
    if range_.probability:
        return Parameters(scale=np.float32(1 / (levels + 1)), zero_point=int(info.min), data_type=data_type)
    if range_.symmetric:
        middle = (int(info.max) + int(info.min) + 1) // 2
        scale = np.float32(max(-range_.low, range_.high) / (levels // 2))
        return _safe(scale, middle, data_type)
    scale = np.float32((range_.high - range_.low) / levels)
    zero = int(info.min) if scale < SMALLEST_SCALE else int(np.rint(info.min - range_.low / np.float64(scale)))
    return _safe(scale, min(max(zero, int(info.min)), int(info.max)), data_type)


def _safe(scale: np.float32, zero_point: int, data_type: str) -> Parameters:
    """With scale 1 where everything is zero."""
    if scale < SMALLEST_SCALE:
        scale = np.float32(1)
    return Parameters(scale=scale, zero_point=zero_point, data_type=data_type)


def weight_scales(weights: Array, axis: int | None, data_type: str) -> Array:
    """Symmetric scales of constant weights, float32: one per entry of ``axis``, or a single one.

    The extremes are the largest integer and its negative; the smallest integer of the type is not used.
    """
    others = tuple(a for a in range(weights.ndim) if a != axis) if axis is not None else None
    largest = np.max(np.abs(weights), axis=others, initial=0.0)
    scales = np.asarray(np.float64(largest) / np.iinfo(DTYPES[data_type.lower()]).max, np.float32)
    return np.asarray(np.where(scales < SMALLEST_SCALE, np.float32(1), scales), np.float32)


def room_for_bias(scales: Array, bias: Array, input_scale: np.float32) -> Array:
    """Weight scales that are large enough for the bias to fit 32 bits in the accumulator's scale.

    Args:
        scales: float32[channels], or a single one.
        bias: one number for each channel.
        input_scale: of the other operand.
    """
    needed = np.float64(np.abs(bias)) / (np.float64(input_scale) * _LARGEST_BIAS)
    if not scales.ndim:
        needed = np.max(needed, initial=0.0)
    return np.asarray(np.maximum(scales, needed), np.float32)


def constant_range(array: Array) -> Range:
    """The range of a constant that is an operand like an activation."""
    low, high = min(float(np.min(array, initial=0.0)), 0.0), max(float(np.max(array, initial=0.0)), 0.0)
    return Range(low=low, high=high, observer="constant")
