"""Operands as arrays: what an instruction reads and writes, viewed in the memories of a job, a class at a time.

Used by the executor. ``isa.memory`` views one region and checks it; here the loader has checked all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isa.dtypes import item_bytes, numpy_type
from isa.instruction import UNITS_PER_CORE
from isa.program import Alike
from isa.region import OWN_CORE, Region, Space

Bytes = np.ndarray[Any, Any]
"""A memory: uint8[size]."""


def operands_of(alike: Alike, ocm: Sequence[Bytes], dram: Sequence[Bytes]) -> list[tuple[Any, ...]]:
    """Of each instruction of a class: its reads, then its writes, as arrays; None for a region that is empty.

    Args:
        alike: instructions of a program that keeps its bounds (``isa.verify.check_bounds``).
        ocm: by logical core.
        dram: by segment.

    Returns:
        What ``Memory.view`` returns for the same regions.
    """
    cores, columns = alike.units // UNITS_PER_CORE, alike.columns
    regions = (*columns.reads(), *columns.writes())
    arrays = [_arrays(region, cores, dram if region.space is Space.DRAM else ocm) for region in regions]
    return list(zip(*arrays, strict=True)) if arrays else [()] * len(cores)


def _arrays(region: Region, cores: np.ndarray[Any, Any], memories: Sequence[Bytes]) -> list[Bytes | None]:
    """The arrays over columns of regions; ``cores`` are those of the units."""
    arrays: list[Bytes | None] = [None] * len(cores)
    rows = np.flatnonzero(np.broadcast_to(region.run, len(cores)))

    def listed(column: Any) -> list[int]:
        values: list[int] = np.broadcast_to(column, len(cores))[rows].tolist()
        return values

    shapes = zip(*map(listed, (*region.counts, region.run)), strict=True)
    types = map(numpy_type, listed(region.dtype))
    buffers = map(memories.__getitem__, listed(np.where(np.equal(region.place, OWN_CORE), cores, region.place)))
    strides = zip(*map(listed, (*region.strides, item_bytes(region.dtype))), strict=True)
    for row, *where in zip(rows.tolist(), shapes, types, buffers, listed(region.base), strides, strict=True):
        arrays[row] = np.ndarray(*where)
    return arrays
