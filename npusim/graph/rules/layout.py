"""Emitting data movement: reshape, transpose, slice and their like, on tensors of any type.

Called by the rules. Movement of a constant is done at once, so that weights reach the compiler as they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir import Array, Quantization, Tensor
from ..lowering import Lowering
from ..refusal import Refusal
from ..source import SourceNode

Shape = tuple[int, ...]


def reshape(lowering: Lowering, tensor: Tensor, shape: Shape, node: SourceNode, name: str = "") -> Tensor:
    """The same elements in the same order, in another shape."""
    if tensor.shape == shape:
        return tensor
    quantization = _reshaped_quantization(tensor, shape, node)
    return _move(lowering, "reshape", [tensor], shape, node, name, quantization)


def transpose(
    lowering: Lowering, tensor: Tensor, permutation: Sequence[int], node: SourceNode, name: str = ""
) -> Tensor:
    """Axes in another order: axis i of the result is axis ``permutation[i]`` of the tensor."""
    permutation = tuple(int(axis) for axis in permutation)
    if permutation == tuple(range(len(tensor.shape))):
        return tensor
    shape = tuple(tensor.shape[axis] for axis in permutation)
    quantization = tensor.quantization
    if quantization is not None and quantization.axis is not None:
        quantization = replace(quantization, axis=permutation.index(quantization.axis))
    return _move(lowering, "transpose", [tensor], shape, node, name, quantization, permutation=permutation)


def slice_(
    lowering: Lowering, tensor: Tensor, starts: Sequence[int], steps: Sequence[int], shape: Shape, node: SourceNode,
    name: str = "",
) -> Tensor:  # fmt: skip
    """Elements ``start + i * step`` along each axis, ``shape`` of them."""
    if shape == tensor.shape and all(step == 1 for step in steps):
        return tensor
    attributes = {"starts": tuple(map(int, starts)), "steps": tuple(map(int, steps))}
    return move(lowering, "slice", [tensor], shape, node, name, **attributes)


def move(
    lowering: Lowering, op: str, inputs: Sequence[Tensor], shape: Shape, node: SourceNode, name: str = "",
    **attributes: Any,
) -> Tensor:  # fmt: skip
    """Any operation that keeps type and quantization.

    Raises:
        Refusal: the operand has a scale per channel, which the operation would tear apart.
    """
    quantization = inputs[0].quantization
    if quantization is not None and not quantization.per_tensor:
        raise Refusal(node, "it needs one scale for its whole operand")
    return _move(lowering, op, inputs, shape, node, name, quantization, **attributes)


def _move(
    lowering: Lowering, op: str, inputs: Sequence[Tensor], shape: Shape, node: SourceNode, name: str,
    quantization: Quantization | None, **attributes: Any,
) -> Tensor:  # fmt: skip
    first = inputs[0]
    name = name or f"{node.output}:q"
    arrays = [tensor.data for tensor in inputs if tensor.data is not None]
    if op in _NUMPY and len(arrays) == len(inputs):
        data = np.ascontiguousarray(_NUMPY[op](arrays, shape, attributes)).reshape(shape)
        return lowering.constant(name, data, first.dtype, quantization)
    result = Tensor(name=lowering.unique(name), shape=shape, dtype=first.dtype, quantization=quantization)
    return lowering.add(op, inputs, result, node, **attributes)


def _slice_array(arrays: list[Array], shape: Shape, attributes: dict[str, Any]) -> Array:
    index = np.ix_(
        *(
            start + step * np.arange(extent)
            for start, step, extent in zip(attributes["starts"], attributes["steps"], shape, strict=True)
        )
    )
    return np.asarray(arrays[0][index])


_NUMPY: dict[str, Any] = {
    "reshape": lambda arrays, shape, _: arrays[0].reshape(shape),
    "transpose": lambda arrays, _, attributes: arrays[0].transpose(attributes["permutation"]),
    "slice": _slice_array,
    "concat": lambda arrays, _, attributes: np.concatenate(arrays, axis=attributes["axis"]),
    "expand": lambda arrays, shape, _: np.broadcast_to(arrays[0], shape),
    "tile": lambda arrays, _, attributes: np.tile(arrays[0], attributes["repeats"]),
    "roll": lambda arrays, _, attributes: np.roll(arrays[0], attributes["shifts"], attributes["axes"]),
    "gather": lambda arrays, _, attributes: np.take(arrays[0], arrays[1], axis=attributes["axis"]),
}
"""What movement means for constants."""


def _reshaped_quantization(tensor: Tensor, shape: Shape, node: SourceNode) -> Quantization | None:
    """The quantization after a reshape; a channel axis has to survive it.

    Raises:
        Refusal: the reshape splits or joins the channel axis.
    """
    quantization = tensor.quantization
    if quantization is None or quantization.axis is None:
        return quantization
    before = int(np.prod(tensor.shape[: quantization.axis], dtype=np.int64))
    for axis, extent in enumerate(shape):
        if extent == tensor.shape[quantization.axis] and int(np.prod(shape[:axis], dtype=np.int64)) == before:
            return replace(quantization, axis=axis)
    raise Refusal(node, "it needs one scale for its whole operand")
