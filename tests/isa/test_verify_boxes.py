"""Boxes against sets of bytes: canonical form, intersection, folding; one at a time and as columns."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from isa.region import Box, intersection, make_box, run_starts
from isa.verify import boxes as boxes_module
from isa.verify.boxes import DIMS, canonical_columns, folds, intern, meet

shapes = st.tuples(
    st.integers(0, 40),
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 24)), max_size=DIMS),
)
# One tensor's pitches, as tiles and channel slices of it have; phases and counts differ.
tensor_shapes = st.tuples(
    st.integers(0, 80),
    st.integers(1, 5),
    st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda counts: [(counts[0], 24), (counts[1], 8)]),
)


def bytes_of(shape):
    """Every address as often as the region touches it."""
    base, run, dims = shape
    starts = [
        base + sum(index * stride for index, (_, stride) in zip(indices, dims, strict=True))
        for indices in product(*(range(count) for count, _ in dims))
    ]
    return [start + offset for start in starts for offset in range(run)]


def box_of(shape) -> Box:
    base, run, dims = shape
    return make_box(base, run, [count for count, _ in dims], [stride for _, stride in dims])


def columns_of(listed):
    counts, strides = np.ones((len(listed), DIMS), np.int64), np.zeros((len(listed), DIMS), np.int64)
    for row, (_, _, dims) in enumerate(listed):
        for column, (count, stride) in enumerate(dims):
            counts[row, column], strides[row, column] = count, stride
    base, run = (np.array([shape[i] for shape in listed], np.int64) for i in (0, 1))
    return base, run, counts, strides


@given(shapes)
def test_canonical_box_has_the_bytes_of_its_region(shape):
    box = box_of(shape)
    assert set(bytes_of((box.base, box.run, box.dims))) == set(bytes_of(shape))
    assert box.end == max(bytes_of(shape)) + 1
    assert all(count > 1 and stride > 0 for count, stride in box.dims)
    assert [stride for _, stride in box.dims] == sorted((s for _, s in box.dims), reverse=True)


@given(st.permutations([(3, 2), (2, 6), (4, 12)]), st.integers(2, 12))
def test_dense_dimensions_merge_in_any_order(dims, run):
    assert box_of((0, run, dims)) == Box(0, 46 + run, ())


@given(shapes, st.integers(0, 120), st.integers(1, 40))
def test_run_starts_are_the_runs_that_touch(shape, low, length):
    box = box_of(shape)
    assume(low < box.end and box.base < low + length)  # callers ask where boxes can meet
    runs = {s for s in bytes_of((box.base, 1, box.dims)) if s < low + length and s + box.run > low}
    assert run_starts(box, low, low + length).tolist() == sorted(runs)


@given(st.one_of(st.tuples(shapes, shapes), st.tuples(tensor_shapes, tensor_shapes)))
@example(((0, 4, [(3, 8)]), (4, 4, [(3, 8)])))
@example(((0, 4, [(3, 8)]), (3, 4, [(3, 8)])))
@example(((0, 4, [(3, 8)]), (5, 4, [(3, 8)])))
@example(((0, 3, [(4, 5)]), (3, 2, [(2, 10)])))
def test_intersection_and_meet_are_exact(pair):
    a, b = (box_of(shape) for shape in pair)
    common = set(bytes_of(pair[0])) & set(bytes_of(pair[1]))
    found = intersection(a, b)
    assert meet(a, b) == meet(b, a) == bool(common)
    assert (found is not None) == bool(common)
    if found is not None:
        low, high = found
        assert low == min(common)
        assert low < high
        assert set(range(low, high)) <= common


@given(st.one_of(st.tuples(shapes, shapes), st.tuples(tensor_shapes, tensor_shapes)))
def test_meet_is_exact_when_it_loses_patience(pair):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes_module, "_PATIENCE", 2)
        a, b = (box_of(shape) for shape in pair)
        assert meet(a, b) == bool(set(bytes_of(pair[0])) & set(bytes_of(pair[1])))


@given(shapes)
@example((0, 2, [(2, 3), (2, 5)]))
@example((0, 2, [(2, 3), (3, 3)]))
@example((0, 1, [(3, 2), (2, 3)]))
def test_folds_where_a_byte_is_touched_twice(shape):
    _, run, dims = shape
    touched = bytes_of(shape)
    twice = len(set(touched)) < len(touched)
    counts, strides = [count for count, _ in dims], [stride for _, stride in dims]
    assert folds(run, counts, strides) == twice
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes_module, "_PATIENCE", 1)
        assert folds(run, counts, strides) == twice


def test_meet_of_large_interleaved_boxes_lists_no_runs(monkeypatch):
    monkeypatch.setattr(boxes_module, "intersection", None)
    pixels = [60_000, 60_000]
    left = make_box(0, 32, pixels, [96 * 60_000, 96])
    right = make_box(32, 64, pixels, [96 * 60_000, 96])
    wide = make_box(32, 65, pixels, [96 * 60_000, 96])
    rows = make_box(64 + 96 * 60_000 * 2, 32 * 3, [700], [96 * 60_000])
    assert not meet(left, right)
    assert meet(left, wide)
    assert meet(left, rows)


@given(st.lists(shapes, min_size=1, max_size=8))
def test_columns_are_made_canonical_as_single_boxes_are(listed):
    base, run, counts, strides = columns_of(listed)
    memory = np.zeros(len(listed), np.int64)
    table, index = intern(memory, base, run, counts, strides)
    expected = [box_of(shape) for shape in listed]
    assert [table.box(i) for i in index.tolist()] == expected
    assert [int(table.end[i]) for i in index] == [box.end for box in expected]
    assert [bool(table.solid[i]) for i in index] == [not box.dims for box in expected]
    assert len(table) == len(set(expected))


@given(st.lists(shapes, min_size=1, max_size=8))
def test_equal_boxes_are_found_when_all_hashes_collide(listed):
    base, run, counts, strides = columns_of([*listed, listed[0]])
    memory = np.arange(len(base)) % 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes_module, "HASH_FACTOR", np.uint64(0))
        table, index = intern(memory, base, run, counts, strides)
    plain, plain_index = intern(memory, base, run, counts, strides)
    assert [table.box(i) for i in index.tolist()] == [plain.box(i) for i in plain_index.tolist()]
    assert len(table) == len(plain)


def test_no_regions_have_no_boxes():
    none, no_dims = np.zeros(0, np.int64), np.zeros((0, DIMS), np.int64)
    table, index = intern(none, none, none, no_dims, no_dims)
    assert len(table) == len(index) == 0
    assert [c.shape for c in canonical_columns(none, no_dims, no_dims)] == [(0,), (0, DIMS), (0, DIMS)]
