"""How many bytes of OCM and DRAM hold something that is still needed, over time: from a program and its trace.

Used by ``profile``. Which bytes an instruction reads and writes is declared in ``isa``; docs/report.md has the
definition in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from isa.instruction import UNITS_PER_CORE
from isa.program import Program, SegmentKind
from isa.region import Space, run_starts
from isa.verify.access import AccessTable, decode, tabulate
from isa.verify.boxes import BoxTable
from isa.verify.limits import Limits
from isa.verify.report import memory_number
from isa.verify.single import memory_sizes
from npusim.report.curve import Curve, from_changes, total
from npusim.sim.trace import Trace

LINE_BYTES = 64
"""Bytes are counted in aligned lines of this many, the alignment of most buffers."""


def occupancy(
    programs: Sequence[Program], trace: Trace, cores: Sequence[int], ocm_bytes: int
) -> tuple[tuple[Curve, ...], Curve]:
    """Bytes in use of the OCM of each core, and of the DRAM's scratch segments.

    A line is in use from the start of the instruction that writes its value until the retirement of the last one that
    reads that value; what is written again before anybody read it counts as the same value, and what nobody reads does
    not count.

    Args:
        programs: what ran, one after the other.
        trace: of the job alone.
        cores: physical core of each logical one.
        ocm_bytes: size of a core's OCM.
    """
    found = [_of_program(program, piece, cores, ocm_bytes) for program, piece in _pieces(programs, trace, cores)]
    ocm = tuple(total([curves[core] for curves, _ in found]) for core in range(len(cores)))
    return ocm, total([scratch for _, scratch in found])


def _pieces(programs: Sequence[Program], trace: Trace, cores: Sequence[int]) -> Iterator[tuple[Program, Trace]]:
    """Each program with its own part of the trace, whose positions go on from program to program."""
    numbers = trace.core.astype(np.int64) * UNITS_PER_CORE + trace.unit
    done = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    for program in programs:
        length = np.zeros_like(done)
        for unit, words in program.streams.items():
            core, kind = divmod(unit, UNITS_PER_CORE)
            length[cores[core] * UNITS_PER_CORE + kind] = len(words)
        position = trace.position - done[numbers]
        rows = np.flatnonzero((position >= 0) & (position < length[numbers]))
        yield program, replace(trace.take(rows), position=position[rows])
        done += length


def _of_program(
    program: Program, trace: Trace, cores: Sequence[int], ocm_bytes: int
) -> tuple[tuple[Curve, ...], Curve]:
    sizes = memory_sizes(program, Limits(cores=program.cores, ocm_bytes=ocm_bytes))
    table = tabulate(decode(program).groups, sizes)
    start, end = _times(table, trace, cores)
    order = np.lexsort((table.write, start))  # by time, and an instruction reads before it writes
    memory = table.boxes.memory[table.box]
    scratch = [n for n, segment in enumerate(program.segments) if segment.kind is SegmentKind.SCRATCH]
    ocm, intermediate = (
        [_live(table, order[memory[order] == number], start, end, int(sizes[number])) for number in numbers]
        for numbers in (
            [memory_number(Space.OCM, core) for core in range(program.cores)],
            [memory_number(Space.DRAM, segment) for segment in scratch],
        )
    )
    return tuple(ocm), total(intermediate)


def _times(table: AccessTable, trace: Trace, cores: Sequence[int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Start and retire cycle of the instruction of each access."""
    numbers = trace.core.astype(np.int64) * UNITS_PER_CORE + trace.unit
    start, end = np.zeros(len(table), np.int64), np.zeros(len(table), np.int64)
    for unit in np.unique(table.unit).tolist():
        core, kind = divmod(unit, UNITS_PER_CORE)
        rows = np.flatnonzero(numbers == cores[core] * UNITS_PER_CORE + kind)
        rows = rows[np.argsort(trace.position[rows])]
        accesses = np.flatnonzero(table.unit == unit)
        start[accesses] = trace.start[rows][table.position[accesses]]
        end[accesses] = trace.end[rows][table.position[accesses]]
    return start, end


def _live(
    table: AccessTable,
    accesses: np.ndarray[Any, Any],
    start: np.ndarray[Any, Any],
    end: np.ndarray[Any, Any],
    size_bytes: int,
) -> Curve:
    """Bytes in use of one memory, from its accesses in the order of their starts."""
    lines = _Lines(-(-size_bytes // LINE_BYTES))
    known: dict[int, np.ndarray[Any, Any]] = {}
    for access in accesses.tolist():
        box = int(table.box[access])
        if box not in known:
            known[box] = _lines_of(table.boxes, box)
        if table.write[access]:
            lines.write(known[box], int(start[access]))
        else:
            lines.read(known[box], int(end[access]))
    return lines.curve()


def _lines_of(boxes: BoxTable, index: int) -> np.ndarray[Any, Any]:
    """The lines a box touches; those of a write each once, because its runs lie apart."""
    box = boxes.box(index)
    if not box.dims:
        return np.arange(box.base // LINE_BYTES, (box.end - 1) // LINE_BYTES + 1)
    starts = run_starts(box, box.base, box.end)
    first, last = starts // LINE_BYTES, (starts + box.run - 1) // LINE_BYTES
    lines = first[:, None] + np.arange(int((last - first).max()) + 1)
    lines = lines[lines <= last[:, None]]
    return lines[np.diff(lines, prepend=-1) != 0]


class _Lines:
    """When the value in each line was written and last read, -1 for never; and the changes in use so far."""

    def __init__(self, count: int) -> None:
        self.written = np.full(count, -1, np.int64)
        self.last_read = np.full(count, -1, np.int64)
        self.cycles = [np.zeros(0, np.int64)]
        self.changes = [np.zeros(0, np.int64)]

    def read(self, lines: np.ndarray[Any, Any], cycle: int) -> None:
        held = lines[self.written[lines] >= 0]
        self.last_read[held] = np.maximum(self.last_read[held], cycle)

    def write(self, lines: np.ndarray[Any, Any], cycle: int) -> None:
        was_read = self.last_read[lines] >= 0
        self._leave(lines[was_read], cycle)
        begun = lines[was_read | (self.written[lines] < 0)]
        self.written[begun], self.last_read[begun] = cycle, -1

    def curve(self) -> Curve:
        read = np.flatnonzero(self.last_read >= 0)
        self._leave(read, int(self.last_read.max(initial=0)))
        return from_changes(np.concatenate(self.cycles), LINE_BYTES * np.concatenate(self.changes))

    def _leave(self, lines: np.ndarray[Any, Any], cycle: int) -> None:
        """Count values that were read: from their write to their last read, or to ``cycle`` where that is earlier."""
        if not lines.size:
            return
        for when, sign in ((self.written[lines], 1), (np.minimum(self.last_read[lines], cycle), -1)):
            if when.min() == when.max():  # most buffers are written and read as a whole
                cycles, counts = when[:1], np.array([len(when)])
            else:
                cycles, counts = np.unique(when, return_counts=True)
            self.cycles.append(cycles)
            self.changes.append(sign * counts)
