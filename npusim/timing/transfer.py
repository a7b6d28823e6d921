"""Transfers as bursts, groups and pages, and their durations on a machine of their own (microarchitecture 6).

``sim`` serves the groups one by one; the compiler asks for durations. Arbitration, refresh and turnaround are the
machine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from isa.instructions import Load, Multicast, Send, Store
from isa.instructions.transfer import DramTransfer
from isa.region import Region, ceil_div
from npusim.config import Hardware
from npusim.timing.registry import cycles_of, where

Longs = np.ndarray[Any, np.dtype[np.int64]]

_PATTERNS = 1024
"""Transfer patterns remembered; a layer's tiles share a handful. The groups of a full OCM take about 25 KB."""

_DURATIONS = 1 << 14
"""Durations of strided patterns remembered; a few hundred bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstGroups:
    """The burst groups of transfers, one transfer after the other, each in order.

    Attributes:
        page: physical page number of each group (address / ``dram.page_bytes``), int64[n].
        bursts: bursts of each group, 1 to ``dram.group_bursts``, int64[n].
        count: groups of each transfer, int64[transfers].
    """

    page: Longs
    bursts: Longs
    count: Longs

    def __len__(self) -> int:
        return len(self.page)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathGroups:
    """The groups of sends on the path between the cores, one send after the other, each in order.

    Attributes:
        flits: of each group, int64[n].
        count: groups of each send, int64[sends].
    """

    flits: Longs
    count: Longs


def burst_groups(region: Region, physical_base: Any, hardware: Hardware) -> BurstGroups:
    """The burst groups that fetch or write DRAM regions (microarchitecture 6.1).

    Args:
        region: ``dram_region()`` of one transfer, or of columns of them.
        physical_base: physical address of the segment's first byte; an int or an array along the columns.
        hardware: the machine.
    """
    dram = hardware.dram
    first_page, phase = np.divmod(np.atleast_1d(physical_base + region.base), dram.page_bytes)
    run, dims = _merged(region)
    columns = np.broadcast_arrays(phase, run, *(column for dim in dims for column in dim))
    patterns = [
        _pattern(start, length, _longer(outer), dram.burst_bytes, dram.group_bursts, dram.page_bytes)
        for start, length, *outer in zip(*(column.tolist() for column in columns), strict=True)
    ]
    count = np.array([len(page) for page, _ in patterns], np.int64)
    page = np.concatenate([page for page, _ in patterns])
    bursts = np.concatenate([bursts for _, bursts in patterns])
    return BurstGroups(page=page + np.repeat(first_page, count), bursts=bursts, count=count)


def _merged(region: Region) -> tuple[Any, tuple[tuple[Any, Any], ...]]:
    """The run with the outer dimensions that continue it, and all outer dimensions as (count, stride), slowest first.

    The count of a dimension that went into the run is 1. Integers or columns.
    """
    run, whole = region.run, True
    dims: list[tuple[Any, Any]] = []
    for count, stride in zip(reversed(region.counts), reversed(region.strides), strict=True):
        joins = whole & (stride == run)
        run = run * (1 + (count - 1) * joins)
        left = count - (count - 1) * joins
        whole = whole & (left == 1)
        dims.append((left, stride))
    return run, tuple(reversed(dims))


def _longer(outer: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Of count, stride, count, stride and so on the dimensions longer than 1, as pairs."""
    return tuple((count, stride) for count, stride in zip(outer[::2], outer[1::2], strict=True) if count != 1)


@lru_cache(_PATTERNS)
def _pattern(
    phase: int, run: int, dims: tuple[tuple[int, int], ...], burst_bytes: int, group_bursts: int, page_bytes: int
) -> tuple[Longs, Longs]:
    """Pages relative to the first and bursts of the groups of a merged pattern that begins ``phase`` into a page."""
    starts = np.array([phase], dtype=np.int64)
    for count, stride in dims:
        starts = (starts[:, None] + np.arange(count, dtype=np.int64) * stride).ravel()
    page_bursts = page_bytes // burst_bytes
    first, last = starts // burst_bytes, (starts + run - 1) // burst_bytes
    # each run is cut at page borders into pieces
    pieces = last // page_bursts - first // page_bursts + 1
    owner = np.repeat(np.arange(len(starts)), pieces)
    page = first[owner] // page_bursts + _count_up(pieces)
    bursts = np.minimum(last[owner], (page + 1) * page_bursts - 1) - np.maximum(first[owner], page * page_bursts) + 1
    # pieces that follow one another in the same page are one row of bursts
    fresh = np.flatnonzero(np.concatenate(([True], page[1:] != page[:-1])))
    page, bursts = page[fresh], np.add.reduceat(bursts, fresh)
    # each row is cut into groups, the last of which may be short
    groups = ceil_div(bursts, group_bursts)
    left = np.repeat(bursts, groups) - group_bursts * _count_up(groups)
    page, bursts = np.repeat(page, groups), np.minimum(left, group_bursts)
    page.setflags(write=False)
    bursts.setflags(write=False)
    return page, bursts


