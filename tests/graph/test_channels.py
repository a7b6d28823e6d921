"""Functions that differ from channel to channel, against onnxruntime's float kernels and float64."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npusim
from npusim import graph
from npusim.session.agreement import check
from tests.graph.interpret import run
from tests.graph.tiny import Builder, onnxruntime_values, operations, random_feeds

RESULT = 0.0313, 117
TIE = 1e-4
"""A float32 chain may end on the other side of a tie that is nearer than this, in steps of the result."""


def per_channel(m: Builder, low: float, high: float, shape: tuple[int, ...]) -> str:
    return m.constant(m.random.uniform(low, high, shape).astype(np.float32))


def batch_norm(m: Builder, x: str, channels: int, **attributes: float) -> str:
    gain, offset, mean = (per_channel(m, -2, 2, (channels,)) for _ in range(3))
    return m.op("BatchNormalization", x, gain, offset, mean, per_channel(m, 0.1, 4, (channels,)), **attributes)


def prelu(m: Builder, x: str, shape: tuple[int, ...]) -> str:
    return m.op("PRelu", x, per_channel(m, -0.5, 1.5, shape))


def compared(model: onnx.ModelProto, seed: int = 0) -> int:
    """Elements that differ from onnxruntime's though no tie is near; the graph has one operation."""
    loaded = graph.load(model)
    assert operations(loaded) == ["tables"]
    feeds = random_feeds(model, seed)
    ours, theirs = run(loaded, feeds), onnxruntime_values(model, feeds, plain=True)
    [name] = loaded.outputs
    real = model_in_float64(loaded, feeds)
    near = np.abs(real - np.floor(real) - 0.5) < TIE
    assert near.mean() < 0.1
    assert np.abs(ours[name].astype(int) - theirs[name].astype(int)).max(initial=0) <= 1
    return int(((ours[name] != theirs[name]) & ~near).sum())


def model_in_float64(loaded: graph.Graph, feeds: dict) -> np.ndarray:
    """The result before it is rounded, in steps."""
    (node,) = loaded.nodes
    x = loaded.tensor(node.inputs[0])
    expression = node.attributes["expression"]
    rows = np.moveaxis((feeds[x.name].astype(float) - x.quantization.zero_point) * x.quantization.scale,
                       expression.axis, 0)  # fmt: skip
    made = np.stack([expression.at(index)(row) for index, row in enumerate(rows)])
    return np.moveaxis(made, 0, expression.axis) / float(loaded.output_of(node).quantization.scale)


SCALES = st.sampled_from([0.1, 0.05, 0.02, 0.0313, 0.0077])
DTYPES = st.sampled_from(["u8", "s8"])


