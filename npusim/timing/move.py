"""Durations of the data mover's instructions, and of ``fill`` on the DMA unit (microarchitecture 5 and 6.1)."""

from __future__ import annotations

from typing import Any

from isa.dtypes import item_bytes
from isa.instruction import Unit
from isa.instructions import Copy, Fill, Gather, Pad, Transpose
from isa.region import ceil_div
from npusim.config import Hardware
from npusim.timing.registry import cycles_of, where


def _duration(body: Any, hardware: Hardware) -> Any:
    return hardware.cv.issue_cycles + body + hardware.cv.pipeline_cycles


@cycles_of(Copy)
def copy_cycles(i: Any, hardware: Hardware) -> Any:
    """Every run starts a new line (microarchitecture 5)."""
    runs = i.count_1 * i.count_2 * i.count_3 * i.count_4
    return _duration(runs * ceil_div(i.run, hardware.cv.bytes_per_cycle), hardware)


@cycles_of(Transpose)
def transpose_cycles(i: Any, hardware: Hardware) -> Any:
    """Square tiles, one row of a tile a cycle, whatever the element (microarchitecture 5)."""
    tile = hardware.cv.transpose_tile
    return _duration(i.batch * ceil_div(i.rows, tile) * ceil_div(i.columns, tile) * tile, hardware)


@cycles_of(Pad)
def pad_cycles(i: Any, hardware: Hardware) -> Any:
    """Whole rows where the pixels of source and destination are dense, else pixel by pixel (microarchitecture 5)."""
    width = hardware.cv.bytes_per_cycle
    pixel_bytes = i.channels * item_bytes(i.data_type)
    rows, columns = i.top + i.height + i.bottom, i.left + i.width + i.right
    dense = (i.src_pixel_stride == pixel_bytes) & (i.dst_pixel_stride == pixel_bytes)
    by_row, by_pixel = ceil_div(columns * pixel_bytes, width), columns * ceil_div(pixel_bytes, width)
    return _duration(rows * where(dense, by_row, by_pixel), hardware)


@cycles_of(Gather)
def gather_cycles(i: Any, hardware: Hardware) -> Any:
    """The indices, then every row on a new line (microarchitecture 5)."""
    width = hardware.cv.bytes_per_cycle
    return _duration(ceil_div(4 * i.count, width) + i.count * ceil_div(i.run, width), hardware)


def _fill_lines(i: Any, bytes_per_cycle: int) -> Any:
    runs = i.count_1 * i.count_2 * i.count_3
    return runs * ceil_div(i.run * item_bytes(i.data_type), bytes_per_cycle)


@cycles_of(Fill, on=Unit.CV)
def cv_fill_cycles(i: Any, hardware: Hardware) -> Any:
    """Every run starts a new line (microarchitecture 5)."""
    return _duration(_fill_lines(i, hardware.cv.bytes_per_cycle), hardware)


@cycles_of(Fill, on=Unit.SDMA)
def sdma_fill_cycles(i: Any, hardware: Hardware) -> Any:
    """Over the OCM port alone: neither DRAM nor core path (microarchitecture 6.1)."""
    return hardware.sdma.issue_cycles + _fill_lines(i, hardware.sdma.port_bytes_per_cycle)
