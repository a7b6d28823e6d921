"""The element types of the machine: what a byte range in OCM or DRAM means.

Used by every instruction that touches tensors. Arithmetic belongs in ``law``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np


class DType(IntEnum):
    """Element type of a tensor operand; the value is its encoding in an instruction word."""

    S8 = 0
    U8 = 1
    S16 = 2
    U16 = 3
    S32 = 4
    S64 = 5
    F32 = 6

    @property
    def numpy(self) -> np.dtype[Any]:
        """The little-endian NumPy type of one element."""
        return _NUMPY[self]

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest integer of the type.

        Raises:
            ValueError: for F32, which has no integer range.
        """
        if self is DType.F32:
            raise ValueError("f32 has no integer range")
        info = np.iinfo(_NUMPY[self])
        return int(info.min), int(info.max)

    def __str__(self) -> str:
        return self.name.lower()


_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.S8: np.dtype("<i1"),
    DType.U8: np.dtype("<u1"),
    DType.S16: np.dtype("<i2"),
    DType.U16: np.dtype("<u2"),
    DType.S32: np.dtype("<i4"),
    DType.S64: np.dtype("<i8"),
    DType.F32: np.dtype("<f4"),
}

ITEM_BYTES = np.array([_NUMPY[t].itemsize for t in DType], dtype=np.int64)
"""Bytes of one element, indexed by ``DType``."""

BYTE_TYPES = (DType.S8, DType.U8)
SHORT_TYPES = (DType.S16, DType.U16)
ACTIVATION_TYPES = BYTE_TYPES + SHORT_TYPES


def numpy_type(dtype: Any) -> np.dtype[Any]:
    """The NumPy type of one element of a ``DType``, or of its code."""
    return _NUMPY[dtype]


def item_bytes(dtype: Any) -> Any:
    """Bytes of one element of ``dtype``: an int for a ``DType``, an int64 array for an array of codes."""
    if isinstance(dtype, np.ndarray):
        return ITEM_BYTES[dtype]
    return _NUMPY[dtype].itemsize
