"""``compare_plans``: which allocation of the cores serves a mix of models best.

Used by people and by ``npusim compare``. A plan such as ``2+1`` parts the cores into blocks; every way to give the
models to its blocks is simulated, and the best stands for the plan.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from math import exp, inf, log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npusim import axmodel
from npusim.axmodel import Axmodel
from npusim.config import Hardware
from npusim.errors import UsageError
from npusim.session.builder import Built, build, configure, prepare_model
from npusim.session.calls import Member, Shift, alone_ms, call_together, deadline_of, parse_fps
from npusim.session.fleet import Fleet, checked, checked_deadline, fleet_of, member_of, spread
from npusim.session.machine import find_hardware

if TYPE_CHECKING:
    from fractions import Fraction

    from npusim.session.builder import Config
    from npusim.session.configuration import Configuration

Report = Callable[[float, str], None]
"""Told about the share of the work that is done, 0..1, and what comes next."""

MOST_WAYS = 64
"""Ways to give models to the blocks of one plan that are simulated at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How well models are served.

    Attributes:
        missed: share of deadlines missed, the mean over the models that have any, 0..1; 0 where none has.
        speed: of the models that are called as fast as possible: inferences a second over those of the quickest build
            alone on the machine, the geometric mean; None where there are none.
        deadline_use: 99th percentile of the latency over the deadline, the mean over the models that have one; None
            where none has.
    """

    missed: float
    speed: float | None
    deadline_use: float | None

    @property
    def rank(self) -> tuple[float, float, float]:
        """Smaller is better: fewest deadlines missed, then most speed, then most room before the deadlines.

        Differences too small to be printed do not count.
        """
        return round(self.missed, 4), -round(self.speed or 0, 3), round(self.deadline_use or 0, 3)

    def figures(self) -> str:
        """The marks in words."""
        words = []
        if self.deadline_use is not None:
            words.append(f"{self.missed:.2%} of the deadlines missed")
            words.append(f"99 % of calls use {self.deadline_use:.1%} of theirs at most")
        if self.speed is not None:
            words.append(f"{self.speed:.1%} of the speed alone on the whole machine (geometric mean)")
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanResult:
    """A plan with its models where they are served best.

    Attributes:
        plan: sizes of its blocks, such as ``2+1``.
        fleet: the models in their blocks.
        marks: how well they are served.
        ways: how many ways to give the models to the blocks were simulated.
    """

    plan: str
    fleet: Fleet
    marks: Marks
    ways: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """Plans for a mix of models.

    Attributes:
        results: in the order given.
        notes: what the user should know about how the models were built.
    """

    results: tuple[PlanResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> PlanResult:
        """The plan that serves the mix best; the first of equals."""
        return min(self.results, key=lambda result: result.marks.rank)

    @property
    def verdict(self) -> str:
        """A sentence: which plan, and why."""
        best, mine = self.best, self.best.marks
        others = sorted((r for r in self.results if r is not best), key=lambda result: result.marks.rank)
        if not others:
            return f"{best.plan} is the only plan: {mine.figures()}"
        other, theirs = others[0].plan, others[0].marks
        if mine.rank == theirs.rank:
            return f"{best.plan} serves this mix as well as {other}: {mine.figures()}"
        if mine.rank[0] != theirs.rank[0]:
            why = f"it misses {mine.missed:.2%} of the deadlines, {other} {theirs.missed:.2%}"
        elif mine.rank[1] != theirs.rank[1]:
            why = (
                f"its models run at {mine.speed or 0:.1%} of their speed alone on the whole machine (geometric mean), "
                f"those of {other} at {theirs.speed or 0:.1%}"
            )
        else:
            why = (
                f"99 % of its calls use {mine.deadline_use or 0:.1%} of their deadline at most (mean of the models), "
                f"those of {other} {theirs.deadline_use or 0:.1%}"
            )
        return f"{best.plan} serves this mix best: {why}"

    def records(self) -> list[dict[str, Any]]:
        """A flat row for every model of every plan: ``pandas.DataFrame(plans.records())``."""
        return [{"plan": r.plan, "best": r is self.best, **row} for r in self.results for row in r.fleet.records()]

    def __repr__(self) -> str:
        return f"<Plans {', '.join(result.plan for result in self.results)}: {self.verdict}>"


class Entrant:
    """A model of the mix, built for as many cores as it is asked for.

    Args:
        source: a model in any form that ``build`` takes, or a built model, which has its cores.
        hardware: the machine.
        fps: calls a second; None: as fast as possible.
        deadline_ms: time a call may take; None: the period.
        batch: inferences in a call.
        configuration: of the builds.
    """

    def __init__(
        self,
        source: Any,
        hardware: Hardware,
        *,
        fps: Fraction | None,
        deadline_ms: float | None,
        batch: int,
        configuration: Configuration,
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._hardware, self._configuration = hardware, configuration
        self._fps, self._deadline_ms, self._batch = fps, deadline_ms, batch
        self._source, fixed = _opened(source)
        self._builds: dict[int, Axmodel] = {fixed.cores: fixed} if fixed is not None else {}
        self._is_built = fixed is not None
        self._alone: dict[int, float] = {}

    def prepare(self, largest: int, report: Callable[[str], None]) -> None:
        """Build for every number of cores up to ``largest``; a float model is quantized once."""
        if not self._is_built:
            prepared = prepare_model(self._source, self._configuration, report=lambda stage, _: report(stage))
            self.notes = prepared.notes
            fallback = self._configuration.build.cpu_fallback
            for cores in range(1, largest + 1):
                report(f"build for NPU{cores}")
                built = build(prepared, npu_mode=f"NPU{cores}", hardware=self._hardware, cpu_fallback=fallback)
                self._builds[cores] = built.axmodel
        for cores in self._builds:
            report(f"{self.name} alone, NPU{cores}")
            self._alone[cores] = alone_ms(self._hardware, self.member(cores, tuple(range(cores))))

    @cached_property
    def name(self) -> str:
        """The model's."""
        return next(iter(self._builds.values())).name

    def model(self, cores: int) -> Axmodel:
        """The build for so many cores."""
        return self._builds[cores]

    def quickest(self, most: int | None = None) -> int | None:
        """Cores of the quickest build that has no more than ``most``; None where there is none."""
        fitting = [(self._alone[c], c) for c in self._builds if most is None or c <= most]
        return min(fitting)[1] if fitting else None

    @property
    def best_fps(self) -> float:
        """Inferences a second of the quickest build alone on the machine."""
        return self._batch * 1e3 / min(self._alone.values())

    def member(self, cores: int, physical: tuple[int, ...]) -> Member:
        """One build on some physical cores."""
        return member_of(
            self._builds[cores], self._hardware, physical, fps=self._fps, deadline_ms=self._deadline_ms,
            batch=self._batch,
        )  # fmt: skip


