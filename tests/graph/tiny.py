"""Tiny quantized ONNX models, built by hand, and onnxruntime as their oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from npusim import graph
from npusim.graph.ir import Array, Graph
from npusim.quant import exact
from tests.graph.interpret import run

CODES = {
    "f32": TensorProto.FLOAT, "u8": TensorProto.UINT8, "s8": TensorProto.INT8, "u16": TensorProto.UINT16,
    "s16": TensorProto.INT16, "s32": TensorProto.INT32, "s64": TensorProto.INT64, "bool": TensorProto.BOOL,
}  # fmt: skip
NUMPY = {"u8": np.uint8, "s8": np.int8, "u16": np.uint16, "s16": np.int16, "s32": np.int32}


class Builder:
    """A model while it grows; values are names.

    ``quantize`` puts a QuantizeLinear behind a value and returns the real value of its result.
    """

    def __init__(self, opset: int = 21, seed: int = 0) -> None:
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.count = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def input(self, name: str, shape: Sequence[Any], dtype: str = "f32") -> str:
        self.inputs.append(helper.make_tensor_value_info(name, CODES[dtype], shape))
        return name

    def constant(self, array: Any, name: str = "") -> str:
        name = name or self.name("c")
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        names = [self.name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"{op}_{self.count}", domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def parameters(self, scale: Any, zero: Any, dtype: str) -> tuple[str, str]:
        return self.constant(np.asarray(scale, np.float32)), self.constant(np.asarray(zero, NUMPY[dtype]))

    def quantize(self, value: str, scale: Any, zero: int, dtype: str = "u8") -> str:
        parameters = self.parameters(scale, zero, dtype)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", value, *parameters), *parameters)

    def real_input(self, name: str, shape: Sequence[int], scale: Any = 0.05, zero: int = 0, dtype: str = "u8") -> str:
        """The real value of an integer input."""
        return self.op("DequantizeLinear", self.input(name, shape, dtype), *self.parameters(scale, zero, dtype))

    def result(self, value: str, scale: Any = 0.05, zero: int = 0, dtype: str = "u8") -> str:
        """Quantize a value and make the integers an output."""
        return self.output(self.op("QuantizeLinear", value, *self.parameters(scale, zero, dtype)), dtype)

    def dequantize(self, integers: Any, scale: Any, zero: Any = None, axis: int | None = None) -> str:
        """The real value of a quantized constant."""
        dtype = {np.dtype(t): name for name, t in NUMPY.items()}[np.asarray(integers).dtype]
        zero = np.zeros(np.shape(scale), int) if zero is None else zero
        attributes = {} if axis is None else {"axis": axis}
        return self.op("DequantizeLinear", self.constant(integers), *self.parameters(scale, zero, dtype), **attributes)

    def output(self, value: str, dtype: str = "f32") -> str:
        self.outputs.append(helper.make_tensor_value_info(value, CODES[dtype], None))
        return value

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "tiny", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def onnxruntime_values(model: onnx.ModelProto, feeds: Mapping[str, Array], *, plain: bool = False) -> dict[str, Array]:
    """The model's outputs by name, computed by onnxruntime with its integer kernels.

    Args:
        plain: without any fusion, so that real operators compute in float32.
    """
    session = exact.session(model, optimized=not plain)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def random_feeds(model: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Every integer of the type, or normal floats, for each input."""
    random = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if np.issubdtype(dtype, np.integer):
            info = np.iinfo(dtype)
            feeds[value.name] = random.integers(info.min, info.max, shape, dtype, endpoint=True)
        else:
            feeds[value.name] = random.normal(size=shape).astype(dtype)
    return feeds


def compare(model: onnx.ModelProto, *, plain: bool = False, seed: int = 0) -> tuple[Graph, int, int, int]:
    """Interpret a model and run it in onnxruntime.

    Returns:
        The graph, how many output integers differ, the largest difference, and how many there are.
    """
    loaded = graph.load(model)
    feeds = random_feeds(model, seed)
    ours, theirs = run(loaded, feeds), onnxruntime_values(model, feeds, plain=plain)
    differing = largest = total = 0
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype
        assert ours[name].shape == expected.shape
        if expected.dtype.kind == "f":
            distance = (ours[name].view(np.int32) != expected.view(np.int32)).astype(np.int64)
        else:
            distance = np.abs(ours[name].astype(np.int64) - expected.astype(np.int64))
        differing += int((distance > 0).sum())
        largest = max(largest, int(distance.max(initial=0)))
        total += distance.size
    return loaded, differing, largest, total


def operations(loaded: Graph) -> list[str]:
    """The operations of a graph, in order."""
    return [node.op for node in loaded.nodes]
