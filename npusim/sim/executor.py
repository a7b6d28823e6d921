"""The executor: the values of a run, in the memories of its jobs.

Used by ``simulate``: at every retirement, or in an order of its own where nobody asks for time. An instruction means
what its ``operation`` says; a kernel that computes the same faster registers itself with ``executes``, and what only
copies is copied by NumPy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from isa.codec import FieldLists, Fields, instructions_of
from isa.errors import AccessError
from isa.instruction import UNITS_PER_CORE, Instruction
from isa.instructions import Copy, Load, Multicast, Send, Store
from isa.memory import Memory
from isa.program import Alike, SegmentKind, program_columns
from npusim.errors import DeadlockError, MachineFault

from .job import Job
from .loader import input_bytes
from .operands import operands_of
from .standstill import standing
from .stream import Loaded, Stream

Handler = Callable[..., None]
HANDLERS: dict[type[Instruction], Handler] = {}
"""What performs an instruction in place of its ``operation``."""

_COPIES = (Load, Store, Multicast, Send, Copy)
"""Whatever these write is what they read."""

Action = Callable[[], object]
"""An instruction with its operands, ready to be performed."""

_ALIGN = 64
"""Memories begin at a multiple of this address of the host, as vector loads like it."""

_F = TypeVar("_F", bound=Handler)


def executes(*classes: type[Instruction]) -> Callable[[_F], _F]:
    """Enter a function ``(fields, *operands) -> None`` that performs instructions of ``classes``.

    ``fields`` has the instruction's fields as attributes. The operands are its ``reads()`` and then its ``writes()`` as
    arrays of shape ``counts + (run,)`` over their own bytes, None for a region that is empty. The function writes
    exactly the bytes that ``operation`` would and raises ``AccessError`` where that would. The loader has checked that
    every declared region lies in its memory; what is found in memory, such as an index, the function checks itself.
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
        self._dram = [_segments(job, fill) for job in loaded.jobs]
        actions = [self._actions(job, fill) for job in range(len(loaded.jobs))]
        self._work = [actions[stream.job][stream.logical] for stream in loaded.streams]

    def _actions(self, job: int, fill: int) -> dict[int, list[Action]]:
        """What the instructions of a job do, by logical unit number and position."""
        program, dram = self._loaded.jobs[job].program, self._dram[job]
        ocm = [_filled(self._loaded.hardware.ocm.bytes, fill) for _ in range(program.cores)]
        work: dict[int, list[Action]] = {unit: [_nothing] * len(words) for unit, words in program.streams.items()}
        for alike in program_columns(program):
            made = actions_of(alike, ocm, dram)
            for unit, row, action in zip(alike.units.tolist(), alike.rows.tolist(), made, strict=True):
                work[unit][row] = action
        return work

    def perform(self, index: int, position: int, cycle: int | None = None) -> None:
        """Do the arithmetic of an instruction.

        Raises:
            MachineFault: it reads or writes where it must not, or finds operands that nothing can compute with.
        """
        try:
            self._work[index][position]()
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


def actions_of(
    alike: Alike, ocm: Sequence[np.ndarray[Any, Any]], dram: Sequence[np.ndarray[Any, Any]]
) -> Iterator[Action]:
    """What each instruction of a class does to the memories of its job."""
    cls, handler = alike.cls, HANDLERS.get(alike.cls)
    if handler is not None:
        lists = FieldLists(alike.columns)
        for row, operands in enumerate(operands_of(alike, ocm, dram)):
            yield partial(handler, Fields(lists, row), *operands)
    elif cls in _COPIES:
        for source, *targets in operands_of(alike, ocm, dram):
            yield partial(_copy, source, *(target for target in targets if target is not None))
    else:
        instructions = instructions_of(alike.columns, len(alike.rows))
        for unit, instruction in zip(alike.units.tolist(), instructions, strict=True):
            yield partial(instruction.operation, Memory(ocm, dram, unit // UNITS_PER_CORE))


def _copy(source: np.ndarray[Any, Any], *targets: np.ndarray[Any, Any]) -> None:
    """Copy to each target; they may overlap the source."""
    for target in targets:
        target[...] = source


def _nothing() -> None:
    """What stands for an instruction until its class has been looked at."""


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
