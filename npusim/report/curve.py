"""Step functions of time: how much of something there is from one cycle to the next.

Made by ``occupancy`` and ``traffic``; drawn by the page, the plots and the trace file. What is counted is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """A step function: ``values[k]`` from cycle ``cycles[k]`` until the next; 0 before the first.

    Attributes:
        cycles: int64[n], ascending.
        values: int64[n] or float64[n].
    """

    cycles: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]

    @property
    def peak(self) -> Any:
        """The largest value; 0 for a curve without steps."""
        return self.values.max(initial=0)

    def thinned(self, steps: int) -> Curve:
        """The same curve with at most about ``2 * steps`` steps, for drawing: each span shows its largest value."""
        if len(self.cycles) <= 2 * steps:
            return self
        cut = np.linspace(0, len(self.cycles), steps + 1).astype(np.int64)[:-1]
        return Curve(cycles=self.cycles[cut], values=np.maximum.reduceat(self.values, cut))


def from_changes(cycles: np.ndarray[Any, Any], changes: np.ndarray[Any, Any]) -> Curve:
    """The running sum of changes.

    Args:
        cycles: int64[n], when, in any order; changes of one cycle count together.
        changes: int64[n] or float64[n], by how much.

    >>> from_changes(np.array([5, 0, 5]), np.array([-1, 3, -1])).values.tolist()
    [3, 1]
    """
    when, place = np.unique(cycles, return_inverse=True)
    total = np.zeros(len(when), changes.dtype)
    np.add.at(total, place, changes)
    return Curve(cycles=when, values=np.cumsum(total))


def total(curves: Sequence[Curve]) -> Curve:
    """The sum of curves."""
    nothing = np.zeros(0, np.int64)
    steps = [np.diff(curve.values, prepend=0) for curve in curves]
    return from_changes(np.concatenate([nothing, *(c.cycles for c in curves)]), np.concatenate([nothing, *steps]))
