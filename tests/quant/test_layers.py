"""Types of layers: which selectors choose what, what they are refused for, and what the file then holds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from npusim import graph
from npusim.errors import UsageError
from npusim.quant import quantize
from npusim.quant.settings import LayerConfig, QuantSettings
from tests.graph.interpret import run
from tests.graph.tiny import Builder, onnxruntime_values
from tests.quant.floats import TRAINED, DigitImages, signal_to_noise


def numbers(b: Builder, *shape: int) -> str:
    return b.constant((b.random.normal(size=shape) / shape[0] ** 0.5).astype(np.float32))


def chain(opset: int = 17) -> onnx.ModelProto:
    """Three products with a Relu, a residual Add and a softmax between them; nodes named first, second, ..."""
    b = Builder(opset)
    x = b.input("x", [4, 8])
    first = b.op("Relu", b.op("Add", b.op("MatMul", x, numbers(b, 8, 8)), numbers(b, 8)))
    second = b.op("MatMul", first, numbers(b, 8, 8))
    total = b.op("Add", second, first)
    b.output(b.op("Gemm", b.op("Softmax", total, axis=-1), numbers(b, 8, 5), numbers(b, 5)))
    return _renamed(b.model())


def _renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    names = ("first", "bias", "relu", "second", "sum", "softmax", "last")
    values = {}
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
        values[node.output[0]] = f"{name}_out"
    for node in model.graph.node:
        node.input[:] = [values.get(value, value) for value in node.input]
        node.output[:] = [values.get(value, value) for value in node.output]
    model.graph.output[0].name = values[model.graph.output[0].name]
    return model


SAMPLES = [{"x": np.random.default_rng(seed).normal(size=(4, 8)).astype(np.float32)} for seed in range(8)]


def quantized(*configs: LayerConfig, opset: int = 17, **options):
    return quantize(chain(opset), SAMPLES, QuantSettings(layer_configs=configs, **options))


def types(result) -> dict[str, str]:
    return {row.name: row.data_type for row in result.table}


def nodes_of(model: onnx.ModelProto) -> Counter[str]:
    return Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node)


def test_by_default_everything_has_eight_bits():
    result = quantized()
    assert types(result) == dict.fromkeys(("relu", "second", "sum", "softmax", "last"), "U8")
    assert [(row.name, row.ops, row.weight_type) for row in result.table[:2]] == [
        ("relu", ("MatMul", "Add", "Relu"), "S8"), ("second", ("MatMul",), "S8"),
    ]  # fmt: skip


def test_a_name_selects_a_layer_and_its_tensors_are_kept_in_the_wider_type():
    result = quantized(LayerConfig(layer_names=("second",), data_type="U16"))
    assert types(result) == {"relu": "U16", "second": "U16", "sum": "U8", "softmax": "U8", "last": "U8"}
    assert result.parameters["x"].data_type == "U8"
    # x, sum, softmax and last in 8 bits, relu and second in 16; the sum reads both of its operands in 8 bits
    assert nodes_of(result.model)["QuantizeLinear"] == 4 + 2
    assert nodes_of(result.model)["com.microsoft.QuantizeLinear"] == 2
    graph.require_integer(graph.load(result.model))


def test_a_name_inside_of_an_operation_selects_the_operation():
    for name in ("first", "bias", "relu"):
        result = quantized(LayerConfig(layer_names=(name,), data_type="S8"))
        assert types(result)["relu"] == "S8", name
        assert result.parameters["x"].data_type == "S8"


def test_an_operator_selects_all_its_layers_and_later_entries_win():
    result = quantized(
        LayerConfig(op_types=("MatMul", "Gemm"), data_type="U16"), LayerConfig(layer_names=("last",), data_type="S8")
    )
    assert types(result) == {"relu": "U16", "second": "U16", "sum": "U8", "softmax": "S8", "last": "S8"}


def test_tensors_select_what_lies_between_them():
    result = quantized(LayerConfig(start_tensor_names=("relu_out",), end_tensor_names=("sum_out",), data_type="U16"))
    assert types(result) == {"relu": "U16", "second": "U16", "sum": "U16", "softmax": "U8", "last": "U8"}


def test_all_layers_of_sixteen_bits():
    result = quantized(highest_mix_precision=True)
    assert set(types(result).values()) == {"U16"}
    assert result.parameters["softmax_out"].scale == 2.0**-16


def test_an_entry_that_is_narrower_wins_over_highest_mix_precision():
    assert types(quantized(LayerConfig(op_types=("Softmax",), data_type="U8"), highest_mix_precision=True)) == {
        "relu": "U16", "second": "U16", "sum": "U16", "softmax": "U16", "last": "U16",  # its reader asks for 16 bits
    }  # fmt: skip


def test_a_float_layer_has_nothing_around_it():
    result = quantized(LayerConfig(op_types=("Softmax",), data_type="FP32"))
    assert types(result) == {"relu": "U8", "second": "U8", "sum": "U8", "softmax": "FP32", "last": "U8"}
    loaded = graph.load(result.model)
    assert [node.attributes["ops"] for node in loaded.cpu_nodes] == [("Softmax",)]
    (softmax,) = (node for node in result.model.graph.node if node.op_type == "Softmax")
    assert softmax.input[0].endswith("DequantizeLinear_Output")


def test_float_layers_pass_real_numbers_to_one_another():
    result = quantized(LayerConfig(start_tensor_names=("relu_out",), data_type="FP32"))
    assert types(result) == {"relu": "U8", "second": "FP32", "sum": "FP32", "softmax": "FP32", "last": "FP32"}
    assert nodes_of(result.model)["QuantizeLinear"] == 2


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_sixteen_bits_use_the_domain_that_the_opset_needs(opset):
    result = quantized(highest_mix_precision=True, opset=opset)
    counts = nodes_of(result.model)
    assert counts["QuantizeLinear" if opset == 21 else "com.microsoft.QuantizeLinear"] == 6
    assert {entry.domain: entry.version for entry in result.model.opset_import}[""] == opset
    (found,) = onnxruntime_values(result.model, SAMPLES[0], plain=True).values()
    (expected,) = onnxruntime_values(chain(opset), SAMPLES[0]).values()
    assert np.abs(found - expected).max() < 0.01


def test_weights_of_sixteen_bits_are_kept_as_such():
    result = quantized(LayerConfig(op_types=("Gemm",), data_type="U16", weight_data_type="S16"))
    stored = {t.name: numpy_helper.to_array(t).dtype for t in result.model.graph.initializer}
    assert Counter(dtype.name for name, dtype in stored.items() if name.endswith("_quantized")) == {
        "int8": 2, "int16": 1, "int32": 2,
    }  # fmt: skip
    assert result.table[-1].weight_type == "S16"
    graph.require_integer(graph.load(result.model))


@pytest.mark.parametrize("data_type", ["U8", "S8", "U16", "S16"])
def test_the_graph_computes_what_onnxruntime_computes(data_type):
    """In float32 between the roundings, so that integers differ next to ties only."""
    result = quantized(LayerConfig(op_types=("MatMul", "Add", "Gemm", "Softmax", "Relu"), data_type=data_type))
    loaded = graph.require_integer(graph.load(result.model))
    step = float(result.parameters["last_out"].scale)
    for feeds in SAMPLES:
        ours = run(loaded, feeds)["last_out"]
        (theirs,) = onnxruntime_values(result.model, feeds, plain=True).values()
        assert np.abs(ours - theirs).max() <= 1.01 * step * (1 if data_type.endswith("8") else 8)


def test_sixteen_bits_are_closer_than_eight():
    model = onnx.load(TRAINED / "digits_swin.onnx")
    samples = DigitImages(8)
    narrow = signal_to_noise(model, quantize(model, samples).model, samples)
    wide = signal_to_noise(model, quantize(model, samples, QuantSettings(highest_mix_precision=True)).model, samples)
    assert wide > narrow + 6


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LayerConfig(layer_names=("secnd",)), r"layer_configs\[0\].layer_names: .* no layer 'secnd'; .* 'second'\?"),
        (LayerConfig(op_types=("Matmul",)), r"layer_configs\[0\].op_types: .* layer of type 'Matmul'; .* 'MatMul'"),
        (LayerConfig(start_tensor_names=("relu",), end_tensor_names=("sum_out",)), "no tensor 'relu'; .*'relu_out'"),
        (LayerConfig(start_tensor_names=("sum_out",), end_tensor_names=("relu_out",)), "no layer lies between"),
        (LayerConfig(op_types=("Add",), data_type="u8"), r"layer_configs\[0\].data_type is one of .* 'U8'"),
        (LayerConfig(op_types=("Add",), weight_data_type="S4"), "weight_data_type is one of S8, S16, not 'S4'"),
        (LayerConfig(data_type="U16"), "needs exactly one of"),
        (LayerConfig(op_types=("Add",), layer_names=("sum",)), "needs exactly one of"),
    ],
)
def test_selectors_that_make_no_sense_are_refused(config, words):
    with pytest.raises(UsageError, match=words):
        quantized(config)
