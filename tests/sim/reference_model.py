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

Times = dict[tuple[int, Unit, int], tuple[int, int]]
"""(physical core, unit, position in the stream) -> (start cycle, retire cycle)."""


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
        jobs: programs, each with the physical cores of its logical cores 0, 1, ...; no core twice.
        arrivals: the cycle in which each job may begin; 0 without.
        every_cycle: visit every cycle, also those for which nothing was announced.
    """
    machine = Machine(hardware)
    next_free = 0
    for number, (program, cores) in enumerate(jobs):
        bases = []
        for segment in program.segments:
            while next_free % hardware.dram.page_bytes:
                next_free += 1
            bases.append(next_free)
            next_free += segment.size_bytes
        machine.place(program, list(cores), bases, arrivals[number] if arrivals else 0)
    return machine.run(every_cycle)


# --------------------------------------------------------------------------------------------- the machine's parts


@dataclass
class UnitState:
    """One physical unit: its stream, and where it is in it."""

    core: int
    unit: Unit
    stream: list[Instruction]
    cores: list[int]
    """Physical core of each logical one of the job."""
    bases: list[int]
    arrival: int
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
        self.units: dict[int, UnitState] = {}
        self.dram, self.path = Server(), Server()
        self.open_pages: dict[int, int] = {}
        self.last_service = 0
        self.last_direction = ""
        self.barriers: dict[tuple[tuple[int, ...], int, int], list[UnitState]] = {}
        self.met: dict[tuple[int, int], int] = {}
        self.announced: set[int] = {0}
        self.times: Times = {}

    def place(self, program: Program, cores: list[int], bases: list[int], arrival: int) -> None:
        for number in program.streams:
            core, unit = cores[number // UNITS_PER_CORE], Unit(number % UNITS_PER_CORE)
            physical = core * UNITS_PER_CORE + unit
            assert physical not in self.units, "two jobs on one core"
            self.units[physical] = UnitState(core, unit, program.instructions(number), cores, bases, arrival)
        self.announced.add(arrival)

    def run(self, every_cycle: bool) -> Times:
        order = [self.units[number] for number in sorted(self.units)]
        cycle = 0
        while not all(unit.finished for unit in order):
            if cycle in self.announced or every_cycle:
                self.complete(cycle, order)
                self.issue(cycle, order)
                self.arbitrate(cycle, order)
                self.announced = {later for later in self.announced if later > cycle}
            if not self.announced:
                stuck = [f"core{u.core}.{u.unit}[{len(u.retired)}]" for u in order if not u.finished]
                assert not stuck, f"deadlock at cycle {cycle}: {stuck}"
            cycle = cycle + 1 if every_cycle else min(self.announced, default=cycle)
        return self.times

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
                self.times[unit.core, unit.unit, len(unit.retired)] = (unit.started, cycle)
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
            if not unit.finished and not unit.executing and cycle >= unit.arrival and self.waits_visible(unit, cycle):
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
