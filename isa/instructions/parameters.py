"""The parameter block: zero points, clamps, scales and per-channel arrays that do not fit a word.

Every instruction that rounds names one in OCM and lists it among its reads. Layout, little-endian:

====== ======== =======================================================================
offset type     meaning
====== ======== =======================================================================
0      s32      zero point of the first source
4      s32      zero point of the second source or of the weights
8      s32      zero point of the destination
12     s32      smallest destination value (clamp, zero point included)
16     s32      largest destination value
20     f32      first factor: requantize multiplier, or scale of the first source
24     f32      second factor: scale of the second source, or epsilon of a normalization
28     f32      third factor: scale of the destination
32     ...      the arrays the instruction's flags ask for, in the order it documents
====== ======== =======================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Any

import numpy as np

from ..dtypes import DType
from ..errors import AccessError
from ..memory import Memory
from ..region import Region, ocm

BLOCK_BYTES = 32
BLOCK_ALIGN = 16
_HEAD = Struct("<5i3f")
_ZERO_LIMIT = 1 << 16
_LARGEST_FACTOR = 2.0**24
_SMALLEST_SCALE = 2.0**-64

HEADS_KEPT = 4096
"""Heads whose meaning is remembered: those of a large model on a few cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The head of a parameter block, read and checked.

    Factors are float32; ``zero_a`` and ``zero_b`` belong to the sources, ``zero`` to the destination.
    """

    zero_a: int = 0
    zero_b: int = 0
    zero: int = 0
    low: int = -128
    high: int = 127
    factor_a: Any = np.float32(1)
    factor_b: Any = np.float32(1)
    factor: Any = np.float32(1)

    def pack(self, *arrays: Any) -> bytes:
        """The block's bytes, followed by ``arrays`` (NumPy arrays of the documented types)."""
        integers = np.array([self.zero_a, self.zero_b, self.zero, self.low, self.high], dtype="<i4")
        factors = np.array([self.factor_a, self.factor_b, self.factor], dtype="<f4")
        return integers.tobytes() + factors.tobytes() + b"".join(np.asarray(a).tobytes() for a in arrays)


def head(address: Any) -> Region:
    """The 32-byte head at ``address``."""
    return ocm(address, BLOCK_BYTES, align=BLOCK_ALIGN)


def array(address: Any, dtype: DType, count: Any) -> Region:
    """An array of ``count`` elements inside a block; empty where ``count`` is 0."""
    return ocm(address, count, dtype)


def read(memory: Memory, address: int, dst_type: DType) -> Parameters:
    """Read the head at ``address`` and refuse what no arithmetic could use.

    Raises:
        AccessError: out of bounds, a clamp outside ``dst_type``, a zero point beyond 16 bits, a factor outside
            [0, 2**24] or a destination scale outside [2**-64, 2**24]. Within these bounds no step of the law makes a
            NaN, so that every conversion to integer is defined.
    """
    return parse(memory.view(head(address)), address, dst_type)


def parse(block: np.ndarray[Any, Any], address: int, dst_type: DType) -> Parameters:
    """What a head at ``address`` says; ``block`` is its bytes. Refuses what ``read`` refuses."""
    return _checked(block.tobytes(), address, dst_type)


@lru_cache(HEADS_KEPT)
def _checked(data: bytes, address: int, dst_type: DType) -> Parameters:
    """What the bytes of a head mean; remembered, as each call of a program reads the same ones."""
    zero_a, zero_b, zero, low, high, *factors = _HEAD.unpack(data)
    where = f"parameter block at {address:#x}"
    if not all(0 <= factor <= _LARGEST_FACTOR for factor in factors) or factors[2] < _SMALLEST_SCALE:
        raise AccessError(f"{where} holds a factor out of range: {factors}")
    if max(abs(zero_a), abs(zero_b), abs(zero)) >= _ZERO_LIMIT:
        raise AccessError(f"{where} holds a zero point beyond 16 bits: {zero_a}, {zero_b}, {zero}")
    if dst_type in (DType.S8, DType.U8, DType.S16, DType.U16):
        least, most = dst_type.range
        if not least <= low <= high <= most:
            raise AccessError(f"{where} clamps to [{low}, {high}], outside {dst_type} [{least}, {most}]")
    return Parameters(
        zero_a=zero_a, zero_b=zero_b, zero=zero, low=low, high=high,
        factor_a=np.float32(factors[0]), factor_b=np.float32(factors[1]), factor=np.float32(factors[2]),
    )  # fmt: skip


def multipliers(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The per-channel multipliers themselves.

    Raises:
        AccessError: some lie outside [0, 2**24], the range of the head's factors.
    """
    if not ((values >= 0) & (values <= _LARGEST_FACTOR)).all():
        raise AccessError("the multiplier array holds a factor out of range")
    return values


def positive(p: Parameters, mnemonic: str) -> Parameters:
    """The parameters of a normalization themselves.

    Raises:
        AccessError: scale or epsilon is not positive; a constant row would divide by zero.
    """
    if not (p.factor_a > 0 and p.factor_b > 0):
        raise AccessError(f"{mnemonic}: source scale and epsilon must be positive")
    return p


def finite(values: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    """``values`` themselves.

    Raises:
        AccessError: some are infinite or NaN.
    """
    if not np.isfinite(values).all():
        raise AccessError(f"{what} holds values that are not finite")
    return values
