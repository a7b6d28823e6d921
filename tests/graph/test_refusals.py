"""What cannot be lowered says why: node, operator, constraint, and a way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from npusim import graph
from npusim.graph import ModelError, UnsupportedError
from npusim.graph.ops import OPS
from npusim.graph.refusal import ENTRIES, sentence
from tests.graph import interpret
from tests.graph.tiny import Builder

W = np.ones((4, 4, 1, 1), np.int8)
TWO_FACTORS = "it needs two quantized operands; a scale per channel only along the columns of a constant second one"


def conv(m: Builder, *inputs: str, **attributes: object) -> str:
    return m.op("Conv", *inputs, **attributes)


# operator: the constraint that fails, and a model in which it does
CASES: dict[str, tuple[str, str, Callable[[Builder], str]]] = {
    "real operand": (
        "Conv", "it needs a quantized first input: 8- or 16-bit integers of one scale, through a DequantizeLinear",
        lambda m: conv(m, m.input("x", [1, 4, 2, 2]), m.dequantize(W, 0.1))),
    "live weights": (
        "Conv", "it needs constant weights of 8 bits (or s16), quantized per tensor or per output channel",
        lambda m: conv(m, m.real_input("x", [1, 4, 2, 2]), m.real_input("w", [4, 4, 1, 1]))),
    "scale per input channel": (
        "Conv", "it needs constant weights of 8 bits (or s16), quantized per tensor or per output channel",
        lambda m: conv(m, m.real_input("x", [1, 4, 2, 2]), m.dequantize(W, np.ones(4, np.float32), axis=1))),
    "volume": (
        "Conv", "it needs an input of shape [N, C, W] or [N, C, H, W]",
        lambda m: conv(m, m.real_input("x", [1, 4, 2, 2, 2]), m.dequantize(W[..., None], 0.1))),
    "live bias": (
        "Conv", "it needs a constant bias, or none",
        lambda m: conv(m, m.real_input("x", [1, 4, 2, 2]), m.dequantize(W, 0.1), m.input("b", [4]))),
    "scale per input channel of a transposed convolution": (
        "ConvTranspose", "it needs constant weights of 8 bits (or s16), quantized per tensor or per output channel",
        lambda m: m.op("ConvTranspose", m.real_input("x", [1, 4, 2, 2]),
                       m.dequantize(W, np.ones(len(W), np.float32), axis=0))),
    "automatic padding of a transposed convolution": (
        "ConvTranspose", "it needs explicit pads, without auto_pad and output_shape",
        lambda m: m.op("ConvTranspose", m.real_input("x", [1, 4, 2, 2]), m.dequantize(W, 0.1), auto_pad="SAME_UPPER")),
    "scale per row": (
        "MatMul", TWO_FACTORS,
        lambda m: m.op("MatMul", m.real_input("x", [3, 4]),
                       m.dequantize(W[:, :, 0, 0], np.ones(4, np.float32), axis=0))),
    "vector": (
        "MatMul", "it needs operands of at least two dimensions",
        lambda m: m.op("MatMul", m.real_input("x", [4]), m.dequantize(W[:, :, 0, 0], 0.1))),
    "offset per row": (
        "Gemm", "it needs a constant C that is the same for every row, or none",
        lambda m: m.op("Gemm", m.real_input("x", [3, 4]), m.dequantize(W[:, :, 0, 0], 0.1),
                       m.constant(np.ones((3, 1), np.float32)))),
    "one real operand": (
        "Add", "it needs two quantized inputs of one scale each, or a product and its constant bias",
        lambda m: m.op("Add", m.real_input("x", [3, 4]), m.constant(np.ones((3, 4), np.float32)))),
    "two variables": (
        "Pow", "it computes on two live tensors between quantizations",
        lambda m: m.op("Pow", m.real_input("x", [3]), m.real_input("y", [3]))),
    "numbers of several elements": (
        "Pow", "it needs a number, or one for each index of an axis, as its constant operand",
        lambda m: m.op("Pow", m.real_input("x", [3, 2]), m.constant(np.ones((3, 2), np.float32)))),
    "a function of a product": (
        "MatMul", "its result stays real: it needs a QuantizeLinear behind it",
        lambda m: m.op("Tanh", m.op("MatMul", m.real_input("x", [3, 4]), m.real_input("y", [4, 2])))),
    "live gain": (
        "LayerNormalization", "it needs a constant gain, and a constant offset where it has one",
        lambda m: m.op("LayerNormalization", m.real_input("x", [3, 4]), m.input("g", [4]))),
    "nothing to add to the variance": (
        "LayerNormalization", "it needs an epsilon above 0",
        lambda m: m.op("LayerNormalization", m.real_input("x", [3, 4]), m.constant(np.ones(4, np.float32)),
                       epsilon=0.0)),
    "second result": (
        "LayerNormalization", "it needs only its first output to be used",
        lambda m: second_result(m, m.op("LayerNormalization", m.real_input("x", [3, 4]),
                                        m.constant(np.ones(4, np.float32)), outputs=2))),
    "pool of a matrix": (
        "GlobalAveragePool", "it needs an input with at least one spatial axis behind N and C",
        lambda m: m.op("GlobalAveragePool", m.real_input("x", [3, 4]))),
    "border beyond the scale": (
        "Pad", "it needs a border value that the scale of its input can express, not 0.33000001311302185",
        lambda m: m.op("Pad", m.real_input("x", [3], 0.25), m.constant(np.array([1, 1])),
                       m.constant(np.float32(0.33)))),
    "negative border": (
        "Pad", "it needs pads of at least 0",
        lambda m: m.op("Pad", m.real_input("x", [3]), m.constant(np.array([-1, 0])))),
    "another border": (
        "Pad", "it needs the mode constant, edge or reflect",
        lambda m: m.op("Pad", m.real_input("x", [3]), m.constant(np.array([1, 1])), mode="wrap")),
    "indices out of range": (
        "Gather", "it needs indices within the 3 entries of axis 0",
        lambda m: m.op("Gather", m.real_input("x", [3]), m.constant(np.array([3])))),
    "a part without a name": (
        "Split", "it needs names for all of its outputs",
        lambda m: second_part(m, m.op("Split", m.real_input("x", [4]), m.constant(np.array([1, 3])), outputs=2))),
    "an operator on the model's own integers": (
        "Add", "it needs a DequantizeLinear in front of it and a QuantizeLinear behind it",
        lambda m: m.op("DequantizeLinear", m.op("Add", m.input("x", [3], "u8"), m.input("y", [3], "u8")),
                       *m.parameters(0.1, 3, "u8"))),
    "an unknown operator": (
        "GridSample", "it has no integer operation",
        lambda m: m.op("GridSample", m.real_input("x", [1, 1, 2, 2]), m.real_input("g", [1, 2, 2, 2]))),
}  # fmt: skip


def second_part(m: Builder, values: list[str]) -> str:
    m.nodes[-1].output[0] = ""
    return values[1]


def second_result(m: Builder, values: list[str]) -> str:
    m.output(values[1])
    return values[0]


@pytest.mark.parametrize(("op", "constraint", "build"), CASES.values(), ids=CASES)
def test_the_reason_names_node_operator_and_constraint(op, constraint, build):
    m = Builder()
    m.result(build(m))
    loaded = graph.load(m.model())
    reasons = {(node.attributes["blame_op"], node.attributes["reason"]) for node in loaded.cpu_nodes}
    assert (op, constraint) in reasons
    with pytest.raises(UnsupportedError) as caught:
        graph.require_integer(loaded)
    error = caught.value
    assert str(error) == f"node {error.node!r} ({error.op}): {error.constraint}; {error.way_out}"
    assert error.node in {node.name for node in m.nodes}


def test_an_attribute_that_nobody_knows_is_not_ignored():
    m = Builder()
    m.result(m.op("Sigmoid", m.real_input("x", [3])))
    model = m.model()
    model.graph.node[-2].attribute.add(name="steepness", type=1, f=2.0)
    with pytest.raises(ModelError, match="Unrecognized attribute: steepness"):
        graph.load(model)


def test_an_attribute_that_the_rule_does_not_know_is_not_ignored(monkeypatch):
    m = Builder()
    m.result(m.op("AveragePool", m.real_input("x", [1, 1, 4, 4]), kernel_shape=[2, 2], ceil_mode=1))
    monkeypatch.setitem(ENTRIES, "AveragePool", replace(ENTRIES["AveragePool"], attributes=frozenset({"kernel_shape"})))
    (node,) = graph.load(m.model()).cpu_nodes
    assert node.attributes["reason"] == "its attribute 'ceil_mode' is not understood"


@pytest.mark.parametrize("scale", ["live", "half"])
def test_a_quantization_without_a_known_scale_runs_on_the_cpu(scale):
    m = Builder()
    dtype = np.float32 if scale == "live" else np.float16
    name = m.input("s", []) if scale == "live" else m.constant(np.array(0.5, dtype))
    x = m.input("x", [3]) if scale == "live" else m.constant(np.ones(3, dtype))
    m.output(m.op("QuantizeLinear", x, name), "u8")
    (node,) = graph.load(m.model()).cpu_nodes
    assert "constant float32 scale" in node.attributes["reason"]


def test_a_graph_of_integer_operations_passes():
    m = Builder()
    m.result(m.op("Sigmoid", m.real_input("x", [3])))
    loaded = graph.load(m.model())
    assert graph.require_integer(loaded) is loaded


def test_every_constraint_reads_as_a_sentence():
    for entry in ENTRIES.values():
        for constraint in entry.constraints:
            words = sentence(constraint)
            assert constraint.__doc__, constraint.__name__
            assert words.startswith("it needs ")
            assert not words.endswith(".")


def test_the_support_table_names_the_operators_of_the_zoo():
    table = dict(graph.support_table())
    zoo = """Add AveragePool Clip Concat Conv ConvTranspose Div Erf Flatten Gather Gelu Gemm GlobalAveragePool
             HardSigmoid HardSwish LayerNormalization MatMul MaxPool Mul Pad ReduceMean Relu Reshape Resize Sigmoid
             Slice Softmax Split Squeeze Sub Tanh Transpose Unsqueeze QLinearConv ConvInteger com.microsoft.QGemm"""
    assert set(zoo.split()) <= table.keys()
    assert table["Conv"][-1] == "it needs a constant bias, or none"
    assert list(table) == sorted(table)


def test_every_operation_has_a_meaning_in_words_and_one_in_numpy():
    assert OPS.keys() == interpret.OPERATIONS.keys()
    assert all(operation.meaning.endswith(".") for operation in OPS.values())
