"""Quantized operators become the QDQ form: QLinearConv is DequantizeLinear, Conv and QuantizeLinear in one.

Run by ``npusim.graph.load`` before shapes are known, so that everything behind it sees one form. ConvInteger and
MatMulInteger stay: their results are integers.

Requires: nothing. Ensures: no QLinear operator with constant scales and zero points is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .ir import Array
from .source import SourceGraph, SourceNode

MICROSOFT = "com.microsoft."


class Unpacking:
    """The QDQ form of one node while it is being made.

    Attributes:
        node: the quantized operator.
        nodes: what replaces it.
        constants: those of the model and the new ones.
    """

    def __init__(self, node: SourceNode, constants: dict[str, Array]) -> None:
        self.node = node
        self.nodes: list[SourceNode] = []
        self.constants = constants

    def attributes(self, *names: str) -> dict[str, object]:
        """Those of the node's attributes with one of these names."""
        return {name: self.node.attributes[name] for name in names if name in self.node.attributes}

    def dequantize(self, value: str, scale: str, zero_point: str, axis: int | None = None) -> str:
        """The real values of ``value``, as a new name."""
        result = f"{self.node.name}:real:{value}:{len(self.nodes)}"
        attributes = {} if axis is None or self.constants[scale].size == 1 else {"axis": axis}
        self._add("DequantizeLinear", (value, scale, zero_point), result, attributes, f"dequantize{len(self.nodes)}")
        return result

    def triple(self, index: int, axis: int | None = None) -> str:
        """The real values of the node's inputs ``index`` to ``index + 2``: integers, scale, zero point."""
        return self.dequantize(self.node.inputs[index], self.node.inputs[index + 1], self.node.input(index + 2), axis)

    def dequantize_bias(self, value: str, *factors: Array | float) -> str:
        """The real values of an int32 bias whose scale is the product of ``factors``, each rounded to float32."""
        scale: Array = np.ones(1, np.float32)
        for factor in factors:
            scale = np.asarray(scale * np.asarray(factor, np.float32).reshape(-1), np.float32)
        name = f"{value}:scale:{self.node.name}"
        self.constants[name] = scale if scale.size > 1 else scale.reshape(())
        return self.dequantize(value, name, "", 0)

    def compute(self, op: str, *inputs: str, **attributes: object) -> str:
        """Apply a real operator under the node's own name."""
        result = f"{self.node.output}:real"
        self._add(op, inputs, result, attributes)
        return result

    def quantize(self, value: str, scale: str, zero_point: str) -> None:
        """Make the node's output from its real values."""
        self._add("QuantizeLinear", (value, scale, zero_point), self.node.output, {}, "quantize")

    def return_real(self, value: str) -> None:
        """Make the node's output the real values themselves."""
        self._add("Identity", (value,), self.node.output, {}, "identity")

    def _add(
        self, op: str, inputs: tuple[str, ...], output: str, attributes: Mapping[str, object], suffix: str = ""
    ) -> None:
        name = f"{self.node.name}:{suffix}" if suffix else self.node.name
        self.nodes.append(
            SourceNode(
                name=name, op=op, inputs=inputs, outputs=(output,), attributes=attributes, source=self.node.source
            )
        )

    def constant(self, index: int) -> Array:
        """The value of a constant input."""
        return self.constants[self.node.inputs[index]]


def _conv(u: Unpacking) -> None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = u.node.inputs
    inputs = [u.dequantize(x, x_scale, x_zero), u.dequantize(w, w_scale, w_zero, 0)]
    if bias and bias[0]:
        inputs.append(u.dequantize_bias(bias[0], u.constant(1), u.constant(4)))
    attributes = {key: value for key, value in u.node.attributes.items() if key != "channels_last"}
    u.quantize(u.compute("Conv", *inputs, **attributes), y_scale, y_zero)


def _matmul(u: Unpacking) -> None:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = u.node.inputs
    inputs = (u.dequantize(a, a_scale, a_zero, -2), u.dequantize(b, b_scale, b_zero, -1))
    u.quantize(u.compute("MatMul", *inputs), y_scale, y_zero)


def _matmul_to_float(u: Unpacking) -> None:
    a, b, a_scale, b_scale = u.node.inputs[:4]
    real = u.compute("MatMul", u.dequantize(a, a_scale, u.node.input(4)), u.dequantize(b, b_scale, u.node.input(5), -1))
    if u.node.input(6):
        u._add("Add", (real, u.node.input(6)), f"{real}:biased", {}, "bias")
        real = f"{real}:biased"
    u.return_real(real)


