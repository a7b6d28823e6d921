"""Memory as an instruction's ``operation()`` sees it: views of OCM and DRAM, every access checked.

The machine and the tests make one of these per core. No arithmetic and no timing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .dtypes import numpy_type
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
        buffer, dtype = self._buffer(region), numpy_type(region.dtype)
        base, strides, item = region.base, region.strides, dtype.itemsize
        try:  # NumPy checks that the array lies within the buffer
            array: Any = np.ndarray((*region.counts, region.run), dtype, buffer, base, (*strides, item))
        except ValueError as error:
            high = int(region.end)
            if high <= buffer.size:
                raise
            raise AccessError(f"{self.describe(region)} ends at {high:#x}, past {buffer.size:#x}") from error
        step = max(region.align, item)
        if step > 1 and (base % step or (item > 1 and any(stride % item for stride in strides))):
            raise AccessError(f"{self.describe(region)} is not aligned to {step} bytes")
        return array

    def load(self, region: Region) -> np.ndarray[Any, Any]:
        """A copy of the region's elements."""
        return self.view(region).copy()

    def store(self, region: Region, values: Any) -> None:
        """Write integers or floats that fit the region's element type; ``values`` broadcasts to its shape."""
        target = self.view(region)
        target[...] = np.asarray(values).astype(target.dtype, copy=False)

    def copy(self, target: Region, source: Region) -> None:
        """Write the elements of one region to another of the same shape and type; they may overlap."""
        self.view(target)[...] = self.view(source)

    def describe(self, region: Region) -> str:
        """``core0 OCM 0x100``, for messages."""
        if region.space is Space.DRAM:
            return f"segment {int(region.place)} offset {int(region.base):#x}"
        core = self.core if region.place == OWN_CORE else int(region.place)
        return f"core{core} OCM {int(region.base):#x}"

    def _buffer(self, region: Region) -> np.ndarray[Any, Any]:
        place, pool = region.place, self.ocm
        if region.space is Space.DRAM:
            pool = self.dram
        elif place == OWN_CORE:
            place = self.core
        if not 0 <= place < len(pool):
            what = "core" if pool is self.ocm else "DRAM segment"
            raise AccessError(f"the program has no {what} {place}")
        return pool[place]
