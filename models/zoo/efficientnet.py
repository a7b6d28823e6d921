"""EfficientNet-B0 (Tan and Le 2019), as torchvision builds it.

Recipes only; layers live in ``models.layers``.
"""

from __future__ import annotations

from ..graph import Network, Value
from ..layers import (
    BRANCH,
    GATED,
    LINEAR,
    SMOOTH,
    SMOOTH_MEAN,
    after_joins,
    conv_bn,
    global_average,
    linear,
    sigmoid,
    silu,
    squeeze_excite,
)
from ..recipe import recipe

# Table 1 of the paper: expansion, kernel, stride of the first, channels, repeats
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


@recipe("EfficientNet-B0: inverted residuals with gates, SiLU")
def efficientnet_b0(net: Network, x: Value, *, classes: int = 1000) -> Value:
    """Sixteen inverted residuals, all of them with squeeze-and-excitation."""
    with net.scope("features"):
        x = conv_bn(net, ("0.0", "0.1"), x, 32, kernel=3, stride=2, activation=silu, gain=LINEAR)
        for stage, (expansion, kernel, stride, channels, repeats) in enumerate(STAGES, start=1):
            for index in range(repeats):
                with net.scope(stage, index, "block"):
                    x = _block(net, x, expansion, kernel, 1 if index else stride, channels, max(0, index - 1))
        last = len(STAGES) + 1
        x = conv_bn(net, (f"{last}.0", f"{last}.1"), x, 4 * x.shape[1], activation=silu, gain=LINEAR)
    return linear(net, "classifier.1", global_average(net, x), classes, gain=SMOOTH)


def _block(net: Network, x: Value, expansion: int, kernel: int, stride: int, channels: int, joins: int) -> Value:
    """Expand, filter each channel, gate, project; beside a shortcut where the shape stays.

    ``joins`` is the number of shortcuts that end in the input.
    """
    y, at = x, 0
    if expansion != 1:
        y = conv_bn(net, ("0.0", "0.1"), x, expansion * x.shape[1], activation=silu, gain=after_joins(joins))
        at = 1
    wide = y.shape[1]
    names = (f"{at}.0", f"{at}.1")
    y = conv_bn(
        net,
        names,
        y,
        wide,
        kernel=kernel,
        stride=stride,
        groups=wide,
        activation=silu,
        gain=SMOOTH,
        input_mean=SMOOTH_MEAN,
    )
    with net.scope(at + 1):
        y = squeeze_excite(net, y, max(1, x.shape[1] // 4), silu, sigmoid)
    adds = stride == 1 and x.shape[1] == channels
    gain = GATED * SMOOTH * (BRANCH if adds else 1)
    y = conv_bn(net, (f"{at + 2}.0", f"{at + 2}.1"), y, channels, gain=gain)
    return net.op("Add", y, x) if adds else y