def _gemm(u: Unpacking) -> None:
    node = u.node
    alpha = float(node.attributes.get("alpha", 1.0))
    transposed = int(node.attributes.get("transB", 0))
    inputs = [u.triple(0), u.triple(3, 0 if transposed else 1)]
    if node.input(6):
        inputs.append(u.dequantize_bias(node.input(6), alpha, u.constant(1), u.constant(4)))
    real = u.compute("Gemm", *inputs, **u.attributes("alpha", "transA", "transB"))
    if node.input(7):
        u.quantize(real, node.input(7), node.input(8))
    else:
        u.return_real(real)


def _binary(op: str) -> Callable[[Unpacking], None]:
    def unpack(u: Unpacking) -> None:
        u.quantize(u.compute(op, u.triple(0), u.triple(3)), u.node.inputs[6], u.node.input(7))

    return unpack


def _unary(op: str, *attributes: str) -> Callable[[Unpacking], None]:
    def unpack(u: Unpacking) -> None:
        real = u.compute(op, u.triple(0), **u.attributes(*attributes))
        u.quantize(real, u.node.inputs[3], u.node.input(4))

    return unpack


def _concat(u: Unpacking) -> None:
    y_scale, y_zero = u.node.inputs[:2]
    inputs = [u.triple(at) for at in range(2, len(u.node.inputs), 3)]
    u.quantize(u.compute("Concat", *inputs, **u.attributes("axis")), y_scale, y_zero)


_WINDOW = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides", "dilations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an operator is taken apart.

    Attributes:
        unpack: does it.
        least: number of inputs that it always has.
        constants: inputs that have to be constants for that; None where all but each third from the third on.
    """

    unpack: Callable[[Unpacking], None]
    least: int
    constants: tuple[int, ...] | None


_PRODUCT = (1, 2, 4, 5, 6, 7)
_UNARY = (1, 2, 3, 4)

FORMS: dict[str, Form] = {
    "QLinearConv": Form(unpack=_conv, least=8, constants=_PRODUCT),
    "QLinearMatMul": Form(unpack=_matmul, least=8, constants=_PRODUCT),
    MICROSOFT + "QLinearConv": Form(unpack=_conv, least=8, constants=_PRODUCT),
    MICROSOFT + "QGemm": Form(unpack=_gemm, least=6, constants=(1, 2, 4, 5, 7, 8)),
    MICROSOFT + "MatMulIntegerToFloat": Form(unpack=_matmul_to_float, least=4, constants=(2, 3, 4, 5)),
    MICROSOFT + "QLinearAdd": Form(unpack=_binary("Add"), least=7, constants=_PRODUCT),
    MICROSOFT + "QLinearMul": Form(unpack=_binary("Mul"), least=7, constants=_PRODUCT),
    MICROSOFT + "QLinearConcat": Form(unpack=_concat, least=5, constants=None),
    **{
        MICROSOFT + name: Form(unpack=unpack, least=4, constants=_UNARY)
        for name, unpack in {
            "QLinearSigmoid": _unary("Sigmoid"),
            "QLinearLeakyRelu": _unary("LeakyRelu", "alpha"),
            "QLinearSoftmax": _unary("Softmax", "axis"),
            "QLinearAveragePool": _unary("AveragePool", *_WINDOW),
            "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
            "QLinearReduceMean": _unary("ReduceMean", "axes", "keepdims"),
        }.items()
    },
}
"""Every quantized operator that has a QDQ form."""

RENAMED = {MICROSOFT + "QuantizeLinear": "QuantizeLinear", MICROSOFT + "DequantizeLinear": "DequantizeLinear"}
"""Operators of other domains with the meaning of a standard one."""


def _can_unpack(node: SourceNode, constants: dict[str, Array], form: Form) -> bool:
    count = len(node.inputs)
    needed = form.constants
    if needed is None:
        needed = (0, 1, *(at for at in range(2, count) if at % 3 != 2))
        if count % 3 != 2:
            return False
    if count < form.least or node.attributes.get("channels_last", 0):
        return False
    return all(not node.input(at) or node.input(at) in constants for at in needed)


def unpack(graph: SourceGraph) -> SourceGraph:
    """``graph`` with its quantized operators in QDQ form."""
    nodes: list[SourceNode] = []
    constants = dict(graph.constants)
    for node in graph.nodes:
        form = FORMS.get(node.op)
        if form is not None and _can_unpack(node, constants, form):
            unpacking = Unpacking(node, constants)
            form.unpack(unpacking)
            nodes += unpacking.nodes
        elif node.op in RENAMED and len(node.inputs) >= 2:
            nodes.append(replace(node, op=RENAMED[node.op]))
        else:
            nodes.append(node)
    return graph.with_nodes(nodes, constants=constants)
