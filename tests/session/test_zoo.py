"""Networks people know, built for one and for three cores: every integer is onnxruntime's."""

import pytest

import models
import npusim
from models.quantize import quantize
from npusim.session.agreement import check


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
