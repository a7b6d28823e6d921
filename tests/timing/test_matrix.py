"""Cycles of the conv units, counted by hand and by a loop over folds (microarchitecture 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa.dtypes import DType
from isa.instruction import Unit
from isa.instructions import Conv, ConvTranspose, DepthwiseConv, Matmul
from npusim import config
from npusim.timing import uncontended_cycles
from npusim.timing.matrix import array_cycles

# small: R = C = 4, granule 4, overlap, issue 2, epilogue 3, partial 16 B/cycle, 2 depthwise pixels, 2 passes
SMALL = config.load("small")
WEIGHT, OUTPUT, INPUT = "weight_stationary", "output_stationary", "input_stationary"


def matmul(**changes):
    fields = {"m": 10, "k": 6, "n": 5, "a_row_stride": 6, "b_row_stride": 5, "dst_row_stride": 5, **changes}
    return Matmul(a=0, b=0x1000, dst=0x2000, params=0x3000, **fields)


def window(**changes):
    strides = {"src_row_stride": 0, "src_pixel_stride": 0, "dst_row_stride": 0, "dst_pixel_stride": 0}
    return {"src": 0, "dst": 0x1000, "params": 0x2000, "weights": 0x3000, **strides, **changes}


def cycles(instruction, **changes):
    return uncontended_cycles(instruction, Unit.CONV1, SMALL.with_values(changes) if changes else SMALL)


@pytest.mark.parametrize(
    ("dataflow", "overlap", "expected"),
    [
        # m 10, k 6 padded to 8, n 5
        # folds 2 * 2 = 4, steps 10, alone 8 + 4 + 10 - 2 = 20: 3 * 10 + 20 = 50; or 4 * 20 = 80
        (WEIGHT, True, 2 + 50 + 3),
        (WEIGHT, False, 2 + 80 + 3),
        # folds 3 * 2 = 6, steps 8, alone 4 + 4 + 8 - 2 = 14: 5 * 8 + 14 = 54; or 6 * 14 = 84
        (OUTPUT, True, 2 + 54 + 3),
        (OUTPUT, False, 2 + 84 + 3),
        # folds 2 * 3 = 6, steps 5, alone 8 + 4 + 5 - 2 = 15: 5 * 5 + 15 = 40; or 6 * 15 = 90
        (INPUT, True, 2 + 40 + 3),
        (INPUT, False, 2 + 90 + 3),
    ],
)
def test_matmul_in_each_dataflow(dataflow, overlap, expected):
    assert cycles(matmul(), **{"conv.dataflow": dataflow, "conv.fold_overlap": overlap}) == expected


def test_short_stream_waits_for_the_preload():
    # m 2: folds 4, steps 2 < R = 4, alone 8 + 4 + 2 - 2 = 12: 3 * 4 + 12 = 24
    assert cycles(matmul(m=2)) == 2 + 24 + 3


def test_batches_are_more_folds():
    # 6 * 4 = 24 folds: 23 * 10 + 20 = 250
    assert cycles(matmul(batch_outer=2, batch_inner=3)) == 2 + 250 + 3


@pytest.mark.parametrize(
    ("src", "weight", "expected"),
    [
        (DType.S16, DType.S8, 2 + 3 * 20 + 30 + 3),  # 2 passes: steps 20, alone 8 + 4 + 20 - 2 = 30
        (DType.U8, DType.U16, 2 + 3 * 20 + 30 + 3),
        (DType.U16, DType.S16, 2 + 3 * 40 + 50 + 3),  # 4 passes: steps 40, alone 50
    ],
)
def test_operands_of_16_bits(src, weight, expected):
    assert cycles(matmul(src_type=src, weight_type=weight)) == expected


def test_three_passes_where_the_machine_needs_three():
    # 9 passes: steps 90, alone 100
    both = matmul(src_type=DType.U16, weight_type=DType.S16)
    assert cycles(both, **{"conv.passes_16_bit": 3}) == 2 + 3 * 90 + 100 + 3


def test_partial_accumulators():
    # 10 x 5 results: 200 B of s32 take ceil(12.5) = 13 cycles; 400 B of s64 take 25
    assert cycles(matmul(accumulate=1)) == 2 + 50 + 13 + 3
    assert cycles(matmul(accumulate=1, src_type=DType.S16)) == 2 + 90 + 25 + 3
    # two batches: 7 * 10 + 20 = 90 for the array, 400 B
    assert cycles(matmul(accumulate=1, batch_inner=2)) == 2 + 90 + 25 + 3


CONV = window(
    in_height=9, in_width=9, in_channels=6, out_height=5, out_width=4, kernel_height=3, kernel_width=2,
    out_channels=10, groups=2,
)  # fmt: skip


def test_conv():
    # per group: m 20, k 6 positions * 3 channels padded to 4 = 24, n 5; folds 2 * 6 * 2 = 24
    # alone 8 + 4 + 20 - 2 = 30: 23 * 20 + 30 = 490; partial 20 * 10 * 4 B = 800 B = 50 cycles
    assert cycles(Conv(**CONV)) == 2 + 490 + 3
    assert cycles(Conv(**CONV, accumulate=1)) == 2 + 490 + 50 + 3


def test_input_channels_are_padded_per_kernel_position():
    # granule 16: k 6 * 16 = 96; folds 2 * 24 * 2 = 96: 95 * 20 + 30 = 1930
    assert cycles(Conv(**CONV), **{"conv.input_channel_granule": 16}) == 2 + 1930 + 3


def test_conv_transpose():
    # m 2 * 3 = 6, k 6 / 2 = 3 padded to 4, n 4 positions * 6 / 2 = 12; folds 2 * 1 * 3 = 6
    # alone 8 + 4 + 6 - 2 = 16: 5 * 6 + 16 = 46; partial 4 * 6 * 6 * 4 B = 576 B = 36 cycles
    shape = window(
        in_height=2, in_width=3, in_channels=6, out_height=4, out_width=6, kernel_height=2, kernel_width=2,
        out_channels=6, groups=2,
    )  # fmt: skip
    assert cycles(ConvTranspose(**shape)) == 2 + 46 + 3
    assert cycles(ConvTranspose(**shape, accumulate=1)) == 2 + 46 + 36 + 3


def test_depthwise_conv():
    # 3 tiles of 4 channels, 9 pixels in 5 pairs, 6 positions: 3 * 5 * 6 = 90, diagonal 4 + 4 - 2 = 6
    # partial 9 * 9 * 4 B = 324 B = 21 cycles
    shape = window(in_height=4, in_width=4, in_channels=9, out_height=3, out_width=3, kernel_height=3, kernel_width=2)
    assert cycles(DepthwiseConv(**shape)) == 2 + 96 + 3
    assert cycles(DepthwiseConv(**shape, src_type=DType.S16)) == 2 + 180 + 6 + 3
    assert cycles(DepthwiseConv(**shape, accumulate=1)) == 2 + 96 + 21 + 3


def test_ax650n_reaches_its_peak_on_large_layers():
    # 3x3 on 1024 channels, half of them on one unit, 16 x 16 pixels: 256 * 9216 * 512 MAC at 1024 a cycle
    layer = Conv(**window(
        in_height=18, in_width=18, in_channels=1024, out_height=16, out_width=16, kernel_height=3, kernel_width=3,
        out_channels=512,
    ))  # fmt: skip
    ideal = layer.macs() // 1024
    assert ideal <= uncontended_cycles(layer, Unit.CONV0, config.load("ax650n")) < 1.001 * ideal


# -------------------------------------------------------------------------- the formulas against a loop over folds


def folds_one_by_one(m, k, n, repeats, passes, hardware):
    """Cycles of the array, by walking over its folds and keeping the time at which each may stream."""
    array = hardware.conv
    r, c = array.rows, array.columns
    across = {WEIGHT: (k, n), OUTPUT: (m, n), INPUT: (k, m)}[array.dataflow]
    streamed = {WEIGHT: m, OUTPUT: k, INPUT: n}[array.dataflow] * passes
    loads = array.dataflow != OUTPUT  # an operand is preloaded; else accumulators are drained
    stream_free = buffer_free = end = 0
    for _ in range(repeats):
        for _ in range(0, across[0], r):
            for _ in range(0, across[1], c):
                if not array.fold_overlap:
                    stream_free = buffer_free = end
                ready = buffer_free + r if loads else buffer_free
                start = max(stream_free, ready)
                stream_free = start + streamed  # the last operand has entered
                # the other buffer is free once this fold has taken its own: at its start, or R cycles later drained
                buffer_free = start if loads else start + r
                end = stream_free + r + c - 2
    return end


def on_array(dataflow, overlap, rows, columns):
    array = {"conv.dataflow": dataflow, "conv.fold_overlap": overlap, "conv.rows": rows, "conv.columns": columns}
    return SMALL.with_values(array)


machines = st.builds(
    on_array, st.sampled_from((WEIGHT, OUTPUT, INPUT)), st.booleans(), st.integers(1, 9), st.integers(1, 9)
)
size = st.integers(1, 30)


@given(m=size, k=size, n=size, repeats=st.integers(1, 3), passes=st.sampled_from((1, 2, 4)), hardware=machines)
def test_formulas_count_folds(m, k, n, repeats, passes, hardware):
    assert array_cycles(m, k, n, repeats, passes, hardware) == folds_one_by_one(m, k, n, repeats, passes, hardware)


@given(m=size, k=size, n=size, more=st.integers(0, 40), which=st.sampled_from("mkn"), hardware=machines)
def test_more_work_never_takes_less_time(m, k, n, more, which, hardware):
    shape = {"m": m, "k": k, "n": n}
    larger = {**shape, which: shape[which] + more}
    assert array_cycles(**larger, repeats=1, passes=1, hardware=hardware) >= array_cycles(
        **shape, repeats=1, passes=1, hardware=hardware
    )


@given(m=size, k=size, n=size, dataflow=st.sampled_from((WEIGHT, OUTPUT, INPUT)))
def test_overlap_never_costs(m, k, n, dataflow):
    with_overlap, without = (on_array(dataflow, overlap, 4, 4) for overlap in (True, False))
    assert array_cycles(m, k, n, 1, 1, with_overlap) <= array_cycles(m, k, n, 1, 1, without)
