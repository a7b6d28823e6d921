"""Waits from dependences: an instruction waits for those of other units that it has to come after.

Takes steps in the order in which they start, and gives streams that run apart otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from isa.instruction import Instruction, Wait
from isa.instructions import Sync

from .order import Order
from .schedule import Placed


@dataclass(slots=True, eq=False)
class _Streams:
    """Streams under construction, and what each instruction knows of the other units."""

    streams: dict[int, list[Instruction]] = field(default_factory=dict)
    origins: dict[int, list[int]] = field(default_factory=dict)
    clocks: dict[int, list[dict[int, int]]] = field(default_factory=dict)

    def add(self, step: Placed, unit: int, after: Sequence[tuple[int, int]]) -> int:
        """Append a step to its unit's stream, behind what it depends on.

        Args:
            step: the step.
            unit: which unit takes it.
            after: unit and number of retired instructions for everything it has to come after.

        Returns:
            How many instructions of the unit have retired when this one has.
        """
        stream, origins = self.streams.setdefault(unit, []), self.origins.setdefault(unit, [])
        clocks = self.clocks.setdefault(unit, [])
        clock = dict(clocks[-1]) if clocks else {}
        needed: dict[int, int] = {}
        for other, value in after:
            if other != unit and value > max(needed.get(other, 0), clock.get(other, 0)):
                needed[other] = value
        waits = self._prune(needed)
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
        return len(stream)

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


def assign_waits(
    placed: Sequence[Placed], predecessors: Sequence[Sequence[int]], order: Order
) -> tuple[dict[int, list[Instruction]], dict[int, list[int]]]:
    """Streams and origins by unit number."""
    streams = _Streams()
    retired = [0] * len(placed)  # by step: how many instructions of its unit have retired with it
    for step in order.steps:
        after = [(order.units[other], retired[other]) for other in predecessors[step]]
        retired[step] = streams.add(placed[step], order.units[step], after)
    return streams.streams, streams.origins
