"""``check_kernel``: whether a kernel of one's own means what the instruction says.

Public API. The cases come from ``runnable``, the truth from the instruction's ``operation()``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from isa.assembler import format_instruction
from isa.instruction import Instruction
from isa.memory import Memory

from .instructions import runnable

Kernel = Callable[[Any, Memory], None]


def check_kernel(cls: type[Instruction], kernel: Kernel, *, examples: int = 200, seed: int | None = None) -> None:
    """Run ``kernel`` on many small cases of an instruction and compare all memory with what ``operation()`` leaves.

    Shapes, strides, types, zero points, clamps and scales vary; scales that make ties are frequent, and so are values
    at the ends of their types. A failing case is shrunk to a simple one before it is reported.

    Args:
        cls: the instruction.
        kernel: performs an instruction in a memory: ``kernel(instruction, memory)``. ``memory.view(region)`` gives
            arrays over the operands, which ``instruction.reads()`` and ``.writes()`` name in the documented order.
        examples: cases to try.
        seed: other cases for each number; None repeats the same ones in every run.

    Raises:
        AssertionError: the memories differ; the message shows the instruction and the first wrong byte.
        KeyError: the instruction has no recipe; see ``npusim.testing.recipe``.

    Example:
        A lookup, and one with a bug in rows that are no multiple of sixteen:

        >>> from isa.instructions import Lookup
        >>> def lookup(instruction, memory):
        ...     src, table = (memory.view(region) for region in instruction.reads())
        ...     index = src.view(f"u{src.itemsize}")
        ...     memory.view(instruction.writes()[0])[...] = table[index]
        >>> check_kernel(Lookup, lookup, examples=20)

        >>> def careless(instruction, memory):
        ...     lookup(instruction, memory)
        ...     if instruction.count % 16:
        ...         memory.view(instruction.writes()[0])[:, -1] ^= 1
        >>> check_kernel(Lookup, careless)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        AssertionError: the kernel and Lookup.operation() differ...
    """
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    quiet = list(HealthCheck)

    @settings(max_examples=examples, deadline=None, phases=phases, suppress_health_check=quiet, database=None,
              derandomize=seed is None, print_blob=False, report_multiple_bugs=False)  # fmt: skip
    @given(st.data())
    def check(data: st.DataObject) -> None:
        instruction, memory = data.draw(runnable(cls))
        expected, actual = _copied(memory), _copied(memory)
        instruction.operation(expected)
        kernel(instruction, actual)
        _compare(instruction, memory, expected, actual)

    if seed is not None:
        import hypothesis

        check = hypothesis.seed(seed)(check)
    check()


def _copied(memory: Memory) -> Memory:
    return Memory([x.copy() for x in memory.ocm], [x.copy() for x in memory.dram], memory.core)


def _compare(instruction: Any, before: Memory, expected: Memory, actual: Memory) -> None:
    """Refuse the first difference; ``before`` tells a wrong result from a byte that should not have been written."""
    name = type(instruction).__name__
    for kind in ("ocm", "dram"):
        memories = (getattr(memory, kind) for memory in (before, expected, actual))
        for number, (old, wanted, got) in enumerate(zip(*memories, strict=True)):
            wrong = np.flatnonzero(wanted != got)
            if wrong.size:
                first = int(wrong[0])
                kept = ", as before" if wanted[first] == old[first] else ""
                place = f"OCM of core {number}" if kind == "ocm" else f"DRAM segment {number}"
                raise AssertionError(
                    f"the kernel and {name}.operation() differ in {wrong.size} bytes of the {place}; the first, at "
                    f"{first:#x}, should be {wanted[first]}{kept}, and is {got[first]}:\n"
                    f"{format_instruction(instruction)}"
                )
