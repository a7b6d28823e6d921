"""The quantized files: types as promised, run by onnxruntime, close to the float model, the same every time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import models
from models.graph import Network
from models.quantize import FORMATS, images, quantize
from models.zoo.vit import vit
from npusim.quant import exact

SMALL = (1, 3, 64, 64)


def outputs(model, seed):
    session = exact.session(model)
    (value,) = session.get_inputs()
    (image,) = images(tuple(value.shape), seed=seed, count=1)
    return session.run(None, {value.name: image})


@pytest.fixture(scope="module")
def resnet():
    return models.build("resnet18", input_shape=SMALL)


@pytest.fixture(scope="module")
def quantized_resnet(resnet):
    return {format_: quantize(resnet, format_) for format_ in FORMATS}


@pytest.mark.parametrize("format_", FORMATS)
def test_a_quantized_network_computes_nearly_the_same(format_, resnet, quantized_resnet):
    quantized = quantized_resnet[format_]
    onnx.checker.check_model(quantized)
    (wanted,), (found,) = outputs(resnet, 200), outputs(quantized, 200)
    assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.98
    kinds = Counter(node.op_type for node in quantized.graph.node)
    assert (kinds["QLinearConv"] == 20) == (format_ == "u8s8-qoperator")


def test_activations_are_u8_and_weights_s8_by_channel(quantized_resnet):
    model = quantized_resnet["u8s8"]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {node.output[0]: node for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 20
    for node in convolutions:
        activation, weight, bias = (producers[name] for name in node.input)
        assert tensors[activation.input[2]].data_type == TensorProto.UINT8
        assert tensors[weight.input[0]].data_type == TensorProto.INT8
        assert list(tensors[weight.input[1]].dims) == [tensors[weight.input[0]].dims[0]]
        assert not numpy_helper.to_array(tensors[weight.input[2]]).any()
        assert tensors[bias.input[0]].data_type == TensorProto.INT32


def test_probabilities_have_the_scale_that_onnxruntime_computes_exactly():
    net = Network("two blocks")
    x = net.input("input", (1, 3, 32, 32))
    float_model = net.finish({"output": vit(net, x, features=32, heads=2, classes=10, style="timm", depth=2)})
    model = quantize(float_model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {node.output[0] for node in model.graph.node if node.op_type == "Softmax"}
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in made]
    assert len(quantizers) == 2
    assert {float(numpy_helper.to_array(tensors[node.input[1]])) for node in quantizers} == {1 / 256}


def test_equal_arguments_give_equal_bytes():
    model = models.build("squeezenet1_1", input_shape=SMALL)
    first, second, other = (quantize(model, seed=seed) for seed in (1, 1, 2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert first != other


def test_quantizing_leaves_the_float_model_alone():
    model = models.build("conv_stack", channels=4, layers=1, size=4)
    before = model.SerializeToString(deterministic=True)
    quantize(model)
    assert model.SerializeToString(deterministic=True) == before


def test_calibration_images_are_normalized_and_smooth():
    first, second = images((1, 3, 128, 128), seed=0, count=2)
    assert abs(first.mean()) < 1e-4
    assert abs(first.std() - 1) < 1e-4
    assert not np.array_equal(first, second)
    neighbours = np.corrcoef(first[..., :-1].ravel(), first[..., 1:].ravel())[0, 1]
    colours = np.corrcoef(first[0, 0].ravel(), first[0, 1].ravel())[0, 1]
    assert neighbours > 0.9
    assert colours > 0.6


HEAVY = ("vgg16", "vit_b16", "swin_s", "deit_s", "yolov8s", "yolov5s", "resnet50")  # as their smaller relatives


@pytest.mark.slow
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", [recipe.name for recipe in models.recipes() if recipe.name not in HEAVY])
def test_every_family_survives_onnxruntimes_quantizer(name, format_):
    model = models.build(name)
    for wanted, found in zip(outputs(model, 200), outputs(quantize(model, format_), 200), strict=True):
        assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.9
