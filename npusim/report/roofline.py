"""The roofline of a run: how fast each layer was, and which roof of the machine it stands under.

Used by page and plots. The roofs come from the hardware description: Williams, Waterman, Patterson, "Roofline", 2009.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from npusim.config import Hardware
from npusim.report.summary import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A layer that multiplies.

    Attributes:
        name: of the layer.
        ops_per_byte: operations for each byte of DRAM traffic, 1 MAC = 2 operations; infinite without traffic.
        tops: operations a second while any of its instructions executed, in 1e12.
        bound_by: as the summary says.
    """

    name: str
    ops_per_byte: float
    tops: float
    bound_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A roof that bandwidth sets.

    Attributes:
        name: of what the bytes pass.
        gb_per_second: 1e9 bytes a second.
    """

    name: str
    gb_per_second: float

    def tops(self, ops_per_byte: float) -> float:
        """The roof's height."""
        return ops_per_byte * self.gb_per_second / 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Layers under their roofs.

    Attributes:
        peak_tops: of the conv units of the cores used.
        slopes: DRAM, which all cores share, and the OCM ports of the cores' DMA units, which what comes from DRAM or
            another core passes.
        points: layers with multiply-accumulates, in the summary's order.
    """

    peak_tops: float
    slopes: tuple[Slope, ...]
    points: tuple[Point, ...]


def roofline(summary: Summary, hardware: Hardware, cores: int) -> Roofline:
    """The roofline of a run on some cores of a machine."""
    clock_hz = hardware.machine.clock_hz
    ports = cores * hardware.sdma.port_bytes_per_cycle * clock_hz
    return Roofline(
        peak_tops=hardware.peak_ops_per_second * cores / hardware.machine.cores / 1e12,
        slopes=(
            Slope(name="DRAM", gb_per_second=hardware.dram.bytes_per_second / 1e9),
            Slope(name="OCM ports", gb_per_second=ports / 1e9),
        ),
        points=tuple(
            Point(
                name=layer.name,
                ops_per_byte=2 * layer.macs / layer.dram_bytes if layer.dram_bytes else math.inf,
                tops=2e-12 * layer.macs * clock_hz / layer.active_cycles,
                bound_by=layer.bound_by,
            )
            for layer in summary.layers
            if layer.macs
        ),
    )
