"""Softmax, normalizations, pools, reductions and linear resizing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from npusim import graph
from tests.graph.interpret import run
from tests.graph.tiny import Builder, compare, onnxruntime_values, operations, random_feeds


def const(m: Builder, *values: int) -> str:
    return m.constant(np.array(values, np.int64))


def close(m: Builder, *expected: str, share: float = 0.0) -> graph.Graph:
    """Equal to onnxruntime's float path but for ``share`` of the outputs, by 1."""
    loaded, differing, largest, total = compare(m.model(), plain=True)
    assert operations(loaded) == list(expected)
    assert largest <= 1
    assert differing <= share * total, f"{differing} of {total}"
    return loaded


# ------------------------------------------------------------------------------------------------------------ softmax


@pytest.mark.parametrize("dtype", ["u8", "s8"])
def test_softmax_of_256_steps_equals_onnxruntime(dtype):
    m = Builder()
    x = m.real_input("x", [20, 49], 0.03, 5, dtype)
    m.result(m.op("Softmax", x), 1 / 256, 0 if dtype == "u8" else -128, dtype)
    loaded, differing, _, _ = compare(m.model())
    assert operations(loaded) == ["softmax"]
    assert differing == 0


def test_softmax_along_another_axis():
    m = Builder()
    m.result(m.op("Softmax", m.real_input("x", [2, 5, 3, 4]), axis=1), 1 / 256)
    loaded = close(m, "transpose", "softmax", "transpose", share=0.02)
    assert loaded.nodes[0].attributes == loaded.nodes[2].attributes == {"permutation": (0, 3, 2, 1)}


def test_softmax_before_opset_13_joins_the_axes_behind():
    m = Builder(opset=12)
    m.result(m.op("Softmax", m.real_input("x", [3, 4, 5]), axis=1), 1 / 256)
    loaded = close(m, "reshape", "softmax", "reshape", share=0.02)
    assert loaded.output_of(loaded.nodes[1]).shape == (3, 20)


def test_softmax_of_16_bits():
    m = Builder()
    m.result(m.op("Softmax", m.real_input("x", [6, 30], 0.0003, 0, "s16")), 1 / 65536, 0, "u16")
    close(m, "softmax", share=0.01)


# ----------------------------------------------------------------------------------------------------- normalizations


def gains(m: Builder, *shape: int) -> list[str]:
    return [m.constant(m.random.normal(size=shape).astype(np.float32)) for _ in range(2)]


def test_layer_norm():
    m = Builder()
    m.result(m.op("LayerNormalization", m.real_input("x", [7, 96], 0.05, 120), *gains(m, 96)), 0.03, 128)
    loaded = close(m, "layer_norm")
    assert loaded.nodes[0].attributes == {"epsilon": float(np.float32(1e-5))}
    assert [loaded.tensor(name).dtype for name in loaded.nodes[0].inputs] == ["u8", "f32", "f32"]


def test_layer_norm_over_several_axes_with_quantized_gain():
    m = Builder()
    gain = m.dequantize(m.random.integers(-127, 127, (4, 6)).astype(np.int8), 0.01)
    x = m.real_input("x", [2, 3, 4, 6], 0.05, 120)
    m.result(m.op("LayerNormalization", x, gain, axis=2, epsilon=1e-3), 0.03, 128)
    loaded = close(m, "reshape", "layer_norm", "reshape")
    assert loaded.tensor(loaded.nodes[1].inputs[1]).shape == (24,)


def spelled_layer_norm(m: Builder, x: str, *, form: str, axis: int = -1) -> str:
    axes: dict = {"axes": [axis]} if m.opset < 18 else {}
    inputs = () if m.opset < 18 else (const(m, axis),)

    def mean(value: str) -> str:
        return m.op("ReduceMean", value, *inputs, **axes)

    centred = m.op("Sub", x, mean(x))
    again = m.op("Sub", x, mean(x)) if form == "two differences" else centred
    square = m.op("Mul", again, again) if form == "product" else m.op("Pow", again, m.constant(np.float32(2)))
    total = m.op("Add", mean(square), m.constant(np.float32(1e-6)))
    if form == "reciprocal":
        result = m.op("Mul", m.op("Reciprocal", m.op("Sqrt", total)), centred)
    elif form == "power":
        result = m.op("Mul", centred, m.op("Pow", total, m.constant(np.float32(-0.5))))
    else:
        result = m.op("Div", centred, m.op("Sqrt", total))
    gain, offset = gains(m, 48)
    if form == "bare":
        return result
    return m.op("Add", m.op("Mul", gain, result), offset)


