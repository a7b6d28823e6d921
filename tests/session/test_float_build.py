"""Float models: quantized with what the configuration names, built, and asked about images."""

import io
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from PIL import Image

import npusim
from npusim import axmodel
from npusim.errors import ConfigError, NpusimError, UsageError
from npusim.quant.dataset import DatasetError
from npusim.session.builder import STAGES
from npusim.session.classification import classify, preparation_of, top
from npusim.session.configuration import load
from npusim.session.labels import class_names, imagenet_names
from npusim.session.quantization import is_random, settings_of, type_of
from tests.graph.tiny import Builder
from tests.quant.test_dataset_archives import pack
from tests.quant.test_dataset_samples import npy, png

NAMES = ("red", "green", "blue")
RANDOM = {"quant": {"input_configs": [{"calibration_format": "Random", "calibration_size": 4}]}}


def colours(inputs=("image",)):
    """A classifier of pictures by colour: red, green or blue, from the mean of each channel; weights by hand."""
    b = Builder(opset=17)
    total = ""
    for name in inputs:
        value = b.op("Conv", b.input(name, (1, 3, 8, 8)), b.constant(np.eye(3, dtype=np.float32)[..., None, None]))
        value = b.op("GlobalAveragePool", b.op("Relu", value))
        total = b.op("Add", total, value) if total else value
    b.op("Gemm", b.op("Flatten", total), b.constant(2 * np.eye(3, dtype=np.float32)))
    b.nodes[-1].output[0] = "scores"
    b.output("scores")
    return b.model()


def picture(seed, channel):
    pixels = np.random.default_rng(seed).integers(0, 100, (10, 12, 3), np.uint8)
    pixels[..., channel] += 120
    return png(pixels)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A tar of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    return pack(folder / "pictures.tar", {f"{i}.png": picture(i, i % 3) for i in range(6)})


@pytest.fixture(scope="module")
def configured(pictures):
    entry = {"calibration_dataset": str(pictures), "calibration_mean": [127.5], "calibration_std": [127.5]}
    return {"quant": {"input_configs": [entry]}}


@pytest.fixture(scope="module")
def built(configured, tmp_path_factory):
    return npusim.build(colours(), config=configured, output_dir=tmp_path_factory.mktemp("out"))


def test_a_float_model_is_quantized_built_and_written(built):
    folder = built.path.parent
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "build_context.json", "compiled.axmodel", "frontend/optimized.onnx", "quant/debug/quantization_table.txt",
        "quant/quant_axmodel.json", "quant/quant_axmodel.onnx",
    ]  # fmt: skip
    assert set(built.written) == {path for path in folder.rglob("*") if path.is_file()}
    assert list(built.seconds) == ["optimize", "calibrate", "quantize", *STAGES]
    assert built.prepared.samples == 6
    context = json.loads((folder / "build_context.json").read_text())
    assert context["config"]["model_type"] == "ONNX"
    assert load({k: v for k, v in context["config"].items() if k != "preprocessing"}).build.output_dir == str(folder)
    layers = json.loads((folder / "quant/quant_axmodel.json").read_text())["layers"]
    assert {layer["data_type"] for layer in layers} == {"U8"}


def test_the_quantized_file_runs_in_onnxruntime_and_computes_what_the_machine_does(built):
    path = built.path.parent / "quant/quant_axmodel.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options)
    image = preparation_of(built.session()).apply(picture(99, 1), "99.png")
    (expected,) = session.run(None, {"image": image})
    (found,) = built.session().run(None, {"image": image})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("channel", "npu_mode"), [(0, "NPU1"), (1, "NPU3"), (2, "NPU2")])
def test_pictures_are_classified_from_file_to_label(configured, tmp_path, channel, npu_mode):
    pixels_in = {"input_processors": [{"src_dtype": "U8", "src_layout": "NHWC", "src_format": "BGR"}]}
    for config in (configured, configured | pixels_in):
        built = npusim.build(colours(), config=config, npu_mode=npu_mode)
        scores = classify(built.session(), picture(50 + channel, channel), "p.png")
        assert str(top(scores, NAMES)[0]).endswith(f", {channel} {NAMES[channel]}")
        # mean of the strong channel is about 170, of the others 50: (170 - 127.5) / 127.5 x 2, ReLU of the others is 0
        assert top(scores)[0].score == pytest.approx((170 - 127.5) / 127.5 * 2, abs=0.1)


