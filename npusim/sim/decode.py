"""From words to lists: durations, waits, banks and burst groups of a stream, found once, before time begins.

Called by the loader, column by column. Every number of cycles comes from ``timing``; no formula is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from isa.codec import select, wait_columns
from isa.instruction import UNITS_PER_CORE, Unit
from isa.instructions import Barrier, Multicast, Send, Store
from isa.instructions.control import BARRIER_UNITS
from isa.instructions.transfer import DramTransfer
from isa.program import Program, stream_columns
from isa.region import Region, Space
from npusim.config import Hardware
from npusim.timing import burst_groups, data_cycles, path_groups, streamed_banks, uncontended_cycles

from .stream import Meeting, Stream, Transfers, Watch, Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where a program was put.

    Attributes:
        hardware: the machine.
        job: index of the job.
        cores: physical core of each logical one.
        bases: physical DRAM address of each segment.
    """

    hardware: Hardware
    job: int
    cores: tuple[int, ...]
    bases: tuple[int, ...]


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
    streams = [_stream(home, program, unit) for unit in program.streams]
    _LAST[program] = home, streams
    return streams


def _stream(home: Home, program: Program, unit: int) -> Stream:
    """The stream of one logical unit."""
    hardware, words = home.hardware, program.streams[unit]
    n, (core, kind) = len(words), divmod(unit, UNITS_PER_CORE)
    durations, banks, macs, written, dram = (np.zeros(n, np.int64) for _ in range(5))
    kinds = stream_columns(program, unit)
    slots = max(cls.layout.max_waits for cls, _, _ in kinds)
    wait_units, wait_values = np.full((n, slots), -1, np.int64), np.zeros((n, slots), np.int64)
    meetings: dict[int, Meeting] = {}
    moves: dict[int, _Move] = {}
    for cls, rows, columns in kinds:
        units, values = wait_columns(words[rows], cls.layout.max_waits)
        wait_units[rows, : units.shape[1]], wait_values[rows, : units.shape[1]] = units, values
        macs[rows] = columns.macs()
        written[rows] = _written_bytes(columns)
        if cls is Barrier:
            meetings = _meetings(rows, columns)
        elif issubclass(cls, (DramTransfer, Send)):
            found = list(_moves(home, core, rows, columns))
            moves.update(found)
            dram[rows] = [move.bursts * hardware.dram.burst_bytes for _, move in found]
        else:
            durations[rows] = uncontended_cycles(columns, Unit(kind), hardware)
            if kind != Unit.SDMA:
                banks[rows] = streamed_banks(columns, core, hardware).get(core, 0)
    # logical unit numbers become physical; -1 stays, as the entry behind the last
    physical = np.array([c * UNITS_PER_CORE + u for c in home.cores for u in range(UNITS_PER_CORE)] + [-1], np.int64)
    wait_units = physical[wait_units]
    return Stream(
        number=int(physical[unit]),
        logical=unit,
        job=home.job,
        opcode=words[:, 0].astype(np.int32),
        durations=durations.tolist(),
        banks=banks.tolist(),
        wait_units=wait_units,
        wait_values=wait_values,
        waits=_pairs(wait_units, wait_values),
        meetings=meetings,
        transfers=_transfers(n, moves) if moves else None,
        written_bytes=written,
        dram_bytes=dram,
        macs=macs,
        origin=program.origins.get(unit, np.full(n, -1, np.int32)),
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


def _meetings(rows: np.ndarray[Any, Any], columns: Any) -> dict[int, Meeting]:
    """The barriers of a stream by position."""
    met: dict[int, int] = {}
    meetings = {}
    for row, name, mask in zip(rows.tolist(), columns.id.tolist(), columns.units.tolist(), strict=True):
        units = tuple(u for u in range(BARRIER_UNITS) if mask >> u & 1)
        meetings[row] = Meeting(name, units, met.get(name, 0))
        met[name] = met.get(name, 0) + 1
    return meetings


class _Move:
    """The groups of one transfer; ``bursts`` are those of DRAM."""

    __slots__ = ("bursts", "data", "latency", "page", "watched", "way")

    def __init__(
        self, way: Way, latency: int, watched: tuple[Watch, ...], page: list[int], data: list[int], bursts: int
    ) -> None:
        self.way, self.latency, self.watched = way, latency, watched
        self.page, self.data, self.bursts = page, data, bursts


def _moves(home: Home, core: int, rows: np.ndarray[Any, Any], columns: Any) -> Iterator[tuple[int, _Move]]:
    """The transfers of one kind, by position."""
    hardware = home.hardware
    masks = {place: mask.tolist() for place, mask in streamed_banks(columns, core, hardware).items()}
    watched = [
        tuple(Watch(home.cores[place], mask[k]) for place, mask in masks.items() if mask[k]) for k in range(len(rows))
    ]
    if isinstance(columns, Send):
        for row, watch, k in zip(rows.tolist(), watched, range(len(rows)), strict=True):
            send = select(columns, np.array(k))
            flits = path_groups(send, hardware).tolist()
            yield row, _Move(Way.PATH, hardware.path.latency_cycles, watch, [0] * len(flits), flits, 0)
        return
    writes = isinstance(columns, Store)
    way = Way.DRAM_WRITE if writes else Way.DRAM_READ
    latency = hardware.dram.write_latency_cycles if writes else hardware.dram.read_latency_cycles
    segments = columns.segment.tolist()
    for row, watch, segment, region in zip(rows.tolist(), watched, segments, _regions(columns), strict=True):
        groups = burst_groups(region, home.bases[segment], hardware)
        data = data_cycles(groups.bursts, hardware).tolist()
        yield row, _Move(way, latency, watch, groups.page.tolist(), data, int(groups.bursts.sum()))


def _regions(columns: Any) -> Iterator[Region]:
    """The DRAM regions of columns of transfers, one by one."""
    region = columns.dram_region()
    fields = (region.base, region.run, *region.counts, *region.strides)
    for base, run, *outer in zip(*(column.tolist() for column in fields), strict=True):
        half = len(outer) // 2
        yield Region(Space.DRAM, base, run, counts=tuple(outer[:half]), strides=tuple(outer[half:]))


def _transfers(n: int, moves: dict[int, _Move]) -> Transfers:
    """The transfers of a stream, their groups one after the other."""
    first, way, latency = [0], [int(Way.NONE)] * n, [0] * n
    watched: list[tuple[Watch, ...]] = [()] * n
    page: list[int] = []
    data: list[int] = []
    for row in range(n):
        move = moves.get(row)
        if move is not None:
            way[row], latency[row], watched[row] = int(move.way), move.latency, move.watched
            page += move.page
            data += move.data
        first.append(len(page))
    return Transfers(first=first, way=way, latency=latency, watched=watched, page=page, data=data)
