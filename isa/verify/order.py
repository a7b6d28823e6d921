"""Happens-before: one order in which a program's instructions can retire, what each of them knows, or its deadlock.

A program's waits are static, so whether it stops does not depend on time: running every unit as far as it gets either
finishes or shows the deadlock. Looks at waits and barriers only; memory is the business of the other checks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from ..instruction import unit_name
from ..program import Program
from .access import Flow
from .report import Violation, site

Clock = list[int]
"""By unit number: how many instructions of the unit are known to have retired. Its own unit's entry is ``OWN``."""

OWN = 1 << 62
"""A unit's instructions are ordered among themselves, whatever their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A linear order and the knowledge of each instruction.

    Attributes:
        rank: by unit: int64[n], place of each instruction in an order that respects happens-before.
        clocks: by unit: the clock of each instruction when it issues. Instruction p of unit u happens before it
            exactly when ``clock[u] > p``.
    """

    rank: Mapping[int, np.ndarray[Any, Any]]
    clocks: Mapping[int, list[Clock]]


@dataclass(slots=True, kw_only=True)
class _Run:
    """One unit on its way through its stream."""

    stops: deque[int]
    rank: np.ndarray[Any, Any]
    clock: Clock
    clocks: list[Clock] = field(default_factory=list)
    meetings: dict[int, int] = field(default_factory=dict)  # by barrier id: how many have been passed
    sleepers: list[tuple[int, int]] = field(default_factory=list)  # (unit, value) that wait for this one
    waits_for: tuple[int, int] | None = None  # (unit, value) it stands at
    arrived: bool = False  # at its barrier


def linearise(program: Program, flows: Mapping[int, Flow], most: int) -> Order | tuple[Violation, ...]:
    """Run the units as far as they get.

    Returns:
        The order; or, where there is none, up to ``most`` reasons.
    """
    mismatches = tuple(islice(_check_meetings(program, flows), most))
    if mismatches:
        return mismatches
    units = max(flows, default=-1) + 1
    runs = {}
    for unit, flow in flows.items():
        clock = [0] * units
        clock[unit] = OWN
        stops = deque(sorted({*flow.waits, *flow.barriers}))
        runs[unit] = _Run(stops=stops, rank=np.zeros(flow.length, np.int64), clock=clock)
    ready, total = deque(sorted(runs)), 0
    gathered: dict[tuple[int, int, int], list[int]] = {}
    while ready:
        unit = ready.popleft()
        before = len(runs[unit].clocks)
        freed = _advance(unit, runs, flows, gathered)
        for moved in (unit, *(u for u in freed if u != unit)):
            run = runs[moved]
            first = before if moved == unit else len(run.clocks) - 1  # the others: their barrier
            count = len(run.clocks) - first
            run.rank[first : first + count] = np.arange(total, total + count)
            total += count
            if moved != unit:
                ready.append(moved)
            _wake(run, ready)
        if freed:
            ready.append(unit)
    if all(len(run.clocks) == flows[unit].length for unit, run in runs.items()):
        return Order(rank={u: r.rank for u, r in runs.items()}, clocks={u: r.clocks for u, r in runs.items()})
    return tuple(islice(_explain(program, flows, runs), most))


def _wake(run: _Run, ready: deque[int]) -> None:
    done = len(run.clocks)
    if run.sleepers:
        ready.extend(unit for unit, value in run.sleepers if value <= done)
        run.sleepers[:] = [(unit, value) for unit, value in run.sleepers if value > done]


def _advance(
    unit: int, runs: Mapping[int, _Run], flows: Mapping[int, Flow], gathered: dict[tuple[int, int, int], list[int]]
) -> list[int]:
    """Let one unit go on until it has to wait; the units that its barrier sets free, itself included, or none."""
    run, flow = runs[unit], flows[unit]
    while True:
        stop = run.stops[0] if run.stops else flow.length
        run.clocks.extend([run.clock] * (stop - len(run.clocks)))
        if stop == flow.length:
            return []
        for other, value in flow.waits.get(stop, ()):
            if other not in runs or len(runs[other].clocks) < value:
                run.waits_for = (other, value)
                if other in runs:
                    runs[other].sleepers.append((unit, value))
                return []
            if run.clock[other] < value:
                run.clock = _merged(unit, run.clock, other, value, runs[other].clocks[value - 1])
        run.waits_for = None
        if stop in flow.barriers:
            return _meet(unit, stop, runs, flows, gathered)
        run.stops.popleft()
        run.clocks.append(run.clock)


def _merged(unit: int, clock: Clock, other: int, value: int, known: Clock) -> Clock:
    """The clock of ``unit`` after it has seen ``value`` instructions of ``other``, the last of which knew ``known``."""
    merged = list(map(max, clock, known))
    merged[other] = max(clock[other], value)
    merged[unit] = OWN
    return merged


