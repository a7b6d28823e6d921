"""``simulate`` for notebooks: a program or a model in one call, with results that show themselves.

Used by people. Scripts that call a model many times use ``InferenceSession``.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isa import container
from isa.program import Program
from npusim import axmodel
from npusim.axmodel import Axmodel
from npusim.config import Hardware
from npusim.errors import UsageError, did_you_mean
from npusim.session.builder import Built
from npusim.session.call import call, typed
from npusim.session.inference import check_feeds
from npusim.session.machine import find_hardware, hardware_of
from npusim.session.summaries import summary_of

if TYPE_CHECKING:
    from npusim.report.summary import Summary
    from npusim.sim import Trace

DEFAULT_HARDWARE = "ax650n"
MODES = ("full", "time", "values")
_SHOWN_LAYERS = 20


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
    """

    name: str
    hardware: Hardware
    outputs: Mapping[str, np.ndarray[Any, Any]]
    summary: Summary | None
    trace: Trace | None

    def __repr__(self) -> str:
        where = f"<Simulation of {self.name} on {self.hardware.machine.name}"
        if self.summary is None:
            return f"{where}: values only>"
        return f"{where}: {self.summary.cycles:,} cycles, {self.summary.latency_ms:.3f} ms>"

    def _repr_html_(self) -> str:
        return html_of(repr(self), self.summary)


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
    return Simulation(name=subject.name, hardware=machine, outputs=outputs, summary=summary, trace=result.recorded)


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
    """A heading and the layers that took longest, as HTML."""
    heading = f"<p><b>{html.escape(title.strip('<>'))}</b></p>"
    if summary is None:
        return heading
    figures = (
        f"<p>{summary.fps:,.1f} fps, {summary.macs:,} MACs, {summary.mac_utilization:.1%} of the peak, "
        f"{summary.dram_bytes:,} bytes of DRAM traffic</p>"
    )
    host = "".join(
        f"<p>on the CPU: {html.escape(work.name)}, {work.ms:.3f} ms ({html.escape(', '.join(work.ops))})</p>"
        for work in summary.cpu_parts
    )
    longest = sorted(summary.layers, key=lambda layer: (-layer.cycles, layer.start))[:_SHOWN_LAYERS]
    rows = "".join(
        f"<tr><td>{html.escape(layer.name)}</td><td>{html.escape(layer.op)}</td><td>{layer.cycles:,}</td>"
        f"<td>{layer.bound_by}</td></tr>"
        for layer in longest
    )
    titles = "<tr><th>layer</th><th>op</th><th>cycles</th><th>bound by</th></tr>"
    return f"{heading}{figures}{host}<table>{titles}{rows}</table>"
