"""``simulate_fleet``: built models side by side on one NPU, their latencies alone and together.

Used by people and by ``npusim bench``. Which allocation would serve the models best is ``plans``' question.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npusim import axmodel
from npusim.axmodel import Axmodel
from npusim.config import Hardware
from npusim.errors import UsageError
from npusim.session.blocks import VNPU, Claim, check_mask, mask_of, place
from npusim.session.builder import Built
from npusim.session.calls import Member, Report, Shift, Together, alone_ms, call_together, parse_fps
from npusim.session.machine import find_hardware, hardware_of
from npusim.session.summaries import summary_of

if TYPE_CHECKING:
    from npusim.report.summary import Summary

Model = Built | Axmodel | str | os.PathLike[str] | bytes

MOST_CALLS = 1_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class FleetModel:
    """One model of a fleet.

    Attributes:
        name: the model's.
        npu_mode: what it was built for.
        cores: the physical cores it got.
        affinity: the same as a mask.
        batch: inferences in a call.
        fps_asked: calls a second requested by the clock; None: as fast as possible.
        summary: one inference on a machine at rest and of its own.
        alone_ms: latency of a call there.
        together: its calls beside the others.
    """

    name: str
    npu_mode: str
    cores: tuple[int, ...]
    affinity: str
    batch: int
    fps_asked: float | None
    summary: Summary
    alone_ms: float
    together: Together

    @property
    def slowdown(self) -> float:
        """Average latency together over that alone; 1.0 where the others cost it nothing."""
        return self.together.avg_ms / self.alone_ms

    def record(self) -> dict[str, Any]:
        """One flat row: a line of a table."""
        return {
            "model": self.name,
            "npu_mode": self.npu_mode,
            "affinity": self.affinity,
            "batch": self.batch,
            "fps_asked": self.fps_asked,
            "alone_ms": self.alone_ms,
            "slowdown": self.slowdown,
            **self.together.record(),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Fleet:
    """Models side by side on one NPU.

    Attributes:
        hardware: the machine.
        vnpu: name of the virtual NPU mode, or the sizes of the blocks.
        repeat: calls of each model, at least, that were measured.
        warmup: calls of each before them.
        milliseconds: how long the run took on the machine.
        models: in the order given.
    """

    hardware: Hardware
    vnpu: str
    repeat: int
    warmup: int
    milliseconds: float
    models: tuple[FleetModel, ...]

    @property
    def dram_gb_per_second(self) -> float:
        """DRAM traffic of all models, in 1e9 bytes."""
        return sum(model.together.dram_gb_per_second for model in self.models)

    def records(self) -> list[dict[str, Any]]:
        """A flat row a model: ``pandas.DataFrame(fleet.records())``."""
        return [model.record() for model in self.models]

    def shared(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Pairs of models that take turns, with the cores they share."""
        for index, one in enumerate(self.models):
            for other in self.models[index + 1 :]:
                if common := tuple(core for core in one.cores if core in other.cores):
                    yield one.name, other.name, common

    def __repr__(self) -> str:
        names = ", ".join(f"{m.name} {m.together.avg_ms:.3f} ms ({m.slowdown:.2f}x)" for m in self.models)
        return f"<Fleet on {self.hardware.machine.name}: {names}>"

    def _repr_html_(self) -> str:
        shown = ("model", "npu_mode", "affinity", "alone_ms", "avg_ms", "p99_ms", "max_ms", "slowdown", "fps", "missed")
        head = "".join(f"<th>{key}</th>" for key in shown)
        rows = "".join(
            f"<tr>{''.join(f'<td>{html.escape(_cell(row[key]))}</td>' for key in shown)}</tr>" for row in self.records()
        )
        return f"<p><b>{html.escape(repr(self).strip('<>'))}</b></p><table><tr>{head}</tr>{rows}</table>"


def simulate_fleet(
    models: Sequence[Model],
    *,
    affinity: Sequence[int | None] | None = None,
    vnpu: int = 0,
    fps: Any = None,
    deadline_ms: Any = None,
    batch: Any = 1,
    repeat: int = 10,
    warmup: int = 1,
    hardware: str | Path | Hardware | None = None,
    report: Report | None = None,
) -> Fleet:
    """Call built models side by side, on shared DRAM, until each has had its calls; none stops before the last has.

    Models that lie on the same cores take turns, in the order of their requests; a call is never interrupted.
    The same arguments give the same figures, always.

    >>> import npusim
    >>> fleet = npusim.simulate_fleet(["a.axmodel", "b.axmodel"], affinity=[0b001, 0b110])  # doctest: +SKIP
    >>> pandas.DataFrame(fleet.records())[["model", "alone_ms", "avg_ms", "slowdown"]]      # doctest: +SKIP

    Args:
        models: what ``build`` returned, ``.axmodel`` files or their bytes.
        affinity: by model: the mask of cores it may use, None for any.
        vnpu: virtual NPU mode: 0 one block of all cores, 1 one core each, 2 big-little 2+1, 3 little-big 1+2.
        fps: requests a second, for all models or by model; None: each call as soon as the one before has ended.
        deadline_ms: time a call may take, for all or by model; None: the period of ``fps``.
        batch: inferences in a call, for all or by model; the host's cost of a call is paid once.
        repeat: calls of each model, at least, that are measured.
        warmup: calls of each before them.
        hardware: the machine; by default that of the models.
        report: told about progress.

    Raises:
        UsageError: models for different machines, a model that fits no block, or numbers that make no sense.
        AxmodelError: a file that cannot be run.
    """
    if not models:
        raise UsageError("a fleet has at least one model")
    opened = [_open(model) for model in models]
    machine = find_hardware(hardware) if hardware is not None else _common_machine(models, opened)
    rates = [parse_fps(rate) for rate in spread(fps, len(opened), "fps")]
    batches = [checked("batch", size, 1) for size in spread(batch, len(opened), "batch")]
    deadlines = [checked_deadline(limit) for limit in spread(deadline_ms, len(opened), "deadline_ms")]
    checked("repeat", repeat, 1)
    checked("warmup", warmup, 0)
    everything = (1 << machine.machine.cores) - 1
    masks = [everything if m is None else check_mask(m, machine) for m in spread(affinity, len(opened), "affinity")]
    claims = [
        Claim(name=model.name, npu_mode=model.npu_mode, cores=model.cores, mask=mask)
        for model, mask in zip(opened, masks, strict=True)
    ]
    members = [
        member_of(model, machine, cores, fps=rate, deadline_ms=deadline, batch=size)
        for model, cores, rate, deadline, size in zip(
            opened, place(claims, vnpu, machine), rates, deadlines, batches, strict=True
        )
    ]
    shift = call_together(machine, members, repeat, warmup, report)
    return fleet_of(machine, VNPU[vnpu], opened, members, shift, repeat, warmup)


