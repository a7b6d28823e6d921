"""Strategies for instructions: any that can be encoded, any 64 bytes, and small cases that run.

Public API for whoever tests a kernel, a decoder or an instruction of their own. ``instructions`` and ``words`` are
derived from the declarations; what makes an instruction runnable is a recipe's (``npusim.testing.recipes``).
"""

from __future__ import annotations

from typing import Any, TypeVar

from hypothesis import strategies as st

from isa.codec import encode
from isa.field import FieldSpec
from isa.instruction import MAX_CORES, MAX_COUNTER, OPCODES, UNITS_PER_CORE, WORD_BITS, WORD_BYTES, Instruction, Wait
from isa.memory import Memory

from .arena import Arena
from .recipes import recipe_of

_I = TypeVar("_I", bound=Instruction)


def field_values(spec: FieldSpec) -> st.SearchStrategy[Any]:
    """Every value a field can hold, its smallest and largest often."""
    if spec.choices:
        return st.sampled_from(spec.choices)
    return st.sampled_from((spec.minimum, spec.maximum)) | st.integers(spec.minimum, spec.maximum)


def waits(most: int) -> st.SearchStrategy[tuple[Wait, ...]]:
    """Up to ``most`` waits on any units of any cores."""
    wait = st.builds(Wait, st.integers(0, MAX_CORES * UNITS_PER_CORE - 1), st.integers(1, MAX_COUNTER))
    return st.lists(wait, max_size=most).map(tuple)


def instructions(cls: type[_I] | None = None) -> st.SearchStrategy[Any]:
    """Any instruction of ``cls``, or of all classes, that an instruction word can hold.

    Each field takes its whole range, independently of the others: the constraints between fields, bounds and alignment
    are not looked at. ``runnable`` does so.
    """
    if cls is None:
        return st.sampled_from(tuple(OPCODES.values())).flatmap(instructions)
    layout = cls.layout
    fields = {field.name: field_values(field.spec) for field in layout.fields}
    return st.builds(cls, waits=waits(layout.max_waits), **fields)


def words() -> st.SearchStrategy[bytes]:
    """Any 64 bytes: random ones, random ones behind a valid opcode, and encoded instructions with a flipped bit."""
    anything = st.binary(min_size=WORD_BYTES, max_size=WORD_BYTES)
    return anything | _plausible_words(anything) | _damaged_words()


@st.composite
def _plausible_words(draw: st.DrawFn, anything: st.SearchStrategy[bytes]) -> bytes:
    layout = draw(st.sampled_from(tuple(OPCODES.values()))).layout
    word = int.from_bytes(draw(anything), "little") & ~layout.reserved
    if draw(st.booleans()):  # random waits are nearly always malformed; without any, the operands are reached
        word &= ~((1 << (32 * layout.max_waits + 8)) - 1)
    return (word & ~0xFF | layout.opcode).to_bytes(WORD_BYTES, "little")


@st.composite
def _damaged_words(draw: st.DrawFn) -> bytes:
    word = int.from_bytes(encode(draw(instructions())), "little")
    return (word ^ 1 << draw(st.integers(0, WORD_BITS - 1))).to_bytes(WORD_BYTES, "little")


@st.composite
def runnable(draw: st.DrawFn, cls: type[Instruction]) -> tuple[Any, Memory]:
    """A small instance of ``cls`` and a memory it can run in.

    Its constraints hold; its regions are in bounds, aligned, and disjoint, or identical where ``may_alias`` says so.
    Shapes, strides, types, zero points and scales vary, and the bytes between the operands are random. The memory
    belongs to the caller, who copies it to run the case twice.

    Raises:
        KeyError: the instruction has no recipe; see ``npusim.testing.recipe``.
    """
    return recipe_of(cls)(Arena(draw), cls)
