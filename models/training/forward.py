"""The digits models as functions of their parameters, in torch, so that they can be differentiated.

Used by the training script, which also checks that they compute what the ONNX files compute. Parameters are named as in
``models.digits``, which is where the architecture is decided; nothing here trains.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from ..digits import SWIN_DEPTHS, SWIN_HEAD_FEATURES, SWIN_WINDOW
from ..zoo.swin import relative_position_index, shifted_window_mask

Tensors = dict[str, Any]  # torch tensors by parameter name
MOMENTUM = 0.1  # of what batch normalization observes


def cnn(p: Tensors, images: Any, training: bool) -> Any:
    """Logits of ``digits_cnn``, ``[batch, classes]``; while training, batch statistics are used and observed."""

    def layer(x: Any, index: int, stride: int = 1) -> Any:
        x = functional.conv2d(x, p[f"conv{index}.weight"], stride=stride, padding=1)
        tensors = [p[f"bn{index}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *tensors, training=training, momentum=MOMENTUM, eps=1e-5)

    x = functional.relu(layer(images, 1))
    x = functional.relu(layer(x, 2, stride=2))
    y = layer(functional.relu(layer(x, 3)), 4)
    x = functional.relu(x + y).mean(dim=(2, 3))
    return functional.linear(x, p["fc.weight"], p["fc.bias"])


def swin(p: Tensors, images: Any, training: bool) -> Any:
    """Logits of ``digits_swin``, ``[batch, classes]``."""
    del training  # nothing in it behaves differently
    x = functional.conv2d(images, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"])
    x = _norm(p, "patch_embed.norm", x.permute(0, 2, 3, 1))
    for stage, depth in enumerate(SWIN_DEPTHS):
        if stage:
            name = f"layers.{stage}.downsample"
            corners = [x[:, top::2, left::2] for top, left in ((0, 0), (1, 0), (0, 1), (1, 1))]
            x = functional.linear(_norm(p, f"{name}.norm", torch.cat(corners, dim=-1)), p[f"{name}.reduction.weight"])
        for index in range(depth):
            name = f"layers.{stage}.blocks.{index}"
            x = x + _window_attention(p, name, _norm(p, f"{name}.norm1", x), shifted=bool(index % 2))
            y = functional.gelu(_linear(p, f"{name}.mlp.fc1", _norm(p, f"{name}.norm2", x)))
            x = x + _linear(p, f"{name}.mlp.fc2", y)
    return _linear(p, "head", _norm(p, "norm", x).mean(dim=(1, 2)))


FORWARD: dict[str, Callable[[Tensors, Any, bool], Any]] = {"digits_cnn": cnn, "digits_swin": swin}


def _window_attention(p: Tensors, name: str, x: Any, *, shifted: bool) -> Any:
    batch, side, _, features = x.shape
    count = side // SWIN_WINDOW
    shift = SWIN_WINDOW // 2 if shifted and count > 1 else 0
    heads, tokens = features // SWIN_HEAD_FEATURES, SWIN_WINDOW**2

    x = torch.roll(x, (-shift, -shift), dims=(1, 2))
    x = x.reshape(batch, count, SWIN_WINDOW, count, SWIN_WINDOW, features).transpose(2, 3)
    joint = _linear(p, f"{name}.attn.qkv", x.reshape(-1, tokens, features))
    query, key, value = joint.reshape(-1, tokens, 3, heads, SWIN_HEAD_FEATURES).permute(2, 0, 3, 1, 4)
    logits = query * SWIN_HEAD_FEATURES**-0.5 @ key.transpose(2, 3)
    table = p[f"{name}.attn.relative_position_bias_table"]
    logits = logits + table[torch.from_numpy(relative_position_index(SWIN_WINDOW))].permute(2, 0, 1)
    mask = shifted_window_mask((side, side), SWIN_WINDOW, (shift, shift))
    if mask is not None:
        logits = logits.reshape(batch, count**2, heads, tokens, tokens) + torch.from_numpy(mask)[:, None]
    y = torch.softmax(logits.reshape(-1, heads, tokens, tokens), dim=-1) @ value
    y = _linear(p, f"{name}.attn.proj", y.transpose(1, 2).reshape(-1, tokens, features))

    y = y.reshape(batch, count, count, SWIN_WINDOW, SWIN_WINDOW, features).transpose(2, 3)
    return torch.roll(y.reshape(batch, side, side, features), (shift, shift), dims=(1, 2))


def _linear(p: Tensors, name: str, x: Any) -> Any:
    return functional.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def _norm(p: Tensors, name: str, x: Any) -> Any:
    return functional.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"])
