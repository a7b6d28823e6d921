"""Detectors with raw heads: YOLOv5s (release 6.0 and later) and YOLOv8n/s, as Ultralytics describes them.

The outputs are those of the last convolutions, one tensor for each of the strides 8, 16 and 32; decoding boxes is the
caller's. Recipes only; layers live in ``models.layers``.
"""

from __future__ import annotations

from ..graph import Network, Value
from ..layers import BRANCH, LINEAR, SILU, concat, conv, conv_bn, max_pool, resize, silu, split
from ..recipe import recipe

IMAGE = (1, 3, 640, 640)
ANCHORS = 3  # of YOLOv5, at each place of each scale
BOX_BINS = 16  # of YOLOv8, for each of a box's four sides
EPS = 1e-3  # of every batch normalization


@recipe("YOLOv5s: CSP backbone, three raw heads of 3 x (5 + classes) channels", input_shape=IMAGE, input_name="images")
def yolov5s(net: Network, x: Value, *, classes: int = 80) -> dict[str, Value]:
    """Depth multiple 0.33, width multiple 0.50."""
    with net.scope("model"):
        x = cbs(net, "0", x, 32, kernel=6, stride=2, padding=2, gain=LINEAR)
        skips = []
        for index, (channels, repeats) in enumerate(((64, 1), (128, 2), (256, 3), (512, 1))):
            x = cbs(net, str(2 * index + 1), x, channels, kernel=3, stride=2)
            x = c3(net, str(2 * index + 2), x, channels, repeats)
            skips.append(x)
        x = sppf(net, "9", x, 512)
        small, medium, _ = skips[1:]

        ten = cbs(net, "10", x, 256)
        x = c3(net, "13", concat(net, [resize(net, ten, 2), medium], 1), 256, shortcut=False)
        fourteen = cbs(net, "14", x, 128)
        p3 = c3(net, "17", concat(net, [resize(net, fourteen, 2), small], 1), 128, shortcut=False)
        x = concat(net, [cbs(net, "18", p3, 128, kernel=3, stride=2), fourteen], 1)
        p4 = c3(net, "20", x, 256, shortcut=False)
        x = concat(net, [cbs(net, "21", p4, 256, kernel=3, stride=2), ten], 1)
        p5 = c3(net, "23", x, 512, shortcut=False)
        with net.scope(24):
            channels = ANCHORS * (5 + classes)
            heads = [
                conv(net, f"m.{at}", level, channels, gain=SILU, centre=False) for at, level in enumerate((p3, p4, p5))
            ]
    return {f"stride{8 << at}": head for at, head in enumerate(heads)}


@recipe("YOLOv8n: C2f backbone, three raw heads of 64 + classes channels", input_shape=IMAGE, input_name="images")
def yolov8n(net: Network, x: Value, *, classes: int = 80) -> dict[str, Value]:
    """Depth multiple 0.33, width multiple 0.25."""
    return yolov8(net, x, width=16, classes=classes)


@recipe("YOLOv8s: C2f backbone, three raw heads of 64 + classes channels", input_shape=IMAGE, input_name="images")
def yolov8s(net: Network, x: Value, *, classes: int = 80) -> dict[str, Value]:
    """Depth multiple 0.33, width multiple 0.50."""
    return yolov8(net, x, width=32, classes=classes)


