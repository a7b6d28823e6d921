"""Scales and zero points: numbers worked out by hand, onnxruntime's own quantizer, and properties."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from models.quantize import quantize as onnxruntime_quantize
from npusim.graph.ir import DTYPES
from npusim.quant import quantize
from npusim.quant.parameters import Range, parameters_of, room_for_bias, weight_scales
from npusim.quant.ranges import symmetric_if_no_worse
from tests.quant.floats import TRAINED, DigitImages

FINITE = st.floats(0, 2.0**127, width=32)


def between(low: float, high: float, **changes: bool) -> Range:
    return Range(low=low, high=high, observer="test", **changes)


@pytest.mark.parametrize(
    ("low", "high", "data_type", "scale", "zero_point"),
    [
        (0.0, 25.5, "U8", 0.1, 0),  # 25.5 / 255
        (-1.0, 1.55, "U8", 0.01, 100),  # 2.55 / 255; -(-1) / 0.01
        (-1.0, 1.55, "S8", 0.01, -28),  # -128 + 100
        (-25.5, 0.0, "U8", 0.1, 255),
        (0.0, 655.35, "U16", 0.01, 0),  # 655.35 / 65535
        (-327.68, 327.67, "S16", 0.01, 0),
        (0.0, 0.0, "U8", 1.0, 0),
        (0.0, 1e-30, "S8", 1.0, -128),  # all zeros for every purpose
    ],
)
def test_parameters_by_hand(low, high, data_type, scale, zero_point):
    found = parameters_of(between(low, high), data_type)
    assert found.scale == np.float32(scale)
    assert found.zero_point == zero_point


@pytest.mark.parametrize(
    ("data_type", "scale", "zero_point"),
    [("U8", 1 / 256, 0), ("S8", 1 / 256, -128), ("U16", 1 / 65536, 0), ("S16", 1 / 65536, -32768)],
)
def test_probabilities_have_a_power_of_two_as_scale_and_start_at_the_smallest_integer(data_type, scale, zero_point):
    found = parameters_of(between(0.0, 0.3, probability=True), data_type)
    assert (found.scale, found.zero_point) == (scale, zero_point)


@pytest.mark.parametrize(("data_type", "zero_point"), [("U8", 128), ("S8", 0), ("U16", 32768), ("S16", 0)])
def test_symmetric_parameters_have_the_middle_as_zero_point(data_type, zero_point):
    found = parameters_of(between(-1.27, 1.0, symmetric=True), data_type)
    assert found.zero_point == zero_point
    assert found.scale == pytest.approx(1.27 / (127 if data_type.endswith("8") else 32767))


def test_a_range_becomes_symmetric_only_where_the_step_stays():
    assert symmetric_if_no_worse(between(-1.0, 1.004)).symmetric  # (2 * 1.004 / 2.004) ** 2 = 1.004
    assert not symmetric_if_no_worse(between(-1.0, 1.02)).symmetric  # (2 * 1.02 / 2.02) ** 2 = 1.0199
    assert not symmetric_if_no_worse(between(0.0, 1.0, probability=True)).symmetric
    assert not symmetric_if_no_worse(between(0.0, 0.0)).symmetric


@given(FINITE, FINITE, st.sampled_from(["U8", "S8", "U16", "S16"]), st.booleans())
def test_scales_are_positive_and_zero_is_exact_and_the_ends_are_near(low, high, data_type, symmetric):
    found = parameters_of(between(-low, high, symmetric=symmetric), data_type)
    info = np.iinfo(DTYPES[found.dtype])
    assert found.scale > 0
    assert np.isfinite(found.scale)
    assert info.min <= found.zero_point <= info.max
    if found.scale != 1:
        scale = np.float64(found.scale)
        assert (info.max - found.zero_point) * scale >= high - 0.51 * scale
        assert (info.min - found.zero_point) * scale <= -low + 0.51 * scale


@given(st.floats(2**-30, 1e30), st.floats(1, 100))
def test_a_wider_range_has_no_smaller_step(high, factor):
    narrow, wide = (parameters_of(between(-high, high * f), "U8").scale for f in (1.0, factor))
    assert narrow <= wide


def test_weight_scales_by_hand():
    weights = np.array([[0.5, -1.27], [0.0, 0.0], [2.54, 1.0]], np.float32)
    assert weight_scales(weights, 0, "S8") == pytest.approx([0.01, 1.0, 0.02])
    assert weight_scales(weights, 1, "S8") == pytest.approx([0.02, 0.01])
    assert weight_scales(weights, None, "S16") == pytest.approx(2.54 / 32767)


def test_weight_scales_grow_until_the_bias_fits():
    # 2 ** 30 steps of 0.5 * scale have to hold the bias: 2 ** 31 needs 4, 1 needs nothing
    found = room_for_bias(np.array([0.01, 0.01], np.float32), np.array([-(2.0**31), 1.0]), np.float32(0.5))
    assert found == pytest.approx([4.0, 0.01])
    assert room_for_bias(np.float32(0.01), np.array([2.0**31, 1.0]), np.float32(0.5)) == pytest.approx(4.0)


def scales_by_tensor(model: onnx.ModelProto) -> dict[str, float]:
    """Scale of every tensor that a QuantizeLinear reads, by the tensor's name in the float model."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        node.input[0].removesuffix("_QuantizeLinear_Input"): float(constants[node.input[1]].reshape(()))
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }


def test_min_max_has_the_scales_of_onnxruntimes_quantizer():
    model = onnx.load(TRAINED / "digits_cnn.onnx")
    samples = DigitImages(8)
    ours = scales_by_tensor(quantize(model, samples).model)
    theirs = scales_by_tensor(onnxruntime_quantize(model, calibration=[feeds["image"] for feeds in samples]))
    common = set(ours) & set(theirs)
    assert len(common) >= 8
    assert {name: ours[name] for name in common} == pytest.approx({name: theirs[name] for name in common}, rel=1e-5)