def test_a_trace_is_written_where_the_vendors_toolchain_puts_it(tmp_path):
    built = npusim.build(colours(), config={**RANDOM, "compiler": {"npu_perf": True}}, output_dir=tmp_path)
    path = tmp_path / "compiler" / "debug" / "subgraph_npu_0" / "b1" / "trace.json"
    assert path in built.written
    events = json.loads(path.read_text())["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) >= built.instructions


def test_samples_may_be_given_as_arrays(pictures):
    samples = [{"image": np.full((1, 3, 8, 8), value, np.float32)} for value in (0.5, 1, 2)]
    built = npusim.build(colours(), calibration=samples)
    assert built.prepared.samples == 3
    assert built.axmodel.config["preprocessing"] == {}
    with pytest.raises(UsageError, match="does not say how an image becomes image: f32"):
        preparation_of(built.session())


def test_several_inputs_each_have_their_data(pictures, tmp_path):
    arrays = pack(tmp_path / "arrays", {f"{i}.npy": npy(np.full((3, 8, 8), i, np.float32)) for i in range(6)})
    entries = [
        {"tensor_name": "left", "calibration_dataset": str(arrays), "calibration_format": "Numpy"},
        {"calibration_dataset": str(pictures)},
    ]
    built = npusim.build(colours(("left", "right")), config={"quant": {"input_configs": entries}})
    assert built.prepared.samples == 6
    assert [port.name for port in built.axmodel.inputs] == ["left", "right"]
    # the arrays reach 5; the pictures 255: their scales tell which input saw which data
    scales = [row.scale for row in built.prepared.quantized.table if "Conv" in row.ops]
    assert scales[0] < 0.1 < scales[1]
    with pytest.raises(UsageError, match="has 2 inputs; classification takes models with one"):
        classify(built.session(), picture(0, 0))


def test_random_data_say_so(tmp_path):
    built = npusim.build(colours(), config=RANDOM)
    (note,) = built.prepared.notes
    assert note == "calibrated with random data: its cycles are right, its values mean nothing"
    assert built.prepared.samples == 4


def test_one_random_input_makes_the_values_meaningless():
    entries = [{"calibration_format": "Image"}, {"calibration_format": "Random"}]
    config = {"model_type": "ONNX", "quant": {"input_configs": entries}}
    assert is_random(config)
    assert not is_random({**config, "quant": {"input_configs": entries[:1]}})
    assert not is_random({**config, "quant": {"input_configs": []}})
    assert not is_random({**config, "model_type": "QuantONNX"})
    assert not is_random({})  # built before there were float models


def test_external_data_are_read_from_the_models_folder_only(tmp_path):
    onnx.save_model(colours(), tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    assert npusim.build(tmp_path / "m.onnx", config=RANDOM).cycles == npusim.build(colours(), config=RANDOM).cycles
    (tmp_path / "m.bin").unlink()
    with pytest.raises(NpusimError, match=r"m\.onnx: .*external data of tensor .* cannot be read"):
        npusim.build(tmp_path / "m.onnx", config=RANDOM)


def test_equal_builds_are_equal_bytes_wherever_they_are_written(configured, tmp_path):
    one = npusim.build(colours(), config=configured, output_dir=tmp_path / "one")
    two = npusim.build(colours(), config=configured, output_dir=tmp_path / "two", output_name="m.axmodel")
    assert one.data == two.data
    assert axmodel.read(one.path).config["quant"]["calibration_method"] == "MinMax"


def test_open_shapes_are_given_by_configuration_or_argument():
    model = colours()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    in_file = {**RANDOM, "input_shapes": "image:1x3x8x8"}
    for built in (
        npusim.build(model, config=in_file),
        npusim.build(model, config=RANDOM, input_shapes={"image": (1, 3, 8, 8)}),
    ):
        assert built.axmodel.inputs[0].shape == (1, 3, 8, 8)
    with pytest.raises(UsageError, match="give its extents in input_shapes"):
        npusim.build(model, config=RANDOM)


def test_the_kind_of_a_model_is_seen():
    assert type_of(colours()) == "ONNX"
    assert type_of(npusim.build(colours(), config=RANDOM).prepared.model) == "QuantONNX"
    b = Builder()
    b.output(b.op("MaxPool", b.input("x", (1, 1, 4, 4), "u8"), kernel_shape=[2, 2]), "u8")
    assert type_of(b.model()) == "QuantONNX"
    assert b.model().graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8


def test_layer_entries_become_settings():
    entries = [
        {"layer_name": "a", "layer_names": ["b"], "data_type": "U16"},
        {"op_type": "Softmax", "weight_data_type": "S16"},
        {"start_tensor_names": ["x"], "end_tensor_names": ["y"], "data_type": "FP32"},
    ]
    configuration = load({
        "quant": {"layer_configs": entries, "calibration_method": "KL"},
        "onnx_opt": {"disable_onnx_optimization": True},
    })  # fmt: skip
    settings = settings_of(configuration)
    first, second, third = settings.layer_configs
    assert (first.layer_names, first.data_type, first.weight_data_type) == (("a", "b"), "U16", "")
    assert (second.op_types, second.data_type, second.weight_data_type) == (("Softmax",), "U8", "S16")
    assert (third.start_tensor_names, third.end_tensor_names) == (("x",), ("y",))
    assert (settings.calibration_method, settings.enable_fusion) == ("KL", False)


def quant(**keys):
    return {"quant": keys}


def entry(**keys):
    return quant(input_configs=[keys])


MISTAKES = [
    (
        {},
        UsageError,
        "pass --quant.calibration_dataset images.tar, or, for timing only, --quant.calibration_f",
    ),
    (
        {"model_type": "QuantONNX"},
        UsageError,
        "tiny has no quantized operators; pass --model_type ONNX and",
    ),
    (entry(), ConfigError, "quant.input_configs[0].calibration_dataset: is missing: format Image reads a tar"),
    (entry(calibration_dataset="x.tar"), DatasetError, "x.tar: there is no such file or folder"),
    (entry(calibration_dataset="x", calibration_format="Random"), ConfigError, "Random reads no data; leave"),
    (entry(tensor_name="img", calibration_format="Random"), ConfigError, "the model has no input 'img', only image"),
    (
        {"quant": {**RANDOM["quant"], "layer_configs": [{"op_type": "Softmx", "data_type": "U16"}]}},
        ConfigError,
        "quant.layer_configs[0].op_types: the optimized model has no layer of type 'Softmx'",
    ),
    (
        {"quant": {**RANDOM["quant"], "layer_configs": [{"layer_name": "Conv_9", "data_type": "U16"}]}},
        ConfigError,
        "did you mean 'Conv_",
    ),
]


@pytest.mark.parametrize(("config", "kind", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes(tmp_path, config, kind, message):
    with pytest.raises(kind) as caught:
        npusim.build(colours(), config=config, output_dir=tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_selector_that_matches_nothing_names_the_file(tmp_path):
    table = {"quant": {**RANDOM["quant"], "layer_configs": [{"op_type": "Cnv", "data_type": "U16"}]}}
    (tmp_path / "c.json").write_text(json.dumps(table))
    with pytest.raises(ConfigError) as caught:
        npusim.build(colours(), config=tmp_path / "c.json")
    assert str(caught.value).startswith(f"{tmp_path / 'c.json'}: quant.layer_configs[0].op_types: ")
    assert "did you mean 'Conv'" in str(caught.value)


def test_names_of_classes(tmp_path):
    names = imagenet_names()
    assert (len(names), len(set(names))) == (1000, 1000)
    # spot values of the published list
    assert {names[i] for i in (0, 1, 281, 285, 388, 817, 999)} == {
        "tench", "goldfish", "tabby", "Egyptian cat", "giant panda", "sports car", "toilet tissue"
    }  # fmt: skip
    assert class_names(1000) == names
    assert class_names(10) == ()
    (tmp_path / "three.txt").write_text("# colours\nred\ngreen\nblue\n")
    assert class_names(3, tmp_path / "three.txt") == ("red", "green", "blue")
    with pytest.raises(UsageError, match="has 3 names, one a line; the model has 4 classes"):
        class_names(4, tmp_path / "three.txt")


def test_what_is_no_image_is_named(built):
    with pytest.raises(DatasetError, match=r"cat\.jpg: is no image"):
        classify(built.session(), b"meow", "cat.jpg")
    stream = io.BytesIO()
    Image.new("L", (20, 20), 128).save(stream, "PNG")
    assert classify(built.session(), stream.getvalue()).shape == (3,)  # a gray picture has colours too


def test_a_prepared_model_is_built_again_with_what_it_was_prepared_with(built):
    again = npusim.build(built.prepared, npu_mode="NPU3")
    assert again.axmodel.npu_mode == "NPU3"
    assert {**again.axmodel.config, "npu_mode": "NPU1"} == built.axmodel.config
    assert again.path is None  # nobody asked to write over the files of the first build
