"""The instruction base class and the declaration that everything else is derived from.

``isa.instructions`` declares with this; ``codec``, ``assembler``, ``document`` and the strategies of
``npusim.testing`` read the resulting ``Layout``. No particular instruction belongs here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, TypeVar, cast, dataclass_transform

import numpy as np

from .errors import DeclarationError, EncodingError
from .field import (
    FieldSpec,
    choice,
    dram_offset,
    element_type,
    extent,
    flag,
    ocm_address,
    segment,
    unit_mask,
    unsigned,
)
from .memory import Memory
from .region import Region

WORD_BYTES = 64
WORD_BITS = 8 * WORD_BYTES
OPCODE_BITS = 8
WAIT_UNIT_BITS = 8
WAIT_VALUE_BITS = 24
WAIT_BITS = WAIT_UNIT_BITS + WAIT_VALUE_BITS
HEADER_WAITS = 3
OPERAND_BIT = OPCODE_BITS + HEADER_WAITS * WAIT_BITS
"""First bit after opcode and waits: 104."""


class Unit(IntEnum):
    """Execution units of one core, in the order of their numbers."""

    CONV0 = 0
    CONV1 = 1
    TENG = 2
    CV = 3
    SDMA = 4

    def __str__(self) -> str:
        return self.name.lower()


UNITS_PER_CORE = len(Unit)
MAX_CORES = ((1 << WAIT_UNIT_BITS) - 1) // UNITS_PER_CORE
MAX_COUNTER = (1 << WAIT_VALUE_BITS) - 1

CONV = (Unit.CONV0, Unit.CONV1)
ANY_UNIT = tuple(Unit)


def unit_number(core: int, unit: Unit | int) -> int:
    """Number of a logical core's unit in waits, barrier masks and streams: ``5 * core + unit``."""
    return core * UNITS_PER_CORE + int(unit)


def unit_name(number: int) -> str:
    """``core1.sdma`` for unit number 9."""
    core, unit = divmod(number, UNITS_PER_CORE)
    return f"core{core}.{Unit(unit)}"


class Wait(NamedTuple):
    """Do not issue before unit ``unit`` (its number) has retired ``value`` instructions."""

    unit: int
    value: int


class Constraint(NamedTuple):
    """A rule between fields. ``holds`` takes the instruction, or columns of them; ``rule`` is the refusal."""

    rule: str
    holds: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A field with its name and its place in the word."""

    name: str
    spec: FieldSpec
    position: int
    default: Any


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Everything derived from one declaration.

    Attributes:
        opcode: low byte of the word.
        mnemonic: name in assembly.
        units: which units execute it.
        max_waits: waits it carries: 3, or 15 for ``sync``.
        fields: operands in declaration order.
    """

    opcode: int
    mnemonic: str
    units: tuple[Unit, ...]
    max_waits: int
    fields: tuple[Placed, ...]

    @property
    def reserved(self) -> int:
        """Mask of the bits no field uses; they must be zero."""
        used = (1 << OPERAND_BIT) - 1
        used |= ((1 << (WAIT_BITS * (self.max_waits - HEADER_WAITS))) - 1) << OPERAND_BIT
        for field in self.fields:
            used |= ((1 << field.spec.bits) - 1) << field.position
        return ((1 << WORD_BITS) - 1) & ~used


@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(
        unsigned, extent, ocm_address, unit_mask, segment, dram_offset, choice, element_type, flag,
    ),
)  # fmt: skip
class Declared:
    """Root of what a type checker is to read as a dataclass."""


class Instruction(Declared):
    """One instruction word, decoded. Subclasses declare fields and say what they read, write and mean.

    An instance normally holds integers. ``codec.decode_columns`` makes instances whose fields are int64 arrays, one
    entry per instruction; ``reads``, ``writes``, ``macs`` and the constraints serve both and therefore use arithmetic
    only, no ``if`` on a field.
    """

    layout: ClassVar[Layout]
    constraints: ClassVar[tuple[Constraint, ...]] = ()
    may_alias: ClassVar[tuple[tuple[int, int], ...]] = ()
    """Pairs (index in reads, index in writes) that may be the identical region: done in place."""
    waits: tuple[Wait, ...] = ()

    def reads(self) -> Sequence[Region]:
        """The regions whose bytes the result may depend on."""
        return ()

    def writes(self) -> Sequence[Region]:
        """The regions the instruction fills; it writes every byte of them."""
        return ()

    def macs(self) -> Any:
        """Multiply-accumulates the instruction is worth."""
        return 0

    def operation(self, memory: Memory) -> None:
        """The meaning: read the operands, compute in plain NumPy, write the result."""
        raise NotImplementedError

    def __str__(self) -> str:
        from .assembler import format_instruction

        return format_instruction(self)