def _count_up(lengths: Longs) -> Longs:
    """0, 1, ... up to each length, one after the other: [2, 3] gives 0 1 0 1 2."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)


def data_cycles(bursts: Any, hardware: Hardware) -> Any:
    """Cycles in which a group of ``bursts`` moves: the slower of DRAM and OCM port (microarchitecture 6.4, item 5)."""
    moved = bursts * hardware.dram.burst_bytes
    dram = ceil_div(moved * hardware.machine.clock_hz, hardware.dram.bytes_per_second)
    port = ceil_div(moved, hardware.sdma.port_bytes_per_cycle)
    return dram + (port - dram) * (port > dram)


def path_flits(instruction: Any, hardware: Hardware) -> Any:
    """Flits of a ``send``, an int or an array along the columns (microarchitecture 6.1)."""
    runs = instruction.count_1 * instruction.count_2 * instruction.count_3
    return runs * ceil_div(instruction.run, hardware.path.bytes_per_cycle)


def path_groups(instruction: Any, hardware: Hardware) -> PathGroups:
    """The groups of one ``send``, or of columns of them: full ones and a last one (microarchitecture 6.1)."""
    flits, most = np.atleast_1d(path_flits(instruction, hardware)), hardware.path.group_flits
    count = ceil_div(flits, most)
    groups = np.full(count.sum(), most, dtype=np.int64)
    groups[np.cumsum(count) - 1] = flits - most * (count - 1)
    return PathGroups(flits=groups, count=count)


def page_misses(page: Longs, banks: int) -> int:
    """Groups that find another page open in their bank, or none, from all pages closed (microarchitecture 6.4)."""
    changes = np.flatnonzero(np.concatenate(([True], page[1:] != page[:-1])))
    page = page[changes]
    page = page[np.argsort(page % banks, kind="stable")]  # bank after bank, each in order of time
    return int(np.count_nonzero(page[1:] != page[:-1])) + 1


@lru_cache(_DURATIONS)
def _strided_cycles(phase: int, run: int, dims: tuple[tuple[int, int], ...], hardware: Hardware) -> int:
    """Page misses and data of a merged pattern; the number of its first page makes no difference."""
    dram = hardware.dram
    page, bursts = _pattern(phase, run, dims, dram.burst_bytes, dram.group_bursts, dram.page_bytes)
    return page_misses(page, dram.banks) * dram.page_miss_cycles + int(data_cycles(bursts, hardware).sum())


def _contiguous_cycles(start: Any, size: Any, hardware: Hardware) -> Any:
    """Page misses and data of one run of ``size`` bytes at a physical address, in closed form.

    Every page is a miss; it holds a row of bursts, cut into full groups and a short one.
    """
    dram = hardware.dram
    page_bursts = dram.page_bytes // dram.burst_bytes
    first, last = start // dram.burst_bytes, (start + size - 1) // dram.burst_bytes
    pages = last // page_bursts - first // page_bursts + 1

    def row(bursts: Any) -> Any:
        full, short = bursts // dram.group_bursts, bursts % dram.group_bursts
        return full * data_cycles(dram.group_bursts, hardware) + data_cycles(short, hardware)

    head, tail = page_bursts - first % page_bursts, last % page_bursts + 1
    many = row(head) + (pages - 2) * row(page_bursts) + row(tail)
    return pages * dram.page_miss_cycles + where(pages == 1, row(last - first + 1), many)


def _transfer_cycles(i: DramTransfer, hardware: Hardware, physical_base: Any) -> Any:
    """Issue, page misses and data of one transfer, or of columns of them."""
    region = i.dram_region()
    start = physical_base + region.base
    run, dims = _merged(region)
    if not isinstance(start, np.ndarray):
        longer = tuple((count, stride) for count, stride in dims if count != 1)
        if longer:
            served = _strided_cycles(start % hardware.dram.page_bytes, run, longer, hardware)
        else:
            served = _contiguous_cycles(start, run, hardware)
        return hardware.sdma.issue_cycles + served
    cycles = _contiguous_cycles(start, run, hardware)
    strided = np.flatnonzero(sum(count != 1 for count, _ in dims))
    columns = (start % hardware.dram.page_bytes, run, *(column for dim in dims for column in dim))
    rows = zip(*(column[strided].tolist() for column in columns), strict=True)
    for row, (phase, length, *outer) in zip(strided.tolist(), rows, strict=True):
        cycles[row] = _strided_cycles(phase, length, _longer(outer), hardware)
    return hardware.sdma.issue_cycles + cycles


@cycles_of(Load, Multicast)
def read_cycles(i: Any, hardware: Hardware, physical_base: Any = 0) -> Any:
    """Issue, page misses, data, read latency (microarchitecture 6.6)."""
    return _transfer_cycles(i, hardware, physical_base) + hardware.dram.read_latency_cycles


@cycles_of(Store)
def write_cycles(i: Any, hardware: Hardware, physical_base: Any = 0) -> Any:
    """Issue, page misses, data, write latency (microarchitecture 6.6)."""
    return _transfer_cycles(i, hardware, physical_base) + hardware.dram.write_latency_cycles


@cycles_of(Send)
def send_cycles(i: Any, hardware: Hardware) -> Any:
    """Issue, one flit a cycle, latency (microarchitecture 6.6)."""
    return hardware.sdma.issue_cycles + path_flits(i, hardware) + hardware.path.latency_cycles
