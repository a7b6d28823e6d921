"""Convolutions and matrix products equal onnxruntime's integer kernels bit for bit, and their attributes arrive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from npusim import graph
from tests.graph.interpret import run
from tests.graph.tiny import CODES, NUMPY, Builder, compare, onnxruntime_values, operations, random_feeds

# Decimal and binary scales put many products exactly between two integers; random ones hardly ever do.
SCALES = (0.1, 0.05, 0.02, 0.0078125, 0.03125, 0.0313, 0.0077)


def assert_equal(b: Builder, *expected: str) -> graph.Graph:
    loaded, differing, largest, total = compare(b.model())
    assert operations(loaded) == list(expected)
    assert (differing, largest) == (0, 0), f"{differing} of {total} differ, by up to {largest}"
    return loaded


def weights(b: Builder, shape: tuple[int, ...], dtype: str = "s8", channels: int = 0, axis: int = 0) -> str:
    """A quantized constant; per channel where ``channels`` is given."""
    low, high = (-128, 127) if dtype == "s8" else (0, 255)
    data = b.random.integers(low, high, shape, endpoint=True).astype(NUMPY[dtype])
    if not channels:
        return b.dequantize(data, 0.01)
    return b.dequantize(data, b.random.uniform(0.002, 0.02, channels).astype(np.float32), axis=axis)


@settings(max_examples=50)
@given(data=st.data())
def test_conv(data):
    draw = data.draw
    b = Builder(seed=draw(st.integers(0, 99)))
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    channels, result = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    strides, dilations = (draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) for _ in range(2))
    automatic = draw(st.sampled_from([None, None, "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if automatic:
        dilations = (1, 1)  # onnxruntime knows no others there
    x = b.real_input("x", [draw(st.integers(1, 2)), channels, 9, 8], draw(st.sampled_from(SCALES)), 3)
    w = weights(b, (result, channels // groups, *kernel), draw(st.sampled_from(["s8", "u8"])))
    bias = b.dequantize(b.random.integers(-900, 900, result).astype(np.int32), scale_of_product(b, x, w))
    place = {"auto_pad": automatic} if automatic else {"pads": draw(st.tuples(*[st.integers(0, 2)] * 4))}
    inputs = (x, w, bias) if draw(st.booleans()) else (x, w)
    value = b.op("Conv", *inputs, group=groups, strides=strides, dilations=dilations, **place)
    b.result(value, draw(st.sampled_from(SCALES)), draw(st.integers(0, 255)))
    assert_equal(b, "conv")


def scale_of_product(b: Builder, x: str, w: str) -> np.ndarray:
    """The scale that a bias has to have."""
    scales = []
    for value in (x, w):
        (node,) = (node for node in b.nodes if value in node.output)
        (tensor,) = (t for t in b.initializers if t.name == node.input[1])
        scales.append(np.frombuffer(tensor.raw_data, np.float32))
    product = scales[0] * scales[1]
    return product if product.size > 1 else product.reshape(())


def test_conv_per_channel_with_bias_and_relu():
    b = Builder()
    x = b.real_input("x", [1, 8, 14, 14], 0.05, 7)
    w = weights(b, (16, 8, 3, 3), channels=16)
    bias = b.dequantize(b.random.integers(-900, 900, 16).astype(np.int32), scale_of_product(b, x, w), axis=0)
    b.result(b.op("Relu", b.op("Conv", x, w, bias)), 0.1, 20)
    loaded = assert_equal(b, "conv")
    (node,) = loaded.nodes
    assert node.attributes["clamp"] == (20, 255)
    assert [name.split("_")[0] for name in node.source] == ["Conv", "Relu"]


@pytest.mark.parametrize(
    ("low", "high", "clamp"), [(0.0, 6.0, (10, 70)), (-0.5, 1e9, (5, 255)), (-1e9, 1e9, None), (3.0, 3.0, (40, 40))]
)
def test_clip_becomes_the_clamp(low, high, clamp):
    b = Builder()
    value = b.op("Conv", b.real_input("x", [1, 4, 6, 6]), weights(b, (4, 4, 1, 1)))
    limits = [b.constant(np.float32(limit)) for limit in (low, high)]
    b.result(b.op("Clip", value, *limits), 0.1, 10)
    loaded = assert_equal(b, "conv")
    assert loaded.nodes[0].attributes.get("clamp") == clamp


@pytest.mark.parametrize(
    "bounds", [[(0.0, 4.0), (1.0, 9.0)], [(2.0, 4.0), (-1.0, 1.0)], [(3.0, 1.0)], [(-1.0, 1.0), (2.0, 4.0)]]
)
def test_bounds_behind_bounds(bounds):
    b = Builder()
    value = b.op("Conv", b.real_input("x", [1, 4, 6, 6]), weights(b, (4, 4, 1, 1)))
    for pair in bounds:
        value = b.op("Clip", value, *(b.constant(np.float32(limit)) for limit in pair))
    b.result(value, 0.1, 10)
    loaded, differing, _, _ = compare(b.model(), plain=True)
    assert operations(loaded) == ["conv"]
    assert differing == 0


def test_one_dimensional_conv_is_one_row():
    b = Builder()
    b.result(b.op("Conv", b.real_input("x", [2, 4, 9]), weights(b, (6, 4, 3)), pads=[1, 0], strides=[2]), 0.2, 9)
    loaded = assert_equal(b, "reshape", "conv", "reshape")
    conv = loaded.nodes[1]
    assert (conv.attributes["pads"], conv.attributes["strides"]) == ((0, 1, 0, 0), (1, 2))


def test_a_real_bias_is_rounded_to_the_accumulator():
    b = Builder()
    x = b.real_input("x", [1, 2, 3, 3], 0.5)
    w = b.dequantize(np.ones((3, 2, 1, 1), np.int8), 0.25)
    b.result(b.op("Conv", x, w, b.constant(np.array([0.125, 0.19, -2.0], np.float32))), 1.0, 0)
    loaded = graph.load(b.model())
    bias = loaded.tensor(loaded.nodes[0].inputs[2])
    assert bias.data is not None
    assert bias.data.tolist() == [1, 2, -16]


def test_a_bias_of_another_scale_is_brought_to_the_accumulator():
    b = Builder()
    x = b.real_input("x", [1, 2, 3, 3], 0.5)
    w = b.dequantize(np.ones((3, 2, 1, 1), np.int8), 0.25)
    b.result(b.op("Conv", x, w, b.dequantize(np.array([1, 2, -16], np.int32), 0.5)), 1.0, 0)
    loaded = graph.load(b.model())
    bias = loaded.tensor(loaded.nodes[0].inputs[2])
    assert bias.data is not None
    assert bias.data.tolist() == [4, 8, -64]


def test_conv_transpose():
    b = Builder()
    x = b.real_input("x", [1, 4, 5, 6], 0.05, 100)
    value = b.op("ConvTranspose", x, weights(b, (4, 3, 3, 3)), strides=[2, 2], pads=[1, 0, 0, 1], output_padding=[1, 1])
    b.result(value, 0.1, 30)
    loaded, differing, largest, total = compare(b.model(), plain=True)  # onnxruntime computes it in float32
    assert operations(loaded) == ["conv_transpose"]
    assert largest <= 1
    assert differing <= total / 1000


def test_grouped_conv_transpose():
    b = Builder()
    x = b.real_input("x", [1, 4, 4, 4], 0.05, 100)
    b.result(b.op("ConvTranspose", x, weights(b, (4, 3, 2, 2)), group=2, dilations=[2, 1]), 0.1, 30)
    loaded, _, largest, _ = compare(b.model(), plain=True)
    assert operations(loaded) == ["conv_transpose"]
    assert largest <= 1


def test_grouped_conv_transpose_per_channel():
    b = Builder()
    x = b.real_input("x", [1, 4, 4, 4], 0.05, 100)
    w = weights(b, (4, 3, 2, 2), channels=3, axis=1)
    bias = b.dequantize(np.arange(-300, 300, 100, dtype=np.int32), 0.001)
    b.result(b.op("ConvTranspose", x, w, bias, group=2), 0.1, 30)
    loaded, differing, largest, total = compare(b.model(), plain=True)  # onnxruntime computes it in float32
    assert operations(loaded) == ["conv_transpose"]
    assert largest <= 1
    assert differing <= total / 50


@pytest.mark.parametrize("shapes", [((5, 7), (7, 3)), ((2, 3, 5, 7), (2, 3, 7, 4)), ((2, 1, 5, 7), (3, 7, 4))])
@pytest.mark.parametrize("live", [False, True])
def test_matmul(shapes, live):
    b = Builder()
    a = b.real_input("a", shapes[0], 0.05, 120)
    other = b.real_input("b", shapes[1], 0.02, 130) if live else weights(b, shapes[1])
    b.result(b.op("MatMul", a, other), 0.1, 99)
    assert_equal(b, "matmul")


def test_matmul_per_column():
    b = Builder()
    a = b.real_input("a", [4, 16], 0.05, 120)
    b.result(b.op("MatMul", a, weights(b, (16, 8), channels=8, axis=1)), 0.1, 99)
    loaded = assert_equal(b, "matmul")
    quantization = loaded.tensor(loaded.nodes[0].inputs[1]).quantization
    assert quantization is not None
    assert quantization.axis == 1


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
def test_gemm(transposed, alpha, bias):
    b = Builder()
    a = b.real_input("a", [5, 16], 0.05, 120)
    w = weights(b, (8, 16) if transposed else (16, 8), channels=8, axis=1 - transposed)
    inputs = [a, w]
    if bias:
        scale = np.float32(alpha) * scale_of_product(b, a, w)
        inputs.append(b.dequantize(b.random.integers(-900, 900, 8).astype(np.int32), scale, axis=0))
    b.result(b.op("Gemm", *inputs, alpha=alpha, transB=transposed), 0.1, 99)
    loaded = assert_equal(b, "matmul")
    assert loaded.nodes[0].attributes.get("alpha", 1.0) == pytest.approx(alpha)
    assert loaded.tensor(loaded.nodes[0].inputs[1]).shape == (16, 8)


def test_gemm_with_a_transposed_live_operand_and_beta():
    b = Builder()
    a = b.real_input("a", [16, 5], 0.5, 120)
    value = b.op("Gemm", a, weights(b, (16, 8)), b.constant(np.full((1, 8), 0.02, np.float32)), transA=1, beta=0.5)
    b.result(value, 0.1, 99)
    loaded, _, largest, _ = compare(b.model(), plain=True)
    assert operations(loaded) == ["transpose", "matmul"]
    assert largest <= 1
    bias = loaded.tensor(loaded.nodes[1].inputs[2])
    assert bias.data is not None
    assert bias.data.tolist() == [2] * 8


def test_a_product_that_stays_real_is_dequantized_from_its_accumulator():
    b = Builder()
    a = b.real_input("a", [4, 16], 0.05, 120)
    b.output(b.op("MatMul", a, weights(b, (16, 8), channels=8, axis=1)))
    loaded = graph.load(b.model())
    assert operations(loaded) == ["matmul", "dequantize"]
    acc = loaded.tensor(loaded.nodes[0].output)
    assert acc.dtype == "s32"
    assert acc.quantization is not None
    assert acc.quantization.axis == 1


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("stored", [False, True])
def test_a_bias_behind_a_matmul_joins_it(order, stored):
    b = Builder()
    a, w = b.real_input("a", [2, 4, 16], 0.0625, 120), b.dequantize(np.ones((16, 3), np.int8), 0.25)
    real = np.array([[0.5, -1.0, 2.0]], np.float32)
    bias = b.dequantize((real[0] * 64).astype(np.int32), 1 / 64) if stored else b.constant(real)
    b.result(b.op("Relu", b.op("Add", *[b.op("MatMul", a, w), bias][::order])), 0.5, 99)
    loaded, differing, _, _ = compare(b.model(), plain=True)
    assert operations(loaded) == ["matmul"]
    assert differing == 0
    (node,) = loaded.nodes
    assert [name.split("_")[0] for name in node.source] == ["MatMul", "Add", "Relu"]
    data = loaded.tensor(node.inputs[2]).data
    assert data is not None
    assert data.tolist() == [32, -64, 128]


def test_a_bias_behind_a_convolution_joins_it():
    b = Builder()
    value = b.op("Conv", b.real_input("x", [1, 4, 5, 5], 0.0625, 9), b.dequantize(np.ones((3, 4, 1, 1), np.int8), 0.25))
    bias = b.constant(np.array([0.5, -1.0, 2.0], np.float32).reshape(3, 1, 1))
    b.result(b.op("Add", value, bias), 0.5, 99)
    loaded, differing, _, _ = compare(b.model(), plain=True)
    assert operations(loaded) == ["conv"]
    assert differing == 0


@pytest.mark.parametrize("shape", [(5, 1), (5, 3), (2, 1, 3)])
def test_what_differs_from_row_to_row_is_no_bias(shape):
    b = Builder()
    product = b.op("MatMul", b.real_input("a", [5, 16]), weights(b, (16, 3)))
    b.result(b.op("Add", product, b.constant(np.ones(shape, np.float32))))
    assert graph.load(b.model()).cpu_nodes


@pytest.mark.parametrize(("op", "number", "alpha"), [("Mul", 0.25, 0.25), ("Div", 8.0, 0.125)])
def test_a_factor_behind_a_matmul_joins_it(op, number, alpha):
    b = Builder()
    product = b.op("MatMul", b.real_input("a", [5, 16], 0.0625, 120), b.real_input("b", [16, 3], 0.125, 7))
    b.result(b.op(op, product, b.constant(np.float32(number))), 0.1, 99)
    loaded, _, largest, _ = compare(b.model(), plain=True)
    assert operations(loaded) == ["matmul"]
    assert loaded.nodes[0].attributes == {"alpha": alpha}
    assert largest <= 1


def test_a_product_of_two_variables_is_no_factor():
    b = Builder()
    product = b.op("MatMul", b.real_input("a", [5, 16]), weights(b, (16, 3)))
    b.result(b.op("Mul", product, b.real_input("c", [5, 3])))
    assert graph.load(b.model()).cpu_nodes


@pytest.mark.parametrize("dtype", ["u16", "s16"])
def test_16_bit_activations(dtype):
    b = Builder()
    x = b.real_input("x", [1, 3, 6, 6], 0.0001, 5, dtype)
    value = b.op("Conv", x, weights(b, (4, 3, 3, 3)))
    b.result(value, 0.001, 9, dtype)
    loaded, _, largest, _ = compare(b.model(), plain=True)
    assert operations(loaded) == ["conv"]
    assert largest <= 1


# -------------------------------------------------------------------------------------------------- integer operators


def test_conv_integer_and_matmul_integer():
    b = Builder()
    x, zero = b.input("x", [1, 3, 7, 7], "u8"), b.constant(np.array(9, np.uint8))
    w = b.constant(b.random.integers(-128, 128, (5, 3, 3, 3)).astype(np.int8))
    b.output(b.op("ConvInteger", x, w, zero, pads=[1, 1, 1, 1]), "s32")
    a, columns = b.input("a", [2, 4, 6], "u8"), b.constant(b.random.integers(0, 255, (6, 3)).astype(np.uint8))
    b.output(b.op("MatMulInteger", a, columns, zero, b.constant(np.array([1, 2, 3], np.uint8))), "s32")
    assert_equal(b, "conv", "matmul")


@pytest.mark.parametrize("transposed", [0, 1])
def test_qgemm_has_its_scales_along_the_columns_of_the_result(transposed):
    b = Builder()
    w = b.constant(b.random.integers(-128, 128, (5, 8) if transposed else (8, 5)).astype(np.int8))
    inputs = (b.input("x", [3, 8], "u8"), *b.parameters(0.1, 3, "u8"), w)
    scales = b.parameters(b.random.uniform(0.01, 0.1, 5).astype(np.float32), np.zeros(5, int), "s8")
    y = b.op("QGemm", *inputs, *scales, "", *b.parameters(0.7, 9, "u8"), domain="com.microsoft", transB=transposed)
    b.output(y, "u8")
    assert_equal(b, "matmul")


def test_channels_last_is_not_taken_for_channels_first():
    b = Builder()
    x, (scale, zero) = b.input("x", [1, 2, 2, 3], "u8"), b.parameters(0.1, 3, "u8")
    inputs = (x, scale, zero, scale, zero)
    y = b.output(b.op("QLinearGlobalAveragePool", *inputs, domain="com.microsoft", channels_last=1), "u8")
    model = b.model()
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(y, CODES["u8"], [1, 1, 1, 3]))
    loaded = graph.load(model)
    assert operations(loaded) == ["cpu"]
    feeds = random_feeds(model)
    assert np.array_equal(run(loaded, feeds)[y], onnxruntime_values(model, feeds)[y])


@pytest.mark.parametrize(
    ("source", "result", "op"),
    [("u8", "s32", "cast"), ("s8", "s16", "cast"), ("s32", "s64", "cast"), ("u8", "s8", "cpu"), ("s32", "u8", "cpu"),
     ("bool", "s32", "cpu")],
)  # fmt: skip
def test_integers_change_to_wider_types_only(source, result, op):
    b = Builder()
    b.output(b.op("Cast", b.input("x", [5], source), to=CODES[result]), result)
    assert operations(graph.load(b.model())) == [op]


def test_qoperator_forms():
    b = Builder()
    x = b.input("x", [1, 4, 6, 6], "u8")
    w = b.constant(b.random.integers(-128, 128, (4, 4, 3, 3)).astype(np.int8))
    (xs, xz), (ys, yz) = b.parameters(0.05, 128, "u8"), b.parameters(0.1, 100, "u8")
    ws, wz = b.parameters([0.01, 0.02, 0.015, 0.005], [0, 0, 0, 0], "s8")
    bias = b.constant(np.array([100, -100, 2000, 5], np.int32))
    y = b.op("QLinearConv", x, xs, xz, w, ws, wz, ys, yz, bias, pads=[1, 1, 1, 1])
    ms = {"domain": "com.microsoft"}
    s = b.op("QLinearSigmoid", y, ys, yz, *b.parameters(1 / 256, 0, "u8"), **ms)
    m = b.op("QLinearMul", y, ys, yz, s, *b.parameters(1 / 256, 0, "u8"), xs, xz, **ms)
    a = b.op("QLinearAdd", m, xs, xz, x, xs, xz, ys, yz, **ms)
    c = b.op("QLinearConcat", xs, xz, a, ys, yz, y, ys, yz, axis=1, **ms)
    c = b.op("MaxPool", c, kernel_shape=[2, 2], strides=[2, 2])
    p = b.op("QLinearAveragePool", c, xs, xz, xs, xz, kernel_shape=[2, 2], **ms)
    g = b.op("QLinearGlobalAveragePool", p, xs, xz, ys, yz, **ms)
    f = b.op("Flatten", g)
    gw = b.constant(b.random.integers(-128, 128, (8, 5)).astype(np.int8))
    gs, gz = b.parameters(0.01, 0, "s8")
    gb = b.constant(np.array([1, 2, 3, 4, 5], np.int32))
    for value in (y, s, m, a, c, p, g):
        b.output(value, "u8")
    b.output(b.op("QGemm", f, ys, yz, gw, gs, gz, gb, xs, xz, **ms), "u8")
    k = b.constant(b.random.integers(-128, 128, (5, 5)).astype(np.int8))
    b.output(b.op("QLinearMatMul", b.input("t", [3, 5], "u8"), xs, xz, k, gs, gz, ys, yz), "u8")
    assert_equal(
        b, "conv", "table", "mul", "add", "concat", "rescale", "max_pool", "average_pool",
        "global_average_pool", "reshape", "matmul", "matmul",
    )  # fmt: skip
