"""onnxruntime sessions that compute the integers the model defines, on every CPU.

Used wherever onnxruntime runs a model for us: calibration, analysis, CPU subgraphs, checks and tests. Benchmarks that
measure onnxruntime's speed make their own, with its defaults.

Without VNNI (or its like) onnxruntime multiplies u8 by s8 with ``vpmaddubsw``, which saturates sums of two products at
16 bits. There, constant s8 weights become u8 with zero points 128 higher: the same numbers, through kernels that are
exact. Its own option for that, ``session.x64quantprecision``, misses weights of more than two axes and leaves a
convolution of s8 activations without a kernel. Products of u8 with s8 tensors that are both computed stay inexact.

On every CPU onnxruntime makes MatMulNBits of a float product whose weights are quantized, one with 16-bit activations
for instance, and quantizes its activations anew, to 8 bits, unless told to multiply in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    import onnxruntime

SILENT = 4
"""Log level: what onnxruntime has to say comes as an exception."""

_FLOAT_ACTIVATIONS = "session.qdq_matmulnbits_accuracy_level", "1"

_PLACES = {
    # operator: positions of the activation's zero point, of the weights and of their zero point
    "QLinearConv": (2, 3, 5),
    "QLinearMatMul": (2, 3, 5),
    "QGemm": (2, 3, 5),
    "MatMulInteger": (2, 1, 3),
}
_FLOAT_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_SHIFT = 128


def session(
    model: onnx.ModelProto | bytes, *, threads: int = 0, optimized: bool = True
) -> onnxruntime.InferenceSession:
    """A session on the CPU with exact integer products.

    Args:
        model: parsed or serialized.
        threads: within an operator; 0 leaves it to onnxruntime.
        optimized: False runs every node as it stands, so that real operators between DequantizeLinear and
            QuantizeLinear compute in float32.
    """
    if optimized and not products_are_exact():
        parsed = onnx.ModelProto.FromString(model) if isinstance(model, bytes) else model
        model = with_unsigned_weights(parsed)
    return _start(model, threads, optimized)


def _start(model: onnx.ModelProto | bytes, threads: int, optimized: bool) -> onnxruntime.InferenceSession:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = threads
    options.add_session_config_entry(*_FLOAT_ACTIVATIONS)
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@cache
def products_are_exact() -> bool:
    """Whether onnxruntime's u8 x s8 kernels keep every sum on this CPU: largest products, added up."""
    a, b = np.full((1, 4), 255, np.uint8), np.full((4, 1), 127, np.int8)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "probe", [value("a", TensorProto.UINT8, a.shape)],
        [value("y", TensorProto.INT32, (1, 1))], [numpy_helper.from_array(b, "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (result,) = _start(model, 1, True).run(None, {"a": a})
    return int(result[0, 0]) == 4 * 255 * 127


def with_unsigned_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose constant s8 weights that meet u8 activations are u8, with zero points 128 higher."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    shifted = _Shifted(copy.graph)
    for node, weights, zero in shifted.places():
        shifted.rewrite(node, weights, zero)
    return copy


class _Shifted:
    """Rewrites weights of one graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
        self.made: dict[str, str] = {}

    def places(self) -> Iterator[tuple[onnx.NodeProto, int, int]]:
        """Nodes that read such weights, and the positions of the weights and of their zero point."""
        meets_signed = set()
        for node in self.graph.node:
            if node.op_type in _FLOAT_PRODUCTS:
                sources = [self.producers.get(name) for name in node.input[:2]]
                if any(source is not None and self._is_signed_activation(source) for source in sources):
                    meets_signed.update(node.input[:2])
        for node in self.graph.node:
            if node.op_type in _PLACES:
                activation, weights, zero = _PLACES[node.op_type]
                wanted = not self._is_signed(node, activation)
            else:
                weights, zero = 0, 2
                wanted = node.op_type == "DequantizeLinear" and node.output[0] not in meets_signed
            if wanted and self._is_signed_weight(node, weights, zero):
                yield node, weights, zero

    def rewrite(self, node: onnx.NodeProto, weights: int, zero: int) -> None:
        """Let the node read shifted weights and a shifted zero point."""
        while len(node.input) <= zero:
            node.input.append("")
        if node.input[zero]:
            node.input[zero] = self._shift(node.input[zero])
        else:
            scale = self.constants.get(node.input[weights + 1]) if node.op_type != "MatMulInteger" else None
            shape = tuple(scale.dims) if scale is not None else ()
            node.input[zero] = self._constant(np.full(shape, _SHIFT, np.uint8))
        node.input[weights] = self._shift(node.input[weights])

    def _is_signed_weight(self, node: onnx.NodeProto, position: int, zero: int) -> bool:
        tensor = self.constants.get(node.input[position])
        has_zero = len(node.input) > zero and node.input[zero]
        if tensor is None or (has_zero and node.input[zero] not in self.constants):
            return False
        return tensor.data_type == TensorProto.INT8 and len(tensor.dims) >= 2

    def _is_signed_activation(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "DequantizeLinear" and node.input[0] not in self.constants and self._is_signed(node, 2)

    def _is_signed(self, node: onnx.NodeProto, position: int) -> bool:
        """Whether an activation is s8, by its zero point's type, or its own where it is fed."""
        name = node.input[position] if len(node.input) > position else ""
        if name in self.constants:
            return self.constants[name].data_type == TensorProto.INT8
        return self.types.get(node.input[0]) == TensorProto.INT8

    def _shift(self, name: str) -> str:
        if name not in self.made:
            values = numpy_helper.to_array(self.constants[name]).astype(np.int16) + _SHIFT
            self.made[name] = self._constant(values.astype(np.uint8))
        return self.made[name]

    def _constant(self, values: np.ndarray[Any, Any]) -> str:
        name = f"shifted weights {len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name
