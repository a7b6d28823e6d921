"""Files that are no sound models are refused with one clear error; sound ones are read whatever their form."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from npusim import graph
from npusim.errors import NpusimError, UsageError
from npusim.graph import ModelError, UnsupportedError
from tests.graph.interpret import run
from tests.graph.tiny import Builder, onnxruntime_values


def conv_model(batch: object = 1, opset: int = 21) -> onnx.ModelProto:
    b = Builder(opset)
    x = b.quantize(b.input("x", [batch, 3, 6, 6]), 0.02, 128)
    w = b.dequantize(b.random.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), 0.01)
    b.output(b.quantize(b.op("Conv", x, w, pads=[1, 1, 1, 1]), 0.05, 7))
    return b.model()


def test_the_graph_of_a_convolution_reads_like_this():
    text = str(graph.load(conv_model()))
    lines = [line.split(" = crc32")[0] for line in text.splitlines()]
    geometry = " strides=(1,1) pads=(1,1,1,1) dilations=(1,1) groups=1"
    assert lines == [
        "graph tiny",
        "  input x: f32[1,3,6,6]",
        "  const c5: s8[4,3,3,3] q(0.01, 0)",
        "  quantizelinear3: u8[1,3,6,6] q(0.02, 128) = quantize(x)",
        "  quantizelinear12: u8[1,4,6,6] q(0.05, 7) = conv(quantizelinear3, c5)" + geometry,
        "  dequantizelinear13: f32[1,4,6,6] = dequantize(quantizelinear12)",
        "  output dequantizelinear13",
    ]


def test_every_node_names_the_onnx_nodes_it_came_from():
    nodes = graph.load(conv_model()).nodes
    assert [node.name for node in nodes] == ["QuantizeLinear_3", "Conv_9", "DequantizeLinear_13"]
    assert [node.source for node in nodes] == [("QuantizeLinear_3",), ("Conv_9",), ("DequantizeLinear_13",)]


@pytest.mark.parametrize("form", ["path", "text path", "bytes", "proto"])
def test_a_model_comes_as_a_path_as_bytes_or_parsed(form, tmp_path):
    model = conv_model()
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    given = {"path": path, "text path": str(path), "bytes": model.SerializeToString(), "proto": model}[form]
    assert str(graph.load(given)) == str(graph.load(model))


# ------------------------------------------------------------------------------------------------------ damaged files


def test_a_missing_file_is_named():
    with pytest.raises(ModelError, match=r"^no/such\.onnx: cannot be read: No such file"):
        graph.load("no/such.onnx")


@pytest.mark.parametrize("data", [b"", b"hello", b"\x00" * 64, b"\xff" * 100])
def test_what_is_no_protobuf_is_refused(data):
    with pytest.raises(ModelError, match="is not an ONNX model"):
        graph.load(data)


@given(st.data())
def test_a_cut_or_altered_file_is_refused_or_read_but_nothing_else_happens(data):
    content = bytearray(CONTENT)
    content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NpusimError):
        graph.load(bytes(content))


CONTENT = conv_model().SerializeToString()


def nodes_model(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in outputs]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", [x], results), opset_imports=[helper.make_opsetid("", 21)]
    )


def relu(source: str, result: str, name: str = "") -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [result], name=name)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nodes_model(relu("a", "y", "r")), "node 'r' (Relu) reads 'a', which nothing computes"),
        (nodes_model(relu("x", "y", "p"), relu("x", "y", "q")), "node 'q' (Relu) computes 'y', which exists already"),
        (nodes_model(relu("x", "x", "p")), "node 'p' (Relu) computes 'x', which exists already"),
        (nodes_model(relu("y", "a", "p"), relu("a", "y", "q")), "node 'p' (Relu) reads its own result"),
        (nodes_model(relu("x", "a")), "the output 'y' is computed by nothing"),
        (nodes_model(helper.make_node("Relu", ["x"], [], name="r")), "node 'r' (Relu) has no output"),
    ],
)
def test_an_inconsistent_graph_is_refused(model, message):
    with pytest.raises(ModelError) as caught:
        graph.load(model)
    assert message in str(caught.value)


def test_shapes_that_do_not_fit_name_node_and_shapes():
    b = Builder()
    x = b.input("x", [2, 3])
    b.output(b.op("MatMul", x, b.constant(np.zeros((4, 5), np.float32))))
    with pytest.raises(ModelError, match=r"node 'MatMul_2' \(MatMul\) cannot take f32\[2, 3\], f32\[4, 5\]"):
        graph.load(b.model())


def test_a_tensor_with_too_few_bytes_is_refused():
    model = conv_model()
    model.graph.initializer[2].raw_data = b"abc"
    with pytest.raises(ModelError, match=r"tensor 'c5' is damaged"):
        graph.load(model)


def varied_model() -> onnx.ModelProto:
    """A bit of everything whose attributes and operands the import looks at."""
    b = Builder()
    x = b.real_input("x", [1, 4, 8, 8], 0.05, 100)
    w = b.dequantize(np.ones((4, 4, 3, 3), np.int8), np.full(4, 0.01, np.float32), axis=0)
    x = b.quantize(b.op("Conv", x, w, pads=[1, 1, 1, 1], strides=[1, 1], group=1), 0.05, 100)
    x = b.quantize(b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=0), 0.05, 100)
    x = b.quantize(b.op("AveragePool", x, kernel_shape=[2, 2], pads=[0, 0, 1, 1]), 0.05, 100)
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    x = b.quantize(b.op("Resize", x, "", scales, mode="linear"), 0.05, 100)
    x = b.quantize(b.op("Pad", x, b.constant(np.array([0, 0, 1, 1, 0, 0, 0, 0])), mode="constant"), 0.05, 100)
    x = b.quantize(b.op("Concat", *b.op("Split", x, outputs=2, axis=1, num_outputs=2), axis=2), 0.05, 100)
    x = b.op("DepthToSpace", b.op("SpaceToDepth", x, blocksize=2), blocksize=2, mode="CRD")
    x = b.op("Transpose", b.op("Gather", x, b.constant(np.array([0, 1, 1])), axis=1), perm=[0, 2, 1, 3])
    x = b.quantize(b.op("Slice", x, *(b.constant(np.array([n])) for n in (0, 8, 1, 2))), 0.05, 100)
    x = b.quantize(b.op("LeakyRelu", x, alpha=0.1), 0.05, 100)
    x = b.quantize(b.op("ReduceMean", x, b.constant(np.array([3])), keepdims=0), 0.05, 100)
    x = b.quantize(b.op("LayerNormalization", x, b.constant(np.ones(3, np.float32)), epsilon=1e-3, axis=-1), 0.05, 100)
    x = b.quantize(b.op("Softmax", b.op("Flatten", x, axis=1), axis=1), 1 / 256, 0)
    y = b.dequantize(np.ones((2, b_columns(x)), np.int8), 0.01)
    x = b.quantize(b.op("Gemm", x, y, alpha=0.5, beta=1.0, transA=0, transB=1), 0.05, 100)
    ms = {"domain": "com.microsoft"}
    q, p = b.input("q", [1, 2], "u8"), b.parameters(0.1, 3, "u8")
    b.output(b.op("QLinearAdd", q, *p, b.op("QLinearLeakyRelu", q, *p, *p, alpha=0.1, **ms), *p, *p, **ms), "u8")
    b.output(b.op("QLinearConcat", *p, q, *p, q, *p, axis=1, **ms), "u8")
    b.output(b.op("ArgMax", x, axis=1, keepdims=0), "s64")
    return b.model()


def b_columns(_: str) -> int:
    """Columns of the matrix in front of the Gemm of ``varied_model``: 4 rows of 3 channels."""
    return 12


def damages(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The model with one thing of one node missing or changed."""
    for at, node in enumerate(model.graph.node):
        for index in range(len(node.input)):
            for change in ("drop", "empty", "swap"):
                damaged = copy.deepcopy(model)
                inputs = damaged.graph.node[at].input
                if change == "drop":
                    del inputs[index:]
                else:
                    inputs[index] = "" if change == "empty" else damaged.graph.initializer[0].name
                yield f"{node.name} {change} {index}", damaged
        for index, attribute in enumerate(node.attribute):
            for value in (None, -7, "text", 0.5, [1], [9, 9, 9, 9], [-1, 2]):
                damaged = copy.deepcopy(model)
                del damaged.graph.node[at].attribute[index]
                if value is not None:
                    damaged.graph.node[at].attribute.append(helper.make_attribute(attribute.name, value))
                yield f"{node.name} {attribute.name}={value}", damaged


