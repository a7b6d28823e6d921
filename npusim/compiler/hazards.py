"""Which steps depend on which: two that touch a common byte, one of them writing it, keep their order.

Works on the bytes that placed steps touch, in their sequential order. Knows nothing of units and time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from .schedule import Memory, Placed, Touch

Accesses = list[tuple[int, Touch]]
"""Step and what it touched."""


@dataclass(slots=True, eq=False)
class _Stretches:
    """One memory, cut into stretches, with the accesses to each that later ones may depend on."""

    starts: list[int] = field(default_factory=lambda: [0])
    accesses: list[Accesses] = field(default_factory=lambda: [[]])

    def cut(self, at: int) -> int:
        """The number of the stretch that begins at a byte."""
        index = bisect_right(self.starts, at) - 1
        if self.starts[index] == at:
            return index
        self.starts.insert(index + 1, at)
        self.accesses.insert(index + 1, list(self.accesses[index]))
        return index + 1

    def meet(self, touch: Touch, found: set[int]) -> None:
        """Add the steps that an access depends on."""
        tried = set()
        for index in range(bisect_right(self.starts, touch.low) - 1, len(self.starts)):
            if self.starts[index] >= touch.high:
                return
            for step, other in self.accesses[index]:
                if step in found or id(other) in tried:
                    continue
                tried.add(id(other))
                if touch.meets(other):
                    found.add(step)

    def enter(self, step: int, touch: Touch) -> None:
        """Record an access. A write that leaves no byte out hides what was there: it comes after that."""
        first = self.cut(touch.low)
        last = self.cut(touch.high)
        if touch.write and not touch.box.dims:
            self.starts[first:last] = [touch.low]
            self.accesses[first:last] = [[(step, touch)]]
            return
        for index in range(first, last):
            kept = self.accesses[index]
            if touch.write:
                kept = [(k, other) for k, other in kept if k == step or other.box != touch.box]
            self.accesses[index] = [*kept, (step, touch)]


def predecessors(placed: Sequence[Placed]) -> list[tuple[int, ...]]:
    """For each step the earlier ones that it must come after, but for those that follow from others."""
    written = {touch.memory for step in placed for touch in step.touches if touch.write}
    memories: dict[Memory, _Stretches] = {memory: _Stretches() for memory in written}
    result = []
    for index, step in enumerate(placed):
        touches = [touch for touch in step.touches if touch.memory in written]
        found: set[int] = set()
        for touch in touches:
            memories[touch.memory].meet(touch, found)
        for touch in touches:
            memories[touch.memory].enter(index, touch)
        result.append(tuple(sorted(found)))
    return result
