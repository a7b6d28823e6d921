"""Memory as an instruction's ``operation()`` sees it: views of OCM and DRAM, every access checked.

The machine and the tests make one of these per core. No arithmetic and no timing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .dtypes import DType
from .errors import AccessError
from .region import OWN_CORE, Region, Space


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes one core can name.

    Attributes:
        ocm: OCM of every logical core, uint8[ocm_bytes] each.
        dram: DRAM segments by number, uint8[size] each.
        core: the logical core whose OCM an address without a core means.
    """

    ocm: Sequence[np.ndarray[Any, Any]]
    dram: Sequence[np.ndarray[Any, Any]]
    core: int = 0

    def view(self, region: Region) -> np.ndarray[Any, Any]:
        """An array of shape ``counts + (run,)`` over the region's own bytes.

        Raises:
            AccessError: the region leaves its memory, or is misaligned.
        """
        buffer = self._buffer(region)
        dtype = DType(region.dtype).numpy
        item = dtype.itemsize
        low, high = int(region.base), int(region.end)
        if high > buffer.size:
            raise AccessError(f"{self.describe(region)} ends at {high:#x}, past {buffer.size:#x}")
        step = max(region.align, item)
        if low % step or (item > 1 and any(stride % item for stride in region.strides)):
            raise AccessError(f"{self.describe(region)} is not aligned to {step} bytes")
        shape = (*map(int, region.counts), int(region.run))
        strides = (*map(int, region.strides), item)
        return np.ndarray(shape, dtype, buffer=buffer.data, offset=min(low, buffer.size), strides=strides)

    def load(self, region: Region) -> np.ndarray[Any, Any]:
        """A copy of the region's elements."""
        return self.view(region).copy()

    def store(self, region: Region, values: Any) -> None:
        """Write integers or floats that fit the region's element type; ``values`` broadcasts to its shape."""
        target = self.view(region)
        target[...] = np.asarray(values).astype(target.dtype, copy=False)

    def describe(self, region: Region) -> str:
        """``core0 OCM 0x100``, for messages."""
        if region.space is Space.DRAM:
            return f"segment {int(region.place)} offset {int(region.base):#x}"
        core = self.core if region.place == OWN_CORE else int(region.place)
        return f"core{core} OCM {int(region.base):#x}"

    def _buffer(self, region: Region) -> np.ndarray[Any, Any]:
        if region.space is Space.DRAM:
            place, pool, what = int(region.place), self.dram, "DRAM segment"
        else:
            place = self.core if region.place == OWN_CORE else int(region.place)
            pool, what = self.ocm, "core"
        if not 0 <= place < len(pool):
            raise AccessError(f"the program has no {what} {place}")
        return pool[place]
