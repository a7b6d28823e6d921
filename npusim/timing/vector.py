"""Durations of the vector unit's instructions (microarchitecture 4)."""

from __future__ import annotations

from typing import Any

from isa.dtypes import DType, item_bytes
from isa.instructions import (
    Add,
    ArgMax,
    ArgMin,
    AveragePool,
    Dequantize,
    Div,
    GlobalAveragePool,
    Interpolation,
    LayerNorm,
    Lookup,
    Max,
    MaxPool,
    Min,
    Mul,
    Quantize,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Requantize,
    Rescale,
    Resize,
    RmsNorm,
    Softmax,
    Sub,
)
from isa.region import Region, ceil_div
from npusim.config import Hardware
from npusim.timing.registry import cycles_of, larger, where


def vectors(count: Any, hardware: Hardware, *types: Any) -> Any:
    """v(n): vectors that hold ``count`` elements of the widest of ``types`` (microarchitecture 4)."""
    width = item_bytes(types[0])
    for other in types[1:]:
        width = larger(width, item_bytes(other))
    return ceil_div(count * width, hardware.teng.bytes_per_cycle)


def _table(region: Region, hardware: Hardware) -> Any:
    """Cycles that read a table once."""
    return ceil_div(region.size_bytes, hardware.teng.bytes_per_cycle)


def _duration(body: Any, hardware: Hardware) -> Any:
    return hardware.teng.issue_cycles + body + hardware.teng.pipeline_cycles


@cycles_of(Add, Mul, Sub, Div, Min, Max)
def elementwise_cycles(i: Any, hardware: Hardware) -> Any:
    """One vector of results a cycle; each innermost row starts a new vector (microarchitecture 4)."""
    rows = i.count_1 * i.count_2 * i.count_3
    return _duration(rows * vectors(i.count, hardware, i.a_type, i.b_type, i.dst_type), hardware)


@cycles_of(Lookup)
def lookup_cycles(i: Any, hardware: Hardware) -> Any:
    """The table, then one vector a cycle (microarchitecture 4)."""
    _, table = i.reads()
    body = _table(table, hardware) + i.rows * vectors(i.count, hardware, i.src_type, i.dst_type)
    return _duration(body, hardware)


@cycles_of(Requantize, Rescale)
def requantize_cycles(i: Any, hardware: Hardware) -> Any:
    """One vector a cycle (microarchitecture 4)."""
    return _duration(i.rows * vectors(i.count, hardware, i.src_type, i.dst_type), hardware)


@cycles_of(Quantize)
def quantize_cycles(i: Any, hardware: Hardware) -> Any:
    """One vector a cycle, of f32 sources (microarchitecture 4)."""
    return _duration(i.rows * vectors(i.count, hardware, DType.F32, i.dst_type), hardware)


@cycles_of(Dequantize)
def dequantize_cycles(i: Any, hardware: Hardware) -> Any:
    """One vector a cycle, of f32 results (microarchitecture 4)."""
    return _duration(i.rows * vectors(i.count, hardware, i.src_type, DType.F32), hardware)


@cycles_of(MaxPool)
def max_pool_cycles(i: Any, hardware: Hardware) -> Any:
    """One vector of channels per destination pixel and kernel position (microarchitecture 4)."""
    taps = i.out_height * i.out_width * i.kernel_height * i.kernel_width
    return _duration(taps * vectors(i.in_channels, hardware, i.data_type), hardware)


@cycles_of(AveragePool)
def average_pool_cycles(i: Any, hardware: Hardware) -> Any:
    """One vector of channels per destination pixel and kernel position (microarchitecture 4)."""
    taps = i.out_height * i.out_width * i.kernel_height * i.kernel_width
    return _duration(taps * vectors(i.in_channels, hardware, i.src_type, i.dst_type), hardware)


@cycles_of(GlobalAveragePool)
def global_average_pool_cycles(i: Any, hardware: Hardware) -> Any:
    """One vector of channels per source pixel (microarchitecture 4)."""
    return _duration(i.height * i.width * vectors(i.channels, hardware, i.src_type, i.dst_type), hardware)


@cycles_of(ReduceSum, ReduceMean, ReduceMax, ReduceMin, ArgMax, ArgMin)
def reduction_cycles(i: Any, hardware: Hardware) -> Any:
    """One vector of source elements a cycle, along the reduced dimension where nothing is inside it."""
    along = i.outer * vectors(i.length, hardware, i.src_type)
    across = i.outer * i.length * vectors(i.inner, hardware, i.src_type)
    return _duration(where(i.inner == 1, along, across), hardware)


def _row_cycles(i: Any, row_passes: int, hardware: Hardware) -> Any:
    """Rows that pass the unit several times and pay for a division each (microarchitecture 4)."""
    row = row_passes * vectors(i.length, hardware, i.src_type, i.dst_type) + hardware.teng.row_cycles
    return i.rows * row


@cycles_of(LayerNorm)
def layer_norm_cycles(i: Any, hardware: Hardware) -> Any:
    """Gain and offset, then moments and normalize for every row (microarchitecture 4)."""
    gain_and_offset = ceil_div(8 * i.length, hardware.teng.bytes_per_cycle)
    return _duration(gain_and_offset + _row_cycles(i, 2, hardware), hardware)


@cycles_of(RmsNorm)
def rms_norm_cycles(i: Any, hardware: Hardware) -> Any:
    """Gain, then sum of squares and normalize for every row (microarchitecture 4)."""
    return _duration(_table(i.gain(), hardware) + _row_cycles(i, 2, hardware), hardware)


@cycles_of(Softmax)
def softmax_cycles(i: Any, hardware: Hardware) -> Any:
    """The tables, then maximum, exponentials and divide for every row (microarchitecture 4)."""
    return _duration(_table(i.table(), hardware) + _row_cycles(i, 3, hardware), hardware)


@cycles_of(Resize)
def resize_cycles(i: Any, hardware: Hardware) -> Any:
    """The position tables, then one source pixel per destination pixel, four for ``linear`` (microarchitecture 4)."""
    taps = where(i.interpolation == Interpolation.LINEAR, 4, 1)
    pixels = i.out_height * i.out_width * vectors(i.channels, hardware, i.src_type, i.dst_type)
    return _duration(_table(i.table_region(), hardware) + pixels * taps, hardware)
