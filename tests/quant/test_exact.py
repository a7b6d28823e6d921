"""Sessions are exact on every CPU: weights that would saturate give the sums NumPy gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from npusim.quant import exact

ROWS, DEPTH, COLUMNS = 5, 37, 6


def product(
    a_type, *, batched: bool, zero: int | None, integer: bool
) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """A product with extreme operands, as MatMulInteger or as QDQ with scales of one, and what it has to give."""
    rng = np.random.default_rng([batched, zero or 0, integer])
    a = rng.choice([np.iinfo(a_type).max, np.iinfo(a_type).min], (2, ROWS, DEPTH), p=[0.9, 0.1]).astype(a_type)
    b = rng.choice([127, 126, -128], ((2, DEPTH, COLUMNS) if batched else (DEPTH, COLUMNS)), p=[0.8, 0.1, 0.1])
    b = b.astype(np.int8)
    expected = a.astype(np.int64) @ (b.astype(np.int64) - (zero or 0))
    constants = [numpy_helper.from_array(b, "b"), numpy_helper.from_array(np.array(0, a_type), "az")]
    zeros = [] if zero is None else ["bz"]
    constants += [numpy_helper.from_array(np.array(zero, np.int8), name) for name in zeros]
    if integer:
        nodes = [helper.make_node("MatMulInteger", ["a", "b", "az", *zeros], ["y"])]
        kind = TensorProto.INT32
    else:
        constants.append(numpy_helper.from_array(np.float32(1), "one"))
        constants.append(numpy_helper.from_array(np.float32(2.0**14), "step"))
        nodes = [
            helper.make_node("DequantizeLinear", ["a", "one", "az"], ["ar"]),
            helper.make_node("DequantizeLinear", ["b", "one", *zeros], ["br"]),
            helper.make_node("MatMul", ["ar", "br"], ["yr"]),
            helper.make_node("QuantizeLinear", ["yr", "step", "az"], ["y"]),
        ]
        info = np.iinfo(a_type)
        expected = np.clip(np.rint(expected / 2.0**14), info.min, info.max)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(a_type))
    inputs = [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(np.dtype(a_type)), a.shape)]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", kind, None)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), a, expected


@pytest.mark.parametrize("zero", [None, 0, 9])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("a_type", [np.uint8, np.int8])
def test_products_keep_every_sum(a_type, integer, batched, zero):
    model, a, expected = product(a_type, batched=batched, zero=zero, integer=integer)
    (found,) = exact.session(model).run(None, {"a": a})
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("integer", [False, True])
def test_shifted_weights_are_the_same_numbers(integer):
    model, a, expected = product(np.uint8, batched=True, zero=9, integer=integer)
    shifted = exact.with_unsigned_weights(model)
    assert TensorProto.UINT8 in [tensor.data_type for tensor in shifted.graph.initializer if len(tensor.dims) == 3]
    (found,) = exact.session(shifted, optimized=integer).run(None, {"a": a})
    assert np.array_equal(found, expected)


def test_weights_of_signed_activations_stay():
    model, _, _ = product(np.int8, batched=False, zero=0, integer=False)
    assert exact.with_unsigned_weights(model) == model


@pytest.mark.parametrize("a_type", [np.uint16, np.int16])
def test_activations_of_16_bits_keep_their_bits(a_type):
    """In float32, where a sum may end a step beside; quantized to 8 bits, they would end thousands beside."""
    rng = np.random.default_rng(0)
    a = rng.integers(np.iinfo(a_type).min, np.iinfo(a_type).max, (32, 2048), a_type, endpoint=True)
    b, zero = rng.integers(-127, 128, (2048, 32)).astype(np.int8), 30000 if a_type == np.uint16 else 0
    value, dtype = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype(np.dtype(a_type))
    constants = {"az": np.array(zero, a_type), "one": np.float32(1), "step": np.float32(2.0**12), "b": b,
                 "half": np.float32(0.5), "bz": np.int8(0)}  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "one", "az"], ["ar"]),
        helper.make_node("DequantizeLinear", ["b", "half", "bz"], ["br"]),
        helper.make_node("MatMul", ["ar", "br"], ["yr"]),
        helper.make_node("QuantizeLinear", ["yr", "step", "az"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("a", dtype, a.shape)], [value("y", dtype, None)],
                              [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
                              )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (found,) = exact.session(model).run(None, {"a": a})
    expected = np.rint((a.astype(np.int64) - zero) @ b.astype(np.int64) / 2.0**13) + zero
    expected = np.clip(expected, np.iinfo(a_type).min, np.iinfo(a_type).max)
    assert np.abs(found - expected).max() <= 1
