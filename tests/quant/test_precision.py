"""Quantized beside float, layer by layer: the figures are what they are called, and one layer's error stays its own."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from npusim.errors import UsageError
from npusim.quant import quantize
from npusim.quant.bias import correct_bias
from npusim.quant.precision import Comparison, analyze, compare_outputs
from npusim.quant.precision_report import format_analysis, plot, record
from npusim.quant.rounding import find_rounded, types_of
from npusim.quant.runtime import Runner
from npusim.quant.settings import QuantSettings
from tests.quant.floats import TRAINED, DigitImages


@pytest.fixture(scope="module")
def cnn():
    model = onnx.load(TRAINED / "digits_cnn.onnx")
    return quantize(model, DigitImages(8))


@pytest.fixture(scope="module")
def both(cnn):
    return {method: analyze(cnn.float_model, cnn.model, DigitImages(4), method) for method in ("PerLayer", "EndToEnd")}


def coarse(quantized, layer):
    """The quantized model with 4-bit weights in one layer."""
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(quantized.model)
    node = next(node for node in spoilt.graph.node if node.name == layer)
    dequantizer = next(item for item in spoilt.graph.node if item.output[0] == node.input[1])
    tensor = next(item for item in spoilt.graph.initializer if item.name == dequantizer.input[0])
    rounded = (np.rint(numpy_helper.to_array(tensor) / 16.0) * 16).clip(-112, 112).astype(np.int8)
    tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    return spoilt


def test_figures_by_hand():
    comparison = Comparison()
    comparison.add(np.float32([3, 0]), np.float32([3, 1]))
    comparison.add(np.float32([0, -4]), np.float32([0, -4]))
    found = comparison.precision(layer="l", op="Add", tensor="t", dtype="u8")
    assert found.cosine == pytest.approx(25 / math.sqrt(25 * 26))
    assert found.snr_db == pytest.approx(10 * math.log10(25 / 1))
    assert (found.max_error, found.largest) == (1, 4)


def test_equal_tensors_have_no_noise():
    comparison = Comparison()
    comparison.add(np.zeros(3), np.zeros(3))
    found = comparison.precision(layer="l", op="Add", tensor="t", dtype="u8")
    assert (found.cosine, found.snr_db, found.max_error) == (1.0, math.inf, 0)


def test_every_rounded_result_is_a_layer_under_the_name_of_its_node(cnn, both):
    rows = [row for row in cnn.table if row.data_type != "FP32"]
    for analysis in both.values():
        assert [layer.layer for layer in analysis.layers if layer.op != "input"] == [
            row.name for row in rows if not {"Flatten", "Reshape"}.intersection(row.ops)
        ]
        assert {layer.dtype for layer in analysis.layers} == {"u8"}


def test_the_first_layer_is_the_same_alone_and_in_the_whole_and_later_ones_are_worse_in_the_whole(both):
    alone, whole = both["PerLayer"].layers, both["EndToEnd"].layers
    assert alone[:2] == whole[:2]  # the image, and the convolution that reads it
    assert all(one.snr_db > two.snr_db + 1 for one, two in zip(alone[3:], whole[3:], strict=True))


def test_a_spoilt_layer_shows_in_its_own_line_only(cnn, both):
    spoilt = coarse(cnn, "/conv3/Conv")
    alone = analyze(cnn.float_model, spoilt, DigitImages(4), "PerLayer").layers
    changed = [one.layer for one, two in zip(alone, both["PerLayer"].layers, strict=True) if one != two]
    assert changed == ["/Relu_2"]  # the bound behind it, which names the operation
    whole = analyze(cnn.float_model, spoilt, DigitImages(4), "EndToEnd").layers
    changed = [one.layer for one, two in zip(whole, both["EndToEnd"].layers, strict=True) if one != two]
    assert changed == [layer.layer for layer in whole[3:]]


def test_end_to_end_is_what_a_plain_comparison_of_the_outputs_gives(cnn, both):
    (output,) = both["EndToEnd"].outputs
    reference, runner = Runner(cnn.float_model, ["logits"]), Runner(cnn.model, ["logits"])
    pairs = [(reference.run(feeds)["logits"], runner.run(feeds)["logits"]) for feeds in DigitImages(4)]
    wanted, found = (np.float64(np.concatenate(side)) for side in zip(*pairs, strict=True))
    assert output.snr_db == pytest.approx(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))
    (alone,) = compare_outputs(cnn.float_model, cnn.model, DigitImages(4))
    # float tensors shown as outputs are fused otherwise, and differ in the last bit
    assert (alone.snr_db, alone.cosine) == pytest.approx((output.snr_db, output.cosine), rel=1e-6)


def test_single_layers_compute_what_the_layer_computes_of_rounded_float_values(cnn, both):
    # fc alone: rounded average of the float model, times the file's own weights, rounded
    rounded = {item.tensor: item for item in find_rounded(cnn.model, types_of(cnn.float_model))}
    constants = {item.name: numpy_helper.to_array(item) for item in cnn.model.graph.initializer}
    nodes = {node.name: node for node in cnn.model.graph.node}
    source = {node.output[0]: node.input for node in cnn.model.graph.node if node.op_type == "DequantizeLinear"}
    pooled = next(item for item in rounded.values() if item.op == "GlobalAveragePool")
    head = next(item for item in rounded.values() if item.op == "Gemm")
    weights, bias = (source[name] for name in nodes[head.node].input[1:3])
    matrix = constants[weights[0]] * constants[weights[1]][:, None].astype(np.float64)
    offset = constants[bias[0]] * constants[bias[1]].astype(np.float64)
    reference = Runner(cnn.float_model, [pooled.tensor, head.tensor])
    noise = signal = 0.0
    for feeds in DigitImages(4):
        given = reference.run(feeds)
        scale, zero = pooled.quantization.scale, pooled.quantization.zero_point
        operand = (np.clip(np.rint(given[pooled.tensor] / scale) + zero, 0, 255) - zero) * np.float64(scale)
        exact = operand.reshape(1, -1) @ matrix.T + offset
        scale, zero = head.quantization.scale, head.quantization.zero_point
        result = (np.clip(np.rint(exact / scale) + zero, 0, 255) - zero) * np.float64(scale)
        noise += ((result - given[head.tensor]) ** 2).sum()
        signal += (np.float64(given[head.tensor]) ** 2).sum()
    found = next(layer for layer in both["PerLayer"].layers if layer.op == "Gemm")
    assert found.snr_db == pytest.approx(10 * np.log10(signal / noise), abs=0.02)


def test_a_method_that_does_not_exist_is_refused_with_the_nearest(cnn):
    with pytest.raises(UsageError, match="one of PerLayer, EndToEnd, not 'EndToEdn'; did you mean 'EndToEnd'"):
        analyze(cnn.float_model, cnn.model, DigitImages(1), "EndToEdn")


def test_the_table_has_a_line_for_every_layer_and_the_worst_at_the_end(both):
    text = format_analysis(both["EndToEnd"])
    lines = text.splitlines()
    assert lines[0].startswith("EndToEnd, 4 samples")
    assert len([line for line in lines if line.startswith("/conv4/Conv ")]) == 2
    worst = min(both["EndToEnd"].layers, key=lambda layer: layer.snr_db)
    after = lines[lines.index("lowest signal-to-noise ratios") + 2]
    assert after.split()[0] == worst.layer
    assert f"{worst.snr_db:.2f}" in after


def test_json_has_every_figure_and_no_infinity(both):
    made = record(both["EndToEnd"])
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["outputs"][0]["snr_db"] == both["EndToEnd"].outputs[0].snr_db


def test_the_picture_draws_every_layer(both, tmp_path):
    pytest.importorskip("matplotlib")
    figure = plot(both["EndToEnd"])
    upper, lower = figure.axes
    count = len(both["EndToEnd"].layers) + 1
    assert len(upper.patches) == count
    assert len(lower.lines[0].get_xdata()) == count
    figure.savefig(tmp_path / "analysis.png")


# ------------------------------------------------------------------------------------------------------ bias correction


def mean_errors(float_model, quantized, node):
    """Mean over the images and places of float minus quantized, per channel, at the output of a convolution that reads
    the image."""
    name = next(item.output[0] for item in float_model.graph.node if item.name == node)
    found_name = next(item.output[0] for item in quantized.graph.node if item.name == node)
    reference, runner = Runner(float_model, [name]), Runner(quantized, [found_name])
    differences = [np.float64(reference.run(feeds)[name]) - runner.run(feeds)[found_name] for feeds in DigitImages(16)]
    return np.concatenate(differences).mean(axis=(0, 2, 3))


def test_bias_correction_takes_the_mean_error_out_and_touches_nothing_else(cnn):
    spoilt = coarse(cnn, "/conv1/Conv")
    corrected = correct_bias(cnn.float_model, spoilt, DigitImages(16))
    before = mean_errors(cnn.float_model, spoilt, "/conv1/Conv")
    after = mean_errors(cnn.float_model, corrected, "/conv1/Conv")
    assert np.abs(before).max() > 0.01
    # what is left is at most half a step of the int32 bias
    assert np.abs(after).max() < 1e-4
    assert corrected.graph.node == spoilt.graph.node
    for one, two in zip(spoilt.graph.initializer, corrected.graph.initializer, strict=True):
        assert one == two or one.data_type == onnx.TensorProto.INT32


def test_bias_correction_does_not_make_a_good_model_worse(cnn):
    settings = QuantSettings(enable_bias_correction=True)
    corrected = quantize(onnx.load(TRAINED / "digits_cnn.onnx"), DigitImages(8), settings)
    (before,) = compare_outputs(cnn.float_model, cnn.model, DigitImages(24))
    (after,) = compare_outputs(cnn.float_model, corrected.model, DigitImages(24))
    assert after.snr_db > before.snr_db - 0.5