FORMS = ["power of two", "product", "two differences", "reciprocal", "power", "bare"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("opset", [13, 21])
def test_a_layer_norm_spelled_out_in_real_operators(form, opset):
    m = Builder(opset)
    m.result(spelled_layer_norm(m, m.real_input("x", [5, 48], 0.05, 120), form=form), 0.03, 128)
    loaded = close(m, "layer_norm", share=0.001)
    assert loaded.nodes[0].attributes["epsilon"] == pytest.approx(1e-6)
    assert len(loaded.nodes[0].source) >= 7


def test_a_layer_norm_whose_inside_is_used_elsewhere_stays():
    m = Builder()
    spelled = spelled_layer_norm(m, m.real_input("x", [5, 48], 0.05, 120), form="power of two")
    m.result(spelled, 0.03, 128)
    inner = next(node for node in m.nodes if node.op_type == "Sub").output[0]
    m.output(inner)
    assert graph.load(m.model()).cpu_nodes


def test_a_layer_norm_over_another_axis_is_none():
    m = Builder()
    m.result(spelled_layer_norm(m, m.real_input("x", [5, 48], 0.05, 120), form="bare", axis=0), 0.03, 128)
    assert "layer_norm" not in operations(graph.load(m.model()))


def test_a_layer_norm_that_is_used_without_its_gain_stays_one():
    m = Builder()
    bare = spelled_layer_norm(m, m.real_input("x", [5, 48], 0.05, 120), form="bare")
    m.result(bare, 0.03, 128)
    m.result(m.op("Mul", bare, gains(m, 48)[0]), 0.03, 128)
    loaded = graph.load(m.model())
    assert "layer_norm" in operations(loaded)
    assert {op for node in loaded.cpu_nodes for op in node.attributes["ops"]} == {"LayerNormalization", "Mul"}


def test_a_layer_norm_with_integers_inside_is_its_operators():
    m = Builder()
    x = m.real_input("x", [5, 48], 0.05, 120)
    mean = m.quantize(m.op("ReduceMean", x, const(m, -1)), 0.05, 120)
    centred = m.quantize(m.op("Sub", x, mean), 0.05, 128)
    square = m.quantize(m.op("Pow", centred, m.constant(np.float32(2))), 0.2, 0)
    variance = m.quantize(m.op("ReduceMean", square, const(m, -1)), 0.1, 0)
    root = m.quantize(m.op("Sqrt", m.op("Add", variance, m.constant(np.float32(1e-5)))), 0.02, 0)
    m.result(m.op("Div", centred, root), 0.03, 128)
    close(m, "reduce_mean", "sub", "table", "reduce_mean", "table", "div", share=0.05)


@pytest.mark.parametrize(("groups", "equal", "norms"), [(2, False, 2), (4, True, 1)])
def test_group_norm(groups, equal, norms):
    m = Builder()
    x = m.real_input("x", [3, 8, 5, 4], 0.05, 120)
    gain = np.full(8, 1.25) if equal else m.random.uniform(0.5, 1.5, 8)
    offset = np.zeros(8) if equal else m.random.normal(size=8)
    operands = [m.constant(array.astype(np.float32)) for array in (gain, offset)]
    m.result(m.op("GroupNormalization", x, *operands, num_groups=groups), 0.03, 128)
    loaded, differing, largest, _ = compare(m.model(), plain=True)
    assert operations(loaded).count("layer_norm") == norms
    assert largest <= 1
    assert differing <= 2


def test_instance_norm():
    m = Builder()
    x = m.real_input("x", [2, 6, 30], 0.05, 120)
    operands = [m.constant(m.random.uniform(0.5, 1.5, 6).astype(np.float32)) for _ in range(2)]
    m.result(m.op("InstanceNormalization", x, *operands, epsilon=1e-3), 0.03, 128)
    loaded, differing, largest, _ = compare(m.model(), plain=True)
    assert operations(loaded).count("layer_norm") == 6
    assert largest <= 1
    assert differing <= 2


def test_lp_norm_and_a_row_of_zeros():
    m = Builder()
    m.result(m.op("LpNormalization", m.real_input("x", [50, 24], 0.05, 120), axis=-1, p=2), 1 / 128, 128)
    loaded, differing, largest, _ = compare(m.model(), plain=True)
    assert operations(loaded) == ["rms_norm"]
    assert largest <= 1
    assert differing <= 2
    zeros = run(loaded, {"x": np.full((50, 24), 120, np.uint8)})
    assert np.unique(zeros[loaded.outputs[0]]).tolist() == [128]


def test_other_lengths_are_refused():
    m = Builder()
    m.result(m.op("LpNormalization", m.real_input("x", [5, 4], 0.05, 120), axis=0, p=2))
    with pytest.raises(graph.UnsupportedError, match="it needs p = 2 and the last axis"):
        graph.require_integer(graph.load(m.model()))


def test_rms_norm_fused_and_spelled_out():
    for spelled in (False, True):
        m = Builder()
        x = m.real_input("x", [5, 48], 0.05, 120)
        gain, _ = gains(m, 48)
        if spelled:
            mean = m.op("ReduceMean", m.op("Pow", x, m.constant(np.float32(2))), const(m, -1))
            root = m.op("Sqrt", m.op("Add", mean, m.constant(np.float32(1e-6))))
            value = m.op("Mul", m.op("Div", x, root), gain)
        else:
            value = m.op("SimplifiedLayerNormalization", x, gain, epsilon=1e-6)
        m.result(value, 0.03, 128)
        close(m, "rms_norm", share=0.001)


# -------------------------------------------------------------------------------------------------------------- pools


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("ceiling", [0, 1])
def test_average_pool(counted, ceiling):
    m = Builder()
    x = m.real_input("x", [2, 3, 8, 7], 0.05, 100)
    place = {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 3]}
    m.result(m.op("AveragePool", x, count_include_pad=counted, ceil_mode=ceiling, **place), 0.04, 90)
    # onnxruntime's integer kernel divides by the whole kernel where ceil_mode goes beyond the padding, against ONNX
    loaded, differing, _, _ = compare(m.model(), plain=bool(counted and ceiling))
    assert operations(loaded) == ["average_pool"]
    assert loaded.nodes[0].attributes["count_padding"] == counted
    assert differing == 0


