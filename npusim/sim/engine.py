"""The event loop: a simpy process per unit, an event per instruction and at most one per burst group, integer cycles.

Called by ``simulate`` with loaded streams; calls the servers of ``arbiter``. It knows when things happen and not what
they compute: that is the ``retire`` callback's business, and no formula of cycles is here but those of waiting.

The three phases of a cycle (microarchitecture 1) are priorities of simpy events: retirements in the order of physical
unit number, then requests and turns (``turns``), then the arbitration of DRAM, then that of the core path. Issue needs
no events of its own: as soon as the retire cycles of everything an instruction waits for are known, its start is known
too, be it in the future. Compute instructions publish their retire cycle when they start, transfers when their last
group is granted, and so a start is always known before its cycle is over; the arbiters, which ask what executes in a
cycle, come after all of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from simpy import Environment, Event

from isa.instruction import UNITS_PER_CORE, Unit
from npusim.errors import DeadlockError

from .arbiter import NEVER, Activity, CorePath, DramController, Moment, Port
from .job import Demand
from .standstill import CycleLimitReached, queued, standing
from .stream import Loaded, Meeting, Stream, Way
from .turns import Told, Turns

Retire = Callable[[int, int, int], None]
"""Called when an instruction retires: index of the stream, position, cycle."""

_DRAM_PHASE = 1 << 20
_PATH_PHASE = _DRAM_PHASE + 1
"""Priorities behind every unit number."""

_NEVER_BEGAN = -1


@dataclass(slots=True, eq=False)
class Gathering:
    """One meeting of barriers that are still arriving."""

    lanes: list[_Lane] = field(default_factory=list)
    last_start: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class Account:
    """What the transfers of one stream have paid: ``(position, queue, refresh, misses, turnaround, conflict)``."""

    rows: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)


class _Lane:
    """A unit at work: its stream, how far it has come, and who waits for it.

    ``starts`` and ``ends`` hold the cycles of the present run of the job that are known so far; the entry of the
    instruction at work is there before its cycle comes.
    """

    __slots__ = (
        "account", "activity", "banks", "blocked", "durations", "ends", "event", "free", "number", "port", "starts",
        "stream", "waits",
    )  # fmt: skip

    def __init__(self, number: int, stream: Stream | None, activity: Activity) -> None:
        self.number = number
        self.stream = stream
        self.durations = stream.durations if stream else []
        self.banks = stream.banks if stream else []
        self.waits: list[tuple[tuple[_Lane, int, int], ...]] = []
        self.activity = activity
        self.port: Port | None = None
        self.event: Moment
        self.reset(0)

    def reset(self, cycle: int) -> None:
        """Before the first instruction of a run that begins in ``cycle``."""
        self.free = cycle
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.blocked: list[tuple[int, _Lane]] = []  # (value, who waits for this lane's counter to reach it)
        self.account = Account()


@dataclass(slots=True, eq=False)
class _Party:
    """The lanes of a job, and how many of them are not through with the present run."""

    lanes: list[tuple[int, _Lane]] = field(default_factory=list)  # with the index of the lane's stream
    working: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What a run took, by stream.

    Attributes:
        begins: by job: cycle in which it had its cores.
        starts: cycles in which instructions started.
        ends: cycles in which they retired.
        accounts: what transfers paid.
    """

    begins: list[int]
    starts: list[list[int]]
    ends: list[list[int]]
    accounts: list[Account]


