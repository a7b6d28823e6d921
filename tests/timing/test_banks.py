"""OCM banks an instruction streams from (microarchitecture 6.4, item 4)."""

from __future__ import annotations

from typing import Any

from isa.codec import decode_columns, encode_stream
from isa.dtypes import DType
from isa.instructions import Copy, End, Load, Matmul, MaxPool, Multicast, Send, Store
from npusim import config
from npusim.timing import streamed_banks

# small: 64 KiB in 4 banks of 16 KiB = 0x4000
SMALL = config.load("small")


def columns(*instructions):
    ((_, _, made),) = decode_columns(encode_stream(instructions))
    return made


def test_from_the_lowest_to_the_highest_byte():
    # bytes 0x3fff..0x4000; one byte less; the source of the copy at 0xc000 in bank 3
    assert streamed_banks(Copy(src=0xC000, dst=0x3FFF, run=2), 0, SMALL) == {0: 0b1011}
    assert streamed_banks(Copy(src=0xC000, dst=0x3FFF, run=1), 0, SMALL) == {0: 0b1001}


def test_banks_between_two_strided_runs_count():
    copy = Copy(src=0, dst=0x100, run=4, count_1=3, src_stride_1=0x4000, dst_stride_1=4)
    # source at 0, 0x4000 and 0x8000
    assert streamed_banks(copy, 2, SMALL) == {2: 0b0111}


def test_every_operand_counts_and_empty_ones_do_not():
    fields: dict[str, Any] = {
        "a": 0,
        "b": 0x4000,
        "dst": 0x8000,
        "m": 4,
        "k": 4,
        "n": 4,
        "a_row_stride": 4,
        "dst_row_stride": 4,
    }
    matmul = Matmul(**fields, params=0x8100, partial=0xC000, b_row_stride=4)
    assert streamed_banks(matmul, 1, SMALL) == {1: 0b0111}
    assert streamed_banks(Matmul(**fields, params=0xC000, b_row_stride=4), 1, SMALL) == {1: 0b1111}


def test_operands_of_wide_elements():
    shape: dict[str, Any] = {"in_height": 1, "in_width": 1, "in_channels": 16, "out_height": 1, "out_width": 1}
    strides = {"src_row_stride": 0, "src_pixel_stride": 0, "dst_row_stride": 0, "dst_pixel_stride": 0}
    narrow, wide = (MaxPool(src=0x3FF0, dst=0, **shape, **strides, data_type=t) for t in (DType.U8, DType.U16))
    assert streamed_banks(narrow, 0, SMALL) == {0: 0b0001}
    assert streamed_banks(wide, 0, SMALL) == {0: 0b0011}


def test_transfers_touch_the_cores_they_name():
    fields = {"ocm": 0x3FF0, "segment": 0, "offset": 0, "run": 32}
    assert streamed_banks(Load(**fields), 1, SMALL) == {1: 0b0011}
    assert streamed_banks(Store(**fields), 1, SMALL) == {1: 0b0011}
    assert streamed_banks(Multicast(**fields, cores=0b101), 1, SMALL) == {0: 0b0011, 2: 0b0011}
    send = Send(src=0, dst_core=2, dst=0x4000, run=32)
    assert streamed_banks(send, 1, SMALL) == {1: 0b0001, 2: 0b0010}
    assert streamed_banks(Send(src=0, dst_core=1, dst=0x4000, run=32), 1, SMALL) == {1: 0b0011}


def test_instructions_without_memory_touch_nothing():
    assert streamed_banks(End(), 0, SMALL) == {}
    assert streamed_banks(columns(End(), End()), 0, SMALL) == {}


def test_columns_of_sends():
    sends = columns(
        Send(src=0, dst_core=2, dst=0x4000, run=32),
        Send(src=0xC000, dst_core=0, dst=0x8000, run=32),
    )
    banks = {core: mask.tolist() for core, mask in streamed_banks(sends, 1, SMALL).items()}
    assert banks == {1: [0b0001, 0b1000], 2: [0b0010, 0], 0: [0, 0b0100]}


def test_beyond_the_end_is_the_last_bank():
    assert streamed_banks(Copy(src=0xFF_FFF0, dst=0, run=64), 0, SMALL) == {0: 0b1001}


def test_as_many_banks_as_a_mask_holds():
    many = SMALL.with_values({"ocm.banks": 62, "ocm.bytes": 62 * 1024})
    copy = Copy(src=0, dst=61 * 1024, run=1024)
    assert streamed_banks(copy, 0, many) == {0: 1 << 61 | 1}
    whole = Copy(src=0, dst=0, run=62 * 1024)
    assert streamed_banks(whole, 0, many) == {0: (1 << 62) - 1}
