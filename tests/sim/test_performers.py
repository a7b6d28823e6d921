"""Kernels behind the executor against the instructions' own meaning, byte by byte of the whole memory."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npusim.sim.performers
from isa.errors import AccessError
from isa.instructions import Lookup
from isa.memory import Memory
from npusim.kernels import Tier, active
from npusim.sim.executor import HANDLERS
from npusim.testing.instructions import runnable

PERFORMED = sorted(HANDLERS, key=lambda cls: cls.layout.opcode)


def _copy(memory):
    return Memory([m.copy() for m in memory.ocm], [m.copy() for m in memory.dram], memory.core)


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
    actual = _outcome(lambda m: HANDLERS[cls](instruction, m), _copy(memory))
    assert (actual == "refused") == (expected == "refused")
    assert actual == expected, str(instruction)


def test_what_moves_or_waits_needs_no_kernel():
    from isa.instruction import OPCODES

    # control, moves and transfers: NumPy copies them as fast as anything
    without = {cls for cls in OPCODES.values() if cls not in HANDLERS}
    assert {cls.layout.opcode >> 4 for cls in without} == {0x0, 0x5, 0x6}


def test_the_tier_in_use_is_the_fastest_there_is():
    assert npusim.sim.performers.__doc__
    assert active() in tuple(Tier)
    assert Lookup in HANDLERS
