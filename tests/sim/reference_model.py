"""docs/microarchitecture.md a second time: the machine as one loop over cycles, without looking at the first.

The tests of ``tests/sim`` compare it with the event engine. It shares no code with ``npusim.timing`` and ``npusim.sim``
and must never do so; it takes numbers from the hardware description and operands from the instructions, nothing else.
Plain beats fast here: folds, runs and bursts are counted one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from isa.dtypes import item_bytes
from isa.instruction import UNITS_PER_CORE, Instruction, Unit
from isa.instructions import Barrier, End, Fill, Load, Multicast, Send, Store, Sync
from isa.program import Program
from npusim.config import Hardware
from tests.sim.reference_durations import (
    Group,
    conv_unit_cycles,
    dram_groups,
    mover_cycles,
    ocm_banks,
    path_groups,
    pieces,
    vector_cycles,
)

Times = dict[tuple[int, int, Unit, int], tuple[int, int]]
"""(job, physical core, unit, position in the stream) -> (start cycle, retire cycle)."""

CallTimes = list[tuple[int, int, int, int]]
"""(job, cycle of the request, cycle in which it had its cores, cycle in which it ended) of each call, sorted."""


@dataclass(frozen=True)
class Pace:
    """How a job is called again and again: every ``period`` cycles, or ``gap`` cycles after each end."""

    calls: int
    period: Fraction | None = None
    gap: int = 0
    runs: int = 1


def reference_times(
    hardware: Hardware,
    jobs: Sequence[tuple[Program, Sequence[int]]],
    *,
    arrivals: Sequence[int] = (),
    every_cycle: bool = False,
) -> Times:
    """Start and retire cycle of every instruction.

    Args:
        hardware: the hardware description (``npusim.config``).
        jobs: programs, each with the physical cores of its logical cores 0, 1, ...
        arrivals: the cycle in which each job asks for its cores; 0 without.
        every_cycle: visit every cycle, also those for which nothing was announced.
    """
    machine = _machine(hardware, jobs, arrivals, [None] * len(jobs))
    machine.run(every_cycle)
    return machine.times


def reference_calls(
    hardware: Hardware,
    jobs: Sequence[tuple[Program, Sequence[int]]],
    *,
    arrivals: Sequence[int],
    paces: Sequence[Pace],
) -> CallTimes:
    """The calls of jobs that are called again and again until each has had its number; arguments as above."""
    machine = _machine(hardware, jobs, arrivals, paces)
    machine.run(every_cycle=False)
    return sorted(machine.calls)


def _machine(
    hardware: Hardware,
    jobs: Sequence[tuple[Program, Sequence[int]]],
    arrivals: Sequence[int],
    paces: Sequence[Pace | None],
) -> Machine:
    machine = Machine(hardware)
    next_free = 0
    for number, (program, cores) in enumerate(jobs):
        bases = []
        for segment in program.segments:
            while next_free % hardware.dram.page_bytes:
                next_free += 1
            bases.append(next_free)
            next_free += segment.size_bytes
        arrival = arrivals[number] if arrivals else 0
        machine.jobs.append(JobState(number, program, list(cores), bases, paces[number], arrival, arrival))
        machine.announced.add(arrival)
    return machine


# --------------------------------------------------------------------------------------------- the machine's parts


@dataclass
class UnitState:
    """One physical unit: its stream, and where it is in it."""

    job: int
    core: int
    unit: Unit
    stream: list[Instruction]
    cores: list[int]
    """Physical core of each logical one of the job."""
    bases: list[int]
    executing: bool = False
    started: int = 0
    retire_at: int | None = None
    """Known cycle of retirement of the instruction that executes; None while it depends on others."""
    banks: set[tuple[int, int]] = field(default_factory=set)
    groups: list[Group] = field(default_factory=list)
    """Groups of the transfer that executes which have not ended; the first is the one requested."""
    request_at: int | None = None
    retired: list[int] = field(default_factory=list)
    """Cycle of each retirement."""

    @property
    def instruction(self) -> Any:
        return self.stream[len(self.retired)]

    @property
    def finished(self) -> bool:
        return len(self.retired) == len(self.stream)

    def physical(self, logical_unit: int) -> int:
        core, unit = divmod(logical_unit, UNITS_PER_CORE)
        return self.cores[core] * UNITS_PER_CORE + unit


@dataclass
class JobState:
    """One job: what it wants, and how far it is."""

    number: int
    program: Program
    cores: list[int]
    bases: list[int]
    pace: Pace | None
    arrival: int
    next_request: int | None
    requests: int = 0
    unanswered: list[int] = field(default_factory=list)
    ended: int = 0
    requested: int = 0
    began: int = 0
    runs_left: int = 0
    units: list[UnitState] = field(default_factory=list)
    """Those of the present run; none where the job does not have its cores."""


@dataclass
class Server:
    """The DRAM controller or the core path: one request of each core at most, one group in service."""

    requests: dict[int, UnitState] = field(default_factory=dict)
    serving: UnitState | None = None
    ends_at: int = 0
    last_core: int = -1


class Machine:
    """All units, the DRAM controller and the core path, stepped together."""

    def __init__(self, hardware: Hardware) -> None:
        self.hw = hardware
        self.jobs: list[JobState] = []
        self.queue: list[tuple[int, int]] = []
        self.calls: CallTimes = []
        self.units: dict[int, UnitState] = {}
        self.dram, self.path = Server(), Server()
        self.open_pages: dict[int, int] = {}
        self.last_service = 0
        self.last_direction = ""
        self.barriers: dict[tuple[tuple[int, ...], int, int], list[UnitState]] = {}
        self.met: dict[tuple[int, int], int] = {}
        self.announced: set[int] = {0}
        self.times: Times = {}

    def run(self, every_cycle: bool) -> None:
        cycle = 0
        while True:
            if cycle in self.announced or every_cycle:
                self.complete(cycle, self.in_order())
                self.take_turns(cycle)
                self.issue(cycle, self.in_order())
                self.arbitrate(cycle, self.in_order())
                self.announced = {later for later in self.announced if later > cycle}
            if all(job.ended >= (job.pace.calls if job.pace else 1) for job in self.jobs):
                return
            if not self.announced:
                stuck = [f"core{u.core}.{u.unit}[{len(u.retired)}]" for u in self.in_order() if not u.finished]
                raise AssertionError(f"deadlock at cycle {cycle}: {stuck}")
            cycle = cycle + 1 if every_cycle else min(self.announced)

    def in_order(self) -> list[UnitState]:
        """The units of all jobs that have their cores."""
        return [self.units[number] for number in sorted(self.units)]

    # Between completions and issue: requests and turns.

    def take_turns(self, cycle: int) -> None:
        for job in self.jobs:
            if job.units and all(unit.finished for unit in job.units):
                self.end_run(job, cycle)
        for job in self.jobs:
            if job.next_request == cycle:
                job.unanswered.append(cycle)
                job.requests += 1
                job.next_request = None
                if job.pace and job.pace.period:
                    self.ask(job, math.floor(job.arrival + job.requests * job.pace.period))
            if job.unanswered and not job.units and job.number not in [number for _, number in self.queue]:
                self.queue.append((cycle, job.number))
        spoken_for = {core for job in self.jobs if job.units for core in job.cores}
        for joined, number in sorted(self.queue):
            job = self.jobs[number]
            if not spoken_for & set(job.cores):
                self.queue.remove((joined, number))
                job.requested, job.began = job.unanswered.pop(0), cycle
                job.runs_left = job.pace.runs if job.pace else 1
                self.begin_run(job)
            spoken_for |= set(job.cores)

    def ask(self, job: JobState, cycle: int) -> None:
        job.next_request = cycle
        self.announced.add(cycle)

    def begin_run(self, job: JobState) -> None:
        job.runs_left -= 1
        job.units = []
        for number in job.program.streams:
            core, unit = job.cores[number // UNITS_PER_CORE], Unit(number % UNITS_PER_CORE)
            physical = core * UNITS_PER_CORE + unit
            state = UnitState(job.number, core, unit, job.program.instructions(number), job.cores, job.bases)
            self.units[physical] = state
            job.units.append(state)
            self.met = {key: value for key, value in self.met.items() if key[0] != physical}

    def end_run(self, job: JobState, cycle: int) -> None:
        self.units = {number: unit for number, unit in self.units.items() if unit.job != job.number}
        job.units = []
        if job.runs_left:
            self.begin_run(job)
            return
        self.calls.append((job.number, job.requested, job.began, cycle))
        job.ended += 1
        if job.pace and not job.pace.period:
            self.ask(job, cycle + job.pace.gap)

    # Phase 1: completions.

    def complete(self, cycle: int, order: list[UnitState]) -> None:
        for server, latency_of in ((self.dram, self.dram_latency), (self.path, self.path_latency)):
            unit = server.serving
            if unit is not None and server.ends_at == cycle:
                server.serving = None
                unit.groups.pop(0)
                if unit.groups:
                    unit.request_at = cycle
                else:
                    self.retire_later(unit, cycle + latency_of(unit))
        for unit in order:
            if unit.executing and unit.retire_at == cycle:
                self.times[unit.job, unit.core, unit.unit, len(unit.retired)] = (unit.started, cycle)
                unit.retired.append(cycle)
                unit.executing, unit.retire_at, unit.banks = False, None, set()
                self.announced.add(cycle + self.hw.sync.counter_latency_cycles)
                self.announced.add(cycle + self.hw.sync.cross_core_latency_cycles)

    def dram_latency(self, unit: UnitState) -> int:
        if isinstance(unit.instruction, Store):
            return self.hw.dram.write_latency_cycles
        return self.hw.dram.read_latency_cycles

    def path_latency(self, _unit: UnitState) -> int:
        return self.hw.path.latency_cycles

    def retire_later(self, unit: UnitState, cycle: int) -> None:
        unit.retire_at = cycle
        self.announced.add(cycle)

    # Phase 2: issue.

    def issue(self, cycle: int, order: list[UnitState]) -> None:
        for unit in order:
            if not unit.finished and not unit.executing and self.waits_visible(unit, cycle):
                unit.executing, unit.started = True, cycle
                unit.banks = ocm_banks(self.hw, unit.instruction, unit.core, unit.cores)
                self.begin(unit, cycle)
            if unit.request_at == cycle:
                unit.request_at = None
                server = self.path if isinstance(unit.instruction, Send) else self.dram
                assert unit.core not in server.requests
                server.requests[unit.core] = unit

    def waits_visible(self, unit: UnitState, cycle: int) -> bool:
        for logical, value in unit.instruction.waits:
            other = self.units.get(unit.physical(logical))
            if other is None or len(other.retired) < value:
                return False
            if other is unit:
                latency = 0
            elif other.core == unit.core:
                latency = self.hw.sync.counter_latency_cycles
            else:
                latency = self.hw.sync.cross_core_latency_cycles
            if cycle < other.retired[value - 1] + latency:
                return False
        return True

    def begin(self, unit: UnitState, cycle: int) -> None:
        i = unit.instruction
        if isinstance(i, Barrier):
            self.meet(unit, cycle)
        elif isinstance(i, Sync | End):
            self.retire_later(unit, cycle + self.hw.sync.control_cycles)
        elif isinstance(i, Load | Store | Multicast):
            unit.groups = list(dram_groups(self.hw, i, unit.bases[i.segment]))
            unit.request_at = cycle + self.hw.sdma.issue_cycles
            self.announced.add(unit.request_at)
        elif isinstance(i, Send):
            unit.groups = list(path_groups(self.hw, i))
            unit.request_at = cycle + self.hw.sdma.issue_cycles
            self.announced.add(unit.request_at)
        elif unit.unit is Unit.SDMA:
            assert isinstance(i, Fill)
            runs = i.count_1 * i.count_2 * i.count_3
            one = pieces(i.run * item_bytes(i.data_type), self.hw.sdma.port_bytes_per_cycle)
            self.retire_later(unit, cycle + self.hw.sdma.issue_cycles + runs * one)
        elif unit.unit is Unit.CV:
            self.retire_later(unit, cycle + mover_cycles(self.hw, i))
        elif unit.unit is Unit.TENG:
            self.retire_later(unit, cycle + vector_cycles(self.hw, i))
        else:
            self.retire_later(unit, cycle + conv_unit_cycles(self.hw, i))

    def meet(self, unit: UnitState, cycle: int) -> None:
        i = unit.instruction
        participants = [unit.physical(n) for n in range(60) if i.units >> n & 1]
        me = unit.core * UNITS_PER_CORE + unit.unit
        occurrence = self.met.get((me, i.id), 0)
        self.met[me, i.id] = occurrence + 1
        arrived = self.barriers.setdefault((tuple(sorted(participants)), i.id, occurrence), [])
        arrived.append(unit)
        if len(arrived) == len(participants):
            one_core = len({other.core for other in arrived}) == 1
            sync = self.hw.sync
            latency = sync.counter_latency_cycles if one_core else sync.cross_core_latency_cycles
            del self.barriers[tuple(sorted(participants)), i.id, occurrence]
            for other in arrived:
                self.retire_later(other, cycle + latency)

    # Phase 3: arbitration.

    def arbitrate(self, cycle: int, order: list[UnitState]) -> None:
        for server in (self.dram, self.path):
            if server.serving is not None or not server.requests:
                continue
            core = (server.last_core + 1) % self.hw.machine.cores
            while core not in server.requests:
                core = (core + 1) % self.hw.machine.cores
            unit = server.requests.pop(core)
            server.serving, server.last_core = unit, core
            conflict = self.hw.ocm.conflict_cycles if self.conflicts(unit, order) else 0
            if server is self.dram:
                server.ends_at = self.serve_dram(unit, cycle, conflict)
            else:
                server.ends_at = cycle + unit.groups[0].amount + conflict
            self.announced.add(server.ends_at)

    def conflicts(self, transfer: UnitState, order: list[UnitState]) -> bool:
        return any(u.executing and u.unit is not Unit.SDMA and u.banks & transfer.banks for u in order)

    def serve_dram(self, unit: UnitState, cycle: int, conflict: int) -> int:
        """End of the service of the unit's group, granted at ``cycle``."""
        dram, group = self.hw.dram, unit.groups[0]
        start = cycle
        interval = dram.refresh_interval_cycles
        if interval:
            if cycle >= interval and cycle % interval < dram.refresh_cycles:
                start = cycle - cycle % interval + dram.refresh_cycles
            if start // interval > self.last_service // interval:
                self.open_pages.clear()
        self.last_service = start

        spent = conflict
        bank = group.page % dram.banks
        if self.open_pages.get(bank) != group.page:
            spent += dram.page_miss_cycles
            self.open_pages[bank] = group.page
        direction = "write" if isinstance(unit.instruction, Store) else "read"
        if self.last_direction not in ("", direction):
            spent += dram.turnaround_cycles
        self.last_direction = direction

        size = group.amount * dram.burst_bytes
        over_dram = math.ceil(Fraction(size) * Fraction(self.hw.machine.clock_hz) / Fraction(dram.bytes_per_second))
        return start + spent + max(over_dram, pieces(size, self.hw.sdma.port_bytes_per_cycle))
