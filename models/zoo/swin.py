"""Swin transformers (Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021).

Each is written as one of three exporters' graphs, which differ in how query, key and value are taken apart, where the
scale is applied, and how patches are merged. Recipes only; layers live in ``models.layers``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..attention import attention
from ..graph import Array, Network, Value
from ..layers import (
    BRANCH,
    LINEAR,
    SMOOTH,
    concat,
    conv,
    gelu,
    layer_norm,
    linear,
    mean,
    normal,
    pad,
    reshape,
    roll,
    slice_,
    transpose,
)
from ..recipe import recipe

MASKED = -100.0  # added to the logits of two tokens that only the cyclic shift made neighbours


@recipe("Swin-T: 96 channels, depths 2-2-6-2, windows 7x7")
def swin_t(net: Network, x: Value, *, classes: int = 1000, window: int = 7, style: str = "torchvision") -> Value:
    """The smallest published Swin; 3, 6, 12 and 24 heads of 32 features."""
    return swin(net, x, channels=96, depths=(2, 2, 6, 2), window=window, classes=classes, style=style)


@recipe("Swin-S: 96 channels, depths 2-2-18-2, windows 7x7")
def swin_s(net: Network, x: Value, *, classes: int = 1000, window: int = 7, style: str = "torchvision") -> Value:
    """Swin-T with three times as many blocks in the third stage."""
    return swin(net, x, channels=96, depths=(2, 2, 18, 2), window=window, classes=classes, style=style)


def swin(
    net: Network,
    x: Value,
    *,
    channels: int,
    depths: Sequence[int],
    window: int,
    classes: int,
    style: str = "torchvision",
    patch: int = 4,
    head_features: int = 32,
) -> Value:
    """Patch embedding, stages of blocks with patch merging between them, average, classifier.

    Args:
        net: the graph.
        x: image, ``[batch, 3, height, width]``.
        channels: of the first stage; each further stage has twice as many.
        depths: blocks of each stage.
        window: side of the square windows.
        classes: of the classifier.
        style: whose export to write, one of ``STYLES``.
        patch: side of a patch.
        head_features: features of one attention head.
    """
    with net.scope("patch_embed"):
        x = conv(net, "proj", x, channels, kernel=patch, stride=patch, padding=0, gain=LINEAR)
        x = layer_norm(net, "norm", transpose(net, x, 0, 2, 3, 1))
    for stage, depth in enumerate(depths):
        with net.scope("layers", stage):
            if stage:
                x = _merge_patches(net, x, style)
            for index in range(depth):
                with net.scope("blocks", index):
                    shift = window // 2 if index % 2 else 0
                    x = _block(net, x, x.shape[-1] // head_features, window, shift, style)
    x = layer_norm(net, "norm", x)
    batch, height, width, features = x.shape
    if style == "torchvision":  # AdaptiveAvgPool2d(1) on NCHW
        x = net.op("Flatten", net.op("GlobalAveragePool", transpose(net, x, 0, 3, 1, 2)), axis=1)
    elif style == "timm":
        x = mean(net, x, (1, 2), keepdims=False)
    else:  # AdaptiveAvgPool1d(1) over the tokens
        tokens = transpose(net, reshape(net, x, batch, height * width, features), 0, 2, 1)
        x = net.op("Flatten", net.op("GlobalAveragePool", tokens), axis=1)
    return linear(net, "head", x, classes)


def _block(net: Network, x: Value, heads: int, window: int, shift: int, style: str) -> Value:
    """Attention within windows and a two-layer perceptron, each behind a layer norm and beside a shortcut."""
    features = x.shape[-1]
    y = _window_attention(net, layer_norm(net, "norm1", x), heads, window, shift, style)
    x = net.op("Add", x, y)
    y = layer_norm(net, "norm2", x)
    with net.scope("mlp"):
        y = gelu(net, linear(net, "fc1", y, 4 * features))
        y = linear(net, "fc2", y, features, gain=SMOOTH * BRANCH)
    return net.op("Add", x, y)


def _window_attention(net: Network, x: Value, heads: int, window: int, shift: int, style: str) -> Value:
    """Partition into windows (padded and shifted where needed), attend, and put the windows back."""
    batch, height, width, features = x.shape
    below, right = -height % window, -width % window
    if below or right:
        x = pad(net, x, (0, 0, 0, 0), (0, below, right, 0))
    rows, columns = (height + below) // window, (width + right) // window
    # A side that fits into one window is not shifted.
    shifts = [shift if count > 1 else 0 for count in (rows, columns)]
    for axis, amount in enumerate(shifts, start=1):
        if amount:
            x = roll(net, x, axis, -amount)
    x = reshape(net, x, batch, rows, window, columns, window, features)
    x = transpose(net, x, 0, 1, 3, 2, 4, 5)
    x = reshape(net, x, batch * rows * columns, window * window, features)

    mask = shifted_window_mask((rows * window, columns * window), window, (shifts[0], shifts[1]))
    with net.scope("attn"):
        x = attention(net, x, heads, style=style, add_to_logits=_position(net, heads, window, mask))

    x = reshape(net, x, batch, rows, columns, window, window, features)
    x = transpose(net, x, 0, 1, 3, 2, 4, 5)
    x = reshape(net, x, batch, rows * window, columns * window, features)
    for axis, amount in enumerate(shifts, start=1):
        if amount:
            x = roll(net, x, axis, amount)
    if below or right:
        x = slice_(net, slice_(net, x, 1, 0, height), 2, 0, width)
    return x


def _position(net: Network, heads: int, window: int, mask: Array | None) -> Callable[[Value], Value]:
    """Adds relative position bias, and the mask where given, to logits ``[windows, heads, tokens, tokens]``."""
    table = net.parameter("relative_position_bias_table", ((2 * window - 1) ** 2, heads), normal(0.2))
    bias = table[relative_position_index(window)].transpose(2, 0, 1)

    def add(logits: Value) -> Value:
        logits = net.op("Add", logits, net.constant("relative_position_bias", bias[None]))
        if mask is None:
            return logits
        windows, _, tokens, _ = logits.shape
        grouped = reshape(net, logits, windows // len(mask), len(mask), heads, tokens, tokens)
        grouped = net.op("Add", grouped, net.constant("attn_mask", mask[None, :, None]))
        return reshape(net, grouped, windows, heads, tokens, tokens)

    return add


def _merge_patches(net: Network, x: Value, style: str) -> Value:
    """Join 2x2 neighbours into one token of twice the features; an odd side is padded."""
    batch, height, width, features = x.shape
    with net.scope("downsample"):
        if height % 2 or width % 2:
            x = pad(net, x, (0, 0, 0, 0), (0, height % 2, width % 2, 0))
            batch, height, width, features = x.shape
        if style == "timm":
            x = reshape(net, x, batch, height // 2, 2, width // 2, 2, features)
            x = reshape(net, transpose(net, x, 0, 1, 3, 4, 2, 5), batch, height // 2, width // 2, 4 * features)
        else:
            corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
            quarters = [slice_(net, slice_(net, x, 1, top, step=2), 2, left, step=2) for top, left in corners]
            x = concat(net, quarters, axis=-1)
        return linear(net, "reduction", layer_norm(net, "norm", x), 2 * features, bias=False)


def relative_position_index(window: int) -> Array:
    """Row of the bias table for each pair of tokens of a window, ``[tokens, tokens]``, int64.

    The table has one row for each offset ``(dy, dx)`` between two tokens, both from ``1 - window`` to ``window - 1``.

    >>> relative_position_index(2)
    array([[4, 3, 1, 0],
           [5, 4, 2, 1],
           [7, 6, 4, 3],
           [8, 7, 5, 4]])
    """
    positions = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    offsets = positions[:, :, None] - positions[:, None, :] + (window - 1)
    return offsets[0] * (2 * window - 1) + offsets[1]


def shifted_window_mask(size: tuple[int, int], window: int, shifts: tuple[int, int]) -> Array | None:
    """What to add to the logits so that tokens attend only to true neighbours, ``[windows, tokens, tokens]``, float32.

    After the cyclic shift a window may hold tokens from up to four regions of the image; two tokens of different
    regions get ``MASKED``. None where nothing is shifted.

    >>> shifted_window_mask((2, 4), 2, (0, 1))[1]
    array([[   0., -100.,    0., -100.],
           [-100.,    0., -100.,    0.],
           [   0., -100.,    0., -100.],
           [-100.,    0., -100.,    0.]], dtype=float32)
    """
    if not any(shifts):
        return None
    # After the shift the last row and the last column of windows hold what came around from the other end.
    wrapped = [np.arange(side) >= side - shift for side, shift in zip(size, shifts, strict=True)]
    regions = 2 * wrapped[0][:, None] + wrapped[1][None, :]
    rows, columns = size[0] // window, size[1] // window
    regions = regions.reshape(rows, window, columns, window).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    differ = regions[:, :, None] != regions[:, None, :]
    return np.where(differ, np.float32(MASKED), np.float32(0))
