"""The figures of one job, from its trace: cycles, latency, utilization, traffic, and the same by layer.

Used by the command line and the session. A *layer* is what instructions were made for: their origin.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isa.instruction import OPCODES, UNITS_PER_CORE
from npusim.config import Hardware
from npusim.report.critical import Bound, bounds_of, by_bound, predecessors, spent, walk
from npusim.report.shown import summary_html
from npusim.sim.trace import Trace, physical_name


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
        active_cycles: in which at least one of its instructions executed.
        critical_cycles: its part of the critical path of the whole job; these add up, 0 means hidden behind others.
        macs: multiply-accumulates.
        dram_bytes: bytes of the DRAM bursts it occupied.
        bound_by: compute, vector, move, dram or sync: what its own critical path spends most cycles on, which goes from
            its last retirement backwards, each instruction to what it waited for, while these are its own.
    """

    name: str
    op: str
    cycles: int
    start: int
    end: int
    busy_cycles: int
    active_cycles: int
    critical_cycles: int
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
class CpuWork:
    """What a part of a model costs that runs on the host (microarchitecture 7).

    Attributes:
        name: of the part.
        ops: its ONNX operators, each once, in their order.
        operators: how many there are.
        flops: arithmetic operations.
        bytes: what the operators read and write.
        copied_bytes: what goes to the host and back.
        ms: time.
        node: the first ONNX node that has no integer operation.
        reason: why.
    """

    name: str
    ops: tuple[str, ...]
    operators: int
    flops: int
    bytes: int
    copied_bytes: int
    ms: float
    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one job.

    Attributes:
        cycles: of the NPU, from having its cores to its last retirement.
        latency_ms: ``cycles / clock``, the host's cost of a call, ``machine.launch_ms``, and ``host_ms``.
        fps: calls a second, one after the other: ``1000 / latency_ms``.
        macs: multiply-accumulates.
        mac_utilization: ``macs`` over what its cores could do in ``cycles``, 0..1.
        tops: operations a second in ``cycles``, 1 MAC = 2 operations, in 1e12.
        dram_bytes: bytes of all DRAM bursts.
        dram_gb_per_second: the same over the time of ``cycles``, in 1e9 bytes.
        critical_cycles: the critical path of the job, from its first start to its last retirement, by what its cycles
            were spent on (``npusim.report.critical``).
        units: every unit that executed anything, by physical number.
        layers: by first start.
        host_ms: of the parts on the CPU, and of the further launches they bring with them; 0 where there are none.
        cpu_parts: each of those parts.
    """

    cycles: int
    latency_ms: float
    fps: float
    macs: int
    mac_utilization: float
    tops: float
    dram_bytes: int
    dram_gb_per_second: float
    critical_cycles: dict[str, int]
    units: tuple[UnitUse, ...]
    layers: tuple[Layer, ...]
    host_ms: float = 0.0
    cpu_parts: tuple[CpuWork, ...] = ()

    def record(self) -> dict[str, Any]:
        """Plain values for JSON, with the field names of this class."""
        return asdict(self)

    def __repr__(self) -> str:
        return f"<Summary: {self.cycles:,} cycles, {self.latency_ms:.3f} ms, {len(self.layers)} layers>"

    def _repr_html_(self) -> str:
        return summary_html(f"{self.cycles:,} cycles, {self.latency_ms:.3f} ms", self)


def summarize(trace: Trace, hardware: Hardware, job: int, cycles: int, cores: int) -> Summary:
    """The figures of one job.

    Args:
        trace: of the run; other jobs in it are left aside.
        hardware: the machine.
        job: position of the job in the run.
        cycles: from having its cores to its last retirement.
        cores: how many it has.
    """
    mine = trace.select(job=job)
    seconds = cycles / hardware.machine.clock_hz
    latency_ms = seconds * 1e3 + hardware.machine.launch_ms
    macs, dram_bytes = int(mine.macs.sum()), int(mine.dram_bytes.sum())
    capacity = cycles * cores * hardware.peak_macs_per_cycle // hardware.machine.cores
    before, kinds = predecessors(mine, hardware), bounds_of(mine)
    path = walk(mine, before, len(mine) - 1, inside=False) if len(mine) else np.zeros(0, np.int64)
    return Summary(
        cycles=cycles,
        latency_ms=latency_ms,
        fps=1e3 / latency_ms if latency_ms else 0.0,
        macs=macs,
        mac_utilization=macs / capacity if capacity else 0.0,
        tops=2e-12 * macs / seconds if seconds else 0.0,
        dram_bytes=dram_bytes,
        dram_gb_per_second=1e-9 * dram_bytes / seconds if seconds else 0.0,
        critical_cycles={str(bound): n for bound, n in by_bound(mine, kinds, before, path).items()},
        units=_units(mine, cycles),
        layers=_layers(mine, job, before, kinds, path),
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


def _layers(
    trace: Trace,
    job: int,
    before: np.ndarray[Any, Any],
    kinds: np.ndarray[Any, Any],
    path: np.ndarray[Any, Any],
) -> tuple[Layer, ...]:
    critical = np.zeros(len(trace), np.int64)
    critical[path] = spent(trace, before, path)
    order = np.argsort(trace.origin, kind="stable")
    borders = np.flatnonzero(np.diff(trace.origin[order])) + 1
    layers = []
    for rows in np.split(order, borders):  # each in the order of retirement, as the trace is
        if rows.size and trace.origin[rows[0]] >= 0:
            own = by_bound(trace, kinds, before, walk(trace, before, int(rows[-1]), inside=True))
            name = trace.origin_names[job][int(trace.origin[rows[0]])]
            layers.append(_layer(trace.take(rows), name, int(critical[rows].sum()), max(own, key=own.__getitem__)))
    return tuple(sorted(layers, key=lambda layer: (layer.start, layer.end, layer.name)))


def _layer(trace: Trace, name: str, critical_cycles: int, bound_by: Bound) -> Layer:
    busy = trace.end - trace.start
    by_opcode = np.bincount(trace.opcode, weights=busy)
    opcodes = sorted(np.unique(trace.opcode).tolist(), key=lambda opcode: (-by_opcode[opcode], opcode))
    start, end = int(trace.start.min()), int(trace.end.max())
    return Layer(
        name=name,
        op="+".join(OPCODES[opcode].layout.mnemonic for opcode in opcodes),
        cycles=end - start,
        start=start,
        end=end,
        busy_cycles=int(busy.sum()),
        active_cycles=_covered(trace.start, trace.end),
        critical_cycles=critical_cycles,
        macs=int(trace.macs.sum()),
        dram_bytes=int(trace.dram_bytes.sum()),
        bound_by=str(bound_by),
    )


def _covered(start: np.ndarray[Any, Any], end: np.ndarray[Any, Any]) -> int:
    """Cycles in at least one of the intervals ``[start, end)``."""
    order = np.argsort(start, kind="stable")
    reach = np.maximum.accumulate(end[order])
    begin = np.maximum(start[order], np.concatenate(([0], reach[:-1])))
    return int(np.maximum(end[order] - begin, 0).sum())
