"""Residual networks (He et al., "Deep Residual Learning for Image Recognition", 2016), as torchvision builds them.

Recipes only; layers live in ``models.layers``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..graph import Network, Value
from ..layers import BRANCH, LINEAR, RELU, conv_bn, global_average, linear, max_pool, relu
from ..recipe import recipe

Block = Callable[[Network, Value, int, int], Value]


@recipe("ResNet-18: basic blocks 2-2-2-2")
def resnet18(net: Network, x: Value, *, classes: int = 1000) -> Value:
    """Two 3x3 convolutions a block."""
    return resnet(net, x, basic_block, (2, 2, 2, 2), classes)


@recipe("ResNet-50: bottleneck blocks 3-4-6-3, stride in the 3x3 convolution (v1.5)")
def resnet50(net: Network, x: Value, *, classes: int = 1000) -> Value:
    """1x1, 3x3 and 1x1 convolutions a block."""
    return resnet(net, x, bottleneck, (3, 4, 6, 3), classes)


def resnet(net: Network, x: Value, block: Block, depths: Sequence[int], classes: int) -> Value:
    """A 7x7 stem, four stages of residual blocks, average, classifier."""
    x = conv_bn(net, ("conv1", "bn1"), x, 64, kernel=7, stride=2, activation=relu, gain=LINEAR)
    x = max_pool(net, x, 3, 2, padding=1)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            with net.scope(f"layer{stage + 1}", index):
                x = block(net, x, 64 << stage, 2 if stage and not index else 1)
    return linear(net, "fc", global_average(net, x), classes)


def basic_block(net: Network, x: Value, channels: int, stride: int) -> Value:
    """Two 3x3 convolutions beside a shortcut."""
    y = conv_bn(net, ("conv1", "bn1"), x, channels, kernel=3, stride=stride, activation=relu)
    y = conv_bn(net, ("conv2", "bn2"), y, channels, kernel=3, gain=RELU * BRANCH)
    return relu(net, net.op("Add", y, _shortcut(net, x, channels, stride)))


def bottleneck(net: Network, x: Value, channels: int, stride: int) -> Value:
    """1x1 down, 3x3, 1x1 up to four times the channels, beside a shortcut."""
    y = conv_bn(net, ("conv1", "bn1"), x, channels, activation=relu)
    y = conv_bn(net, ("conv2", "bn2"), y, channels, kernel=3, stride=stride, activation=relu)
    y = conv_bn(net, ("conv3", "bn3"), y, 4 * channels, gain=RELU * BRANCH)
    return relu(net, net.op("Add", y, _shortcut(net, x, 4 * channels, stride)))


def _shortcut(net: Network, x: Value, channels: int, stride: int) -> Value:
    """The input itself, or a 1x1 convolution where the shape changes."""
    if stride == 1 and x.shape[1] == channels:
        return x
    return conv_bn(net, ("downsample.0", "downsample.1"), x, channels, stride=stride, padding=0)
