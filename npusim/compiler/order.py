"""The order in which every unit works: whatever is ready and has the longest way to go, on modelled time.

Takes steps and what each depends on; the durations are those of ``timing``. Contention for DRAM is modelled as one
queue, which is not what the machine does, but near it. Gives an order; waits are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import heappop, heappush

from isa.instruction import UNITS_PER_CORE, Unit
from isa.instructions import Multicast, Store
from isa.instructions.transfer import DramTransfer
from npusim.config import Hardware
from npusim.timing import uncontended_cycles

from .schedule import Placed


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Steps in the order in which they start.

    Attributes:
        steps: indices of steps.
        units: by step, the unit that takes it.
        cycles: when the last one retires, by the model.
        work: cycles of all steps of a kind of unit, by number of the kind; nothing for transfers.
    """

    steps: list[int]
    units: list[int]
    cycles: int
    work: tuple[int, ...]

    def least_cycles(self, cores: int) -> int:
        """What the arithmetic alone takes on so many cores, as long as no step of it gets shorter.

        Moves do not count: fewer cores need fewer of them.
        """
        conv = (self.work[Unit.CONV0] + self.work[Unit.CONV1]) // 2
        return max(conv, self.work[Unit.TENG]) // cores


class Server(Enum):
    """What the cores share."""

    DRAM = auto()
    PATH = auto()


@dataclass(slots=True, eq=False)
class _Queue:
    """What one unit, or one of several, has to do."""

    later: list[tuple[int, int]] = field(default_factory=list)  # (cycle in which it is ready, step)
    ready: list[tuple[int, int]] = field(default_factory=list)  # (minus its rank, step)

    def settle(self, now: int, ranks: Sequence[int]) -> None:
        """Move what has become ready."""
        while self.later and self.later[0][0] <= now:
            _, step = heappop(self.later)
            heappush(self.ready, (-ranks[step], step))


@dataclass(frozen=True, slots=True)
class _Cost:
    """Cycles of a step.

    Attributes:
        issue: before its turn on a shared server.
        served: on it.
        total: in all.
        shared: the server.
        pages: segment and number of the first and the last DRAM page.
    """

    issue: int
    served: int
    total: int
    shared: Server | None
    pages: tuple[tuple[int, int], ...] = ()


