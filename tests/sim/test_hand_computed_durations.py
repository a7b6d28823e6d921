"""One instruction at a time: durations of every unit's instructions, added up by hand.

See ``test_hand_computed_machine`` for the numbers of the machine ``small``, and for what happens between instructions.
Each program runs on the event engine and on the reference model.
"""

from __future__ import annotations

import pytest

MATMUL = "matmul a=0x0 b=0x100 dst=0x200 params=0x300 a_row_stride=16 dst_row_stride=16"
"""Everything in OCM bank 0. With m=3 k=4 n=4 it takes 18 cycles (see the first test)."""
MATMUL_18 = f"{MATMUL} m=3 k=4 n=4"
IMAGE = "src_row_stride=256 src_pixel_stride=32 dst_row_stride=256 dst_pixel_stride=32"


# --------------------------------------------------------------------------------------------------------- conv units


def test_one_matmul_of_one_fold(run):
    # k = 4 = R rows and n = 4 = C columns: one fold of T = m = 3 steps.
    # issue 2 + (2R + C + T - 2 = 8 + 4 + 3 - 2 = 13) + epilogue 3 = 18
    assert run(f"conv0 {MATMUL_18}") == {"conv0": [(0, 18)]}


def test_back_to_back_instructions_start_in_the_cycle_of_the_retirement_before(run):
    # 18 cycles each; two units work at once
    text = f"conv0 {MATMUL_18}\n conv0 {MATMUL_18}\n conv1 {MATMUL_18}"
    assert run(text) == {"conv0": [(0, 18), (18, 36)], "conv1": [(0, 18)]}


@pytest.mark.parametrize(
    ("dataflow", "overlap", "cycles"),
    [
        # m = 10, n = 6, k = 9 padded to the granule of 4: 12
        # weights stay: F = ceil(12/4) * ceil(6/4) = 6 folds of T = m = 10; alone 2*4 + 4 + 10 - 2 = 20
        ("weight_stationary", True, 2 + (5 * 10 + 20) + 3),  # 75
        ("weight_stationary", False, 2 + 6 * 20 + 3),  # 125
        # outputs stay: F = ceil(10/4) * ceil(6/4) = 6 folds of T = k = 12; alone 4 + 4 + 12 - 2 = 18
        ("output_stationary", True, 2 + (5 * 12 + 18) + 3),  # 83
        ("output_stationary", False, 2 + 6 * 18 + 3),  # 113
        # inputs stay: F = ceil(12/4) * ceil(10/4) = 9 folds of T = n = 6; alone 2*4 + 4 + 6 - 2 = 16
        ("input_stationary", True, 2 + (8 * 6 + 16) + 3),  # 69
        ("input_stationary", False, 2 + 9 * 16 + 3),  # 149
    ],
)
def test_matmul_of_several_folds(run, dataflow, overlap, cycles):
    changes = {"conv.dataflow": dataflow, "conv.fold_overlap": overlap}
    assert run(f"conv0 {MATMUL} m=10 k=9 n=6", changes=changes) == {"conv0": [(0, cycles)]}


@pytest.mark.parametrize(
    ("dataflow", "cycles"),
    [
        # R = 8, C = 4; m = 6, n = 10, k = 9 padded to 12
        # weights stay: F = ceil(12/8) * ceil(10/4) = 6, T = 6, alone 2*8 + 4 + 6 - 2 = 24, between folds max(6, 8)
        ("weight_stationary", 2 + (5 * 8 + 24) + 3),  # 69
        # outputs stay: F = ceil(6/8) * ceil(10/4) = 3, T = 12, alone 8 + 4 + 12 - 2 = 22
        ("output_stationary", 2 + (2 * 12 + 22) + 3),  # 51
        # inputs stay: F = ceil(12/8) * ceil(6/4) = 4, T = 10, alone 2*8 + 4 + 10 - 2 = 28
        ("input_stationary", 2 + (3 * 10 + 28) + 3),  # 63
    ],
)
def test_matmul_on_an_array_that_is_not_square(run, dataflow, cycles):
    changes = {"conv.dataflow": dataflow, "conv.rows": 8}
    assert run(f"conv0 {MATMUL} m=6 k=9 n=10", changes=changes) == {"conv0": [(0, cycles)]}


def test_folds_shorter_than_the_array_wait_for_the_preload(run):
    # k = 8: 2 folds of T = m = 2 steps, but the next weights take R = 4 cycles: max(2, 4) + (8 + 4 + 2 - 2 = 12) = 16
    # 2 + 16 + 3 = 21
    assert run(f"conv0 {MATMUL} m=2 k=8 n=4") == {"conv0": [(0, 21)]}


