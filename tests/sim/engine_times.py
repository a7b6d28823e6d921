"""The event engine behind the interface of the reference model, so that a test can run either.

Used by the tests of this folder that compare cycles.
"""

from __future__ import annotations

from collections.abc import Sequence

from isa.instruction import Unit
from isa.program import Program
from npusim.config import Hardware
from npusim.sim import Demand, Job, Mode, serve, simulate
from tests.sim.reference_model import CallTimes, Pace, Times


def engine_times(
    hardware: Hardware, jobs: Sequence[tuple[Program, Sequence[int]]], *, arrivals: Sequence[int] = ()
) -> Times:
    """Start and retire cycle of every instruction; arguments as ``reference_times``."""
    made = [
        Job(program=program, cores=tuple(cores), arrival_cycle=arrivals[number] if arrivals else 0)
        for number, (program, cores) in enumerate(jobs)
    ]
    trace = simulate(hardware, made, mode=Mode.TIME, allow_unverified=True).trace
    columns = (trace.job, trace.core, trace.unit, trace.position, trace.start, trace.end)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {(job, core, Unit(unit), position): (start, end) for job, core, unit, position, start, end in rows}


def engine_calls(
    hardware: Hardware, jobs: Sequence[tuple[Program, Sequence[int]]], *, arrivals: Sequence[int], paces: Sequence[Pace]
) -> CallTimes:
    """The calls of jobs that are called again and again; arguments as ``reference_calls``."""
    made = [Job(program=p, cores=tuple(c), arrival_cycle=a) for (p, c), a in zip(jobs, arrivals, strict=True)]
    demands = [Demand(calls=p.calls, period_cycles=p.period, gap_cycles=p.gap, runs=p.runs) for p in paces]
    served = serve(hardware, made, demands, allow_unverified=True)
    return sorted(tuple(call) for calls in served.calls for call in calls)
