"""``simulate`` for notebooks: a program or a model in one call, with results that show themselves.

Used by people. Scripts that call a model many times use ``InferenceSession``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isa import container
from isa.files import write_bytes
from isa.program import Program
from npusim import __version__, axmodel, markup
from npusim.axmodel import Axmodel
from npusim.config import Hardware
from npusim.errors import UsageError, did_you_mean
from npusim.session.builder import Built
from npusim.session.call import call, typed
from npusim.session.inference import check_feeds
from npusim.session.machine import find_hardware, hardware_of
from npusim.session.summaries import summary_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from npusim.report.profile import Profile
    from npusim.report.summary import Layer, Summary
    from npusim.sim import Trace

DEFAULT_HARDWARE = "ax650n"
MODES = ("full", "time", "values")


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """What a run produced.

    Attributes:
        name: of the program or model.
        hardware: the machine.
        outputs: arrays by name: of a model in the type and shape of its outputs, of a program as bytes; empty in mode
            ``time``.
        summary: the figures; None in mode ``values``.
        trace: every instruction; None in mode ``values``.
        subject: what ran.
        cores: physical core of each logical one.
    """

    name: str
    hardware: Hardware
    outputs: Mapping[str, np.ndarray[Any, Any]]
    summary: Summary | None
    trace: Trace | None
    subject: Axmodel | Program
    cores: tuple[int, ...]

    def __repr__(self) -> str:
        where = f"<Simulation of {self.name} on {self.hardware.machine.name}"
        if self.summary is None:
            return f"{where}: values only>"
        return f"{where}: {self.summary.cycles:,} cycles, {self.summary.latency_ms:.3f} ms>"

    def _repr_html_(self) -> str:
        return html_of(repr(self), self.summary)

    @property
    def layers(self) -> list[Layer]:
        """The figures of every layer, as records that ``pandas.DataFrame`` takes.

        Raises:
            UsageError: the run had no time.
        """
        return list(self._timed()[0].layers)

    def profile(self) -> Profile:
        """Everything a report shows of this run.

        Raises:
            UsageError: the run had no time.
        """
        from npusim.session.profiles import profile_of

        summary, trace = self._timed()
        return profile_of(self.subject, self.hardware, trace, summary, self.cores)

    def write_report(self, path: str | os.PathLike[str]) -> None:
        """Write the report of this run, one HTML file; an existing one is replaced once the new one is complete.

        Raises:
            UsageError: the run had no time.
            OSError: the file cannot be written.
        """
        from npusim.report.page import page

        write_bytes(path, page([self.profile()], __version__).encode())

    def plot_timeline(self, axes: Axes | None = None) -> Axes:
        """Draw every unit's work over time (``npusim.report.plots``).

        Raises:
            UsageError: the run had no time, or matplotlib is not installed.
        """
        from npusim.report.plots import plot_timeline

        return plot_timeline(self._timed()[1], self.hardware, self.cores, axes)

    def plot_roofline(self, axes: Axes | None = None) -> Axes:
        """Draw the layers under the machine's roofs (``npusim.report.plots``).

        Raises:
            UsageError: the run had no time, or matplotlib is not installed.
        """
        from npusim.report.plots import plot_roofline

        return plot_roofline(self._timed()[0], self.hardware, len(self.cores), axes)

    def _timed(self) -> tuple[Summary, Trace]:
        if self.summary is None or self.trace is None:
            raise UsageError("a run for values only has no cycles: simulate in mode full or time")
        return self.summary, self.trace


def simulate(
    model: Built | Axmodel | Program | str | os.PathLike[str] | bytes,
    inputs: Mapping[str, Any] | None = None,
    *,
    hardware: str | Path | Hardware | None = None,
    cores: Sequence[int] | None = None,
    mode: str | None = None,
) -> Simulation:
    """Run a built model or a program once.

    Args:
        model: what ``build`` returned, an ``.axmodel`` or program file or its bytes, or a program.
        inputs: arrays by name; a program takes their bytes.
        hardware: the machine; by default that of the model, ``ax650n`` for a program.
        cores: physical cores; by default the first ones.
        mode: ``full``, ``time`` or ``values``; by default ``full`` where inputs are given and ``time`` elsewhere.

    Raises:
        UsageError: inputs or cores that do not fit.
        AxmodelError, ContainerError: a file that cannot be run.
    """
    from npusim.sim import Job, Mode
    from npusim.sim import simulate as run

    mode = mode or ("time" if inputs is None else "full")
    if mode not in MODES:
        raise UsageError(f"there is no mode {mode!r}, only {', '.join(MODES)}", did_you_mean(mode, MODES))
    subject = _subject(model)
    if hardware is not None:
        machine = find_hardware(hardware)
    elif isinstance(model, Built):
        machine = model.hardware
    else:
        machine = find_hardware(DEFAULT_HARDWARE) if isinstance(subject, Program) else hardware_of(subject)
    if isinstance(subject, Program):
        from npusim.report.summary import summarize

        result = run(machine, Job(program=subject, cores=cores, inputs=dict(inputs or {})), mode=Mode(mode))
        outputs = dict(result.outputs)
        timed = result.recorded is not None
        summary = summarize(result.trace, machine, 0, result.cycles, subject.cores) if timed else None
    else:
        feeds = check_feeds(subject.inputs, inputs or {}) if mode != "time" else {}
        result = call(subject, machine, feeds, Mode(mode), cores=cores)
        outputs = typed(subject, result.outputs)
        summary = summary_of(result, subject, machine) if result.recorded is not None else None
    return Simulation(
        name=subject.name, hardware=machine, outputs=outputs, summary=summary, trace=result.recorded, subject=subject,
        cores=result.jobs[0].cores,
    )  # fmt: skip


def _subject(model: Built | Axmodel | Program | str | os.PathLike[str] | bytes) -> Axmodel | Program:
    if isinstance(model, Built):
        return model.axmodel
    if isinstance(model, Axmodel | Program):
        return model
    data = model if isinstance(model, bytes) else Path(model).read_bytes()
    if data.startswith(container.MAGIC):
        return container.from_bytes(data)
    return axmodel.read(model)


def html_of(title: str, summary: Summary | None) -> str:
    """A heading, and below it the figures where there are any, as HTML."""
    if summary is None:
        return markup.heading(title.strip("<>"))
    from npusim.report.shown import summary_html

    return summary_html(title.strip("<>"), summary)
