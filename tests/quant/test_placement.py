"""Where tensors are rounded: never inside of one integer operation, once for whatever movement copies."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import graph
from npusim.quant import Quantized, quantize
from npusim.quant.optimize import optimize
from npusim.quant.settings import LayerConfig, QuantSettings
from tests.graph.interpret import run
from tests.graph.tiny import Builder, onnxruntime_values

SHAPE = (1, 4, 6, 6)


def samples(shape=SHAPE, count: int = 3, **more):
    return [{"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32), **more} for seed in range(count)]


def numbers(b: Builder, *shape: int) -> str:
    return b.constant((b.random.normal(size=shape) / max(np.prod(shape[1:]), 1) ** 0.5).astype(np.float32))


def conv(b: Builder, value: str, channels: int = 4) -> str:
    return b.op("Conv", value, numbers(b, channels, 4, 3, 3), numbers(b, channels), pads=[1, 1, 1, 1])


def quantized(b: Builder, feeds=None, **options) -> Quantized:
    return quantize(b.model(), feeds or samples(), QuantSettings(**options))


def operations(result: Quantized) -> list[str]:
    loaded = graph.require_integer(graph.load(result.model))
    return [node.op for node in loaded.nodes if node.op not in ("quantize", "dequantize")]


def rounded(result: Quantized) -> list[str]:
    """Tensors behind which a QuantizeLinear stands, in order."""
    return [
        node.input[0].removesuffix("_QuantizeLinear_Input")
        for node in result.model.graph.node
        if node.op_type == "QuantizeLinear"
    ]


def scales(result: Quantized, *names: str) -> set[tuple[float, int]]:
    return {(float(result.parameters[name].scale), result.parameters[name].zero_point) for name in names}


def test_bounds_join_what_computes_their_operand():
    b = Builder()
    first = b.op("Relu", conv(b, b.input("x", SHAPE)))
    second = b.op("Clip", conv(b, first), b.constant(np.float32(0)), b.constant(np.float32(0.5)))
    total = b.op("Relu", b.op("Add", first, second))
    b.output(total)
    result = quantized(b)
    assert rounded(result) == ["x", first, second, total]
    assert operations(result) == ["conv", "conv", "add"]
    assert float(result.parameters[second].scale) * 255 <= 0.5 * (1 + 1e-6)


@pytest.mark.parametrize(("data_type", "expected"), [("U8", ["conv", "tables", "conv"]), ("FP32", [])])
def test_slopes_of_channels_are_tables_where_values_have_8_bits(data_type, expected):
    b = Builder()
    bent = b.op("PRelu", conv(b, b.input("x", SHAPE)), numbers(b, 4, 1, 1))
    b.output(conv(b, bent))
    choice = LayerConfig(op_types=("PRelu",), data_type=data_type)
    result = quantized(b, layer_configs=(choice,))
    if expected:
        assert operations(result) == expected
        assert bent in rounded(result)
    else:
        assert "PRelu" in graph.load(result.model).cpu_nodes[0].attributes["ops"]


@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_what_replaces_elements_is_in_range(op, live, reduction):
    """However large it is: the result of a scatter has the range of both operands, or its own where it adds."""
    b = Builder()
    x = conv(b, b.input("x", SHAPE))
    updates = b.constant(b.random.normal(size=SHAPE).astype(np.float32) * 40)
    if live:
        updates = b.op("Mul", b.input("u", SHAPE), b.constant(np.float32(40)))
    if op == "ScatterND":
        updates = b.op("Reshape", updates, b.constant(np.array([4, 1, 6, 6])))
    places = {"ScatterElements": b.random.permutation(6)[:, None] + np.zeros(SHAPE, np.int64),
              "ScatterND": np.array([[[0, channel]] for channel in range(4)])}  # fmt: skip
    axis = {"axis": 2} if op == "ScatterElements" else {}
    b.output(b.op(op, x, b.constant(places[op]), updates, reduction=reduction, **axis))
    feeds = samples(**({"u": np.random.default_rng(9).normal(size=SHAPE).astype(np.float32)} if live else {}))
    result = quantized(b, feeds)
    assert bool(graph.load(result.model).cpu_nodes) == (reduction == "add")
    [exact] = onnxruntime_values(b.model(), feeds[0]).values()
    [found] = onnxruntime_values(result.model, feeds[0], plain=True).values()
    assert np.abs(found - exact).max() < np.abs(exact).max() / 40


@pytest.mark.parametrize("chain", [["Sigmoid"], ["HardSigmoid"], ["Tanh", "Exp"], ["Neg", "Exp"]], ids="-".join)
def test_a_gate_on_its_own_operand_is_one_table(chain):
    b = Builder()
    x = conv(b, b.input("x", SHAPE))
    value = x
    for op in chain:
        value = b.op(op, value)
    product = b.op("Mul", x, value)
    b.output(product)
    result = quantized(b)
    assert rounded(result) == ["x", x, product]
    assert operations(result) == ["conv", "table"]


def test_a_chain_is_rounded_where_another_reader_needs_it():
    b = Builder()
    x = b.input("x", SHAPE)
    inner = b.op("Sigmoid", x)
    product = b.op("Mul", x, inner)
    total = b.op("Add", product, conv(b, inner))
    b.output(total)
    result = quantized(b)
    assert inner in rounded(result)
    assert operations(result) == ["table", "mul", "conv", "add"]


def test_a_product_of_activations_takes_its_factor():
    b = Builder()
    x = b.input("x", [1, 3, 8])
    inner = b.op("MatMul", x, b.op("Transpose", x, perm=[0, 2, 1]))
    scaled = b.op("Mul", inner, b.constant(np.float32(0.125)))
    b.output(scaled)
    result = quantized(b, samples((1, 3, 8)))
    assert inner not in rounded(result)
    assert operations(result) == ["transpose", "matmul"]


def test_movement_keeps_scale_and_zero_point():
    b = Builder()
    x = b.input("x", SHAPE)
    pooled = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    turned = b.op("Transpose", pooled, perm=[0, 2, 3, 1])
    flat = b.op("Reshape", turned, b.constant(np.array([1, 9, 4])))
    left, right = b.op("Split", flat, axis=2, outputs=2, num_outputs=2)
    b.output(b.op("MatMul", left, numbers(b, 2, 3)))
    b.output(b.op("Softmax", right, axis=-1))
    result = quantized(b)
    assert len(scales(result, "x", pooled, turned, flat, left, right)) == 1


def test_a_concat_of_tensors_that_nobody_else_reads_rounds_nothing():
    b = Builder()
    x = b.input("x", SHAPE)
    small = b.op("Mul", conv(b, x), numbers(b, 1, 1, 1, 1))
    joined = b.op("Concat", small, conv(b, x), axis=1)
    b.output(joined)
    result = quantized(b)
    assert len(scales(result, joined, small)) == 1
    assert "rescale" not in operations(result)


def test_a_concat_does_not_coarsen_a_small_tensor_that_others_read():
    b = Builder()
    x = b.input("x", SHAPE)
    small = b.op("Tanh", b.op("Mul", x, b.constant(np.float32(0.01))))
    joined = b.op("Concat", small, conv(b, x), axis=1)
    b.output(joined)
    b.output(conv(b, small))
    result = quantized(b)
    assert len(scales(result, joined, small)) == 2
    assert operations(result).count("rescale") == 1


def test_constants_are_stored_in_the_integers_of_what_they_are_joined_to():
    b = Builder()
    x = b.input("x", [1, 4, 8])
    token = b.constant(np.full((1, 1, 8), 9.0, np.float32))
    joined = b.op("Concat", token, x, axis=1)
    b.output(joined)
    result = quantized(b, samples((1, 4, 8)))
    assert operations(result) == ["concat"]
    parameters = result.parameters[joined]
    assert (255 - parameters.zero_point) * float(parameters.scale) == pytest.approx(9.0, rel=0.01)


def test_operands_of_attention_are_symmetric_only_where_asked_and_no_worse():
    b = Builder()
    x = b.input("x", [1, 4, 8])
    y = b.input("y", [1, 8, 4])
    b.output(b.op("MatMul", x, y))
    even = np.linspace(-1, 1, 32, dtype=np.float32)
    feeds = [{"x": even.reshape(1, 4, 8), "y": np.abs(even).reshape(1, 8, 4)}]
    asked = quantized(b, feeds, transformer_opt_level=1)
    assert (asked.parameters["x"].zero_point, asked.parameters["y"].zero_point) == (128, 0)
    plain = quantized(b, feeds)
    assert plain.parameters["x"].zero_point in (127, 128)
    assert plain.parameters["x"].scale == np.float32(2 / 255)


@pytest.mark.parametrize("value", [0.0, 3.5, -2.0, 1e-30, 1e30])
def test_constant_tensors_have_parameters_all_the_same(value):
    b = Builder()
    b.output(b.op("Relu", b.input("x", [2, 3])))
    feeds = [{"x": np.full((2, 3), value, np.float32)}]
    result = quantized(b, feeds)
    (found,) = onnxruntime_values(result.model, feeds[0], plain=True).values()
    assert found == pytest.approx(np.maximum(feeds[0]["x"], 0), rel=1e-5, abs=1e-20)


def test_an_operator_without_integer_form_stays_real_between_integers():
    b = Builder()
    total = b.op("CumSum", conv(b, b.input("x", SHAPE)), b.constant(np.int64(1)))
    b.output(conv(b, total))
    result = quantized(b)
    assert [row.data_type for row in result.table] == ["U8", "FP32", "U8"]
    loaded = graph.load(result.model)
    assert [node.attributes["ops"] for node in loaded.cpu_nodes] == [("CumSum",)]


def test_a_function_of_a_constant_for_each_channel_stays_real():
    b = Builder()
    power = b.op("Pow", b.op("Abs", b.input("x", SHAPE)), b.constant(np.ones((4, 1, 1), np.float32)))
    b.output(power)
    assert [row.data_type for row in quantized(b).table] == ["U8", "FP32"]


def test_integers_are_left_alone():
    b = Builder()
    index = b.input("i", [3], "s64")
    rows = b.op("Gather", numbers(b, 10, 8), index)
    b.output(b.op("MatMul", rows, numbers(b, 8, 4)))
    feeds = [{"i": np.array([1, 9, 4])}, {"i": np.array([0, 2, 3])}]
    result = quantized(b, feeds)
    assert operations(result) == ["gather", "matmul"]


def test_weights_that_two_layers_share_are_stored_for_each():
    b = Builder()
    x = b.input("x", SHAPE)
    weights, bias = numbers(b, 4, 4, 1, 1), numbers(b, 4)
    first = b.op("Sigmoid", b.op("Conv", x, weights, bias))
    b.output(b.op("Conv", first, weights, bias))
    result = quantized(b, layer_configs=(LayerConfig(op_types=("Sigmoid",), data_type="U8"),))
    onnx.checker.check_model(result.model)
    assert operations(result) == ["conv", "table", "conv"]
    bias_scales = [t for t in result.model.graph.initializer if t.name.startswith(bias) and t.name.endswith("_scale")]
    assert len(bias_scales) == 2


# ------------------------------------------------------------------------------------------------------- any graph


def positions(b: Builder, *values: int) -> list[str]:
    """Start, end and axis of a Slice."""
    return [b.constant(np.array([value])) for value in values]


MAKERS = {
    "conv": lambda b, v, _: conv(b, v),
    "relu": lambda b, v, _: b.op("Relu", v),
    "clip": lambda b, v, _: b.op("Clip", v, b.constant(np.float32(-0.5)), b.constant(np.float32(0.75))),
    "sigmoid": lambda b, v, _: b.op("Sigmoid", v),
    "silu": lambda b, v, _: b.op("Mul", v, b.op("Sigmoid", v)),
    "hard_swish": lambda b, v, _: b.op("HardSwish", v),
    "scalar": lambda b, v, _: b.op("Add", b.constant(np.float32(0.3)), v),
    "vector": lambda b, v, _: b.op("Mul", v, numbers(b, 4, 1, 1)),
    "add": lambda b, v, w: b.op("Add", v, w),
    "mul": lambda b, v, w: b.op("Mul", v, w),
    "max": lambda b, v, w: b.op("Max", v, w),
    "pool": lambda b, v, _: b.op("MaxPool", v, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "average": lambda b, v, _: b.op("AveragePool", v, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "turn": lambda b, v, _: b.op("Transpose", v, perm=[0, 1, 3, 2]),
    "softmax": lambda b, v, _: b.op("Softmax", v, axis=-1),
    "norm": lambda b, v, _: b.op("LayerNormalization", v, b.constant(np.ones(6, np.float32))),
    "attend": lambda b, v, w: b.op("MatMul", v, w),
    "swap": lambda b, v, _: b.op("Concat", *b.op("Split", v, axis=1, outputs=2, num_outputs=2)[::-1], axis=1),
    "join": lambda b, v, w: b.op("Slice", b.op("Concat", v, w, axis=1), *positions(b, 2, 6, 1)),
}  # fmt: skip


@st.composite
def graphs(draw) -> Builder:
    b = Builder(seed=draw(st.integers(0, 3)))
    values = [b.input("x", SHAPE)]
    for _ in range(draw(st.integers(1, 7))):
        make = MAKERS[draw(st.sampled_from(sorted(MAKERS)))]
        first, second = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        values.append(make(b, first, second))
    b.output(values[-1])
    if len(values) > 2 and draw(st.booleans()):
        b.output(values[-2])
    return b


@settings(max_examples=60, deadline=None)
@given(graphs(), st.sampled_from(["U8", "S8", "U16", "mixed"]), st.sampled_from(["MinMax", "MSE"]))
def test_any_graph_becomes_integers_that_compute_what_the_file_says(b, data_type, method):
    ops = sorted({node.op_type for node in optimize(b.model()).model.graph.node})
    configs = tuple(LayerConfig(op_types=(op,), data_type="U8" if data_type == "mixed" else data_type) for op in ops)
    if data_type == "mixed":
        configs = tuple(LayerConfig(op_types=(op,), data_type="U16") for op in ops[::2])
    result = quantized(b, calibration_method=method, layer_configs=configs)
    loaded = graph.require_integer(graph.load(result.model))
    feeds = samples()[0]
    ours, theirs = run(loaded, feeds), onnxruntime_values(result.model, feeds, plain=True)
    exact = onnxruntime_values(b.model(), feeds)
    for name in theirs:
        spread = float(np.ptp(exact[name])) + 1e-3
        assert np.abs(ours[name] - theirs[name]).max() <= 0.05 * spread
        assert np.abs(theirs[name] - exact[name]).mean() <= 0.08 * spread


def test_every_maker_of_the_random_graphs_is_an_operator_that_is_rounded():
    for make in MAKERS.values():
        b = Builder()
        b.output(make(b, b.input("x", SHAPE), "x"))
        assert Counter(row.data_type for row in quantized(b).table).keys() == {"U8"}