def yolov8(net: Network, x: Value, *, width: int, classes: int) -> dict[str, Value]:
    """Backbone, two-way neck, and for each scale a box branch and a class branch, joined.

    Args:
        net: the graph.
        x: image, ``[batch, 3, height, width]``.
        width: channels of the stem; the others are multiples of it.
        classes: number of classes.
    """
    with net.scope("model"):
        x = cbs(net, "0", x, width, kernel=3, stride=2, gain=LINEAR)
        skips = []
        for index, (factor, repeats) in enumerate(((2, 1), (4, 2), (8, 2), (16, 1))):
            x = cbs(net, str(2 * index + 1), x, factor * width, kernel=3, stride=2)
            x = c2f(net, str(2 * index + 2), x, factor * width, repeats, shortcut=True)
            skips.append(x)
        nine = sppf(net, "9", x, 16 * width)
        small, medium, _ = skips[1:]

        twelve = c2f(net, "12", concat(net, [resize(net, nine, 2), medium], 1), 8 * width)
        p3 = c2f(net, "15", concat(net, [resize(net, twelve, 2), small], 1), 4 * width)
        x = concat(net, [cbs(net, "16", p3, 4 * width, kernel=3, stride=2), twelve], 1)
        p4 = c2f(net, "18", x, 8 * width)
        x = concat(net, [cbs(net, "19", p4, 8 * width, kernel=3, stride=2), nine], 1)
        p5 = c2f(net, "21", x, 16 * width)

        box_channels = max(16, p3.shape[1] // 4, 4 * BOX_BINS)
        class_channels = max(p3.shape[1], min(classes, 100))
        heads = []
        with net.scope(22):
            for at, level in enumerate((p3, p4, p5)):
                boxes = _branch(net, f"cv2.{at}", level, box_channels, 4 * BOX_BINS)
                scores = _branch(net, f"cv3.{at}", level, class_channels, classes)
                heads.append(concat(net, [boxes, scores], 1))
    return {f"stride{8 << at}": head for at, head in enumerate(heads)}


def cbs(
    net: Network,
    name: str,
    x: Value,
    channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    padding: int | None = None,
    gain: float = SILU,
) -> Value:
    """Convolution, batch normalization, SiLU."""
    names = (f"{name}.conv", f"{name}.bn")
    return conv_bn(
        net,
        names,
        x,
        channels,
        kernel=kernel,
        stride=stride,
        padding=padding,
        activation=silu,
        gain=gain,
        centre=False,
        eps=EPS,
    )


def bottleneck(net: Network, name: str, x: Value, kernels: tuple[int, int], shortcut: bool) -> Value:
    """Two convolutions of equal width, beside a shortcut where asked for."""
    with net.scope(name):
        y = cbs(net, "cv1", x, x.shape[1], kernel=kernels[0])
        y = cbs(net, "cv2", y, x.shape[1], kernel=kernels[1], gain=SILU * (BRANCH if shortcut else 1))
    return net.op("Add", x, y) if shortcut else y


def c3(net: Network, name: str, x: Value, channels: int, repeats: int = 1, *, shortcut: bool = True) -> Value:
    """Half the channels through bottlenecks, half past them, joined by a 1x1 convolution."""
    with net.scope(name):
        y = cbs(net, "cv1", x, channels // 2)
        for index in range(repeats):
            y = bottleneck(net, f"m.{index}", y, (1, 3), shortcut)
        return cbs(net, "cv3", concat(net, [y, cbs(net, "cv2", x, channels // 2)], 1), channels)


def c2f(net: Network, name: str, x: Value, channels: int, repeats: int = 1, *, shortcut: bool = False) -> Value:
    """As ``c3``, but the output of every bottleneck is joined."""
    with net.scope(name):
        parts = list(split(net, cbs(net, "cv1", x, channels), 2, 1))
        for index in range(repeats):
            parts.append(bottleneck(net, f"m.{index}", parts[-1], (3, 3), shortcut))
        return cbs(net, "cv2", concat(net, parts, 1), channels)


def sppf(net: Network, name: str, x: Value, channels: int) -> Value:
    """Spatial pyramid pooling: three 5x5 maxima behind one another, all four tensors joined."""
    with net.scope(name):
        parts = [cbs(net, "cv1", x, x.shape[1] // 2)]
        for _ in range(3):
            parts.append(max_pool(net, parts[-1], 5, 1, padding=2))
        return cbs(net, "cv2", concat(net, parts, 1), channels)


def _branch(net: Network, name: str, x: Value, channels: int, outputs: int) -> Value:
    with net.scope(name):
        y = cbs(net, "1", cbs(net, "0", x, channels, kernel=3), channels, kernel=3)
        return conv(net, "2", y, outputs, gain=SILU, centre=False)
