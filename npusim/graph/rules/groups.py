"""Rules of normalizations that are layer or RMS normalization in disguise: over groups of channels, and by length."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir import Array, Tensor
from ..lowering import Lowering
from ..refusal import Refusal, lowers
from ..source import SourceNode
from ..target import Target, whole_range
from . import layout
from .needs import quantized_input
from .normalization import constant_gain, positive_epsilon

TINY = float(np.finfo(np.float32).tiny)
"""An epsilon that no mean of squares of 8- or 16-bit numbers notices, and that keeps a row of zeros at zero."""


@lowers("InstanceNormalization", attributes="epsilon", needs=(quantized_input, constant_gain))
def instance_norm(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """Each channel of each image by itself: groups of one channel."""
    return _group_norm(lowering, node, target, lowering.shape(node.inputs[0])[1])


@lowers("GroupNormalization", attributes="epsilon num_groups stash_type", needs=(quantized_input, constant_gain))
def group_norm(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """Groups of channels, each normalized as a row."""
    groups = int(node.attributes["num_groups"])
    if groups < 1 or lowering.shape(node.inputs[0])[1] % groups:
        raise Refusal(node, "it needs groups that divide the channels")
    return _group_norm(lowering, node, target, groups)


def _group_norm(lowering: Lowering, node: SourceNode, target: Target, groups: int) -> Tensor:
    """A row for each group; groups of equal gain and offset go through one operation."""
    x = lowering.activation(node.inputs[0])
    assert x is not None
    batch, channels = x.shape[:2]
    row = int(np.prod(x.shape[1:])) // groups
    gain, offset = (_by_group(lowering, node, index, channels, groups, row) for index in (1, 2))
    attributes: dict[str, Any] = {"epsilon": positive_epsilon(node, 1e-5)}
    if target.clamp != whole_range(target.dtype):
        attributes["clamp"] = target.clamp
    name = target.name or f"{target.value}:q"
    rows = layout.reshape(lowering, x, (batch, groups, row), node, f"{x.name}:groups")
    same = bool((gain == gain[0]).all() and (offset == offset[0]).all())
    parts = []
    for group in range(1 if same else groups):
        mine = rows if same else layout.slice_(
            lowering, rows, (0, group, 0), (1, 1, 1), (batch, 1, row), node, f"{x.name}:group:{group}"
        )  # fmt: skip
        operands = [
            lowering.constant(f"{node.name}:{what}:{group}", values[group], "f32")
            for what, values in (("gain", gain), ("offset", offset))
        ]
        result = Tensor(
            name=lowering.unique(f"{name}:group:{group}"), shape=mine.shape, dtype=target.dtype,
            quantization=target.quantization,
        )  # fmt: skip
        parts.append(lowering.add("layer_norm", [mine, *operands], result, node, **attributes))
    whole = parts[0]
    if len(parts) > 1:
        whole = layout.move(lowering, "concat", parts, rows.shape, node, f"{name}:groups", axis=1)
    return layout.reshape(lowering, whole, x.shape, node, name)


def _by_group(lowering: Lowering, node: SourceNode, index: int, channels: int, groups: int, row: int) -> Array:
    """Gain or offset as f32[groups, row]."""
    array = lowering.array(node.inputs[index])
    assert array is not None
    if array.size != channels:
        raise Refusal(node, "it needs a gain and an offset for each channel")
    return np.repeat(np.float32(array).reshape(-1), row * groups // channels).reshape(groups, row)


@lowers("LpNormalization", attributes="axis p", needs=(quantized_input,))
def lp_norm(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """Division by the length of a row: RMS normalization whose gain is one over the root of the row's extent."""
    x = lowering.activation(node.inputs[0])
    assert x is not None
    rank = len(x.shape)
    if int(node.attributes.get("p", 2)) != 2 or int(node.attributes.get("axis", -1)) % rank != rank - 1:
        raise Refusal(node, "it needs p = 2 and the last axis")
    gain = np.full(x.shape[-1:], 1 / np.sqrt(x.shape[-1]), np.float32)
    operand = lowering.constant(f"{node.name}:gain", gain, "f32")
    return lowering.emit(target, "rms_norm", [x, operand], node, epsilon=TINY)
