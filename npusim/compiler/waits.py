"""Waits from hazards: two instructions of different units are ordered where they touch a common byte and one writes it.

Takes steps in an order that is correct when they run one after the other, and gives streams that may run apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from isa.instruction import Instruction, Wait
from isa.instructions import Sync

from .schedule import Memory, Placed, Touch

PAGE_BITS = 14
"""Accesses are found by the pages of 16 KiB that they touch."""


@dataclass(slots=True, eq=False)
class _Access:
    """A touch that later ones may have to wait for."""

    touch: Touch
    unit: int
    position: int
    gone: bool = False  # a later write covers it, and is ordered behind it


@dataclass(slots=True, eq=False)
class _Streams:
    """Streams under construction, and what each instruction knows of the other units."""

    written: set[Memory]
    streams: dict[int, list[Instruction]] = field(default_factory=dict)
    origins: dict[int, list[int]] = field(default_factory=dict)
    clocks: dict[int, list[dict[int, int]]] = field(default_factory=dict)
    pages: dict[tuple[Memory, int], list[_Access]] = field(default_factory=dict)

    def add(self, step: Placed) -> None:
        """Append a step to its unit's stream, behind what it depends on."""
        unit = step.unit
        stream, origins = self.streams.setdefault(unit, []), self.origins.setdefault(unit, [])
        clocks = self.clocks.setdefault(unit, [])
        clock = dict(clocks[-1]) if clocks else {}
        touches = [touch for touch in step.touches if touch.memory in self.written]
        waits = self._prune(self._hazards(unit, touches, clock))
        for wait in waits:
            for other, value in self.clocks[wait.unit][wait.value - 1].items():
                clock[other] = max(clock.get(other, 0), value)
            clock[wait.unit] = max(clock.get(wait.unit, 0), wait.value)
        clock.pop(unit, None)
        instruction = step.instruction
        if len(waits) > instruction.layout.max_waits:
            stream.append(Sync(waits=tuple(waits)))
            origins.append(step.origin)
            clocks.append(clock)
        elif waits:
            instruction = replace(instruction, waits=tuple(waits))
        stream.append(instruction)
        origins.append(step.origin)
        clocks.append(clock)
        for touch in touches:
            self._record(_Access(touch, unit, len(stream) - 1))

    def _hazards(self, unit: int, touches: Sequence[Touch], clock: dict[int, int]) -> dict[int, int]:
        """By unit: how many of its instructions have to retire first, where that is not known to be so."""
        needed: dict[int, int] = {}
        for touch in touches:
            for page in _pages(touch):
                for access in self.pages.get(page, ()):
                    other = access.unit
                    if other == unit or access.gone or access.position < max(needed.get(other, 0), clock.get(other, 0)):
                        continue
                    if touch.meets(access.touch):
                        needed[other] = access.position + 1
        return needed

    def _prune(self, needed: dict[int, int]) -> list[Wait]:
        """The waits, without those that another one implies."""
        waits = [Wait(unit, value) for unit, value in sorted(needed.items())]
        return [
            wait
            for wait in waits
            if not any(
                self.clocks[other.unit][other.value - 1].get(wait.unit, 0) >= wait.value
                for other in waits
                if other is not wait
            )
        ]

    def _record(self, access: _Access) -> None:
        """Enter an access. What a write covers is ordered before it, and so is what its own unit read before."""
        touch, solid = access.touch, not access.touch.box.dims
        for page in _pages(touch):
            kept = []
            for old in self.pages.get(page, ()):
                there = old.touch
                same_step = old.unit == access.unit and old.position == access.position
                covered = there.box == touch.box or (solid and touch.low <= there.low and there.high <= touch.high)
                if touch.write:
                    old.gone = old.gone or (covered and not same_step)
                elif old.unit == access.unit and not there.write:
                    old.gone = old.gone or covered
                if not old.gone:
                    kept.append(old)
            kept.append(access)
            self.pages[page] = kept


def _pages(touch: Touch) -> Iterator[tuple[Memory, int]]:
    return ((touch.memory, page) for page in range(touch.low >> PAGE_BITS, ((touch.high - 1) >> PAGE_BITS) + 1))


def assign_waits(placed: Sequence[Placed]) -> tuple[dict[int, list[Instruction]], dict[int, list[int]]]:
    """Streams and origins by unit number."""
    streams = _Streams({touch.memory for step in placed for touch in step.touches if touch.write})
    for step in placed:
        streams.add(step)
    return streams.streams, streams.origins
