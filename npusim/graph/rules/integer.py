"""Rules of the operators whose result the model itself calls an integer: ConvInteger, MatMulInteger, ArgMax, Cast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir import ACTIVATION_DTYPES, Quantization, Tensor
from ..lowering import IntegerRules, Lowering
from ..refusal import Refusal, check_attributes
from ..source import SourceNode
from . import layout
from .matrix import as_image
from .window import window

INTEGER_RULES: IntegerRules = {}
"""Rules by operator: (lowering, node, output value) to the tensor."""

Rule = Callable[[Lowering, SourceNode, str], Tensor]


def makes_integers(*ops: str, attributes: str = "") -> Callable[[Rule], Rule]:
    """Register a rule with the attributes it understands."""

    def register(rule: Rule) -> Rule:
        def checked(lowering: Lowering, node: SourceNode, value: str) -> Tensor:
            check_attributes(node, attributes.split())
            return rule(lowering, node, value)

        INTEGER_RULES.update(dict.fromkeys(ops, checked))
        return rule

    return register


def _result(lowering: Lowering, value: str, shape: tuple[int, ...] | None = None) -> Tensor:
    dtype = lowering.source.types[value].dtype
    if shape is not None and shape != lowering.shape(value):
        return Tensor(name=lowering.unique(f"{value}:image"), shape=shape, dtype=dtype)
    return Tensor(name=lowering.unique(value), shape=lowering.shape(value), dtype=dtype)


def _operand(lowering: Lowering, node: SourceNode, index: int, zero_index: int, axis: int) -> Tensor:
    """An integer operand with its zero point as quantization of scale 1.

    Raises:
        Refusal: the zero point is fed at run time, or differs along another axis than ``axis``.
    """
    tensor = lowering.integer(node.inputs[index])
    if tensor.dtype not in ACTIVATION_DTYPES:
        raise Refusal(node, "it needs operands of 8 or 16 bits")
    zero = np.zeros((), np.int64)
    if node.input(zero_index):
        given = lowering.source.constants.get(node.input(zero_index))
        if given is None:
            raise Refusal(node, "it needs constant zero points")
        zero = given.astype(np.int64)
    if zero.size == 1:
        wanted = Quantization(scale=np.float32(1), zero_point=int(zero.reshape(-1)[0]))
    else:
        if index != 1 or tensor.data is None or zero.size != tensor.shape[axis]:
            raise Refusal(node, "it needs one zero point, or one per column of a constant second operand")
        wanted = Quantization(
            scale=np.ones(zero.size, np.float32), zero_point=zero.reshape(-1), axis=axis % len(tensor.shape)
        )
    return lowering.labelled(tensor, wanted, node)


@makes_integers("MatMulInteger")
def matmul_integer(lowering: Lowering, node: SourceNode, value: str) -> Tensor:
    """The accumulators of a matrix product."""
    if any(len(lowering.shape(name)) < 2 for name in node.inputs[:2]):
        raise Refusal(node, "it needs operands of at least two dimensions")
    a = _operand(lowering, node, 0, 2, -2)
    b = _operand(lowering, node, 1, 3, -1)
    return lowering.add("matmul", [a, b], _result(lowering, value), node)


@makes_integers("ConvInteger", attributes="auto_pad dilations group kernel_shape pads strides")
def conv_integer(lowering: Lowering, node: SourceNode, value: str) -> Tensor:
    """The accumulators of a convolution."""
    x, weights = _operand(lowering, node, 0, 2, 1), _operand(lowering, node, 1, 3, 0)
    if weights.data is None:
        raise Refusal(node, "it needs constant weights")
    shape = lowering.shape(value)
    if len(shape) not in (3, 4):
        raise Refusal(node, "it needs an input of shape [N, C, W] or [N, C, H, W]")
    place = window(node, x.shape, shape, weights.shape[2:])
    wide = (shape[0], shape[1], 1, shape[2]) if len(shape) == 3 else shape
    result = lowering.add(
        "conv", [as_image(lowering, x, node), as_image(lowering, weights, node)], _result(lowering, value, wide), node,
        **place.attributes(kernel=False), groups=int(node.attributes.get("group", 1)),
    )  # fmt: skip
    return layout.reshape(lowering, result, shape, node, value)


@makes_integers("ArgMax", "ArgMin", attributes="axis keepdims select_last_index")
def arg_extreme(lowering: Lowering, node: SourceNode, value: str) -> Tensor:
    """The position of an extreme element; positive scales keep the order, so the integers decide."""
    name = node.inputs[0]
    x = lowering.activation(name) if lowering.is_real(name) else lowering.integer(name)
    if x is None or x.dtype not in ACTIVATION_DTYPES:
        raise Refusal(node, "it needs a quantized input of 8 or 16 bits and one scale")
    axis = int(node.attributes.get("axis", 0)) % len(x.shape)
    return lowering.add(
        "arg_max" if node.op == "ArgMax" else "arg_min", [x], _result(lowering, value), node, axis=axis,
        keepdims=int(node.attributes.get("keepdims", 1)),
        select_last=int(node.attributes.get("select_last_index", 0)),
    )  # fmt: skip


@makes_integers("Cast", attributes="to saturate round_mode")
def cast(lowering: Lowering, node: SourceNode, value: str) -> Tensor:
    """A wider type for the same integers."""
    name = node.inputs[0]
    if lowering.is_real(name):
        raise Refusal(node, "it needs integers: real values are rounded by a QuantizeLinear")
    tensor = lowering.integer(name)
    result = _result(lowering, value)
    if "bool" in (result.dtype, tensor.dtype) or not np.can_cast(tensor.numpy, result.numpy):
        raise Refusal(node, "it needs a type that holds every integer of its input")
    return lowering.add("cast", [tensor], result, node)
