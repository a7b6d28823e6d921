"""Cycles of the data mover and of fill on the DMA unit, counted by hand (microarchitecture 5 and 6.1)."""

from __future__ import annotations

import pytest

from isa.dtypes import DType
from isa.instruction import Unit
from isa.instructions import Copy, Fill, Gather, Pad, Transpose
from npusim.timing import uncontended_cycles

# small: lines of 16 B, tile 4, issue 1, pipeline 1
AROUND = 1 + 1


def pad(**changes):
    fields = {
        "height": 3, "width": 4, "channels": 5, "top": 1, "bottom": 1, "left": 2,
        "src_row_stride": 40, "src_pixel_stride": 5, "dst_row_stride": 60, "dst_pixel_stride": 5, **changes,
    }  # fmt: skip
    return Pad(src=0, dst=0x1000, **fields)


CASES = [
    # 120 runs of ceil(20 / 16) = 2 lines; one run of 17 lines
    (Copy(src=0, dst=0, run=20, count_1=2, count_2=3, count_3=4, count_4=5), 120 * 2),
    (Copy(src=0, dst=0, run=257), 17),
    # 24 runs of 10 elements: 10, 20 or 40 B
    (Fill(dst=0, run=10, count_1=2, count_2=3, count_3=4), 24 * 1),
    (Fill(dst=0, run=10, count_1=2, count_2=3, count_3=4, data_type=DType.U16), 24 * 2),
    (Fill(dst=0, run=10, count_1=2, count_2=3, count_3=4, data_type=DType.S32), 24 * 3),
    # 2 matrices of 2 x 3 tiles of 4 cycles, whatever the element
    (Transpose(src=0, dst=0, batch=2, rows=5, columns=9, src_row_stride=9, dst_row_stride=5), 2 * 2 * 3 * 4),
    (
        Transpose(src=0, dst=0, rows=5, columns=9, src_row_stride=36, dst_row_stride=20, data_type=DType.S32),
        2 * 3 * 4,
    ),
    # 5 rows of 6 pixels of 5 B: ceil(30 / 16) = 2 lines a row where dense on both sides, else 6 pixels of 1 line
    (pad(), 5 * 2),
    (pad(src_pixel_stride=8), 5 * 6),
    (pad(dst_pixel_stride=8), 5 * 6),
    # pixels of 20 B: ceil(120 / 16) = 8 lines, or 6 pixels of 2
    (pad(data_type=DType.S32, src_pixel_stride=20, dst_pixel_stride=20), 5 * 8),
    (pad(data_type=DType.S32, src_pixel_stride=20, dst_pixel_stride=24), 5 * 6 * 2),
    # 40 B of indices = 3 lines, 10 rows of 2
    (Gather(table=0, indices=0, dst=0, table_rows=99, count=10, run=20, table_row_stride=20), 3 + 10 * 2),
]


@pytest.mark.parametrize(("instruction", "body"), CASES)
def test_counted_by_hand(instruction, body, small):
    assert uncontended_cycles(instruction, Unit.CV, small) == AROUND + body


def test_fill_on_the_dma_unit(small):
    # port of 8 B: 24 runs of 5 cycles, issue 2, neither pipeline nor latency
    fill = Fill(dst=0, run=10, count_1=2, count_2=3, count_3=4, data_type=DType.S32)
    narrow = small.with_values({"sdma.port_bytes_per_cycle": 8})
    assert uncontended_cycles(fill, Unit.SDMA, narrow) == 2 + 24 * 5
    assert uncontended_cycles(fill, Unit.SDMA, small) == 2 + 24 * 3
