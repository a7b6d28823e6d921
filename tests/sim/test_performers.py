"""Kernels behind the executor against the instructions' own meaning, byte by byte of the whole memory."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npusim.sim.performers
from isa.codec import FieldLists, Fields, encode_stream
from isa.errors import AccessError
from isa.instruction import OPCODES, unit_number
from isa.instructions import Lookup
from isa.memory import Memory
from isa.program import Program, program_columns
from npusim.kernels import Tier, active
from npusim.sim.executor import HANDLERS, actions_of
from npusim.sim.operands import operands_of
from npusim.testing.instructions import runnable

ALL = sorted(OPCODES.values(), key=lambda cls: cls.layout.opcode)
PERFORMED = sorted(HANDLERS, key=lambda cls: cls.layout.opcode)


def _copy(memory):
    return Memory([m.copy() for m in memory.ocm], [m.copy() for m in memory.dram], memory.core)


def _views(instruction, memory):
    """What the executor hands a kernel."""
    regions = (*instruction.reads(), *instruction.writes())
    return [memory.view(region) if region.run else None for region in regions]


def _outcome(perform, memory):
    """The memory after ``perform``, or that it refused."""
    with contextlib.suppress(AccessError):
        perform(memory)
        return [m.tobytes() for m in (*memory.ocm, *memory.dram)]
    return "refused"


@pytest.mark.parametrize("cls", PERFORMED, ids=lambda cls: cls.layout.mnemonic)
@given(data=st.data())
@settings(max_examples=60)
def test_a_kernel_does_what_the_instruction_means(cls, data):
    instruction, memory = data.draw(runnable(cls))
    expected = _outcome(instruction.operation, _copy(memory))
    actual = _outcome(lambda m: HANDLERS[cls](instruction, *_views(instruction, m)), _copy(memory))
    assert (actual == "refused") == (expected == "refused")
    assert actual == expected, str(instruction)


@st.composite
def on_the_last_core(draw, cls):
    """An instruction that can run, on the last of several cores, and the same as columns of a program."""
    instruction, memory = draw(runnable(cls))
    memory = Memory([*memory.ocm, memory.ocm[memory.core].copy()], memory.dram, len(memory.ocm))
    unit = unit_number(memory.core, cls.layout.units[0])
    program = Program(name="alone", cores=len(memory.ocm), streams={unit: encode_stream([instruction])})
    (alike,) = program_columns(program)
    return instruction, memory, alike


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.layout.mnemonic)
@given(data=st.data())
@settings(max_examples=20)
def test_an_action_does_what_the_instruction_means(cls, data):
    instruction, memory, alike = data.draw(on_the_last_core(cls))

    def perform(memory):
        for action in actions_of(alike, memory.ocm, memory.dram):
            action()

    assert _outcome(perform, _copy(memory)) == _outcome(instruction.operation, _copy(memory)), str(instruction)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.layout.mnemonic)
@given(data=st.data())
@settings(max_examples=20)
def test_operands_are_the_views_of_the_regions(cls, data):
    instruction, memory, alike = data.draw(on_the_last_core(cls))
    (operands,) = operands_of(alike, memory.ocm, memory.dram)
    for mine, wanted in zip(operands, _views(instruction, memory), strict=True):
        assert (mine is None) == (wanted is None)
        if mine is not None:
            assert mine.__array_interface__ == wanted.__array_interface__


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.layout.mnemonic)
@given(data=st.data())
@settings(max_examples=5)
def test_fields_are_those_of_the_instruction(cls, data):
    instruction, _, alike = data.draw(on_the_last_core(cls))
    fields = Fields(FieldLists(alike.columns), 0)
    for field in cls.layout.fields:
        mine, wanted = getattr(fields, field.name), getattr(instruction, field.name)
        assert (mine, type(mine)) == (wanted, type(wanted))


def test_what_moves_or_waits_needs_no_kernel():
    # control, moves and transfers: NumPy copies them as fast as anything
    without = {cls for cls in OPCODES.values() if cls not in HANDLERS}
    assert {cls.layout.opcode >> 4 for cls in without} == {0x0, 0x5, 0x6}


def test_the_tier_in_use_is_the_fastest_there_is():
    assert npusim.sim.performers.__doc__
    assert active() in tuple(Tier)
    assert Lookup in HANDLERS
