"""A precision analysis as a text table, as JSON and as a picture.

Used by the build, which decides where they are written. Nothing is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .precision import Analysis, Precision

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = ("layer", "operator", "type", "cosine", "SNR dB", "max error", "largest")
_RIGHT = range(3, len(_TITLES))
_LABELS = 24  # layers named below the picture; more would not be readable
_WORST = 10
_EXACT_DB = 120.0  # where an infinite ratio is drawn


def format_analysis(analysis: Analysis) -> str:
    """The analysis as text: how it was made, one line a layer in the order of the graph, and the worst ones."""
    lines = [
        f"{analysis.method}, {analysis.samples} samples: the quantized model beside the float one",
        "each layer on its own, fed with the float model's tensors"
        if analysis.method == "PerLayer"
        else "both models run freely",
        "",
        *_aligned([*analysis.layers, *analysis.outputs]),
    ]
    worst = sorted(analysis.layers, key=lambda layer: layer.snr_db)[:_WORST]
    if worst:
        lines += ["", "lowest signal-to-noise ratios", *_aligned(worst)]
    return "\n".join(lines) + "\n"


def record(analysis: Analysis) -> dict[str, Any]:
    """The analysis as it is written to JSON; ratios that are infinite become null."""
    return {
        "method": analysis.method,
        "samples": analysis.samples,
        "layers": [_row(layer) for layer in analysis.layers],
        "outputs": [_row(output) for output in analysis.outputs],
    }


def plot(analysis: Analysis) -> Figure:
    """Signal-to-noise ratio and cosine of every layer, in the order of the graph; it needs matplotlib."""
    from matplotlib.figure import Figure

    layers = [*analysis.layers, *analysis.outputs]
    ratios = [min(layer.snr_db, _EXACT_DB) for layer in layers]
    figure = Figure(figsize=(max(8.0, min(0.16 * len(layers), 24.0)), 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    places = range(len(layers))
    wide = {place for place, layer in enumerate(layers) if layer.dtype not in ("u8", "s8")}
    colours = ["tab:orange" if place in wide else "tab:blue" for place in places]
    upper.bar(places, ratios, color=colours, width=0.8)
    upper.set_ylabel("SNR, dB")
    upper.set_title(f"{analysis.method}, {analysis.samples} samples" + (" (orange: not 8 bits)" if wide else ""))
    lower.semilogy(places, [max(1.0 - layer.cosine, 1e-9) for layer in layers], "o-", markersize=3, linewidth=0.8)
    lower.set_ylabel("1 - cosine")
    step = math.ceil(len(layers) / _LABELS) or 1
    named = sorted({*range(0, len(layers), step)})
    lower.set_xticks(named, [_short(layers[place].layer) for place in named], rotation=60, ha="right", fontsize=7)
    for axes in (upper, lower):
        axes.grid(axis="y", alpha=0.3)
    return figure


def _aligned(layers: Sequence[Precision]) -> list[str]:
    cells = [_TITLES, *(_cells(layer) for layer in layers)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_TITLES))]
    return [
        "  ".join(
            cell.rjust(width) if column in _RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def _cells(layer: Precision) -> tuple[str, ...]:
    return (
        layer.layer,
        layer.op,
        layer.dtype.upper(),
        f"{layer.cosine:.6f}",
        f"{layer.snr_db:.2f}",
        f"{layer.max_error:.4g}",
        f"{layer.largest:.4g}",
    )


def _row(layer: Precision) -> dict[str, Any]:
    values = asdict(layer)
    return values | {"snr_db": values["snr_db"] if math.isfinite(layer.snr_db) else None}


def _short(name: str) -> str:
    """The last two parts of a name, which tell layers of one block apart."""
    parts = name.strip("/").split("/")
    return "/".join(parts[-2:])
