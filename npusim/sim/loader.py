"""The loader: checks jobs and maps them onto cores and DRAM; the streams it then has decoded are ready to run.

Called by ``simulate``. What it makes is described in ``stream``; the values in memory are the executor's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isa.program import Program, SegmentKind
from isa.region import ceil_div
from isa.verify import Limits, check_bounds, is_stamped, verify
from npusim.config import Hardware
from npusim.errors import UnverifiedProgramError, UsageError, did_you_mean

from .decode import decode
from .job import Job, Mode
from .stream import Home, Loaded


def load(hardware: Hardware, jobs: Sequence[Job], mode: Mode, allow_unverified: bool) -> Loaded:
    """Check, map and decode.

    Raises:
        UsageError: jobs that do not fit the machine, or inputs that do not fit their program.
        UnverifiedProgramError: a program that is not proven, or, whatever was allowed, one that leaves its memory.
    """
    cores = _map_cores(hardware, jobs)
    for job in jobs:
        _check_inputs(job, mode)
        _check_program(job.program, hardware, allow_unverified)
    bases = _map_segments(hardware, jobs)
    streams = []
    for index, job in enumerate(jobs):
        home = Home(hardware=hardware, job=index, cores=cores[index], bases=bases[index])
        streams += decode(home, job.program)
    streams.sort(key=lambda stream: (stream.number, stream.job))
    return Loaded(hardware=hardware, jobs=tuple(jobs), cores=cores, bases=bases, streams=streams)


# --------------------------------------------------------------------------------------------------- checks and maps


def job_name(job: Job) -> str:
    """Its own name, or its program's."""
    return job.name or job.program.name


def _map_cores(hardware: Hardware, jobs: Sequence[Job]) -> list[tuple[int, ...]]:
    """The physical cores of each job."""
    maps = []
    for job in jobs:
        name, wanted, there = job_name(job), job.program.cores, hardware.machine.cores
        cores = tuple(range(wanted)) if job.cores is None else tuple(job.cores)
        if len(cores) != wanted:
            raise UsageError(f"job {name}: its program has {wanted} cores, but it is mapped to {len(cores)}: {cores}")
        for core in cores:
            if not 0 <= core < there:
                raise UsageError(f"job {name}: the machine has no core {core}; its {there} cores count from 0")
            if cores.count(core) > 1:
                raise UsageError(f"job {name}: is mapped to core {core} twice")
        if job.arrival_cycle < 0:
            raise UsageError(f"job {name}: cannot arrive at cycle {job.arrival_cycle}")
        maps.append(cores)
    return maps


def _map_segments(hardware: Hardware, jobs: Sequence[Job]) -> list[tuple[int, ...]]:
    """Physical addresses: one segment after the other, each at the start of a page."""
    maps, address = [], 0
    page = hardware.dram.page_bytes
    for job in jobs:
        bases = []
        for segment in job.program.segments:
            bases.append(address)
            address += page * int(ceil_div(segment.size_bytes, page))
        maps.append(tuple(bases))
    if address > hardware.dram.bytes:
        names = ", ".join(job_name(job) for job in jobs)
        raise UsageError(f"{names}: segments take {address} bytes of DRAM, the machine has {hardware.dram.bytes}")
    return maps


def limits_of(hardware: Hardware) -> Limits:
    """What a proof assumes of this machine."""
    return Limits(cores=hardware.machine.cores, ocm_bytes=hardware.ocm.bytes)


def _check_program(program: Program, hardware: Hardware, allow_unverified: bool) -> None:
    limits = limits_of(hardware)
    if allow_unverified or is_stamped(program, limits):
        violations = check_bounds(program, limits)
    else:
        violations = verify(program, limits).violations
    if violations:
        raise UnverifiedProgramError(violations)


def _check_inputs(job: Job, mode: Mode) -> None:
    """Refuse inputs that the program does not have, of the wrong size, or missing."""
    segments = {s.name: s for s in job.program.segments}
    allowed = job.program.segment_names(SegmentKind.INPUT)
    for name, given in job.inputs.items():
        if name not in allowed:
            what = f"segment {name!r} is no input" if name in segments else f"there is no input {name!r}"
            there = f"it has {', '.join(allowed)}" if allowed else "the program takes none"
            raise UsageError(f"job {job_name(job)}: {what}; {there}", did_you_mean(name, allowed))
        size, wanted = input_bytes(given).size, segments[name].size_bytes
        if size != wanted:
            raise UsageError(f"job {job_name(job)}: input {name!r} has {size} bytes, the program takes {wanted}")
    missing = [name for name in allowed if name not in job.inputs and segments[name].data is None]
    if missing and mode is not Mode.TIME:
        raise UsageError(f"job {job_name(job)}: input {', '.join(map(repr, missing))} is missing")


def input_bytes(given: Any) -> np.ndarray[Any, Any]:
    """The bytes of an input in C order, uint8[n]."""
    if isinstance(given, np.ndarray):
        return np.ascontiguousarray(given).reshape(-1).view(np.uint8)
    return np.frombuffer(given, dtype=np.uint8)
