"""Field specifiers: how an instruction declares its operands.

Used in the class bodies of ``isa.instructions``; ``isa.instruction`` gives each field its place in the word. Nothing
here knows particular instructions.
"""

from __future__ import annotations

import dataclasses
from enum import IntEnum
from typing import Any

from .dtypes import DType

REQUIRED: Any = dataclasses.MISSING

OCM_ADDRESS_BITS = 24
SEGMENT_BITS = 8
OFFSET_BITS = 40


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """What one operand field means and which values it takes.

    Attributes:
        doc: one phrase for the manual.
        bits: width in the word.
        minimum: smallest value; the largest is ``2**bits - 1``.
        choices: the values allowed, for enumerations; empty otherwise.
        hexadecimal: print as 0x..., for addresses.
        symbol: kind of name an assembler may give instead of a number: "segment", "units" or "".
        at: explicit bit position, or None to follow the previous field.
    """

    doc: str
    bits: int
    minimum: int = 0
    choices: tuple[IntEnum, ...] = ()
    hexadecimal: bool = False
    symbol: str = ""
    at: int | None = None

    @property
    def maximum(self) -> int:
        """The largest value of the field."""
        return max(self.choices) if self.choices else (1 << self.bits) - 1


def _field(spec: FieldSpec, default: Any) -> Any:
    if default is REQUIRED:
        return dataclasses.field(metadata={"spec": spec})
    return dataclasses.field(default=default, metadata={"spec": spec})


def unsigned(bits: int, doc: str, *, default: Any = REQUIRED, minimum: int = 0, at: int | None = None) -> Any:
    """An unsigned integer of ``bits`` bits."""
    return _field(FieldSpec(doc=doc, bits=bits, minimum=minimum, at=at), default)


def extent(bits: int, doc: str, *, default: Any = REQUIRED) -> Any:
    """How many of something: an unsigned integer of at least 1."""
    return unsigned(bits, doc, default=default, minimum=1)


def ocm_address(doc: str, *, default: Any = REQUIRED) -> Any:
    """A byte address in the OCM of the unit's own core."""
    return _field(FieldSpec(doc=doc, bits=OCM_ADDRESS_BITS, hexadecimal=True), default)


def unit_mask(bits: int, doc: str) -> Any:
    """A mask of unit numbers; assembly may name the units, joined by plus."""
    return _field(FieldSpec(doc=doc, bits=bits, symbol="units"), REQUIRED)


def segment(doc: str) -> Any:
    """A DRAM segment of the program, by number or by name."""
    return _field(FieldSpec(doc=doc, bits=SEGMENT_BITS, symbol="segment"), REQUIRED)


def dram_offset(doc: str, *, default: Any = REQUIRED) -> Any:
    """A byte offset inside a DRAM segment."""
    return _field(FieldSpec(doc=doc, bits=OFFSET_BITS, hexadecimal=True), default)


def choice(kind: type[IntEnum], doc: str, *, default: Any = REQUIRED, allowed: tuple[Any, ...] = ()) -> Any:
    """One of an enumeration's members, or of the ``allowed`` ones among them."""
    members = tuple(allowed or kind)
    return _field(FieldSpec(doc=doc, bits=int(max(members)).bit_length() or 1, choices=members), default)


def element_type(doc: str, allowed: tuple[DType, ...], *, default: Any = REQUIRED) -> Any:
    """The element type of an operand; always three bits, so that every type fits a later version."""
    return _field(FieldSpec(doc=doc, bits=3, choices=tuple(allowed)), default)


def flag(doc: str, *, default: Any = REQUIRED) -> Any:
    """A yes or no: 1 or 0."""
    return _field(FieldSpec(doc=doc, bits=1), default)
