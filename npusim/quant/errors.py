"""What can go wrong while a model is quantized.

Raised by the stages of ``quantize``. Files that cannot be read and selectors that match nothing have errors of their
own (``npusim.graph.ModelError``, ``npusim.errors.UsageError``).
"""

from __future__ import annotations

from npusim.errors import NpusimError


class QuantizationError(NpusimError):
    """The model or its calibration data cannot be quantized.

    Attributes:
        tensor: name of the tensor at fault, or an empty string.
        sample: index of the calibration sample at fault, or -1.
    """

    def __init__(self, message: str, *, tensor: str = "", sample: int = -1) -> None:
        super().__init__(message)
        self.tensor = tensor
        self.sample = sample
