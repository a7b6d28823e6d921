"""Assembly text to instructions and programs, and one instruction back to text.

The command line and the tests call this; ``disassembler`` prints whole programs. The syntax follows from each
instruction's ``Layout``; ``docs/isa.md`` describes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np

from . import instructions as _instructions
from .dtypes import DType
from .errors import AssemblyError, IsaError
from .field import FieldSpec
from .instruction import MNEMONICS, UNITS_PER_CORE, Instruction, Unit, Wait, unit_name, unit_number
from .program import Program, Segment, SegmentKind, make_program

assert _instructions.__all__, "imported for its declarations: they fill MNEMONICS"

_UNITS = {str(unit): unit for unit in Unit}
_WAIT = re.compile(r"wait\(\s*([\w.]+)\s*(?:,\s*(\w+)\s*)?\)")
_LABEL = re.compile(r"^\s*([A-Za-z_]\w*)\s*:\s*")
_COMMENT = re.compile(r"[;#].*")
_MAX_DATA_BYTES = 1 << 30


def format_instruction(instruction: Instruction, core: int = 0, segments: tuple[str, ...] = ()) -> str:
    """One instruction as text, without its unit: ``load ocm=0x0 segment=0 run=64 wait(conv0, 1)``.

    Fields that hold their default are left out. Waits for units of ``core`` are written without the core.

    Args:
        core: logical core of the unit that executes the instruction.
        segments: segment names, to write instead of numbers.
    """
    layout = instruction.layout
    words = [layout.mnemonic]
    for placed in layout.fields:
        value = getattr(instruction, placed.name)
        if value != placed.default:
            words.append(f"{placed.name}={_format_value(placed.spec, value, segments)}")
    words += [f"wait({_format_unit(wait.unit, core)}, {wait.value})" for wait in instruction.waits]
    return " ".join(words)


def parse_instruction(text: str, core: int = 0, segments: tuple[str, ...] = ()) -> Instruction:
    """The inverse of ``format_instruction``; also takes symbolic segment names of ``segments``.

    Raises:
        AssemblyError: the text is not an instruction; the message names what is allowed.
    """
    statement = _Statement(line=None, label="", unit=0, text=text.strip())
    return _parse(statement, core, _Symbols({name: n for n, name in enumerate(segments)}, {}, {}))


def assemble(text: str, name: str = "program") -> Program:
    """Assemble a whole source text.

    Raises:
        AssemblyError: with the line number of the first thing that cannot be read.
    """
    return _Source(name).read(text)


@dataclass(frozen=True, slots=True)
class _Statement:
    """One instruction line, labels and unit already taken off."""

    line: int | None
    label: str
    unit: int
    text: str


@dataclass(frozen=True, slots=True)
class _Symbols:
    """What names mean: segments, constants, and labels as waits."""

    segments: Mapping[str, int]
    constants: Mapping[str, int]
    labels: Mapping[str, Wait]


@dataclass(slots=True)
class _SegmentDraft:
    kind: SegmentKind
    size_bytes: int | None
    data: bytearray = field(default_factory=bytearray)


class _Source:
    """One pass over the lines collects statements and data; labels resolve afterwards, so that they may lie ahead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.core = 0
        self.cores: int | None = None
        self.drafts: dict[str, _SegmentDraft] = {}
        self.constants: dict[str, int] = {}
        self.statements: list[_Statement] = []
        self.directives = {
            ".program": self._program, ".cores": self._cores, ".core": self._core, ".let": self._let,
            ".segment": self._segment, ".data": self._data,
        }  # fmt: skip

    def read(self, text: str) -> Program:
        for number, raw in enumerate(text.splitlines(), start=1):
            line = _COMMENT.sub("", raw).strip()
            if line:
                self._line(line, number)
        labels: dict[str, Wait] = {}
        counts: dict[int, int] = {}
        for statement in self.statements:
            counts[statement.unit] = counts.get(statement.unit, 0) + 1
            if statement.label:
                if statement.label in labels:
                    raise AssemblyError(f"label {statement.label} is defined twice", statement.line)
                labels[statement.label] = Wait(statement.unit, counts[statement.unit])
        symbols = _Symbols({name: n for n, name in enumerate(self.drafts)}, self.constants, labels)
        streams: dict[int, list[Instruction]] = {}
        origins: dict[int, list[int]] = {}
        names: list[str] = []
        for statement in self.statements:
            streams.setdefault(statement.unit, []).append(_parse(statement, statement.unit // UNITS_PER_CORE, symbols))
            origins.setdefault(statement.unit, []).append(len(names))
            names.append(f"{statement.label or self.name}:{statement.line}")
        try:
            segments = [_finish_segment(name, draft) for name, draft in self.drafts.items()]
            return make_program(self.name, streams, segments, cores=self.cores, origins=origins, origin_names=names)
        except IsaError as error:
            raise AssemblyError(str(error)) from error

    def _line(self, line: str, number: int) -> None:
        words = line.split()
        if words[0].startswith("."):
            directive = self.directives.get(words[0])
            if directive is None:
                raise AssemblyError(f"unknown directive {words[0]}{_near(words[0], self.directives)}", number)
            directive(words[1:], number)
            return
        label = ""
        match = _LABEL.match(line)
        if match:
            label, line = match.group(1), line[match.end() :]
        unit, _, rest = line.partition(" ")
        if not rest.strip():
            raise AssemblyError(f"{line!r} is no statement: expected a unit and an instruction", number)
        self.statements.append(_Statement(number, label, _parse_unit(unit, self.core, number), rest.strip()))

    def _program(self, words: list[str], line: int) -> None:
        (self.name,) = _arguments(words, 1, ".program NAME", line)

    def _cores(self, words: list[str], line: int) -> None:
        (count,) = _arguments(words, 1, ".cores COUNT", line)
        self.cores = _integer(count, line)

    def _core(self, words: list[str], line: int) -> None:
        (core,) = _arguments(words, 1, ".core NUMBER", line)
        self.core = _integer(core, line)

    def _let(self, words: list[str], line: int) -> None:
        name, value = _arguments(words, 2, ".let NAME VALUE", line)
        if not name.isidentifier() or name in self.constants:
            raise AssemblyError(f".let {name}: not a new identifier", line)
        self.constants[name] = _sum(value, self.constants, line)

    def _segment(self, words: list[str], line: int) -> None:
        if len(words) not in (2, 3):
            raise AssemblyError("expected .segment NAME KIND [BYTES]", line)
        kinds = {str(kind): kind for kind in SegmentKind}
        if words[1] not in kinds:
            raise AssemblyError(f"{words[1]!r} is no kind of segment: {', '.join(kinds)}", line)
        if words[0] in self.drafts:
            raise AssemblyError(f"segment {words[0]} is declared twice", line)
        size = _sum(words[2], self.constants, line) if len(words) == 3 else None
        if size is not None and size > _MAX_DATA_BYTES and kinds[words[1]] is SegmentKind.PARAMETERS:
            raise AssemblyError(f"segment {words[0]}: {size} bytes of parameters, at most {_MAX_DATA_BYTES}", line)
        self.drafts[words[0]] = _SegmentDraft(kinds[words[1]], size)

    def _data(self, words: list[str], line: int) -> None:
        if len(words) < 3:
            raise AssemblyError("expected .data SEGMENT TYPE VALUES, TYPE one of the element types or hex", line)
        draft = self.drafts.get(words[0])
        if draft is None:
            raise AssemblyError(f"segment {words[0]} is not declared{_near(words[0], self.drafts)}", line)
        draft.data += _data_bytes(words[1], words[2:], line)


def _finish_segment(name: str, draft: _SegmentDraft) -> Segment:
    size = len(draft.data) if draft.size_bytes is None else draft.size_bytes
    if len(draft.data) > size:
        raise AssemblyError(f"segment {name}: {len(draft.data)} bytes of data do not fit its {size}")
    data = None
    if draft.data or draft.kind is SegmentKind.PARAMETERS:
        data = np.zeros(size, np.uint8)
        data[: len(draft.data)] = np.frombuffer(bytes(draft.data), np.uint8)
    return Segment(name=name, kind=draft.kind, size_bytes=size, data=data)


def _data_bytes(kind: str, values: list[str], line: int) -> bytes:
    if kind == "hex":
        try:
            return bytes.fromhex("".join(values))
        except ValueError as error:
            raise AssemblyError(f"not hexadecimal: {' '.join(values)[:40]}", line) from error
    types = {str(t): t for t in DType}
    if kind not in types:
        raise AssemblyError(f"{kind!r} is no element type: {', '.join(types)}, hex", line)
    dtype = types[kind]
    try:
        if dtype is DType.F32:
            with np.errstate(over="ignore"):
                return np.array([float(v) for v in values], dtype=np.float64).astype("<f4").tobytes()
        integers = [int(v, 0) for v in values]
    except ValueError as error:
        raise AssemblyError(f"{kind}: {error}", line) from error
    low, high = dtype.range
    for value in integers:
        if not low <= value <= high:
            raise AssemblyError(f"{value} does not fit {kind} ({low}..{high})", line)
    return np.array(integers, dtype=dtype.numpy).tobytes()


def _parse(statement: _Statement, core: int, symbols: _Symbols) -> Instruction:
    line = statement.line
    waits: list[Wait] = []

    def take_wait(match: re.Match[str]) -> str:
        waits.append(_parse_wait(match.group(1), match.group(2), core, symbols, line))
        return ""

    words = _WAIT.sub(take_wait, statement.text).split()
    if not words:
        raise AssemblyError("expected an instruction", line)
    cls: Any = MNEMONICS.get(words[0])
    if cls is None:
        raise AssemblyError(f"unknown instruction {words[0]!r}{_near(words[0], MNEMONICS)}", line)
    fields = {placed.name: placed.spec for placed in cls.layout.fields}
    values: dict[str, Any] = {}
    for word in words[1:]:
        name, equals, text = word.partition("=")
        if name not in fields:
            raise AssemblyError(f"{words[0]} has no field {name!r}{_near(name, fields)}", line)
        if name in values:
            raise AssemblyError(f"{words[0]}: {name} is given twice", line)
        if not equals and fields[name].bits != 1:
            raise AssemblyError(f"{words[0]}: {name} needs a value", line)
        values[name] = _parse_value(fields[name], name, text if equals else "1", core, symbols, line)
    missing = [p.name for p in cls.layout.fields if p.name not in values and not isinstance(p.default, int)]
    if missing:
        raise AssemblyError(f"{words[0]} needs {', '.join(missing)}", line)
    try:
        return cls(**values, waits=tuple(waits))
    except IsaError as error:
        raise AssemblyError(str(error), line) from error


def _parse_wait(name: str, value: str | None, core: int, symbols: _Symbols, line: int | None) -> Wait:
    if value is None:
        if name not in symbols.labels:
            raise AssemblyError(f"no label {name!r} to wait for{_near(name, symbols.labels)}", line)
        return symbols.labels[name]
    return Wait(_parse_unit(name, core, line), _integer(value, line))


def _parse_unit(text: str, core: int, line: int | None) -> int:
    match = re.fullmatch(r"(?:core(\d+)\.)?(\w+)", text)
    if not match or match.group(2) not in _UNITS:
        raise AssemblyError(
            f"{text!r} is no unit: {', '.join(_UNITS)}, or coreN. before one{_near(text, _UNITS)}", line
        )
    return unit_number(int(match.group(1)) if match.group(1) else core, _UNITS[match.group(2)])


def _parse_value(spec: FieldSpec, name: str, text: str, core: int, symbols: _Symbols, line: int | None) -> int:
    if spec.choices:
        members = {str(member): member for member in spec.choices}
        if text not in members:
            raise AssemblyError(f"{name}={text}: expected one of {', '.join(members)}", line)
        return members[text]
    if spec.symbol == "segment" and text in symbols.segments:
        return symbols.segments[text]
    if spec.symbol == "segment" and not text[:1].isdigit():
        raise AssemblyError(f"no segment {text!r}{_near(text, symbols.segments)}", line)
    if spec.symbol == "units" and not text[:1].isdigit():
        return sum(1 << unit for unit in {_parse_unit(part, core, line) for part in text.split("+")})
    return _sum(text, symbols.constants, line)


def _format_value(spec: FieldSpec, value: int, segments: tuple[str, ...]) -> str:
    if spec.choices:
        return str(next(member for member in spec.choices if member == value))
    if spec.symbol == "segment" and value < len(segments):
        return segments[value]
    if spec.symbol == "units":
        return "+".join(unit_name(unit) for unit in range(spec.bits) if value >> unit & 1) or "0"
    return hex(value) if spec.hexadecimal else str(value)


def _format_unit(number: int, core: int) -> str:
    return str(Unit(number % UNITS_PER_CORE)) if number // UNITS_PER_CORE == core else unit_name(number)


def _arguments(words: list[str], count: int, usage: str, line: int) -> list[str]:
    if len(words) != count:
        raise AssemblyError(f"expected {usage}", line)
    return words


def _sum(text: str, constants: Mapping[str, int], line: int | None) -> int:
    """``0x40+2*SIZE``: sums of products of numbers and constants."""
    total = 0
    for term in text.split("+"):
        factors = [constants[f] if f in constants else _integer(f, line, constants) for f in term.split("*")]
        total += math.prod(factors)
    return total


def _integer(text: str, line: int | None, constants: Mapping[str, int] | None = None) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise AssemblyError(f"{text!r} is no number{_near(text, constants or ())}", line) from None


def _near(word: str, candidates: Any) -> str:
    close = get_close_matches(word, list(candidates), n=1)
    return f"; did you mean {close[0]}?" if close else ""
