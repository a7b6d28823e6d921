"""Gathers, scatters and choices by constants: copies, so that every integer is onnxruntime's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npusim
from npusim import graph
from npusim.quant import exact
from tests.graph.tiny import Builder, compare, operations, random_feeds

DTYPES = st.sampled_from(["u8", "s8", "u16", "s16"])
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4)
COPIES = {"reshape", "concat", "gather", "slice", "roll"}


def zero_of(dtype: str, zero: int) -> int:
    return zero + 128 if dtype[0] == "u" else zero


def source(m: Builder, name: str, shape, dtype: str, zero: int) -> str:
    return m.real_input(name, [*shape], 0.05, zero_of(dtype, zero), dtype)


def finish(m: Builder, value: str, dtype: str, zero: int) -> None:
    """The result in the integers of the operands, which a copy keeps."""
    m.result(value, 0.05, zero_of(dtype, zero), dtype)
    loaded, differing, _, _ = compare(m.model(), plain=True)
    assert set(operations(loaded)) <= COPIES
    assert differing == 0


def some_indices(m: Builder, extent: int, shape) -> np.ndarray:
    return m.random.integers(-extent, extent, shape).astype(np.int64)


@settings(max_examples=80, deadline=None)
@given(shape=SHAPES, data=st.data(), dtype=DTYPES, zero=st.integers(-128, 127), seed=st.integers(0, 99))
def test_gather_elements(shape, data, dtype, zero, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    wanted = [data.draw(st.integers(1, extent)) for extent in shape]
    wanted[axis] = data.draw(st.integers(1, 6))
    m = Builder(seed=seed)
    x = source(m, "x", shape, dtype, zero)
    picked = m.op("GatherElements", x, m.constant(some_indices(m, shape[axis], wanted)), axis=axis)
    finish(m, picked, dtype, zero)


@settings(max_examples=80, deadline=None)
@given(shape=SHAPES, data=st.data(), dtype=DTYPES, zero=st.integers(-128, 127), seed=st.integers(0, 99))
def test_gather_nd(shape, data, dtype, zero, seed):
    batch = data.draw(st.integers(0, len(shape) - 1))
    depth = data.draw(st.integers(1, len(shape) - batch))
    lead = [*shape[:batch], *data.draw(st.lists(st.integers(1, 4), max_size=2))]
    m = Builder(seed=seed)
    if not lead:
        lead = [2]
    index = np.stack([some_indices(m, shape[batch + k], lead) for k in range(depth)], -1)
    finish(m, m.op("GatherND", source(m, "x", shape, dtype, zero), m.constant(index), batch_dims=batch), dtype, zero)


@settings(max_examples=80, deadline=None)
@given(shape=SHAPES, data=st.data(), dtype=DTYPES, zero=st.integers(-128, 127), seed=st.integers(0, 99))
def test_scatter_elements(shape, data, dtype, zero, seed):
    axis = data.draw(st.integers(0, len(shape) - 1))
    changed = [data.draw(st.integers(1, extent)) for extent in shape]
    m = Builder(seed=seed)
    index = np.argsort(m.random.random((*changed[:axis], shape[axis], *changed[axis + 1 :])), axis)
    index = np.take(index, range(changed[axis]), axis).astype(np.int64) - m.random.choice([0, shape[axis]])
    x, updates = source(m, "x", shape, dtype, zero), source(m, "updates", changed, dtype, zero)
    finish(m, m.op("ScatterElements", x, m.constant(index), updates, axis=axis), dtype, zero)


@settings(max_examples=80, deadline=None)
@given(shape=SHAPES, data=st.data(), dtype=DTYPES, zero=st.integers(-128, 127), seed=st.integers(0, 99))
def test_scatter_nd(shape, data, dtype, zero, seed):
    depth = data.draw(st.integers(1, len(shape)))
    places = int(np.prod(shape[:depth]))
    count = data.draw(st.integers(1, places))
    m = Builder(seed=seed)
    flat = m.random.permutation(places)[:count]
    index = np.stack(np.unravel_index(flat, shape[:depth]), -1).astype(np.int64)
    x, updates = source(m, "x", shape, dtype, zero), source(m, "updates", [count, *shape[depth:]], dtype, zero)
    finish(m, m.op("ScatterND", x, m.constant(index), updates), dtype, zero)


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_of_equal_indices_the_last_one_counts(op):
    m = Builder()
    index = np.array([1, 3, 1, 3, 3], np.int64)
    index = index if op == "ScatterElements" else index[:, None]
    x, updates = source(m, "x", (5,), "u8", 0), source(m, "updates", (5,), "u8", 0)
    finish(m, m.op(op, x, m.constant(index), updates), "u8", 0)


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_without_updates_a_scatter_is_its_operand(op):
    m = Builder()
    index = np.zeros((0,) if op == "ScatterElements" else (0, 1), np.int64)
    x, nothing = source(m, "x", (5,), "u8", 0), m.constant(np.zeros(0, np.float32))
    finish(m, m.op(op, x, m.constant(index), nothing), "u8", 0)


def test_a_cache_is_written_by_blocks():
    """Rows that stay together move together: one index for each, not one for each element."""
    m = Builder()
    x, updates = source(m, "x", (2, 12, 32), "u8", 0), source(m, "updates", (2, 3, 32), "u8", 0)
    index = np.stack(np.meshgrid([0, 1], [4, 5, 6], indexing="ij"), -1).astype(np.int64)
    m.result(m.op("ScatterND", x, m.constant(index), updates), 0.05, 128)
    loaded, differing, _, _ = compare(m.model(), plain=True)
    [node] = [node for node in loaded.nodes if node.op == "gather"]
    assert differing == 0
    assert loaded.tensor(node.inputs[0]).shape == (30, 32)


@pytest.mark.parametrize(("indices", "length"), [((1, 2, 5, 6), 1), ((2, 3, 6, 7), 2), ((0, 1, 2, 7), 1)])
def test_rows_begin_where_the_tables_rows_do(indices, length):
    m = Builder()
    x = source(m, "x", (8,), "u8", 0)
    m.result(m.op("GatherND", x, m.constant(np.array(indices)[:, None])), 0.05, 128)
    loaded, differing, _, _ = compare(m.model(), plain=True)
    [node] = [node for node in loaded.nodes if node.op == "gather"]
    assert differing == 0
    assert loaded.tensor(node.inputs[0]).size // loaded.tensor(node.inputs[0]).shape[0] == length


def test_a_scatter_brings_both_operands_to_the_scale_of_its_result():
    m = Builder()
    x, updates = m.real_input("x", (6, 4), 0.05, 3), m.real_input("updates", (2, 4), 0.02, 90, "s8")
    m.result(m.op("ScatterND", x, m.constant(np.array([[4], [1]])), updates), 0.07, 40)
    loaded, differing, _, _ = compare(m.model(), plain=True)
    assert operations(loaded).count("rescale") == 2
    assert differing == 0


# ------------------------------------------------------------------------------------------------------------- choices


@settings(max_examples=120, deadline=None)
@given(
    shapes=st.tuples(*[st.lists(st.booleans(), min_size=3, max_size=3)] * 3), ranks=st.tuples(*[st.integers(0, 3)] * 3),
    dtype=DTYPES, zero=st.integers(-128, 127), scales=st.tuples(*[st.sampled_from([0.05, 0.02, 0.0313])] * 3),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_choice_between_two_tensors(shapes, ranks, dtype, zero, scales, seed):
    """Operands of any shapes that broadcast, and of any scales."""
    extents = [[3 if whole else 1 for whole in shape][3 - rank :] for shape, rank in zip(shapes, ranks, strict=True)]
    m = Builder(seed=seed)
    condition = m.constant(m.random.random(extents[0]) < 0.5)
    a = m.real_input("a", extents[1], scales[0], zero_of(dtype, zero), dtype)
    b = m.real_input("b", extents[2], scales[1], zero_of(dtype, -zero - 1), dtype)
    m.result(m.op("Where", condition, a, b), scales[2], zero_of(dtype, zero // 2), dtype)
    loaded, differing, _, _ = compare(m.model(), plain=True, seed=seed)
    assert set(operations(loaded)) <= {"mul", "add", "rescale"}
    assert differing == 0


def test_a_choice_between_a_tensor_and_numbers():
    m = Builder()
    condition, numbers = m.random.random((4, 6)) < 0.5, m.random.normal(size=(4, 1)).astype(np.float32)
    m.result(m.op("Where", m.constant(condition), m.constant(numbers), m.real_input("x", (2, 4, 6), 0.05, 120)), 0.04,
             100)  # fmt: skip
    loaded, differing, _, _ = compare(m.model(), plain=True)
    assert "cpu" not in operations(loaded)
    assert differing == 0


def test_a_choice_within_bounds():
    m = Builder()
    condition = m.constant(m.random.random((4, 6)) < 0.5)
    a, b = m.real_input("a", (4, 6), 0.05, 120), m.real_input("b", (4, 6), 0.05, 120)
    m.result(m.op("Relu", m.op("Where", condition, a, b)), 0.05, 120)
    _, differing, _, _ = compare(m.model(), plain=True)
    assert differing == 0


# -------------------------------------------------------------------------------------------------- through the machine


def block(m: Builder, channels: int = 8) -> str:
    x = m.real_input("x", (1, channels, 6, 5), 0.05, 120)
    weights = m.dequantize(m.random.integers(-127, 128, (channels, channels, 1, 1)).astype(np.int8), 0.01)
    return m.quantize(m.op("Conv", x, weights), 0.05, 120)


THROUGH = {
    "elements": lambda m, x: m.op("GatherElements", x, m.constant(some_indices(m, 6, (1, 8, 4, 5))), axis=2),
    "coordinates": lambda m, x: m.op("GatherND", x, m.constant(np.array([[0, 3], [0, 1], [0, 7]]))),
    "replaced elements": lambda m, x: m.op(
        "ScatterElements", x, m.constant(m.random.integers(0, 8, (1, 2, 6, 5))), m.real_input("u", (1, 2, 6, 5), 0.05,
                                                                                         120), axis=1),
    "replaced blocks": lambda m, x: m.op(
        "ScatterND", x, m.constant(np.array([[0, 3], [0, 1]])), m.real_input("u", (2, 6, 5), 0.02, 20)),
    "choice": lambda m, x: m.op(
        "Where", m.constant(m.random.random((8, 1, 5)) < 0.5), x, m.real_input("u", (1, 8, 6, 5), 0.02, 20)),
}  # fmt: skip


@pytest.mark.parametrize("npu_mode", ["NPU1", "NPU3"])
@pytest.mark.parametrize("build", THROUGH.values(), ids=THROUGH)
def test_through_the_machine(build, npu_mode):
    m = Builder()
    m.result(build(m, block(m)), 0.05, 120)
    model = m.model()
    built = npusim.build(model, npu_mode=npu_mode)
    assert not built.axmodel.cpu_parts
    feeds = random_feeds(model)
    [ours] = built.session().run(None, feeds)
    [theirs] = exact.session(model).run(None, feeds)
    np.testing.assert_array_equal(ours, theirs)


# ------------------------------------------------------------------------------------------------------------ refusals


def live(m: Builder, name: str, *shape: int) -> str:
    return m.input(name, [*shape], "s64")


REFUSED = {
    "live indices": ("GatherElements", "it needs constant indices", lambda m, x: m.op(
        "GatherElements", x, live(m, "i", 4, 6), axis=1)),
    "live coordinates": ("GatherND", "it needs constant indices", lambda m, x: m.op(
        "GatherND", x, live(m, "i", 4, 1))),
    "outside": ("GatherND", "it needs indices within the 6 entries of axis 1", lambda m, x: m.op(
        "GatherND", x, m.constant(np.array([[0, 6]])))),
    "sums": ("ScatterND", "it needs the reduction none, which replaces elements", lambda m, x: m.op(
        "ScatterND", x, m.constant(np.array([[0]])), m.real_input("u", (1, 6)), reduction="add")),
    "live condition": ("Where", "it needs a constant condition and quantized values, or one live input in all",
                       lambda m, x: m.op("Where", m.input("c", [4, 6], "bool"), x, m.real_input("u", (4, 6)))),
}  # fmt: skip


@pytest.mark.parametrize(("op", "constraint", "build"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_copy_is_refused_by_name(op, constraint, build):
    m = Builder()
    m.result(build(m, m.real_input("x", (4, 6))))
    with pytest.raises(graph.UnsupportedError, match=constraint) as found:
        graph.require_integer(graph.load(m.model()))
    assert found.value.op == op
    assert "--cpu_fallback" in str(found.value)


def gathered(m: Builder, op: str, shape, index, **attributes: int) -> str:
    return m.op(op, m.real_input("x", shape), m.constant(np.zeros(index, np.int64)), **attributes)


def scattered(m: Builder, op: str, index, updates, **attributes: int) -> str:
    indices = m.constant(np.zeros(index, np.int64))
    return m.op(op, m.real_input("x", (4, 6)), indices, m.real_input("u", updates), **attributes)


MALFORMED = {
    "no axes": ("it has axis 0 and a tensor of shape", lambda m: gathered(m, "GatherElements", (), ())),
    "no such axis": ("it has axis 2", lambda m: gathered(m, "GatherElements", (4, 6), (4, 6), axis=2)),
    "no such axis to write": ("it has axis -3", lambda m: scattered(m, "ScatterElements", (4, 6), (4, 6), axis=-3)),
    "fewer axes": ("do not fit axis 0", lambda m: gathered(m, "GatherElements", (4, 6), (4,))),
    "longer axes": ("do not fit axis 1", lambda m: gathered(m, "GatherElements", (4, 6), (5, 6), axis=1)),
    "longer axes to write": ("do not fit axis 0", lambda m: scattered(m, "ScatterElements", (4, 7), (4, 7))),
    "another batch": ("with batch_dims 1", lambda m: gathered(m, "GatherND", (3, 3), (2, 1), batch_dims=1)),
    "negative batch": ("with batch_dims -1", lambda m: gathered(m, "GatherND", (3, 3), (2, 1), batch_dims=-1)),
    "no coordinates": ("do not fit a tensor", lambda m: gathered(m, "GatherND", (3, 3), (2, 0))),
    "long coordinates": ("do not fit a tensor", lambda m: scattered(m, "ScatterND", (2, 3), (2,))),
    "more updates": (r"the shape \(3, 6\), not \(2, 6\)", lambda m: scattered(m, "ScatterElements", (2, 6), (3, 6))),
    "updates that broadcast": (r"the shape \(6,\), not \(2, 6\)", lambda m: scattered(m, "ScatterND", (2, 1), (6,))),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "build"), MALFORMED.values(), ids=MALFORMED)
def test_shapes_that_do_not_fit_are_the_models_fault(fault, build):
    """onnxruntime takes none of them either, but for coordinates of length 0, which the standard rules out."""
    m = Builder()
    m.result(build(m))
    with pytest.raises(graph.ModelError, match=f"is malformed: .*{fault}"):
        graph.load(m.model())


def test_a_long_gather_fits_the_machine():
    """More elements than stand in OCM beside their indices."""
    m = Builder()
    count = 600_000
    index = (np.arange(count) + m.random.integers(-500, 500, count)).clip(0, count - 1)
    m.result(m.op("GatherElements", m.real_input("x", [count], 0.05, 120), m.constant(index)), 0.05, 120)
    model: onnx.ModelProto = m.model()
    feeds = random_feeds(model)
    [ours] = npusim.build(model, npu_mode="NPU3").session().run(None, feeds)
    np.testing.assert_array_equal(ours, feeds["x"][index])
