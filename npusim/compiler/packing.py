"""Where a view with gaps lies in OCM: its elements in the order of the storage, without the gaps.

Used by whoever loads, stores or looks for parts of storages. Knows factors, and neither cores nor instructions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .view import Factor, View


def span(view: View) -> tuple[int, int]:
    """First element of the storage that a view names, and the one after its last."""
    last = view.offset + sum((size - 1) * stride for axis in view.axes for size, stride in axis)
    return view.offset, last + 1


@dataclass(frozen=True, slots=True)
class Packed:
    """How a view with gaps lies in OCM: its factors in the order of the storage, without the gaps."""

    key: tuple[Factor, ...]
    elements: int
    dims: tuple[tuple[int, int, int], ...]
    places: tuple[tuple[int, int, int], ...]  # (storage stride, size, packed stride)

    def place(self, view: View) -> tuple[tuple[Factor, ...], ...]:
        """The view's factors with packed strides."""

        def packed(stride: int) -> int:
            for base, size, step in self.places:
                if base <= stride < base * size:
                    return step * (stride // base)
            raise AssertionError("a factor of the view is one of the packing's")

        return tuple(tuple((n, packed(s)) for n, s in axis if n > 1) for axis in view.axes)


def pack(view: View) -> Packed | None:
    """The packing of a view's elements, or None where they are contiguous already. Repeated elements count once."""
    factors = sorted((f for axis in view.axes for f in axis if f[0] > 1 and f[1] > 0), key=lambda f: -f[1])
    joined: list[Factor] = []
    for size, stride in factors:
        if joined and joined[-1][1] == size * stride:
            joined[-1] = (joined[-1][0] * size, stride)
        else:
            joined.append((size, stride))
    elements = int(np.prod([n for n, _ in joined], dtype=np.int64))
    low, high = span(view)
    if elements == high - low:
        return None
    places, step = [], 1
    for size, stride in reversed(joined):
        places.append((stride, size, step))
        step *= size
    places.reverse()
    dims = tuple((size, stride, step) for stride, size, step in places)
    return Packed(tuple(joined), elements, dims, tuple(places))
