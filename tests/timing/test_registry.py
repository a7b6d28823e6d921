"""Every instruction has a duration, and columns have the durations of their rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.codec import decode_columns, encode_stream
from isa.instruction import OPCODES, Unit
from isa.instructions import Barrier, Conv, End, Sync
from npusim import config
from npusim.errors import UsageError
from npusim.timing import TIMED, streamed_banks, uncontended_cycles

MACHINES = [
    config.load("small"),
    config.load("ax650n"),
    config.load("small").with_values({"conv.dataflow": "output_stationary", "conv.fold_overlap": False}),
    config.load("small").with_values({"conv.dataflow": "input_stationary"}),
]
PLACES = [(cls, unit) for cls in OPCODES.values() for unit in cls.layout.units if cls is not Barrier]


def test_every_instruction_is_timed_on_all_its_units_and_no_other():
    # a barrier has no duration of its own: it lasts until its last participant arrives (microarchitecture 1)
    assert set(TIMED) == set(PLACES)


def test_barrier_and_foreign_units_are_refused():
    with pytest.raises(UsageError, match="no duration of its own"):
        uncontended_cycles(Barrier(units=3), Unit.CV, MACHINES[0])
    with pytest.raises(UsageError, match="end does not run on 9"):
        uncontended_cycles(End(), 9, MACHINES[0])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="load does not run on cv"):
        uncontended_cycles(example_of(OPCODES[0x60]), Unit.CV, MACHINES[0])


def example_of(cls):
    return cls(**{f.name: max(f.spec.minimum, 1) for f in cls.layout.fields if not f.spec.choices})


def test_control():
    longer = MACHINES[0].with_values({"sync.control_cycles": 3})
    for unit in Unit:
        assert uncontended_cycles(Sync(), unit, MACHINES[0]) == 1
        assert uncontended_cycles(End(), unit, longer) == 3


def test_import_is_light():
    program = "import sys, npusim.timing; print(*sorted({'numba', 'simpy', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == []


@st.composite
def instructions_of(draw, cls):
    """An instruction with small extents; addresses and strides anywhere in 64 KiB."""
    values = {}
    for field in cls.layout.fields:
        if field.spec.choices:
            values[field.name] = draw(st.sampled_from(field.spec.choices))
        elif field.spec.minimum == 1 or field.spec.bits == 1:
            values[field.name] = draw(st.integers(field.spec.minimum, min(field.spec.maximum, 40)))
        else:
            values[field.name] = draw(st.integers(0, min(field.spec.maximum, 0xFFFF)))
    if "groups" in values:
        values["in_channels"] *= values["groups"]
        values["out_channels"] *= values["groups"]
    if "offset" in values and draw(st.booleans()):  # dimensions that continue the run
        values["dram_stride_1"] = values["run"]
        values["dram_stride_2"] = values["run"] * values["count_1"]
    return cls(**values)


ONE_UNIT_EACH = {(cls, TIMED[cls, unit]): (cls, unit) for cls, unit in PLACES}.values()


@pytest.mark.parametrize(("cls", "unit"), ONE_UNIT_EACH)
@settings(max_examples=20)
@given(data=st.data(), hardware=st.sampled_from(MACHINES), base=st.integers(0, 10_000))
def test_columns_are_their_rows(cls, unit, data, hardware, base):
    rows = data.draw(st.lists(instructions_of(cls), min_size=1, max_size=4))
    ((_, _, columns),) = decode_columns(encode_stream(rows))
    singles = [uncontended_cycles(row, unit, hardware, base) for row in rows]
    assert all(type(cycles) is int and cycles >= 1 for cycles in singles)
    together = uncontended_cycles(columns, unit, hardware, base)
    if cls.layout.fields:
        assert together.dtype == np.int64
        assert together.tolist() == singles
        assert uncontended_cycles(columns, unit, hardware, np.full(len(rows), base)).tolist() == singles
    else:
        assert [together] * len(rows) == singles
    masks = streamed_banks(columns, 1, hardware)
    for index, row in enumerate(rows):
        mine = {core: int(mask[index]) for core, mask in masks.items() if mask[index]}
        assert mine == streamed_banks(row, 1, hardware)


def test_single_instructions_beyond_64_bits_stay_exact():
    # no OCM holds such an image, but a wrapped count would be a small wrong number
    most = 65535
    extents = ("in_height", "in_width", "in_channels", "out_height", "out_width", "out_channels")
    strides = ("src_row_stride", "src_pixel_stride", "dst_row_stride", "dst_pixel_stride")
    shape: dict[str, Any] = {**dict.fromkeys(extents, most), **dict.fromkeys(strides, 0)}
    conv = Conv(src=0, dst=0, params=0, weights=0, kernel_height=255, kernel_width=255, **shape)
    # small: k = 255 * 255 * 65536, folds k / 4 * 16384, all of 65535**2 steps but the last, which is alone
    steps, folds = most**2, 255 * 255 * 65536 // 4 * 16384
    assert uncontended_cycles(conv, Unit.CONV0, MACHINES[0]) == 2 + (folds - 1) * steps + steps + 10 + 3
