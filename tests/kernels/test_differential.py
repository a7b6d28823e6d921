"""Every kernel against ``operation()``, the slow meaning of its instruction, on every tier: all bytes are equal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.memory import Memory
from npusim import kernels
from npusim.testing import runnable
from tests.kernels.bindings import BINDINGS

EXAMPLES = max(25, settings().max_examples // 4)
"""A quarter of the profile's, as there are a hundred cases of instruction and tier."""


def copied(memory: Memory) -> Memory:
    return Memory([x.copy() for x in memory.ocm], [x.copy() for x in memory.dram], memory.core)


@pytest.mark.parametrize("tier", kernels.available(), ids=lambda tier: tier.value)
@pytest.mark.parametrize("cls", BINDINGS, ids=lambda cls: cls.__name__)
def test_kernel_equals_operation(cls, tier):
    @settings(max_examples=EXAMPLES)
    @given(st.data())
    def check(data):
        instruction, memory = data.draw(runnable(cls))
        expected, actual = copied(memory), copied(memory)
        instruction.operation(expected)
        with kernels.forced(tier):
            BINDINGS[cls](instruction, actual)
        for wanted, got in zip((*expected.ocm, *expected.dram), (*actual.ocm, *actual.dram), strict=True):
            np.testing.assert_array_equal(got, wanted)  # bytes outside the destination included

    check()
