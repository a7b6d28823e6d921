"""From a float ONNX model and calibration data to a quantized one (QDQ), and what that costs in accuracy.

``quantize`` is the way in. Everything here is ONNX in and ONNX out: cycles are asked for through a callback. Neither
the compiler nor the machine is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a type checker sees; at run time __getattr__ loads the same names
    from .pipeline import Quantized as Quantized
    from .pipeline import quantize as quantize

__all__ = ["Quantized", "quantize"]


def __getattr__(name: str) -> object:
    """Load what quantizes on first use: whoever wants the settings alone does not wait for onnx."""
    if name not in __all__:
        raise AttributeError(f"module 'npusim.quant' has no attribute {name!r}", name=name)
    from . import pipeline

    return getattr(pipeline, name)
