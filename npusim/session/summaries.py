"""The figures of a built model's run: those of its programs, with layers called by their operation, and of the host.

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

    summary = summarize(result.trace, hardware, job, result.jobs[job].cycles, model.cores)
    return with_host(with_operations(summary, model), model, hardware)


def with_operations(summary: Summary, model: Axmodel) -> Summary:
    """The same figures; a layer's ``op`` is its operation in the model instead of its instructions."""
    operations = {layer.name: layer.op for layer in model.layers}
    layers = (replace(layer, op=operations.get(layer.name, layer.op)) for layer in summary.layers)
    return replace(summary, layers=tuple(layers))


def with_host(summary: Summary, model: Axmodel, hardware: Hardware) -> Summary:
    """The same figures with what the model's CPU parts cost, and the launches of programs behind them."""
    if not model.cpu_parts:
        return summary
    from npusim.session.host import price

    works = tuple(price(part, hardware) for part in model.cpu_parts)
    launches = max(len(model.programs) - 1, 0)
    host_ms = sum(work.ms for work in works) + launches * hardware.machine.launch_ms
    latency_ms = summary.latency_ms + host_ms
    return replace(summary, latency_ms=latency_ms, fps=1e3 / latency_ms, host_ms=host_ms, cpu_parts=works)
