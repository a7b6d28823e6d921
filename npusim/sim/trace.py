"""The trace: when every instruction started and retired, what it waited for, and what it moved, as columns.

Made by ``simulate``; read by reports and tests. Nothing here knows how the times came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from isa.instruction import OPCODES, UNITS_PER_CORE, Unit
from npusim import markup

NO_STALL = -1
"""``stall_cause``: the instruction started as soon as its unit was free."""
STALL_BARRIER = -2
"""``stall_cause``: another participant of the barrier arrived later."""
STALL_ARRIVAL = -3
"""``stall_cause``: the job arrived, or had its turn, only then, and nothing held its first instruction any longer."""

_CAUSES = {NO_STALL: "", STALL_BARRIER: "barrier", STALL_ARRIVAL: "arrival"}


class Row(NamedTuple):
    """One instruction of the trace, spelled for people.

    Attributes:
        unit: physical unit, such as ``core1.sdma``.
        position: index in the unit's stream.
        mnemonic: name in assembly.
        start: cycle.
        end: retire cycle.
        stall: cycles the unit stood still for it.
        cause: unit whose counter came last, ``barrier``, ``arrival`` or "".
        origin: what the instruction was made for, or "".
    """

    unit: str
    position: int
    mnemonic: str
    start: int
    end: int
    stall: int
    cause: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Every instruction of a run, one entry per column, in the order of retirement (then physical unit number).

    Attributes:
        job: int32[n], which job.
        core: int32[n], physical core.
        unit: int32[n], kind of unit (``isa.instruction.Unit``).
        position: int64[n], index in the unit's stream of the job: the program counter.
        opcode: int32[n].
        start: int64[n], cycle.
        end: int64[n], retire cycle.
        stall_cycles: int64[n], cycles the unit stood still before the start (since cycle 0 for its first
            instruction, turns of other jobs left out); of a barrier, also those until the last participant started.
        stall_cause: int32[n], physical unit number (``5 * core + unit``) whose counter became visible last, the first
            one named where several did; or ``NO_STALL``, ``STALL_BARRIER``, ``STALL_ARRIVAL``.
        bytes: int64[n], bytes it writes, those of a multicast once.
        dram_bytes: int64[n], bytes of all the DRAM bursts it occupies; 0 for what does not touch DRAM.
        macs: int64[n], multiply-accumulates it is worth.
        origin: int32[n], index into ``origin_names[job]``, or -1.
        queue_cycles: int64[n], cycles its requests stood before DRAM or the core path granted them.
        refresh_cycles: int64[n], cycles its groups waited for refresh windows to end.
        page_misses: int64[n], groups that had to open a page.
        turnaround_cycles: int64[n], cycles paid for changing the direction of DRAM.
        conflict_cycles: int64[n], cycles paid because a unit streamed from the same OCM bank.
        origin_names: by job: what instructions were made for.
        jobs: name of each job.
    """

    job: np.ndarray[Any, Any]
    core: np.ndarray[Any, Any]
    unit: np.ndarray[Any, Any]
    position: np.ndarray[Any, Any]
    opcode: np.ndarray[Any, Any]
    start: np.ndarray[Any, Any]
    end: np.ndarray[Any, Any]
    stall_cycles: np.ndarray[Any, Any]
    stall_cause: np.ndarray[Any, Any]
    bytes: np.ndarray[Any, Any]
    dram_bytes: np.ndarray[Any, Any]
    macs: np.ndarray[Any, Any]
    origin: np.ndarray[Any, Any]
    queue_cycles: np.ndarray[Any, Any]
    refresh_cycles: np.ndarray[Any, Any]
    page_misses: np.ndarray[Any, Any]
    turnaround_cycles: np.ndarray[Any, Any]
    conflict_cycles: np.ndarray[Any, Any]
    origin_names: tuple[tuple[str, ...], ...]
    jobs: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.end)

    @property
    def cycles(self) -> int:
        """Cycle in which the last instruction retired; 0 for an empty trace."""
        return int(self.end.max(initial=0))

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """All columns by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("origin_names", "jobs")}

    def take(self, rows: np.ndarray[Any, Any]) -> Trace:
        """The trace restricted to ``rows``: a mask bool[n], or indices."""
        taken = {name: column[rows] for name, column in self.columns().items()}
        return Trace(**taken, origin_names=self.origin_names, jobs=self.jobs)

    def select(self, *, job: int | None = None, core: int | None = None, unit: Unit | int | None = None) -> Trace:
        """The instructions of one job, physical core and kind of unit; None takes all of them."""
        mask = np.ones(len(self), dtype=bool)
        for column, wanted in ((self.job, job), (self.core, core), (self.unit, unit)):
            if wanted is not None:
                mask &= column == int(wanted)
        return self.take(mask)

    def rows(self) -> Iterator[Row]:
        """The instructions one by one, spelled for people; for small traces."""
        for k in range(len(self)):
            cause = int(self.stall_cause[k])
            origin = int(self.origin[k])
            yield Row(
                unit=physical_name(int(self.core[k]) * UNITS_PER_CORE + int(self.unit[k])),
                position=int(self.position[k]),
                mnemonic=OPCODES[int(self.opcode[k])].layout.mnemonic,
                start=int(self.start[k]),
                end=int(self.end[k]),
                stall=int(self.stall_cycles[k]),
                cause=_CAUSES[cause] if cause < 0 else physical_name(cause),
                origin=self.origin_names[int(self.job[k])][origin] if origin >= 0 else "",
            )

    def utilization(self) -> dict[str, float]:
        """By physical unit that executed anything: the share of all cycles in which it executed, ``0..1``."""
        numbers = self.core.astype(np.int64) * UNITS_PER_CORE + self.unit
        busy = np.bincount(numbers, weights=self.end - self.start)
        total = max(self.cycles, 1)
        return {physical_name(n): float(busy[n]) / total for n in np.unique(numbers).tolist()}

    def to_table(self, limit: int = 50) -> str:
        """The first ``limit`` instructions as aligned text."""
        head = ("unit", "pc", "instruction", "start", "end", "stall", "for", "origin")
        shown = self.take(np.arange(min(limit, len(self))))
        lines = [head, *(tuple(str(value) for value in row) for row in shown.rows())]
        widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
        padded = ((cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        text = "\n".join("  ".join(cells).rstrip() for cells in padded)
        return text if len(self) <= limit else f"{text}\n... {len(self) - limit} more"

    def _repr_html_(self) -> str:
        numbers = self.core.astype(np.int64) * UNITS_PER_CORE + self.unit
        rows = []
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            busy, stalled = (int(column[mine].sum()) for column in (self.end - self.start, self.stall_cycles))
            share = f"{busy / max(self.cycles, 1):.1%}"
            rows.append((physical_name(number), int(mine.sum()), busy, stalled, share))
        header = ("unit", "instructions", "busy cycles", "stall cycles", "utilization")
        return markup.heading(repr(self).strip("<>")) + markup.table(header, rows)

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} instructions, {self.cycles} cycles, jobs {', '.join(self.jobs)}>"


def no_columns() -> dict[str, np.ndarray[Any, Any]]:
    """The columns of a trace without instructions."""
    return {f.name: np.zeros(0, np.int64) for f in fields(Trace) if f.name not in ("origin_names", "jobs")}


def concatenate(traces: Sequence[Trace], offsets: Sequence[int], job: str) -> Trace:
    """One trace of runs of one job each that followed one another, as if they had been one job.

    Args:
        traces: in their order.
        offsets: the cycle at which each began.
        job: its name.
    """
    columns = {name: [column] for name, column in no_columns().items()} if not traces else {}
    done = np.zeros(0, np.int64)  # instructions of each physical unit so far
    names: list[str] = []
    for trace, offset in zip(traces, offsets, strict=True):
        numbers = trace.core.astype(np.int64) * UNITS_PER_CORE + trace.unit
        done = np.pad(done, (0, max(int(numbers.max(initial=-1)) + 1 - done.size, 0)))
        moved = {
            "start": trace.start + offset,
            "end": trace.end + offset,
            "position": trace.position + done[numbers],
            "origin": np.where(trace.origin >= 0, trace.origin + len(names), trace.origin).astype(trace.origin.dtype),
        }
        for name, column in trace.columns().items():
            columns.setdefault(name, []).append(moved.get(name, column))
        done += np.bincount(numbers, minlength=done.size)
        names += trace.origin_names[0]
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Trace(**joined, origin_names=(tuple(names),), jobs=(job,))


def physical_name(number: int) -> str:
    """``core1.sdma`` for physical unit number 9."""
    core, unit = divmod(number, UNITS_PER_CORE)
    return f"core{core}.{Unit(unit)}"
