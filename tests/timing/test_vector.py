"""Cycles of the vector unit, counted by hand (microarchitecture 4)."""

from __future__ import annotations

import pytest

from isa import instructions
from isa.dtypes import DType
from isa.instruction import Unit
from isa.instructions import Interpolation
from npusim.timing import uncontended_cycles

# small: vectors of 16 B, issue 1, pipeline 2, row 3
AROUND = 1 + 2

ELEMENTWISE = {"a": 0, "b": 0, "dst": 0, "params": 0, "count": 20, "count_1": 2, "count_2": 3, "count_3": 4}
ROWS = {"src": 0, "dst": 0, "count": 10, "rows": 4, "params": 0}
LOOKUP = {"src": 0, "dst": 0, "table": 0, "count": 20, "rows": 3}
POOL = {
    "src": 0, "dst": 0, "in_height": 9, "in_width": 9, "in_channels": 20, "out_height": 2, "out_width": 3,
    "kernel_height": 3, "kernel_width": 2, "src_row_stride": 0, "src_pixel_stride": 0, "dst_row_stride": 0,
    "dst_pixel_stride": 0,
}  # fmt: skip
GLOBAL = {"src": 0, "dst": 0, "params": 0, "channels": 20, "src_row_stride": 0, "src_pixel_stride": 0}
REDUCE = {"src": 0, "dst": 0, "outer": 3, "length": 20, "src_stride": 0}
NORM = {"src": 0, "dst": 0, "params": 0, "rows": 3, "length": 20}
RESIZE = {
    "src": 0, "dst": 0, "params": 0, "tables": 0, "in_height": 2, "in_width": 2, "out_height": 3, "out_width": 4,
    "channels": 20, "src_row_stride": 0, "src_pixel_stride": 0, "dst_row_stride": 0, "dst_pixel_stride": 0,
}  # fmt: skip

CASES = [
    # 24 rows of v(20) = ceil(20 / 16) = 2; the widest of three operands decides: ceil(40 / 16) = 3
    ("Add", ELEMENTWISE, {}, 24 * 2),
    ("Mul", ELEMENTWISE, {"a_type": DType.S16}, 24 * 3),
    ("Sub", ELEMENTWISE, {"b_type": DType.U16}, 24 * 3),
    ("Div", ELEMENTWISE, {"dst_type": DType.S16}, 24 * 3),
    ("Min", ELEMENTWISE, {"a_broadcast": 1}, 24 * 2),
    ("Max", ELEMENTWISE, {"count": 16}, 24 * 1),
    # 256 entries of 1 B = 16 cycles; of 2 B = 32; 65536 entries of 1 B = 4096
    ("Lookup", LOOKUP, {}, 16 + 3 * 2),
    ("Lookup", LOOKUP, {"dst_type": DType.U16}, 32 + 3 * 3),
    ("Lookup", LOOKUP, {"src_type": DType.U16}, 4096 + 3 * 3),
    # 4 rows of v(10): ceil(40 / 16) = 3 for 4 B, ceil(80 / 16) = 5 for 8 B, 1 for 1 B
    ("Requantize", ROWS, {}, 4 * 3),
    ("Requantize", ROWS, {"src_type": DType.S64}, 4 * 5),
    ("Requantize", ROWS, {"src_type": DType.U8, "dst_type": DType.S64}, 4 * 5),
    ("Requantize", ROWS, {"src_type": DType.U8}, 4 * 1),
    ("Rescale", ROWS, {}, 4 * 1),
    ("Rescale", ROWS, {"dst_type": DType.S16}, 4 * 2),
    ("Quantize", ROWS, {}, 4 * 3),
    ("Dequantize", ROWS, {}, 4 * 3),
    # 6 pixels, 6 positions, v(20)
    ("MaxPool", POOL, {}, 6 * 6 * 2),
    ("MaxPool", POOL, {"data_type": DType.S16}, 6 * 6 * 3),
    ("AveragePool", POOL, {"params": 0}, 6 * 6 * 2),
    ("AveragePool", POOL, {"params": 0, "dst_type": DType.S16}, 6 * 6 * 3),
    ("GlobalAveragePool", GLOBAL, {"height": 5, "width": 4}, 20 * 2),
    ("GlobalAveragePool", GLOBAL, {"height": 5, "width": 4, "dst_type": DType.U16}, 20 * 3),
    # inner 1: 3 rows of v(20); else 60 rows of v(inner); the width of the source alone
    ("ReduceSum", REDUCE, {"params": 0}, 3 * 2),
    ("ReduceMean", REDUCE, {"params": 0, "inner": 5}, 60 * 1),
    ("ReduceMax", REDUCE, {"params": 0, "inner": 17}, 60 * 2),
    ("ReduceMin", REDUCE, {"params": 0, "src_type": DType.S16}, 3 * 3),
    ("ReduceMin", REDUCE, {"params": 0, "dst_type": DType.S16}, 3 * 2),
    ("ArgMax", REDUCE, {}, 3 * 2),
    ("ArgMin", REDUCE, {"inner": 2}, 60 * 1),
    # gain and offset 160 B = 10 cycles; gain alone 80 B = 5; 3 rows of 2 passes and 3 cycles
    ("LayerNorm", NORM, {}, 10 + 3 * (2 * 2 + 3)),
    ("LayerNorm", NORM, {"dst_type": DType.U16}, 10 + 3 * (2 * 3 + 3)),
    ("RmsNorm", NORM, {}, 5 + 3 * (2 * 2 + 3)),
    # tables of 256 x 4 B = 64 cycles, two for 16 bits; 3 rows of 3 passes and 3 cycles
    ("Softmax", NORM, {}, 64 + 3 * (3 * 2 + 3)),
    ("Softmax", NORM, {"masked": 1, "valid": 2}, 64 + 3 * (3 * 2 + 3)),
    ("Softmax", NORM, {"src_type": DType.S16}, 128 + 3 * (3 * 3 + 3)),
    # 7 rows and columns: 28 B = 2 cycles, 84 B = 6 for linear; 12 pixels of v(20), times 4 for linear
    ("Resize", RESIZE, {}, 2 + 12 * 2),
    ("Resize", RESIZE, {"interpolation": Interpolation.LINEAR}, 6 + 4 * 12 * 2),
    ("Resize", RESIZE, {"src_type": DType.S16}, 2 + 12 * 3),
]


@pytest.mark.parametrize(("name", "fields", "changes", "body"), CASES)
def test_counted_by_hand(name, fields, changes, body, small):
    instruction = getattr(instructions, name)(**{**fields, **changes})
    assert uncontended_cycles(instruction, Unit.TENG, small) == AROUND + body


def test_every_instruction_of_the_unit_is_counted():
    from isa.instruction import ANY_UNIT, OPCODES

    own = {c.__name__ for c in OPCODES.values() if Unit.TENG in c.layout.units and c.layout.units != ANY_UNIT}
    assert own == {name for name, *_ in CASES}
