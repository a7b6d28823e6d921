"""What a rule is asked for: a real value of the model, as integers of a given scale.

Made by ``lowering`` for every QuantizeLinear and passed from rule to rule; nothing is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import quantize
from .ir import DTYPES, Quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A real value, wanted as integers.

    Attributes:
        value: name of the real ONNX value.
        dtype: of the integers.
        quantization: what they mean; None for a raw accumulator, whose meaning the rule states.
        clamp: smallest and largest integer, zero point included.
        name: for the resulting tensor; "" where the integers have no name in the model.
        source: ONNX nodes behind the value's own whose work the operation takes over, such as a Relu.
    """

    value: str
    dtype: str
    quantization: Quantization | None
    clamp: tuple[int, int]
    name: str = ""
    source: tuple[str, ...] = ()

    def of(self, value: str) -> Target:
        """The same integers of another value."""
        return replace(self, value=value, name="")

    def clamped(self, low: float, high: float) -> Target:
        """This target with real bounds, for a Relu or Clip in front of it."""
        assert self.quantization is not None
        bounds = quantize.quantize(np.array([low, high], np.float32), self.quantization, self.dtype)
        lowest, highest = (min(max(int(bound), self.clamp[0]), self.clamp[1]) for bound in bounds)
        return replace(self, clamp=(min(lowest, highest), highest))  # the upper bound wins, as in ONNX's Clip

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two targets the same."""
        return (self.value, self.dtype, self.quantization, self.clamp)


def whole_range(dtype: str) -> tuple[int, int]:
    """Smallest and largest value of an integer type."""
    info = np.iinfo(DTYPES[dtype])
    return int(info.min), int(info.max)
