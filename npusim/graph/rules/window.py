"""Where a sliding window stands: kernel, strides, padding and dilation of convolutions and pools, in two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..refusal import Refusal
from ..source import SourceNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window over rows and columns; the order is rows first.

    Attributes:
        kernel: extents.
        strides: steps between positions.
        dilations: steps between taps.
        pads: top, left, bottom, right.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    def attributes(self, *, kernel: bool) -> dict[str, Any]:
        """As attributes of an operation; a convolution's kernel shows in its weights."""
        place = {"strides": self.strides, "pads": self.pads, "dilations": self.dilations}
        return {"kernel": self.kernel, **place} if kernel else place


def _pair(values: tuple[int, ...], missing: int) -> tuple[int, int]:
    """One or two spatial values as rows and columns."""
    first, second = values if len(values) == 2 else (missing, *values)
    return int(first), int(second)


def window(
    node: SourceNode, source: tuple[int, ...], result: tuple[int, ...], kernel: tuple[int, ...], *,
    transposed: bool = False,
) -> Window:  # fmt: skip
    """The window of a Conv, ConvTranspose or pool.

    Args:
        node: its attributes may leave out what is 1 or 0.
        source: shape of the input, ``[N, C, W]`` or ``[N, C, H, W]``.
        result: shape of the output.
        kernel: spatial extents of the kernel.
        transposed: the window slides over the result.

    Raises:
        Refusal: attributes of the wrong length, or padding below 0.
    """
    axes = len(source) - 2
    ones, zeros = (1,) * axes, (0,) * (2 * axes)
    strides = tuple(node.attributes.get("strides", ones))
    dilations = tuple(node.attributes.get("dilations", ones))
    pads = tuple(node.attributes.get("pads", zeros))
    if {len(kernel), len(strides), len(dilations)} != {axes} or len(pads) != 2 * axes:
        raise Refusal(node, f"its kernel_shape, strides, dilations and pads need {axes} spatial axes")
    if min(*strides, *dilations, *kernel) < 1:
        raise Refusal(node, "its kernel_shape, strides and dilations need to be at least 1")
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER") and not transposed:
        pads = _same_pads(mode, source[2:], result[2:], kernel, strides, dilations)
    elif mode == "VALID":
        pads = zeros
    if min(pads) < 0:
        raise Refusal(node, "it needs pads of at least 0")
    top, left = _pair(pads[:axes], 0)
    bottom, right = _pair(pads[axes:], 0)
    return Window(
        kernel=_pair(kernel, 1), strides=_pair(strides, 1), dilations=_pair(dilations, 1),
        pads=(top, left, bottom, right),
    )  # fmt: skip


def _same_pads(
    mode: str, source: tuple[int, ...], result: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[int, ...]:  # fmt: skip
    """Padding that makes ceil(extent / stride) positions; an odd element goes below, or above for SAME_LOWER."""
    begins, ends = [], []
    for extent, out, size, stride, dilation in zip(source, result, kernel, strides, dilations, strict=True):
        total = max((out - 1) * stride + (size - 1) * dilation + 1 - extent, 0)
        small, large = total // 2, total - total // 2
        begins.append(large if mode == "SAME_LOWER" else small)
        ends.append(small if mode == "SAME_LOWER" else large)
    return (*begins, *ends)