def compare_plans(
    models: Sequence[Any],
    plans: Sequence[str],
    *,
    fps: Any = None,
    deadline_ms: Any = None,
    batch: Any = 1,
    repeat: int = 5,
    warmup: int = 1,
    hardware: str | Path | Hardware = "ax650n",
    config: Config = None,
    report: Report | None = None,
) -> Plans:
    """Find the allocation of the cores that serves a mix of models best.

    A block of a plan serves one call at a time. In a block of n cores a model has the quickest of its builds for 1 to n
    cores. Every way to give the models to the blocks is simulated, and the best stands for the plan. Better is: fewer
    deadlines missed, then more speed of the models without a clock, then more room before the deadlines.

    Args:
        models: ONNX models in any form that ``build`` takes; or built ones, which have their cores.
        plans: sizes of the blocks, such as ``"3"``, ``"1+1+1"``, ``"2+1"``.
        fps: requests a second, for all models or by model; None: each call as soon as the one before has ended.
        deadline_ms: time a call may take, for all or by model; None: the period of ``fps``.
        batch: inferences in a call, for all or by model.
        repeat: calls of each model, at least, that are measured.
        warmup: calls of each before them.
        hardware: the machine.
        config: of the builds: a configuration file, or its content.
        report: told about progress.

    Raises:
        UsageError: plans, numbers or models that do not go together.
        ModelError, UnsupportedError, ...: as ``build``.
    """
    machine = find_hardware(hardware)
    if not models or not plans:
        raise UsageError("a comparison of plans has at least one model and one plan")
    blocks = {text: parse_plan(text, machine) for text in plans}
    count = len(models)
    rates = [parse_fps(rate) for rate in spread(fps, count, "fps")]
    batches = [checked("batch", size, 1) for size in spread(batch, count, "batch")]
    deadlines = [checked_deadline(limit) for limit in spread(deadline_ms, count, "deadline_ms")]
    checked("repeat", repeat, 1)
    checked("warmup", warmup, 0)
    tell = report or _silent
    configuration = configure(config)
    entrants = [
        Entrant(model, machine, fps=rate, deadline_ms=deadline, batch=size, configuration=configuration)
        for model, rate, deadline, size in zip(models, rates, deadlines, batches, strict=True)
    ]
    placed = {text: placements(text, parts, count) for text, parts in blocks.items()}
    largest = max(len(block) for parts in blocks.values() for block in parts)
    for index, entrant in enumerate(entrants):
        entrant.prepare(largest, partial(tell, 0.3 * index / count))
    ways = {text: _members(text, parts, placed[text], entrants) for text, parts in blocks.items()}
    total, done = sum(map(len, ways.values())), 0
    results = []
    for text, given in ways.items():
        tried: list[tuple[Marks, tuple[Member, ...], Shift]] = []
        for members in given:
            tell(0.3 + 0.7 * done / total, f"plan {text}, {done + 1} of {total} ways to place the models")
            shift = call_together(machine, members, repeat, warmup)
            tried.append((_mark(entrants, members, shift), members, shift))
            done += 1
        marks, members, shift = min(tried, key=lambda way: way[0].rank)
        built = [entrant.model(member.program.cores) for entrant, member in zip(entrants, members, strict=True)]
        fleet = fleet_of(machine, text, built, members, shift, repeat, warmup)
        results.append(PlanResult(plan=text, fleet=fleet, marks=marks, ways=len(tried)))
    notes = dict.fromkeys(note for entrant in entrants for note in entrant.notes)
    return Plans(results=tuple(results), notes=tuple(notes))


