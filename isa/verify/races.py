"""Data races: two accesses to one byte, at least one a write, that happens-before does not order.

Takes the order and the table of accesses; one memory at a time, one pass in linear order.

The pass keeps, for every stretch of memory, the accesses that a later one would still have to be ordered after. An
access splits the stretches at its own ends, is compared with what it finds between them, and then replaces what it
makes redundant: whoever is ordered after it is ordered after that too. A contiguous write replaces everything, a
contiguous read the reads of its unit, a strided access those of the same box. Strided boxes enter the stretches
around their first and last byte; a suspect is a race only if the boxes share a byte, which is decided once a pair.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..program import Program
from ..region import Box, intersection
from .access import AccessTable
from .boxes import BoxTable, meet
from .order import Clock, Order
from .report import Violation, at_memory, site

Record = tuple[int, int, int, bool]
"""Unit, position, box, whether it writes."""

WORK_PER_STRETCH = 4
WORK_BEFORE_FORGETTING = 2000
"""Settled accesses are dropped when the work since the last time passes four times that of dropping them, and a bit."""


def find_races(program: Program, order: Order, table: AccessTable) -> Iterator[Violation]:
    """Every race of a pair of boxes between a pair of units once, by memory, then in linear order."""
    ranks = np.zeros(len(table), np.int64)
    for unit, rank in order.rank.items():
        mine = table.unit == unit
        ranks[mine] = rank[table.position[mine]]
    memory = table.boxes.memory[table.box]
    sequence = np.lexsort((ranks, memory))
    borders = np.flatnonzero(np.diff(memory[sequence])) + 1
    for part in np.split(sequence, borders):
        if table.write[part].any() and len(np.unique(table.unit[part])) > 1:
            yield from _races_of_memory(program, order, table, part)


def _races_of_memory(
    program: Program, order: Order, table: AccessTable, part: np.ndarray[Any, Any]
) -> Iterator[Violation]:
    boxes, clocks = table.boxes, order.clocks
    units, positions = table.unit[part], table.position[part]
    columns = (units, positions, table.box[part], table.write[part], boxes.solid[table.box[part]])
    # A strided box enters whole pitches, so that boxes interleaved in one tensor share few stretches instead of cutting
    # each other into many; only the exact test below decides.
    pitch = np.maximum(boxes.strides.max(axis=1, initial=0), 1)
    lows = (boxes.base // pitch * pitch)[table.box[part]].tolist()
    highs = (-(-boxes.end // pitch) * pitch)[table.box[part]].tolist()
    verdicts = _Verdicts(boxes)
    upcoming = _Upcoming(clocks, units, positions)
    stretches = _Stretches()
    told: set[tuple[int, int, int, int]] = set()
    rows = zip(*(c.tolist() for c in columns), lows, highs, strict=True)
    for step, (unit, position, box, write, solid, low, high) in enumerate(rows):
        clock = clocks[unit][position]
        this = (unit, position, box, write)
        for earlier in stretches.enter(this, clock, low, high, solid):
            if not verdicts.meet(box, earlier[2]):
                continue
            pair = (unit, earlier[0], *sorted((box, earlier[2])))
            if pair not in told:
                told.add(pair)
                yield _race(program, boxes, earlier, this)
        if step + 1 < len(part) and stretches.spent > WORK_PER_STRETCH * stretches.size() + WORK_BEFORE_FORGETTING:
            stretches.forget(upcoming.floor(step + 1))


class _Stretches:
    """A memory cut into stretches: where each begins, its writes, its reads."""

    def __init__(self) -> None:
        self.starts: list[int] = [0]
        self.writes: list[tuple[Record, ...]] = [()]
        self.reads: list[tuple[Record, ...]] = [()]
        self.spent = 0

    def size(self) -> int:
        return len(self.starts)

    def enter(self, this: Record, clock: Clock, low: int, high: int, solid: bool) -> list[Record]:
        """Take an access in; the earlier ones it is not ordered after, unless both read."""
        unit, _, box, write = this
        starts, writes, reads = self.starts, self.writes, self.reads
        first = self._cut(low)
        last = self._cut(high) if first + 1 == len(starts) or starts[first + 1] != high else first + 1
        suspects = [r for cell in writes[first:last] for r in cell if clock[r[0]] <= r[1]]
        if write:
            suspects += [r for cell in reads[first:last] for r in cell if clock[r[0]] <= r[1]]
        self.spent += last - first
        if write and solid:
            starts[first:last] = [low]
            writes[first:last] = [(this,)]
            reads[first:last] = [()]
        elif write:
            for cell in range(first, last):
                self.spent += len(writes[cell]) + len(reads[cell])
                writes[cell] = (*(r for r in writes[cell] if r[2] != box), this)
                reads[cell] = tuple(r for r in reads[cell] if r[2] != box)
        elif solid:
            for cell in range(first, last):
                self.spent += len(writes[cell]) + len(reads[cell])
                reads[cell] = (*(r for r in reads[cell] if r[0] != unit), this)
        else:
            for cell in range(first, last):
                self.spent += len(writes[cell]) + len(reads[cell])
                reads[cell] = (*(r for r in reads[cell] if r[0] != unit or r[2] != box), this)
        return suspects

    def _cut(self, address: int) -> int:
        """Let a stretch begin at ``address``; which one that is."""
        starts = self.starts
        index = bisect_left(starts, address)
        if index == len(starts) or starts[index] != address:
            starts.insert(index, address)
            self.writes.insert(index, self.writes[index - 1])
            self.reads.insert(index, self.reads[index - 1])
        return index

    def forget(self, floor: Clock) -> None:
        """Drop the accesses that everything to come is ordered after, and the borders between equal stretches."""
        starts: list[int] = []
        kept_writes: list[tuple[Record, ...]] = []
        kept_reads: list[tuple[Record, ...]] = []
        for start, writes, reads in zip(self.starts, self.writes, self.reads, strict=True):
            if writes:
                writes = tuple(r for r in writes if r[1] >= floor[r[0]])
            if reads:
                reads = tuple(r for r in reads if r[1] >= floor[r[0]])
            if not starts or writes != kept_writes[-1] or reads != kept_reads[-1]:
                starts.append(start)
                kept_writes.append(writes)
                kept_reads.append(reads)
        self.starts, self.writes, self.reads = starts, kept_writes, kept_reads
        self.spent = 0


class _Upcoming:
    """What the accesses still to come are known to be ordered after."""

    def __init__(self, clocks: Any, units: np.ndarray[Any, Any], positions: np.ndarray[Any, Any]) -> None:
        self.clocks = clocks
        self.positions = positions
        self.steps = {int(unit): np.flatnonzero(units == unit) for unit in np.unique(units)}

    def floor(self, step: int) -> Clock:
        """By unit: how many of its instructions happen before every access from ``step`` on, its own left aside."""
        floors = []
        for unit, steps in self.steps.items():
            index = int(np.searchsorted(steps, step))
            if index < len(steps):
                floors.append(self.clocks[unit][int(self.positions[steps[index]])])
        return [min(known) for known in zip(*floors, strict=True)]


class _Verdicts:
    """Whether pairs of boxes share bytes, each decided once."""

    def __init__(self, boxes: BoxTable) -> None:
        self.boxes = boxes
        self.shapes: dict[int, Box] = {}
        self.known: dict[tuple[int, int], bool] = {}

    def meet(self, first: int, second: int) -> bool:
        key = (first, second) if first < second else (second, first)
        if key not in self.known:
            self.known[key] = meet(self._box(first), self._box(second))
        return self.known[key]

    def _box(self, index: int) -> Box:
        if index not in self.shapes:
            self.shapes[index] = self.boxes.box(index)
        return self.shapes[index]


def _race(program: Program, boxes: BoxTable, earlier: Record, later: Record) -> Violation:
    sites = tuple(site(program, unit, position) for unit, position, _, _ in (earlier, later))
    does = ["writes" if write else "reads" for _, _, _, write in (earlier, later)]
    common = intersection(boxes.box(earlier[2]), boxes.box(later[2]))
    assert common is not None, "boxes that meet intersect"
    message = f"{sites[0]} {does[0]} and {sites[1]} {does[1]} {{bytes}}, and neither waits for the other"
    return at_memory(program, "race", message, sites, int(boxes.memory[later[2]]), common[0], common[1] - 1)
