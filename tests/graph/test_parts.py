"""Cutting a graph into NPU and CPU parts: as few as an exhaustive search finds, each with what it reads and makes."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim import graph
from npusim.graph import Graph, Node, Tensor
from npusim.graph.parts import cpu_model, split
from tests.graph.tiny import Builder, onnxruntime_values


def made(kinds: list[bool], edges: set[tuple[int, int]]) -> Graph:
    """A graph whose node n is on the CPU where ``kinds[n]`` says so, and reads those that ``edges`` names."""
    nodes, tensors = [], {"x": Tensor(name="x", shape=(4,), dtype="u8")}
    for number, on_cpu in enumerate(kinds):
        inputs = tuple(f"t{source}" for source, target in sorted(edges) if target == number) or ("x",)
        tensors[f"t{number}"] = Tensor(name=f"t{number}", shape=(4,), dtype="u8")
        op = "cpu" if on_cpu else "add"
        nodes.append(Node(name=f"n{number}", op=op, inputs=inputs, outputs=(f"t{number}",)))
    last = f"t{len(kinds) - 1}"
    return Graph(name="g", inputs=("x",), outputs=(last,), nodes=tuple(nodes), tensors=tensors)


def fewest_parts(kinds: list[bool], edges: set[tuple[int, int]]) -> int:
    """By trying: from every set of finished nodes, any further set of one kind whose operands are finished."""
    everything = frozenset(range(len(kinds)))
    reached, count = {frozenset[int]()}, 0
    while everything not in reached:
        count += 1
        further = set()
        for done in reached:
            for kind in (False, True):
                rest = [n for n in everything - done if kinds[n] == kind]
                for size in range(1, len(rest) + 1):
                    for chosen in itertools.combinations(rest, size):
                        after = done | set(chosen)
                        if all(source in after for source, target in edges if target in chosen):
                            further.add(after)
        reached = further
    return count


@st.composite
def cases(draw):
    kinds = draw(st.lists(st.booleans(), min_size=1, max_size=6))
    pairs = [(a, b) for b in range(len(kinds)) for a in range(b)]
    return kinds, set(draw(st.lists(st.sampled_from(pairs), unique=True))) if pairs else set()


@given(cases())
def test_parts_are_as_few_as_possible_and_complete(case):
    kinds, edges = case
    whole = made(kinds, edges)
    parts = split(whole)
    assert len(parts) == fewest_parts(kinds, edges)
    assert sorted(node.name for part in parts for node in part.graph.nodes) == sorted(n.name for n in whole.nodes)
    known = set(whole.inputs)
    for part in parts:
        assert {node.op == "cpu" for node in part.graph.nodes} == {part.on_cpu}
        assert known.issuperset(part.graph.inputs)
        inside = set(part.graph.inputs)
        for node in part.graph.nodes:
            assert inside.issuperset(node.inputs)
            inside.update(node.outputs)
        assert inside.issuperset(part.graph.outputs)
        known.update(part.graph.outputs)
    assert known.issuperset(whole.outputs)
    exchanged = {name for part in parts for name in part.graph.outputs}
    read = {name for part in parts for name in part.graph.inputs}
    assert exchanged <= read | set(whole.outputs), "nobody hands over what nobody reads"


def test_a_graph_without_cpu_nodes_stays_as_it_is():
    whole = made([False, False], {(0, 1)})
    [part] = split(whole)
    assert part.graph is whole


def test_a_result_that_is_an_input_belongs_to_no_part():
    tensor = Tensor(name="x", shape=(4,), dtype="u8")
    assert split(Graph(name="g", inputs=("x",), outputs=("x",), nodes=(), tensors={"x": tensor})) == ()


def real_branches() -> onnx.ModelProto:
    """Two real branches that share a constant and meet again behind the CPU."""
    b = Builder()
    x = b.input("x", (2, 3))
    shared = b.constant(np.array([1, 2, 3], np.float32), "shared")
    left = b.op("Cos", b.op("Mul", x, shared))
    right = b.op("Sin", b.op("Mul", b.op("Neg", x), shared))
    b.output(left)
    b.output(right)
    b.output(b.quantize(b.op("Sub", left, right), 0.01, 128))
    return b.model()


def test_the_nodes_of_a_cpu_part_are_one_model():
    model = real_branches()
    loaded = graph.load(model)
    on_cpu = [part for part in split(loaded) if part.on_cpu]
    assert len(on_cpu) == 1
    assert len(on_cpu[0].graph.nodes) > 1
    joined = onnx.ModelProto.FromString(cpu_model(on_cpu[0].graph))
    onnx.checker.check_model(joined, full_check=True)
    assert [value.name for value in joined.graph.input] == list(on_cpu[0].graph.inputs)
    assert [value.name for value in joined.graph.output] == list(on_cpu[0].graph.outputs)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)}
    expected = onnxruntime_values(model, feeds, plain=True)
    found = onnxruntime_values(joined, feeds, plain=True)
    shown = [name for name in found if name in expected]
    assert shown
    for name in shown:
        np.testing.assert_array_equal(found[name], expected[name])
    typed = {value.name for value in (*joined.graph.input, *joined.graph.output, *joined.graph.value_info)}
    assert {name for node in joined.graph.node for name in node.output} <= typed, "prices need every shape"


def test_values_inside_that_share_a_name_with_a_tensor_are_renamed():
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["a"], ["t"]), onnx.helper.make_node("Abs", ["t"], ["b"])], "body",
        *([onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (2,))] for name in "ab"),
        value_info=[onnx.helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, (2,))],
    )  # fmt: skip
    proto = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    nodes = tuple(
        Node(name=name, op="cpu", inputs=(source,), outputs=(result,), attributes={"model": proto.SerializeToString()})
        for name, source, result in (("one", "t", "u"), ("two", "u", "v"))
    )
    tensors = {name: Tensor(name=name, shape=(2,), dtype="f32") for name in "tuv"}
    part = Graph(name="g", inputs=("t",), outputs=("v",), nodes=nodes, tensors=tensors)
    joined = onnx.ModelProto.FromString(cpu_model(part))
    onnx.checker.check_model(joined, full_check=True)
    [found] = onnxruntime_values(joined, {"t": np.array([-3, 4], np.float32)}).values()
    assert found.tolist() == [3, 4]


def test_constants_inside_of_equal_names_stay_apart():
    """The weight of one node is called as a tensor of the part is, and as the other weight of another node."""
    nodes = []
    for name, source, result, weight in (("one", "t", "w", 2), ("two", "w", "v", 5)):
        body = onnx.helper.make_graph(
            [onnx.helper.make_node("Mul", ["a", "w"], ["b"])], "body",
            *([onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, (2,))] for value in "ab"),
            [onnx.numpy_helper.from_array(np.full(2, weight, np.float32), "w")],
        )  # fmt: skip
        proto = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
        attributes = {"model": proto.SerializeToString()}
        nodes.append(Node(name=name, op="cpu", inputs=(source,), outputs=(result,), attributes=attributes))
    tensors = {name: Tensor(name=name, shape=(2,), dtype="f32") for name in "twv"}
    part = Graph(name="g", inputs=("t",), outputs=("v",), nodes=tuple(nodes), tensors=tensors)
    joined = onnx.ModelProto.FromString(cpu_model(part))
    onnx.checker.check_model(joined, full_check=True)
    [found] = onnxruntime_values(joined, {"t": np.array([1, 3], np.float32)}).values()
    assert found.tolist() == [10, 30]


@pytest.mark.parametrize("constant", [True, False])
def test_a_cpu_node_that_reads_a_constant_tensor_carries_it(constant):
    data = np.array([1, 2], np.float32) if constant else None
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["a"], ["b"])], "body",
        *([onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (2,))] for name in "ab"),
    )  # fmt: skip
    proto = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    node = Node(name="n", op="cpu", inputs=("c",), outputs=("y",), attributes={"model": proto.SerializeToString()})
    tensors = {
        "c": Tensor(name="c", shape=(2,), dtype="f32", data=data),
        "y": Tensor(name="y", shape=(2,), dtype="f32"),
    }
    whole = Graph(name="g", inputs=() if constant else ("c",), outputs=("y",), nodes=(node,), tensors=tensors)
    [part] = split(whole)
    joined = onnx.ModelProto.FromString(cpu_model(part.graph))
    feeds = {} if constant else {"c": np.array([1, 2], np.float32)}
    assert onnxruntime_values(joined, feeds)["y"].tolist() == [-1, -2]
