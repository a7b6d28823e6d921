"""The executor: the values of a run, in the memories of its jobs.

Used by ``simulate``: at every retirement, or in an order of its own where nobody asks for time. An instruction means
what its ``operation`` says; a kernel that computes the same faster registers itself with ``executes``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from isa.errors import AccessError
from isa.instruction import UNITS_PER_CORE, Instruction
from isa.memory import Memory
from isa.program import SegmentKind
from npusim.errors import DeadlockError, MachineFault

from .job import Job
from .loader import input_bytes
from .standstill import standing
from .stream import Loaded, Stream

Handler = Callable[[Any, Memory], None]
HANDLERS: dict[type[Instruction], Handler] = {}
"""What performs an instruction in place of its ``operation``."""

_ALIGN = 64
"""Memories begin at a multiple of this address of the host, as vector loads like it."""

_F = TypeVar("_F", bound=Handler)


def executes(*classes: type[Instruction]) -> Callable[[_F], _F]:
    """Enter a function ``(instruction, memory) -> None`` that performs instructions of ``classes``.

    It reads and writes exactly the bytes that ``operation`` would and raises ``AccessError`` where that would. The
    loader has checked that every declared region lies in its memory; what is found in memory, such as an index, the
    function checks itself.
    """

    def enter(function: _F) -> _F:
        for cls in classes:
            assert cls not in HANDLERS, f"{cls.layout.mnemonic} is executed twice"
            HANDLERS[cls] = function
        return function

    return enter


class Executor:
    """The memories of all jobs, and their instructions decoded.

    Args:
        loaded: the streams.
        fill: byte that OCM, outputs and scratch hold before the run.
    """

    def __init__(self, loaded: Loaded, fill: int) -> None:
        self._loaded = loaded
        ocm_bytes = loaded.hardware.ocm.bytes
        ocm = [[_filled(ocm_bytes, fill) for _ in range(job.program.cores)] for job in loaded.jobs]
        self._dram = [_segments(job, fill) for job in loaded.jobs]
        self._memories = [
            Memory(ocm[s.job], self._dram[s.job], s.logical // UNITS_PER_CORE) for s in loaded.streams
        ]  # fmt: skip
        self._work = [
            [(HANDLERS.get(type(i), type(i).operation), i) for i in loaded.instructions(s)] for s in loaded.streams
        ]  # fmt: skip

    def perform(self, index: int, position: int, cycle: int | None = None) -> None:
        """Do the arithmetic of an instruction.

        Raises:
            MachineFault: it reads or writes where it must not, or finds operands that nothing can compute with.
        """
        handler, instruction = self._work[index][position]
        try:
            handler(instruction, self._memories[index])
        except AccessError as error:
            stream = self._loaded.streams[index]
            message = f"{self._loaded.describe(stream, position)}: {error}"
            raise MachineFault(message, unit=stream.name, index=position, cycle=cycle) from error

    def run(self) -> None:
        """Perform everything: each unit in turn as far as its waits allow, in the order of physical unit numbers.

        Raises:
            DeadlockError: instructions are left that nothing will ever let start.
        """
        streams = self._loaded.streams
        retired = Counter({stream.key: 0 for stream in streams})  # 0 for units without work, too
        arrived: dict[tuple[int, Any], list[tuple[int, int]]] = {}
        standing_at: set[tuple[int, int]] = set()  # units at a barrier that others have not reached
        moved = True
        while moved:
            moved = False
            for index, stream in enumerate(streams):
                while retired[stream.key] < len(stream) and stream.key not in standing_at:
                    position = retired[stream.key]
                    if not _ready(stream, position, retired):
                        break
                    moved = True
                    meeting = stream.meetings.get(position)
                    if meeting is None:
                        self.perform(index, position)
                        retired[stream.key] += 1
                        continue
                    present = arrived.setdefault((stream.job, meeting), [])
                    present.append(stream.key)
                    standing_at.add(stream.key)
                    if len(present) == len(meeting.units):
                        standing_at.difference_update(present)
                        for key in present:
                            retired[key] += 1
        waiting = [
            standing(self._loaded, stream, retired, standing_at)
            for stream in streams
            if retired[stream.key] < len(stream)
        ]
        if waiting:
            raise DeadlockError(waiting)

    def outputs(self, job: int) -> dict[str, np.ndarray[Any, Any]]:
        """Bytes of a job's output segments, uint8[size], by name."""
        segments = self._loaded.jobs[job].program.segments
        return {s.name: data for s, data in zip(segments, self._dram[job], strict=True) if s.kind is SegmentKind.OUTPUT}


def _ready(stream: Stream, position: int, retired: Mapping[tuple[int, int], int]) -> bool:
    """Whether every wait of an instruction is satisfied."""
    return all(retired[stream.job, unit] >= value for unit, value in stream.waits[position])


def _segments(job: Job, fill: int) -> list[np.ndarray[Any, Any]]:
    """The DRAM segments of a job before the run: parameters and inputs as given, the others filled."""
    memories = []
    for segment in job.program.segments:
        memory = _aligned(segment.size_bytes)
        given = job.inputs.get(segment.name)
        if given is not None:
            memory[:] = input_bytes(given)
        else:
            memory[:] = fill if segment.data is None else segment.data
        memories.append(memory)
    return memories


def _filled(size: int, byte: int) -> np.ndarray[Any, Any]:
    """uint8[size] of one byte."""
    memory = _aligned(size)
    memory[:] = byte
    return memory


def _aligned(size: int) -> np.ndarray[Any, Any]:
    """uint8[size], aligned for vector loads."""
    raw = np.empty(size + _ALIGN, dtype=np.uint8)
    start = -raw.ctypes.data % _ALIGN
    return raw[start : start + size]
