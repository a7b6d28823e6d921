"""What is to be simulated: jobs, and how much of the machine's work is done.

Made by users and by ``session``; read by the loader. No behaviour lives here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from isa.program import Program


class Mode(Enum):
    """What a run produces."""

    FULL = "full"
    """Values and time: each instruction's arithmetic happens in the cycle in which it retires."""
    TIME = "time"
    """Cycles and trace only; no arithmetic, no memory, no inputs needed."""
    VALUES = "values"
    """Outputs only, in an order that respects the waits; no cycles and no trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One program on some cores of the machine.

    Attributes:
        program: what to run.
        cores: physical core of each logical core, in order; by default the first ones.
        inputs: bytes of the input segments by name, as arrays of any type or bytes-like objects; inputs that carry a
            default, and all of them in ``Mode.TIME``, may be left out.
        arrival_cycle: cycle from which its units may start.
        name: for messages and the trace; by default the program's.
    """

    program: Program
    cores: Sequence[int] | None = None
    inputs: Mapping[str, np.ndarray[Any, Any] | bytes] = field(default_factory=dict)
    arrival_cycle: int = 0
    name: str = ""
