"""The event engine behind the interface of the reference model, so that a test can run either.

Used by the tests of this folder that compare cycles.
"""

from __future__ import annotations

from collections.abc import Sequence

from isa.instruction import Unit
from isa.program import Program
from npusim.config import Hardware
from npusim.sim import Job, Mode, simulate
from tests.sim.reference_model import Times


def engine_times(
    hardware: Hardware, jobs: Sequence[tuple[Program, Sequence[int]]], *, arrivals: Sequence[int] = ()
) -> Times:
    """Start and retire cycle of every instruction; arguments as ``reference_times``."""
    made = [
        Job(program=program, cores=tuple(cores), arrival_cycle=arrivals[number] if arrivals else 0)
        for number, (program, cores) in enumerate(jobs)
    ]
    trace = simulate(hardware, made, mode=Mode.TIME, allow_unverified=True).trace
    columns = (trace.core, trace.unit, trace.position, trace.start, trace.end)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {(core, Unit(unit), position): (start, end) for core, unit, position, start, end in rows}