def test_batches_are_folds(run):
    # 3 matrices of one fold each, T = 3: 2 * max(3, 4) + 13 = 21; 2 + 21 + 3 = 26
    assert run(f"conv0 {MATMUL_18} batch_inner=3 dst_inner_stride=64") == {"conv0": [(0, 26)]}


@pytest.mark.parametrize(
    ("types", "cycles"),
    [
        # T = m * passes; 2 + (2*4 + 4 + T - 2 = 10 + T) + 3
        ("src_type=u8 weight_type=s8", 2 + (10 + 3) + 3),  # 18
        ("src_type=s16 weight_type=s8", 2 + (10 + 6) + 3),  # 21
        ("src_type=u8 weight_type=u16", 2 + (10 + 6) + 3),  # 21
        ("src_type=s16 weight_type=s16", 2 + (10 + 12) + 3),  # 27
    ],
)
def test_16_bit_operands_take_two_passes_each(run, types, cycles):
    assert run(f"conv0 {MATMUL_18} {types}") == {"conv0": [(0, cycles)]}


def test_accumulate_streams_the_partial_accumulators_in(run):
    # 3 * 4 accumulators of 4 bytes at 16 bytes a cycle: 3 cycles; 2 + 13 + 3 + 3 = 21
    assert run(f"conv0 {MATMUL_18} accumulate partial=0x400") == {"conv0": [(0, 21)]}
    # with 16 bits: T = 6, and accumulators of 8 bytes: 6 cycles; 2 + 16 + 6 + 3 = 27
    assert run(f"conv0 {MATMUL_18} accumulate partial=0x400 src_type=s16") == {"conv0": [(0, 27)]}


def test_conv_pads_the_channels_of_every_kernel_position(run):
    # M = 4 * 4 = 16; 5 channels are padded to 8 at each of the 9 positions: k = 72; n = 6
    # F = ceil(72/4) * ceil(6/4) = 18 * 2 = 36, T = 16, alone 10 + 16 = 26; 2 + (35 * 16 + 26 = 586) + 3 = 591
    text = f"""conv0 conv src=0x0 dst=0x4000 params=0x8000 weights=0xC000 {IMAGE}
        in_height=6 in_width=6 in_channels=5 out_height=4 out_width=4 out_channels=6 kernel_height=3 kernel_width=3"""
    assert run(text.replace("\n", " ")) == {"conv0": [(0, 591)]}


def test_groups_of_a_conv_are_products_of_their_own(run):
    # 2 groups of 3 -> 5 channels, 1 x 1, 2 x 2 pixels: M = 4, k = 3 padded to 4, n = 5
    # F = 2 * ceil(4/4) * ceil(5/4) = 4, T = 4, alone 14; 2 + (3 * 4 + 14 = 26) + 3 = 31
    text = f"""conv0 conv src=0x0 dst=0x4000 params=0x8000 weights=0xC000 {IMAGE}
        in_height=2 in_width=2 in_channels=6 out_height=2 out_width=2 out_channels=10 groups=2"""
    assert run(text.replace("\n", " ")) == {"conv0": [(0, 31)]}


def test_conv_transpose_multiplies_each_source_pixel_by_the_whole_kernel(run):
    # M = 3 * 2 source pixels = 6, k = 4, n = 2 * 2 positions * 3 channels = 12
    # F = 1 * ceil(12/4) = 3, T = 6, alone 16; 2 + (2 * 6 + 16 = 28) + 3 = 33
    text = f"""conv0 conv_transpose src=0x0 dst=0x4000 params=0x8000 weights=0xC000 {IMAGE} stride_height=2
        in_height=3 in_width=2 in_channels=4 out_height=6 out_width=3 out_channels=3 kernel_height=2 kernel_width=2"""
    assert run(text.replace("\n", " ")) == {"conv0": [(0, 33)]}


@pytest.mark.parametrize(
    ("source", "cycles"),
    [
        # 6 channels: 2 blocks of 4; 3 * 3 pixels: ceil(9/2) = 5 pairs; 9 positions: 2 * 5 * 9 = 90; fill 4 + 4 - 2 = 6
        ("u8", 2 + (90 + 6) + 3),  # 101
        ("s16", 2 + (180 + 6) + 3),  # 191
    ],
)
def test_depthwise_conv_takes_a_position_a_cycle(run, source, cycles):
    text = f"""conv1 depthwise_conv src=0x0 dst=0x4000 params=0x8000 weights=0xC000 {IMAGE} src_type={source}
        in_height=5 in_width=5 in_channels=6 out_height=3 out_width=3 kernel_height=3 kernel_width=3"""
    assert run(text.replace("\n", " ")) == {"conv1": [(0, cycles)]}


