"""Instructions every unit executes: waiting and ending. They touch no memory."""

from __future__ import annotations

from ..field import unit_mask, unsigned
from ..instruction import ANY_UNIT, MAX_CORES, Instruction, instruction
from ..memory import Memory

SYNC_WAITS = 15

BARRIER_UNITS = 60
"""Width of a barrier's mask: the units of twelve cores."""

assert MAX_CORES * len(ANY_UNIT) >= BARRIER_UNITS


@instruction(opcode=0x01, units=ANY_UNIT, max_waits=SYNC_WAITS)
class Sync(Instruction):
    """Wait, and do nothing else: carries up to fifteen waits where an instruction has room for three."""

    def operation(self, memory: Memory) -> None:
        """Nothing to compute."""


@instruction(opcode=0x02, units=ANY_UNIT)
class Barrier(Instruction):
    """Meet other units: retires on all participants together, once the last of them has arrived.

    The first barrier of an `id` on one participant meets the first of that id on the others, the second the second, and
    so on. Everything before it on any participant is ordered before everything after it on all of them.
    """

    units: int = unit_mask(BARRIER_UNITS, "mask of participating unit numbers, 5 * core + unit; the own one included")
    id: int = unsigned(16, "name of the meeting", default=0)

    def operation(self, memory: Memory) -> None:
        """Nothing to compute."""


@instruction(opcode=0x03, units=ANY_UNIT)
class End(Instruction):
    """End of the stream: the last instruction of every unit that has any. When all have retired, counters reset."""

    def operation(self, memory: Memory) -> None:
        """Nothing to compute."""
