"""Durations of the conv units' instructions (microarchitecture 3).

The compiler's tiler calls ``array_cycles`` for shapes it has no instruction for yet.
"""

from __future__ import annotations

from typing import Any

from isa.instructions import Conv, ConvTranspose, DepthwiseConv, Matmul
from isa.instructions.matrix import is_short
from isa.region import ceil_div
from npusim.config import Hardware
from npusim.timing.registry import cycles_of, larger


def passes(instruction: Any, hardware: Hardware) -> Any:
    """P: how often the operands pass the array: once per 16-bit operand doubled (microarchitecture 3)."""
    more = hardware.conv.passes_16_bit - 1
    return (1 + more * is_short(instruction.src_type)) * (1 + more * is_short(instruction.weight_type))


def padded_depth(channels: Any, hardware: Hardware) -> Any:
    """g(x): a reduction over ``channels`` as the array runs it, padded to whole granules (microarchitecture 3)."""
    granule = hardware.conv.input_channel_granule
    return granule * ceil_div(channels, granule)


def array_cycles(m: Any, k: Any, n: Any, repeats: Any, passes: Any, hardware: Hardware) -> Any:
    """Cycles of the array for ``repeats`` products [m, k] x [k, n], ``k`` padded already (microarchitecture 3).

    A fold that stands alone follows SCALE-Sim: preload or drain R, diagonal R + C - 2, and the stream.
    """
    array = hardware.conv
    r, c = array.rows, array.columns
    if array.dataflow == "weight_stationary":
        folds, steps, alone = ceil_div(k, r) * ceil_div(n, c), m * passes, 2 * r + c - 2
    elif array.dataflow == "output_stationary":
        folds, steps, alone = ceil_div(m, r) * ceil_div(n, c), k * passes, r + c - 2
    else:
        folds, steps, alone = ceil_div(k, r) * ceil_div(m, c), n * passes, 2 * r + c - 2
    folds, alone = folds * repeats, alone + steps
    if array.fold_overlap:
        return (folds - 1) * larger(steps, r) + alone
    return folds * alone


def _duration(instruction: Any, array: Any, elements: Any, hardware: Hardware) -> Any:
    """Issue, array, partial accumulators of ``elements`` results, epilogue (microarchitecture 3)."""
    partial = ceil_div(instruction.partial_region(elements).size_bytes, hardware.conv.partial_bytes_per_cycle)
    return hardware.conv.issue_cycles + array + partial + hardware.conv.epilogue_cycles


@cycles_of(Conv)
def conv_cycles(i: Any, hardware: Hardware) -> Any:
    """Output pixels by kernel positions and input channels by output channels, per group (microarchitecture 3)."""
    pixels = i.out_height * i.out_width
    k = i.kernel_height * i.kernel_width * padded_depth(i.in_channels // i.groups, hardware)
    array = array_cycles(pixels, k, i.out_channels // i.groups, i.groups, passes(i, hardware), hardware)
    return _duration(i, array, pixels * i.out_channels, hardware)


@cycles_of(ConvTranspose)
def conv_transpose_cycles(i: Any, hardware: Hardware) -> Any:
    """Input pixels by input channels by kernel positions and output channels, per group (microarchitecture 3)."""
    n = i.kernel_height * i.kernel_width * (i.out_channels // i.groups)
    k = padded_depth(i.in_channels // i.groups, hardware)
    array = array_cycles(i.in_height * i.in_width, k, n, i.groups, passes(i, hardware), hardware)
    return _duration(i, array, i.out_height * i.out_width * i.out_channels, hardware)


@cycles_of(Matmul)
def matmul_cycles(i: Any, hardware: Hardware) -> Any:
    """[m, k] x [k, n] for every batch (microarchitecture 3)."""
    batches = i.batch_outer * i.batch_inner
    array = array_cycles(i.m, padded_depth(i.k, hardware), i.n, batches, passes(i, hardware), hardware)
    return _duration(i, array, batches * i.m * i.n, hardware)


@cycles_of(DepthwiseConv)
def depthwise_conv_cycles(i: Any, hardware: Hardware) -> Any:
    """C channels by ``conv.depthwise_pixels`` pixels, one kernel position a cycle (microarchitecture 3)."""
    array = hardware.conv
    pixels = i.out_height * i.out_width
    tiles = ceil_div(i.in_channels, array.columns) * ceil_div(pixels, array.depthwise_pixels)
    streamed = tiles * i.kernel_height * i.kernel_width * passes(i, hardware)
    return _duration(i, streamed + array.rows + array.columns - 2, pixels * i.in_channels, hardware)