def test_the_varied_model_is_sound():
    assert not graph.load(varied_model()).cpu_nodes


def test_damaged_nodes_are_refused_or_read_but_nothing_else_happens():
    crashes = []
    for what, damaged in damages(varied_model()):
        try:
            graph.load(damaged)
        except NpusimError:
            continue
        except Exception as error:  # noqa: BLE001 - that is what the test is about
            crashes.append(f"{what}: {type(error).__name__} {error}")
    assert crashes == []


def test_nodes_out_of_order_are_sorted():
    model = conv_model()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    assert [node.op for node in graph.load(model).nodes] == ["quantize", "conv", "dequantize"]


def test_a_small_file_cannot_fill_the_memory():
    b = Builder()
    huge = b.op("ConstantOfShape", b.constant(np.array([1 << 20, 1 << 20])))
    b.output(b.op("Add", b.input("x", [1]), huge))
    assert graph.load(b.model()).cpu_nodes


# ----------------------------------------------------------------------------------------------------- operator sets


@pytest.mark.parametrize("opset", [*range(13, 25)])
def test_operator_sets_from_13_on(opset):
    assert [node.op for node in graph.load(conv_model(opset=opset)).nodes] == ["quantize", "conv", "dequantize"]


@pytest.mark.parametrize("opset", [10, 11, 12])
def test_operator_sets_without_channels(opset):
    assert [node.op for node in graph.load(conv_model(opset=opset)).nodes] == ["quantize", "conv", "dequantize"]


