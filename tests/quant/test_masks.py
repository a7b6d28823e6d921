"""Attention masks: logits keep their resolution beside -100, and no probability changes by it."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from npusim.quant import quantize
from npusim.quant.precision import analyze
from tests.quant.floats import TRAINED, DigitImages

TOKENS = 8


def masked_softmax(outputs=("y",)):
    """Logits of [-1, 3], a mask that leaves every row something, softmax over the last axis."""
    mask = np.where(np.tri(TOKENS) > 0, 0.0, -100.0).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "mask"], ["z"], name="add"),
            helper.make_node("Softmax", ["z"], ["y"], name="softmax", axis=-1),
        ],
        "masked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, TOKENS, TOKENS))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, TOKENS, TOKENS)) for name in outputs],
        [numpy_helper.from_array(mask, "mask")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def logits():
    x = np.random.default_rng(0).uniform(-1, 3, (2, TOKENS, TOKENS)).astype(np.float32)
    x[0, 0, :2] = -1, 3
    return [{"x": x}]


def low_of(quantized, layer):
    return next(row.low for row in quantized.table if row.name == layer)


def test_the_range_ends_where_a_softmax_no_longer_sees_a_difference():
    quantized = quantize(masked_softmax(), logits())
    # smallest logit -1, largest entry of each row of the mask 0; half a step of 1/256 shared by 8 tokens, margin 3
    assert math.isclose(low_of(quantized, "add"), -1 - (math.log(512) + math.log(8) + 3), rel_tol=1e-6)


def test_masked_probabilities_stay_zero_and_the_others_get_closer():
    quantized = quantize(masked_softmax(), logits())
    analysis = analyze(quantized.float_model, quantized.model, logits(), "EndToEnd")
    assert analysis.outputs[0].snr_db > 35  # 26 with a range from -101
    import onnxruntime as ort

    session = ort.InferenceSession(quantized.model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, logits()[0])
    assert not found[:, np.tri(TOKENS) == 0].any()


def test_a_tensor_that_something_else_sees_keeps_its_range():
    assert low_of(quantize(masked_softmax(("y", "z")), logits()), "add") < -100


def test_the_shifted_windows_of_a_trained_swin_gain_by_it():
    model = onnx.load(TRAINED / "digits_swin.onnx")
    quantized = quantize(model, DigitImages(8))
    layers = analyze(quantized.float_model, quantized.model, DigitImages(4), "PerLayer").layers
    masked = next(layer for layer in layers if layer.layer == "/layers/0/blocks/1/attn/Softmax")
    assert masked.snr_db > 28  # 20 with a range from -100


def test_the_analysis_does_not_count_where_below_the_range_a_masked_logit_lies():
    quantized = quantize(masked_softmax(), logits())
    added = next(
        layer for layer in analyze(quantized.float_model, quantized.model, logits()).layers if layer.op == "Add"
    )
    assert added.snr_db > 38
