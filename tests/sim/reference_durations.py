"""Sections 3 to 6.1 of docs/microarchitecture.md a second time: durations, burst groups and banks, counted one by one.

Part of the reference model (``reference_model``), under the same rule: no code shared with ``npusim.timing`` or
``npusim.sim``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from isa.dtypes import DType, item_bytes
from isa.instruction import Instruction
from isa.instructions import (
    ArgMax,
    ArgMin,
    AveragePool,
    Conv,
    ConvTranspose,
    Copy,
    DepthwiseConv,
    Dequantize,
    Fill,
    Gather,
    GlobalAveragePool,
    Interpolation,
    LayerNorm,
    Lookup,
    Matmul,
    MaxPool,
    Pad,
    Quantize,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Requantize,
    Rescale,
    Resize,
    RmsNorm,
    Send,
    Softmax,
    Transpose,
)
from isa.instructions.vector import Elementwise
from isa.region import OWN_CORE, Region, Space
from npusim.config import Hardware

# ------------------------------------------------------------------------------------------- section 3: conv units


def pieces(total: int, size: int) -> int:
    """How many pieces of at most ``size`` make ``total``."""
    count = 0
    while total > 0:
        total -= size
        count += 1
    return count


def is_16_bit(dtype: Any) -> bool:
    return dtype in (DType.S16, DType.U16)


def conv_unit_cycles(hw: Hardware, i: Any) -> int:
    rows, columns, granule = hw.conv.rows, hw.conv.columns, hw.conv.input_channel_granule

    def padded(channels: int) -> int:
        while channels % granule:
            channels += 1
        return channels

    passes = 1
    for dtype in (i.src_type, i.weight_type):
        if is_16_bit(dtype):
            passes *= hw.conv.passes_16_bit

    if isinstance(i, DepthwiseConv):
        steps = 0
        for _channel_block in range(pieces(i.in_channels, columns)):
            for _pixel_block in range(pieces(i.out_height * i.out_width, hw.conv.depthwise_pixels)):
                for _position in range(i.kernel_height * i.kernel_width):
                    steps += passes
        array = steps + rows + columns - 2
        elements = i.out_height * i.out_width * i.in_channels
    elif isinstance(i, Matmul):
        array = product_cycles(hw, i.m, padded(i.k), i.n, i.batch_outer * i.batch_inner, passes)
        elements = i.batch_outer * i.batch_inner * i.m * i.n
    elif isinstance(i, ConvTranspose):
        positions = i.kernel_height * i.kernel_width
        array = product_cycles(
            hw, i.in_height * i.in_width, padded(i.in_channels // i.groups), positions * i.out_channels // i.groups,
            i.groups, passes,
        )  # fmt: skip
        elements = i.out_height * i.out_width * i.out_channels
    else:
        assert isinstance(i, Conv)
        positions = i.kernel_height * i.kernel_width
        array = product_cycles(
            hw, i.out_height * i.out_width, positions * padded(i.in_channels // i.groups), i.out_channels // i.groups,
            i.groups, passes,
        )  # fmt: skip
        elements = i.out_height * i.out_width * i.out_channels

    partial = 0
    if i.accumulate:
        accumulator_bytes = 8 if is_16_bit(i.src_type) or is_16_bit(i.weight_type) else 4
        partial = pieces(elements * accumulator_bytes, hw.conv.partial_bytes_per_cycle)
    return hw.conv.issue_cycles + array + partial + hw.conv.epilogue_cycles


def product_cycles(hw: Hardware, m: int, k: int, n: int, groups: int, passes: int) -> int:
    rows, columns = hw.conv.rows, hw.conv.columns
    if hw.conv.dataflow == "weight_stationary":
        down, across, steps, alone = k, n, m * passes, 2 * rows + columns - 2
    elif hw.conv.dataflow == "output_stationary":
        down, across, steps, alone = m, n, k * passes, rows + columns - 2
    else:
        assert hw.conv.dataflow == "input_stationary"
        down, across, steps, alone = k, m, n * passes, 2 * rows + columns - 2
    alone += steps
    cycles = 0
    for _group in range(groups):
        for _down in range(pieces(down, rows)):
            for _across in range(pieces(across, columns)):
                first = cycles == 0
                cycles += alone if first or not hw.conv.fold_overlap else max(steps, rows)
    return cycles


# ------------------------------------------------------------------------------------------ section 4: vector unit


def vector_cycles(hw: Hardware, i: Any) -> int:  # noqa: C901 - one branch for each line of the page's table
    lane_bytes = hw.teng.bytes_per_cycle

    def vectors(elements: int, *types: Any) -> int:
        return pieces(elements * max(item_bytes(t) for t in types), lane_bytes)

    match i:
        case Elementwise():
            body = 0
            for _row in range(i.count_1 * i.count_2 * i.count_3):
                body += vectors(i.count, i.a_type, i.b_type, i.dst_type)
        case Lookup():
            entries = 65536 if is_16_bit(i.src_type) else 256
            body = pieces(entries * item_bytes(i.dst_type), lane_bytes)
            body += i.rows * vectors(i.count, i.src_type, i.dst_type)
        case Requantize() | Rescale():
            body = i.rows * vectors(i.count, i.src_type, i.dst_type)
        case Quantize():
            body = i.rows * vectors(i.count, DType.F32, i.dst_type)
        case Dequantize():
            body = i.rows * vectors(i.count, i.src_type, DType.F32)
        case MaxPool():
            taps = i.out_height * i.out_width * i.kernel_height * i.kernel_width
            body = taps * vectors(i.in_channels, i.data_type)
        case AveragePool():
            taps = i.out_height * i.out_width * i.kernel_height * i.kernel_width
            body = taps * vectors(i.in_channels, i.src_type, i.dst_type)
        case GlobalAveragePool():
            body = i.height * i.width * vectors(i.channels, i.src_type, i.dst_type)
        case ReduceSum() | ReduceMean() | ReduceMax() | ReduceMin() | ArgMax() | ArgMin():
            if i.inner == 1:
                body = i.outer * vectors(i.length, i.src_type)
            else:
                body = i.outer * i.length * vectors(i.inner, i.src_type)
        case LayerNorm():
            row = 2 * vectors(i.length, i.src_type, i.dst_type) + hw.teng.row_cycles
            body = pieces(8 * i.length, lane_bytes) + i.rows * row
        case RmsNorm():
            row = 2 * vectors(i.length, i.src_type, i.dst_type) + hw.teng.row_cycles
            body = pieces(4 * i.length, lane_bytes) + i.rows * row
        case Softmax():
            row = 3 * vectors(i.length, i.src_type, i.dst_type) + hw.teng.row_cycles
            tables = 2 if is_16_bit(i.src_type) else 1
            body = pieces(tables * 256 * 4, lane_bytes) + i.rows * row
        case Resize():
            linear = i.interpolation == Interpolation.LINEAR
            table_bytes = (3 if linear else 1) * 4 * (i.out_height + i.out_width)
            body = i.out_height * i.out_width * vectors(i.channels, i.src_type, i.dst_type)
            body = pieces(table_bytes, lane_bytes) + (4 if linear else 1) * body
        case _:
            raise AssertionError(f"no vector instruction: {type(i).__name__}")
    return hw.teng.issue_cycles + body + hw.teng.pipeline_cycles


# ------------------------------------------------------------------------------------------- section 5: data mover


def mover_cycles(hw: Hardware, i: Any) -> int:
    width = hw.cv.bytes_per_cycle
    match i:
        case Copy():
            body = i.count_1 * i.count_2 * i.count_3 * i.count_4 * pieces(i.run, width)
        case Fill():
            body = i.count_1 * i.count_2 * i.count_3 * pieces(i.run * item_bytes(i.data_type), width)
        case Transpose():
            tile = hw.cv.transpose_tile
            body = 0
            for _matrix in range(i.batch):
                for _down in range(pieces(i.rows, tile)):
                    for _across in range(pieces(i.columns, tile)):
                        body += tile
        case Pad():
            pixel = i.channels * item_bytes(i.data_type)
            height, breadth = i.top + i.height + i.bottom, i.left + i.width + i.right
            if i.src_pixel_stride == pixel and i.dst_pixel_stride == pixel:
                body = height * pieces(breadth * pixel, width)
            else:
                body = height * breadth * pieces(pixel, width)
        case Gather():
            body = pieces(4 * i.count, width) + i.count * pieces(i.run, width)
        case _:
            raise AssertionError(f"no move instruction: {type(i).__name__}")
    return hw.cv.issue_cycles + body + hw.cv.pipeline_cycles


# ------------------------------------------------------------------------------------ section 6.1: groups and banks


@dataclass(frozen=True)
class Group:
    """What an engine requests at once: bursts of one DRAM page, or flits of the path."""

    amount: int
    page: int = -1


def dram_groups(hw: Hardware, i: Any, segment_base: int) -> Iterator[Group]:
    """The burst groups of a load, store or multicast: run by run, burst by burst."""
    run = i.run
    outer = [(i.count_1, i.dram_stride_1), (i.count_2, i.dram_stride_2), (i.count_3, i.dram_stride_3)]
    outer = [(count, stride) for count, stride in outer if count > 1]
    while outer and outer[0][1] == run:
        run *= outer.pop(0)[0]
    starts = [segment_base + i.offset]
    for count, stride in reversed(outer):
        starts = [start + index * stride for start in starts for index in range(count)]

    held, page = 0, -1
    for start in starts:
        burst = start - start % hw.dram.burst_bytes
        while burst < start + run:
            burst_page = burst // hw.dram.page_bytes
            if held and (held == hw.dram.group_bursts or burst_page != page):
                yield Group(held, page)
                held = 0
            held, page = held + 1, burst_page
            burst += hw.dram.burst_bytes
    yield Group(held, page)


def path_groups(hw: Hardware, i: Send) -> Iterator[Group]:
    flits = 0
    for _run in range(i.count_1 * i.count_2 * i.count_3):
        flits += pieces(i.run, hw.path.bytes_per_cycle)
    while flits > hw.path.group_flits:
        yield Group(hw.path.group_flits)
        flits -= hw.path.group_flits
    yield Group(flits)


def ocm_banks(hw: Hardware, instruction: Instruction, own: int, cores: Sequence[int]) -> set[tuple[int, int]]:
    """(physical core, bank) of every OCM bank the instruction streams from or to."""
    banks = set()
    regions: list[Region] = [*instruction.reads(), *instruction.writes()]
    for region in regions:
        if region.space is not Space.OCM or region.run == 0:
            continue
        core = own if region.place == OWN_CORE else cores[region.place]
        last = region.base + region.run * item_bytes(region.dtype) - 1
        for count, stride in zip(region.counts, region.strides, strict=True):
            last += (count - 1) * stride
        bank_bytes = hw.ocm.bytes // hw.ocm.banks
        for bank in range(hw.ocm.banks):
            if region.base < (bank + 1) * bank_bytes and last >= bank * bank_bytes:
                banks.add((core, bank))
    return banks