def fleet_of(
    hardware: Hardware,
    vnpu: str,
    models: Sequence[Axmodel],
    members: Sequence[Member],
    shift: Shift,
    repeat: int,
    warmup: int,
) -> Fleet:
    """The models of a run with their figures alone and together."""
    return Fleet(
        hardware=hardware,
        vnpu=vnpu,
        repeat=repeat,
        warmup=warmup,
        milliseconds=shift.cycles / hardware.machine.clock_hz * 1e3,
        models=tuple(
            _fleet_model(hardware, model, member, together)
            for model, member, together in zip(models, members, shift.together, strict=True)
        ),
    )


def member_of(
    model: Axmodel,
    hardware: Hardware,
    cores: tuple[int, ...],
    *,
    fps: Fraction | None = None,
    deadline_ms: float | None = None,
    batch: int = 1,
) -> Member:
    """A built model as one that is called beside others.

    Raises:
        UsageError: its CPU parts cut it into several programs.
    """
    if len(model.programs) != 1:
        raise UsageError(
            f"{model.name}: its CPU parts leave {len(model.programs)} programs; one that is called in batches, by the "
            "clock or beside other models has one"
        )
    from npusim.session.host import price

    host_ms = sum(price(part, hardware).ms for part in model.cpu_parts)
    return Member(
        name=model.name, program=model.programs[0], cores=cores, fps=fps, deadline_ms=deadline_ms, batch=batch,
        host_ms=host_ms,
    )  # fmt: skip


def batch_ms(model: Axmodel, hardware: Hardware, batch: int) -> float:
    """Latency of a call with several inferences on a machine at rest."""
    return alone_ms(hardware, member_of(model, hardware, tuple(range(model.cores)), batch=batch))


def spread(given: Any, count: int, what: str) -> list[Any]:
    """One value for all models, or one for each.

    Raises:
        UsageError: another number of values.

    >>> spread(30, 2, "fps"), spread([30, None], 2, "fps")
    ([30, 30], [30, None])
    """
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] * count
    if len(values) == 1:
        values *= count
    if len(values) != count:
        raise UsageError(f"{what} takes one value for all models or one for each of {count}, not {len(values)}")
    return values


def checked(what: str, value: Any, least: int) -> int:
    """A whole number.

    Raises:
        UsageError: it is none, or out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST_CALLS:
        raise UsageError(f"{what} is a whole number from {least} to {MOST_CALLS:,}, not {value!r}")
    return value


def checked_deadline(given: Any) -> float | None:
    """A deadline in ms, or None.

    Raises:
        UsageError: no positive number.
    """
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < float("inf"):
        raise UsageError(f"deadline_ms is a positive number, not {given!r}")
    return float(given)


def _open(model: Model) -> Axmodel:
    if isinstance(model, Built):
        return model.axmodel
    return model if isinstance(model, Axmodel) else axmodel.read(model)


def _common_machine(models: Sequence[Model], opened: Sequence[Axmodel]) -> Hardware:
    """The machine that all models were built for.

    Raises:
        UsageError: there are several.
    """
    first = opened[0]
    for other in opened[1:]:
        if other.hardware_fingerprint != first.hardware_fingerprint:
            machines = f"{first.name} was built for {first.hardware}, {other.name} for {other.hardware}"
            raise UsageError(f"{machines}: name one with --target_hardware, or hardware=")
    built = models[0]
    return built.hardware if isinstance(built, Built) else hardware_of(first)


def _fleet_model(machine: Hardware, model: Axmodel, member: Member, together: Together) -> FleetModel:
    from npusim.session.call import call
    from npusim.sim import Mode

    summary = summary_of(call(model, machine, {}, Mode.TIME), model, machine)
    return FleetModel(
        name=model.name,
        npu_mode=model.npu_mode,
        cores=member.cores,
        affinity=mask_of(member.cores, machine),
        batch=member.batch,
        fps_asked=None if member.fps is None else float(member.fps),
        summary=summary,
        alone_ms=summary.latency_ms if member.batch == 1 else alone_ms(machine, member),
        together=together,
    )


def _cell(value: Any) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else str(value)
