"""The report: one HTML file that needs nothing but itself, from one or several profiles.

Written by ``npusim profile``. Markup, style and behaviour are the files in ``template``; here is what they show.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from isa.instruction import OPCODES
from npusim.config import Hardware
from npusim.config.hardware import KEYS
from npusim.errors import UsageError
from npusim.report.critical import BOUNDS, bounds_of, predecessors
from npusim.report.curve import Curve
from npusim.report.lanes import Lane, lanes, tiles
from npusim.report.profile import Profile
from npusim.report.roofline import roofline
from npusim.sim.trace import STALL_BARRIER, physical_name

STEPS = 3000
"""Steps a curve of the page has at most; more than any screen has columns."""

_SCRIPTS = ("text.js", "table.js", "figures.js", "lanes.js", "strips.js", "timeline.js", "roofline.js", "page.js")
_NOT_WAITING = -1


def page(profiles: Sequence[Profile], version: str) -> str:
    """The report as HTML.

    Args:
        profiles: one, or several to be compared.
        version: of npusim, for the foot of the page.

    Raises:
        UsageError: there is no profile.
    """
    if not profiles:
        raise UsageError("a report needs at least one profile")
    folder = resources.files("npusim.report") / "template"
    text = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", *_SCRIPTS)}
    document = {"version": version, "kinds": [str(bound) for bound in BOUNDS], "runs": [_run(p) for p in profiles]}
    parts = {
        "title": html.escape(", ".join(dict.fromkeys(p.name for p in profiles))),
        "style": text["page.css"],
        "script": "\n".join(text[name] for name in _SCRIPTS),
        "data": embedded(document),
    }
    return re.sub(r"@(title|style|script|data)@", lambda mark: parts[mark[1]], text["page.html"])


def embedded(value: Any) -> str:
    r"""JSON for a script element: no character in it can end the element or start a comment.

    >>> embedded({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # ASCII: line separators are escaped as well
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# ----------------------------------------------------------------------------------------------- what a run consists of


def _run(profile: Profile) -> dict[str, Any]:
    trace, summary = profile.trace, profile.summary
    position = {layer.name: index for index, layer in enumerate(summary.layers)}
    names = trace.origin_names[int(trace.job[0])] if len(trace) else ()
    layer_of = np.array([*(position.get(name, _NOT_WAITING) for name in names), -1], np.int64)
    before, kinds = predecessors(trace, profile.hardware), bounds_of(trace)
    waits = np.where((trace.stall_cause >= 0) & (before >= 0), kinds[before], _NOT_WAITING)
    waits[trace.stall_cause == STALL_BARRIER] = len(BOUNDS) - 1
    opcodes = np.unique(trace.opcode)
    columns = {
        "layer": layer_of[trace.origin],
        "op": np.searchsorted(opcodes, trace.opcode),
        "kind": kinds,
        "tile": tiles(trace),
        "bytes": trace.bytes,
        "dram": trace.dram_bytes,
        "macs": trace.macs,
        "wait": waits,
        "cause": np.maximum(trace.stall_cause, _NOT_WAITING),
    }
    seconds = 1 / profile.hardware.machine.clock_hz
    return {
        "name": profile.name,
        "mode": profile.npu_mode,
        "cores": list(profile.cores),
        "hardware": profile.hardware.machine.name,
        "clock_hz": profile.hardware.machine.clock_hz,
        "figures": _figures(profile),
        "critical": [summary.critical_cycles[str(bound)] for bound in BOUNDS],
        "layers": [
            [
                layer.name, layer.op, BOUNDS.index(next(b for b in BOUNDS if b == layer.bound_by)), layer.start,
                layer.end, layer.critical_cycles, layer.active_cycles, layer.macs, layer.dram_bytes,
                [source for source in profile.sources.get(layer.name, ()) if source != layer.name],
            ]
            for layer in summary.layers
        ],
        "ops": [OPCODES[opcode].layout.mnemonic for opcode in opcodes.tolist()],
        "units": {number: physical_name(number) for number in np.unique(trace.stall_cause).tolist() if number >= 0},
        "lanes": [_lane(profile, lane, columns) for lane in lanes(trace, profile.cores)],
        "ocm": [_curve(curve) for curve in profile.ocm],
        "scratch": _curve(profile.scratch),
        "resident": dict(profile.resident_bytes),
        "reads": _curve(profile.reads, 1e-9 / seconds),
        "writes": _curve(profile.writes, 1e-9 / seconds),
        "roofline": _roofline(profile),
        "precision": [[p.name, p.op, p.dtype, _finite(p.cosine), _finite(p.snr_db), _finite(p.max_abs_error)]
                      for p in profile.precision],
        "host": [[work.name, work.ms, work.operators, work.flops, work.bytes + work.copied_bytes, list(work.ops),
                  f"{work.node}: {work.reason}"] for work in summary.cpu_parts],
        "machine": _machine(profile.hardware),
        "description": profile.hardware.machine.description,
        "versions": dict(profile.versions),
    }  # fmt: skip


def _figures(profile: Profile) -> dict[str, Any]:
    summary, hardware = profile.summary, profile.hardware
    share = len(profile.cores) / hardware.machine.cores
    return {
        "cycles": summary.cycles,
        "latency_ms": summary.latency_ms,
        "host_ms": summary.host_ms,
        "launch_ms": hardware.machine.launch_ms,
        "fps": summary.fps,
        "macs": summary.macs,
        "mac_utilization": summary.mac_utilization,
        "tops": summary.tops,
        "peak_tops": share * hardware.peak_ops_per_second / 1e12,
        "peak_macs_per_cycle": share * hardware.peak_macs_per_cycle,
        "dram_bytes": summary.dram_bytes,
        "dram_gb_per_second": summary.dram_gb_per_second,
        "dram_peak_gb_per_second": hardware.dram.bytes_per_second / 1e9,
        "ocm_peak_bytes": profile.ocm_peak_bytes,
        "ocm_bytes": hardware.ocm.bytes,
        "scratch_peak_bytes": int(profile.scratch.peak),
        "instructions": len(profile.trace),
    }


def _lane(profile: Profile, lane: Lane, columns: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    start, end = profile.trace.start[lane.rows], profile.trace.end[lane.rows]
    gaps = start - np.concatenate(([0], end[:-1]))[: len(start)]
    record: dict[str, Any] = {"core": lane.core, "label": lane.label}
    record |= {"gap": gaps.tolist(), "cycles": (end - start).tolist()}
    return record | {name: column[lane.rows].tolist() for name, column in columns.items()}


def _curve(curve: Curve, factor: float = 1.0) -> list[list[Any]]:
    thin = curve.thinned(STEPS)
    values = thin.values if factor == 1.0 else np.round(thin.values * factor, 3)
    return [thin.cycles.tolist(), values.tolist()]


def _roofline(profile: Profile) -> dict[str, Any]:
    roof = roofline(profile.summary, profile.hardware, len(profile.cores))
    position = {layer.name: index for index, layer in enumerate(profile.summary.layers)}
    return {
        "peak_tops": roof.peak_tops,
        "slopes": [[slope.name, slope.gb_per_second] for slope in roof.slopes],
        "points": [
            [position[point.name], _finite(point.ops_per_byte), round(point.tops, 6)] for point in roof.points
        ],
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _machine(hardware: Hardware) -> list[list[Any]]:
    """Every value with its meaning and where it comes from."""
    return [
        [path, value, KEYS[path].doc, str(hardware.provenance[path].kind), hardware.provenance[path].note]
        for path, value in hardware.values().items()
        if path in hardware.provenance
    ]
