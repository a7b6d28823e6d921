"""Which function times which instruction, and the one call that everybody makes.

The other modules of this package enter their functions here. No formula belongs here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from isa.instruction import Instruction, Unit
from isa.instructions import Barrier
from isa.instructions.transfer import DramTransfer
from npusim.config import Hardware
from npusim.errors import UsageError

TIMED: dict[tuple[type[Instruction], Unit], Callable[..., Any]] = {}
"""The function of an instruction class on a unit. ``barrier`` has none: it lasts until its last participant arrives."""

_F = TypeVar("_F", bound=Callable[..., Any])


def cycles_of(*classes: type[Instruction], on: Unit | None = None) -> Callable[[_F], _F]:
    """Enter a function ``(instruction, hardware) -> cycles`` for instruction classes, on all their units or on one.

    The function takes one instruction or columns (``isa.codec.decode_columns``) and therefore uses arithmetic only.
    Functions of ``load``, ``store`` and ``multicast`` take the physical address of the segment as well.
    """

    def enter(function: _F) -> _F:
        for cls in classes:
            for unit in cls.layout.units if on is None else (on,):
                assert (cls, unit) not in TIMED, f"{cls.layout.mnemonic} is timed twice on {unit}"
                TIMED[cls, unit] = function
        return function

    return enter


def uncontended_cycles(instruction: Any, unit: Unit, hardware: Hardware, physical_base: Any = 0) -> Any:
    """Duration from start to retire on a machine of its own (microarchitecture 3, 4, 5 and 6.6).

    Args:
        instruction: one instruction, or columns of a class.
        unit: which of the core's units executes it.
        hardware: the machine.
        physical_base: where the DRAM segment of a transfer begins, bytes; an int or an array along the columns.
            Transfers only: it decides how runs fall into bursts and pages.

    Returns:
        Cycles, at least 1: an int for one instruction, int64 for columns. ``sync`` and ``end`` have no fields, so that
        their columns have no length; the result is an int that broadcasts.

    Raises:
        UsageError: a barrier, which has no duration of its own, or a unit that does not execute the instruction.
    """
    cls = type(instruction)
    function = TIMED.get((cls, unit))
    if function is None:
        if cls is Barrier:
            raise UsageError("a barrier has no duration of its own: it retires when its last participant has arrived")
        raise UsageError(f"{cls.layout.mnemonic} does not run on {unit!s}")
    if isinstance(instruction, DramTransfer):
        cycles = function(instruction, hardware, physical_base)
    else:
        cycles = function(instruction, hardware)
    return cycles if isinstance(cycles, np.ndarray) else int(cycles)


def larger(a: Any, b: Any) -> Any:
    """The larger of two integers or integer arrays; exact for integers beyond 64 bits."""
    return a + (b - a) * (b > a)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """``yes`` where a condition between fields holds, else ``no``; integers or integer arrays."""
    return no + (yes - no) * condition
