"""The critical path: what every cycle was spent on, found by walking back from the last retirement.

Used by ``summary``. docs/report.md explains the rule to readers of a report; no layer is named here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np

from isa.instruction import OPCODES, UNITS_PER_CORE, Unit
from isa.instructions import Barrier, End, Sync
from npusim.config import Hardware
from npusim.sim.trace import STALL_BARRIER, Trace


class Bound(StrEnum):
    """What a cycle is spent on, or what bounds a layer."""

    COMPUTE = "compute"
    VECTOR = "vector"
    MOVE = "move"
    DRAM = "dram"
    SYNC = "sync"


BOUNDS = tuple(Bound)
_BOUND_OF_UNIT = {
    Unit.CONV0: Bound.COMPUTE,
    Unit.CONV1: Bound.COMPUTE,
    Unit.TENG: Bound.VECTOR,
    Unit.CV: Bound.MOVE,
    Unit.SDMA: Bound.MOVE,  # what touches no DRAM: sends and fills
}
_CONTROL = [opcode for opcode, kind in OPCODES.items() if issubclass(kind, Barrier | End | Sync)]
_NOTHING = -1


def bounds_of(trace: Trace) -> np.ndarray[Any, Any]:
    """int64[n], what each instruction spends its cycles on, as an index into ``BOUNDS``.

    Conv units compute, teng is vector, transfers that touch DRAM are dram, every other move is move, and instructions
    that only wait or end are sync.
    """
    by_unit = np.array([BOUNDS.index(_BOUND_OF_UNIT[unit]) for unit in Unit])
    kinds = by_unit[trace.unit]
    kinds[trace.dram_bytes > 0] = BOUNDS.index(Bound.DRAM)
    kinds[np.isin(trace.opcode, _CONTROL)] = BOUNDS.index(Bound.SYNC)
    return kinds


def predecessors(trace: Trace, hardware: Hardware) -> np.ndarray[Any, Any]:
    """int64[n], for each instruction of one job the one it waited for last: a row of the trace, or -1.

    That is the instruction before it on its own unit, or, where the unit stood still, the retirement whose counter
    became visible in the cycle of the start. A barrier waits for what the last of its participants waited for.
    """
    numbers = trace.core.astype(np.int64) * UNITS_PER_CORE + trace.unit
    order = np.lexsort((trace.start, numbers))
    before = np.full(len(trace), _NOTHING)
    same = numbers[order[1:]] == numbers[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    for producer in np.unique(trace.stall_cause[trace.stall_cause >= 0]).tolist():
        rows = np.flatnonzero(trace.stall_cause == producer)
        made = order[numbers[order] == producer]
        near = trace.core[rows] == producer // UNITS_PER_CORE
        latency = np.where(near, hardware.sync.counter_latency_cycles, hardware.sync.cross_core_latency_cycles)
        place = np.searchsorted(trace.end[made], trace.start[rows] - latency, side="right") - 1
        before[rows] = np.where(place >= 0, made[place], _NOTHING)
    meetings = np.flatnonzero(np.isin(trace.opcode, [Barrier.layout.opcode]))
    for row in np.flatnonzero(trace.stall_cause == STALL_BARRIER).tolist():
        met = meetings[trace.end[meetings] == trace.end[row]]
        before[row] = before[met[trace.start[met].argmax()]]
    return before


def walk(trace: Trace, before: np.ndarray[Any, Any], last: int, *, inside: bool) -> np.ndarray[Any, Any]:
    """int64[k], the rows of a path, from ``last`` backwards.

    Args:
        trace: of one job.
        before: what ``predecessors`` found.
        last: where the path ends in time.
        inside: stop before the first instruction of another origin.
    """
    path, row, origin = [], last, int(trace.origin[last])
    while row != _NOTHING and (not inside or trace.origin[row] == origin):
        path.append(row)
        row = int(before[row])
    return np.array(path, np.int64)


def spent(trace: Trace, before: np.ndarray[Any, Any], path: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """int64[k], the cycles each row of a path adds to it: since the retirement of the row before."""
    earlier = before[path]
    return trace.end[path] - np.where(earlier == _NOTHING, trace.start[path], trace.end[earlier])


def by_bound(
    trace: Trace, kinds: np.ndarray[Any, Any], before: np.ndarray[Any, Any], path: np.ndarray[Any, Any]
) -> dict[Bound, int]:
    """The cycles of a path by what they are spent on; what passes between two instructions is sync."""
    executing = trace.end[path] - trace.start[path]
    cycles = np.bincount(kinds[path], weights=executing, minlength=len(BOUNDS)).astype(np.int64)
    cycles[BOUNDS.index(Bound.SYNC)] += int((spent(trace, before, path) - executing).sum())
    return dict(zip(BOUNDS, cycles.tolist(), strict=True))
