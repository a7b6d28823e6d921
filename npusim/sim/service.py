"""``serve``: programs that are called again and again, each at its own pace, until all have been called often enough.

Time only: the calls and their cycles. A single run with values or a trace is ``simulate``'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npusim.config import Hardware
from npusim.errors import UsageError

from .engine import Engine
from .job import Demand, Job, Mode
from .loader import job_name, load
from .turns import Call, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What became of all calls.

    Attributes:
        cycles: cycle in which the last demand was met, and the run ended.
        calls: by job, in the order of their requests: those that had ended by then.
        open_requests: by job: cycles of the requests whose calls had not.
        dram_bytes: by job: bytes of the DRAM bursts that one call occupies.
    """

    cycles: int
    calls: tuple[tuple[Call, ...], ...]
    open_requests: tuple[tuple[int, ...], ...]
    dram_bytes: tuple[int, ...]


def serve(
    hardware: Hardware,
    jobs: Sequence[Job],
    demands: Sequence[Demand],
    *,
    allow_unverified: bool = False,
    told: Told | None = None,
) -> Served:
    """Call programs side by side until every one of them has been called as often as demanded.

    A job that has had its calls goes on being called until the last one has, so that none is measured on a machine
    that others have already left.

    Args:
        hardware: the machine, at rest at the beginning.
        jobs: what to call; jobs that share a core take turns, in the order of requests.
        demands: one for each job.
        allow_unverified: run programs that are not proven; one that stands still for good is an error.
        told: called with every call when it has ended.

    Raises:
        UsageError: jobs that do not fit the machine, or demands that make no sense.
        UnverifiedProgramError: a program that is not proven, or leaves its memory.
        DeadlockError: nothing can go on.
    """
    if len(jobs) != len(demands):
        raise UsageError(f"{len(demands)} demands for {len(jobs)} jobs: each job takes one")
    for job, demand in zip(jobs, demands, strict=True):
        _check(job, demand)
    loaded = load(hardware, jobs, Mode.TIME, allow_unverified)
    engine = Engine(loaded, demands=demands, told=told)
    if jobs:
        engine.run()
    turns, numbers = engine.turns, range(len(jobs))
    traffic = [sum(int(s.dram_bytes.sum()) for s in loaded.streams if s.job == n) for n in numbers]
    return Served(
        cycles=max((call.end for call in turns.calls), default=0),
        calls=tuple(tuple(call for call in turns.calls if call.job == n) for n in numbers),
        open_requests=tuple(tuple(requested for requested, job in turns.open_requests if job == n) for n in numbers),
        dram_bytes=tuple(b * demand.runs for b, demand in zip(traffic, demands, strict=True)),
    )


def _check(job: Job, demand: Demand) -> None:
    name = job_name(job)
    if not len(job.program):
        raise UsageError(f"job {name}: its program has no instructions, so that calls of it never end")
    if demand.period_cycles is not None and demand.period_cycles < 1:
        raise UsageError(f"job {name}: requests are at least a cycle apart, not {demand.period_cycles}")
    for key, least in (("gap_cycles", 0), ("runs", 1), ("calls", 1)):
        if getattr(demand, key) < least:
            raise UsageError(f"job {name}: {key} must be at least {least}, not {getattr(demand, key)}")
