import json

import numpy as np
import onnx
import pytest

import npusim
from isa.verify import is_stamped
from npusim import axmodel, config
from npusim.errors import ConfigError, UsageError
from npusim.graph import ModelError, UnsupportedError
from npusim.session.builder import STAGES, parse_shapes
from npusim.session.machine import cores_of, hardware_of, npu_modes
from npusim.sim import limits_of
from tests.graph.tiny import Builder, onnxruntime_values, random_feeds
from tests.session.small import weights


def test_a_build_is_proven_timed_and_written(chain, tmp_path):
    told = []
    built = npusim.build(
        chain, output_dir=tmp_path / "out", report=lambda stage, seconds: told.append((stage, seconds))
    )
    assert built.path == tmp_path / "out" / "compiled.axmodel"
    assert built.path.read_bytes() == built.data
    assert is_stamped(axmodel.read(built.data).program, limits_of(config.load("ax650n")))
    context = json.loads((tmp_path / "out" / "build_context.json").read_text())
    assert context["max_cycle"] == built.cycles == built.session().profile().cycles
    # three 3x3 convolutions on 8x8 pixels and a 1x1: pixels x outputs x inputs x taps
    assert context["macs"] == 64 * (16 * 8 * 9 + 2 * 16 * 16 * 9 + 8 * 16)
    assert context["config"]["npu_mode"] == "NPU1"
    assert [stage for stage, seconds in told if not seconds] == list(STAGES)
    assert [stage for stage, seconds in told if seconds] == list(STAGES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["build_context.json", "compiled.axmodel"]


def test_equal_models_give_equal_bytes(chain):
    again = onnx.ModelProto.FromString(chain.SerializeToString())
    assert npusim.build(chain, npu_mode="NPU3").data == npusim.build(again, npu_mode="NPU3").data


@pytest.mark.parametrize("npu_mode", ["NPU1", "NPU2", "NPU3"])
def test_every_allocation_computes_what_onnxruntime_computes(several, npu_mode):
    feeds = random_feeds(several)
    expected = onnxruntime_values(several, feeds)
    built = npusim.build(several, npu_mode=npu_mode)
    assert built.program.cores == int(npu_mode[-1])
    found = built.session().run(list(expected), feeds)
    for ours, theirs in zip(found, expected.values(), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_more_cores_are_not_slower_where_they_do_not_pay():
    """Two 1x1 convolutions that wait for DRAM: on modelled time three cores win, on the machine one does."""
    b = Builder()
    value = b.real_input("x", (1, 64, 56, 56))
    for _ in range(2):
        w = b.dequantize(weights(b.random, 64, 64, 1, 1), 0.002)
        value = b.quantize(b.op("Conv", value, w, kernel_shape=[1, 1]), 0.05, 128)
    b.result(value, 0.05, 128)
    one, two, three = (npusim.build(b.model(), npu_mode=mode) for mode in ("NPU1", "NPU2", "NPU3"))
    assert three.cycles <= two.cycles <= one.cycles


def test_shapes_that_the_model_leaves_open():
    b = Builder()
    b.result(b.op("Relu", b.op("DequantizeLinear", b.input("x:0", ("n", 8), "u8"), *b.parameters(0.1, 128, "u8"))), 0.1)
    with pytest.raises(UsageError, match="x:0"):
        npusim.build(b.model())
    assert npusim.build(b.model(), input_shapes="x:0:4x8").axmodel.inputs[0].shape == (4, 8)
    assert npusim.build(b.model(), input_shapes={"x:0": (2, 8)}).axmodel.inputs[0].shape == (2, 8)


@pytest.mark.parametrize("text", ["x", "x:", ":1x2", "x:1xtwo", "x:1x-2", "x:1;x:2"])
def test_shapes_that_are_none(text):
    with pytest.raises(UsageError, match="input_shapes"):
        parse_shapes(text)


def test_a_graph_without_a_name_is_called_after_its_file(chain, tmp_path):
    model = onnx.ModelProto.FromString(chain.SerializeToString())
    model.graph.name = "main_graph"
    onnx.save(model, tmp_path / "lenet.onnx")
    assert npusim.build(tmp_path / "lenet.onnx").axmodel.name == "lenet"
    assert npusim.build(chain).axmodel.name == "tiny"


MISTAKES = [
    ({"npu_mode": "NPU4"}, UsageError, "has no npu_mode 'NPU4', only NPU1, NPU2, NPU3; did you mean"),
    ({"npu_mode": "npu2"}, UsageError, "did you mean 'NPU2'"),
    ({"hardware": "ax65n"}, ConfigError, "did you mean 'ax650n'"),
    ({"model_type": "ONNX"}, UsageError, "is quantized already; pass --model_type QuantONNX"),
    ({"model_type": "QuantOnnx"}, ConfigError, "did you mean 'QuantONNX'"),
    ({"input_shapes": {"y": (1,)}}, UsageError, "y"),
    ({"output_dir": ".", "output_name": "../x"}, ConfigError, "output_name"),
    ({"config": {"quant": {"calibration_metod": "KL"}}}, ConfigError, "did you mean 'calibration_method'"),
    ({"model": None}, UsageError, "there is nothing to build"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), MISTAKES, ids=lambda value: str(value)[:30])
def test_mistakes(chain, arguments, kind, message):
    with pytest.raises(kind, match=message):
        npusim.build(**{"model": chain, **arguments})


def test_damaged_and_missing_models(tmp_path):
    with pytest.raises(ModelError, match="not an ONNX model"):
        npusim.build(b"\x00\x01\x02")
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        npusim.build(tmp_path / "absent.onnx")


def test_a_model_with_a_part_for_the_cpu_is_refused_by_name():
    b = Builder()
    value = b.op("Det", b.real_input("x", (1, 3, 3)))
    b.result(value)
    with pytest.raises(UnsupportedError, match="Det"):
        npusim.build(b.model())


def test_a_machine_from_a_file_travels_with_the_model(chain, tmp_path):
    (tmp_path / "narrow.toml").write_text('extends = "ax650n"\n[machine]\ncores = 2\n[teng]\nbytes_per_cycle = 16\n')
    built = npusim.build(chain, hardware=tmp_path / "narrow.toml", npu_mode="NPU2")
    assert npu_modes(built.hardware) == ("NPU1", "NPU2")
    stored = hardware_of(axmodel.read(built.data))
    assert stored.fingerprint() == built.hardware.fingerprint()
    assert stored.values() == built.hardware.values()
    assert npusim.InferenceSession(built.data).profile().cycles == built.cycles
    with pytest.raises(UsageError, match="narrow has no npu_mode 'NPU3', only NPU1, NPU2"):
        cores_of("NPU3", stored)


def test_a_machine_with_values_of_another_version_is_not_guessed(chain_built):
    from dataclasses import replace

    model = chain_built.axmodel
    unknown = replace(model, hardware_values={**model.hardware_values, "teng.colour": 1}, hardware_fingerprint="0")
    with pytest.raises(axmodel.AxmodelError, match="cannot be restored"):
        hardware_of(unknown)
    with pytest.raises(axmodel.AxmodelError, match="does not know"):
        hardware_of(replace(model, hardware_fingerprint="0"))


def test_layers_are_called_by_operation(chain_built):
    assert [layer.op for layer in chain_built.summary.layers if layer.macs] == ["conv"] * 4
