"""Who waits for what: the words for runs that cannot go on.

Called by the engine, and by the executor of values, when instructions are left over. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from npusim.errors import CycleLimitError, Waiting

from .loader import job_name
from .stream import Loaded, Stream
from .trace import physical_name

Retired = Mapping[tuple[int, int], int]
"""By job and physical unit number: how many of its instructions have retired; 0 for units without work."""

Started = Set[tuple[int, int]]
"""Jobs and physical unit numbers whose first instruction that has not retired has started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingInstruction(Waiting):
    """An instruction that has not retired.

    Attributes:
        instruction: mnemonic, origin and job.
    """

    instruction: str

    def __str__(self) -> str:
        needs = " and ".join(f"{counter} >= {value} (now {reached})" for counter, value, reached in self.needs)
        doing = f"waits for {needs}" if needs else "is executing"
        return f"{self.unit}[{self.index}] {self.instruction} {doing}"


class CycleLimitReached(CycleLimitError):
    """A simulation reached its cycle limit; the message says what every unfinished unit was doing.

    Attributes:
        waiting: the next instruction of every unfinished unit, in the machine's order.
    """

    def __init__(self, limit_cycles: int, retired: int, total: int, waiting: Iterable[Waiting]) -> None:
        super().__init__(limit_cycles, retired, total)
        self.waiting = tuple(waiting)
        self.args = (f"{self}: {'; '.join(map(str, self.waiting))}",)


def standing(loaded: Loaded, stream: Stream, retired: Retired, started: Started) -> StandingInstruction:
    """What the next instruction of a stream that has not retired waits for.

    Args:
        loaded: the run's streams.
        stream: an unfinished one.
        retired: the counters.
        started: the units in the middle of an instruction.
    """
    position = retired[stream.key]
    if stream.key not in started:
        needs = _missing_counters(stream, position, retired)
    elif position in stream.meetings:
        needs = _missing_participants(loaded, stream, position, retired, started)
    else:
        needs = ()
    return StandingInstruction(
        unit=stream.name, index=position, needs=needs, instruction=loaded.describe(stream, position)
    )


def queued(loaded: Loaded, stream: Stream) -> StandingInstruction:
    """The first instruction of a stream whose job has not had its cores yet."""
    turns = f"turns of job {job_name(loaded.jobs[stream.job])}"
    return StandingInstruction(
        unit=stream.name, index=0, needs=((turns, 1, 0),), instruction=loaded.describe(stream, 0)
    )  # fmt: skip


def _missing_counters(stream: Stream, position: int, retired: Retired) -> tuple[tuple[str, int, int], ...]:
    needs = [(unit, value, retired[stream.job, unit]) for unit, value in stream.waits[position]]
    missing = [need for need in needs if need[2] < need[1]] or needs  # all are there, but not yet visible
    return tuple((physical_name(unit), value, reached) for unit, value, reached in missing)


def _missing_participants(
    loaded: Loaded, stream: Stream, position: int, retired: Retired, started: Started
) -> tuple[tuple[str, int, int], ...]:
    meeting = stream.meetings[position]
    streams = {other.number: other for other in loaded.streams if other.job == stream.job}
    needs = []
    for logical in meeting.units:
        number = loaded.physical(stream.job, logical)
        other = streams.get(number)
        there = retired[stream.job, number]
        if other is not None and other.meetings.get(there) == meeting and other.key in started:
            continue
        met = 0 if other is None else sum(m.name == meeting.name for p, m in other.meetings.items() if p < there)
        needs.append((f"barriers {meeting.name} of {physical_name(number)}", meeting.turn + 1, met))
    return tuple(needs)
