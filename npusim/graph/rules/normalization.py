"""Rules of softmax and of the normalizations of a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir import Tensor
from ..lowering import Lowering
from ..refusal import Refusal, lowers
from ..source import SourceNode
from ..target import Target, whole_range
from . import layout
from .needs import one_output, quantized_input


def _on_rows(
    lowering: Lowering, node: SourceNode, target: Target, x: Tensor, rows: tuple[int, ...],
    operation: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:  # fmt: skip
    """Apply an operation on the last axis to ``x`` in the shape ``rows``, and bring the result back."""
    shape = lowering.shape(target.value)
    name = target.name or f"{target.value}:q"
    flat = layout.reshape(lowering, x, rows, node, f"{x.name}:rows:{len(rows)}")
    result = Tensor(
        name=lowering.unique(name if rows == shape else f"{name}:rows"), shape=rows, dtype=target.dtype,
        quantization=target.quantization,
    )  # fmt: skip
    return layout.reshape(lowering, operation(flat, result), shape, node, name)


def softmax_axis(lowering: Lowering, node: SourceNode) -> tuple[int, bool]:
    """The axis, and whether everything behind it belongs to the row as well, as it did before opset 13."""
    rank = len(lowering.shape(node.inputs[0]))
    old = lowering.source.opset < 13
    axis = int(node.attributes.get("axis", 1 if old else -1)) % rank
    return axis, old


@lowers("Softmax", attributes="axis", needs=(quantized_input,))
def softmax(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A softmax along the last axis; another axis is exchanged with it before and after."""
    x = lowering.activation(node.inputs[0])
    assert x is not None
    clamp = _clamp(target)
    axis, rest = softmax_axis(lowering, node)
    rank = len(x.shape)
    if rest or axis == rank - 1:
        row = int(np.prod(x.shape[axis:]))
        rows = x.shape if axis == rank - 1 else (int(np.prod(x.shape[:axis])), row)
        return _on_rows(
            lowering, node, target, x, rows, lambda flat, out: lowering.add("softmax", [flat], out, node, **clamp)
        )
    permutation = [a if a not in (axis, rank - 1) else axis + rank - 1 - a for a in range(rank)]
    turned = layout.transpose(lowering, x, permutation, node, f"{x.name}:turned:{axis}")
    name = target.name or f"{target.value}:q"
    result = replace(turned, name=lowering.unique(f"{name}:turned"), dtype=target.dtype,
                     quantization=target.quantization)  # fmt: skip
    lowering.add("softmax", [turned], result, node, **clamp)
    return layout.transpose(lowering, result, permutation, node, name)


def _clamp(target: Target) -> dict[str, Any]:
    return {} if target.clamp == whole_range(target.dtype) else {"clamp": target.clamp}


def constant_gain(lowering: Lowering, node: SourceNode) -> bool:
    """A constant gain, and a constant offset where it has one."""
    return all(lowering.array(name) is not None for name in node.inputs[1:] if name)


def _parameter(lowering: Lowering, node: SourceNode, index: int, row: tuple[int, ...], default: float) -> Tensor:
    """A gain or offset as f32[row length]."""
    value = node.input(index)
    array = lowering.array(value) if value else np.full(1, default, np.float32)
    assert array is not None
    try:
        wide = np.broadcast_to(np.float32(array), row).reshape(-1)
    except ValueError as error:
        raise Refusal(node, "it needs gain and offset of the shape of a row") from error
    name = f"{value}:real" if value else f"{node.name}:{'gain' if index == 1 else 'offset'}"
    return lowering.constant(name, np.array(wide), "f32")


def positive_epsilon(node: SourceNode, default: float) -> float:
    """The epsilon of a normalization.

    Raises:
        Refusal: it is not above 0.
    """
    epsilon = float(np.float32(node.attributes.get("epsilon", default)))
    if epsilon <= 0:
        raise Refusal(node, "it needs an epsilon above 0")
    return epsilon


def _norm(lowering: Lowering, node: SourceNode, target: Target, op: str, default_epsilon: float) -> Tensor:
    x = lowering.activation(node.inputs[0])
    assert x is not None
    rank = len(x.shape)
    axis = int(node.attributes.get("axis", -1)) % rank
    row = x.shape[axis:]
    epsilon = positive_epsilon(node, default_epsilon)
    operands = [_parameter(lowering, node, 1, row, 1.0)]
    if op == "layer_norm":
        operands.append(_parameter(lowering, node, 2, row, 0.0))
    rows = x.shape if axis == rank - 1 else (*x.shape[:axis], int(np.prod(row)))
    return _on_rows(
        lowering, node, target, x, rows,
        lambda flat, out: lowering.add(op, [flat, *operands], out, node, epsilon=epsilon, **_clamp(target)),
    )  # fmt: skip


@lowers("LayerNormalization", attributes="axis epsilon stash_type", needs=(quantized_input, constant_gain, one_output))
def layer_norm(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """Layer normalization over the axes from ``axis`` on."""
    return _norm(lowering, node, target, "layer_norm", 1e-5)


@lowers(
    "RMSNormalization", "SimplifiedLayerNormalization",
    attributes="axis epsilon stash_type", needs=(quantized_input, constant_gain, one_output),
)  # fmt: skip
def rms_norm(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """RMS normalization over the axes from ``axis`` on."""
    return _norm(lowering, node, target, "rms_norm", 1e-5)
