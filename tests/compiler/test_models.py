"""Whole models through the compiler: the integers of the graph's interpreter on one, two and three cores."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import models
from models.digits import normalized
from models.quantize import quantize
from npusim import graph as graphs
from tests.compiler.oracle import check_graph

TRAINED = Path(__file__).parents[2] / "models" / "trained"


@pytest.mark.parametrize("name", ["digits_cnn", "digits_swin"])
def test_trained_models(name):
    with np.load(TRAINED / "digits.npz") as data:
        calibration = normalized(data["calibration_images"])
    quantized = quantize(onnx.load(TRAINED / f"{name}.onnx"), calibration=(image[None] for image in calibration))
    check_graph(graphs.load(quantized))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("squeezenet1_1", 64), ("resnet18", 96), ("resnet50", 64), ("mobilenet_v1", 96), ("mobilenet_v2", 96),
        ("mobilenet_v3_large", 96), ("efficientnet_b0", 64), ("convnext_t", 64), ("yolov5s", 96), ("yolov8n", 96),
        ("deit_t", 224), ("swin_t", 224),
    ],
)  # fmt: skip
def test_zoo(name, size):
    quantized = quantize(models.build(name, input_shape=(1, 3, size, size)))
    check_graph(graphs.load(quantized))