@pytest.mark.parametrize("opset", [7, 9, 99])
def test_other_operator_sets_are_refused_with_a_way_out(opset):
    with pytest.raises(UnsupportedError, match=rf"operator set {opset}; 10 to \d+ are understood; convert it with"):
        graph.load(conv_model(opset=opset))


def test_control_flow_is_refused():
    body = helper.make_graph([], "b", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])])
    node = helper.make_node("If", ["x"], ["y"], name="branch", then_branch=body, else_branch=body)
    with pytest.raises(UnsupportedError, match=r"node 'branch' \(If\): it has a body of its own"):
        graph.load(nodes_model(node))


# ----------------------------------------------------------------------------------------------------- dynamic extents


@pytest.mark.parametrize("batch", ["batch", None])
def test_open_extents_are_fixed_by_input_shapes(batch):
    loaded = graph.load(conv_model(batch), input_shapes={"x": [2, 3, 6, 6]})
    assert [loaded.tensor(name).shape for name in loaded.outputs] == [(2, 4, 6, 6)]


def test_open_extents_ask_for_input_shapes():
    with pytest.raises(UsageError, match=r"'x' has the shape .*batch.*: give its extents in input_shapes, as x:1x3"):
        graph.load(conv_model("batch"))


def test_an_operator_that_onnx_does_not_have_is_named_with_the_nearest():
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Reluu", ["x"], ["y"], name="r")], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        ), opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"node 'r' \(Reluu\): ONNX has no such operator; did you mean .*'Relu'"):
        graph.load(model)