@cache
def stride_fields(name: str, dimensions: int) -> Callable[[Any], tuple[Any, ...]]:
    """What reads the fields ``<name>_stride_<dimension>`` of an instruction, the slowest dimension first."""
    return attrgetter(*(f"{name}_stride_{d}" for d in range(dimensions, 0, -1)))


OPCODES: dict[int, type[Instruction]] = {}
MNEMONICS: dict[str, type[Instruction]] = {}

_T = TypeVar("_T", bound=type[Any])


def operand_group(cls: _T) -> _T:
    """Declare fields that several instructions share; the subclasses inherit them, in front of their own."""
    return cast(_T, dataclasses.dataclass(frozen=True, kw_only=True)(cls))


def instruction(*, opcode: int, units: tuple[Unit, ...], max_waits: int = HEADER_WAITS) -> Callable[[_T], _T]:
    """Declare an instruction: place its fields, check it, and enter it in ``OPCODES`` and ``MNEMONICS``.

    Raises:
        DeclarationError: reused opcode or name, overlapping or overflowing fields, missing documentation,
            no ``operation``.
    """

    def declare(cls: _T) -> _T:
        cls.__annotations__["waits"] = tuple[Wait, ...]
        cls.waits = ()
        cls.__post_init__ = _validate  # before the dataclass is made: its __init__ calls only what is there then
        made: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        made.layout = _lay_out(made, opcode, units, max_waits)
        OPCODES[opcode] = made
        MNEMONICS[made.layout.mnemonic] = made
        return cast(_T, made)

    return declare


def _lay_out(cls: Any, opcode: int, units: tuple[Unit, ...], max_waits: int) -> Layout:
    mnemonic = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    if not 0 < opcode < 1 << OPCODE_BITS:
        raise DeclarationError(f"{mnemonic}: opcode {opcode:#x} does not fit {OPCODE_BITS} bits (0 is no instruction)")
    if opcode in OPCODES:
        raise DeclarationError(f"{mnemonic}: opcode {opcode:#04x} is taken by {OPCODES[opcode].layout.mnemonic}")
    if mnemonic in MNEMONICS:
        raise DeclarationError(f"{mnemonic}: declared twice")
    if not (cls.__doc__ or "").strip() or cls.__doc__.startswith(f"{cls.__name__}("):
        raise DeclarationError(f"{mnemonic}: no docstring")
    if cls.operation is Instruction.operation:
        raise DeclarationError(f"{mnemonic}: no operation()")
    cursor = OPERAND_BIT + WAIT_BITS * (max_waits - HEADER_WAITS)
    used = (1 << cursor) - 1
    placed = []
    for field in dataclasses.fields(cls):
        if field.name == "waits":
            continue
        spec: FieldSpec | None = field.metadata.get("spec")
        if spec is None or not spec.doc.strip():
            raise DeclarationError(f"{mnemonic}.{field.name}: no documentation")
        position = cursor if spec.at is None else spec.at
        mask = ((1 << spec.bits) - 1) << position
        if used & mask:
            raise DeclarationError(f"{mnemonic}.{field.name}: bits {position}..{position + spec.bits - 1} overlap")
        if position + spec.bits > WORD_BITS:
            raise DeclarationError(f"{mnemonic}.{field.name}: ends at bit {position + spec.bits}, past {WORD_BITS}")
        used |= mask
        cursor = max(cursor, position + spec.bits)
        placed.append(Placed(name=field.name, spec=spec, position=position, default=field.default))
    return Layout(opcode=opcode, mnemonic=mnemonic, units=units, max_waits=max_waits, fields=tuple(placed))


def check_value(mnemonic: str, field: Placed, value: Any) -> None:
    """Raise EncodingError unless ``value`` is an integer the field can hold."""
    spec = field.spec
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise EncodingError(f"{mnemonic}: {field.name} takes an integer, not {value!r}")
    if spec.choices:
        if value not in spec.choices:
            allowed = ", ".join(str(c) for c in spec.choices)
            raise EncodingError(f"{mnemonic}: {field.name}={value} is none of {allowed}")
    elif not spec.minimum <= value <= spec.maximum:
        raise EncodingError(f"{mnemonic}: {field.name}={value} is outside {spec.minimum}..{spec.maximum}")


def _validate(self: Any) -> None:
    layout = self.layout
    for field in layout.fields:
        check_value(layout.mnemonic, field, getattr(self, field.name))
    if len(self.waits) > layout.max_waits:
        raise EncodingError(
            f"{layout.mnemonic}: {len(self.waits)} waits do not fit, at most {layout.max_waits}; put a sync before it"
        )
    for unit, value in self.waits:
        if not 0 <= unit < MAX_CORES * UNITS_PER_CORE or not 1 <= value <= MAX_COUNTER:
            raise EncodingError(f"{layout.mnemonic}: wait({unit}, {value}) is out of range")
