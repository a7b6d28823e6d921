"""Regions: the bytes one operand touches, as a strided box, and the exact intersection of two of them.

Instructions return regions from ``reads()`` and ``writes()``; memory turns one into an array view, the verifier
compares them. A region is a shape in memory and knows nothing of what the bytes mean beyond their element type.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from .dtypes import DType, item_bytes

OWN_CORE = -1


def ceil_div(value: Any, divisor: Any) -> Any:
    """``ceil(value / divisor)`` of non-negative integers or integer arrays."""
    return -(-value // divisor)


class Space(IntEnum):
    """Where a region lies."""

    OCM = 0
    DRAM = 1


class Region(NamedTuple):
    """``run`` contiguous elements at ``base``, repeated over up to four outer dimensions.

    A tuple, because the machine makes several for each instruction it executes.

    Every number is an int for one instruction, or an int64 array with one entry per instruction where the instruction
    object holds columns; the same methods serve both.

    Attributes:
        space: OCM or DRAM.
        base: address in bytes: in the core's OCM, or in the DRAM segment.
        run: contiguous elements of the innermost dimension; 0 makes the region empty.
        dtype: element type (``DType`` or array of its codes).
        counts: outer dimensions, slowest first.
        strides: bytes from one entry of an outer dimension to the next; 0 repeats the same bytes.
        place: logical core of the OCM (``OWN_CORE``: the unit's own), or number of the DRAM segment.
        align: bytes the base must be a multiple of, where it is more than an element.
    """

    space: Space
    base: Any
    run: Any
    dtype: Any = DType.U8
    counts: tuple[Any, ...] = ()
    strides: tuple[Any, ...] = ()
    place: Any = OWN_CORE
    align: int = 1

    @property
    def run_bytes(self) -> Any:
        """Bytes of the innermost contiguous run."""
        return self.run * item_bytes(self.dtype)

    @property
    def size_bytes(self) -> Any:
        """Bytes moved: the product of all dimensions; repeated bytes count each time."""
        total = self.run_bytes
        for extent in self.counts:
            total = total * extent
        return total

    @property
    def end(self) -> Any:
        """Address after the last byte (``base`` where the region is empty)."""
        last = self.base
        for extent, stride in zip(self.counts, self.strides, strict=True):
            last = last + (extent - 1) * stride
        size = self.run_bytes
        if isinstance(size, np.ndarray):
            return np.where(size > 0, last + size, self.base)
        return last + size if size > 0 else self.base


def ocm(base: Any, run: Any, dtype: Any = DType.U8, counts: Any = (), strides: Any = (), **more: Any) -> Region:
    """A region of OCM; ``place=core`` for another core's."""
    return Region(Space.OCM, base, run, dtype, tuple(counts), tuple(strides), **more)


def dram(segment: Any, base: Any, run: Any, counts: Any = (), strides: Any = ()) -> Region:
    """A region of bytes in a DRAM segment."""
    return Region(Space.DRAM, base, run, DType.U8, tuple(counts), tuple(strides), place=segment)


@dataclass(frozen=True, slots=True)
class Box:
    """A region in canonical form: plain integers, bytes, outer dimensions merged where they are contiguous.

    ``dims`` holds (count, stride) with count > 1 and stride > 0, largest stride first.
    """

    base: int
    run: int
    dims: tuple[tuple[int, int], ...]

    @property
    def end(self) -> int:
        """Address after the last byte."""
        return self.base + sum((count - 1) * stride for count, stride in self.dims) + self.run


def make_box(base: int, run: int, counts: Any, strides: Any) -> Box:
    """Canonical box of ``run`` bytes repeated over ``counts`` and ``strides`` (any order, zero strides allowed)."""
    dims = sorted((stride, count) for count, stride in zip(counts, strides, strict=True) if count > 1 and stride > 0)
    outer: list[tuple[int, int]] = []
    for stride, count in dims:
        if not outer and stride <= run:  # touching or overlapping runs are one longer run
            run += (count - 1) * stride
        elif outer and stride == outer[0][0] * outer[0][1]:
            outer[0] = (outer[0][0] * count, outer[0][1])
        else:
            outer.insert(0, (count, stride))
    return Box(base, run, tuple(outer))


def run_starts(box: Box, low: int, high: int) -> np.ndarray[Any, Any]:
    """Sorted starts of the runs of ``box`` that touch ``[low, high)``; int64."""
    starts = np.array([box.base], dtype=np.int64)
    remaining = sum((count - 1) * stride for count, stride in box.dims) + box.run
    for count, stride in box.dims:
        remaining -= (count - 1) * stride
        starts = (starts[:, None] + np.arange(count, dtype=np.int64) * stride).ravel()
        starts = starts[(starts < high) & (starts + remaining > low)]
    return np.unique(starts)


def intersection(a: Box, b: Box) -> tuple[int, int] | None:
    """The first common byte range ``[low, high)`` of two boxes, or None where they share no byte. Exact."""
    low, high = max(a.base, b.base), min(a.end, b.end)
    if low >= high or a.run == 0 or b.run == 0:
        return None
    if not a.dims and not b.dims:
        return low, high
    if a.dims == b.dims and len(a.dims) == 1 and _same_comb_misses(a, b):
        return None
    first, second = run_starts(a, low, high), run_starts(b, low, high)
    if second.size == 0:  # all of a lies in a gap of b
        return None
    # for each run of a: the last run of b that starts before a's run ends; it touches when it ends after a's start
    index = np.searchsorted(second, first + a.run, side="left") - 1
    found = np.flatnonzero((index >= 0) & (second[np.maximum(index, 0)] + b.run > first))
    if found.size == 0:
        return None
    start = int(first[found[0]])
    # the earliest run of b that reaches past a's start
    other = int(second[np.searchsorted(second, start - b.run, side="right")])
    return max(start, other), min(start + a.run, other + b.run)


def _same_comb_misses(a: Box, b: Box) -> bool:
    """True when two combs of one pitch interleave without touching: the channel slices of an NHWC tensor."""
    stride = a.dims[0][1]
    phase = (b.base - a.base) % stride
    return phase >= a.run and phase + b.run <= stride