def _meet(
    unit: int, stop: int, runs: Mapping[int, _Run], flows: Mapping[int, Flow],
    gathered: dict[tuple[int, int, int], list[int]],
) -> list[int]:  # fmt: skip
    """Arrive at a barrier; the last to arrive sets all free and returns them."""
    run = runs[unit]
    if run.arrived:
        return []
    name, mask = flows[unit].barriers[stop]
    meeting = (name, mask, run.meetings.get(name, 0))
    present = gathered.setdefault(meeting, [])
    present.append(unit)
    run.arrived = True
    if len(present) < mask.bit_count():
        return []
    del gathered[meeting]
    together = [max(known) for known in zip(*(runs[u].clock for u in present), strict=True)]
    for member in present:
        together[member] = len(runs[member].clocks) + 1
    for member in present:
        there = runs[member]
        there.clock = list(together)
        there.clock[member] = OWN
        there.clocks.append(there.clock)
        there.stops.popleft()
        there.meetings[name] = there.meetings.get(name, 0) + 1
        there.arrived = False
    return present


def _check_meetings(program: Program, flows: Mapping[int, Flow]) -> Iterator[Violation]:
    """Barriers whose participants disagree on who takes part."""
    series: dict[int, dict[int, list[tuple[int, int]]]] = {}
    for unit, flow in flows.items():
        by_name = series.setdefault(unit, {})
        for position, (name, mask) in sorted(flow.barriers.items()):
            by_name.setdefault(name, []).append((position, mask))
    for unit, by_name in series.items():
        for name, own in by_name.items():
            for index, (position, mask) in enumerate(own):
                for other in (u for u in range(mask.bit_length()) if mask >> u & 1):
                    theirs = series.get(other, {}).get(name, ())
                    if index >= len(theirs) or theirs[index][1] == mask:
                        continue
                    if unit < other or not theirs[index][1] >> unit & 1:  # else the other one tells
                        here, there = site(program, unit, position), site(program, other, theirs[index][0])
                        yield Violation(
                            kind="structure",
                            message=f"{here} and {there} are meeting {index} of barrier {name}, "
                            f"but their masks differ: {mask:#x} and {theirs[index][1]:#x}",
                            sites=(here, there),
                        )


def _explain(program: Program, flows: Mapping[int, Flow], runs: Mapping[int, _Run]) -> Iterator[Violation]:
    """One violation per cycle of waiting units, and per wait that nothing can ever satisfy."""
    told: set[frozenset[int]] = set()
    for start in sorted(runs):
        path: list[int] = []
        unit = start
        while unit in runs and unit not in path and len(runs[unit].clocks) < flows[unit].length:
            path.append(unit)
            unit = _waits_on(unit, flows, runs)
        if not path:
            continue
        ring = path[path.index(unit) :] if unit in path else path[-1:]
        if frozenset(ring) in told:
            continue
        told.add(frozenset(ring))
        sites = tuple(site(program, u, len(runs[u].clocks)) for u in ring)
        steps = "; ".join(f"{where} {_want(u, flows, runs)}" for u, where in zip(ring, sites, strict=True))
        yield Violation(kind="deadlock", message=steps, sites=sites)


def _waits_on(unit: int, flows: Mapping[int, Flow], runs: Mapping[int, _Run]) -> int:
    """The unit that a stopped one waits on; itself, where nothing anybody does can help."""
    wanted = runs[unit].waits_for
    if wanted is not None:
        other, value = wanted
        return other if other in flows and value <= flows[other].length else unit
    return _absent(unit, flows, runs)


def _absent(unit: int, flows: Mapping[int, Flow], runs: Mapping[int, _Run]) -> int:
    """The first participant that has not come to the barrier a unit stands at."""
    name, mask = flows[unit].barriers[len(runs[unit].clocks)]
    for other in (u for u in range(mask.bit_length()) if mask >> u & 1):
        if other not in runs:
            return other
        there = runs[other]
        at = flows[other].barriers.get(len(there.clocks)) if there.arrived else None
        if at != (name, mask):
            return other
    raise AssertionError("a barrier with everybody present lets go")


def _want(unit: int, flows: Mapping[int, Flow], runs: Mapping[int, _Run]) -> str:
    wanted = runs[unit].waits_for
    if wanted is None:
        other = _absent(unit, flows, runs)
        name, _ = flows[unit].barriers[len(runs[unit].clocks)]
        if other not in flows:
            return f"waits at barrier {name} for {unit_name(other)}, which has no stream"
        ended = len(runs[other].clocks) == flows[other].length
        return f"waits at barrier {name} for {unit_name(other)}" + (", which never comes" if ended else "")
    other, value = wanted
    if other not in flows:
        return f"waits for {unit_name(other)} to retire {value}, which has no stream"
    if value > flows[other].length:
        return f"waits for {unit_name(other)} to retire {value}, but its stream has {flows[other].length}"
    return f"waits for {unit_name(other)} to retire {value}"
