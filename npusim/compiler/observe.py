"""Where inner tensors lie when a program has ended, if their storages are kept.

Used by ``build`` for programs that show what another one computes on its way. Knows views, but no instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isa.program import Segment, SegmentKind

from .memory import ALIGN
from .plan import Plan
from .view import View

Array = np.ndarray[Any, Any]

MOST_BYTES = 1 << 28
"""What one program shows at most, so that a host with little memory can look at it."""


@dataclass(frozen=True, slots=True, eq=False)
class Drafted:
    """A lowered graph: its sequential plan, and where each tensor lies in the storages of it."""

    plan: Plan
    views: Mapping[str, View]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the elements of a tensor are.

    Attributes:
        segment: name of an input or output of the program.
        offset_bytes: where its storage begins there.
        dtype: NumPy type of an element.
        view: which elements of the storage it has.
    """

    segment: str
    offset_bytes: int
    dtype: np.dtype[Any]
    view: View

    def read(self, data: Array) -> Array:
        """The tensor, from the bytes of the segment (uint8[n])."""
        item = self.dtype.itemsize
        first = self.offset_bytes + self.view.offset * item
        factors = [factor for axis in self.view.axes for factor in axis]
        extents, strides = [n for n, _ in factors], [step * item for _, step in factors]
        found = np.ndarray(extents, self.dtype, np.ascontiguousarray(data), first, strides)
        return found.reshape(self.view.shape)


def group_storages(drafted: Drafted, names: Sequence[str], room_bytes: int) -> list[dict[str, View]]:
    """Tensors whose storages are kept together, by name, in the order in which storages appear.

    Tensors that are constants are in no group: nothing computes them.

    Args:
        drafted: the plan.
        names: the tensors.
        room_bytes: for their storages, though a group has at least one.
    """
    most = min(room_bytes, MOST_BYTES)
    groups: list[dict[str, View]] = []
    group_of: dict[str, int] = {}
    left = 0
    for name in names:
        view = drafted.views[name]
        storage = drafted.plan.storages[view.storage]
        if storage.kind is SegmentKind.PARAMETERS:
            continue
        if storage.name not in group_of:
            size = -(-storage.size_bytes // ALIGN) * ALIGN if storage.kind is SegmentKind.SCRATCH else 0
            if not groups or size > left:
                groups.append({})
                left = most
            left -= size
            group_of[storage.name] = len(groups) - 1
        groups[group_of[storage.name]][name] = view
    return groups


def places_of(
    drafted: Drafted, views: Mapping[str, View], addresses: Mapping[str, tuple[int, int]], segments: Sequence[Segment]
) -> dict[str, Place]:
    """Where the tensors of some views lie in the segments of a program that keeps their storages."""
    found = {}
    for name, view in views.items():
        segment, offset = addresses[view.storage]
        dtype = drafted.plan.storages[view.storage].dtype.numpy
        found[name] = Place(segment=segments[segment].name, offset_bytes=offset, dtype=dtype, view=view)
    return found
