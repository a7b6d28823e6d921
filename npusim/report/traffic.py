"""Bytes of DRAM over time, read and written: from the transfers in a trace.

Used by ``profile``. A transfer's bursts are spread evenly over its execution, because the trace does not keep their
cycles; short windows can therefore show a little more than the machine's peak.
"""

from __future__ import annotations

import numpy as np

from isa.instructions import Store
from npusim.report.curve import Curve, from_changes
from npusim.sim.trace import Trace

WINDOWS = 2500
"""A run is cut into so many windows of equal length, or fewer where they would be shorter than a cycle."""


def dram_traffic(trace: Trace) -> tuple[Curve, Curve]:
    """Bytes a cycle read from DRAM and written to it: the mean of each window."""
    writes = trace.opcode == Store.layout.opcode
    window = max(-(-trace.cycles // WINDOWS), 1)
    edges = np.arange(0, trace.cycles + window, window)
    return _rate(trace.take(~writes), edges), _rate(trace.take(writes), edges)


def _rate(transfers: Trace, edges: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Curve:
    moving = transfers.take(transfers.dram_bytes > 0)
    rate = moving.dram_bytes / (moving.end - moving.start)
    bends = from_changes(np.concatenate([moving.start, moving.end]), np.concatenate([rate, -rate]))
    done = np.concatenate([[0.0], np.cumsum(np.diff(bends.cycles) * bends.values[:-1])])
    moved = np.interp(edges, bends.cycles, done[: len(bends.cycles)]) if len(moving) else np.zeros(len(edges))
    return Curve(cycles=edges, values=np.append(np.diff(moved) / np.diff(edges), 0.0))
