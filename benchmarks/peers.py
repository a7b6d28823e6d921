"""onnxruntime sessions of one operator each, which ``benchmarks.kernels`` times against ours.

Inputs and outputs are bound once, so that a run is the operator and onnxruntime's own bookkeeping, no copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from npusim.quant.exact import with_unsigned_weights

Array = np.ndarray[Any, Any]
MICROSOFT = "com.microsoft"
OPSET = 20

_TYPES = {
    np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8, np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.float32): TensorProto.FLOAT,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How onnxruntime runs.

    Attributes:
        threads: within an operator.
        exact: whether products with constant weights are made exact where the CPU has no VNNI; by itself onnxruntime
            saturates there (``npusim.quant.exact``).
    """

    threads: int
    exact: bool


class Graph:
    """Collects nodes and constants; names are made up on the way."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        """Add an initialiser and return its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))  # keeps scalars scalar
        return name

    def node(self, operator: str, inputs: Sequence[str], *, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output and return its name."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name

    def quantized(self, name: str, scale: float, zero: Any) -> list[str]:
        """A tensor with its scale and zero point, as the QLinear operators take them."""
        return [name, self.constant(np.float32(scale)), self.constant(zero)]

    def session(self, inputs: dict[str, Array], output: str, dst: Array, runtime: Runtime) -> Callable[[], None]:
        """A callable that runs the graph once on bound buffers."""
        infos = [helper.make_tensor_value_info(n, _TYPES[v.dtype], v.shape) for n, v in inputs.items()]
        out = helper.make_tensor_value_info(output, _TYPES[dst.dtype], dst.shape)
        graph = helper.make_graph(self.nodes, "peer", infos, [out], self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return bind(session(model, runtime), inputs, {output: dst})


def session(model: onnx.ModelProto, runtime: Runtime) -> ort.InferenceSession:
    """A session with all optimisations on.

    Several threads wait awake, as is onnxruntime's default and our way, but not when a run is over: ours come next.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(runtime.threads > 1)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    content = with_unsigned_weights(model) if runtime.exact else model
    return ort.InferenceSession(content.SerializeToString(), options, providers=["CPUExecutionProvider"])


def bind(made: ort.InferenceSession, inputs: dict[str, Array], outputs: dict[str, Array]) -> Callable[[], None]:
    """A callable that runs a session on these arrays."""
    binding = made.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
    for name, value in outputs.items():
        binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(value))
    options = ort.RunOptions()
    return lambda: made.run_with_iobinding(binding, options)


def matmul(a: Array, b: Array, dst: Array, runtime: Runtime, *, live: bool) -> Callable[[], None]:
    """QLinearMatMul; ``b`` is a constant, or an input where ``live``."""
    g = Graph()
    inputs = {"a": a, **({"b": b} if live else {})}
    second = "b" if live else g.constant(b)
    out = g.node(
        "QLinearMatMul",
        [*g.quantized("a", 0.02, np.uint8(128)), *g.quantized(second, 0.01, b.dtype.type(0)),
         *g.quantized("", 0.5, np.uint8(128))[1:]],
    )  # fmt: skip
    return g.session(inputs, out, dst, runtime)


def conv(src: Array, weights: Array, dst: Array, runtime: Runtime, *, stride: int, pad: int,
         groups: int) -> Callable[[], None]:  # fmt: skip
    """Channels-last QLinearConv; ``weights`` [oc, ic, kh, kw] as ONNX stores them."""
    g = Graph()
    out = g.node(
        "QLinearConv",
        [*g.quantized("x", 0.02, np.uint8(100)), *g.quantized(g.constant(weights), 0.01, np.int8(0)),
         *g.quantized("", 0.5, np.uint8(128))[1:], g.constant(np.zeros(len(weights), np.int32))],
        domain=MICROSOFT, channels_last=1, strides=[stride] * 2, pads=[pad] * 4, group=groups,
        kernel_shape=list(weights.shape[2:]),
    )  # fmt: skip
    return g.session({"x": src[None]}, out, dst[None], runtime)


def between_reals(operator: str, src: Array, dst: Array, runtime: Runtime, *constants: Array, src_scale: float,
                  dst_scale: float, dst_zero: int, **attributes: Any) -> Callable[[], None]:  # fmt: skip
    """DequantizeLinear, a float operator, QuantizeLinear."""
    g = Graph()
    real = g.node("DequantizeLinear", g.quantized("x", src_scale, src.dtype.type(0)))
    value = real if not operator else g.node(operator, [real, *(g.constant(c) for c in constants)], **attributes)
    out = g.node("QuantizeLinear", [value, *g.quantized("", dst_scale, dst.dtype.type(dst_zero))[1:]])
    return g.session({"x": src}, out, dst, runtime)


def add(a: Array, b: Array, dst: Array, runtime: Runtime) -> Callable[[], None]:
    """QLinearAdd."""
    g = Graph()
    operands = [*g.quantized("a", 0.02, np.uint8(128)), *g.quantized("b", 0.03, np.uint8(120))]
    scale, zero = g.constant(np.float32(0.04)), g.constant(np.uint8(128))
    out = g.node("QLinearAdd", [*operands, scale, zero], domain=MICROSOFT)
    return g.session({"a": a, "b": b}, out, dst, runtime)


def whole_model(model: onnx.ModelProto, runtime: Runtime) -> Callable[[], None]:
    """A model on zeros."""
    made = session(model, runtime)
    inputs = {i.name: np.zeros(i.shape, np.float32) for i in made.get_inputs()}
    outputs = {o.name: np.zeros(o.shape, np.float32) for o in made.get_outputs()}
    return bind(made, inputs, outputs)
