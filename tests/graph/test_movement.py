"""Movement of elements keeps their quantization, wherever it stands; what it means equals onnxruntime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from npusim import graph
from npusim.graph import tidy
from npusim.graph.ir import Graph, Node, Tensor
from tests.graph.interpret import run
from tests.graph.tiny import Builder, compare, operations


def const(m: Builder, *values: int) -> str:
    return m.constant(np.array(values, np.int64))


# name: (input shape, build, operations, attributes of the first operation)
CASES: dict[str, tuple[tuple[int, ...], Callable[[Builder, str], str], list[str], dict]] = {
    "reshape": ((2, 6), lambda m, x: m.op("Reshape", x, const(m, 3, -1)), ["reshape"], {}),
    "flatten": ((2, 3, 4), lambda m, x: m.op("Flatten", x, axis=2), ["reshape"], {}),
    "squeeze": ((1, 3, 1), lambda m, x: m.op("Squeeze", x), ["reshape"], {}),
    "unsqueeze": ((3, 4), lambda m, x: m.op("Unsqueeze", x, const(m, 0, 2)), ["reshape"], {}),
    "transpose": ((2, 3, 4), lambda m, x: m.op("Transpose", x, perm=[1, 2, 0]), ["transpose"],
                  {"permutation": (1, 2, 0)}),
    "transpose reversed": ((2, 3), lambda m, x: m.op("Transpose", x), ["transpose"], {"permutation": (1, 0)}),
    "slice": ((5, 6), lambda m, x: m.op("Slice", x, const(m, 1), const(m, 100), const(m, -1), const(m, 2)), ["slice"],
              {"starts": (0, 1), "steps": (1, 2)}),
    "slice backwards": ((5, 6), lambda m, x: m.op("Slice", x, const(m, -1), const(m, -100), const(m, 0),
                                                  const(m, -2)), ["slice"], {"starts": (4, 0), "steps": (-2, 1)}),
    "slice of all": ((5, 6), lambda m, x: m.op("Slice", x, const(m, 0, 0), const(m, 5, 99)), [], {}),
    "gather one": ((3, 4), lambda m, x: m.op("Gather", x, m.constant(np.array(-1)), axis=0), ["slice", "reshape"],
                   {"starts": (2, 0), "steps": (1, 1)}),
    "gather a range": ((5, 4), lambda m, x: m.op("Gather", x, const(m, 1, 2, 3), axis=0), ["slice"],
                       {"starts": (1, 0), "steps": (1, 1)}),
    "gather": ((5, 4), lambda m, x: m.op("Gather", x, const(m, 3, -5, 3), axis=1 - 1), ["gather"], {"axis": 0}),
    "gather in a circle": ((5, 4), lambda m, x: m.op("Gather", x, const(m, 3, 0, 1, 2), axis=1), ["roll"],
                           {"axes": (1,), "shifts": (1,)}),
    "concat with itself": ((2, 3), lambda m, x: m.op("Concat", x, x, axis=-1), ["concat"], {"axis": 1}),
    "expand": ((3, 1), lambda m, x: m.op("Expand", x, const(m, 2, 1, 4)), ["expand"], {}),
    "tile": ((2, 3), lambda m, x: m.op("Tile", x, const(m, 2, 3)), ["tile"], {"repeats": (2, 3)}),
    "pad": ((2, 3), lambda m, x: m.op("Pad", x, const(m, 1, 0, 0, 2)), ["pad"],
            {"pads": (1, 0, 0, 2), "mode": "constant", "value": 7}),
    "pad with a number": ((2, 3), lambda m, x: m.op("Pad", x, const(m, 1, 1, 1, 1), m.constant(np.float32(0.5))),
                          ["pad"], {"pads": (1, 1, 1, 1), "mode": "constant", "value": 9}),
    "pad some axes": ((2, 3), lambda m, x: m.op("Pad", x, const(m, 2, 1), "", const(m, 1), mode="reflect"), ["pad"],
                      {"pads": (0, 2, 0, 1), "mode": "reflect", "value": 0}),
    "pad the edge": ((2, 3), lambda m, x: m.op("Pad", x, const(m, 2, 1, 0, 0), mode="edge"), ["pad"],
                     {"pads": (2, 1, 0, 0), "mode": "edge", "value": 0}),
    "depth to space": ((1, 8, 2, 3), lambda m, x: m.op("DepthToSpace", x, blocksize=2),
                       ["reshape", "transpose", "reshape"], {}),
    "depth to space by columns": ((1, 8, 2, 3), lambda m, x: m.op("DepthToSpace", x, blocksize=2, mode="CRD"),
                                  ["reshape", "transpose", "reshape"], {}),
    "space to depth": ((1, 2, 4, 6), lambda m, x: m.op("SpaceToDepth", x, blocksize=2),
                       ["reshape", "transpose", "reshape"], {}),
    "max pool": ((1, 2, 5, 6), lambda m, x: m.op("MaxPool", x, kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 2]),
                 ["max_pool"], {"kernel": (3, 2), "strides": (2, 2), "pads": (1, 0, 1, 1), "dilations": (1, 1)}),
    "max pool with a ceiling": ((1, 2, 6, 6), lambda m, x: m.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2],
                                                                ceil_mode=1), ["max_pool"], {}),
    "max pool of rows": ((2, 3, 9), lambda m, x: m.op("MaxPool", x, kernel_shape=[3], strides=[3]),
                         ["reshape", "max_pool", "reshape"], {}),
    "nearest": ((1, 2, 3, 2), lambda m, x: m.op("Resize", x, "", m.constant(np.array([1, 1, 2, 1.5], np.float32)),
                                                coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
                ["resize"], {"mode": "nearest", "rows": (0, 0, 1, 1, 2, 2), "columns": (0, 0, 1)}),
    "identity": ((3,), lambda m, x: m.op("Identity", x), [], {}),
}  # fmt: skip


@pytest.mark.parametrize(("shape", "build", "ops", "attributes"), CASES.values(), ids=CASES)
def test_movement_between_equal_scales(shape, build, ops, attributes):
    m = Builder()
    m.result(build(m, m.real_input("x", shape, 0.25, 7)), 0.25, 7)
    loaded, differing, _, _ = compare(m.model())
    assert operations(loaded) == (ops or ["reshape"])  # an output that is the input itself takes a copy
    assert differing == 0
    if attributes:
        assert loaded.nodes[0].attributes == attributes


@pytest.mark.parametrize(("shape", "build", "ops"), [case[:3] for case in CASES.values()], ids=CASES)
def test_movement_between_other_scales(shape, build, ops):
    m = Builder()
    m.result(build(m, m.real_input("x", shape, 0.25, 7)), 0.4, 20)
    loaded, differing, _, _ = compare(m.model())
    assert sorted(operations(loaded)) == sorted([*ops, "rescale"])
    assert differing == 0


@pytest.mark.parametrize(("shape", "build", "ops"), [case[:3] for case in CASES.values()], ids=CASES)
def test_movement_behind_an_operator_without_quantization_between(shape, build, ops):
    m = Builder()
    value = m.op("Sigmoid", m.real_input("x", shape, 0.05, 128))
    m.result(build(m, value), 1 / 64, 3)
    loaded, differing, largest, _ = compare(m.model(), plain=True)
    assert sorted(operations(loaded)) == sorted([*ops, "table"])
    assert largest <= 1
    assert differing <= 1


@pytest.mark.parametrize(("shape", "build", "ops"), [case[:3] for case in CASES.values()], ids=CASES)
def test_movement_of_a_real_input_happens_behind_its_quantization(shape, build, ops):
    m = Builder()
    m.result(build(m, m.input("x", shape)), 0.25, 100)
    loaded, differing, _, _ = compare(m.model())
    assert operations(loaded) == ["quantize", *ops]
    assert differing == 0


INTEGER_CASES = {name: case for name, case in CASES.items() if name not in ("pad with a number", "pad")}


@pytest.mark.parametrize(("shape", "build", "ops"), [case[:3] for case in INTEGER_CASES.values()], ids=INTEGER_CASES)
def test_movement_of_the_integers_themselves(shape, build, ops):
    m = Builder()
    moved = build(m, m.input("x", shape, "u8"))
    m.output(m.op("DequantizeLinear", moved, *m.parameters(0.25, 7, "u8")))
    loaded, differing, _, _ = compare(m.model(), plain=True)
    assert operations(loaded) == [*ops, "dequantize"]
    assert differing == 0
    assert loaded.tensor("x").quantization is not None


def test_a_border_of_integers_is_an_integer():
    m = Builder()
    x = m.op("Pad", m.input("x", [3], "u8"), const(m, 1, 2), m.constant(np.array(9, np.uint8)))
    m.output(m.op("DequantizeLinear", x, *m.parameters(0.25, 7, "u8")))
    loaded, differing, _, _ = compare(m.model(), plain=True)
    assert loaded.nodes[0].attributes["value"] == 9
    assert differing == 0


def test_split_is_slices():
    m = Builder()
    parts = m.op("Split", m.real_input("x", [2, 7]), const(m, 3, 0, 4), outputs=3, axis=1)
    for part in (parts[0], parts[2]):
        m.result(part)
    loaded, differing, _, _ = compare(m.model())
    assert [node.attributes["starts"] for node in loaded.nodes] == [(0, 0), (0, 3)]
    assert differing == 0


def test_concat_of_other_scales_rescales_each_part():
    m = Builder()
    a, b = m.real_input("a", [2, 3], 0.1, 5), m.real_input("b", [2, 2], 0.25, 7)
    m.result(m.op("Concat", a, b, axis=1), 0.25, 7)
    loaded, differing, _, _ = compare(m.model())
    assert operations(loaded) == ["rescale", "concat"]
    assert differing == 0


def test_an_embedding_is_a_gather_by_live_indices():
    m = Builder()
    table = m.dequantize(m.random.integers(-128, 128, (10, 4)).astype(np.int8), 0.1)
    m.result(m.op("Gather", table, m.input("ids", [2, 3], "s64")), 0.1, 0, "s8")
    loaded = graph.load(m.model())
    assert operations(loaded) == ["gather"]
    ids = np.array([[1, 2, 9], [0, 0, 3]])
    values = run(loaded, {"ids": ids})
    data = loaded.tensor(loaded.nodes[0].inputs[0]).data
    assert data is not None
    assert np.array_equal(values[loaded.outputs[0]], data[ids])


def test_constants_are_moved_at_once():
    m = Builder()
    w = m.dequantize(m.random.integers(-9, 9, (8, 4)).astype(np.int8), np.full(8, 0.1, np.float32), axis=0)
    w = m.op("Transpose", m.op("Reshape", w, const(m, 8, 4)), perm=[1, 0])
    m.result(m.op("MatMul", m.real_input("x", [3, 4]), w), 0.2)
    loaded = graph.load(m.model())
    assert operations(loaded) == ["matmul"]
    weights = loaded.tensor(loaded.nodes[0].inputs[1])
    assert weights.shape == (4, 8)
    assert weights.quantization is not None
    assert weights.quantization.axis == 1


def test_channels_that_a_reshape_tears_apart_are_refused():
    m = Builder()
    w = m.dequantize(np.ones((4, 4, 2), np.int8), np.full(4, 0.1, np.float32), axis=1)
    m.result(m.op("MatMul", m.real_input("x", [3, 4]), m.op("Reshape", w, const(m, 4, 8))))
    assert graph.load(m.model()).cpu_nodes


def test_a_number_that_adds_an_axis_is_no_number():
    m = Builder()
    m.result(m.op("Pow", m.real_input("x", [3]), m.constant(np.full((1, 1), 2, np.float32))))
    (node,) = graph.load(m.model()).cpu_nodes
    assert node.attributes["reason"] == "it needs a live operand of its result's shape"


def test_a_weight_that_is_quantized_in_the_model_is_a_constant():
    m = Builder()
    w = m.quantize(m.constant(m.random.normal(size=(4, 5)).astype(np.float32)), 0.02, 0, "s8")
    m.result(m.op("MatMul", m.real_input("x", [3, 4]), w), 0.2)
    loaded, differing, _, _ = compare(m.model())
    assert operations(loaded) == ["matmul"]
    assert differing == 0


# ----------------------------------------------------------------------------------------------------------- tidying


def roll(m: Builder, x: str, axis: int, cut: int) -> str:
    end = m.op("Slice", x, const(m, cut), const(m, 1 << 60), const(m, axis))
    return m.op("Concat", end, m.op("Slice", x, const(m, 0), const(m, cut), const(m, axis)), axis=axis)


def test_slices_put_together_again_are_a_roll():
    m = Builder()
    x = m.real_input("x", [1, 7, 5, 2])
    m.result(roll(m, roll(m, x, 1, 3), 2, 4))
    loaded, differing, _, _ = compare(m.model())
    assert operations(loaded) == ["roll"]
    assert loaded.nodes[0].attributes == {"axes": (1, 2), "shifts": (4, 1)}
    assert len(loaded.nodes[0].source) == 6
    assert differing == 0


@pytest.mark.parametrize("fault", ["other order", "gap", "other tensor", "other axis"])
def test_what_only_looks_like_a_roll_stays(fault):
    m = Builder()
    x, y = m.real_input("x", [6, 6]), m.real_input("y", [6, 6])
    end = m.op("Slice", x, const(m, 3 if fault == "gap" else 2), const(m, 99), const(m, 0))
    front = m.op("Slice", y if fault == "other tensor" else x, const(m, 0), const(m, 2),
                 const(m, 1 if fault == "other axis" else 0))  # fmt: skip
    if fault == "other axis":
        front = m.op("Transpose", front)
    parts = (front, end) if fault == "other order" else (end, front)
    m.result(m.op("Concat", *parts, axis=0))
    loaded, differing, _, _ = compare(m.model())
    assert "roll" not in operations(loaded)
    assert differing == 0


def test_reshapes_and_transposes_join():
    m = Builder()
    x = m.op("Reshape", m.real_input("x", [2, 6]), const(m, 12))
    x = m.op("Transpose", m.op("Reshape", x, const(m, 3, 4)))
    x = m.op("Transpose", x)
    m.result(m.op("Relu", m.op("Reshape", x, const(m, 2, 6))), 0.05, 10)
    loaded, differing, _, _ = compare(m.model())
    assert operations(loaded) == ["rescale"]
    assert differing == 0


def test_transposes_join_in_their_order():
    m = Builder()
    x = m.op("Transpose", m.real_input("x", [2, 3, 4]), perm=[1, 2, 0])
    m.result(m.op("Transpose", x, perm=[1, 0, 2]))
    loaded, differing, _, _ = compare(m.model())
    assert [node.attributes["permutation"] for node in loaded.nodes] == [(2, 1, 0)]
    assert differing == 0


def test_equal_work_is_done_once():
    m = Builder()
    x = m.real_input("x", [2, 6])
    for _ in range(2):
        m.result(m.op("Sigmoid", m.op("Transpose", x)), 1 / 256)
    assert operations(graph.load(m.model())).count("transpose") == 1


def test_unused_nodes_vanish():
    tensors = {name: Tensor(name=name, shape=(2,), dtype="u8") for name in "xyz"}
    nodes = [Node(name=n, op="reshape", inputs=("x",), outputs=(n,)) for n in "yz"]
    whole = Graph(name="g", inputs=("x",), outputs=("z",), nodes=tuple(nodes), tensors=tensors)
    assert [node.name for node in tidy.drop_unused(whole).nodes] == ["z"]
    assert set(tidy.drop_unused(whole).tensors) == {"x", "z"}