class Engine:
    """One run of loaded streams.

    Args:
        loaded: the streams.
        retire: called for every retirement, in order; None where nobody wants to know.
        demands: how often each job is called; None for once.
        told: called with every call of a job that has ended; None where nobody wants to know.
    """

    def __init__(
        self,
        loaded: Loaded,
        retire: Retire | None = None,
        demands: Sequence[Demand] | None = None,
        told: Told | None = None,
    ) -> None:
        self._loaded = loaded
        self._retire = retire
        self._env = Environment()
        sync = loaded.hardware.sync
        self._near, self._far = sync.counter_latency_cycles, sync.cross_core_latency_cycles
        self._issue_cycles = loaded.hardware.sdma.issue_cycles
        cores = loaded.hardware.machine.cores
        units = [Activity() for _ in range(cores * UNITS_PER_CORE)]
        self._lanes = [_Lane(stream.number, stream, units[stream.number]) for stream in loaded.streams]
        self._by_number = {lane.stream.key: lane for lane in self._lanes if lane.stream}
        self._parties = [_Party() for _ in loaded.jobs]
        self._begins = [_NEVER_BEGAN] * len(loaded.jobs)
        self._gatherings: dict[tuple[int, Meeting], Gathering] = {}
        self._ready: list[_Lane] = []
        for index, (lane, stream) in enumerate(zip(self._lanes, loaded.streams, strict=True)):
            lane.waits = self._link(stream)
            self._parties[stream.job].lanes.append((index, lane))
        # the compute and move units of each core that have work
        busy = sorted({lane.number for lane in self._lanes if lane.number % UNITS_PER_CORE != Unit.SDMA})
        self._activities: list[list[Activity]] = [[] for _ in range(cores)]
        for number in busy:
            self._activities[number // UNITS_PER_CORE].append(units[number])
        ports = self._make_ports()
        self._owners: list[_Lane | None] = [None] * len(ports)
        self._dram = DramController(self._env, _DRAM_PHASE, ports, self._transferred, loaded.hardware)
        self._path = CorePath(self._env, _PATH_PHASE, ports, self._transferred, loaded.hardware)
        self.turns = Turns(
            self._env,
            cores=loaded.cores,
            arrivals=[job.arrival_cycle for job in loaded.jobs],
            demands=demands or [Demand() for _ in loaded.jobs],
            begin=self._begin_run,
            stop=demands is not None,
            told=told,
        )

    def run(self, max_cycles: int | None = None) -> Timeline:
        """Simulate to the end.

        Args:
            max_cycles: the last cycle that may happen.

        Raises:
            DeadlockError: instructions are left that nothing will ever let start.
            CycleLimitError: instructions are left after ``max_cycles``.
        """
        env = self._env
        if max_cycles is None:
            env.run()
        else:
            env.run(until=max_cycles + 1)
        if not self.turns.satisfied:
            self._explain(NEVER if max_cycles is None else max_cycles)
        self._retire = None  # an engine is full of cycles: whom it told would stay until they are collected
        return Timeline(
            begins=self._begins,
            starts=[lane.starts for lane in self._lanes],
            ends=[lane.ends for lane in self._lanes],
            accounts=[lane.account for lane in self._lanes],
        )

    # ------------------------------------------------------------------------------------------------------- set-up

    def _link(self, stream: Stream) -> list[tuple[tuple[_Lane, int, int], ...]]:
        """The waits of each instruction as (lane waited for, value, latency of its visibility)."""
        core, seen = stream.number // UNITS_PER_CORE, {}
        for unit in np.unique(stream.wait_units[stream.wait_units != -1]).tolist():
            latency = self._near if unit // UNITS_PER_CORE == core else self._far
            seen[unit] = self._lane(stream.job, unit), 0 if unit == stream.number else latency
        return [
            tuple((seen[unit][0], value, seen[unit][1]) for unit, value in pairs) if pairs else ()
            for pairs in stream.waits
        ]  # fmt: skip

    def _lane(self, job: int, number: int) -> _Lane:
        """The lane of a job on a unit; an empty one for a unit without work, whose counter stays 0."""
        if (job, number) not in self._by_number:
            self._by_number[job, number] = _Lane(number, None, Activity())
        return self._by_number[job, number]

    def _make_ports(self) -> list[Port]:
        """A port for every physical sdma unit with transfers, in the order of cores."""
        ports: dict[int, Port] = {}
        for lane in self._lanes:
            if lane.stream is not None and lane.stream.transfers is not None:
                lane.port = ports.setdefault(lane.number, Port(len(ports)))
        return list(ports.values())

    # ---------------------------------------------------------------------------------------------------- processes

    def _begin_run(self, job: int) -> None:
        """A job has its cores from this cycle on."""
        now, party = int(self._env.now), self._parties[job]
        self._begins[job], party.working = now, len(party.lanes)
        for _, lane in party.lanes:
            lane.reset(now)
        for index, lane in party.lanes:
            self._env.process(self._unit(index, lane, job))
        if not party.lanes:
            self.turns.ended(job)

    def _unit(self, index: int, lane: _Lane, job: int) -> Generator[Event, None, None]:
        """The process of one unit: take the next instruction, let it start when it can, wait until it retires."""
        env, ready, retire = self._env, self._ready, self._retire
        for position in range(len(lane.durations)):
            lane.event = event = Moment(env)
            if retire is not None:
                # a callback rather than a line after the yield: what it raises leaves the loop as it is
                event.callbacks.append(partial(_report, retire, index, position))
            self._issue(lane)
            while ready:
                self._issue(ready.pop())
            yield event
            lane.free = lane.ends[position]
        party = self._parties[job]
        party.working -= 1
        if not party.working:
            self.turns.ended(job)

    def _issue(self, lane: _Lane) -> None:
        """Start a lane's next instruction as soon as all it waits for is known; else leave word where it is not."""
        position = len(lane.starts)
        start = lane.free
        for producer, value, latency in lane.waits[position]:
            ends = producer.ends
            if len(ends) < value:
                producer.blocked.append((value, lane))
                return
            visible = ends[value - 1] + latency
            if visible > start:
                start = visible
        lane.starts.append(start)
        duration = lane.durations[position]
        if duration:
            activity = lane.activity
            activity.start, activity.end, activity.banks = start, start + duration, lane.banks[position]
            self._settle(lane, start + duration)
        else:
            self._begin(lane, position, start)

    def _settle(self, lane: _Lane, end: int) -> None:
        """Fix the retire cycle of a lane's instruction, and wake who waits for it."""
        lane.ends.append(end)
        env = self._env
        env.schedule(lane.event, lane.number, end - env.now)  # type: ignore[arg-type]
        if lane.blocked:
            reached = len(lane.ends)
            self._ready += [other for value, other in lane.blocked if value <= reached]
            lane.blocked = [entry for entry in lane.blocked if entry[0] > reached]

    def _begin(self, lane: _Lane, position: int, start: int) -> None:
        """Start a transfer or a barrier, whose duration depends on others."""
        stream = lane.stream
        assert stream is not None, "only lanes with a stream issue"
        meeting = stream.meetings.get(position)
        if meeting is not None:
            lane.activity.banks = 0
            self._arrive(lane, stream.job, meeting, start)
            return
        port, transfers = lane.port, stream.transfers
        assert port is not None, "every other instruction has a duration"
        assert transfers is not None, "a port belongs to a stream with transfers"
        self._owners[port.index] = lane
        port.page, port.data = transfers.page, transfers.data
        port.group, port.last = transfers.first[position], transfers.first[position + 1]
        port.way, port.latency = transfers.way[position], transfers.latency[position]
        port.watched = [(self._activities[core], banks) for core, banks in transfers.watched[position]]
        port.queue_cycles = port.refresh_cycles = port.page_misses = 0
        port.turnaround_cycles = port.conflict_cycles = 0
        server = self._path if port.way == Way.PATH else self._dram
        server.request(port, start + self._issue_cycles)

    def _transferred(self, port: Port, end: int) -> None:
        """The last group of a transfer was granted and ends at ``end``."""
        lane = self._owners[port.index]
        assert lane is not None, "a transfer has begun"
        lane.account.rows.append(
            (
                len(lane.starts) - 1, port.queue_cycles, port.refresh_cycles, port.page_misses, port.turnaround_cycles,
                port.conflict_cycles,
            )
        )  # fmt: skip
        self._settle(lane, end + port.latency)
        while self._ready:
            self._issue(self._ready.pop())

    def _arrive(self, lane: _Lane, job: int, meeting: Meeting, start: int) -> None:
        """A participant reaches a barrier; the last one fixes when all of them retire."""
        gathering = self._gatherings.setdefault((job, meeting), Gathering())
        gathering.lanes.append(lane)
        gathering.last_start = max(gathering.last_start, start)
        if len(gathering.lanes) < len(meeting.units):
            return
        del self._gatherings[job, meeting]
        cores = {other.number // UNITS_PER_CORE for other in gathering.lanes}
        end = gathering.last_start + (self._near if len(cores) == 1 else self._far)
        for other in gathering.lanes:
            self._settle(other, end)

    # --------------------------------------------------------------------------------------------------- standstill

    def _explain(self, limit: int) -> None:
        """Raise what ended the run early.

        What is known of the future is forgotten first: the error describes the end of cycle ``limit``.
        """
        lanes = self._by_number.items()
        retired = Counter({key: bisect_right(lane.ends, limit) for key, lane in lanes})
        started = {key for key, lane in lanes if bisect_right(lane.starts, limit) > retired[key]}
        waiting = [
            standing(self._loaded, stream, retired, started)
            if self._begins[stream.job] != _NEVER_BEGAN
            else queued(self._loaded, stream)
            for stream in self._loaded.streams
            if retired[stream.key] < len(stream)
        ]
        under_way = any(len(lane.ends) > retired[key] for key, lane in lanes) or any(
            lane.port is not None and len(lane.starts) > len(lane.ends) for lane in self._lanes
        )
        if under_way or not self.turns.all_requested:
            raise CycleLimitReached(limit, sum(retired.values()), len(self._loaded), waiting)
        last = max((lane.ends[-1] for lane in self._lanes if lane.ends), default=0)
        raise DeadlockError(waiting, cycle=last)


def _report(retire: Retire, index: int, position: int, event: Event) -> None:
    """Tell ``retire`` what an event means."""
    retire(index, position, int(event.env.now))
