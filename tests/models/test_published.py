"""Size of every model of the zoo against what its authors, torchvision, timm, Keras or Ultralytics publish."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import models
from models import count


@dataclass(frozen=True, slots=True)
class Published:
    parameters: int  # exact
    macs: float  # as printed; the sources count one multiply-accumulate as one "FLOP" unless said otherwise
    digits: float  # half a unit of the last printed digit
    source: str


TORCHVISION = "torchvision.models documentation, table of weights: num_params and GFLOPS"
PUBLISHED = {
    "swin_t": Published(28_288_354, 4.49e9, 0.005e9, TORCHVISION),
    "swin_s": Published(49_606_258, 8.74e9, 0.005e9, TORCHVISION),
    "resnet18": Published(11_689_512, 1.81e9, 0.005e9, TORCHVISION),
    "resnet50": Published(25_557_032, 4.09e9, 0.005e9, TORCHVISION),
    "mobilenet_v2": Published(3_504_872, 0.30e9, 0.005e9, TORCHVISION),
    "mobilenet_v3_large": Published(5_483_032, 0.22e9, 0.005e9, TORCHVISION),
    "squeezenet1_1": Published(1_235_496, 0.35e9, 0.005e9, TORCHVISION),
    "vgg16": Published(138_357_544, 15.47e9, 0.005e9, TORCHVISION),
    "efficientnet_b0": Published(5_288_548, 0.39e9, 0.005e9, TORCHVISION),
    "convnext_t": Published(28_589_128, 4.46e9, 0.005e9, TORCHVISION),
    "vit_b16": Published(86_567_656, 17.56e9, 0.005e9, TORCHVISION),
    # timm's results tables: 5.72 M and 1.26 GMAC, 22.05 M and 4.61 GMAC (it counts the biases' additions as well);
    # Touvron et al. 2021, table 5: 5 M and 22 M parameters.
    "deit_t": Published(5_717_416, 1.26e9, 0.0075e9, "timm, deit_tiny_patch16_224"),
    "deit_s": Published(22_050_664, 4.61e9, 0.0125e9, "timm, deit_small_patch16_224"),
    # Howard et al. 2017, table 4: 569 M multiply-adds, 4.2 M parameters; Keras MobileNet: 4,231,976 trainable.
    "mobilenet_v1": Published(4_231_976, 0.569e9, 0.0005e9, "MobileNets paper; keras.applications.MobileNet"),
    # Ultralytics prints GFLOPs with two operations a multiply-accumulate; the last 1 to 2 % are what its profiler adds
    # for normalization, activation and box decoding. YOLOv8 has 16 more numbers, the fixed weights of that decoding.
    "yolov5s": Published(7_235_389, 16.5e9 / 2, 0.05e9, "Ultralytics YOLOv5 6.x summary: 7235389 parameters"),
    "yolov8n": Published(3_157_184, 8.7e9 / 2, 0.05e9, "Ultralytics YOLOv8 summary: 3157184 gradients"),
    "yolov8s": Published(11_166_544, 28.6e9 / 2, 0.05e9, "Ultralytics YOLOv8 summary: 11166544 gradients"),
}
HEAVY = ("vgg16", "vit_b16", "swin_s")


def test_every_model_but_the_stacks_has_a_published_size():
    assert {recipe.name for recipe in models.recipes()} - set(PUBLISHED) == {"conv_stack", "matmul_stack"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else []) for name in PUBLISHED]
)
def test_parameters_and_multiplications_are_those_published(name):
    model = models.build(name)
    published = PUBLISHED[name]
    assert count.parameters(model) == published.parameters
    assert abs(count.macs(model) - published.macs) <= published.digits


def test_a_stack_counts_what_a_hand_counts():
    # 2 layers of 1x1 on 4x4: 2 * 16 places * 8 * 8; parameters 2 * (64 + 8)
    model = models.build("conv_stack", channels=8, layers=2, size=4, kernel=1)
    assert (count.macs(model), count.parameters(model)) == (2 * 16 * 64, 2 * 72)
    # [3, 8] x [8, 4], then [3, 4] x [4, 8]; parameters 32 + 4 + 32 + 8
    model = models.build("matmul_stack", m=3, k=8, n=4, layers=2)
    assert (count.macs(model), count.parameters(model)) == (3 * 8 * 4 * 2, 76)
