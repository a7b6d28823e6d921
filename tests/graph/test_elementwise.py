"""Operators on two tensors, functions of one variable, and changes of scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from npusim import graph
from npusim.graph.pointwise import FUNCTIONS, Expression, Step
from npusim.graph.rules.expression import POINTWISE
from tests.graph.tiny import NUMPY, Builder, compare, operations, random_feeds

SCALES = (0.1, 0.05, 0.02, 0.0078125, 0.03125, 0.0313, 0.0077)
SHAPES = st.lists(st.sampled_from([1, 1, 2, 3]), max_size=3)


@settings(max_examples=150)
@given(
    a=SHAPES, b=SHAPES, op=st.sampled_from(["Add", "Add", "Mul"]), scales=st.tuples(*[st.sampled_from(SCALES)] * 3),
    zeros=st.tuples(*[st.integers(0, 255)] * 3), seed=st.integers(0, 9),
)  # fmt: skip
@example(a=[1, 3, 1], b=[2, 1, 3], op="Add", scales=(0.1, 0.05, 0.0313), zeros=(3, 200, 100), seed=0)
@example(a=[2, 1], b=[1], op="Add", scales=(0.1, 0.05, 0.0313), zeros=(3, 200, 100), seed=0)
@example(a=[], b=[2, 3], op="Add", scales=(0.1, 0.05, 0.0313), zeros=(3, 200, 100), seed=0)
def test_broadcasting_sums_and_products_equal_onnxruntime(a, b, op, scales, zeros, seed):
    shapes = [list(shape) for shape in (a, b)]
    for i in range(1, min(len(a), len(b)) + 1):  # extents that differ have to be 1
        if 1 not in (shapes[0][-i], shapes[1][-i]):
            shapes[1][-i] = shapes[0][-i]
    m = Builder()
    left = m.real_input("a", [*shapes[0]], scales[0], zeros[0])
    right = m.real_input("b", [*shapes[1]], scales[1], zeros[1])
    m.result(m.op(op, left, right), scales[2], zeros[2])
    for repeat in range(3):
        loaded, differing, _, _ = compare(m.model(), seed=3 * seed + repeat)
        assert operations(loaded) == [op.lower()]
        assert differing == 0


@pytest.mark.parametrize(
    ("a", "b", "exchanged"),
    [
        ((2, 3), (2, 3), False), ((1, 3, 1, 1), (2, 3, 4, 4), True), ((2, 3, 4, 4), (1, 3, 1, 1), False),
        ((), (2, 3), True), ((2, 3), (), False), ((3,), (2, 3), False), ((3, 1), (1, 4), True),
        ((2, 3, 1), (1, 3, 1), False), ((1, 3, 1), (2, 3, 1), False), ((1, 1, 1), (2, 3, 1), True),
        ((1,), (1,), True), ((5, 1), (1,), True),
    ],
)  # fmt: skip
def test_the_operands_of_an_add_stand_in_rounding_order(a, b, exchanged):
    m = Builder()
    m.result(m.op("Add", m.real_input("a", a), m.real_input("b", b)))
    (node,) = graph.load(m.model()).nodes
    assert node.inputs == (("b", "a") if exchanged else ("a", "b"))


@pytest.mark.parametrize("op", ["Sub", "Div", "Min", "Max", "Add", "Mul"])
@pytest.mark.parametrize("dtype", ["u8", "s8", "u16", "s16"])
def test_binary_operators_of_every_type(op, dtype):
    m = Builder()
    a, b = m.real_input("a", [3, 50], 0.05, 3, dtype), m.real_input("b", [50], 0.031, 9, dtype)
    m.result(m.op(op, a, b), 0.04, 7, dtype)
    loaded, differing, largest, total = compare(m.model(), plain=True)
    assert operations(loaded) == [op.lower()]
    if op in ("Add", "Mul"):  # onnxruntime's own float path rounds in another order than its integer kernel
        assert largest <= 1
    else:
        assert differing <= total / 50
        assert largest <= 1


def test_a_relu_behind_a_sum_is_its_clamp():
    m = Builder()
    total = m.op("Add", m.real_input("a", [20], 0.05, 128), m.real_input("b", [20], 0.02, 100))
    m.result(m.op("Relu", total), 0.05, 50)
    loaded, differing, _, _ = compare(m.model(), plain=True)
    assert operations(loaded) == ["add"]
    assert loaded.nodes[0].attributes["clamp"] == (50, 255)
    assert differing <= 1


@pytest.mark.parametrize("dtype", ["u8", "s16"])
@pytest.mark.parametrize(("number", "first", "op"), [(-np.inf, True, "min"), (-1e4, False, "min"), (1e4, True, "max")])
def test_a_mask_is_a_minimum_or_maximum(dtype, number, first, op):
    m = Builder()
    x = m.real_input("x", [3, 4, 50], 0.05, 100, dtype)
    stays = m.constant(m.random.random((4, 50)) < 0.5)
    operands = (x, m.constant(np.float32(number)))
    m.result(m.op("Where", stays, *(operands if first else operands[::-1])), 0.08, 90, dtype)
    loaded, differing, largest, _ = compare(m.model(), plain=True)
    assert operations(loaded) == [op]
    assert largest <= 1
    assert differing <= 3


# ------------------------------------------------------------------------------------------ functions of one variable


def chain(m: Builder, x: str, *steps: tuple) -> str:
    """Apply operators one behind another; a number is a constant operand on the right."""
    for op, *rest in steps:
        attributes = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        x = m.op(op, x, *(m.constant(np.float32(number)) for number in rest), **attributes)
    return x


def silu(m: Builder, x: str) -> str:
    return m.op("Mul", x, m.op("Sigmoid", x))


def gelu_erf(m: Builder, x: str) -> str:
    inner = chain(m, x, ("Div", math.sqrt(2)), ("Erf",), ("Add", 1.0))
    return chain(m, m.op("Mul", x, inner), ("Mul", 0.5))


def gelu_tanh(m: Builder, x: str) -> str:
    cube = chain(m, x, ("Pow", 3.0), ("Mul", 0.044715))
    inner = chain(m, m.op("Add", x, cube), ("Mul", math.sqrt(2 / math.pi)), ("Tanh",), ("Add", 1.0))
    return m.op("Mul", chain(m, x, ("Mul", 0.5)), inner)


def hard_swish(m: Builder, x: str) -> str:
    return m.op("Mul", x, m.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def tanh_of_softplus(m: Builder, x: str) -> str:
    return m.op("Mul", x, chain(m, x, ("Softplus",), ("Tanh",)))


def band(m: Builder, x: str) -> str:
    low, high = m.constant(np.float32(-1)), m.constant(np.float32(2))
    return m.op("And", m.op("LessOrEqual", x, high), m.op("Not", m.op("Less", x, low)))


PATTERNS = {
    "silu": (silu, "mul(x, sigmoid(x))"),
    "gelu of erf": (gelu_erf, "mul(mul(x, add(erf(div(x, 1.41421354)), 1)), 0.5)"),
    "gelu of tanh": (
        gelu_tanh,
        "mul(mul(x, 0.5), add(tanh(mul(add(x, mul(pow(x, 3), 0.0447149985)), 0.797884583)), 1))",
    ),
    "hard swish": (hard_swish, "mul(x, hard_sigmoid(x, 0.166666672, 0.5))"),
    "mish": (tanh_of_softplus, "mul(x, tanh(softplus(x)))"),
    "scale": (lambda m, x: chain(m, x, ("Mul", 0.25), ("Add", -1.0), ("Clip", -0.5, 2.0), ("Exp",)),
              "exp(clip(add(mul(x, 0.25), -1), -0.5, 2))"),
    "constant first": (lambda m, x: m.op("Sub", m.constant(np.float32(1)), x), "sub(1, x)"),
    "leaky": (lambda m, x: m.op("LeakyRelu", x, alpha=0.2), "leaky_relu(x, 0.200000003)"),
    "prelu": (lambda m, x: m.op("PRelu", x, m.constant(np.array([0.3], np.float32))), "leaky_relu(x, 0.300000012)"),
    "gelu": (lambda m, x: m.op("Gelu", x, approximate="tanh"), "gelu_tanh(x)"),
    "quick gelu": (lambda m, x: m.op("QuickGelu", x, domain="com.microsoft"), "quick_gelu(x, 1.70200002)"),
    "quantized constant": (
        lambda m, x: m.op("Erf", m.op("Mul", x, m.dequantize(np.array(5, np.int8), 0.25))), "erf(mul(x, 1.25))"),
    "log of sqrt": (lambda m, x: chain(m, x, ("Abs",), ("Sqrt",), ("Log",)), "log(sqrt(abs(x)))"),
    "threshold": (
        lambda m, x: m.op("Where", m.op("Greater", x, m.constant(np.float32(0.5))), x, m.constant(np.float32(-1))),
        "where(greater(x, 0.5), x, -1)"),
    "band": (lambda m, x: m.op("Mul", x, m.op("Cast", band(m, x), to=1)),
             "mul(x, and(less_or_equal(x, 2), not(less(x, -1))))"),
    "one of two": (
        lambda m, x: m.op("Where", m.op("Xor", m.op("GreaterOrEqual", x, m.constant(np.float32(1))),
                                        m.op("Equal", x, m.constant(np.float32(0)))), m.op("Neg", x), m.op("Abs", x)),
        "where(xor(greater_or_equal(x, 1), equal(x, 0)), neg(x), abs(x))"),
    "either": (
        lambda m, x: m.op("Cast", m.op("Or", m.op("Less", x, m.constant(np.float32(-3))),
                                       m.op("Greater", x, m.constant(np.float32(3)))), to=1),
        "or(less(x, -3), greater(x, 3))"),
    "through a dropout": (lambda m, x: m.op("Exp", m.op("Dropout", m.op("Tanh", x))), "exp(tanh(x))"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "text"), PATTERNS.values(), ids=PATTERNS)
def test_a_chain_of_pointwise_operators_is_one_table(build, text):
    m = Builder()
    m.result(build(m, m.real_input("x", [4000], 0.05, 100)), 0.02, 60)
    loaded, differing, largest, _ = compare(m.model(), plain=True)
    assert operations(loaded) == ["table"]
    assert str(loaded.nodes[0].attributes["expression"]) == text
    assert largest <= 1
    assert differing <= 40  # of 4000: about one table entry of 256 on a tie that float32 misses


SEVERAL_OPERANDS = {"BatchNormalization", "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Clip", "PRelu"}
LATER = {"Swish"}  # newer than what onnxruntime knows
NOT_DEFAULT = {"Shrink": {"bias": 0.25, "lambd": 0.5}}


@pytest.mark.parametrize("name", sorted(set(POINTWISE) - SEVERAL_OPERANDS - LATER))
def test_every_function_means_what_onnx_means(name):
    m = Builder(opset=22)
    domain, _, op = name.rpartition(".")
    x = m.real_input("x", [3000], 1 / 64, 100)
    m.result(m.op(op, x, domain=domain, **NOT_DEFAULT.get(name, {})), 1 / 32, 100)
    feeds = random_feeds(m.model())
    assert feeds["x"].min() == 0
    loaded, differing, largest, total = compare(m.model(), plain=True)
    assert operations(loaded) in (["table"], ["rescale"])
    assert largest <= 1, f"{differing} of {total}"
    assert differing <= total / 50


def test_swish_of_operator_set_24():
    m = Builder(opset=24)
    m.result(m.op("Swish", m.real_input("x", [8]), alpha=2.0))
    (node,) = graph.load(m.model()).nodes
    assert str(node.attributes["expression"]) == "quick_gelu(x, 2)"


def test_an_expression_names_what_it_uses_twice():
    steps = (Step("exp", (0,)), Step("add", (1, 1.0)), Step("div", (1, 2)))
    assert str(Expression(steps)) == "a = exp(x); div(a, add(a, 1))"
    assert float(Expression(steps)(np.zeros(()))) == 0.5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_arrays_and_extremes_without_a_warning(name):
    arity = {"clip": 3, "hard_sigmoid": 3, "selu": 3, "shrink": 3, "where": 3}.get(name, 2)
    if name in POINTWISE_OF_ONE:
        arity = 1
    x = np.array([-1e300, -1000.0, -1.0, 0.0, 1.0, 1000.0, 1e300])
    result = Expression((Step(name, (0, *[0.5] * (arity - 1))),))(x)
    assert result.shape == x.shape
    assert result.dtype == np.float64


POINTWISE_OF_ONE = {
    name for name in FUNCTIONS
    if name not in ("add", "and", "celu", "clip", "div", "elu", "equal", "greater", "greater_or_equal", "hard_sigmoid",
                    "leaky_relu", "less", "less_or_equal", "max", "min", "mul", "or", "pow", "quick_gelu", "selu",
                    "shrink", "sub", "thresholded_relu", "where", "xor")
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------ change of scale


@pytest.mark.parametrize("source", ["u8", "s8", "u16", "s16"])
@pytest.mark.parametrize("result", ["u8", "s8", "u16", "s16"])
def test_rescale_between_all_types(source, result):
    m = Builder()
    m.result(m.real_input("x", [2000], 0.05, 7, source), 0.031, 9, result)
    loaded, differing, _, _ = compare(m.model(), plain=True)
    assert operations(loaded) == ["rescale"]
    assert differing == 0
    assert NUMPY[result] == loaded.output_of(loaded.nodes[0]).numpy.type


def test_a_change_to_the_same_scale_is_nothing():
    m = Builder()
    x = m.quantize(m.quantize(m.input("x", [4]), 0.1, 3), 0.1, 3)
    m.output(x)
    assert operations(graph.load(m.model())) == ["quantize", "dequantize"]


def test_the_same_integers_read_with_two_scales():
    m = Builder()
    x = m.input("x", [6], "u8")
    for scale in (0.1, 0.25):
        m.output(m.op("DequantizeLinear", x, *m.parameters(scale, 3, "u8")))
    loaded, differing, _, _ = compare(m.model())
    assert operations(loaded) == ["dequantize", "reinterpret", "dequantize"]
    assert differing == 0
