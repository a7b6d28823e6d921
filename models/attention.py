"""Multi-head self-attention, written as one of three libraries' exports.

Used by the transformer recipes. The libraries differ in how query, key and value are taken apart and in where the
logits are scaled; the arithmetic is the same. No other layer lives here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .errors import ParameterError
from .graph import Network, Value
from .layers import linear, reshape, split, squeeze, transpose

STYLES = ("torchvision", "timm", "transformers")


def attention(
    net: Network,
    x: Value,
    heads: int,
    *,
    style: str,
    gain: float = 1.0,
    add_to_logits: Callable[[Value], Value] | None = None,
) -> Value:
    """``softmax(Q K^T / sqrt(d) + position) V`` for each head, and the projection that joins the heads.

    Args:
        net: the graph.
        x: ``[batch, tokens, features]``; windows count as batch.
        heads: number of heads; it divides the features.
        style: whose export to write, one of ``STYLES``.
        gain: of the projection.
        add_to_logits: adds position bias and masks to ``[batch, heads, tokens, tokens]``.

    Raises:
        ParameterError: the style is unknown.
    """
    if style not in STYLES:
        raise ParameterError(net.name, "style", f"is {style!r}, but must be one of {', '.join(STYLES)}")
    batch, tokens, features = x.shape
    root = np.float32(math.sqrt(features // heads))
    query, key, value = _query_key_value(net, x, heads, style)
    if style != "transformers":
        query = net.op("Mul", query, net.constant("scale", 1 / root))
    logits = net.op("MatMul", query, transpose(net, key, 0, 1, 3, 2))
    if style == "transformers":
        logits = net.op("Div", logits, net.constant("root", root))
    if add_to_logits:
        logits = add_to_logits(logits)
    y = net.op("MatMul", net.op("Softmax", logits, axis=-1), value)
    y = reshape(net, transpose(net, y, 0, 2, 1, 3), batch, tokens, features)
    return linear(net, "proj", y, features, gain=gain)


def _query_key_value(net: Network, x: Value, heads: int, style: str) -> tuple[Value, ...]:
    """Three tensors ``[batch, heads, tokens, features / heads]``."""
    batch, tokens, features = x.shape
    if style == "transformers":
        apart = [linear(net, name, x, features) for name in ("query", "key", "value")]
        by_head = [reshape(net, part, batch, tokens, heads, features // heads) for part in apart]
        return tuple(transpose(net, part, 0, 2, 1, 3) for part in by_head)
    joint = linear(net, "qkv", x, 3 * features)
    joint = transpose(net, reshape(net, joint, batch, tokens, 3, heads, features // heads), 2, 0, 3, 1, 4)
    if style == "timm":
        return tuple(squeeze(net, part, 0) for part in split(net, joint, 3, 0))
    return tuple(net.op("Gather", joint, net.constant("index", index), axis=0) for index in range(3))