def test_average_pool_of_rows():
    m = Builder()
    m.result(m.op("AveragePool", m.real_input("x", [2, 3, 9]), kernel_shape=[3], strides=[2]), 0.04, 90)
    close(m, "reshape", "average_pool", "reshape", share=0.02)


@pytest.mark.parametrize("shape", [[2, 5, 7, 6], [2, 5, 9]])
def test_global_average_pool(shape):
    m = Builder()
    m.result(m.op("GlobalAveragePool", m.real_input("x", shape, 0.05, 100)), 0.01, 128)
    loaded, differing, _, _ = compare(m.model())
    assert [op for op in operations(loaded) if op != "reshape"] == ["global_average_pool"]
    assert differing == 0


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize(("axes", "keepdims"), [((1,), 1), ((-1, 1), 0), ((), 1)])
@pytest.mark.parametrize("opset", [17, 21])
def test_reductions(op, axes, keepdims, opset):
    m = Builder(opset)
    x = m.real_input("x", [3, 8, 5], 0.05, 100)
    as_input = opset >= 18 or op == "ReduceSum"
    if as_input:
        value = m.op(op, x, *([const(m, *axes)] if axes else []), keepdims=keepdims)
    else:
        value = m.op(op, x, keepdims=keepdims, **({"axes": axes} if axes else {}))
    m.result(value, 0.5 if op == "ReduceSum" else 0.04, 120)
    loaded = close(m, "reduce_" + op[6:].lower(), share=0.1)
    wanted = tuple(sorted(axis % 3 for axis in axes)) or (0, 1, 2)
    assert loaded.nodes[0].attributes == {"axes": wanted, "keepdims": keepdims}


