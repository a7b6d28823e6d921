"""The static proof that a program is safe on every timing, and the bounds check repeated at every load.

Used by the compiler, the command line and whoever loads programs. ``verify`` reads as the table of contents; each
step is a file. Cycles play no part here.

A proven program has no deadlock, no data race, no access out of bounds or misaligned, no destination that destroys its
own source, and no read of bytes that nothing wrote; so the order in which units happen to run cannot change a result.
What an instruction finds in memory (an index of a gather, a scale) is checked when it runs.
"""

from __future__ import annotations

from itertools import chain, islice
from weakref import WeakKeyDictionary

from ..program import Program
from .access import decode, flows_of, tabulate
from .limits import VERIFIER_VERSION, Limits, is_stamped, stamp
from .order import Order, linearise
from .races import find_races
from .report import Kind, Report, Site, Violation
from .single import check_single, memory_sizes
from .written import find_unwritten

__all__ = [
    "VERIFIER_VERSION", "Kind", "Limits", "Report", "Site", "Violation", "check_bounds", "is_stamped", "stamp",
    "verify",
]  # fmt: skip

MAX_VIOLATIONS = 20

_BOUNDS: WeakKeyDictionary[Program, dict[tuple[Limits, int], tuple[Violation, ...]]] = WeakKeyDictionary()
"""Answers of ``check_bounds`` for living programs."""


def check_bounds(program: Program, limits: Limits, *, max_violations: int = MAX_VIOLATIONS) -> tuple[Violation, ...]:
    """The part of the proof that is repeated at every load: each instruction by itself.

    Words decode and run on their unit, constraints hold, every access lies in memory that exists and is aligned,
    sources and destinations of one instruction are apart or the same, streams end with ``end``, waits and barriers
    name units of the program. Nothing the program does can then leave its memory, proven or not. The answer is
    remembered for the program's next load.
    """
    known, key = _BOUNDS.setdefault(program, {}), (limits, max_violations)
    if key not in known:
        decoded = decode(program)
        found = chain(decoded.violations, check_single(program, limits, decoded, max_violations))
        known[key] = tuple(islice(found, max_violations))
    return known[key]


def verify(program: Program, limits: Limits, *, max_violations: int = MAX_VIOLATIONS) -> Report:
    """Prove a program, or say why it cannot be proven.

    Args:
        program: any program, wherever it comes from.
        limits: the machine it is proven for.
        max_violations: how many are reported; at least 1.

    Returns:
        A report that is the same whenever program and limits are. Races and uninitialised reads are looked for only
        where the program decodes and has no deadlock, because they are questions about its order.
    """
    if max_violations < 1:
        raise ValueError(f"max_violations must be at least 1, not {max_violations}")
    decoded = decode(program)
    sizes = memory_sizes(program, limits)
    table = tabulate(decoded.groups, sizes)
    violations = [*decoded.violations, *check_single(program, limits, decoded, max_violations)]
    if not decoded.violations:
        order = linearise(program, flows_of(program, decoded), max_violations)
        if isinstance(order, Order):
            violations += islice(find_races(program, order, table), max_violations)
            violations += islice(find_unwritten(program, order, table, sizes), max_violations)
        else:
            violations += order
    return Report(
        program=program.name,
        violations=tuple(violations[:max_violations]),
        instructions=len(program),
        accesses=len(table),
        boxes=len(table.boxes),
        stamp="" if violations else stamp(program, limits),
    )
