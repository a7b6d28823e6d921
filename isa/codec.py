"""Encoder and decoder of 64-byte instruction words, one at a time or a whole stream as columns.

Used by programs, the verifier and the machine. Bit positions come from each instruction's ``Layout``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from . import instructions as _instructions
from .errors import DecodingError
from .instruction import (
    HEADER_WAITS,
    MAX_CORES,
    OPCODE_BITS,
    OPCODES,
    OPERAND_BIT,
    UNITS_PER_CORE,
    WAIT_BITS,
    WAIT_UNIT_BITS,
    WORD_BITS,
    WORD_BYTES,
    Instruction,
    Layout,
    Wait,
)

assert _instructions.__all__, "imported for its declarations: they fill OPCODES"

_MASK64 = (1 << 64) - 1


def encode(instruction: Instruction) -> bytes:
    """The 64 bytes of one instruction, little-endian."""
    layout = instruction.layout
    word = layout.opcode
    for slot, wait in enumerate(instruction.waits):
        word |= (wait.unit + 1 | wait.value << WAIT_UNIT_BITS) << _wait_position(slot)
    for field in layout.fields:
        word |= int(getattr(instruction, field.name)) << field.position
    return word.to_bytes(WORD_BYTES, "little")


def encode_stream(instructions: Iterable[Instruction]) -> np.ndarray[Any, Any]:
    """A stream's words: uint8[n, 64]."""
    data = b"".join(encode(i) for i in instructions)
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, WORD_BYTES)


def decode(word: bytes) -> Instruction:
    """The instruction in 64 bytes.

    Raises:
        DecodingError: for anything that is not exactly an encoded instruction.
    """
    if len(word) != WORD_BYTES:
        raise DecodingError(f"an instruction word has {WORD_BYTES} bytes, not {len(word)}")
    return decode_stream(np.frombuffer(word, dtype=np.uint8).reshape(1, WORD_BYTES))[0]


def decode_stream(words: np.ndarray[Any, Any]) -> list[Instruction]:
    """All instructions of a stream; ``words`` is uint8[n, 64].

    Raises:
        DecodingError: naming the first bad word.
    """
    result: list[Any] = [None] * len(words)
    put = object.__setattr__
    for cls, rows, columns in decode_columns(words):
        waits = _wait_tuples(*wait_columns(words[rows], cls.layout.max_waits))
        for row, made, named in zip(rows.tolist(), instructions_of(columns, len(rows)), waits, strict=True):
            put(made, "waits", named)
            result[row] = made
    return result


def instructions_of(columns: Instruction, length: int) -> list[Any]:
    """The instructions that columns of ``length`` hold, one by one; without waits, as the columns are."""
    cls, fields = type(columns), FieldLists(columns)
    names = [f.name for f in cls.layout.fields]
    rows = zip(*(fields[name] for name in names), strict=True) if names else repeat((), length)
    made = []
    for row in rows:
        instruction = object.__new__(cls)
        object.__setattr__(instruction, "__dict__", dict(zip(names, row, strict=True)))
        made.append(instruction)
    return made


class FieldLists(dict[str, list[Any]]):
    """The fields of columns as lists by name, made when first asked for: integers, or the members of an enumeration."""

    def __init__(self, columns: Instruction) -> None:
        self._columns = columns

    def __missing__(self, name: str) -> list[Any]:
        values: list[Any] = getattr(self._columns, name).tolist()
        choices = next(f.spec.choices for f in self._columns.layout.fields if f.name == name)
        if choices:
            members = {int(choice): choice for choice in choices}
            values = [members[value] for value in values]
        self[name] = values
        return values


class Fields:
    """One instruction of columns: its fields, looked up when they are asked for.

    Cheaper than the instruction itself, of which most users need a handful of fields, if any.
    """

    __slots__ = ("_lists", "_row")

    def __init__(self, lists: FieldLists, row: int) -> None:
        self._lists, self._row = lists, row

    def __getattr__(self, name: str) -> Any:
        return self._lists[name][self._row]


