"""Models of the zoo become integer operations throughout, and give onnxruntime's integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import pytest

import models
from models.quantize import quantize
from npusim import graph
from npusim.graph.ir import Array, Graph
from tests.graph.interpret import OPERATIONS, Call, run
from tests.graph.tiny import CODES, onnxruntime_values, random_feeds

MODELS = ("deit_t", "efficientnet_b0", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "resnet18", "resnet50",
          "squeezenet1_1", "swin_t", "convnext_t", "yolov5s", "yolov8n")  # fmt: skip


def quantized_outputs(model: onnx.ModelProto, loaded: Graph) -> onnx.ModelProto:
    """The model with every quantized tensor that the graph knows as a further output."""
    known = {value.name for value in model.graph.output}
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    for node in model.graph.node:
        name = node.output[0]
        makes_integers = node.op_type == "QuantizeLinear" or node.op_type.startswith(("QLinear", "QGemm"))
        if makes_integers and name in loaded.tensors and name not in known:
            code = CODES[loaded.tensor(name).dtype]
            extended.graph.output.append(onnx.helper.make_tensor_value_info(name, code, None))
    return extended


def differing(found: Mapping[str, Array], expected: Mapping[str, Array]) -> list[str]:
    return [name for name, array in expected.items() if not np.array_equal(found[name], array)]


def small_model(name: str, form: str = "u8s8", **parameters: int) -> onnx.ModelProto:
    return quantize(models.build(name, **parameters), form)


@pytest.mark.parametrize("name", ["conv_stack", "matmul_stack"])
@pytest.mark.parametrize("form", ["u8s8", "u8s8-qoperator"])
def test_stacks_equal_onnxruntime_at_every_tensor(name, form):
    sizes = {"channels": 8, "layers": 3, "size": 9} if name == "conv_stack" else {"m": 5, "k": 24, "n": 16, "layers": 3}
    model = small_model(name, form, **sizes)
    loaded = graph.require_integer(graph.load(model))
    feeds = random_feeds(model)
    expected = onnxruntime_values(quantized_outputs(model, loaded), feeds)
    assert len(expected) >= 4
    assert differing(run(loaded, feeds), expected) == []


# ------------------------------------------------------------------------------------------- whole models take seconds


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> onnx.ModelProto:
    return quantize(models.build(request.param), "u8s8")


@pytest.mark.slow
def test_a_model_of_the_zoo_needs_no_cpu_and_misses_at_most_in_normalizations(model):
    """Every operation is fed with onnxruntime's own integers, so that no difference grows."""
    loaded = graph.require_integer(graph.load(model))
    feeds = random_feeds(model)
    theirs = onnxruntime_values(quantized_outputs(model, loaded), feeds)
    values = {name: tensor.data for name, tensor in loaded.tensors.items() if tensor.data is not None} | feeds
    compared, missed = Counter[str](), Counter[str]()
    for node in loaded.nodes:
        result = np.asarray(OPERATIONS[node.op](Call(loaded, node, values)))
        if node.output in theirs and result.dtype != np.float32:
            expected = theirs[node.output]
            distance = np.abs(result - expected.astype(np.int64))
            assert distance.max() <= 1, node.name
            compared[node.op] += distance.size
            missed[node.op] += int(distance.sum())
            result = expected
        values[node.output] = result.astype(loaded.output_of(node).numpy)
    assert compared.total() > 1_000_000
    assert {op for op, count in missed.items() if count} <= {"layer_norm", "softmax"}
    assert missed["layer_norm"] <= 1e-5 * compared["layer_norm"]
    assert missed["softmax"] <= 1e-5 * compared["softmax"]


@pytest.mark.slow
@pytest.mark.parametrize("style", ["torchvision", "transformers", "timm"])
def test_swin_is_recognised_whoever_exported_it(style):
    loaded = graph.require_integer(graph.load(quantize(models.build("swin_t", style=style), "u8s8")))
    counts = Counter(node.op for node in loaded.nodes)
    # 12 blocks; every second one rolls its windows there and back, but for the last stage, which is a single window
    assert (counts["softmax"], counts["roll"], counts["layer_norm"]) == (12, 10, 29)
    # one GELU a block; transformers divides by the root of the head size, which is a function of one variable as well
    assert (counts["table"], counts["conv"]) == (24 if style == "transformers" else 12, 1)