def _cost(step: Placed, hardware: Hardware) -> _Cost:
    unit = Unit(step.unit % UNITS_PER_CORE)
    total = uncontended_cycles(step.instruction, unit, hardware)
    issue = hardware.sdma.issue_cycles
    if not step.moves:
        return _Cost(0, 0, total, None)
    if not isinstance(step.instruction, DramTransfer):
        return _Cost(issue, total - issue - hardware.path.latency_cycles, total, Server.PATH)
    store = isinstance(step.instruction, Store)
    latency = hardware.dram.write_latency_cycles if store else hardware.dram.read_latency_cycles
    served = total - issue - latency
    dram = hardware.dram
    refresh = served * dram.refresh_cycles // dram.refresh_interval_cycles if dram.refresh_interval_cycles else 0
    region = step.instruction.dram_region()
    ends = (int(region.base), int(region.end) - 1)
    pages = tuple((int(region.place), end // dram.page_bytes) for end in ends)
    return _Cost(issue, served + refresh, total + refresh, Server.DRAM, pages)


def list_schedule(placed: Sequence[Placed], predecessors: Sequence[Sequence[int]], hardware: Hardware) -> Order:
    """Start steps as units get free, the one with the longest chain of work behind it first.

    A multicast is taken by whichever sdma is free; all other steps have their unit.
    """
    return _Machine(placed, predecessors, hardware).run()


class _Machine:
    """The state of the model while it runs."""

    def __init__(self, placed: Sequence[Placed], predecessors: Sequence[Sequence[int]], hardware: Hardware) -> None:
        self.sync, self.dram_timing = hardware.sync, hardware.dram
        self.costs = [_cost(step, hardware) for step in placed]
        self.units = [step.unit for step in placed]
        self.anywhere = [isinstance(step.instruction, Multicast) for step in placed]
        self.missing = [len(before) for before in predecessors]
        self.successors: list[list[int]] = [[] for _ in placed]
        for step, before in enumerate(predecessors):
            for other in before:
                self.successors[other].append(step)
        self.ranks = [0] * len(placed)
        for step in reversed(range(len(placed))):
            behind = max((self.ranks[other] for other in self.successors[step]), default=0)
            self.ranks[step] = self.costs[step].total + behind
        everyone = sorted(set(self.units))
        self.queues = {unit: _Queue() for unit in everyone}  # what does not take DRAM
        self.sdma = [unit for unit in everyone if unit % UNITS_PER_CORE == Unit.SDMA]
        self.dram = {unit: _Queue() for unit in self.sdma}
        self.pool = _Queue()  # what any sdma may take
        self.free = dict.fromkeys(everyone, 0)
        self.served = dict.fromkeys(Server, 0)  # until when each is busy
        self.open_pages: list[tuple[int, int]] = []  # those used last
        self.ahead = hardware.sdma.issue_cycles + hardware.dram.read_latency_cycles
        self.earliest = [0] * len(placed)
        self.events: list[tuple[int, int]] = []  # (cycle, unit that looks for work)
        self.order: list[int] = []

    def run(self) -> Order:
        """The order."""
        for step, missing in enumerate(self.missing):
            if not missing:
                self._wake(step)
        while self.events:
            now, unit = heappop(self.events)
            if unit % UNITS_PER_CORE == Unit.SDMA:
                self._look_for_transfers(now)
            elif self.free[unit] <= now:
                self.queues[unit].settle(now, self.ranks)
                if self.queues[unit].ready:
                    self._start(unit, self.queues[unit], now)
        assert len(self.order) == len(self.units), "what nothing holds up is ordered"
        work = [0] * UNITS_PER_CORE
        for unit, cost in zip(self.units, self.costs, strict=True):
            work[unit % UNITS_PER_CORE] += cost.total if cost.shared is None else 0
        return Order(self.order, self.units, max(self.free.values(), default=0), tuple(work))

    def _wake(self, step: int) -> None:
        """All that a step depends on is under way: enter it where it will be taken from."""
        cycle, unit = self.earliest[step], self.units[step]
        if self.anywhere[step]:
            queue = self.pool
        else:
            queue = self.dram[unit] if self.costs[step].shared is Server.DRAM else self.queues[unit]
        heappush(queue.later, (cycle, step))
        heappush(self.events, (cycle, unit))

    def _look_for_transfers(self, now: int) -> None:
        """Let free sdma units start what is most urgent, but no more for DRAM than keeps it busy.

        What stood in line for DRAM would only keep its unit from sending.
        """
        for queue in (*(self.queues[u] for u in self.sdma), *self.dram.values(), self.pool):
            queue.settle(now, self.ranks)
        while True:
            free = [unit for unit in self.sdma if self.free[unit] <= now]
            waiting = [(self.dram[unit], unit) for unit in free if self.dram[unit].ready]
            if self.pool.ready and free:
                waiting.append((self.pool, min(free, key=lambda unit: len(self.dram[unit].ready))))
            idle = max(now, self.served[Server.DRAM] - self.ahead)
            if waiting and idle > now:
                heappush(self.events, (idle, waiting[0][1]))
                waiting = []
            waiting += [(self.queues[unit], unit) for unit in free if self.queues[unit].ready]
            if not waiting:
                return
            queue, unit = min(waiting, key=lambda entry: entry[0].ready[0])
            self._start(unit, queue, now)

    def _start(self, unit: int, queue: _Queue, now: int) -> None:
        """Let a unit start the most urgent step of a queue."""
        _, step = heappop(queue.ready)
        self.units[step] = unit
        self.order.append(step)
        end = self._end(step, now)
        self.free[unit] = end
        heappush(self.events, (end, unit))
        for other in self.successors[step]:
            self.earliest[other] = max(self.earliest[other], end + self._latency(unit, other))
            self.missing[other] -= 1
            if not self.missing[other]:
                self._wake(other)

    def _end(self, step: int, now: int) -> int:
        """When a step that starts now retires."""
        cost = self.costs[step]
        if cost.shared is None:
            return now + cost.total
        served = max(self.served[cost.shared], now + cost.issue) + cost.served
        if cost.shared is Server.DRAM:
            if cost.pages[0] in self.open_pages:
                served -= self.dram_timing.page_miss_cycles
            self.open_pages = [page for page in self.open_pages if page not in cost.pages]
            self.open_pages = [*self.open_pages, *cost.pages][-self.dram_timing.banks :]
        self.served[cost.shared] = served
        return served + cost.total - cost.issue - cost.served

    def _latency(self, unit: int, step: int) -> int:
        """Cycles until a step sees a retirement."""
        if self.anywhere[step]:
            return self.sync.cross_core_latency_cycles
        other = self.units[step]
        if other == unit:
            return 0
        same = other // UNITS_PER_CORE == unit // UNITS_PER_CORE
        return self.sync.counter_latency_cycles if same else self.sync.cross_core_latency_cycles
