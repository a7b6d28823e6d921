"""Where: a choice between two tensors by a constant condition, as a mask or by products with 1 and 0."""

from __future__ import annotations

import numpy as np

from .. import quantize
from ..ir import DTYPE_NAMES, Array, Quantization, Tensor
from ..lowering import Lowering
from ..refusal import Refusal, lowers
from ..source import SourceNode
from ..target import Target, whole_range
from .elementwise import plain_target
from .expression import express


def constant_condition(lowering: Lowering, node: SourceNode) -> bool:
    """A constant condition and quantized values, or one live input in all."""
    return lowering.source.constants.get(node.inputs[0]) is not None


@lowers("Where", needs=(constant_condition,))
def where(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A minimum or maximum where that chooses as well, a table where there is one, else products with the condition."""
    plain_target(node, target)
    masked = _mask(lowering, node, target)
    if masked is not None:
        return masked
    if isinstance(express(lowering, target.value), tuple):
        raise Refusal(node, "it is a function of one variable")  # which lowering makes of what no rule takes
    return _choice(lowering, node, target)


def _mask(lowering: Lowering, node: SourceNode, target: Target) -> Tensor | None:
    """A mask, if one of the two is a number at an end of the result's range, such as -inf."""
    found = _masked(lowering, node)
    if found is None:
        return None
    assert target.quantization is not None
    x, number, stays_where = found
    stays = lowering.source.constants[node.inputs[0]] == stays_where
    [masked] = quantize.quantize(np.array([number], np.float32), target.quantization, target.dtype)
    if int(masked) not in whole_range(target.dtype):
        return None
    lowest = int(masked) == whole_range(target.dtype)[0]
    reach = max(_largest(tensor.quantization, tensor.dtype) for tensor in (x, target))
    bound = np.where(stays == lowest, 127, -128).astype(np.int8 if x.dtype[1:] == "8" else np.int16)
    meaning = Quantization(scale=np.float32(reach / 126))  # so that 127 and -128 lie beyond every value
    dtype = DTYPE_NAMES[bound.dtype]
    limit = lowering.constant(f"{node.name}:mask:{'low' if lowest else 'high'}", bound, dtype, meaning)
    return lowering.emit(target, "min" if lowest else "max", [x, limit], node)


def _masked(lowering: Lowering, node: SourceNode) -> tuple[Tensor, float, bool] | None:
    """The live operand of a Where, the number in its place elsewhere, and the condition under which it stays."""
    _, chosen, otherwise = node.inputs
    for name, other, stays_where in ((chosen, otherwise, True), (otherwise, chosen, False)):
        tensor, number = lowering.activation(name), lowering.array(other)
        if tensor is not None and tensor.data is None and number is not None and number.size == 1:
            return tensor, float(number.reshape(())), stays_where
    return None


def _largest(quantization: Quantization | None, dtype: str) -> float:
    """The largest magnitude that integers of a type stand for."""
    assert quantization is not None
    ends = np.array(whole_range(dtype)) - int(quantization.zero_point)
    return float(np.abs(ends).max() * float(quantization.scale))


def _choice(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """Both values in the result's own integers, each times 1 or 0, and their sum, in which nothing is rounded."""
    condition = lowering.source.constants[node.inputs[0]]
    first, second = (lowering.realise(target.of(name)) for name in node.inputs[1:])
    if first.data is not None and second.data is not None:
        chosen = np.where(condition, first.data, second.data)
        return lowering.constant(target.name or f"{target.value}:q", chosen, target.dtype, target.quantization)
    parts = [_kept(lowering, node, first, condition), _kept(lowering, node, second, ~condition)]
    return lowering.emit(target, "add", parts, node)


def _kept(lowering: Lowering, node: SourceNode, tensor: Tensor, stays: Array) -> Tensor:
    """A tensor with zeros where it does not stay."""
    assert tensor.quantization is not None
    name = lowering.unique(f"{node.output}:{tensor.name}")
    if tensor.data is not None:
        kept = np.where(stays, tensor.data, tensor.data.dtype.type(tensor.quantization.zero_point))
        return lowering.constant(name, kept, tensor.dtype, tensor.quantization)
    one = Quantization(scale=np.float32(1))
    factor = lowering.constant(f"{name}:stays", stays.astype(np.uint8), "u8", one)
    shape = np.broadcast_shapes(tensor.shape, stays.shape)
    result = Tensor(name=name, shape=shape, dtype=tensor.dtype, quantization=tensor.quantization)
    return lowering.add("mul", [tensor, factor], result, node)
