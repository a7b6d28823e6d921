"""Streams as the machine reads them: what the loader prepares once, in lists the event loop indexes.

Made by ``loader``; read by the engine, the executor and the trace. No simulated time passes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from isa.instruction import OPCODES, UNITS_PER_CORE
from isa.program import Program
from npusim.config import Hardware

from .job import Job
from .trace import physical_name


class Way(IntEnum):
    """Where a transfer's groups are served."""

    NONE = -1
    DRAM_READ = 0
    DRAM_WRITE = 1
    PATH = 2


class Meeting(NamedTuple):
    """One barrier instruction.

    Attributes:
        name: the barrier's id.
        units: participating logical unit numbers, ascending.
        turn: how many barriers of this id came before it on this unit.
    """

    name: int
    units: tuple[int, ...]
    turn: int


class Watch(NamedTuple):
    """The OCM banks a transfer touches on one physical core, as a bit mask."""

    core: int
    banks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Where a program was put.

    Attributes:
        hardware: the machine.
        job: index of the job.
        cores: physical core of each logical one.
        bases: physical DRAM address of each segment.
    """

    hardware: Hardware
    job: int
    cores: tuple[int, ...]
    bases: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfers:
    """The transfers of one sdma stream; every list but the last two has an entry per instruction of the stream.

    Attributes:
        first: index of the instruction's first group; one entry more than instructions, so that the groups of
            instruction i are ``first[i] .. first[i + 1] - 1``.
        way: ``Way`` of each.
        latency: cycles from the end of the last group to the retirement.
        watched: OCM banks it touches.
        page: by group: number of the DRAM page, 0 on the core path.
        data: by group: cycles of its data, or its flits on the core path.
    """

    first: list[int]
    way: list[int]
    latency: list[int]
    watched: list[tuple[Watch, ...]]
    page: list[int]
    data: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One unit's stream, an entry per instruction in every list and array.

    Attributes:
        number: physical unit number.
        logical: logical unit number in the program.
        job: index of the job.
        opcode: int32[n].
        durations: cycles from start to retirement; 0 for transfers and barriers, whose end the machine finds.
        banks: mask of the OCM banks streamed from; 0 for sdma.
        wait_units: int64[n, w], physical unit number waited for, -1 for none.
        wait_values: int64[n, w].
        waits: the same as (physical unit number, value) pairs.
        meetings: barriers by position.
        transfers: of an sdma stream that has any.
        written_bytes: int64[n].
        dram_bytes: int64[n].
        macs: int64[n].
        origin: int32[n].
    """

    number: int
    logical: int
    job: int
    opcode: np.ndarray[Any, Any]
    durations: list[int]
    banks: list[int]
    wait_units: np.ndarray[Any, Any]
    wait_values: np.ndarray[Any, Any]
    waits: list[tuple[tuple[int, int], ...]]
    meetings: Mapping[int, Meeting]
    transfers: Transfers | None
    written_bytes: np.ndarray[Any, Any]
    dram_bytes: np.ndarray[Any, Any]
    macs: np.ndarray[Any, Any]
    origin: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.durations)

    @property
    def key(self) -> tuple[int, int]:
        """Job and physical unit number, which no two streams share."""
        return self.job, self.number

    @property
    def name(self) -> str:
        """The physical unit, such as ``core1.sdma``."""
        return physical_name(self.number)

    def mnemonic(self, position: int) -> str:
        """Name of an instruction."""
        return OPCODES[int(self.opcode[position])].layout.mnemonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Everything a run needs.

    Attributes:
        hardware: the machine.
        jobs: as given.
        cores: by job: the physical core of each logical one.
        bases: by job: physical DRAM address of each segment.
        streams: in the order of physical unit numbers, then of jobs.
    """

    hardware: Hardware
    jobs: Sequence[Job]
    cores: Sequence[tuple[int, ...]]
    bases: Sequence[tuple[int, ...]]
    streams: Sequence[Stream]

    def __len__(self) -> int:
        return sum(len(stream) for stream in self.streams)

    def program(self, stream: Stream) -> Program:
        """The program a stream belongs to."""
        return self.jobs[stream.job].program

    def physical(self, job: int, logical: int) -> int:
        """Physical unit number of a job's logical one."""
        core, unit = divmod(logical, UNITS_PER_CORE)
        return self.cores[job][core] * UNITS_PER_CORE + unit

    def describe(self, stream: Stream, position: int) -> str:
        """``matmul for layer1/tile0 of job swin``, for messages."""
        program = self.program(stream)
        origin = program.origin(stream.logical, position)
        words = [stream.mnemonic(position)]
        if origin:
            words.append(f"for {origin}")
        if len(self.jobs) > 1:
            words.append(f"of job {self.jobs[stream.job].name or program.name}")
        return " ".join(words)
