"""Vision transformers of one resolution: ViT (Dosovitskiy et al. 2021) and DeiT (Touvron et al. 2021).

Recipes only; layers live in ``models.layers`` and ``models.attention``.
"""

from __future__ import annotations

import numpy as np

from ..attention import attention
from ..graph import Network, Value
from ..layers import BRANCH, LINEAR, SMOOTH, concat, conv, gelu, layer_norm, linear, normal, reshape, transpose
from ..recipe import recipe


@recipe("DeiT-Tiny: 192 features, 3 heads, patches 16x16")
def deit_t(net: Network, x: Value, *, classes: int = 1000, style: str = "timm") -> Value:
    """Without distillation token."""
    return vit(net, x, features=192, heads=3, classes=classes, style=style)


@recipe("DeiT-Small: 384 features, 6 heads, patches 16x16")
def deit_s(net: Network, x: Value, *, classes: int = 1000, style: str = "timm") -> Value:
    """Without distillation token."""
    return vit(net, x, features=384, heads=6, classes=classes, style=style)


@recipe("ViT-B/16: 768 features, 12 heads, patches 16x16")
def vit_b16(net: Network, x: Value, *, classes: int = 1000, style: str = "timm") -> Value:
    """The base size of the original paper."""
    return vit(net, x, features=768, heads=12, classes=classes, style=style)


def vit(
    net: Network,
    x: Value,
    *,
    features: int,
    heads: int,
    classes: int,
    style: str,
    depth: int = 12,
    patch: int = 16,
) -> Value:
    """Patch embedding, class token and positions, ``depth`` blocks, and a classifier on the class token.

    Args:
        net: the graph.
        x: image, ``[batch, 3, height, width]``.
        features: of a token.
        heads: of the attention.
        classes: of the classifier.
        style: whose export of attention to write, one of ``attention.STYLES``.
        depth: number of blocks.
        patch: side of a patch.
    """
    batch = x.shape[0]
    with net.scope("patch_embed"):
        x = conv(net, "proj", x, features, kernel=patch, stride=patch, padding=0, gain=LINEAR)
        x = transpose(net, reshape(net, x, batch, features, -1), 0, 2, 1)
    token = net.parameter("cls_token", (1, 1, features), normal(0.5))
    x = concat(net, [net.constant("cls_token", np.repeat(token, batch, axis=0)), x], axis=1)
    positions = net.parameter("pos_embed", (1, x.shape[1], features), normal(0.3))
    x = net.op("Add", x, net.constant("pos_embed", positions))
    for index in range(depth):
        with net.scope("blocks", index):
            x = _block(net, x, heads, style)
    x = layer_norm(net, "norm", x, eps=1e-6)
    return linear(net, "head", net.op("Gather", x, net.constant("index", 0), axis=1), classes)


def _block(net: Network, x: Value, heads: int, style: str) -> Value:
    y = layer_norm(net, "norm1", x, eps=1e-6)
    with net.scope("attn"):
        y = attention(net, y, heads, style=style)
    x = net.op("Add", x, y)
    y = layer_norm(net, "norm2", x, eps=1e-6)
    with net.scope("mlp"):
        y = gelu(net, linear(net, "fc1", y, 4 * x.shape[-1]))
        y = linear(net, "fc2", y, x.shape[-1], gain=SMOOTH * BRANCH)
    return net.op("Add", x, y)