# -------------------------------------------------------------------------------------------------------- vector unit


NORM = "src=0x0 dst=0x400 params=0x800 src_row_stride=64 dst_row_stride=64"
TWO = "a=0x0 b=0x400 dst=0x1000 params=0x3000 a_stride_1=64 dst_stride_1=128 a_stride_2=128 dst_stride_2=256"
POOLED = f"src=0x0 dst=0x400 {IMAGE} in_height=4 in_width=4"


@pytest.mark.parametrize(
    ("text", "cycles"),
    [
        # issue 1 + body + pipeline 2; a vector is 16 bytes of the widest operand
        # 2 * 5 rows of ceil(40/16) = 3 vectors
        (f"add {TWO} count=40 count_1=2 count_2=5", 1 + 10 * 3 + 2),
        # the destination has 2 bytes: ceil(80/16) = 5 vectors a row
        (f"add {TWO} count=40 count_1=2 count_2=5 dst_type=s16", 1 + 10 * 5 + 2),
        # 256 entries in 16 cycles, then 3 rows of ceil(20/16) = 2
        ("lookup src=0x0 dst=0x400 table=0x800 count=20 rows=3 dst_row_stride=32", 1 + 16 + 3 * 2 + 2),
        # 256 entries of 2 bytes in 32 cycles, then 3 rows of ceil(40/16) = 3
        ("lookup src=0x0 dst=0x400 table=0x800 count=20 rows=3 dst_row_stride=64 dst_type=s16", 1 + 32 + 3 * 3 + 2),
        # sources of 4 bytes: 4 rows of ceil(40/16) = 3
        ("requantize src=0x0 dst=0x400 params=0x800 count=10 rows=4 dst_row_stride=16", 1 + 4 * 3 + 2),
        ("rescale src=0x0 dst=0x400 params=0x800 count=17", 1 + 2 + 2),
        # float32 on one side: ceil(5 * 4 / 16) = 2
        ("quantize src=0x0 dst=0x400 params=0x800 count=5", 1 + 2 + 2),
        ("dequantize src=0x0 dst=0x400 params=0x800 count=5", 1 + 2 + 2),
        # 2 * 3 pixels, 4 positions, ceil(17/16) = 2
        (
            f"max_pool {POOLED} in_channels=17 out_height=2 out_width=3 kernel_height=2 kernel_width=2",
            1 + 6 * 4 * 2 + 2,
        ),
        (
            f"average_pool {POOLED} params=0x800 in_channels=9 out_height=1 out_width=2 kernel_width=3 src_type=u16",
            1 + 2 * 3 * 2 + 2,  # ceil(18/16) = 2
        ),
        # 3 * 4 pixels of ceil(33/16) = 3
        (
            (
                "global_average_pool src=0x0 dst=0x800 params=0xC00 height=3 width=4 channels=33"
                " src_row_stride=160 src_pixel_stride=40"
            ),
            1 + 12 * 3 + 2,
        ),
        # 3 rows of ceil(20/16) = 2, reduced along the row
        ("reduce_sum src=0x0 dst=0x400 params=0x800 outer=3 length=20 src_outer_stride=20 src_stride=1", 1 + 3 * 2 + 2),
        # the indices' four bytes do not count: the source's do
        ("arg_max src=0x0 dst=0x400 outer=3 length=20 src_outer_stride=20 src_stride=1", 1 + 3 * 2 + 2),
        # reduced across rows of ceil(18/16) = 2: all 3 * 20 of them
        (
            "reduce_max src=0x0 dst=0x800 params=0xC00 outer=3 length=20 inner=18 src_outer_stride=360 src_stride=18",
            1 + 3 * 20 * 2 + 2,
        ),
        # gain and offset of 8 * 20 bytes in 10 cycles; a row: twice ceil(20/16) = 2, and 3 for the division
        (f"layer_norm {NORM} rows=3 length=20", 1 + 10 + 3 * (2 * 2 + 3) + 2),
        # gain only: 5 cycles
        (f"rms_norm {NORM} rows=3 length=20", 1 + 5 + 3 * (2 * 2 + 3) + 2),
        # 256 entries of 4 bytes in 64 cycles; a row: three times 2, and 3
        (f"softmax {NORM} rows=3 length=20", 1 + 64 + 3 * (3 * 2 + 3) + 2),
        # 16-bit sources: two tables, 128 cycles; ceil(40/16) = 3 vectors; the masked part takes its time, too
        (f"softmax {NORM} rows=3 length=20 src_type=s16 masked valid=4", 1 + 128 + 3 * (3 * 3 + 3) + 2),
        # positions of 4 + 5 lines of 4 bytes: ceil(36/16) = 3; 20 pixels of ceil(20/16) = 2
        (
            (
                f"resize src=0x0 dst=0x800 params=0xC00 tables=0xE00 {IMAGE} in_height=2 in_width=2 channels=20"
                " out_height=4 out_width=5"
            ),
            1 + 3 + 20 * 2 + 2,
        ),
        # three entries a line: ceil(108/16) = 7; four source pixels for each of the 20
        (
            (
                f"resize src=0x0 dst=0x800 params=0xC00 tables=0xE00 {IMAGE} in_height=2 in_width=2 channels=20"
                " out_height=4 out_width=5 interpolation=linear"
            ),
            1 + 7 + 4 * 20 * 2 + 2,
        ),
    ],
)
def test_vector_instructions(run, text, cycles):
    assert run(f"teng {text}") == {"teng": [(0, cycles)]}


