"""The shared servers: the DRAM controller and the path between the cores (microarchitecture 6.3 to 6.5).

Used by the engine. A server grants one burst group at a time, and one arbitration settles both the end of the group
before and the next grant; it is an event only where something else happens first. Which groups there are was decided
by ``timing``; when a transfer starts and what follows its retirement is the engine's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simpy import Environment, Event

from npusim.config import Hardware

from .stream import Way

NEVER = 1 << 62
"""A cycle no run reaches."""


class Moment(Event):
    """Something that happens at a known cycle, in a known phase of it.

    simpy orders events of one cycle by priority: physical unit numbers for retirements, then the arbiters' phases.
    """

    def __init__(self, env: Environment, *callbacks: Callable[[Event], None]) -> None:
        # without simpy's own initialiser: a run makes several of these for each instruction
        self.env = env
        self.callbacks = list(callbacks)
        self._ok = True
        self._value = None


class Activity:
    """What a unit other than sdma is doing, as far as OCM banks go.

    Attributes:
        start: cycle in which its current (or next, if that is known) instruction starts.
        end: its retire cycle.
        banks: mask of the OCM banks it streams from.
    """

    __slots__ = ("banks", "end", "start")

    def __init__(self) -> None:
        self.start = self.end = self.banks = 0


class Port:
    """An sdma unit as the servers see it: one transfer at a time, one standing request at most.

    Attributes:
        index: its place in the servers' order.
        group: index of the next group to be granted.
        last: index after the transfer's last group.
        page: by group, ``Transfers.page``.
        data: by group, ``Transfers.data``.
        way: ``Way`` of the transfer.
        latency: cycles from the end of the last group to the retirement.
        watched: units that may stream from the transfer's banks, with the mask of these banks.
        queue_cycles, refresh_cycles, page_misses, turnaround_cycles, conflict_cycles: what the transfer has paid.
    """

    __slots__ = (
        "conflict_cycles", "data", "group", "index", "last", "latency", "page", "page_misses", "queue_cycles",
        "refresh_cycles", "turnaround_cycles", "watched", "way",
    )  # fmt: skip

    def __init__(self, index: int) -> None:
        self.index = index
        self.page: list[int] = []
        self.data: list[int] = []
        self.group = self.last = self.latency = 0
        self.way = int(Way.NONE)
        self.watched: list[tuple[Sequence[Activity], int]] = []
        self.queue_cycles = self.refresh_cycles = self.page_misses = 0
        self.turnaround_cycles = self.conflict_cycles = 0

    def conflicts(self, now: int) -> bool:
        """Whether a compute or move instruction that executes in this cycle streams from the transfer's banks."""
        for units, banks in self.watched:
            for unit in units:
                if unit.banks & banks and unit.start <= now < unit.end:
                    return True
        return False


class Server:
    """Grants groups round robin over the cores, one at a time.

    Args:
        env: the simulation.
        phase: priority of its arbitration within a cycle.
        ports: in the order of physical cores.
        finish: called with a port and the end of its transfer's last group, as soon as that is granted.
    """

    def __init__(
        self, env: Environment, phase: int, ports: Sequence[Port], finish: Callable[[Port, int], None]
    ) -> None:
        self.env = env
        self.phase = phase
        self.ports = ports
        self.finish = finish
        self._requested = [NEVER] * len(ports)  # cycle of each port's standing request
        self._granted = len(ports) - 1  # core granted last: the first grant looks at the first core first
        self._busy = False
        self._serving: Port | None = None  # whose group ends next and is not its last
        self._next = NEVER  # cycle of the next arbitration

    def request(self, port: Port, cycle: int) -> None:
        """Place a port's request, in this cycle or a later one."""
        self._requested[port.index] = cycle
        if not self._busy and cycle < self._next:
            self._arbitrate_at(cycle)

    def service(self, port: Port, now: int) -> int:
        """Cycles from the grant of a port's next group to its end."""
        raise NotImplementedError

    def _arbitrate_at(self, cycle: int) -> None:
        self._next = cycle
        env = self.env
        env.schedule(Moment(env, self._arbitrate), self.phase, cycle - env.now)  # type: ignore[arg-type]

    def _arbitrate(self, _: Event) -> None:
        env = self.env
        if env.now != self._next:
            return  # overtaken by an earlier request
        self._grant(self._next)
        while self._next < NEVER and self._next < env.peek():
            self._grant(self._next)  # nothing else happens before: no event is needed to get there
        if self._next < NEVER:
            self._arbitrate_at(self._next)

    def _grant(self, now: int) -> None:
        """Give the server to whoever is next, and find the cycle of the arbitration that follows."""
        requested = self._requested
        if self._serving is not None:  # a group ends here, and the next one is requested in the same cycle
            requested[self._serving.index] = now
            self._serving = None
        index = self._granted
        for _turn in requested:
            index = index + 1 if index + 1 < len(requested) else 0
            if requested[index] <= now:
                break
        else:
            self._busy, self._next = False, min(requested)
            return
        self._granted = index
        port = self.ports[index]
        port.queue_cycles += now - requested[index]
        requested[index] = NEVER
        end = now + self.service(port, now)
        port.group += 1
        self._busy, self._next = True, end
        if port.group < port.last:
            self._serving = port
        else:
            self.finish(port, end)


class CorePath(Server):
    """The path between the cores (microarchitecture 6.5)."""

    def __init__(
        self,
        env: Environment,
        phase: int,
        ports: Sequence[Port],
        finish: Callable[[Port, int], None],
        hardware: Hardware,
    ) -> None:
        super().__init__(env, phase, ports, finish)
        self._conflict = hardware.ocm.conflict_cycles

    def service(self, port: Port, now: int) -> int:
        """The flits, one a cycle, and the conflict."""
        cycles = port.data[port.group]
        if port.conflicts(now):
            port.conflict_cycles += self._conflict
            cycles += self._conflict
        return cycles


class DramController(Server):
    """The DRAM controller (microarchitecture 6.4)."""

    def __init__(
        self,
        env: Environment,
        phase: int,
        ports: Sequence[Port],
        finish: Callable[[Port, int], None],
        hardware: Hardware,
    ) -> None:
        super().__init__(env, phase, ports, finish)
        dram = hardware.dram
        self._interval, self._refresh = dram.refresh_interval_cycles, dram.refresh_cycles
        self._miss, self._turn = dram.page_miss_cycles, dram.turnaround_cycles
        self._conflict = hardware.ocm.conflict_cycles
        self._open = [-1] * dram.banks  # page number open in each bank
        self._window = 0  # refresh windows that have begun by the service start of the group before
        self._way: int | None = None  # direction of the group before

    def service(self, port: Port, now: int) -> int:
        """Refresh, page, turnaround, bank conflict and data, in the order of the specification."""
        cycles = port.data[port.group]
        if self._interval:
            window, into = divmod(now, self._interval)
            if window and into < self._refresh:
                port.refresh_cycles += self._refresh - into
                cycles += self._refresh - into
                window = (now - into + self._refresh) // self._interval
            if window > self._window:
                self._window = window
                self._open = [-1] * len(self._open)
        page = port.page[port.group]
        bank = page % len(self._open)
        if self._open[bank] != page:
            self._open[bank] = page
            port.page_misses += 1
            cycles += self._miss
        if port.way != self._way:
            if self._way is not None:
                port.turnaround_cycles += self._turn
                cycles += self._turn
            self._way = port.way
        if port.conflicts(now):
            port.conflict_cycles += self._conflict
            cycles += self._conflict
        return cycles
