"""What is to be simulated: jobs, and how much of the machine's work is done.

Made by users and by ``session``; read by the loader. No behaviour lives here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
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
        arrival_cycle: cycle from which it may have its cores. Jobs that share cores take turns, in the order of arrival
            (then that of the list).
        name: for messages and the trace; by default the program's.
    """

    program: Program
    cores: Sequence[int] | None = None
    inputs: Mapping[str, np.ndarray[Any, Any] | bytes] = field(default_factory=dict)
    arrival_cycle: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How often a job is called, and when; the first time when it arrives.

    Attributes:
        period_cycles: from one request to the next, whole or not: request k comes ``floor(k * period_cycles)`` after
            the first. None: a call is requested after the one before has ended.
        gap_cycles: without a period: from the end of a call to the next request.
        runs: how often the program runs in one call, once directly after the other.
        calls: how many calls must end before the run is over; more are made as long as other jobs have not had theirs.
    """

    period_cycles: Fraction | None = None
    gap_cycles: int = 0
    runs: int = 1
    calls: int = 1
