"""Convolutional networks without shortcuts: VGG-16 (Simonyan and Zisserman 2015), SqueezeNet 1.1 (Iandola et al. 2016).

As torchvision builds them, without dropout. Recipes only; layers live in ``models.layers``.
"""

from __future__ import annotations

from ..errors import ShapeError
from ..graph import Network, Value
from ..layers import LINEAR, RELU, concat, conv, global_average, linear, max_pool, relu
from ..recipe import recipe

VGG16_STAGES = (64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)
VGG_GRID = 7  # the classifier takes 7x7 averages

# Channels of each fire module's squeeze layer and of each of its two expand layers; None is a pooling layer
SQUEEZENET_FIRES = (16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256)


@recipe("VGG-16: thirteen convolutions 3x3, three fully connected layers")
def vgg16(net: Network, x: Value, *, classes: int = 1000) -> Value:
    """Configuration D of the paper."""
    index, gain = 0, LINEAR
    with net.scope("features"):
        for stage in VGG16_STAGES:
            for channels in stage:
                x = relu(net, conv(net, str(index), x, channels, kernel=3, gain=gain))
                index, gain = index + 2, RELU
            x = max_pool(net, x, 2, 2)
            index += 1
    x = net.op("Flatten", _grid(net, x), axis=1)
    with net.scope("classifier"):
        for index in (0, 3):
            x = relu(net, linear(net, str(index), x, 4096, gain=RELU))
        return linear(net, "6", x, classes, gain=RELU)


@recipe("SqueezeNet 1.1: fire modules, no fully connected layer")
def squeezenet1_1(net: Network, x: Value, *, classes: int = 1000) -> Value:
    """Eight fire modules."""
    with net.scope("features"):
        x = relu(net, conv(net, "0", x, 64, kernel=3, stride=2, padding=0, gain=LINEAR))
        x = max_pool(net, x, 3, 2, ceil=True)
        for index, fire in enumerate(SQUEEZENET_FIRES, start=3):
            with net.scope(index):
                x = _fire(net, x, *fire) if fire else max_pool(net, x, 3, 2, ceil=True)
    x = relu(net, conv(net, "classifier.1", x, classes))
    return global_average(net, x)


def _fire(net: Network, x: Value, squeezed: int, expanded: int) -> Value:
    """1x1 down, then 1x1 and 3x3 side by side."""
    x = relu(net, conv(net, "squeeze", x, squeezed))
    sides = [relu(net, conv(net, f"expand{side}x{side}", x, expanded, kernel=side)) for side in (1, 3)]
    return concat(net, sides, axis=1)


def _grid(net: Network, x: Value) -> Value:
    """Averages on the classifier's grid: adaptive pooling, for sides that are multiples of it."""
    height, width = x.shape[2:]
    if height % VGG_GRID or width % VGG_GRID:
        raise ShapeError("avgpool", f"sides {height} and {width} are no multiples of {VGG_GRID}: use 224, 448, ...")
    kernel = [height // VGG_GRID, width // VGG_GRID]
    return x if kernel == [1, 1] else net.op("AveragePool", x, kernel_shape=kernel, strides=kernel)
