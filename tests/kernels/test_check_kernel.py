"""``check_kernel`` passes a right kernel, finds a planted bug, and says where."""

from __future__ import annotations

import pytest

from isa.instructions import Add, Lookup
from npusim.testing import check_kernel
from tests.kernels.bindings import BINDINGS


def test_accepts_the_kernels_of_the_machine():
    check_kernel(Add, BINDINGS[Add], examples=30)


def test_other_seeds_make_other_cases():
    seen: dict[int, list[str]] = {}
    for seed in (1, 2):

        def note(instruction, memory, seed=seed):
            seen.setdefault(seed, []).append(repr(instruction))
            instruction.operation(memory)

        check_kernel(Lookup, note, examples=5, seed=seed)
    assert seen[1] != seen[2]


def test_names_the_instruction_and_the_byte_of_a_wrong_result():
    def careless(instruction, memory):
        instruction.operation(memory)
        if instruction.count % 16:
            memory.view(instruction.writes()[0])[:, -1] ^= 1

    with pytest.raises(AssertionError, match=r"lookup .*count=1 ") as caught:  # shrunk to a row of one element
        check_kernel(Lookup, careless)
    assert "differ in 1 bytes of the OCM of core 0" in str(caught.value)


def test_finds_a_write_outside_the_destination():
    def spilling(instruction, memory):
        instruction.operation(memory)
        memory.ocm[0][0] ^= 1

    with pytest.raises(AssertionError, match="as before"):
        check_kernel(Lookup, spilling)
