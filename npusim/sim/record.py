"""From the cycles of a run to its trace: stalls and their causes, found afterwards, column by column.

Called by ``simulate``. The event loop keeps starts and ends only; everything else follows from them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from isa.instruction import UNITS_PER_CORE

from .engine import Timeline
from .loader import job_name
from .stream import Loaded, Stream
from .trace import NO_STALL, STALL_ARRIVAL, STALL_BARRIER, Trace, no_columns

Ends = dict[tuple[int, int], np.ndarray[Any, Any]]
"""Retire cycles by ``Stream.key``."""

_PAID = ("queue_cycles", "refresh_cycles", "page_misses", "turnaround_cycles", "conflict_cycles")


def record_trace(loaded: Loaded, timeline: Timeline) -> Trace:
    """The trace of a finished run."""
    starts = [np.array(s, np.int64) for s in timeline.starts]
    ends = {s.key: np.array(e, np.int64) for s, e in zip(loaded.streams, timeline.ends, strict=True)}
    parts = []
    for index, stream in enumerate(loaded.streams):
        n = len(stream)
        before = _free_since(loaded, stream, timeline, ends)
        stall, cause = _stalls(loaded, stream, starts[index], ends, before)
        paid = np.zeros((n, len(_PAID)), np.int64)
        if timeline.accounts[index].rows:
            rows = np.array(timeline.accounts[index].rows, np.int64)
            paid[rows[:, 0]] = rows[:, 1:]
        core, unit = divmod(stream.number, UNITS_PER_CORE)
        parts.append(
            {
                "job": np.full(n, stream.job, np.int32),
                "core": np.full(n, core, np.int32),
                "unit": np.full(n, unit, np.int32),
                "position": np.arange(n),
                "opcode": stream.opcode,
                "start": starts[index],
                "end": ends[stream.key],
                "stall_cycles": stall,
                "stall_cause": cause,
                "bytes": stream.written_bytes,
                "dram_bytes": stream.dram_bytes,
                "macs": stream.macs,
                "origin": stream.origin,
                **dict(zip(_PAID, paid.T, strict=True)),
            }
        )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else no_columns()
    order = np.lexsort((columns["core"] * UNITS_PER_CORE + columns["unit"], columns["end"]))
    return Trace(
        **{name: column[order] for name, column in columns.items()},
        origin_names=tuple(job.program.origin_names for job in loaded.jobs),
        jobs=tuple(job_name(job) for job in loaded.jobs),
    )


def _free_since(loaded: Loaded, stream: Stream, timeline: Timeline, ends: Ends) -> int:
    """Cycle in which a stream's unit retired its last instruction for an earlier job; 0 where there was none."""
    begin = timeline.begins[stream.job]
    there = (s for s in loaded.streams if s.number == stream.number and timeline.begins[s.job] < begin)
    return max((int(ends[s.key][-1]) for s in there), default=0)


def _stalls(
    loaded: Loaded, stream: Stream, starts: np.ndarray[Any, Any], ends: Ends, free_since: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Cycles each instruction's unit stood still for it, and what came last."""
    sync, own = loaded.hardware.sync, ends[stream.key]
    before = np.concatenate(([free_since], own[:-1]))
    stall = starts - before
    cause = np.full(len(stream), NO_STALL, np.int32)
    latest = before.copy()
    cause[0] = STALL_ARRIVAL if stall[0] else NO_STALL  # unless a counter came last, all of which move after it
    for slot in range(stream.wait_units.shape[1]):
        units, values = stream.wait_units[:, slot], stream.wait_values[:, slot]
        for producer in np.unique(units[units >= 0]).tolist():
            if producer == stream.number:
                continue  # a unit sees its own counter at once
            rows = np.flatnonzero(units == producer)
            near = producer // UNITS_PER_CORE == stream.number // UNITS_PER_CORE
            latency = sync.counter_latency_cycles if near else sync.cross_core_latency_cycles
            visible = ends[stream.job, producer][values[rows] - 1] + latency
            later = visible > latest[rows]
            latest[rows[later]] = visible[later]
            cause[rows[later]] = producer
    for position, meeting in stream.meetings.items():
        cores = {loaded.physical(stream.job, unit) // UNITS_PER_CORE for unit in meeting.units}
        latency = sync.counter_latency_cycles if len(cores) == 1 else sync.cross_core_latency_cycles
        last_start = int(own[position]) - latency
        if last_start > starts[position]:
            stall[position] += last_start - starts[position]
            cause[position] = STALL_BARRIER
    return stall, cause
