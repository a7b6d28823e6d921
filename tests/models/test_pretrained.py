"""The exporter of pretrained Swins against transformers' own Swin, with random weights: no download is needed."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from models.errors import ModelError
from models.pretrained import export, our_name
from models.quantize import images


class Config:
    """The fields of a SwinConfig that the exporter reads."""

    num_channels = 3
    image_size = 32
    embed_dim = 16
    depths = (2, 2)
    num_heads = (2, 4)
    window_size = 4
    num_labels = 10
    patch_size = 4


def test_every_name_finds_its_place():
    block = "swin.encoder.layers.0.blocks.1"
    for part in ("self.relative_position_bias_table", "relative_position_bias.relative_position_bias_table"):
        assert our_name(f"{block}.attention.{part}") == "layers.0.blocks.1.attn.relative_position_bias_table"
    for part in ("self.value.bias", "v_proj.bias"):
        assert our_name(f"{block}.attention.{part}") == "layers.0.blocks.1.attn.value.bias"
    for part in ("output.dense.bias", "o_proj.bias"):
        assert our_name(f"{block}.attention.{part}") == "layers.0.blocks.1.attn.proj.bias"
    assert our_name(f"{block}.mlp.fc1.weight") == "layers.0.blocks.1.mlp.fc1.weight"
    assert our_name("swin.embeddings.patch_embeddings.projection.weight") == "patch_embed.proj.weight"
    assert our_name("swin.encoder.layers.1.blocks.0.attention.self.query.bias") == "layers.1.blocks.0.attn.query.bias"
    assert our_name("swin.encoder.layers.1.blocks.0.intermediate.dense.weight") == "layers.1.blocks.0.mlp.fc1.weight"
    assert our_name("swin.encoder.layers.1.blocks.0.output.dense.weight") == "layers.1.blocks.0.mlp.fc2.weight"
    assert our_name("classifier.bias") == "head.bias"


def test_missing_weights_are_an_error_and_not_drawn():
    with pytest.raises(ModelError, match="weights and architecture differ in head"):
        export({}, Config())


def test_the_exported_model_computes_what_transformers_computes():
    torch = pytest.importorskip("torch", reason="the zoo extra is not installed")
    transformers = pytest.importorskip("transformers", reason="the zoo extra is not installed")
    fields = {name: value for name, value in vars(Config).items() if not name.startswith("_")}
    config = transformers.SwinConfig(**fields)
    torch.manual_seed(0)
    theirs = transformers.SwinForImageClassification(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # the initial position biases are zero, which proves nothing
            parameter.add_(0.2 * torch.randn_like(parameter))
    weights = {name: values.detach().numpy() for name, values in theirs.named_parameters()}
    (image,) = images((1, 3, 32, 32), seed=0, count=1)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(image)).logits.numpy()
    session = ort.InferenceSession(export(weights, config).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": image})[0], wanted, rtol=0, atol=1e-4)