@pytest.mark.parametrize("shape", [[2, 3, 6, 6], [1, 3, 6], [1, 3, 6, -6]])
def test_input_shapes_have_to_fit(shape):
    with pytest.raises(UsageError, match=r"cannot have the extents"):
        graph.load(conv_model(), input_shapes={"x": shape})


def test_a_misspelt_input_is_met_with_the_right_spelling():
    model = conv_model()
    model.graph.input[0].name = model.graph.node[0].input[0] = "image"
    with pytest.raises(UsageError, match=r"no input 'imgae', only image; did you mean 'image'\?"):
        graph.load(model, input_shapes={"imgae": [1, 3, 6, 6]})


def test_shape_arithmetic_folds_away():
    b = Builder()
    x = b.quantize(b.input("x", ["n", 3, 4, 5]), 0.1, 3)
    shape = b.op("Shape", x)
    first = b.op("Gather", shape, b.constant(np.array(0)), axis=0)
    target = b.op("Concat", b.op("Unsqueeze", first, b.constant(np.array([0]))), b.constant(np.array([-1])), axis=0)
    b.output(b.quantize(b.op("Reshape", x, target), 0.1, 3))
    loaded = graph.load(b.model(), input_shapes={"x": (2, 3, 4, 5)})
    assert [(node.op, loaded.output_of(node).shape) for node in loaded.nodes] == [
        ("quantize", (2, 3, 4, 5)), ("reshape", (2, 60)), ("dequantize", (2, 60)),
    ]  # fmt: skip


def test_a_cast_to_the_same_type_is_nothing():
    b = Builder()
    b.result(b.op("Tanh", b.op("Cast", b.real_input("x", [3]), to=TensorProto.FLOAT)))
    assert [node.op for node in graph.load(b.model()).nodes] == ["table"]


def test_an_input_can_become_a_constant():
    b = Builder()
    x = b.input("x", [2, 3], "u8")
    scale = b.input("scale", [])
    b.output(b.op("DequantizeLinear", x, scale))
    bound = graph.load(b.model(), constants={"scale": np.array(0.5, np.float32)})
    assert bound.inputs == ("x",)
    assert not bound.cpu_nodes
    assert graph.load(b.model()).cpu_nodes


# ------------------------------------------------------------------------------------------------------ external data


def external_model(tmp_path, location: str, **entries: int) -> str:
    model = conv_model()
    tensor = model.graph.initializer[2]
    (tmp_path / "weights.bin").write_bytes(b"12345678" + tensor.raw_data)
    (tmp_path.parent / "outside.bin").write_bytes(b"12345678" + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": 8, "length": 108, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_external_data_is_read_from_the_models_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert str(graph.load(external_model(folder, "weights.bin"))) == str(graph.load(conv_model()))


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/passwd", "link.bin", "", ".", "a/../../outside.bin"])
def test_external_data_never_leaves_the_models_folder(location, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match=r"external data of tensor 'c5' lies outside of the model's folder"):
        graph.load(external_model(folder, location))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"length": 107}, "107 bytes where its shape needs 108"),
        ({"offset": 9}, "is cut off"),
        ({"offset": -1}, "bytes"),
    ],
)
def test_external_data_has_to_fit(entries, message, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ModelError, match=message):
        graph.load(external_model(folder, "weights.bin", **entries))


def test_external_data_of_a_model_without_a_path(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    content = Path(external_model(folder, "weights.bin")).read_bytes()
    with pytest.raises(ModelError, match="give the model's path"):
        graph.load(content)


# ------------------------------------------------------------------------------------------------------- same results


def test_the_convolution_equals_onnxruntime():
    model = conv_model()
    feeds = {"x": np.random.default_rng(3).normal(size=(1, 3, 6, 6)).astype(np.float32)}
    (name,) = (value.name for value in model.graph.output)
    assert np.array_equal(run(graph.load(model), feeds)[name], onnxruntime_values(model, feeds)[name])
