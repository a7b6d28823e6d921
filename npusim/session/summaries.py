"""The figures of a built model's run: those of its program, with layers called by their operation.

Used by sessions and commands.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from npusim.axmodel import Axmodel
from npusim.config import Hardware

if TYPE_CHECKING:
    from npusim.report.summary import Summary
    from npusim.sim import Result


def summary_of(result: Result, model: Axmodel, hardware: Hardware, job: int = 0) -> Summary:
    """The figures of one job that ran a built model.

    Raises:
        SimulationError: the run had no time.
    """
    from npusim.report.summary import summarize

    summary = summarize(result.trace, hardware, job, result.jobs[job].cycles, model.program.cores)
    return with_operations(summary, model)


def with_operations(summary: Summary, model: Axmodel) -> Summary:
    """The same figures; a layer's ``op`` is its operation in the model instead of its instructions."""
    operations = {layer.name: layer.op for layer in model.layers}
    layers = (replace(layer, op=operations.get(layer.name, layer.op)) for layer in summary.layers)
    return replace(summary, layers=tuple(layers))
