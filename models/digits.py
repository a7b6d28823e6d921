"""The two networks that are small enough to be trained for real and kept in the repository, on 8x8 digits.

Built by ``models.training.digits`` with trained weights, and by a test that compares them with the committed files.
They are no recipes of the zoo: with seeded weights nobody needs them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx

from .graph import Array, Network, Value
from .layers import LINEAR, conv_bn, global_average, linear, relu
from .zoo.swin import swin

INPUT = (1, 1, 8, 8)
CLASSES = 10

SWIN_CHANNELS = 16
SWIN_DEPTHS = (2, 2)
SWIN_WINDOW = 4  # four windows, shifted in every second block; after merging a single one is left
SWIN_HEAD_FEATURES = 8


def digits_cnn(net: Network, x: Value) -> Value:
    """Two convolutions, a residual block at half the resolution, average, classifier."""
    x = conv_bn(net, ("conv1", "bn1"), x, 16, kernel=3, activation=relu, gain=LINEAR)
    x = conv_bn(net, ("conv2", "bn2"), x, 32, kernel=3, stride=2, activation=relu)
    y = conv_bn(net, ("conv3", "bn3"), x, 32, kernel=3, activation=relu)
    y = conv_bn(net, ("conv4", "bn4"), y, 32, kernel=3)
    x = relu(net, net.op("Add", y, x))
    return linear(net, "fc", global_average(net, x), CLASSES)


def digits_swin(net: Network, x: Value) -> Value:
    """A Swin with a token for each pixel, windows of 4x4, and one patch merging."""
    return swin(
        net,
        x,
        channels=SWIN_CHANNELS,
        depths=SWIN_DEPTHS,
        window=SWIN_WINDOW,
        classes=CLASSES,
        patch=1,
        head_features=SWIN_HEAD_FEATURES,
    )


MODELS: dict[str, Callable[[Network, Value], Value]] = {"digits_cnn": digits_cnn, "digits_swin": digits_swin}


def build_digits(name: str, weights: dict[str, Array] | None = None, *, seed: int = 0) -> onnx.ModelProto:
    """One of ``MODELS``, for images of shape ``INPUT`` as ``normalized`` makes them.

    Args:
        name: of the model.
        weights: by parameter name; what is missing is drawn, and added.
        seed: of what is drawn.
    """
    net = Network(name, seed=seed, weights=weights)
    return net.finish({"logits": MODELS[name](net, net.input("image", INPUT))})


def normalized(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Pixels from 0 to 16 as the models take them: -1 to 1, float32.

    >>> normalized(np.array([0, 8, 16], dtype=np.uint8))
    array([-1.,  0.,  1.], dtype=float32)
    """
    return pixels.astype(np.float32) / np.float32(8) - np.float32(1)
