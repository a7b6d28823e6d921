"""Whole models through the compiler: the integers of the graph's interpreter on one, two and three cores."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import models
from isa.verify import verify
from models.digits import normalized
from models.quantize import quantize
from npusim import graph as graphs
from npusim.compiler.build import compile_graph
from npusim.config import load
from npusim.sim import Job, Mode, limits_of, simulate
from tests.compiler.oracle import check_graph

TRAINED = Path(__file__).parents[2] / "models" / "trained"


@pytest.mark.parametrize("name", ["digits_cnn", "digits_swin"])
def test_trained_models(name):
    with np.load(TRAINED / "digits.npz") as data:
        calibration = normalized(data["calibration_images"])
    quantized = quantize(onnx.load(TRAINED / f"{name}.onnx"), calibration=(image[None] for image in calibration))
    graph = graphs.load(quantized)
    results = check_graph(graph)
    machine = load("ax650n")
    cycles = []
    for cores in (1, 2, 3):  # an allocation uses fewer cores where that is faster
        program = compile_graph(graph, machine, cores)
        assert program.cores == cores
        job = Job(program=program.with_stamp(verify(program, limits_of(machine)).stamp))
        cycles.append(simulate(machine, job, mode=Mode.TIME).cycles)
    assert cycles[0] == results[1].cycles
    assert cycles == sorted(cycles, reverse=True)


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
