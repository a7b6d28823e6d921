"""Moves are what NumPy's indexing, padding and transposing do; transfers are copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.lib.stride_tricks import as_strided

from isa import instructions as I
from isa.dtypes import DType
from isa.instructions import Padding
from npusim.testing import runnable

MODES: dict[Padding, Any] = {Padding.CONSTANT: "constant", Padding.EDGE: "edge", Padding.REFLECT: "reflect"}


def strided(buffer, address, dtype, shape, strides):
    """The elements at an address, by NumPy's own strides."""
    flat = buffer[address:].copy()
    flat = np.concatenate([flat, np.zeros(-flat.size % 8, np.uint8)])
    return as_strided(flat.view(np.uint8)[: flat.size // dtype.itemsize * dtype.itemsize].view(dtype), shape, strides)


@settings(max_examples=60)
@given(case=runnable(I.Copy))
def test_copy(case):
    i, memory = case
    shape = (i.count_4, i.count_3, i.count_2, i.count_1, i.run)
    src = (i.src_stride_4, i.src_stride_3, i.src_stride_2, i.src_stride_1, 1)
    dst = (i.dst_stride_4, i.dst_stride_3, i.dst_stride_2, i.dst_stride_1, 1)
    want = strided(memory.ocm[0], i.src, np.dtype("u1"), shape, src).copy()
    i.operation(memory)
    assert np.array_equal(strided(memory.ocm[0], i.dst, np.dtype("u1"), shape, dst), want)


@settings(max_examples=60)
@given(case=runnable(I.Transpose))
def test_transpose(case):
    i, memory = case
    kind = DType(i.data_type).numpy
    src = (i.src_batch_stride, i.src_row_stride, kind.itemsize)
    dst = (i.dst_batch_stride, i.dst_row_stride, kind.itemsize)
    want = strided(memory.ocm[0], i.src, kind, (i.batch, i.rows, i.columns), src).transpose(0, 2, 1).copy()
    i.operation(memory)
    assert np.array_equal(strided(memory.ocm[0], i.dst, kind, (i.batch, i.columns, i.rows), dst), want)


@pytest.mark.parametrize("mode", Padding)
@pytest.mark.parametrize("kind", [DType.U8, DType.U16, DType.S32])
def test_pad(board, mode, kind):
    rng = np.random.default_rng(mode)
    image = rng.integers(0, 100, (4, 5, 3)).astype(kind.numpy)
    item, border = image.itemsize, ((1, 3), (0, 4), (0, 0))
    constant: dict[str, Any] = {"constant_values": 0xFE} if mode is Padding.CONSTANT else {}
    want = np.pad(image, border, mode=MODES[mode], **constant)
    here = board()
    made = I.Pad(
        src=here.put(image), dst=here.space(want.nbytes), height=4, width=5, channels=3, top=1, bottom=3, left=0,
        right=4, src_row_stride=15 * item, src_pixel_stride=3 * item, dst_row_stride=want.shape[1] * 3 * item,
        dst_pixel_stride=3 * item, value=0xFE, data_type=kind, mode=mode,
    )  # fmt: skip
    assert np.array_equal(here.run(made, kind, want.shape), want)


def test_pad_takes_the_low_bits_of_its_value(board):
    here = board()
    made = I.Pad(
        src=here.put(np.array([7], np.uint8)), dst=here.space(2), height=1, width=1, channels=1, right=1,
        src_row_stride=1, src_pixel_stride=1, dst_row_stride=2, dst_pixel_stride=1, value=0xFFFFFF80,
    )  # fmt: skip
    assert here.run(made, DType.U8, (2,)).tolist() == [7, 0x80]


def test_gather(board):
    rng = np.random.default_rng(0)
    table, index = rng.integers(0, 256, (6, 10), np.uint8), np.array([5, 0, 0, 3, 5], "<i4")
    here = board()
    made = I.Gather(
        table=here.put(table), indices=here.put(index), dst=here.space(50), table_rows=6, count=5, run=10,
        table_row_stride=10, dst_row_stride=10,
    )  # fmt: skip
    assert np.array_equal(here.run(made, DType.U8, (5, 10)), table[index])


@pytest.mark.parametrize(
    ("kind", "value", "want"),
    [(DType.U8, 0x1FF, 0xFF), (DType.U16, 0x1ABCD, 0xABCD), (DType.S32, 0xFFFFFFFE, -2), (DType.S32, 5, 5)],
)
def test_fill(board, kind, value, want):
    here, item = board(), kind.numpy.itemsize
    made = I.Fill(dst=here.space(100), run=3, count_1=2, dst_stride_1=4 * item, value=value, data_type=kind)
    got = here.run(made, kind, (7,))
    assert got[[0, 1, 2, 4, 5, 6]].tolist() == [want] * 6
    untouched = np.frombuffer(b"\xa5" * item, kind.numpy)[0]
    assert got[3] == untouched


def test_window_partition_is_a_copy(board):
    image = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)  # windows of 2 x 3 pixels
    want = image.reshape(2, 2, 2, 3, 5).transpose(0, 2, 1, 3, 4)
    here = board()
    made = I.Copy(
        src=here.put(image), dst=here.space(120), run=15, count_1=2, count_2=2, count_3=2, src_stride_1=30,
        src_stride_2=15, src_stride_3=60, dst_stride_1=15, dst_stride_2=30, dst_stride_3=60,
    )  # fmt: skip
    assert np.array_equal(here.run(made, DType.U8, want.shape), want)


@settings(max_examples=60)
@given(case=runnable(I.Multicast))
def test_multicast_reaches_the_cores_of_its_mask(case):
    i, memory = case
    before = [ocm.copy() for ocm in memory.ocm]
    shape, one = (i.count_3, i.count_2, i.count_1, i.run), np.dtype("u1")
    source = (i.dram_stride_3, i.dram_stride_2, i.dram_stride_1, 1)
    target = (i.ocm_stride_3, i.ocm_stride_2, i.ocm_stride_1, 1)
    want = strided(memory.dram[i.segment], i.offset, one, shape, source)
    i.operation(memory)
    for core, ocm in enumerate(memory.ocm):
        if i.cores >> core & 1:
            assert np.array_equal(strided(ocm, i.ocm, one, shape, target), want)
        else:
            assert np.array_equal(ocm, before[core])


@pytest.mark.parametrize("cls", [I.Load, I.Store])
def test_load_and_store_copy_one_way(cls):
    @settings(max_examples=40, database=None)
    @given(case=runnable(cls))
    def check(case):
        i, memory = case
        shape, one = (i.count_3, i.count_2, i.count_1, i.run), np.dtype("u1")
        ends = {
            I.Load: (memory.dram[i.segment], i.offset, (i.dram_stride_3, i.dram_stride_2, i.dram_stride_1, 1)),
            I.Store: (memory.ocm[0], i.ocm, (i.ocm_stride_3, i.ocm_stride_2, i.ocm_stride_1, 1)),
        }
        source = ends.pop(cls)
        want = strided(source[0], source[1], one, shape, source[2]).copy()
        i.operation(memory)
        ((buffer, address, strides),) = ends.values()
        assert np.array_equal(strided(buffer, address, one, shape, strides), want)

    check()


@settings(max_examples=40)
@given(case=runnable(I.Send))
def test_send_names_the_receiving_core(case):
    i, memory = case
    shape, one = (i.count_3, i.count_2, i.count_1, i.run), np.dtype("u1")
    source = (i.src_stride_3, i.src_stride_2, i.src_stride_1, 1)
    want = strided(memory.ocm[0], i.src, one, shape, source).copy()
    i.operation(memory)
    target = (i.dst_stride_3, i.dst_stride_2, i.dst_stride_1, 1)
    assert np.array_equal(strided(memory.ocm[i.dst_core], i.dst, one, shape, target), want)
