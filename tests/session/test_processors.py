"""Processors: pixels in, preprocessing inside the model; oracle is the same preprocessing in NumPy."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npusim
from npusim.errors import ConfigError
from npusim.session.configuration import load
from npusim.session.quantization import prepare
from tests.graph.tiny import Builder, onnxruntime_values

SCALE, ZERO = 0.0371, 117


def echo():
    """Its output is the positive part of its input."""
    b = Builder()
    value = b.quantize(b.input("image", (1, 3, 4, 5)), SCALE, ZERO)
    b.output(b.quantize(b.op("Relu", value), SCALE, ZERO))
    return b.model()


def through(shape):
    """Its output is its quantized input, moved but not changed."""
    b = Builder()
    value = b.quantize(b.input("image", shape), SCALE, ZERO)
    b.output(b.op("Identity", value))
    return b.model()


def quantized(real):
    return np.clip(np.rint(real / np.float32(SCALE)) + ZERO, 0, 255)


numbers = st.floats(1, 200, width=32)


@settings(max_examples=40)
@given(
    st.tuples(numbers, numbers, numbers),
    st.tuples(numbers, numbers, numbers),
    st.sampled_from(["NCHW", "NHWC"]),
    st.sampled_from(["NCHW", "NHWC"]),
    st.booleans(),
)
def test_pixels_become_what_the_model_was_quantized_for(mean, std, layout, given_layout, swapped):
    shape = (1, 3, 4, 5) if layout == "NCHW" else (1, 4, 5, 3)
    configuration = load({
        "quant": {"input_configs": [{"calibration_mean": mean, "calibration_std": std}]},
        "input_processors": [{
            "src_dtype": "U8", "tensor_format": "BGR", "src_format": "RGB" if swapped else "BGR",
            "tensor_layout": layout, "src_layout": given_layout,
        }],
    })  # fmt: skip
    prepared = prepare(through(shape), configuration, {})
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    fed = pixels[None] if given_layout == "NHWC" else pixels.transpose(2, 0, 1)[None]
    (found,) = onnxruntime_values(prepared.model, {"image": fed}, plain=True).values()
    real = (pixels[..., ::-1] if swapped else pixels).astype(np.float32) - np.float32(mean)
    expected = quantized(real / np.float32(std))
    steps = np.rint(found[0] / np.float32(SCALE)) + ZERO
    steps = steps if layout == "NHWC" else steps.transpose(1, 2, 0)
    # the mean is rounded to 1/254 of a pixel's step, which turns few roundings over
    assert np.abs(steps - expected).max() <= 1
    assert (steps != expected).mean() <= 0.1


def test_pixels_are_built_and_run_as_onnxruntime_computes_them():
    config = {
        "quant": {"input_configs": [{"calibration_mean": [120, 110, 100], "calibration_std": [60]}]},
        "input_processors": [{"src_dtype": "U8", "src_layout": "NHWC"}],
    }
    built = npusim.build(echo(), config=config)
    (port,) = built.axmodel.inputs
    assert (port.dtype, port.shape) == ("u8", (1, 4, 5, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), np.uint8)
    (found,) = built.session().run(None, {"image": pixels})
    (expected,) = onnxruntime_values(built.prepared.model, {"image": pixels}, plain=True).values()
    np.testing.assert_array_equal(found, expected)
    assert built.axmodel.config["preprocessing"]["image"] == {
        "height": 4, "width": 5, "colours": "RGB", "layout": "NHWC", "dtype": "u8", "mean": [], "std": []
    }  # fmt: skip


def test_real_numbers_may_come_in_another_layout():
    built = npusim.build(echo(), config={"input_processors": [{"src_layout": "NHWC"}]})
    real = np.random.default_rng(0).normal(size=(1, 4, 5, 3)).astype(np.float32)
    (found,) = built.session().run(None, {"image": real})
    (plain,) = npusim.build(echo()).session().run(None, {"image": np.ascontiguousarray(real.transpose(0, 3, 1, 2))})
    np.testing.assert_array_equal(found, plain)


def test_an_output_is_permuted_without_a_change_of_its_numbers():
    real = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
    built = npusim.build(echo(), config={"output_processors": [{"dst_perm": [0, 2, 3, 1]}]})
    (port,) = built.axmodel.outputs
    assert port.shape == (1, 4, 5, 3)
    (found,) = built.session().run(None, {"image": real})
    (plain,) = npusim.build(echo()).session().run(None, {"image": real})
    np.testing.assert_array_equal(found, plain.transpose(0, 2, 3, 1))


def processors(**keys):
    return {"input_processors": [keys]}


def outputs(**keys):
    return {"output_processors": [keys]}


def data(**keys):
    return {"quant": {"input_configs": [keys]}}


MISTAKES = [
    (processors(tensor_name="imagee"), "input_processors[0].tensor_name: the model has no input 'imagee', only image"),
    (outputs(tensor_name="y"), "output_processors[0].tensor_name: the model has no output 'y'"),
    (processors(tensor_format="GRAY"), "tensor_format: is GRAY; image: float32[1,3,4,5] has 3 channels"),
    (processors(src_format="GRAY"), "input_processors[0].src_format: is GRAY; the model takes RGB"),
    (processors(src_format="BGR"), "another order of channels is exact for pixels only: set src_dtype to U8"),
    (processors(src_dtype="U8", mean=[1, 2]), "mean: has 2 numbers; the input takes one number or 3"),
    (processors(tensor_layout="NHWC"), "images do not fit image: float32[1,3,4,5]"),
    (outputs(dst_perm=[0, 1, 2]), "dst_perm: is [0, 1, 2]; the output"),
    (outputs(dst_perm=[0, 1, 2, 2]), "has the axes 0, 1, 2, 3"),
    (data(tensor_name="x"), "quant.input_configs[0].tensor_name: the model has no input 'x'"),
    (data(calibration_std=[1, 2]), "calibration_std: has 2 numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes(table, message):
    with pytest.raises(ConfigError) as caught:
        npusim.build(echo(), config=table)
    assert message in str(caught.value)


def test_an_output_without_integers_is_not_permuted():
    b = Builder()
    b.output(b.op("Relu", b.quantize(b.input("image", (1, 3, 4, 5)), SCALE, ZERO)))
    with pytest.raises(ConfigError, match="carries no integers"):
        npusim.build(b.model(), config=outputs(dst_perm=[0, 2, 3, 1]))


def test_the_users_model_is_left_as_it_was():
    model = echo()
    before = model.SerializeToString()
    npusim.build(model, config=processors(src_dtype="U8", src_layout="NHWC"))
    assert onnx.ModelProto.FromString(before) == model
