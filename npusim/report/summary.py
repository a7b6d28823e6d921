"""The figures of one job, from its trace: cycles, latency, utilization, traffic, and the same by layer.

Used by the command line and the session. A *layer* is what instructions were made for: their origin.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isa.instruction import OPCODES, UNITS_PER_CORE, Unit
from npusim.config import Hardware
from npusim.sim.trace import Trace, physical_name

BOUND_BY = {
    Unit.CONV0: "compute",
    Unit.CONV1: "compute",
    Unit.TENG: "vector",
    Unit.CV: "move",
    Unit.SDMA: "dram",
}
"""What a layer is bound by when this unit is the busiest of those that work for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What was made for one origin.

    Attributes:
        name: the origin.
        op: mnemonics of its instructions, the busiest first.
        cycles: from its first start to its last retirement; layers overlap, so these do not add up.
        start: first start, cycle.
        end: last retirement, cycle.
        busy_cycles: sum over its instructions.
        macs: multiply-accumulates.
        dram_bytes: bytes of the DRAM bursts it occupied.
        bound_by: compute, vector, move or dram: the kind of its busiest unit; sync where it only waits.
    """

    name: str
    op: str
    cycles: int
    start: int
    end: int
    busy_cycles: int
    macs: int
    dram_bytes: int
    bound_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitUse:
    """What one physical unit did.

    Attributes:
        name: ``core0.conv1``.
        instructions: how many retired.
        busy_cycles: cycles it executed.
        stall_cycles: cycles it stood still before its last instruction.
        utilization: share of the job's cycles in which it executed, 0..1.
    """

    name: str
    instructions: int
    busy_cycles: int
    stall_cycles: int
    utilization: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one job.

    Attributes:
        cycles: from its arrival to its last retirement.
        latency_ms: ``cycles / clock`` and the host's cost of a call, ``machine.launch_ms``.
        fps: calls a second, one after the other: ``1000 / latency_ms``.
        macs: multiply-accumulates.
        mac_utilization: ``macs`` over what its cores could do in ``cycles``, 0..1.
        dram_bytes: bytes of all DRAM bursts.
        units: every unit that executed anything, by physical number.
        layers: by first start.
    """

    cycles: int
    latency_ms: float
    fps: float
    macs: int
    mac_utilization: float
    dram_bytes: int
    units: tuple[UnitUse, ...]
    layers: tuple[Layer, ...]

    def record(self) -> dict[str, Any]:
        """Plain values for JSON, with the field names of this class."""
        return asdict(self)


def summarize(trace: Trace, hardware: Hardware, job: int, cycles: int, cores: int) -> Summary:
    """The figures of one job.

    Args:
        trace: of the run; other jobs in it are left aside.
        hardware: the machine.
        job: position of the job in the run.
        cycles: from its arrival to its last retirement.
        cores: how many it has.
    """
    mine = trace.select(job=job)
    latency_ms = cycles / hardware.machine.clock_hz * 1e3 + hardware.machine.launch_ms
    macs = int(mine.macs.sum())
    capacity = cycles * cores * hardware.peak_macs_per_cycle // hardware.machine.cores
    return Summary(
        cycles=cycles,
        latency_ms=latency_ms,
        fps=1e3 / latency_ms if latency_ms else 0.0,
        macs=macs,
        mac_utilization=macs / capacity if capacity else 0.0,
        dram_bytes=int(mine.dram_bytes.sum()),
        units=_units(mine, cycles),
        layers=_layers(mine, job),
    )


def _units(trace: Trace, cycles: int) -> tuple[UnitUse, ...]:
    numbers = trace.core.astype(np.int64) * UNITS_PER_CORE + trace.unit
    uses = []
    for number in np.unique(numbers).tolist():
        rows = numbers == number
        busy = int((trace.end - trace.start)[rows].sum())
        uses.append(
            UnitUse(
                name=physical_name(number),
                instructions=int(rows.sum()),
                busy_cycles=busy,
                stall_cycles=int(trace.stall_cycles[rows].sum()),
                utilization=busy / cycles if cycles else 0.0,
            )
        )
    return tuple(uses)


def _layers(trace: Trace, job: int) -> tuple[Layer, ...]:
    order = np.argsort(trace.origin, kind="stable")
    borders = np.flatnonzero(np.diff(trace.origin[order])) + 1
    groups = [rows for rows in np.split(order, borders) if rows.size and trace.origin[rows[0]] >= 0]
    layers = [_layer(trace.take(rows), trace.origin_names[job]) for rows in groups]
    return tuple(sorted(layers, key=lambda layer: (layer.start, layer.end, layer.name)))


def _layer(trace: Trace, names: tuple[str, ...]) -> Layer:
    busy = trace.end - trace.start
    by_unit = np.bincount(trace.unit, weights=busy * (trace.bytes > 0), minlength=UNITS_PER_CORE)
    by_opcode = np.bincount(trace.opcode, weights=busy)
    opcodes = sorted(np.unique(trace.opcode).tolist(), key=lambda opcode: (-by_opcode[opcode], opcode))
    start, end = int(trace.start.min()), int(trace.end.max())
    return Layer(
        name=names[int(trace.origin[0])],
        op="+".join(OPCODES[opcode].layout.mnemonic for opcode in opcodes),
        cycles=end - start,
        start=start,
        end=end,
        busy_cycles=int(busy.sum()),
        macs=int(trace.macs.sum()),
        dram_bytes=int(trace.dram_bytes.sum()),
        bound_by=BOUND_BY[Unit(int(by_unit.argmax()))] if by_unit.any() else "sync",
    )
