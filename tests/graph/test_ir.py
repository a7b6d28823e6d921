"""The records themselves: their text, their queries, and the rules that ``ops.check`` holds them to."""

from __future__ import annotations

import pickle
import zlib
from dataclasses import replace

import numpy as np
import pytest

from npusim import graph
from npusim.graph import ops
from npusim.graph.ir import Graph, Node, Quantization, Tensor, with_nodes
from npusim.graph.quantize import dequantize, quantize
from tests.graph.tiny import Builder

HALF = Quantization(scale=np.float32(0.5), zero_point=3)
CHANNELS = Quantization(scale=np.array([0.5, 0.25], np.float32), zero_point=np.array([0, -1]), axis=1)
BLOCKS = replace(CHANNELS, block=2)


@pytest.mark.parametrize(
    ("quantization", "text"),
    [
        (None, "u8[2,4]"),
        (HALF, "u8[2,4] q(0.5, 3)"),
        (CHANNELS, "u8[2,4] q(axis 1: 0.25..0.5, -1..0)"),
        (BLOCKS, "u8[2,4] q(axis 1 by 2: 0.25..0.5, -1..0)"),
        (Quantization(scale=np.float32(0.1)), "u8[2,4] q(0.1, 0)"),
        (Quantization(scale=np.float32(1 / 3)), "u8[2,4] q(0.33333334, 0)"),
        (Quantization(scale=np.float32(2)), "u8[2,4] q(2, 0)"),
    ],
)
def test_a_type_reads_like_this(quantization, text):
    assert Tensor(name="t", shape=(2, 4), dtype="u8", quantization=quantization).type_text == text


def test_small_constants_show_their_values_and_large_ones_a_checksum():
    small = Tensor(name="c", shape=(3,), dtype="f32", data=np.array([1, 0.1, -2], np.float32))
    large = Tensor(name="d", shape=(3, 3), dtype="s8", data=np.arange(9, dtype=np.int8).reshape(3, 3))
    assert str(small) == "c: f32[3] = 1 0.100000001 -2"
    assert str(large) == f"d: s8[3,3] = crc32 {zlib.crc32(bytes(range(9))):08x}"


def test_quantizations_are_equal_by_value():
    assert replace(HALF) == HALF
    assert hash(replace(CHANNELS, scale=CHANNELS.scale.copy())) == hash(CHANNELS)
    assert replace(CHANNELS, scale=CHANNELS.scale.copy()) == CHANNELS
    others = [replace(HALF, zero_point=4), replace(HALF, scale=np.float32(0.25)), CHANNELS, BLOCKS,
              replace(CHANNELS, axis=0), replace(CHANNELS, zero_point=np.array([0, 0]))]  # fmt: skip
    assert len({HALF, *others}) == 7
    assert replace(HALF, zero_point=4) != HALF
    assert replace(CHANNELS, zero_point=np.array([0, 0])) != CHANNELS


def small_graph(**changes: object) -> Graph:
    tensors = {
        "x": Tensor(name="x", shape=(2, 2), dtype="u8", quantization=HALF),
        "w": Tensor(name="w", shape=(2, 2), dtype="s8", quantization=HALF, data=np.ones((2, 2), np.int8)),
        "y": Tensor(name="y", shape=(2, 2), dtype="u8", quantization=HALF),
        "z": Tensor(name="z", shape=(4,), dtype="u8", quantization=HALF),
    }
    nodes = (
        Node(name="m", op="matmul", inputs=("x", "w"), outputs=("y",), attributes={"clamp": (3, 200)}),
        Node(name="r", op="reshape", inputs=("y",), outputs=("z",)),
    )
    whole = Graph(name="g", inputs=("x",), outputs=("z",), nodes=nodes, tensors=tensors)
    return replace(whole, **changes)


def test_queries():
    whole = small_graph()
    matmul, reshape = whole.nodes
    assert whole.producers == {"y": matmul, "z": reshape}
    assert whole.consumers == {"x": (matmul,), "w": (matmul,), "y": (reshape,)}
    assert whole.output_range(matmul) == (3, 200)
    assert whole.output_range(reshape) == (0, 255)
    assert [tensor.name for tensor in whole.inputs_of(matmul)] == ["x", "w"]
    assert whole.cpu_nodes == ()
    ops.check(whole)


def test_a_graph_survives_pickling():
    b = Builder()
    b.result(b.op("Sigmoid", b.real_input("x", [3])))
    loaded = graph.load(b.model())
    assert str(pickle.loads(pickle.dumps(loaded))) == str(loaded)


def test_tensors_nobody_names_are_dropped_with_their_nodes():
    whole = small_graph()
    assert set(with_nodes(replace(whole, outputs=("y",)), whole.nodes[:1]).tensors) == {"x", "w", "y"}


def broken(position: int, **changes: object) -> Graph:
    """The small graph with a field of one node changed."""
    nodes = list(small_graph().nodes)
    nodes[position] = replace(nodes[position], **changes)
    return small_graph(nodes=tuple(nodes))


TENSORS = dict(small_graph().tensors)
FAULTS = {
    "out of order": (small_graph(nodes=small_graph().nodes[::-1]), "reads {'y'} too early"),
    "one name twice": (broken(1, name="m"), "two nodes are called m"),
    "one result twice": (broken(1, outputs=("y",)), "computes ('y',) again"),
    "nobody's result": (small_graph(nodes=small_graph().nodes[:1]), "nothing computes {'z'}"),
    "too few operands": (broken(0, inputs=("x",)), "matmul m has 1 operands"),
    "an attribute too many": (broken(1, attributes={"shape": (4,)}), "reshape r has attributes"),
    "an attribute too few": (broken(1, op="transpose"), "transpose r has attributes"),
    "movement to another type": (
        small_graph(tensors=TENSORS | {"z": replace(TENSORS["z"], dtype="s8")}), "reshape r changes the type"),
    "data of another shape": (
        small_graph(tensors=TENSORS | {"w": replace(TENSORS["w"], shape=(4,))}), "has data of shape (2, 2)"),
    "data of another type": (
        small_graph(tensors=TENSORS | {"w": replace(TENSORS["w"], dtype="u8")}), "has data of type int8"),
}  # fmt: skip


@pytest.mark.parametrize(("whole", "message"), FAULTS.values(), ids=FAULTS)
def test_a_broken_graph_is_found(whole, message):
    with pytest.raises(AssertionError) as caught:
        ops.check(whole)
    assert message in str(caught.value)


def test_constants_are_quantized_along_an_axis_and_by_blocks():
    real = np.array([[1.0, 1.0, 1.0, 1.0]], np.float32)
    two = Quantization(scale=np.array([[0.5, 0.25]], np.float32), zero_point=np.array([[0, 1]]), axis=1, block=2)
    assert quantize(real, two, "s8").tolist() == [[2, 2, 5, 5]]
    assert np.array_equal(dequantize(quantize(real, two, "s8"), two), real)
    rows = Quantization(scale=np.array([0.5, 0.25], np.float32), zero_point=np.array([0, 1]), axis=0)
    assert quantize(np.ones((2, 1), np.float32), rows, "s8").tolist() == [[2], [5]]


@pytest.mark.parametrize(("real", "integer"), [(np.nan, 0), (np.inf, 255), (-np.inf, 0), (0.25, 3), (0.75, 5)])
def test_constants_are_quantized_half_to_even_and_saturate(real, integer):
    assert quantize(np.array(real, np.float32), HALF, "u8") == integer
