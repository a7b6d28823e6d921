"""The float graph is simpler after optimization, and computes the same: onnxruntime compares both."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import models
from npusim.quant.errors import QuantizationError
from npusim.quant.optimize import check_same, optimize
from tests.graph.tiny import Builder
from tests.quant.floats import SeededImages


def optimized(builder: Builder, shape, fuse: bool = True) -> tuple[onnx.ModelProto, list[str]]:
    """The optimized model, compared with the original, and its operators."""
    model = builder.model()
    result = optimize(model, fuse=fuse).model
    feeds = {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    check_same(model, result, feeds)
    onnx.checker.check_model(result)
    return result, [node.op_type for node in result.graph.node]


def normalization(b: Builder, value: str, channels: int) -> str:
    random = b.random
    parameters = [random.uniform(0.5, 2, channels), random.normal(size=channels), random.normal(size=channels),
                  random.uniform(0.5, 2, channels)]  # fmt: skip
    names = [b.constant(parameter.astype(np.float32)) for parameter in parameters]
    return b.op("BatchNormalization", value, *names, epsilon=0.1)


def numbers(b: Builder, *shape: int) -> str:
    return b.constant(b.random.uniform(0.5, 1.5, shape).astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["Conv", "ConvTranspose"]),
    st.booleans(),
    st.lists(st.sampled_from(["BatchNormalization", "Mul", "Div", "Add", "Sub", "number"]), min_size=1, max_size=3),
    st.sampled_from([13, 17, 21]),
)
def test_whatever_scales_and_shifts_channels_joins_a_convolution(op, bias, followers, opset):
    b = Builder(opset)
    value = b.op(op, b.input("x", [2, 4, 5, 5]), numbers(b, *((6, 4) if op == "Conv" else (4, 6)), 3, 3),
                 *([numbers(b, 6)] if bias else []))  # fmt: skip
    for follower in followers:
        if follower == "BatchNormalization":
            value = normalization(b, value, 6)
        elif follower == "number":
            value = b.op("Mul", b.constant(np.float32(1.7)), value)
        else:
            value = b.op(follower, value, numbers(b, 6, 1, 1))
    b.output(value)
    result, ops = optimized(b, (2, 4, 5, 5))
    assert ops == [op]
    assert result.graph.node[0].output[0] == value


def test_a_layer_scale_joins_the_weights_and_the_bias_of_a_matmul():
    b = Builder()
    value = b.op("Add", b.op("MatMul", b.input("x", [2, 3, 4]), numbers(b, 4, 6)), numbers(b, 6))
    b.output(b.op("Mul", numbers(b, 6), value))
    assert optimized(b, (2, 3, 4))[1] == ["MatMul", "Add"]


def test_a_gemm_takes_in_what_follows():
    b = Builder()
    b.output(normalization(b, b.op("Gemm", b.input("x", [3, 4]), numbers(b, 6, 4), transB=1), 6))
    assert optimized(b, (3, 4))[1] == ["Gemm"]


def test_a_normalization_behind_no_product_becomes_a_depthwise_convolution():
    b = Builder()
    x = b.input("x", [1, 4, 3, 3])
    b.output(b.op("Relu", normalization(b, b.op("Relu", x), 4)))
    result, ops = optimized(b, (1, 4, 3, 3))
    assert ops == ["Relu", "Conv", "Relu"]
    (conv,) = (node for node in result.graph.node if node.op_type == "Conv")
    assert {a.name: onnx.helper.get_attribute_value(a) for a in conv.attribute}["group"] == 4


def test_a_value_with_another_reader_keeps_its_weights():
    b = Builder()
    inner = b.op("Conv", b.input("x", [1, 4, 3, 3]), numbers(b, 4, 4, 1, 1))
    b.output(b.op("Add", normalization(b, inner, 4), inner))
    assert optimized(b, (1, 4, 3, 3))[1] == ["Conv", "Conv", "Add"]  # the second is the normalization itself


def test_constants_that_differ_along_another_axis_stay():
    b = Builder()
    conv = b.op("Conv", b.input("x", [1, 4, 4, 4]), numbers(b, 4, 4, 1, 1))
    b.output(b.op("Mul", conv, numbers(b, 4)))  # along the width, which is as large as there are channels
    assert optimized(b, (1, 4, 4, 4))[1] == ["Conv", "Mul"]


def exact_gelu(b: Builder, x: str, spelling: int) -> str:
    erf = b.op("Erf", b.op("Div", x, b.constant(np.float32(2**0.5))))
    one = b.op("Add", erf, b.constant(np.float32(1)))
    half = b.constant(np.float32(0.5))
    if spelling == 0:
        return b.op("Mul", b.op("Mul", x, one), half)
    if spelling == 1:
        return b.op("Mul", b.op("Mul", x, half), one)
    return b.op("Mul", x, b.op("Mul", one, half))


def tanh_gelu(b: Builder, x: str, spelling: int) -> str:
    cube = b.op("Pow", x, b.constant(np.float32(3))) if spelling else b.op("Mul", b.op("Mul", x, x), x)
    inner = b.op("Add", x, b.op("Mul", cube, b.constant(np.float32(0.044715))))
    tanh = b.op("Tanh", b.op("Mul", inner, b.constant(np.float32((2 / np.pi) ** 0.5))))
    half = b.op("Mul", x, b.constant(np.float32(0.5)))
    return b.op("Mul", half, b.op("Add", b.constant(np.float32(1)), tanh))


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize(
    ("spell", "spelling", "old", "approximate"),
    [(exact_gelu, 0, "Gelu", "none"), (exact_gelu, 1, "Gelu", "none"), (exact_gelu, 2, "Gelu", "none"),
     (tanh_gelu, 0, "FastGelu", "tanh"), (tanh_gelu, 1, "FastGelu", "tanh")],
)  # fmt: skip
def test_gelu_is_recognised_in_every_spelling(spell, spelling, old, approximate, opset):
    b = Builder(opset)
    b.output(spell(b, b.input("x", [2, 8]), spelling))
    result, ops = optimized(b, (2, 8))
    assert ops == ["Gelu" if opset == 20 else old]
    (node,) = result.graph.node
    assert node.domain == ("" if opset == 20 else "com.microsoft")
    if opset == 20:
        assert onnx.helper.get_attribute_value(node.attribute[0]).decode() == approximate


def test_another_function_of_erf_is_no_gelu():
    b = Builder()
    x = b.input("x", [2, 8])
    erf = b.op("Erf", b.op("Div", x, b.constant(np.float32(1.5))))
    b.output(b.op("Mul", b.op("Mul", x, b.op("Add", erf, b.constant(np.float32(1)))), b.constant(np.float32(0.5))))
    assert "Gelu" not in optimized(b, (2, 8))[1]


def test_a_gelu_whose_inner_value_is_read_elsewhere_stays():
    b = Builder()
    x = b.input("x", [2, 8])
    erf = b.op("Erf", b.op("Div", x, b.constant(np.float32(2**0.5))))
    b.output(b.op("Mul", b.op("Mul", x, b.op("Add", erf, b.constant(np.float32(1)))), b.constant(np.float32(0.5))))
    b.output(b.op("Sqrt", b.op("Abs", erf)))
    assert "Gelu" not in optimized(b, (2, 8))[1]


def spelled_layer_norm(b: Builder, x: str) -> str:
    axes = b.constant(np.array([-1]))
    centred = b.op("Sub", x, b.op("ReduceMean", x, axes))
    variance = b.op("ReduceMean", b.op("Pow", centred, b.constant(np.float32(2))), axes)
    root = b.op("Sqrt", b.op("Add", variance, b.constant(np.float32(1e-5))))
    return b.op("Add", b.op("Mul", b.op("Div", centred, root), numbers(b, 8)), numbers(b, 8))


def test_a_spelled_layer_normalization_becomes_one():
    b = Builder()
    b.output(spelled_layer_norm(b, b.input("x", [2, 3, 8])))
    assert optimized(b, (2, 3, 8))[1] == ["LayerNormalization"]


@pytest.mark.parametrize("both", [False, True])
def test_the_factor_of_attention_goes_behind_the_product(both):
    b = Builder()
    x = b.input("x", [2, 3, 8])
    queries = b.op("Mul", b.op("Relu", x), b.constant(np.float32(0.25)))
    keys = b.op("Transpose", x, perm=[0, 2, 1])
    if both:
        keys = b.op("Div", keys, b.constant(np.float32(4)))
    result = b.output(b.op("MatMul", queries, keys))
    model, ops = optimized(b, (2, 3, 8))
    assert sorted(ops) == ["MatMul", "Mul", "Relu", "Transpose"]
    last = model.graph.node[-1]
    assert (last.op_type, last.output[0]) == ("Mul", result)
    (factor,) = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == last.input[1])
    assert float(factor) == (0.0625 if both else 0.25)


def test_a_negative_factor_stays_in_front():
    b = Builder()
    x = b.input("x", [2, 3, 8])
    b.output(b.op("MatMul", b.op("Mul", x, b.constant(np.float32(-1))), b.op("Transpose", x, perm=[0, 2, 1])))
    assert optimized(b, (2, 3, 8))[1][-1] == "MatMul"


def test_what_changes_nothing_goes_and_results_keep_their_names():
    b = Builder()
    value = b.op("Identity", b.op("Dropout", b.op("Relu", b.input("x", [4]))))
    b.output(value)
    result, ops = optimized(b, (4,))
    assert ops == ["Relu"]
    assert [output.name for output in result.graph.output] == [value]


def test_without_fusion_only_constants_are_folded():
    b = Builder()
    conv = b.op("Conv", b.input("x", [1, 4, 3, 3]), numbers(b, 4, 4, 1, 1))
    b.output(normalization(b, conv, 4))
    assert optimized(b, (1, 4, 3, 3), fuse=False)[1] == ["Conv", "BatchNormalization"]


def test_nodes_know_the_names_of_the_nodes_they_stand_for():
    b = Builder()
    b.output(spelled_layer_norm(b, b.input("x", [2, 3, 8])))
    model = b.model()
    found = optimize(model)
    (node,) = found.model.graph.node
    assert set(found.sources[node.name]) == {node.name for node in model.graph.node}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("resnet18", {"fold_bn": False}), ("swin_t", {"style": "timm"}),
                                               ("convnext_t", {}), ("mobilenet_v3_large", {})])  # fmt: skip
def test_models_of_the_zoo_compute_the_same_before_and_after(name, options):
    model = models.build(name, **options)
    found = optimize(model).model
    check_same(model, found, next(iter(SeededImages(model, 1))))
    assert not {"BatchNormalization", "Erf"} & Counter(node.op_type for node in found.graph.node).keys()


def test_a_model_that_computes_something_else_is_noticed():
    b = Builder()
    b.output(b.op("Mul", b.input("x", [4]), b.constant(np.float32(1.0))), "f32")
    other = Builder()
    other.output(other.op("Mul", other.input("x", [4]), other.constant(np.float32(1.01))))
    with pytest.raises(QuantizationError, match="the optimized float graph computes 'mul2' otherwise than the model"):
        check_same(b.model(), other.model(), {"x": np.ones(4, np.float32)})


def test_a_layer_scale_behind_a_transpose_joins_the_weights_in_front_of_it():
    b = Builder()
    value = b.op("Add", b.op("MatMul", b.input("x", [1, 2, 3, 4]), numbers(b, 4, 6)), numbers(b, 6))
    result = b.output(b.op("Mul", b.op("Transpose", value, perm=[0, 3, 1, 2]), numbers(b, 6, 1, 1)))
    model, ops = optimized(b, (1, 2, 3, 4))
    assert ops == ["MatMul", "Add", "Transpose"]
    assert model.graph.node[-1].output[0] == result
