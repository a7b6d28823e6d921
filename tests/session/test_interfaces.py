"""Inputs and outputs of unusual kinds: called anything, results that nothing computes, and tensors without elements."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import npusim
from npusim.graph import ModelError, UnsupportedError
from npusim.session.agreement import check
from tests.graph.tiny import onnxruntime_values, random_feeds

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, (4,))
Y = helper.make_tensor_value_info("y", TensorProto.UINT8, (4,))
CONSTANTS = {"s": np.float32(0.1), "z": np.uint8(3), "k": np.arange(4, dtype=np.uint8), "w": np.float32([1, 2, 3, 4])}
QUANTIZE = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])


def model_of(nodes, outputs, inputs=(X,)) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in CONSTANTS.items()]
    graph = helper.make_graph(nodes, "odd", list(inputs), outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def renamed(info: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    other = onnx.ValueInfoProto()
    other.CopyFrom(info)
    other.name = name
    return other


@pytest.mark.parametrize("name", ["my image", "images[0]", "a=b;c", "größe", "parameters", "scratch", "x\ty", "cpu_0"])
def test_inputs_and_outputs_may_be_called_anything(name, tmp_path):
    node = helper.make_node("QuantizeLinear", [name, "s", "z"], [f"result of {name}"])
    model = model_of([node], [renamed(Y, f"result of {name}")], [renamed(X, name)])
    built = npusim.build(model, output_dir=tmp_path)
    feeds = random_feeds(model)
    session = npusim.InferenceSession(built.path)
    assert [port.name for port in (*session.get_inputs(), *session.get_outputs())] == [name, f"result of {name}"]
    [ours] = session.run([f"result of {name}"], feeds)
    np.testing.assert_array_equal(ours, *onnxruntime_values(model, feeds).values())
    assert check(model, built.axmodel).compared == 1


def test_two_names_that_look_alike_stay_apart():
    nodes = [helper.make_node("QuantizeLinear", [f"a{mark}b", "s", "z"], [f"y{mark}"]) for mark in " ?"]
    outputs, inputs = [renamed(Y, f"y{mark}") for mark in " ?"], [renamed(X, f"a{mark}b") for mark in " ?"]
    model = model_of(nodes, outputs, inputs)
    feeds = random_feeds(model)
    found = npusim.build(model).session().run(None, feeds)
    for ours, theirs in zip(found, onnxruntime_values(model, feeds).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


COPY = helper.make_node("Identity", ["y"], ["a"])
AGAIN = helper.make_node("Identity", ["y"], ["b"])
USED = helper.make_node("QuantizeLinear", ["w", "s", "z"], ["c"])
RESULTS = {
    "an input": ([QUANTIZE], [Y, X]),
    "a constant": ([QUANTIZE], [Y, renamed(Y, "k")]),
    "a real constant": ([QUANTIZE], [helper.make_tensor_value_info("s", TensorProto.FLOAT, ()), Y]),
    "a constant that others read": ([USED], [renamed(Y, "c"), renamed(X, "w")]),
    "one tensor by three names": ([QUANTIZE, COPY, AGAIN], [renamed(Y, "b"), Y, renamed(Y, "a")]),
    "one tensor twice": ([QUANTIZE], [Y, Y]),
}


@pytest.mark.parametrize(("nodes", "outputs"), RESULTS.values(), ids=RESULTS)
def test_results_may_be(nodes, outputs):
    model = model_of(nodes, outputs)
    feeds = random_feeds(model)
    names = [value.name for value in outputs]
    expected = onnxruntime_values(model, feeds)
    session = npusim.InferenceSession(npusim.build(model, hardware="small").data)
    found = session.run(None, feeds)
    assert len(found) == len(names)
    for name, ours in zip(names, found, strict=True):
        assert ours.dtype == expected[name].dtype
        np.testing.assert_array_equal(ours, expected[name])
    assert check(model, session.model, feeds).agrees
    for name in set(names):
        np.testing.assert_array_equal(session.run([name], feeds)[0], expected[name])


def test_an_empty_input_is_refused():
    model = model_of([QUANTIZE], [renamed(Y, "y")], [helper.make_tensor_value_info("x", TensorProto.FLOAT, (0, 4))])
    with pytest.raises(UnsupportedError, match=r"tensor x: f32\[0,4\] of the model's interface has no elements"):
        npusim.build(model)


def test_an_empty_tensor_inside_is_refused_by_its_node():
    cut = [helper.make_node("Slice", ["y", "from", "to"], ["v"], name="cut")]
    model = model_of([QUANTIZE, *cut], [renamed(Y, "v")])
    bounds = {"from": np.int64([4]), "to": np.int64([9])}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in bounds.items())
    with pytest.raises(UnsupportedError, match=r"node 'cut' \(slice\): its tensor v: u8\[0\].* has no elements"):
        npusim.build(model)


def test_a_model_without_outputs_is_refused():
    with pytest.raises(ModelError, match="has no outputs"):
        npusim.build(model_of([QUANTIZE], []))
