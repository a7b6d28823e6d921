"""Lanes: a trace cut by physical unit, each in the order of time, as timelines draw it.

Used by page, plots and trace file. How a lane looks is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from isa.instruction import UNITS_PER_CORE, Unit
from npusim.sim.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lane:
    """One physical unit.

    Attributes:
        core: physical core.
        unit: kind of unit.
        rows: int64[n], its instructions as rows of the trace, by start.
    """

    core: int
    unit: Unit
    rows: np.ndarray[Any, Any]

    @property
    def number(self) -> int:
        """Physical unit number."""
        return self.core * UNITS_PER_CORE + self.unit

    @property
    def label(self) -> str:
        """The unit as the vendor's traces number it: ``conv0``, ``conv1``, ``teng2``, ``cv3``, ``sdma4``."""
        return lane_label(self.unit)


def lane_label(unit: Unit) -> str:
    """The vendor's name of a lane.

    >>> [lane_label(unit) for unit in Unit]
    ['conv0', 'conv1', 'teng2', 'cv3', 'sdma4']
    """
    return str(unit) if str(unit)[-1].isdigit() else f"{unit}{int(unit)}"


def lanes(trace: Trace, cores: tuple[int, ...]) -> Iterator[Lane]:
    """Every unit of the cores, those without work included."""
    order = np.argsort(trace.start, kind="stable")
    for core in cores:
        for unit in Unit:
            mine = (trace.core[order] == core) & (trace.unit[order] == unit)
            yield Lane(core=core, unit=unit, rows=order[mine])


def tiles(trace: Trace) -> np.ndarray[Any, Any]:
    """int64[n], which tile of its layer an instruction works on, from 1.

    That is its place among the instructions of the same kind that the same unit executes for the same layer.
    """
    number = trace.core.astype(np.int64) * UNITS_PER_CORE + trace.unit
    keys = (trace.start, trace.origin, trace.opcode, number)
    order = np.lexsort(keys)
    changes = np.zeros(len(order), dtype=bool)
    changes[:1] = True
    for key in keys[1:]:
        changes[1:] |= key[order[1:]] != key[order[:-1]]
    place = np.arange(len(order))
    tile = np.zeros(len(order), np.int64)
    tile[order] = place - np.maximum.accumulate(np.where(changes, place, 0)) + 1
    return tile
