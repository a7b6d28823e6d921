"""The arena: a growing memory in which a recipe places operands, strided, filled and disjoint.

Used by ``npusim.testing.recipes``. Hypothesis draws shapes and choices, which shrink; a seeded generator makes the
many values, which need not. Nothing here knows an instruction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from isa.dtypes import DType
from isa.instructions import Parameters
from isa.memory import Memory
from isa.region import Region, Space

_T = TypeVar("_T")

FILLINGS = {"uniform": 0.6, "small": 0.15, "extremes": 0.15, "lowest": 0.05, "highest": 0.05}
"""How a case's integers are distributed, and how often so: over the whole type; near its middle, where every sum and
product can become a tie; at both its ends; all at one end."""

DECIMALS = (1.0, 2.0, 2.5, 4.0, 5.0, 7.5)
"""First digits of the decimal scales: with powers of ten they make products that fall on halves."""


class Arena:
    """Places operands in the OCM of some cores and in DRAM segments.

    Attributes:
        draw: hypothesis' draw function.
        rng: generator of the values, seeded by a drawn number.
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, (1 << 32) - 1)))
        self._filling = self.chosen(FILLINGS)
        self._ends: dict[tuple[Space, int], int] = {}
        self._contents: list[tuple[Region, Any]] = []

    # ------------------------------------------------------------------------------------------------------ choices

    def pick(self, options: Sequence[_T]) -> _T:
        """One of ``options``; the first is the simplest."""
        return self.draw(st.sampled_from(options))

    def integer(self, low: int, high: int) -> int:
        """An integer in ``[low, high]``."""
        return self.draw(st.integers(low, high))

    def flag(self) -> int:
        """0 or 1."""
        return self.integer(0, 1)

    def rarely(self) -> bool:
        """True once in a few cases."""
        return self.integer(0, 4) == 4

    # Values are chosen by the generator: what hypothesis draws, it draws simple, and simple numbers saturate.

    def chosen(self, options: dict[str, float]) -> str:
        """One of the names, each as often as its weight says."""
        return str(self.rng.choice(tuple(options), p=tuple(options.values())))

    def near(self, wanted: float) -> np.float32:
        """A factor near ``wanted``: a power of two, a decimal, or any; the first two make ties."""
        kind = self.chosen({"power": 0.35, "decimal": 0.25, "any": 0.4})
        if kind == "power":
            return np.float32(2.0 ** round(math.log2(wanted)))
        if kind == "decimal":
            return np.float32(self.rng.choice(DECIMALS) * 10.0 ** round(math.log10(wanted / 3)))
        return np.float32(wanted * self.rng.uniform(0.5, 2))

    def scale(self) -> np.float32:
        """A quantization scale around 2**-10 to 2."""
        return self.near(2.0 ** self.rng.uniform(-10, 1))

    def multiplier(self, typical: float, dtype: DType) -> np.float32:
        """A requantize multiplier that brings values around ``typical`` into the range of ``dtype``.

        Now and then it is 0, or vanishing, or so large that everything saturates.
        """
        if self.rng.random() < 0.1:
            return np.float32(self.rng.choice((0.0, 2.0**24, 2.0**-64)))
        span = dtype.range[1] if dtype in (DType.S8, DType.U8, DType.S16, DType.U16) else 1
        return self.near(min(span / typical * 2.0 ** self.rng.uniform(-3, 0), 2.0**22))

    def zero_point(self, dtype: DType, like: tuple[DType, int] | None = None) -> int:
        """A zero point within the type: 0 where it can be, the middle, an end, or anything.

        ``like`` names a source's type and zero point; half of the time the new one lies alike within its own type,
        which keeps results that resemble their source from saturating.
        """
        low, high = dtype.range
        if like is not None and self.rng.random() < 0.5:
            first, last = like[0].range
            return low + round((like[1] - first) / (last - first) * (high - low))
        places = {"zero": 0, "middle": (low + high + 1) // 2, "low": low, "high": high}
        kind = self.chosen({"zero": 0.3, "middle": 0.2, "low": 0.1, "high": 0.1, "any": 0.3})
        return places.get(kind, int(self.rng.integers(low, high + 1)))

    def clamp(self, dtype: DType, zero: int = 0) -> tuple[int, int]:
        """``(low, high)``: the whole type, or a fused activation's part of it."""
        low, high = dtype.range
        kind = self.chosen({"type": 0.6, "relu": 0.2, "any": 0.2})
        if kind == "relu":
            return max(low, zero), high
        if kind == "any":
            first, second = sorted(int(v) for v in self.rng.integers(low, high + 1, size=2))
            return first, second
        return low, high

    def values(self, dtype: DType, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Elements of ``dtype``, distributed as the case's filling says; floats have exponents of both signs."""
        if dtype is DType.F32:
            exponents = self.rng.integers(-8, 8, shape).astype(np.float64)
            return (self.rng.standard_normal(shape) * 2.0**exponents).astype(np.float32)
        low, high = dtype.range
        if dtype in (DType.S32, DType.S64) and self._filling in ("uniform", "small"):
            low, high = -(1 << 20), 1 << 20
        if self._filling == "uniform":
            return self.rng.integers(low, high, shape, dtype.numpy, endpoint=True)
        if self._filling == "small":
            middle, spread = (low + high + 1) // 2, max(4, (high - low) >> int(self.rng.integers(4, 9)))
            return (middle + self.rng.integers(-spread, spread, shape)).astype(dtype.numpy)
        ends = {"extremes": (low, high), "lowest": (low, low), "highest": (high, high)}[self._filling]
        return np.where(self.rng.random(shape) < 0.5, *ends).astype(dtype.numpy)

    # ---------------------------------------------------------------------------------------------------- placement

    def strides(self, counts: Sequence[int], run_bytes: int, item: int) -> tuple[int, ...]:
        """Strides of the outer dimensions, so that no two runs touch the same byte: dense, padded or reordered.

        Args:
            counts: outer dimensions, slowest first.
            run_bytes: of the innermost contiguous run.
            item: bytes every stride is a multiple of.
        """
        order = list(reversed(range(len(counts))))
        if self.rarely():
            order = self.draw(st.permutations(order))
        padded = self.flag()
        strides, extent = [0] * len(counts), run_bytes
        for d in order:
            step = extent + (item * self.integer(0, 3) if padded else 0)
            strides[d] = 0 if counts[d] == 1 and padded and self.rarely() else step
            extent += (counts[d] - 1) * step
        return tuple(strides)

    def reserve(self, size_bytes: int, align: int, space: Space = Space.OCM, place: int = 0) -> int:
        """The address of fresh bytes: aligned to ``align``, sometimes to no more than that."""
        key = (space, place)
        start = self._ends.get(key, 0)
        address = -(-start // align) * align + align * self.pick((0, 0, 1, 3))
        self._ends[key] = address + size_bytes
        return address

    def fill(self, region: Region, values: Any) -> None:
        """Have the region hold ``values`` (they broadcast) when the case starts."""
        self._contents.append((region, values))

    def put(self, array: np.ndarray[Any, Any], align: int = 1) -> int:
        """Place an array densely; its address."""
        data = np.frombuffer(array.tobytes(), np.uint8)
        address = self.reserve(data.size, align)
        self.fill(Region(Space.OCM, address, data.size), data)
        return address

    def tensor(
        self, dtype: DType, counts: Sequence[int], run: int, *, align: int = 1, repeat: Sequence[int] = ()
    ) -> tuple[int, tuple[int, ...]]:
        """Place a strided tensor of fresh values.

        Args:
            counts: outer dimensions, slowest first.
            run: contiguous elements.
            align: bytes, where it is more than an element.
            repeat: outer dimensions along which the same bytes repeat (stride 0).

        Returns:
            Address, and strides in bytes.
        """
        item = dtype.numpy.itemsize
        distinct = [1 if d in repeat else count for d, count in enumerate(counts)]
        strides = self.strides(distinct, run * item, item)
        strides = tuple(0 if d in repeat else stride for d, stride in enumerate(strides))
        region = Region(Space.OCM, 0, run, dtype, tuple(counts), strides)
        address = self.reserve(int(region.end), max(align, item))
        here = Region(Space.OCM, address, run, dtype, tuple(counts), strides)
        self.fill(here, self.values(dtype, (*distinct, run)))
        return address, strides

    def block(self, parameters: Parameters, *arrays: np.ndarray[Any, Any]) -> int:
        """Place a parameter block; its address."""
        return self.put(np.frombuffer(parameters.pack(*arrays), np.uint8), align=16)

    def memory(self, cores: int = 1, segments: int = 0) -> Memory:
        """The memory: every operand in place, random bytes between them and a few behind."""
        ocm = [self._bytes(Space.OCM, core) for core in range(cores)]
        dram = [self._bytes(Space.DRAM, segment) for segment in range(segments)]
        memory = Memory(ocm, dram)
        for region, values in self._contents:
            memory.store(region, values)
        return memory

    def _bytes(self, space: Space, place: int) -> np.ndarray[Any, Any]:
        size = self._ends.get((space, place), 0) + self.pick((0, 1, 64))
        return self.rng.integers(0, 256, size, np.uint8)
