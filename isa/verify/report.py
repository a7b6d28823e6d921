"""What the verifier says: violations, each one sentence and its parts, and the report that collects them.

Made by the checks of ``isa.verify``, printed by the command line. No check lives here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..instruction import OPCODES, unit_name
from ..program import Program
from ..region import Space

Kind = Literal[
    "structure", "constraint", "bounds", "alignment", "alias", "deadlock", "race", "uninitialised"
]  # fmt: skip

PLACE_BITS = 8
"""A memory's number is its space followed by this many bits of core or segment."""


def memory_number(space: Space, place: Any) -> Any:
    """One number for a core's OCM or a DRAM segment; an int, or an array for an array of places."""
    return (int(space) << PLACE_BITS) + place


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An instruction in its program.

    Attributes:
        unit: ``core0.sdma``.
        position: index in the unit's stream.
        mnemonic: name in assembly.
        origin: what it was made for, or "".
    """

    unit: str
    position: int
    mnemonic: str
    origin: str

    def __str__(self) -> str:
        made_for = f" for {self.origin}" if self.origin else ""
        return f"{self.unit} instruction {self.position} ({self.mnemonic}{made_for})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One reason why a program is refused.

    Attributes:
        kind: which promise it breaks.
        message: one sentence that names everything below.
        sites: the instructions concerned, the earlier one first where there is an order.
        space: memory concerned, or None.
        place: name of the core or of the segment, or "".
        low: first byte concerned.
        high: last byte concerned, itself included.
    """

    kind: Kind
    message: str
    sites: tuple[Site, ...] = ()
    space: Space | None = None
    place: str = ""
    low: int = 0
    high: int = 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What ``verify`` found.

    Attributes:
        program: name of the program.
        violations: as many as were asked for, in the order of the checks; empty for a proven program.
        instructions: instructions proven.
        accesses: non-empty reads and writes of memory that they make.
        boxes: different byte sets among those accesses.
        stamp: to put into the program; "" where there are violations.
    """

    program: str
    violations: tuple[Violation, ...]
    instructions: int
    accesses: int
    boxes: int
    stamp: str

    @property
    def clean(self) -> bool:
        """Whether the program is proven."""
        return not self.violations


def site(program: Program, unit: int, position: int) -> Site:
    """The instruction at ``position`` of a unit's stream."""
    opcode = int(program.streams[unit][position][0])
    mnemonic = OPCODES[opcode].layout.mnemonic if opcode in OPCODES else f"opcode {opcode:#04x}"
    return Site(unit=unit_name(unit), position=position, mnemonic=mnemonic, origin=program.origin(unit, position))


def place_name(program: Program, memory: int) -> str:
    """``core0`` or the name of a segment; its number where the program has none."""
    space, place = divmod(memory, 1 << PLACE_BITS)
    if space == Space.OCM:
        return f"core{place}"
    return program.segments[place].name if place < len(program.segments) else str(place)


def byte_range(program: Program, memory: int, low: int, high: int) -> str:
    """``core0 OCM 0x400..0x43f`` or ``segment weights 0x0..0x3f``; ``high`` is the last byte, included."""
    name = place_name(program, memory)
    where = f"{name} OCM" if memory >> PLACE_BITS == Space.OCM else f"segment {name}"
    return f"{where} {low:#x}..{high:#x}"


def at_memory(
    program: Program, kind: Kind, message: str, sites: tuple[Site, ...], memory: int, low: int, high: int
) -> Violation:
    """A violation about the bytes ``low`` to ``high``, included, which ``{bytes}`` in the message stands for."""
    return Violation(
        kind=kind,
        message=message.replace("{bytes}", byte_range(program, memory, low, high)),
        sites=sites,
        space=Space(memory >> PLACE_BITS),
        place=place_name(program, memory),
        low=low,
        high=high,
    )
