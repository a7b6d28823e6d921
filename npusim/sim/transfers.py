"""Transfers as the servers see them: the groups, banks and latencies of everything that DRAM or the core path serves.

Called by ``decode``, class by class. Which groups there are is ``timing``'s business, when they are served the
engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from isa.instruction import UNITS_PER_CORE
from isa.instructions import Send, Store
from isa.instructions.transfer import DramTransfer
from isa.program import Alike
from isa.region import OWN_CORE
from npusim.timing import burst_groups, data_cycles, path_groups, streamed_banks

from .stream import Home, Transfers, Watch, Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Transfers and their groups, one transfer after the other.

    Attributes:
        at: place of each among the program's instructions, int64[m].
        way: ``Way`` of each, int64[m].
        latency: cycles from the end of its last group to the retirement, int64[m].
        watched: OCM banks it touches.
        dram_bytes: of its bursts, int64[m].
        count: its groups, int64[m].
        page: by group: number of the DRAM page, 0 on the core path, int64[sum(count)].
        data: by group: cycles of its data, or its flits on the core path, int64[sum(count)].
    """

    at: np.ndarray[Any, Any]
    way: np.ndarray[Any, Any]
    latency: np.ndarray[Any, Any]
    watched: list[tuple[Watch, ...]]
    dram_bytes: np.ndarray[Any, Any]
    count: np.ndarray[Any, Any]
    page: np.ndarray[Any, Any]
    data: np.ndarray[Any, Any]


def is_move(alike: Alike) -> bool:
    """Whether instructions of this class are served in groups."""
    return issubclass(alike.cls, (DramTransfer, Send))


def find_moves(home: Home, at: np.ndarray[Any, Any], alike: Alike) -> Moves:
    """The transfers of one class; ``at`` is the place of each among the program's instructions."""
    hardware, columns, n = home.hardware, alike.columns, len(at)
    watched = _watched(home, alike)
    if alike.cls is Send:
        flits = path_groups(columns, hardware)
        return Moves(
            at=at, way=np.full(n, Way.PATH), latency=np.full(n, hardware.path.latency_cycles), watched=watched,
            dram_bytes=np.zeros(n, np.int64), count=flits.count, page=np.zeros_like(flits.flits), data=flits.flits,
        )  # fmt: skip
    writes = alike.cls is Store
    latency = hardware.dram.write_latency_cycles if writes else hardware.dram.read_latency_cycles
    groups = burst_groups(columns.dram_region(), np.array(home.bases)[columns.segment], hardware)
    bursts = np.add.reduceat(groups.bursts, _starts(groups.count))
    return Moves(
        at=at, way=np.full(n, Way.DRAM_WRITE if writes else Way.DRAM_READ), latency=np.full(n, latency),
        watched=watched, dram_bytes=bursts * hardware.dram.burst_bytes, count=groups.count, page=groups.page,
        data=data_cycles(groups.bursts, hardware),
    )  # fmt: skip


def _watched(home: Home, alike: Alike) -> list[tuple[Watch, ...]]:
    """The OCM banks each transfer touches, by physical core."""
    n = len(alike.rows)
    banks = np.zeros((n, len(home.cores)), np.int64)
    for place, mask in streamed_banks(alike.columns, OWN_CORE, home.hardware).items():
        core = alike.units // UNITS_PER_CORE if place == OWN_CORE else place
        banks[np.arange(n), core] |= mask
    rows = [tuple(row) for row in banks.tolist()]
    # transfers of one layer touch few different banks: their records are shared
    known = {
        row: tuple(Watch(home.cores[core], mask) for core, mask in enumerate(row) if mask) for row in set(rows)
    }  # fmt: skip
    return [known[row] for row in rows]


def in_order(parts: Sequence[Moves]) -> Moves | None:
    """The transfers of all classes in the order of their places; None where there are none."""
    if not parts:
        return None
    columns = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Moves) if f.name != "watched"
    }
    watched = [watch for part in parts for watch in part.watched]
    order = np.argsort(columns["at"])
    count = columns["count"][order]
    # the groups of each follow its first one
    group = np.repeat(_starts(columns["count"])[order] - _starts(count), count) + np.arange(count.sum())
    taken = {name: column[group if name in ("page", "data") else order] for name, column in columns.items()}
    return Moves(**taken, watched=[watched[index] for index in order.tolist()])


def _starts(count: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Index of the first group of each transfer, int64[m]."""
    return np.cumsum(count) - count


def transfers_of(moves: Moves, mine: slice) -> Transfers | None:
    """The transfers of one stream, whose instructions have the places ``mine``; None where it has none."""
    low, high = np.searchsorted(moves.at, (mine.start, mine.stop)).tolist()
    if low == high:
        return None
    n, rows = mine.stop - mine.start, moves.at[low:high] - mine.start
    way, latency, count = np.full(n, Way.NONE), np.zeros(n, np.int64), np.zeros(n, np.int64)
    way[rows], latency[rows], count[rows] = moves.way[low:high], moves.latency[low:high], moves.count[low:high]
    watched: list[tuple[Watch, ...]] = [()] * n
    for row, watch in zip(rows.tolist(), moves.watched[low:high], strict=True):
        watched[row] = watch
    first = int(moves.count[:low].sum())
    groups = slice(first, first + int(count.sum()))
    return Transfers(
        first=[0, *np.cumsum(count).tolist()], way=way.tolist(), latency=latency.tolist(), watched=watched,
        page=moves.page[groups].tolist(), data=moves.data[groups].tolist(),
    )  # fmt: skip