def decode_columns(words: np.ndarray[Any, Any]) -> Iterator[tuple[type[Instruction], np.ndarray[Any, Any], Any]]:
    """Decode a stream by instruction kind, checking every word.

    Args:
        words: uint8[n, 64].

    Yields:
        ``(class, rows, columns)``: ``rows`` are the indices in the stream, ascending; ``columns`` is an instance of
        the class whose fields are int64 arrays along ``rows`` (its ``waits`` are empty; see ``wait_columns``).

    Raises:
        DecodingError: naming the first bad word of the first bad kind.
    """
    words = np.ascontiguousarray(words, dtype=np.uint8).reshape(-1, WORD_BYTES)
    opcodes = words[:, 0]
    for opcode in np.unique(opcodes).tolist():
        rows = np.flatnonzero(opcodes == opcode)
        cls = OPCODES.get(opcode)
        if cls is None:
            raise DecodingError(f"word {rows[0]}: opcode {opcode:#04x} is no instruction")
        lanes = words[rows].view("<u8")
        columns = object.__new__(cls)
        _check_reserved(cls.layout, lanes, rows)
        _check_waits(cls.layout, words[rows], rows)
        for field in cls.layout.fields:
            values = _extract(lanes, field.position, field.spec.bits)
            choices = field.spec.choices
            bad = ~np.isin(values, [int(c) for c in choices]) if choices else values < field.spec.minimum
            if bad.any():
                first = int(np.flatnonzero(bad)[0])
                what = f"{cls.layout.mnemonic}.{field.name} cannot be {values[first]}"
                raise DecodingError(f"word {rows[first]}: {what}")
            object.__setattr__(columns, field.name, values)
        object.__setattr__(columns, "waits", ())
        yield cls, rows, columns


def wait_columns(words: np.ndarray[Any, Any], max_waits: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The waits of words: unit numbers (-1: none) and counter values, each int64[n, max_waits]."""
    lanes = np.ascontiguousarray(words, dtype=np.uint8).view("<u8")
    slots = [_extract(lanes, _wait_position(slot), WAIT_BITS) for slot in range(max_waits)]
    packed = np.stack(slots, axis=1)
    return (packed & ((1 << WAIT_UNIT_BITS) - 1)) - 1, packed >> WAIT_UNIT_BITS


def select(columns: Instruction, rows: np.ndarray[Any, Any]) -> Any:
    """Columns restricted to ``rows``: positions within the columns, not in the stream."""
    made = object.__new__(type(columns))
    for field in columns.layout.fields:
        object.__setattr__(made, field.name, getattr(columns, field.name)[rows])
    object.__setattr__(made, "waits", ())
    return made


def _wait_position(slot: int) -> int:
    if slot < HEADER_WAITS:
        return OPCODE_BITS + slot * WAIT_BITS
    return OPERAND_BIT + (slot - HEADER_WAITS) * WAIT_BITS


def _extract(lanes: np.ndarray[Any, Any], position: int, bits: int) -> np.ndarray[Any, Any]:
    lane, shift = divmod(position, 64)
    values = lanes[:, lane] >> np.uint64(shift)
    if shift + bits > 64:
        values = values | (lanes[:, lane + 1] << np.uint64(64 - shift))
    return (values & np.uint64((1 << bits) - 1)).astype(np.int64)


def _check_reserved(layout: Layout, lanes: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> None:
    reserved = layout.reserved
    for lane in range(WORD_BITS // 64):
        mask = (reserved >> (64 * lane)) & _MASK64
        bad = np.flatnonzero(lanes[:, lane] & np.uint64(mask))
        if mask and bad.size:
            raise DecodingError(f"word {rows[bad[0]]}: reserved bits of {layout.mnemonic} are not zero")


def _check_waits(layout: Layout, words: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> None:
    units, values = wait_columns(words, layout.max_waits)
    used = units >= 0
    bad = (used & ((units >= MAX_CORES * UNITS_PER_CORE) | (values == 0))) | (~used & (values != 0))
    bad[:, 1:] |= used[:, 1:] & ~used[:, :-1]  # waits fill the slots from the first
    if bad.any():
        row = rows[np.flatnonzero(bad.any(axis=1))[0]]
        raise DecodingError(f"word {row}: {layout.mnemonic} has a malformed wait")


def _wait_tuples(units: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> Sequence[tuple[Wait, ...]]:
    counts = (units >= 0).sum(axis=1).tolist()
    pairs = zip(units.tolist(), values.tolist(), counts, strict=True)
    return [tuple(Wait(u, v) for u, v in zip(us[:n], vs[:n], strict=True)) for us, vs, n in pairs]
