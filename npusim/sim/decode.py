"""From words to lists: durations, waits, banks and burst groups of all streams, found once, before time begins.

Called by the loader. What instructions of one class need is found for all of them at once, in all streams; every number
of cycles comes from ``timing``, and no formula is here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from isa.instruction import UNITS_PER_CORE, Unit
from isa.instructions import Barrier, Multicast
from isa.instructions.control import BARRIER_UNITS
from isa.program import Alike, Program, program_columns
from isa.region import OWN_CORE
from npusim.config import Hardware
from npusim.timing import streamed_banks, uncontended_cycles

from .stream import Home, Meeting, Stream
from .transfers import Moves, find_moves, in_order, is_move, transfers_of

_LAST: WeakKeyDictionary[Program, tuple[Home, list[Stream]]] = WeakKeyDictionary()
"""Where each living program was put last, and its streams there: a model that is called again is not decoded again."""


def decode(home: Home, program: Program) -> list[Stream]:
    """The streams of a program, ready to run, in the order of its own.

    Args:
        home: where the program was put.
        program: one that keeps its bounds (``isa.verify.check_bounds``).
    """
    last = _LAST.get(program)
    if last is not None and last[0] == home:
        return last[1]
    streams = _streams(home, program)
    _LAST[program] = home, streams
    return streams


@dataclass(slots=True, kw_only=True)
class _Columns:
    """What all streams hold, one stream after the other: int64[n] and int64[n, w] arrays as in ``Stream``."""

    durations: np.ndarray[Any, Any]
    banks: np.ndarray[Any, Any]
    macs: np.ndarray[Any, Any]
    written_bytes: np.ndarray[Any, Any]
    dram_bytes: np.ndarray[Any, Any]
    wait_units: np.ndarray[Any, Any]
    wait_values: np.ndarray[Any, Any]
    meetings: dict[int, dict[int, Meeting]] = field(default_factory=dict)
    moves: Moves | None = None


def _streams(home: Home, program: Program) -> list[Stream]:
    """Columns filled class by class, then cut into streams."""
    places, n = {}, 0
    for unit, words in program.streams.items():
        places[unit], n = slice(n, n + len(words)), n + len(words)
    columns = _columns(home, program_columns(program), places, n)
    return [_stream(home, program, unit, columns, mine) for unit, mine in places.items()]


def _columns(home: Home, kinds: list[Alike], places: dict[int, slice], n: int) -> _Columns:
    """The columns of ``n`` instructions; ``places`` are those of each unit's."""
    first = np.zeros(max(places, default=0) + 1, np.int64)
    for unit, mine in places.items():
        first[unit] = mine.start
    slots = max((alike.wait_units.shape[1] for alike in kinds), default=0)
    columns = _Columns(
        durations=np.zeros(n, np.int64),
        banks=np.zeros(n, np.int64),
        macs=np.zeros(n, np.int64),
        written_bytes=np.zeros(n, np.int64),
        dram_bytes=np.zeros(n, np.int64),
        wait_units=np.full((n, slots), -1, np.int64),
        wait_values=np.zeros((n, slots), np.int64),
    )
    moves = []
    for alike in kinds:
        at = first[alike.units] + alike.rows
        used = alike.wait_units.shape[1]
        columns.wait_units[at, :used], columns.wait_values[at, :used] = alike.wait_units, alike.wait_values
        columns.macs[at] = alike.columns.macs()
        columns.written_bytes[at] = _written_bytes(alike.columns)
        if alike.cls is Barrier:
            columns.meetings = _meetings(alike)
        elif is_move(alike):
            moves.append(find_moves(home, at, alike))
            columns.dram_bytes[at] = moves[-1].dram_bytes
        else:
            columns.durations[at], columns.banks[at] = _known(home.hardware, alike)
    columns.moves = in_order(moves)
    return columns


def _known(hardware: Hardware, alike: Alike) -> tuple[Any, Any]:
    """Durations of instructions that nothing delays, and the banks they stream from; those of sdma count as none."""
    kinds = alike.units % UNITS_PER_CORE
    durations = np.zeros(len(kinds), np.int64)
    for kind in np.unique(kinds).tolist():
        durations = np.where(kinds == kind, uncontended_cycles(alike.columns, Unit(kind), hardware), durations)
    banks = streamed_banks(alike.columns, OWN_CORE, hardware).get(OWN_CORE, 0)
    return durations, np.where(kinds == Unit.SDMA, 0, banks)


def _stream(home: Home, program: Program, unit: int, columns: _Columns, mine: slice) -> Stream:
    """The stream of one logical unit: its own part of the columns."""
    words = program.streams[unit]
    # logical unit numbers become physical; -1 stays, as the entry behind the last
    physical = np.array([c * UNITS_PER_CORE + u for c in home.cores for u in range(UNITS_PER_CORE)] + [-1], np.int64)
    used = int((columns.wait_units[mine] != -1).any(axis=0).sum())  # waits fill the slots from the first
    wait_units, wait_values = physical[columns.wait_units[mine, :used]], columns.wait_values[mine, :used]
    return Stream(
        number=int(physical[unit]),
        logical=unit,
        job=home.job,
        opcode=words[:, 0].astype(np.int32),
        durations=columns.durations[mine].tolist(),
        banks=columns.banks[mine].tolist(),
        wait_units=wait_units,
        wait_values=wait_values,
        waits=_pairs(wait_units, wait_values),
        meetings=columns.meetings.get(unit, {}),
        transfers=None if columns.moves is None else transfers_of(columns.moves, mine),
        written_bytes=columns.written_bytes[mine],
        dram_bytes=columns.dram_bytes[mine],
        macs=columns.macs[mine],
        origin=program.origins.get(unit, np.full(len(words), -1, np.int32)),
    )


def _pairs(units: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> list[tuple[tuple[int, int], ...]]:
    """The waits of each instruction as (unit number, value)."""
    counts = (units != -1).sum(axis=1).tolist()  # waits fill the slots from the first
    rows = zip(units.tolist(), values.tolist(), counts, strict=True)
    return [tuple(zip(us[:n], vs[:n], strict=True)) if n else () for us, vs, n in rows]


def _written_bytes(columns: Any) -> Any:
    """Bytes of everything an instruction writes; a multicast's once."""
    if isinstance(columns, Multicast):
        return columns.dram_region().size_bytes
    return sum(region.size_bytes for region in columns.writes())


def _meetings(alike: Alike) -> dict[int, dict[int, Meeting]]:
    """The barriers of each unit by position."""
    met: Counter[tuple[int, int]] = Counter()
    meetings: dict[int, dict[int, Meeting]] = {}
    columns = (alike.units, alike.rows, alike.columns.id, alike.columns.units)
    for unit, row, name, mask in zip(*(column.tolist() for column in columns), strict=True):
        units = tuple(u for u in range(BARRIER_UNITS) if mask >> u & 1)
        meetings.setdefault(unit, {})[row] = Meeting(name, units, met[unit, name])
        met[unit, name] += 1
    return meetings