def test_a_reduction_over_no_axes_is_a_change_of_scale():
    m = Builder()
    m.result(m.op("ReduceSum", m.real_input("x", [3, 8]), const(m), noop_with_empty_axes=1), 0.07)
    close(m, "rescale")


def test_global_max_pool():
    m = Builder()
    m.result(m.op("GlobalMaxPool", m.real_input("x", [2, 3, 4, 5], 0.05, 100)), 0.06, 90)
    close(m, "reduce_max")


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_positions_of_extremes(op, last):
    m = Builder()
    x = m.real_input("x", [6, 40], 0.5, 3)
    m.output(m.op(op, x, axis=1, keepdims=0, select_last_index=last), "s64")
    close(m, "arg_max" if op == "ArgMax" else "arg_min")


# ------------------------------------------------------------------------------------------------------------- resize

TRANSFORMS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("scales", "sizes"), [((1, 1, 2, 2), None), ((1, 1, 0.7, 1.7), None), (None, (1, 2, 7, 1))])
@pytest.mark.parametrize("mode", ["linear", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_resize(transform, scales, sizes, mode):
    m = Builder()
    x = m.real_input("x", [1, 2, 5, 6], 0.05, 100)
    empty = m.constant(np.zeros(0, np.float32))
    where = (
        (empty, m.constant(np.array(scales, np.float32))) if scales
        else (empty, empty, m.constant(np.array(sizes, np.int64)))
    )  # fmt: skip
    how = {"mode": "linear"} if mode == "linear" else {"mode": "nearest", "nearest_mode": mode}
    m.result(m.op("Resize", x, *where, coordinate_transformation_mode=transform, **how), 0.05, 100)
    close(m, "resize", share=0.03 if mode == "linear" else 0)


def test_a_resize_names_its_axes():
    m = Builder()
    scales = m.constant(np.array([1.5, 2], np.float32))
    m.result(m.op("Resize", m.real_input("x", [1, 2, 4, 6]), "", scales, axes=[-1, 2], mode="linear"))
    loaded = close(m, "resize", share=0.03)
    assert loaded.output_of(loaded.nodes[0]).shape == (1, 2, 8, 9)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"mode": "cubic"}, "it needs the mode nearest or linear"),
        ({"mode": "linear", "antialias": 1}, "it needs antialias and exclude_outside to be off"),
        ({"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}, "another coordinate_transf"),
    ],
)
def test_other_ways_to_resize_are_refused(attributes, message):
    m = Builder()
    scales = m.constant(np.array([1, 1, 2, 2], np.float32))
    roi = m.constant(np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32))
    m.result(m.op("Resize", m.real_input("x", [1, 2, 5, 6]), roi, scales, **attributes))
    (node,) = graph.load(m.model()).cpu_nodes
    assert message in node.attributes["reason"]


def test_a_resize_that_keeps_its_proportions_is_refused():
    m = Builder()
    sizes = m.constant(np.array([10, 18]))
    x = m.real_input("x", [1, 2, 5, 6])
    m.result(m.op("Resize", x, "", "", sizes, axes=[2, 3], mode="linear", keep_aspect_ratio_policy="not_larger"))
    (node,) = graph.load(m.model()).cpu_nodes
    assert node.attributes["reason"] == "it needs the keep_aspect_ratio_policy stretch"


def test_a_resize_of_channels_is_refused():
    m = Builder()
    m.result(m.op("Resize", m.real_input("x", [1, 2, 5, 6]), "", m.constant(np.array([1, 2, 2, 2], np.float32))))
    (node,) = graph.load(m.model()).cpu_nodes
    assert "whose N and C stay" in node.attributes["reason"]


# ---------------------------------------------------------------------------------------------------- CPU subgraphs


