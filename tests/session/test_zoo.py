"""Networks people know, built for one and for three cores: every integer is onnxruntime's."""

import numpy as np
import pytest

import models
import npusim
from models.quantize import quantize
from npusim.session.agreement import check
from tests.graph.tiny import onnxruntime_values, random_feeds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "mobilenet_v2"])
def test_every_tensor_of_a_convolutional_network_is_onnxruntimes(name):
    model = quantize(models.build(name, input_shape=(1, 3, 64, 64)))
    one, three = (npusim.build(model, npu_mode=mode) for mode in ("NPU1", "NPU3"))
    assert three.summary.macs == one.summary.macs
    for built in (one, three):
        found = check(model, built.axmodel)
        assert found.first is None, str(found.first)
        assert found.note == ""
        assert found.compared > 20


@pytest.mark.slow
def test_a_detectors_raw_heads_are_onnxruntimes():
    model = quantize(models.build("yolov8s", input_shape=(1, 3, 64, 64)))
    feeds = random_feeds(model)
    found = npusim.build(model, npu_mode="NPU3").session().run(None, feeds)
    for ours, theirs in zip(found, onnxruntime_values(model, feeds).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