@settings(max_examples=80, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=0, max_size=3), batch=st.integers(1, 3), channels=st.integers(2, 9),
    scale=SCALES, zero=st.integers(-128, 127), dtype=DTYPES, result=st.sampled_from(["u8", "s8", "u16", "s16"]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_batch_normalization_equals_onnxruntime(shape, batch, channels, scale, zero, dtype, result, seed):
    m = Builder(seed=seed)
    x = m.real_input("x", [batch, channels, *shape], scale, zero % 256 if dtype == "u8" else zero, dtype)
    m.result(batch_norm(m, x, channels, epsilon=1e-3), RESULT[0], 17, result)
    assert compared(m.model(), seed) == 0


@settings(max_examples=80, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data(), scale=SCALES,
    zero=st.integers(-128, 127), dtype=DTYPES, seed=st.integers(0, 99),
)  # fmt: skip
def test_prelu_along_any_axis_equals_onnxruntime(shape, data, scale, zero, dtype, seed):
    axis = data.draw(st.integers(0, len(shape) - 1))
    shape[axis] += 1
    m = Builder(seed=seed)
    x = m.real_input("x", shape, scale, zero % 256 if dtype == "u8" else zero, dtype)
    m.result(prelu(m, x, (shape[axis], *[1] * (len(shape) - axis - 1))), *RESULT)
    assert compared(m.model(), seed) == 0


def quantized_numbers(m: Builder, shape: tuple[int, ...]) -> str:
    return m.dequantize(m.random.integers(0, 100, shape).astype(np.uint8), 0.03)


CHAINS = {
    "affine": lambda m, x: m.op("Add", m.op("Mul", x, per_channel(m, -2, 2, (5, 1, 1))),
                                per_channel(m, -1, 1, (1, 5, 1, 1))),
    "behind a normalization": lambda m, x: m.op("HardSwish", batch_norm(m, x, 5)),
    "relu behind one": lambda m, x: m.op("Relu", batch_norm(m, x, 5)),
    "quantized slope": lambda m, x: m.op(
        "PRelu", x, m.dequantize(np.arange(-2, 3, dtype=np.int8).reshape(5, 1, 1), 0.25)),
    "threshold": lambda m, x: m.op("Where", m.op("Greater", x, per_channel(m, -1, 1, (5, 1, 1))), x,
                                   per_channel(m, -1, 1, (5, 1, 1))),
    "roots of constants": lambda m, x: m.op("Add", x, m.op("Sqrt", quantized_numbers(m, (4,)))),
    "a product of constants": lambda m, x: m.op(
        "Mul", x, m.op("Mul", quantized_numbers(m, (6, 1)), per_channel(m, 0, 0.3, (6, 1)))),
    "a choice of constants": lambda m, x: m.op("Add", x, m.op(
        "Where", m.constant(np.array([True, False, False, True])), quantized_numbers(m, (4,)),
        quantized_numbers(m, (4,)))),
    "power along rows": lambda m, x: m.op("Pow", m.op("Abs", x), per_channel(m, 0.5, 2, (6, 1))),
}  # fmt: skip


@pytest.mark.parametrize("build", CHAINS.values(), ids=CHAINS)
def test_a_chain_with_numbers_for_each_index_is_one_operation(build):
    m = Builder()
    m.result(build(m, m.real_input("x", (2, 5, 6, 4), 0.05, 120)), *RESULT)
    model = m.model()
    if build is CHAINS["relu behind one"]:
        assert graph.load(model).nodes[0].attributes["clamp"] == (RESULT[1], 255)
    assert compared(model) == 0


@pytest.mark.parametrize("npu_mode", ["NPU1", "NPU3"])
def test_through_the_machine(npu_mode):
    """Behind and in front of convolutions, whose tensors lie channels last."""
    m = Builder()
    weights = [m.random.integers(-127, 128, (8, 8, 1, 1)).astype(np.int8) for _ in range(2)]
    x = m.real_input("x", (1, 8, 9, 7), 0.05, 120)
    x = m.quantize(m.op("Conv", x, m.dequantize(weights[0], 0.01)), 0.05, 120)
    x = m.quantize(prelu(m, x, (8, 1, 1)), 0.05, 120)
    x = m.quantize(batch_norm(m, x, 8), 0.05, 120)
    m.result(m.op("Conv", x, m.dequantize(weights[1], 0.01)), 0.05, 120)
    model = m.model()
    built = npusim.build(model, npu_mode=npu_mode)
    assert not built.axmodel.cpu_parts
    found = check(model, built.axmodel)
    assert found.agrees
    assert found.compared == 4


REFUSED = {
    "live statistics": ("it needs a constant gain, offset, mean and variance for each channel", "u8", lambda m, x: m.op(
        "BatchNormalization", x, *(m.input(name, [5]) for name in "abcd"))),
    "training": ("it needs training_mode to be off", "u8", lambda m, x: m.op(
        "BatchNormalization", x, *(m.constant(np.ones(5, np.float32)) for _ in "abcd"), outputs=3,
        training_mode=1)[0]),
    "long tables": ("it needs an input of 8 bits where its numbers vary along an axis", "u16",
                    lambda m, x: prelu(m, x, (5, 1, 1))),
    "two axes": ("it computes with numbers that vary along two axes between quantizations", "u8",
                 lambda m, x: prelu(m, prelu(m, x, (5, 1, 1)), (4,))),
    "more numbers than places": ("it needs 4 numbers where they vary along axis 3", "u8",
                                 lambda m, x: prelu(m, x, (7,))),
    "a table for each element": (
        "it needs a number, or one for each index of an axis, as its constant operand", "u8",
        lambda m, x: prelu(m, x, (5, 6, 4))),
}  # fmt: skip


@pytest.mark.parametrize(("constraint", "dtype", "build"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_tables_is_refused_by_name(constraint, dtype, build):
    m = Builder()
    m.result(build(m, m.real_input("x", (2, 5, 6, 4), 0.05, 100, dtype)), 0.05, 100, dtype)
    with pytest.raises(graph.UnsupportedError, match=constraint) as found:
        graph.require_integer(graph.load(m.model()))
    assert found.value.op in ("BatchNormalization", "PRelu")
    assert "--cpu_fallback" in str(found.value)
