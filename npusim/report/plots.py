"""Plots for notebooks and papers: timeline and roofline, drawn with matplotlib (the extra ``report``).

Used by ``Simulation``. The colours are those of the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from npusim.config import Hardware
from npusim.errors import UsageError
from npusim.report.critical import BOUNDS, bounds_of, predecessors
from npusim.report.lanes import lanes
from npusim.report.roofline import roofline
from npusim.report.summary import Summary
from npusim.sim.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {"compute": "#0072b2", "vector": "#009e73", "move": "#cc79a7", "dram": "#e08a00", "sync": "#80868f"}
"""A colour for each kind of work, told apart by colour-blind eyes (after Okabe and Ito)."""

_INK, _SOFT = "#1c1d1f", "#5d6168"
_STALL_HEIGHT, _HEIGHT = 0.24, 0.78


def plot_timeline(trace: Trace, hardware: Hardware, cores: tuple[int, ...], axes: Axes | None = None) -> Axes:
    """Every unit's work over time, a lane each; pale lines are stalls, in the colour of what they wait for.

    Args:
        trace: of one job.
        hardware: the machine.
        cores: physical cores that are drawn.
        axes: where to draw; by default a new figure.

    Raises:
        UsageError: matplotlib is not installed.
    """
    drawn = list(lanes(trace, cores))
    axes = axes or _new_axes(11.0, 0.6 + 0.26 * len(drawn))
    scale = 1e3 / hardware.machine.clock_hz
    kinds, before = bounds_of(trace), predecessors(trace, hardware)
    waits = np.where((trace.stall_cause >= 0) & (before >= 0), kinds[before], -1)
    for place, lane in enumerate(drawn):
        start, end = trace.start[lane.rows] * scale, trace.end[lane.rows] * scale
        freed = np.concatenate(([0.0], end[:-1]))[: len(end)]
        for index, bound in enumerate(BOUNDS):
            working, waiting = kinds[lane.rows] == index, waits[lane.rows] == index
            stalls = list(zip(freed[waiting], (start - freed)[waiting], strict=True))
            spans = list(zip(start[working], (end - start)[working], strict=True))
            axes.broken_barh(stalls, (place - _STALL_HEIGHT / 2, _STALL_HEIGHT), color=COLORS[bound], alpha=0.3, lw=0)
            axes.broken_barh(spans, (place - _HEIGHT / 2, _HEIGHT), color=COLORS[bound], lw=0)
    axes.set_yticks(range(len(drawn)), [f"core{lane.core} {lane.label}" for lane in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_xlim(0, max(trace.cycles * scale, scale))
    axes.set_xlabel("ms")
    _finish(axes)
    handles = [_patch(COLORS[bound], str(bound)) for bound in BOUNDS]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(BOUNDS), frameon=False)
    return axes


def plot_roofline(summary: Summary, hardware: Hardware, cores: int, axes: Axes | None = None) -> Axes:
    """Layers that multiply under the machine's roofs; a circle's area is its share of the critical path.

    Layers without DRAM traffic have no place on the axis of operations per byte and are left out.

    Args:
        summary: of one job.
        hardware: the machine.
        cores: how many the job has.
        axes: where to draw; by default a new figure.

    Raises:
        UsageError: matplotlib is not installed.
    """
    roof = roofline(summary, hardware, cores)
    axes = axes or _new_axes(8.0, 4.4)
    critical = {layer.name: layer.critical_cycles for layer in summary.layers}
    points = [point for point in roof.points if np.isfinite(point.ops_per_byte)]
    knees = [1e3 * roof.peak_tops / slope.gb_per_second for slope in roof.slopes]
    least = min([*(point.ops_per_byte for point in points), *knees]) / 2
    most = max([*(point.ops_per_byte for point in points), *knees]) * 2
    axes.plot([min(knees), most], [roof.peak_tops] * 2, color=_INK, lw=1.4)
    axes.annotate(f"{roof.peak_tops:.2f} TOPS", (most, roof.peak_tops), (-4, 4), textcoords="offset points", ha="right")
    for slope, knee in zip(roof.slopes, knees, strict=True):
        axes.plot([least, knee], [slope.tops(least), slope.tops(knee)], color=_INK, lw=1.1, ls="--")
        at = least * 1.15
        angle = float(np.degrees(np.arctan2(slope.tops(at), at)))  # along the line, whatever the figure's shape
        axes.text(
            at, slope.tops(at) * 1.3, f"{slope.name} {slope.gb_per_second:.1f} GB/s", color=_SOFT, fontsize=8,
            rotation=angle, rotation_mode="anchor", transform_rotates_text=True,
        )  # fmt: skip
    axes.scatter(
        [point.ops_per_byte for point in points],
        [point.tops for point in points],
        s=[12 + 4000 * critical[point.name] / max(summary.cycles, 1) for point in points],
        c=[COLORS[point.bound_by] for point in points],
        alpha=0.8, edgecolors="white", linewidths=0.6, zorder=3,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(least, most)
    axes.set_ylim(top=roof.peak_tops * 1.8)
    axes.set_xlabel("operations for each byte of DRAM traffic")
    axes.set_ylabel("TOPS")
    axes.grid(color="#e3e3df", lw=0.6)
    _finish(axes)
    shown = [bound for bound in BOUNDS if any(point.bound_by == bound for point in points)]
    axes.legend(handles=[_patch(COLORS[bound], str(bound)) for bound in shown], loc="lower right", frameon=False)
    return axes


def _new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure that fits them."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise UsageError(
            "plots need matplotlib, which the extra report brings: pip install 'npusim[report]'"
        ) from error
    _, axes = plt.subplots(figsize=(width, height), layout="constrained")
    return axes


def _patch(color: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=color, label=label)


def _finish(axes: Axes) -> None:
    """What all plots share: no box, quiet ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0, labelcolor=_INK)
    axes.set_axisbelow(True)
