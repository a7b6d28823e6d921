"""The recipes against the implementations they are modelled on: torchvision's and timm's, given the recipes' weights.

Run where those packages are installed (they are in no extra): ``pip install torchvision timm``.
"""

from __future__ import annotations

import re

import numpy as np
import onnxruntime as ort
import pytest

from models.graph import Network, Value
from models.quantize import images
from models.recipe import find

pytestmark = pytest.mark.slow

BUFFERS = ("num_batches_tracked", "relative_position_index", "attn_mask")


def torchvision_swin(name):
    """The recipe's parameter in torchvision's numbering, where stages and mergings alternate."""
    name = name.replace("patch_embed.proj", "features.0.0").replace("patch_embed.norm", "features.0.2")
    name = re.sub(r"layers\.(\d)\.blocks\.(\d+)", lambda found: f"features.{2 * int(found[1]) + 1}.{found[2]}", name)
    name = re.sub(r"layers\.(\d)\.downsample", lambda found: f"features.{2 * int(found[1])}", name)
    return name.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")


def timm_swin(name):
    return name.replace("head.", "head.fc.")


# recipe, package, its name there, style, how its parameters are called there (None: in the same order)
CASES = [
    ("swin_t", "torchvision", "swin_t", "torchvision", torchvision_swin),
    ("swin_t", "timm", "swin_tiny_patch4_window7_224", "timm", timm_swin),
    ("deit_t", "timm", "deit_tiny_patch16_224", "timm", str),
    ("vit_b16", "timm", "vit_base_patch16_224", "timm", str),
    ("mobilenet_v1", "timm", "mobilenetv1_100", None, None),
    ("resnet18", "torchvision", "resnet18", None, str),
    ("resnet50", "torchvision", "resnet50", None, str),
    ("mobilenet_v2", "torchvision", "mobilenet_v2", None, str),
    ("mobilenet_v3_large", "torchvision", "mobilenet_v3_large", None, str),
    ("efficientnet_b0", "torchvision", "efficientnet_b0", None, str),
    ("squeezenet1_1", "torchvision", "squeezenet1_1", None, str),
    ("convnext_t", "torchvision", "convnext_tiny", None, str),
    ("vgg16", "torchvision", "vgg16", None, str),
]


@pytest.mark.parametrize(("name", "package", "their_name", "style", "renamed"), CASES)
def test_recipe_computes_what_the_original_computes(name, package, their_name, style, renamed):
    torch = pytest.importorskip("torch", reason="needs torch")
    theirs = pytest.importorskip(package, reason=f"needs {package}")
    create = theirs.create_model if package == "timm" else theirs.models.get_model
    original = create(their_name).eval()

    weights: dict[str, np.ndarray] = {}
    recipe = find(name)
    net = Network(name, weights=weights)
    parameters = {**recipe.parameters, **({"style": style} if style else {})}
    shape = (1, 3, 224, 224)
    output = recipe.builder(net, net.input("input", shape), **parameters)
    assert isinstance(output, Value)
    model = net.finish({"output": output})

    state = {key: value for key, value in original.state_dict().items() if not key.endswith(BUFFERS)}
    names = [renamed(key) for key in weights] if renamed else list(state)
    assert set(names) == set(state)
    given = zip(names, weights.values(), strict=True)
    original.load_state_dict({key: torch.from_numpy(value) for key, value in given}, strict=False)
    (image,) = images(shape, seed=1, count=1)
    with torch.no_grad():
        wanted = original(torch.from_numpy(image)).numpy()
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": image})[0], wanted, rtol=0, atol=1e-4)
