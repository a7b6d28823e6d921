"""A profile: one run of one program with everything that page, plots and trace file show of it.

Made by ``profile`` for the session and the command line; drawn by the other modules of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from isa.program import Program
from npusim.config import Hardware
from npusim.report.curve import Curve
from npusim.report.occupancy import occupancy
from npusim.report.precision import LayerPrecision
from npusim.report.summary import Summary
from npusim.report.traffic import dram_traffic
from npusim.sim.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """One run of one program.

    Attributes:
        name: of the model or program.
        npu_mode: ``NPU1``: how many cores it was built for.
        hardware: the machine.
        cores: physical core of each logical one.
        summary: the figures.
        trace: of this job alone.
        ocm: bytes in use of the OCM of each of ``cores``.
        scratch: bytes in use of the DRAM that holds intermediate results.
        resident_bytes: what DRAM holds all the time, by kind of segment.
        reads: bytes a cycle from DRAM.
        writes: bytes a cycle to DRAM.
        sources: ONNX nodes of each layer that has any, by the layer's name.
        precision: what a precision analysis found; empty where there was none.
        versions: of what built the model, by name.
    """

    name: str
    npu_mode: str
    hardware: Hardware
    cores: tuple[int, ...]
    summary: Summary
    trace: Trace
    ocm: tuple[Curve, ...]
    scratch: Curve
    resident_bytes: Mapping[str, int]
    reads: Curve
    writes: Curve
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    precision: tuple[LayerPrecision, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def ocm_peak_bytes(self) -> int:
        """Most bytes ever in use in one core's OCM."""
        return max((int(curve.peak) for curve in self.ocm), default=0)

    @property
    def title(self) -> str:
        """``swin_t on NPU3 of ax650n``."""
        return f"{self.name} on {self.npu_mode} of {self.hardware.machine.name}"


def profile(
    programs: Sequence[Program],
    trace: Trace,
    summary: Summary,
    hardware: Hardware,
    *,
    name: str,
    cores: Sequence[int],
    job: int = 0,
    sources: Mapping[str, tuple[str, ...]] | None = None,
    precision: Sequence[LayerPrecision] = (),
    versions: Mapping[str, str] | None = None,
) -> Profile:
    """Everything a report shows of one job.

    Args:
        programs: what ran, one after the other.
        trace: of the run; other jobs in it are left aside.
        summary: the figures of the job.
        hardware: the machine.
        name: of the model or program.
        cores: physical core of each logical one.
        job: position of the job in the run.
        sources: ONNX nodes by layer.
        precision: what a precision analysis found.
        versions: of what built the model.
    """
    mine = trace.select(job=job)
    ocm, scratch = occupancy(programs, mine, cores, hardware.ocm.bytes)
    reads, writes = dram_traffic(mine)
    resident: dict[str, int] = {}
    for segment in (segment for program in programs for segment in program.segments):
        resident[str(segment.kind)] = resident.get(str(segment.kind), 0) + segment.size_bytes
    return Profile(
        name=name, npu_mode=f"NPU{len(cores)}", hardware=hardware, cores=tuple(cores), summary=summary, trace=mine,
        ocm=ocm, scratch=scratch, resident_bytes=resident, reads=reads, writes=writes, sources=sources or {},
        precision=tuple(precision), versions=versions or {},
    )  # fmt: skip
