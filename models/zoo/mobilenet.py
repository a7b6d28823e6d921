"""MobileNets: V1 (Howard et al. 2017), V2 (Sandler et al. 2018) and V3-Large (Howard et al. 2019).

V2 and V3 as torchvision builds them. Recipes only; layers live in ``models.layers``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Network, Value
from ..layers import (
    BRANCH,
    GATED,
    LINEAR,
    RELU,
    RELU_MEAN,
    SMOOTH,
    SMOOTH_MEAN,
    Activation,
    after_joins,
    conv_bn,
    global_average,
    hard_sigmoid,
    hard_swish,
    linear,
    relu,
    relu6,
    squeeze_excite,
)
from ..recipe import recipe

# Table 1 of the V1 paper: channels and stride of each depthwise separable convolution
V1_LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))

# Table 2 of the V2 paper: expansion, channels, repeats, stride of the first
V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


@dataclass(frozen=True, slots=True)
class V3Block:
    """One row of table 1 of the V3 paper: kernel, expanded and output channels, gate, activation, stride."""

    kernel: int
    expanded: int
    channels: int
    gated: bool
    activation: Activation
    stride: int


V3_BLOCKS = (
    V3Block(3, 16, 16, False, relu, 1),
    V3Block(3, 64, 24, False, relu, 2),
    V3Block(3, 72, 24, False, relu, 1),
    V3Block(5, 72, 40, True, relu, 2),
    V3Block(5, 120, 40, True, relu, 1),
    V3Block(5, 120, 40, True, relu, 1),
    V3Block(3, 240, 80, False, hard_swish, 2),
    V3Block(3, 200, 80, False, hard_swish, 1),
    V3Block(3, 184, 80, False, hard_swish, 1),
    V3Block(3, 184, 80, False, hard_swish, 1),
    V3Block(3, 480, 112, True, hard_swish, 1),
    V3Block(3, 672, 112, True, hard_swish, 1),
    V3Block(5, 672, 160, True, hard_swish, 2),
    V3Block(5, 960, 160, True, hard_swish, 1),
    V3Block(5, 960, 160, True, hard_swish, 1),
)
V3_EPS = 1e-3  # torchvision's, for every batch normalization of V3


@recipe("MobileNetV1: depthwise separable convolutions, ReLU6")
def mobilenet_v1(net: Network, x: Value, *, classes: int = 1000) -> Value:
    """Thirteen depthwise separable convolutions."""
    x = conv_bn(net, ("conv_stem", "bn1"), x, 32, kernel=3, stride=2, activation=relu6, gain=LINEAR)
    for index, (channels, stride) in enumerate(V1_LAYERS):
        with net.scope("blocks", index):
            x = _depthwise(net, ("conv_dw", "bn1"), x, 3, stride, relu6)
            x = conv_bn(net, ("conv_pw", "bn2"), x, channels, activation=relu6)
    return linear(net, "classifier", global_average(net, x), classes)


@recipe("MobileNetV2: inverted residuals with linear bottlenecks, ReLU6")
def mobilenet_v2(net: Network, x: Value, *, classes: int = 1000) -> Value:
    """Seventeen inverted residuals."""
    with net.scope("features"):
        x = conv_bn(net, ("0.0", "0.1"), x, 32, kernel=3, stride=2, activation=relu6, gain=LINEAR)
        index = 0
        for expansion, channels, repeats, stride in V2_STAGES:
            for repeat in range(repeats):
                index += 1
                with net.scope(index, "conv"):
                    x = _inverted_residual(net, x, expansion, channels, 1 if repeat else stride, max(0, repeat - 1))
        x = conv_bn(net, (f"{index + 1}.0", f"{index + 1}.1"), x, 1280, activation=relu6, gain=LINEAR)
    return linear(net, "classifier.1", global_average(net, x), classes)


@recipe("MobileNetV3-Large: inverted residuals with gates, HardSwish")
def mobilenet_v3_large(net: Network, x: Value, *, classes: int = 1000) -> Value:
    """Fifteen inverted residuals, eight of them with squeeze-and-excitation."""
    with net.scope("features"):
        x = conv_bn(net, ("0.0", "0.1"), x, 16, kernel=3, stride=2, activation=hard_swish, gain=LINEAR, eps=V3_EPS)
        joins = 0
        for index, block in enumerate(V3_BLOCKS, start=1):
            before = x.shape
            with net.scope(index, "block"):
                x = _v3_block(net, x, block, joins)
                joins = joins + 1 if x.shape == before else 0
        last = len(V3_BLOCKS) + 1
        names = (f"{last}.0", f"{last}.1")
        x = conv_bn(net, names, x, 6 * x.shape[1], activation=hard_swish, gain=LINEAR, eps=V3_EPS)
    x = hard_swish(net, linear(net, "classifier.0", global_average(net, x), 1280, gain=SMOOTH))
    return linear(net, "classifier.3", x, classes, gain=SMOOTH)


def _inverted_residual(net: Network, x: Value, expansion: int, channels: int, stride: int, joins: int) -> Value:
    """Expand, filter each channel, project; beside a shortcut where the shape stays.

    ``joins`` is the number of shortcuts that end in the input.
    """
    y = x
    if expansion != 1:
        y = conv_bn(net, ("0.0", "0.1"), x, expansion * x.shape[1], activation=relu6, gain=after_joins(joins))
    at = int(expansion != 1)
    y = _depthwise(net, (f"{at}.0", f"{at}.1"), y, 3, stride, relu6)
    adds = stride == 1 and x.shape[1] == channels
    y = conv_bn(net, (str(at + 1), str(at + 2)), y, channels, gain=RELU * (BRANCH if adds else 1))
    return net.op("Add", x, y) if adds else y


def _v3_block(net: Network, x: Value, block: V3Block, joins: int) -> Value:
    """Expand, filter each channel, gate, project; beside a shortcut where the shape stays.

    ``joins`` is the number of shortcuts that end in the input.
    """
    y, at = x, 0
    if block.expanded != x.shape[1]:
        gain = after_joins(joins)
        y = conv_bn(net, ("0.0", "0.1"), x, block.expanded, activation=block.activation, gain=gain, eps=V3_EPS)
        at = 1
    y = _depthwise(net, (f"{at}.0", f"{at}.1"), y, block.kernel, block.stride, block.activation, eps=V3_EPS)
    if block.gated:
        at += 1
        with net.scope(at):
            y = squeeze_excite(net, y, divisible(block.expanded / 4), relu, hard_sigmoid)
    adds = block.stride == 1 and x.shape[1] == block.channels
    gain = SMOOTH * (BRANCH if adds else 1) * (GATED if block.gated else 1)
    y = conv_bn(net, (f"{at + 1}.0", f"{at + 1}.1"), y, block.channels, gain=gain, eps=V3_EPS)
    return net.op("Add", y, x) if adds else y


def _depthwise(
    net: Network,
    names: tuple[str, str],
    x: Value,
    kernel: int,
    stride: int,
    activation: Activation,
    *,
    eps: float = 1e-5,
) -> Value:
    """One filter a channel, normalized and activated."""
    channels = x.shape[1]
    return conv_bn(
        net,
        names,
        x,
        channels,
        kernel=kernel,
        stride=stride,
        groups=channels,
        activation=activation,
        gain=SMOOTH if activation is hard_swish else RELU,
        input_mean=SMOOTH_MEAN if activation is hard_swish else RELU_MEAN,
        eps=eps,
    )


def divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of the divisor nearest to a channel count, but not below nine tenths of it.

    >>> divisible(18), divisible(30), divisible(120)
    (24, 32, 120)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
