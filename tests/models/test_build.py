"""What the zoo writes is valid ONNX, runs, gives numbers of a sensible size, and is the same every time."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import models
import models.count
from models.graph import Network
from models.quantize import images
from models.zoo.swin import swin

# Outputs at the default input shape
CLASSES = [(1, 1000)]
ANCHORED = [(1, 255, 80, 80), (1, 255, 40, 40), (1, 255, 20, 20)]
ANCHOR_FREE = [(1, 144, 80, 80), (1, 144, 40, 40), (1, 144, 20, 20)]
OUTPUTS = {
    "conv_stack": [(1, 64, 56, 56)],
    "matmul_stack": [(1, 196, 384)],
    "yolov5s": ANCHORED,
    "yolov8n": ANCHOR_FREE,
    "yolov8s": ANCHOR_FREE,
}
HEAVY = ("vgg16", "vit_b16", "swin_s", "yolov8s", "deit_s", "convnext_t", "resnet50", "yolov5s")
NAMES = [recipe.name for recipe in models.recipes()]

# Smallest inputs that reach every layer, for tests that need no full-size model
SMALL = {"vgg16": (1, 3, 224, 224), "vit_b16": (1, 3, 32, 32), "deit_t": (1, 3, 32, 32), "deit_s": (1, 3, 32, 32)}
SMALL |= {name: (1, 3, 64, 64) for name in NAMES if name not in SMALL} | {
    "swin_t": (1, 3, 112, 112),
    "conv_stack": (1, 64, 8, 8),
    "matmul_stack": (1, 8, 384),
}


def run(model, seed=100):
    """All outputs for a seeded image."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    (image,) = images(tuple(value.shape), seed=seed, count=1)
    return session.run(None, {value.name: image})


def operators(model):
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else []) for name in NAMES]
)
def test_model_is_valid_and_its_outputs_are_neither_flat_nor_wild(name):
    model = models.build(name)
    onnx.checker.check_model(model, full_check=True)
    first, second = run(model), run(model, seed=101)
    assert [output.shape for output in first] == OUTPUTS.get(name, CLASSES)
    for one, other in zip(first, second, strict=True):
        assert np.isfinite(one).all()
        assert 0.1 < one.std() < 5
        # Two images give different answers: weights that only carry their biases forward would not.
        assert np.abs(one - other).mean() > 0.1 * one.std()


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_large", "deit_t", "yolov8n"])
def test_equal_arguments_give_equal_bytes(name):
    first, second, other = (models.build(name, seed=seed, input_shape=SMALL[name]) for seed in (3, 3, 4))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert first.graph.initializer[0] != other.graph.initializer[0]


def test_weights_of_a_layer_do_not_depend_on_its_neighbours():
    ten, thousand = (models.build("mobilenet_v2", classes=classes) for classes in (10, 1000))
    for one, other in zip(ten.graph.initializer[:-2], thousand.graph.initializer[:-2], strict=True):
        assert one == other


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large", "yolov8n"])
def test_folding_batch_normalization_changes_nothing_but_rounding(name):
    folded, kept = (models.build(name, fold_bn=fold, input_shape=SMALL[name]) for fold in (True, False))
    assert "BatchNormalization" not in operators(folded)
    assert "BatchNormalization" in operators(kept)
    assert models.count.parameters(folded) == models.count.parameters(kept)
    for one, other in zip(run(folded), run(kept), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * one.std())


def small_swin(*, opset=17, style="torchvision", shape=(1, 3, 32, 32)):
    """Two stages of two blocks, windows of 4x4 on 8x8 tokens and one window on 4x4."""
    net = Network("small_swin", opset=opset)
    x = net.input("input", shape)
    return net.finish({"output": swin(net, x, channels=32, depths=(2, 2), window=4, classes=10, style=style)})


OPSETS = (11, 13, 18, 20, 21)
BY_OPSET = {
    "small_swin": small_swin,
    "mobilenet_v3_large": lambda opset=17: models.build("mobilenet_v3_large", opset=opset, input_shape=(1, 3, 32, 32)),
    "yolov8n": lambda opset=17: models.build("yolov8n", opset=opset, input_shape=(1, 3, 64, 64)),
}


@pytest.mark.parametrize("name", BY_OPSET)
def test_every_opset_computes_the_same(name):
    wanted = run(BY_OPSET[name]())
    for opset in OPSETS:
        model = BY_OPSET[name](opset=opset)
        onnx.checker.check_model(model, full_check=True)
        for one, other in zip(run(model), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * other.std())


def test_opsets_offer_what_exporters_write():
    old, usual, new = (
        operators(models.build("swin_t", opset=opset, input_shape=SMALL["swin_t"])) for opset in (16, 17, 20)
    )
    assert old["LayerNormalization"] == 0
    assert old["Sqrt"] == usual["LayerNormalization"] == new["LayerNormalization"] == 29
    assert (usual["Erf"], usual["Gelu"], new["Erf"], new["Gelu"]) == (12, 0, 0, 12)
    assert operators(models.build("mobilenet_v3_large", opset=13))["HardSwish"] == 0


def test_exporters_styles_are_one_network():
    # torchvision gathers query, key and value, timm splits them, transformers has a layer for each of them.
    found = {}
    for style in ("torchvision", "timm", "transformers"):
        model = small_swin(style=style)
        onnx.checker.check_model(model, full_check=True)
        assert 0.1 < run(model)[0].std() < 5
        found[style] = operators(model), models.count.parameters(model), models.count.macs(model)
    (torchvision, *sizes), (timm, *timm_sizes), (transformers, *transformers_sizes) = found.values()
    assert sizes == timm_sizes == transformers_sizes
    assert torchvision["Gather"] == 3 * 4
    assert (timm["Split"], timm["Squeeze"]) == (4, 3 * 4)
    assert transformers["MatMul"] == timm["MatMul"] + 2 * 4


def test_vit_styles_are_one_arithmetic():
    torchvision, timm = (
        run(models.build("deit_t", style=style, input_shape=SMALL["deit_t"])) for style in ("torchvision", "timm")
    )
    np.testing.assert_array_equal(torchvision[0], timm[0])


def test_swin_pads_what_does_not_fit_its_windows():
    model = small_swin(shape=(2, 3, 36, 52))
    assert operators(model)["Pad"] > 0
    (logits,) = run(model)
    assert logits.shape == (2, 10)
    assert np.isfinite(logits).all()


def test_a_batch_is_its_images_one_by_one():
    pair_model, single = small_swin(shape=(2, 3, 36, 52)), small_swin(shape=(1, 3, 36, 52))
    (pair,) = images((2, 3, 36, 52), seed=5, count=1)
    feed = [(pair_model, pair), (single, pair[:1]), (single, pair[1:])]
    logits = [ort.InferenceSession(net.SerializeToString()).run(None, {"input": image})[0] for net, image in feed]
    np.testing.assert_allclose(logits[0], np.concatenate(logits[1:]), rtol=0, atol=1e-4)


def test_every_family_is_registered():
    folder = Path(models.__file__).parent / "zoo"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    (imports,) = [
        node for node in ast.parse((folder / "__init__.py").read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    assert {alias.name for alias in imports.names} == modules


def test_every_parameter_has_a_default_of_its_type():
    for recipe in models.recipes():
        assert all(isinstance(value, int | float | str | bool) for value in recipe.parameters.values()), recipe.name
