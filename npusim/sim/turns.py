"""Who has which cores when: requests for jobs, and the turns that cores shared by several jobs give them.

Used by the engine, which tells when a run has ended and is told when one begins. What happens inside a run is not known
here; the rules are docs/microarchitecture.md's (section 1, turns).
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from simpy import Environment, Event
from simpy.core import StopSimulation

from .arbiter import Moment
from .job import Demand

REQUEST_PHASE = 1 << 18
"""Priority of requests within a cycle: behind all retirements."""
TURN_PHASE = 1 << 19
"""Priority of turns: behind all requests, before any arbitration."""
STOP_PHASE = 1 << 22
"""Priority of the end of a run that does not end by itself: behind everything."""


class Call(NamedTuple):
    """One turn of a job.

    Attributes:
        job: which job.
        requested: cycle of the request.
        begin: cycle in which its cores were free for it.
        end: cycle in which its last instruction retired.
    """

    job: int
    requested: int
    begin: int
    end: int


Told = Callable[[Call], None]
"""Told about every call when it has ended."""


class Turns:
    """The queue for the cores.

    Args:
        env: the simulation.
        cores: by job: physical cores.
        arrivals: by job: cycle of the first request.
        demands: by job.
        begin: called with a job when a run of its program begins, in this cycle.
        stop: whether the simulation ends when every demand is met; else every job is requested once.
        told: called with every call that has ended; None where nobody wants to know.
    """

    def __init__(
        self,
        env: Environment,
        cores: Sequence[tuple[int, ...]],
        arrivals: Sequence[int],
        demands: Sequence[Demand],
        begin: Callable[[int], None],
        stop: bool,
        told: Told | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self._env = env
        self._cores = [frozenset(mine) for mine in cores]
        self._arrivals, self._demands = arrivals, demands
        self._begin, self._stop, self._told = begin, stop, told
        self._requests: list[deque[int]] = [deque() for _ in demands]  # by job: cycles of those without cores yet
        self._queue: list[tuple[int, int]] = []  # (cycle in which it joined, job), the first to be served first
        self._at_work: dict[int, tuple[int, int]] = {}  # job -> cycles of its request and of its begin
        self._runs_left = [0] * len(demands)
        self._made = [0] * len(demands)
        self._missing = [demand.calls for demand in demands]
        self._turn_due = False
        for job, arrival in enumerate(arrivals):
            self._schedule(REQUEST_PHASE, arrival, partial(self._request, job))

    @property
    def satisfied(self) -> bool:
        """Whether every job was called as often as demanded."""
        return not any(missing > 0 for missing in self._missing)

    @property
    def all_requested(self) -> bool:
        """Whether every job has been requested at least once."""
        return all(self._made)

    @property
    def open_requests(self) -> list[tuple[int, int]]:
        """(cycle of the request, job) of all calls that have not ended, in the order of requests."""
        waiting = [(requested, job) for job, requests in enumerate(self._requests) for requested in requests]
        return sorted([*waiting, *((requested, job) for job, (requested, _) in self._at_work.items())])

    def ended(self, job: int) -> None:
        """All instructions of a run have retired, the last one in this cycle."""
        if self._runs_left[job]:
            self._runs_left[job] -= 1
            self._begin(job)
            return
        now, demand = int(self._env.now), self._demands[job]
        self.calls.append(Call(job, *self._at_work.pop(job), now))
        if self._told is not None:
            self._told(self.calls[-1])
        self._missing[job] -= 1
        if self._stop:
            if demand.period_cycles is None:
                self._schedule(REQUEST_PHASE, now + demand.gap_cycles, partial(self._request, job))
            if self._missing[job] == 0 and self.satisfied:
                self._schedule(STOP_PHASE, now, StopSimulation.callback)
        if self._requests[job]:
            self._join(job)
        self._turn_now()

    def _request(self, job: int, _: object) -> None:
        """A call is requested in this cycle."""
        now, period = int(self._env.now), self._demands[job].period_cycles
        self._requests[job].append(now)
        if job not in self._at_work and len(self._requests[job]) == 1:
            self._join(job)
        self._made[job] += 1
        if self._stop and period is not None:
            following = self._arrivals[job] + int(self._made[job] * period)
            self._schedule(REQUEST_PHASE, following, partial(self._request, job))
        self._turn_now()

    def _join(self, job: int) -> None:
        """A job stands in the queue once, however many requests it has: else one that is asked too much starves all."""
        insort(self._queue, (int(self._env.now), job))

    def _turn_now(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._schedule(TURN_PHASE, int(self._env.now), self._give_turns)

    def _give_turns(self, _: object) -> None:
        """Let every job begin whose cores nobody has and none before it in the queue waits for."""
        self._turn_due, now = False, int(self._env.now)
        taken = {core for job in self._at_work for core in self._cores[job]}
        for entry in list(self._queue):
            job = entry[1]
            if taken.isdisjoint(self._cores[job]):
                self._queue.remove(entry)
                self._at_work[job] = (self._requests[job].popleft(), now)
                self._runs_left[job] = self._demands[job].runs - 1
                self._begin(job)
            taken |= self._cores[job]

    def _schedule(self, phase: int, cycle: int, happen: Callable[[Event], None]) -> None:
        moment = Moment(self._env, happen)
        self._env.schedule(moment, phase, cycle - self._env.now)  # type: ignore[arg-type]
