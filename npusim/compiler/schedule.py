"""From the plan to instructions: stores that nobody needs go, and steps become instructions with what they touch.

``hazards`` finds out which of them depend on one another, ``order`` when each starts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any

from isa.dtypes import item_bytes
from isa.instruction import UNITS_PER_CORE, Instruction, Unit, unit_number
from isa.instructions import Load, Multicast, Send, Store
from isa.program import SegmentKind
from isa.region import OWN_CORE, Box, Space, intersection, make_box

from .plan import Compute, Plan, Step, Transfer

BOX_PAIRS = 1 << 14
"""Pairs of strided accesses remembered; the tiles of a layer, and equal layers, share a few."""

_start, _end = itemgetter(0), itemgetter(1)  # of a range

DRAM_AND_PATH = (Load, Multicast, Send, Store)
BoxDims = tuple[tuple[int, int], ...]
Memory = tuple[int, int]
"""Space, and core or segment."""


@lru_cache(BOX_PAIRS)
def _share_a_byte(apart: int, run_a: int, dims_a: BoxDims, run_b: int, dims_b: BoxDims) -> bool:
    """Whether two boxes whose bases lie ``apart`` bytes from one another have a byte in common."""
    first, second = (-apart, 0) if apart < 0 else (0, apart)
    return intersection(Box(first, run_a, dims_a), Box(second, run_b, dims_b)) is not None


@dataclass(frozen=True, slots=True, eq=False)
class Touch:
    """Bytes that a step reads or writes.

    Attributes:
        low: first byte.
        high: last byte plus one.
        box: which of the bytes between.
    """

    memory: Memory
    low: int
    high: int
    box: Box
    write: bool

    def meets(self, other: Touch) -> bool:
        """Whether two accesses to one memory share a byte, one of them writing it."""
        return (
            (self.write or other.write) and self.low < other.high and other.low < self.high
            and (not (self.box.dims or other.box.dims) or _share_a_byte(
                other.low - self.low, self.box.run, self.box.dims, other.box.run, other.box.dims
            ))
        )  # fmt: skip


@dataclass(slots=True, eq=False)
class Placed:
    """A step as an instruction, with what it touches.

    Attributes:
        moves: whether it takes DRAM or the path between the cores.
    """

    unit: int
    instruction: Instruction
    origin: int
    touches: list[Touch]
    moves: bool


def drop_dead_stores(plan: Plan, kept: Collection[str] = ()) -> list[Step]:
    """The steps without the stores of scratch bytes that no later step loads; contiguous ones are cut to what is.

    All stores to the storages ``kept`` stay.
    """
    loaded: dict[str, list[tuple[int, int]]] = {}  # by storage: disjoint ranges, ascending
    steps: list[Step] = []
    for step in reversed(plan.steps):
        if not isinstance(step, Transfer):
            steps.append(step)
            continue
        low = step.offset
        high = low + sum((count - 1) * stride for count, stride, _ in step.dims) + step.run
        wanted = loaded.setdefault(step.storage, [])
        if step.load:
            _include(wanted, low, high)
            steps.append(step)
        elif step.storage in kept or plan.storages[step.storage].kind is not SegmentKind.SCRATCH:
            steps.append(step)
        else:
            first, last = bisect_right(wanted, low, key=_end), bisect_left(wanted, high, key=_start)
            needed = [(max(low, a), min(high, b)) for a, b in wanted[first:last]]
            if needed and step.dims:
                steps.append(step)
            elif needed:
                steps += [replace(step, offset=a, ocm=step.ocm + a - low, run=b - a) for a, b in reversed(needed)]
    steps.reverse()
    return steps


def _include(ranges: list[tuple[int, int]], low: int, high: int) -> None:
    """Add a range to disjoint ascending ones, joining what touches."""
    first, last = bisect_left(ranges, low, key=_end), bisect_right(ranges, high, key=_start)
    if first < last:
        low, high = min(low, ranges[first][0]), max(high, ranges[last - 1][1])
    ranges[first:last] = [(low, high)]


def place(steps: Iterable[Step], addresses: dict[str, tuple[int, int]]) -> list[Placed]:
    """Steps as instructions.

    Args:
        addresses: segment and offset of each storage.
    """
    placed = []
    for step in steps:
        if isinstance(step, Compute):
            unit, instruction = unit_number(step.core, step.unit), step.instruction
        else:
            unit, instruction = unit_number(step.core, Unit.SDMA), transfer_instruction(step, addresses)
        core = unit // UNITS_PER_CORE
        touches = [_touch(r, core, write=False) for r in instruction.reads()]
        touches += [_touch(r, core, write=True) for r in instruction.writes()]
        touches = [t for t in touches if t.box.run]
        placed.append(Placed(unit, instruction, step.origin, touches, isinstance(instruction, DRAM_AND_PATH)))
    return placed


def transfer_instruction(step: Transfer, addresses: dict[str, tuple[int, int]]) -> Instruction:
    """The load, multicast or store of a transfer."""
    segment, base = addresses[step.storage]
    dims = [(1, 0, 0)] * (3 - len(step.dims)) + list(step.dims)
    fields: dict[str, Any] = {"ocm": step.ocm, "segment": segment, "offset": base + step.offset, "run": step.run}
    for level, (count, dram_stride, ocm_stride) in zip((3, 2, 1), dims, strict=True):
        fields |= {f"count_{level}": count, f"dram_stride_{level}": dram_stride, f"ocm_stride_{level}": ocm_stride}
    if not step.load:
        return Store(**fields)
    return Multicast(**fields, cores=step.cores) if step.cores else Load(**fields)


def _touch(region: Any, core: int, *, write: bool) -> Touch:
    place = core if region.space is Space.OCM and region.place == OWN_CORE else int(region.place)
    box = make_box(int(region.base), int(region.run * item_bytes(region.dtype)), region.counts, region.strides)
    return Touch((int(region.space), place), box.base, box.end, box, write)
