"""Profiles of built models and programs: run once for their cycles, with what is known about their layers.

Used by ``npusim profile`` and by notebooks. What a report shows of a profile is ``npusim.report``'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from isa.program import Program
from npusim.axmodel import Axmodel
from npusim.config import Hardware
from npusim.session.call import call
from npusim.session.machine import hardware_of
from npusim.session.summaries import summary_of

if TYPE_CHECKING:
    from npusim.report.precision import LayerPrecision
    from npusim.report.profile import Profile
    from npusim.report.summary import Summary
    from npusim.sim import Trace


def profile_model(
    model: Axmodel,
    hardware: Hardware | None = None,
    *,
    cores: Sequence[int] | None = None,
    precision: Sequence[LayerPrecision] = (),
) -> Profile:
    """The profile of one call of a built model, alone on the machine.

    Args:
        model: a built model.
        hardware: the machine; by default the one the model was built for.
        cores: physical cores; by default the first ones.
        precision: what a precision analysis found.

    Raises:
        UsageError: cores that do not fit.
        AxmodelError: the machine the model was built for cannot be restored.
    """
    from npusim.sim import Mode

    machine = hardware or hardware_of(model)
    result = call(model, machine, {}, Mode.TIME, cores=cores)
    summary = summary_of(result, model, machine)
    return profile_of(model, machine, result.trace, summary, result.jobs[0].cores, precision)


def profile_program(program: Program, hardware: Hardware, *, cores: Sequence[int] | None = None) -> Profile:
    """The profile of a program.

    Raises:
        UsageError: cores that do not fit.
        UnverifiedProgramError: the program cannot be proven.
    """
    from npusim.report.summary import summarize
    from npusim.sim import Job, Mode, simulate

    result = simulate(hardware, Job(program=program, cores=cores), mode=Mode.TIME)
    summary = summarize(result.trace, hardware, 0, result.cycles, program.cores)
    return profile_of(program, hardware, result.trace, summary, result.jobs[0].cores)


def profile_of(
    subject: Axmodel | Program,
    hardware: Hardware,
    trace: Trace,
    summary: Summary,
    cores: Sequence[int],
    precision: Sequence[LayerPrecision] = (),
) -> Profile:
    """The profile of a run that has been made."""
    from npusim.report.profile import profile

    if isinstance(subject, Program):
        return profile([subject], trace, summary, hardware, name=subject.name, cores=cores, precision=precision)
    return profile(
        subject.programs, trace, summary, hardware, name=subject.name, cores=cores,
        sources={layer.name: layer.source for layer in subject.layers}, precision=precision, versions=subject.versions,
    )  # fmt: skip
