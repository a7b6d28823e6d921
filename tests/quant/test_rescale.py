"""Factors moved from activations into weights: the float model stays the same, and rounding it costs less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from npusim.graph.fold import fold
from npusim.graph.import_onnx import import_model
from npusim.quant import quantize
from npusim.quant.channels import spans
from npusim.quant.editor import Editor
from npusim.quant.equalize import equalize
from npusim.quant.rescale import Statistics, noise, rescale
from npusim.quant.settings import QuantSettings
from npusim.quant.smooth import smooth
from tests.quant.floats import signal_to_noise

EAGER = QuantSettings(smooth_quant_threshold=0.0)


def model(nodes, constants, shape, outputs=("y",)):
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(op, *inputs, to, **attributes):
    return helper.make_node(op, inputs, [to], name=f"{op}_{to}", **attributes)


def samples(shape, count=3, seed=0):
    stream = np.random.default_rng(seed)
    return [{"x": stream.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def outlier_channels(channels, rng, largest=100.0):
    """Factors of which a quarter is large."""
    return np.where(rng.permutation(channels) < channels // 4, largest, 1.0).astype(np.float32)


def attention_input(seed=0, channels=16, outliers=True, **more):
    """A layer norm with outlier channels, rolled and cut into windows as Swin does, before two products."""
    rng = np.random.default_rng(seed)
    factors = outlier_channels(channels, rng) if outliers else np.ones(channels, np.float32)
    constants = {
        "gain": rng.uniform(0.5, 1.5, channels).astype(np.float32) * factors,
        "offset": rng.normal(0, 0.2, channels).astype(np.float32) * factors,
        "a": rng.normal(0, 0.3, (channels, 8)).astype(np.float32) / factors[:, None],
        "b": rng.normal(0, 0.3, (channels, 8)).astype(np.float32) / factors[:, None],
        "bias": rng.normal(0, 0.1, 8).astype(np.float32),
        "zero": np.array([0]), "one": np.array([1]), "end": np.array([2**62]), "axis": np.array([1]),
        "windows": np.array([4, 2, 2, channels]),
    }  # fmt: skip
    nodes = [
        node("LayerNormalization", "x", "gain", "offset", to="n", axis=-1),
        node("Slice", "n", "one", "end", "axis", to="n1"),
        node("Slice", "n", "zero", "one", "axis", to="n0"),
        node("Concat", "n1", "n0", to="rolled", axis=1),
        node("Reshape", "rolled", "windows", to="w"),
        node("Transpose", "w", to="t", perm=[0, 2, 1, 3]),
        node("MatMul", "t", "a", to="p"),
        node("MatMul", "t", "b", to="q"),
        node("Add", "q", "bias", to="r"),
        node("Mul", "p", "r", to="y"),
    ]
    extra = more.pop("nodes", [])
    return model([*nodes, *extra], constants, (1, 4, 4, channels), **more)


def convolutions(seed=0, channels=8):
    """Convolution, bound at zero, depthwise convolution, bound, pooling, convolution; channels of unlike ranges."""
    rng = np.random.default_rng(seed)
    factors = rng.uniform(0, 2, (2, channels)).astype(np.float32)
    first, second = 10 ** factors[0], 10 ** factors[1]
    constants = {
        "w1": rng.normal(0, 0.3, (channels, 3, 3, 3)).astype(np.float32) * first[:, None, None, None],
        "b1": rng.normal(0, 0.3, channels).astype(np.float32) * first,
        "w2": rng.normal(0, 0.3, (channels, 1, 3, 3)).astype(np.float32) * (second / first)[:, None, None, None],
        "b2": rng.normal(0, 0.3, channels).astype(np.float32) * second,
        "w3": rng.normal(0, 0.3, (4, channels, 1, 1)).astype(np.float32) / second[None, :, None, None],
    }
    nodes = [
        node("Conv", "x", "w1", "b1", to="c1", pads=[1] * 4),
        node("Relu", "c1", to="r1"),
        node("Conv", "r1", "w2", "b2", to="c2", pads=[1] * 4, group=channels),
        node("Relu", "c2", to="r2"),
        node("AveragePool", "r2", to="pooled", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "pooled", "w3", to="y"),
    ]
    return model(nodes, constants, (1, 3, 8, 8))


def values(wanted, feeds):
    import onnxruntime as ort

    session = ort.InferenceSession(wanted.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def assert_same(one, other, feeds):
    for wanted, found in zip(values(one, feeds), values(other, feeds), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_a_smoothed_model_computes_the_same(seed):
    float_model, calibration = attention_input(seed), samples((1, 4, 4, 16), seed=seed)
    smoothed, done = smooth(float_model, calibration, EAGER)
    assert [item.tensor for item in done] == ["n"]
    assert done[0].nodes == ("MatMul_p", "MatMul_q")
    assert_same(float_model, smoothed, samples((1, 4, 4, 16), 1, seed + 1)[0])


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_an_equalized_model_computes_the_same(seed):
    float_model, calibration = convolutions(seed), samples((1, 3, 8, 8), seed=seed)
    equalized, done = equalize(float_model, calibration)
    assert done
    assert {item.tensor for item in done} <= {"r1", "r2"}
    assert_same(float_model, equalized, samples((1, 3, 8, 8), 1, seed + 1)[0])


def test_smoothing_brings_back_what_outlier_channels_took():
    calibration, seen = samples((1, 4, 4, 16), 8), samples((1, 4, 4, 16), 4, seed=9)
    spoilt, even = attention_input(3), attention_input(3, outliers=False)
    plain = signal_to_noise(spoilt, quantize(spoilt, calibration).model, seen)
    smoothed = quantize(spoilt, calibration, QuantSettings(enable_smooth_quant=True))
    reference = signal_to_noise(even, quantize(even, calibration).model, seen)
    assert plain < 12
    assert signal_to_noise(spoilt, smoothed.model, seen) > reference - 2 > 20
    assert smoothed.rescaled[0].gain > 0.9


def test_equalization_brings_back_what_uneven_channels_took():
    calibration = samples((1, 3, 8, 8), 4)  # compared on the same ones: what lies beyond their range is another matter
    float_model = convolutions(1)
    plain = signal_to_noise(float_model, quantize(float_model, calibration).model, calibration)
    equalized = quantize(float_model, calibration, QuantSettings(enable_equalization=True))
    assert signal_to_noise(float_model, equalized.model, calibration) > plain + 6


def test_a_tensor_that_something_else_reads_as_well_is_left_alone():
    for reader in (node("Add", "n", "x", to="z"), node("Sigmoid", "n", to="z"), node("Identity", "n", to="z")):
        float_model = attention_input(nodes=[reader], outputs=("y", "z"))
        smoothed, done = smooth(float_model, samples((1, 4, 4, 16)), EAGER)
        assert done == []
        assert_same(float_model, smoothed, samples((1, 4, 4, 16), 1, 5)[0])


def test_weights_that_others_share_keep_their_values_there():
    float_model = attention_input(nodes=[node("MatMul", "x", "a", to="z")], outputs=("y", "z"))
    smoothed, done = smooth(float_model, samples((1, 4, 4, 16)), EAGER)
    assert len(done) == 1
    assert_same(float_model, smoothed, samples((1, 4, 4, 16), 1, 5)[0])


def test_the_threshold_is_the_share_of_noise_that_has_to_go():
    float_model, calibration = attention_input(2, outliers=False), samples((1, 4, 4, 16))
    ((gain),) = (item.gain for item in smooth(float_model, calibration, EAGER)[1])
    assert 0 < gain < 0.9
    above = QuantSettings(smooth_quant_threshold=gain + 1e-6)
    assert smooth(float_model, calibration, above)[1] == []
    assert len(smooth(float_model, calibration, QuantSettings(smooth_quant_threshold=gain - 1e-6))[1]) == 1


def two_channels():
    constants = {"g": np.ones(2, np.float32), "w": np.array([[1.0], [4.0]], np.float32)}
    nodes = [node("LayerNormalization", "x", "g", to="n", axis=-1), node("MatMul", "n", "w", to="y")]
    editor = Editor(fold(import_model(model(nodes, constants, (1, 2)))))
    (span,) = spans(editor)
    return editor, span


def test_predicted_noise_is_that_of_the_formula():
    editor, span = two_channels()
    statistics = Statistics(low=np.array([-1.0, -0.5]), high=np.array([4.0, 1.0]), power=np.array([2.0, 0.5]))
    # activation: step (4 + 1) / 255, weights' energy 1 + 16; weight: step 4 / 127, activations' power 2.5;
    # signal 2 * 1 + 0.5 * 16 = 10
    expected = ((5 / 255) ** 2 * 17 + (4 / 127) ** 2 * 2.5) / 12 / 10
    assert noise(span, editor, statistics, np.ones(2)) == pytest.approx(expected, rel=1e-9)


def test_factors_are_those_of_the_paper():
    float_model = model(
        [node("LayerNormalization", "x", "g", to="n", axis=-1), node("MatMul", "n", "w", to="y")],
        {"g": np.array([4.0, 1.0], np.float32), "w": np.array([[1.0], [4.0]], np.float32)},
        (1, 2),
    )
    editor = Editor(fold(import_model(float_model)))
    # normalized over two values, both are +1 or -1: the channels' largest are 4 and 1, the weights' 1 and 4
    rescale(editor, float_model, spans(editor), samples((1, 2)), strength=0.75, threshold=0.0)
    weights = next(values for name, values in editor.constants.items() if name.startswith("w:rescaled"))
    factors = np.array([4**0.75 / 1**0.25, 1**0.75 / 4**0.25])
    np.testing.assert_allclose(weights[:, 0], [1 * factors[0], 4 * factors[1]], rtol=1e-3)


def test_a_tensor_that_is_joined_with_another_one_is_left_alone():
    constants = {"g": np.ones(4, np.float32), "w": np.eye(4, dtype=np.float32)}
    nodes = [
        node("LayerNormalization", "x", "g", to="n", axis=-1),
        node("Concat", "n", "x", to="j", axis=1),
        node("MatMul", "j", "w", to="y"),
    ]
    assert smooth(model(nodes, constants, (1, 3, 4)), samples((1, 3, 4)), EAGER)[1] == []


def test_factors_pass_an_offset_and_a_bound_between_products():
    rng = np.random.default_rng(0)
    factors = outlier_channels(16, rng)
    constants = {
        "w": rng.normal(0, 0.5, (6, 16)).astype(np.float32) * factors,
        "b": rng.normal(0, 0.5, 16).astype(np.float32) * factors,
        "v": rng.normal(0, 0.5, (16, 5)).astype(np.float32) / factors[:, None],
    }
    nodes = [
        node("MatMul", "x", "w", to="p"),
        node("Add", "b", "p", to="q"),
        node("Relu", "q", to="r"),
        node("MatMul", "r", "v", to="y"),
    ]
    float_model = model(nodes, constants, (1, 3, 6))
    smoothed, done = smooth(float_model, samples((1, 3, 6)), EAGER)
    assert [item.tensor for item in done] == ["r"]
    assert_same(float_model, smoothed, samples((1, 3, 6), 1, 5)[0])
