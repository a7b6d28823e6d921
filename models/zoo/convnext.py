"""ConvNeXt-Tiny (Liu et al., "A ConvNet for the 2020s", 2022), as torchvision builds it.

Recipes only; layers live in ``models.layers``.
"""

from __future__ import annotations

from ..graph import Network, Value
from ..layers import LINEAR, SMOOTH, conv, gelu, layer_norm, linear, transpose, uniform
from ..recipe import recipe

STAGES = ((96, 3), (192, 3), (384, 9), (768, 3))  # channels and blocks
EPS = 1e-6  # of every layer norm


@recipe("ConvNeXt-T: depthwise 7x7, layer norm, GELU; 3-3-9-3 blocks")
def convnext_t(net: Network, x: Value, *, classes: int = 1000) -> Value:
    """Four stages with a 2x2 convolution of stride 2 between them."""
    with net.scope("features"):
        x = conv(net, "0.0", x, STAGES[0][0], kernel=4, stride=4, padding=0, gain=LINEAR)
        x = _channel_norm(net, "0.1", x)
        for stage, (channels, blocks) in enumerate(STAGES):
            if stage:
                with net.scope(2 * stage):
                    x = _channel_norm(net, "0", x)
                    x = conv(net, "1", x, channels, kernel=2, stride=2, padding=0, gain=LINEAR)
            for index in range(blocks):
                with net.scope(2 * stage + 1, index):
                    x = _block(net, x)
    x = _channel_norm(net, "classifier.0", net.op("GlobalAveragePool", x))
    return linear(net, "classifier.2", net.op("Flatten", x, axis=1), classes)


def _block(net: Network, x: Value) -> Value:
    """Depthwise 7x7, layer norm and perceptron on channels last, scaled by channel, beside the shortcut."""
    channels = x.shape[1]
    with net.scope("block"):
        y = conv(net, "0", x, channels, kernel=7, groups=channels, gain=LINEAR)
        y = layer_norm(net, "2", transpose(net, y, 0, 2, 3, 1), eps=EPS)
        y = gelu(net, linear(net, "3", y, 4 * channels))
        y = transpose(net, linear(net, "5", y, channels, gain=SMOOTH), 0, 3, 1, 2)
    scale = net.parameter("layer_scale", (channels, 1, 1), uniform(0.2, 0.6))
    return net.op("Add", net.op("Mul", net.constant("layer_scale", scale), y), x)


def _channel_norm(net: Network, name: str, x: Value) -> Value:
    """Layer norm over the channels of NCHW, with a transposition before and after it."""
    y = layer_norm(net, name, transpose(net, x, 0, 2, 3, 1), eps=EPS)
    return transpose(net, y, 0, 3, 1, 2)