# --------------------------------------------------------------------------------------- data mover, control, sdma fill


PADDED = "src=0x0 dst=0x400 height=3 width=4 channels=5 top=1 left=2 src_row_stride=64 dst_row_stride=64"


@pytest.mark.parametrize(
    ("text", "cycles"),
    [
        # issue 1 + body + pipeline 1, 16 bytes a cycle
        # 3 * 2 runs of ceil(20/16) = 2
        (
            (
                "copy src=0x0 dst=0x400 run=20 count_1=3 count_2=2 src_stride_1=20 dst_stride_1=32 src_stride_2=64"
                " dst_stride_2=128"
            ),
            1 + 6 * 2 + 1,
        ),
        # 4 runs of 10 elements of 4 bytes: ceil(40/16) = 3
        ("fill dst=0x0 run=10 count_1=4 dst_stride_1=64 data_type=s32", 1 + 4 * 3 + 1),
        # 2 matrices of ceil(5/4) * ceil(9/4) = 6 tiles of 4 cycles
        (
            (
                "transpose src=0x0 dst=0x400 batch=2 rows=5 columns=9 src_row_stride=16 dst_row_stride=16"
                " src_batch_stride=128 dst_batch_stride=256"
            ),
            1 + 2 * 6 * 4 + 1,
        ),
        # dense pixels: 4 rows of 6 pixels of 5 bytes, ceil(30/16) = 2
        (f"pad {PADDED} src_pixel_stride=5 dst_pixel_stride=5", 1 + 4 * 2 + 1),
        # otherwise each of the 4 * 6 pixels takes a cycle
        (f"pad {PADDED} src_pixel_stride=8 dst_pixel_stride=5", 1 + 24 + 1),
        # 6 indices of 4 bytes: 2 cycles; 6 rows of ceil(40/16) = 3
        (
            (
                "gather table=0x0 indices=0x400 dst=0x800 table_rows=9 count=6 run=40 table_row_stride=40"
                " dst_row_stride=40"
            ),
            1 + 2 + 6 * 3 + 1,
        ),
    ],
)
def test_move_instructions(run, text, cycles):
    assert run(f"cv {text}") == {"cv": [(0, cycles)]}


def test_fill_on_sdma_uses_its_port_and_not_the_dram(run):
    # issue 2 + 2 runs of ceil(40/16) = 3; the load of core 1 beside it takes 2 + 10 + 4 + 6 = 22
    text = """
        .segment in input 64
        sdma fill dst=0x0 run=40 count_1=2 dst_stride_1=64
        core1.sdma load ocm=0x0 segment=in run=64"""
    assert run(text) == {"sdma": [(0, 2 + 2 * 3)], "core1.sdma": [(0, 22)]}


def test_sync_and_end_take_a_control_cycle(run):
    # the third instruction of cv is its end, 2 .. 3, which teng sees at 5
    assert run("cv sync\n cv sync\n teng sync wait(cv, 3)") == {"cv": [(0, 1), (1, 2)], "teng": [(5, 6)]}
