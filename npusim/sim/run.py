"""``simulate``: programs on the machine, from jobs to results.

The front door of this package; what happens behind it is listed in ``simulate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npusim.config import Hardware
from npusim.errors import SimulationError, UsageError

from . import performers
from .engine import Engine, Timeline
from .executor import Executor
from .job import Job, Mode
from .loader import job_name, load
from .record import record_trace
from .stream import Loaded
from .trace import Trace

assert performers.__doc__, "imported for its entries in the executor's registry"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobResult:
    """What became of one job.

    Attributes:
        name: the job's.
        cores: physical core of each logical one.
        arrival: cycle of its request.
        begin: cycle in which it had its cores; later than ``arrival`` where an earlier job had one of them. None in
            ``Mode.VALUES``.
        end: cycle in which its last instruction retired; None in ``Mode.VALUES``.
        outputs: bytes of the output segments, uint8[size] by name; empty in ``Mode.TIME``.
    """

    name: str
    cores: tuple[int, ...]
    arrival: int
    begin: int | None
    end: int | None
    outputs: dict[str, np.ndarray[Any, Any]]

    @property
    def cycles(self) -> int:
        """Cycles from having its cores to the last retirement.

        Raises:
            SimulationError: the run had no time.
        """
        return _timed(self.end) - _timed(self.begin)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """What a run produced.

    Attributes:
        hardware: the machine.
        mode: what was asked for.
        jobs: in the order given.
        instructions: how many were executed.
        burst_groups: how many groups DRAM and core path served; 0 in ``Mode.VALUES``.
        recorded: the trace, or None; ``trace`` is the same, or an error.
    """

    hardware: Hardware
    mode: Mode
    jobs: tuple[JobResult, ...]
    instructions: int
    burst_groups: int
    recorded: Trace | None

    @property
    def cycles(self) -> int:
        """Cycle in which the last instruction of all jobs retired.

        Raises:
            SimulationError: the run had no time.
        """
        return max((_timed(job.end) for job in self.jobs), default=0)

    @property
    def trace(self) -> Trace:
        """Every instruction's start and retire cycle.

        Raises:
            SimulationError: the run had no time, or was asked for no trace.
        """
        if self.recorded is None:
            raise SimulationError("no trace was recorded: ask for one, in a mode with time")
        return self.recorded

    @property
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Outputs of the only job.

        Raises:
            SimulationError: there are several jobs.
        """
        if len(self.jobs) != 1:
            raise SimulationError(f"{len(self.jobs)} jobs have outputs each: see jobs[i].outputs")
        return self.jobs[0].outputs


def simulate(
    hardware: Hardware,
    jobs: Sequence[Job] | Job,
    *,
    mode: Mode = Mode.FULL,
    allow_unverified: bool = False,
    max_cycles: int | None = None,
    trace: bool = True,
    fill: int = 0,
) -> Result:
    """Run programs side by side, and one after the other where they share cores.

    The same jobs give the same values and the same cycles, always. Each has memories of its own.

    Args:
        hardware: the machine.
        jobs: what to run; jobs that share a core take turns.
        mode: values, time, or both.
        allow_unverified: run programs that are not proven. Their races have a defined outcome (reads and writes
            happen at retirement, in the order of physical units within a cycle), their deadlocks are errors; accesses
            out of bounds are refused all the same.
        max_cycles: the last cycle that may happen.
        trace: whether to record one.
        fill: byte that OCM, output and scratch segments hold before the run. A proven program cannot tell: two runs
            with different bytes and different outputs show a read of something nobody wrote.

    Raises:
        UsageError: jobs that do not fit the machine or their inputs.
        UnverifiedProgramError: a program that is not proven, or leaves its memory.
        DeadlockError: nothing can go on; the message says who waits for what.
        CycleLimitError: instructions are left after ``max_cycles``; so does this one.
        MachineFault: an instruction found something it cannot compute with.
    """
    jobs = (jobs,) if isinstance(jobs, Job) else tuple(jobs)
    if not 0 <= fill <= 255:
        raise UsageError(f"fill is a byte, not {fill}")
    if max_cycles is not None and max_cycles < 1:
        raise UsageError(f"max_cycles must be at least 1, not {max_cycles}")
    # checked and mapped onto cores and DRAM, decoded once
    loaded = load(hardware, jobs, mode, allow_unverified)
    # memories, unless nobody asks for values
    executor = None if mode is Mode.TIME else Executor(loaded, fill)
    # the event loop, or an order without time
    timeline = None
    if mode is not Mode.VALUES:
        timeline = Engine(loaded, executor.perform if executor else None).run(max_cycles)
    elif executor is not None:
        executor.run()
    # what is left to say
    return Result(
        hardware=hardware,
        mode=mode,
        jobs=tuple(_job_result(loaded, index, timeline, executor) for index in range(len(jobs))),
        instructions=len(loaded),
        burst_groups=_groups(loaded) if timeline else 0,
        recorded=record_trace(loaded, timeline) if timeline and trace else None,
    )


def _job_result(loaded: Loaded, index: int, timeline: Timeline | None, executor: Executor | None) -> JobResult:
    job = loaded.jobs[index]
    begin = end = None
    if timeline is not None:
        begin = timeline.begins[index]
        mine = (ends[-1] for ends, s in zip(timeline.ends, loaded.streams, strict=True) if s.job == index)
        end = max(mine, default=begin)
    return JobResult(
        name=job_name(job),
        cores=loaded.cores[index],
        arrival=job.arrival_cycle,
        begin=begin,
        end=end,
        outputs={} if executor is None else executor.outputs(index),
    )


def _groups(loaded: Loaded) -> int:
    return sum(len(stream.transfers.data) for stream in loaded.streams if stream.transfers is not None)


def _timed(cycle: int | None) -> int:
    if cycle is None:
        raise SimulationError("a run for values only has no cycles")
    return cycle
