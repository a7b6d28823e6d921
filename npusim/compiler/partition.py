"""How the result of a product is cut over cores, units and tiles, by the cycles that each way would take.

Used by the lowering of convolutions and products with constant weights. Knows shapes and the timing of the array, and
no instructions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from isa.instruction import Unit
from isa.region import ceil_div
from npusim.config import Hardware
from npusim.timing.matrix import array_cycles, padded_depth

from .context import Context
from .core import Core

CONV_UNITS = (Unit.CONV0, Unit.CONV1)
WEIGHT_TILE_BYTES = 512 * 1024
"""Weights that stand in OCM at once, at the most."""
WEIGHT_PART = 2
"""Weights that stand in OCM at once take at most this part of the room that they share."""
OCM_PART = 3
"""A tile takes at most this part of a core's OCM, so that two more are on their way in and out."""
MAX_TILES = 4
"""Tiles of a unit's rows, so that the work before and after overlaps."""
TILE_STEPS = 128
"""Pixels below which a tile is not worth cutting: the array's fill would show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """The shape of a product with constant weights.

    Attributes:
        rows: rows of the result that can be cut.
        pixels: pixels in each row.
        taps: kernel positions.
        depth: input channels of one group.
        channels: output channels.
        groups: groups; a depthwise convolution counts as one group, cut like plain channels.
        granule: multiple in which output channels can be cut.
        weight_bytes: all weights.
        source_bytes: the whole source.
        row_bytes: what one more row of the result takes of the source, and all its channels of the result.
        halo_bytes: what rows of the result need of the source besides.
    """

    rows: int
    pixels: int
    taps: int
    depth: int
    channels: int
    groups: int
    granule: int
    weight_bytes: int
    source_bytes: int
    row_bytes: tuple[int, int]
    halo_bytes: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows and channels of a result, computed by one unit of one core.

    Attributes:
        share: rows of the whole core.
        common: whether all cores use these weights.
    """

    core: Core
    unit: Unit
    rows: tuple[int, int]
    channels: tuple[int, int]
    share: tuple[int, int]
    common: bool


@dataclass(frozen=True, slots=True)
class _Way:
    """Whether cores and units cut rows (else channels)."""

    cores_by_rows: bool
    units_by_rows: bool


def pieces(ctx: Context, work: Product) -> Iterator[Piece]:
    """The pieces of a result in the order in which they are planned: tile by tile, core after core."""
    ways = [_Way(*choice) for choice in product((True, False), repeat=2)]
    way = min(ways, key=lambda w: (_cost(w, work, ctx.hardware, len(ctx.cores)), not w.cores_by_rows, w.units_by_rows))
    room = min(WEIGHT_TILE_BYTES, (ctx.cores[0].shared.size or ctx.cores[0].arena.size) // WEIGHT_PART)
    tile = max(work.granule, room * work.channels // max(work.weight_bytes, 1) // work.granule * work.granule)
    if way.cores_by_rows:
        cores = [(core, rows, (0, work.channels)) for core, *rows in ctx.shares(work.rows)]
    else:
        cores = [(core, [0, work.rows], (low, high)) for core, low, high in ctx.shares(work.channels, work.granule)]
    lists = [list(_of_core(core, (r[0], r[1]), ch, way, work, tile)) for core, r, ch in cores]
    for turn in range(max(len(entries) for entries in lists)):
        for entries in lists:
            if turn < len(entries):
                yield entries[turn]


def _of_core(
    core: Core, rows: tuple[int, int], channels: tuple[int, int], way: _Way, work: Product, tile: int
) -> Iterator[Piece]:
    """The pieces of one core: channel tiles as the weights ask for, in each of them row tiles."""
    extent = rows[1] - rows[0]
    parts = 2 if way.units_by_rows else 1
    tiles = parts * max(1, min(MAX_TILES, extent * work.pixels // (parts * TILE_STEPS), extent // parts))
    width = channels[1] - channels[0]
    if way.units_by_rows:
        step = min(tile, width)
    else:
        step = min(tile, ceil_div(ceil_div(width, 2), work.granule) * work.granule)
    while step > work.granule and _rows_that_fit(core, step, work) < 1:
        step = max(work.granule, step // 2 // work.granule * work.granule)
    tiles = max(tiles, parts * ceil_div(extent, parts * max(1, _rows_that_fit(core, step, work))))
    turn = 0
    for c0 in range(channels[0], channels[1], 2 * step if not way.units_by_rows else step):
        for index in range(tiles):
            r0, r1 = rows[0] + extent * index // tiles, rows[0] + extent * (index + 1) // tiles
            if r0 == r1:
                continue
            starts = [c0] if way.units_by_rows else [c for c in (c0, c0 + step) if c < channels[1]]
            for first in starts:
                unit = CONV_UNITS[turn % 2]
                turn += 1
                yield Piece(core, unit, (r0, r1), (first, min(channels[1], first + step)), rows, way.cores_by_rows)


def _rows_that_fit(core: Core, channels: int, work: Product) -> int:
    """Rows of the result, so many channels of it, that leave OCM for the tiles before and after."""
    source, result = work.row_bytes
    row = source + ceil_div(result * channels, work.channels)
    return int(max(0, core.arena.size // OCM_PART - work.halo_bytes) // max(1, row))


def _cost(way: _Way, work: Product, hardware: Hardware, cores: int) -> int:
    """Cycles of the busiest unit, and of moving the source to cores that all need it."""
    rows = ceil_div(work.rows, cores) if way.cores_by_rows else work.rows
    channels = work.channels if way.cores_by_rows else _cut(work.channels, cores, work.granule)
    if way.units_by_rows:
        rows = ceil_div(rows, 2)
    else:
        channels = _cut(channels, 2, work.granule)
    groups = max(1, work.groups * channels // work.channels)
    depth = work.taps * padded_depth(work.depth, hardware)
    array = array_cycles(rows * work.pixels, depth, ceil_div(channels, groups), groups, 1, hardware)
    moved = 0 if way.cores_by_rows or cores == 1 else work.source_bytes * (cores + 1)
    per_second = hardware.dram.bytes_per_second
    return int(array) + int(ceil_div(moved * hardware.machine.clock_hz, per_second))


def _cut(channels: int, parts: int, granule: int) -> int:
    """Channels of the largest part."""
    return min(channels, int(ceil_div(ceil_div(channels, parts), granule)) * granule)