def test_what_cannot_be_lowered_runs_on_the_cpu_with_the_same_result():
    m = Builder()
    x = m.real_input("x", [3, 16], 0.05, 100)
    product = m.op("MatMul", x, m.dequantize(m.random.integers(-9, 9, (16, 16)).astype(np.int8), 0.02))
    value = m.op("Add", m.op("Sigmoid", product), m.op("Einsum", x, equation="ij->ij"))
    y = m.quantize(m.op("TopK", value, const(m, 4), outputs=2)[0], 0.02, 30)
    m.result(m.op("Relu", y), 0.02, 30)
    loaded = graph.load(m.model())
    assert operations(loaded)[-2:] == ["quantize", "rescale"]
    (node,) = loaded.cpu_nodes
    assert set(node.attributes["ops"]) >= {"Einsum", "TopK", "Add", "Sigmoid"}
    onnx.checker.check_model(onnx.load_from_string(node.attributes["model"]))
    feeds = random_feeds(m.model())
    found, expected = run(loaded, feeds), onnxruntime_values(m.model(), feeds, plain=True)
    for name, array in expected.items():
        assert np.abs(found[name].astype(int) - array.astype(int)).max() <= 1


def test_a_value_that_several_subgraphs_need_is_computed_once():
    m = Builder()
    x = m.real_input("x", [3, 16], 0.05, 100)
    shared = m.op("Einsum", x, equation="ij->ij")
    m.result(m.op("CumSum", shared, m.constant(np.array(1))))
    m.result(m.op("CumSum", shared, m.constant(np.array(0))))
    loaded = graph.load(m.model())
    assert sorted(node.attributes["ops"] for node in loaded.cpu_nodes) == [("CumSum",), ("CumSum",), ("Einsum",)]


def test_a_subgraph_bears_the_oldest_stamp_that_means_the_same():
    m = Builder(opset=onnx.defs.onnx_opset_version())  # newer than what onnxruntime knows
    m.output(m.op("Hardmax", m.op("Relu", m.input("x", [2, 3]))))
    (node,) = graph.load(m.model()).nodes
    (stamp,) = (
        entry.version for entry in onnx.load_from_string(node.attributes["model"]).opset_import if not entry.domain
    )
    assert stamp == 14  # of Relu; that of Hardmax is 13


def test_all_results_of_an_operator_come_from_one_subgraph():
    m = Builder()
    values, indices = m.op("TopK", m.real_input("x", [3, 16], 0.05, 100), const(m, 4), outputs=2)
    m.result(values)
    m.output(indices, "s64")
    loaded, differing, _, _ = compare(m.model())
    (node,) = loaded.cpu_nodes
    assert set(node.outputs) == {values, indices}
    assert differing == 0


def test_scales_made_from_the_data_stay_on_the_cpu():
    m = Builder()
    x = m.input("x", [5, 16])
    q, scale, zero = m.op("DynamicQuantizeLinear", x, outputs=3)
    w = m.constant(m.random.integers(-128, 128, (16, 4)).astype(np.int8))
    product = m.op("Cast", m.op("MatMulInteger", q, w, zero), to=1)
    m.output(m.op("Mul", product, m.op("Mul", scale, m.constant(np.float32(0.01)))))
    loaded, differing, _, _ = compare(m.model())
    assert "DynamicQuantizeLinear" in {op for node in loaded.cpu_nodes for op in node.attributes["ops"]}
    reasons = {node.attributes["blame_op"]: node.attributes["reason"] for node in loaded.cpu_nodes}
    assert reasons["MatMulInteger"] == "it needs constant zero points"
    assert differing == 0


def test_a_long_chain_of_real_operators_is_one_subgraph():
    m = Builder()
    x = m.input("x", [2, 2])
    for _ in range(3000):
        x = m.op("Einsum", x, equation="ij->ji")
    m.output(x)
    (node,) = graph.load(m.model()).nodes
    assert len(node.attributes["ops"]) == 3000


def test_a_deep_residual_chain_of_real_operators_does_not_recurse():
    m = Builder()
    x = m.input("x", [2, 2])
    for _ in range(1500):
        x = m.op("Add", x, m.op("Einsum", x, equation="ij->ji"))
    m.output(x)
    assert len(graph.load(m.model()).cpu_nodes) >= 1
