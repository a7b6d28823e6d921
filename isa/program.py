"""Programs: one stream of instruction words per unit, DRAM segments, and where each instruction came from.

Made by the assembler and the compiler, read by the verifier, the container and the machine. Cores are logical and
DRAM addresses are (segment, offset): the loader decides which silicon they become.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .codec import decode_columns, decode_stream, encode_stream, wait_columns
from .errors import DecodingError, ProgramError
from .instruction import MAX_CORES, UNITS_PER_CORE, WORD_BYTES, Instruction, Unit, unit_name
from .instructions import End

ISA_MAJOR = 1
ISA_MINOR = 0

MAX_SEGMENTS = 256


class SegmentKind(IntEnum):
    """What a DRAM segment is for, which says who writes it first."""

    INPUT = 0
    OUTPUT = 1
    PARAMETERS = 2
    SCRATCH = 3

    def __str__(self) -> str:
        return self.name.lower()


_NAME_MARKS = "_.-/:"


def segment_name(name: str) -> str:
    """The name of a segment for a tensor called ``name``: the same where that is allowed, else a legible stand-in.

    >>> segment_name("stem/conv:0")
    'stem/conv:0'
    >>> segment_name("my image")
    'my_image:538f098f'
    """
    legible = "".join(c if c.isalnum() or c in _NAME_MARKS else "_" for c in name)
    return name if name and legible == name else f"{legible}:{zlib.crc32(name.encode()):08x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A named range of DRAM.

    Attributes:
        name: unique in the program; letters, digits, ``_``, ``.``, ``-``, ``/``, ``:``.
        kind: inputs are filled by the caller, parameters carry their bytes, outputs and scratch are written by the
            program.
        size_bytes: at least 1.
        data: the bytes of a parameters segment (uint8[size_bytes]), or an input's default; None otherwise.
    """

    name: str
    kind: SegmentKind
    size_bytes: int
    data: np.ndarray[Any, Any] | None = None

    def __post_init__(self) -> None:
        if self.name != segment_name(self.name):
            raise ProgramError(f"segment name {self.name!r} has characters other than letters, digits and _.-/:")
        if self.size_bytes < 1:
            raise ProgramError(f"segment {self.name}: size must be at least 1 byte, not {self.size_bytes}")
        if self.data is None and self.kind is SegmentKind.PARAMETERS:
            raise ProgramError(f"segment {self.name}: parameters carry their bytes")
        if self.data is not None and (self.data.dtype != np.uint8 or self.data.shape != (self.size_bytes,)):
            raise ProgramError(f"segment {self.name}: data is not uint8[{self.size_bytes}]")

    @property
    def preset(self) -> bool:
        """Whether its bytes count as written before the program starts."""
        return self.kind in (SegmentKind.INPUT, SegmentKind.PARAMETERS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A complete program. Immutable; make one with ``make_program``.

    It is equal to itself only, so that what was found out about it can be remembered as long as it lives.

    Attributes:
        name: for messages and reports.
        cores: how many logical cores it uses.
        streams: words uint8[n, 64] by unit number (``5 * core + unit``); units without work are absent.
        segments: DRAM segments; an instruction names one by its position here.
        origins: int32[n] by unit number: index into ``origin_names``, -1 for none.
        origin_names: what instructions were made for: ONNX nodes and tiles, or source lines.
        stamp: the verifier's, or "" where the program has not been proven.
    """

    name: str
    cores: int
    streams: Mapping[int, np.ndarray[Any, Any]]
    segments: tuple[Segment, ...] = ()
    origins: Mapping[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    origin_names: tuple[str, ...] = ()
    stamp: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.cores <= MAX_CORES:
            raise ProgramError(f"program {self.name}: {self.cores} cores, must be 1..{MAX_CORES}")
        if len(self.segments) > MAX_SEGMENTS:
            raise ProgramError(f"program {self.name}: {len(self.segments)} segments, at most {MAX_SEGMENTS}")
        names = [s.name for s in self.segments]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ProgramError(f"program {self.name}: segment {twice} is declared twice")
        for unit, words in self.streams.items():
            if not 0 <= unit < self.cores * UNITS_PER_CORE:
                raise ProgramError(f"program {self.name}: unit number {unit} is not on its {self.cores} cores")
            if words.dtype != np.uint8 or words.ndim != 2 or words.shape[1] != WORD_BYTES or not len(words):
                raise ProgramError(f"program {self.name}: stream of {unit_name(unit)} is not uint8[n, {WORD_BYTES}]")
            if len(self.origins.get(unit, words)) != len(words):
                raise ProgramError(f"program {self.name}: origins of {unit_name(unit)} do not match its stream")

    def __len__(self) -> int:
        return sum(len(words) for words in self.streams.values())

    def instructions(self, unit: int) -> tuple[Instruction, ...]:
        """The stream of one unit number, decoded once; empty where the unit has none.

        Raises:
            DecodingError: a word is not an instruction.
        """
        if unit not in self.streams:
            return ()
        known = _INSTRUCTIONS.setdefault(self, {})
        if unit not in known:
            known[unit] = tuple(decode_stream(self.streams[unit]))
        return known[unit]

    def origin(self, unit: int, position: int) -> str:
        """What an instruction was made for, or ""."""
        index = int(self.origins[unit][position]) if unit in self.origins else -1
        return self.origin_names[index] if index >= 0 else ""

    def segment_number(self, name: str) -> int:
        """Position of a segment by name.

        Raises:
            ProgramError: there is none of that name.
        """
        for number, segment in enumerate(self.segments):
            if segment.name == name:
                return number
        raise ProgramError(f"program {self.name} has no segment {name!r}; it has {', '.join(self.segment_names())}")

    def segment_names(self, *kinds: SegmentKind) -> tuple[str, ...]:
        """Names of the segments of the given kinds, or of all."""
        return tuple(s.name for s in self.segments if not kinds or s.kind in kinds)

    def fingerprint(self) -> str:
        """SHA-256 of everything the program does: words, segments and their bytes; not names of origins or stamps."""
        digest = hashlib.sha256()
        shape = [ISA_MAJOR, ISA_MINOR, self.cores, [(s.name, int(s.kind), s.size_bytes) for s in self.segments]]
        digest.update(json.dumps([*shape, sorted((u, len(w)) for u, w in self.streams.items())]).encode())
        for unit in sorted(self.streams):
            digest.update(np.ascontiguousarray(self.streams[unit]).data)
        for segment in self.segments:
            if segment.data is not None:
                digest.update(np.ascontiguousarray(segment.data).data)
        return digest.hexdigest()

    def with_stamp(self, stamp: str) -> Program:
        """The same program carrying a verifier's stamp."""
        return replace(self, stamp=stamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """The instructions of one class, wherever they are in a program, as columns: by unit number, then by position.

    Attributes:
        cls: their class.
        units: int64[n], unit number.
        rows: int64[n], position in the unit's stream.
        columns: an instance of ``cls`` whose fields are int64[n].
        wait_units: int64[n, w], unit numbers waited for, -1 for none; a row's waits come first.
        wait_values: int64[n, w].
    """

    cls: type[Instruction]
    units: np.ndarray[Any, Any]
    rows: np.ndarray[Any, Any]
    columns: Any
    wait_units: np.ndarray[Any, Any]
    wait_values: np.ndarray[Any, Any]


_INSTRUCTIONS: WeakKeyDictionary[Program, dict[int, tuple[Instruction, ...]]] = WeakKeyDictionary()
"""Decoded streams of living programs, by unit number."""
_COLUMNS: WeakKeyDictionary[Program, list[Alike]] = WeakKeyDictionary()
"""Living programs as columns."""


def make_program(
    name: str,
    streams: Mapping[int, Sequence[Instruction]],
    segments: Sequence[Segment] = (),
    *,
    cores: int | None = None,
    origins: Mapping[int, Sequence[int]] | None = None,
    origin_names: Sequence[str] = (),
) -> Program:
    """Encode streams of instructions into a program.

    A stream that lacks its final ``end`` gets one.

    Args:
        streams: instructions by unit number; empty streams are dropped.
        cores: logical cores; by default as many as the streams need.
        origins: an index into ``origin_names`` per instruction, by unit number.

    Raises:
        ProgramError: an instruction on a unit that does not execute it, or an inconsistent program.
    """
    words, indices = {}, {}
    for unit, stream in streams.items():
        if not stream:
            continue
        check_unit(unit, stream)
        ended = list(stream) if isinstance(stream[-1], End) else [*stream, End()]
        words[unit] = encode_stream(ended)
        if origins is not None and unit in origins:
            given = [*origins[unit], -1][: len(ended)]
            indices[unit] = np.array(given, dtype=np.int32)
    needed = max(words, default=0) // UNITS_PER_CORE + 1
    return Program(
        name=name, cores=cores or needed, streams=words, segments=tuple(segments), origins=indices,
        origin_names=tuple(origin_names),
    )  # fmt: skip


def check_unit(unit: int, stream: Sequence[Instruction]) -> None:
    """Raise ProgramError for an instruction that ``unit`` does not execute."""
    kind = Unit(unit % UNITS_PER_CORE)
    for position, instruction in enumerate(stream):
        if kind not in instruction.layout.units:
            allowed = ", ".join(str(u) for u in instruction.layout.units)
            raise ProgramError(
                f"{unit_name(unit)} instruction {position}: {instruction.layout.mnemonic} runs on {allowed} only"
            )


def program_columns(program: Program) -> list[Alike]:
    """A program as columns, one entry per class in the order of opcodes; found once for a program.

    Raises:
        DecodingError: a word is not an instruction.
        ProgramError: an instruction on a unit that does not execute it.
    """
    if program not in _COLUMNS:
        _COLUMNS[program] = columns_of(program, sorted(program.streams))
    return _COLUMNS[program]


def columns_of(program: Program, units: Sequence[int]) -> list[Alike]:
    """What ``program_columns`` finds, of some units only."""
    streams = [program.streams[unit] for unit in units]
    words = np.concatenate([np.empty((0, WORD_BYTES), np.uint8), *streams])
    unit = np.repeat(np.array(units, np.int64), [len(stream) for stream in streams])
    position = np.concatenate([np.empty(0, np.int64), *(np.arange(len(stream)) for stream in streams)])
    try:
        kinds = list(decode_columns(words))
    except DecodingError:
        for stream in streams:  # the message counts from the start of the word's own stream
            list(decode_columns(stream))
        raise
    found = []
    for cls, rows, columns in kinds:
        stray = np.flatnonzero(~np.isin(unit[rows] % UNITS_PER_CORE, cls.layout.units))
        if stray.size:
            row = rows[stray[0]]
            where = f"{unit_name(int(unit[row]))} instruction {position[row]}"
            raise ProgramError(f"{where}: {cls.layout.mnemonic} does not run on this unit")
        wait_units, wait_values = wait_columns(words[rows], cls.layout.max_waits)
        found.append(
            Alike(
                cls=cls, units=unit[rows], rows=position[rows], columns=columns, wait_units=wait_units,
                wait_values=wait_values,
            )
        )  # fmt: skip
    return found
