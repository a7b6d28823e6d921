"""Swin transformers with pretrained weights, where the user has them: ``python -m models swin_t --pretrained NAME``.

Takes what transformers has in its cache or in a folder, and builds the zoo's Swin with those weights. The network is
used only where asked for. Used by the command; nothing else here knows transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import onnx

from .errors import ModelError
from .graph import Array, Network
from .zoo.swin import swin

# transformers' module names and ours, in the order in which they are replaced. Version 5 renamed what is in a block
# while it went on; both spellings are known.
RENAMED = (
    (r"^swin\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^swin\.embeddings\.norm\.", "patch_embed.norm."),
    (r"^swin\.layernorm\.", "norm."),
    (r"^classifier\.", "head."),
    (r"^swin\.encoder\.", ""),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.relative_position_bias\.", ".attn."),
    (r"\.attention\.q_proj\.", ".attn.query."),
    (r"\.attention\.k_proj\.", ".attn.key."),
    (r"\.attention\.v_proj\.", ".attn.value."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.self\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)


def our_name(theirs: str) -> str:
    """The parameter of ``models.zoo.swin`` that one of transformers' Swin becomes.

    Patches are merged at the end of a stage there, and at the beginning of the next one here.

    >>> our_name("swin.encoder.layers.0.blocks.1.attention.output.dense.bias")
    'layers.0.blocks.1.attn.proj.bias'
    >>> our_name("swin.encoder.layers.2.downsample.norm.weight")
    'layers.3.downsample.norm.weight'
    """
    name = theirs
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"^layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) + 1}.downsample", name)


def export(weights: Mapping[str, Array], config: Any, *, name: str = "swin", opset: int = 17) -> onnx.ModelProto:
    """The zoo's Swin with given weights, written as transformers' graph.

    Args:
        weights: float32, by transformers' names; buffers such as index tables are left out.
        config: transformers' SwinConfig.
        name: of the graph.
        opset: of the model.

    Raises:
        ModelError: weights and architecture do not fit.
    """
    ours = {our_name(name): values for name, values in weights.items()}
    given = set(ours)
    net = Network(name, opset=opset, weights=ours)
    logits = swin(
        net,
        net.input("input", (1, config.num_channels, config.image_size, config.image_size)),
        channels=config.embed_dim,
        depths=config.depths,
        window=config.window_size,
        classes=config.num_labels,
        style="transformers",
        patch=config.patch_size,
        head_features=config.embed_dim // config.num_heads[0],
    )
    if different := given ^ set(net.parameters):
        raise ModelError(f"weights and architecture differ in {', '.join(sorted(different)[:5])}")
    return net.finish({"output": logits})


def load(checkpoint: str, *, download: bool = False) -> tuple[dict[str, Array], Any]:
    """Weights by transformers' names, and transformers' SwinConfig.

    Args:
        checkpoint: a folder, or a name such as ``microsoft/swin-tiny-patch4-window7-224``.
        download: whether to fetch what is not in the cache.

    Raises:
        ModelError: there is no such checkpoint here, or torch and transformers are not installed.
    """
    try:
        from transformers import SwinForImageClassification
    except ImportError as error:
        raise ModelError("pretrained weights need torch and transformers: pip install '.[zoo]'") from error
    try:
        model = SwinForImageClassification.from_pretrained(checkpoint, local_files_only=not download)
    except OSError as error:
        hint = "" if download else "; --download fetches it"
        raise ModelError(f"there is no checkpoint {checkpoint!r} here{hint}") from error
    return {name: values.detach().numpy() for name, values in model.named_parameters()}, model.config