def _silent(share: float, what: str) -> None:
    """Tell nobody."""
    del share, what


def parse_plan(text: str, hardware: Hardware) -> tuple[tuple[int, ...], ...]:
    """The blocks of cores of a plan, from core 0 on.

    Raises:
        UsageError: no plan, or one with more cores than the machine.

    >>> from npusim.config import load
    >>> parse_plan("2+1", load("ax650n"))
    ((0, 1), (2,))
    """
    there = hardware.machine.cores
    if not re.fullmatch(r"[1-9]\d?(\+[1-9]\d?)*", text):
        raise UsageError(f"a plan is the sizes of blocks of cores, such as {there} or 1+1, not {text!r}")
    sizes = [int(size) for size in text.split("+")]
    if sum(sizes) > there:
        raise UsageError(f"plan {text} has {sum(sizes)} cores; {hardware.machine.name} has {there}")
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return tuple(tuple(range(start, start + size)) for start, size in zip(starts, sizes, strict=True))


def placements(plan: str, blocks: Sequence[tuple[int, ...]], models: int) -> list[tuple[int, ...]]:
    """Every way to give models to blocks, as the block of each, those that use most blocks first.

    The exchange of equal blocks makes no other way.

    Raises:
        UsageError: there are too many.

    >>> placements("1+1", [(0,), (1,)], 2)
    [(0, 1), (0, 0)]
    """
    ways = []
    for chosen in product(range(len(blocks)), repeat=models):
        if _is_first(chosen, blocks):
            ways.append(chosen)
        if len(ways) > MOST_WAYS:
            asked = f"{models} models have more than {MOST_WAYS} ways into {len(blocks)} blocks"
            raise UsageError(f"plan {plan}: {asked}; give fewer models")
    return sorted(ways, key=lambda way: -len(set(way)))


def _members(
    plan: str, blocks: Sequence[tuple[int, ...]], ways: Sequence[tuple[int, ...]], entrants: Sequence[Entrant]
) -> list[tuple[Member, ...]]:
    """The models in their blocks, for each way in which all of them fit."""
    fits = [[entrant.quickest(len(block)) for block in blocks] for entrant in entrants]
    for entrant, sizes in zip(entrants, fits, strict=True):
        if not any(sizes):
            built = f"{entrant.name} is built for NPU{entrant.quickest()}"
            raise UsageError(f"plan {plan}: {built}, and no block is so large")
    placed = []
    for chosen in ways:
        builds = [(entrant, fits[index][chosen[index]], chosen[index]) for index, entrant in enumerate(entrants)]
        members = tuple(entrant.member(cores, blocks[block][:cores]) for entrant, cores, block in builds if cores)
        if len(members) == len(entrants):
            placed.append(members)
    return placed


def _is_first(chosen: Sequence[int], blocks: Sequence[tuple[int, ...]]) -> bool:
    """Whether equal blocks are first used in their order."""
    used = list(dict.fromkeys(chosen))
    for size in {len(block) for block in blocks}:
        equal = [index for index, block in enumerate(blocks) if len(block) == size]
        mine = [index for index in used if index in equal]
        if mine != equal[: len(mine)]:
            return False
    return True


def _mark(entrants: Sequence[Entrant], members: Sequence[Member], shift: Shift) -> Marks:
    rows = list(zip(entrants, members, shift.together, strict=True))
    clocked = [together for _, member, together in rows if deadline_of(member) is not None]
    free = [together.fps / entrant.best_fps for entrant, member, together in rows if member.fps is None]
    return Marks(
        missed=sum(t.missed / t.due for t in clocked) / len(clocked) if clocked else 0.0,
        speed=exp(sum(map(log, free)) / len(free)) if free else None,
        deadline_use=sum(t.p99_ms / (t.deadline_ms or inf) for t in clocked) / len(clocked) if clocked else None,
    )


def _opened(source: Any) -> tuple[Any, Axmodel | None]:
    """A model to be built, read once; or a built one."""
    if isinstance(source, Built):
        return source, source.axmodel
    if isinstance(source, Axmodel):
        return source, source
    if isinstance(source, str | os.PathLike):
        data = Path(source).read_bytes()
        if axmodel.is_axmodel(data):
            return source, axmodel.read(source)
    return source, None
