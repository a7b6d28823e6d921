"""Durations of the instructions that touch no memory (microarchitecture 1)."""

from __future__ import annotations

from isa.instruction import Instruction
from isa.instructions import End, Sync
from npusim.config import Hardware
from npusim.timing.registry import cycles_of


@cycles_of(Sync, End)
def control_cycles(_: Instruction, hardware: Hardware) -> int:
    """``sync.control_cycles``."""
    return hardware.sync.control_cycles
