"""Attention, shifted windows and patch merging as exporters spell them: integer operations only, onnxruntime's numbers.

Each pattern stands here as torchvision, timm or transformers exports it, with the shape arithmetic that an exporter
leaves behind, and with the constants that a simplifier makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import npusim
from npusim import graph
from tests.graph.tiny import Builder, onnxruntime_values, random_feeds

HEADS, WIDTH = 2, 8


class Style:
    """Builds shapes as constants, or as arithmetic on the shape of a tensor."""

    def __init__(self, simplified: bool) -> None:
        self.b = Builder(opset=17)
        self.simplified = simplified

    def integers(self, *values: int) -> str:
        return self.b.constant(np.array(values, np.int64))

    def extent(self, value: str, axis: int) -> str:
        """The extent of an axis, int64[1], as tracing a ``tensor.size(axis)`` spells it."""
        one = self.b.op("Gather", self.b.op("Shape", value), self.b.constant(np.int64(axis)), axis=0)
        return self.b.op("Unsqueeze", one, self.integers(0))

    def reshape(self, value: str, *extents: int, kept: int | None = None) -> str:
        """A reshape; before a simplifier the first extent is that of an axis of the value, divided where it must be."""
        if self.simplified or kept is None:
            return self.b.op("Reshape", value, self.integers(*extents))
        first, size = self.extent(value, 0), kept
        if size != extents[0]:
            first = self.b.op("Div", self.b.op("Mul", first, self.integers(extents[0])), self.integers(size))
        rest = [self.integers(extent) for extent in extents[1:]]
        return self.b.op("Reshape", value, self.b.op("Concat", first, *rest, axis=0))

    def transpose(self, value: str, *permutation: int) -> str:
        return self.b.op("Transpose", value, perm=list(permutation))

    def part(self, value: str, axis: int, start: int, end: int, step: int = 1) -> str:
        bounds = (self.integers(start), self.integers(end), self.integers(axis), self.integers(step))
        return self.b.op("Slice", value, *bounds)

    def linear(self, value: str, inputs: int, outputs: int) -> str:
        weights = self.b.random.integers(-60, 60, (inputs, outputs), np.int8, endpoint=True)
        product = self.b.op("MatMul", value, self.b.dequantize(weights, 0.0101237))
        return self.b.quantize(product, 0.04, 128)


# ------------------------------------------------------------------------------------------------------------ attention


def weighted(s: Style, q: str, k_transposed: str, v: str, bias: bool) -> str:
    """softmax(q k + bias) v, quantized where a quantizer puts its nodes."""
    scores = s.b.quantize(s.b.op("MatMul", q, k_transposed), 0.1, 128)
    if bias:
        table = s.b.random.integers(0, 255, (1, HEADS, 6, 6), np.uint8, endpoint=True)
        scores = s.b.quantize(s.b.op("Add", scores, s.b.dequantize(table, 0.02, 128)), 0.1, 128)
    shares = s.b.quantize(s.b.op("Softmax", scores, axis=-1), 1 / 256, 0)
    return s.b.quantize(s.b.op("MatMul", shares, v), 0.03, 128)


def timm(s: Style) -> None:
    """One product for q, k and v; reshape, permute, unbind; q scaled."""
    x = s.b.real_input("x", (3, 6, HEADS * WIDTH), 0.02, 128)
    qkv = s.reshape(s.linear(x, HEADS * WIDTH, 3 * HEADS * WIDTH), 3, 6, 3, HEADS, WIDTH, kept=3)
    qkv = s.transpose(qkv, 2, 0, 3, 1, 4)
    q, k, v = (s.b.op("Gather", qkv, s.b.constant(np.int64(index)), axis=0) for index in range(3))
    q = s.b.quantize(s.b.op("Mul", q, s.b.constant(np.float32(0.5))), 0.02, 128)
    out = weighted(s, q, s.transpose(k, 0, 1, 3, 2), v, bias=True)
    out = s.reshape(s.transpose(out, 0, 2, 1, 3), 3, 6, HEADS * WIDTH, kept=3)
    s.b.result(s.linear(out, HEADS * WIDTH, HEADS * WIDTH), 0.04, 128)


def transformers(s: Style) -> None:
    """Three products; heads by view and permute; scores divided."""
    x = s.b.real_input("x", (3, 6, HEADS * WIDTH), 0.02, 128)
    q, k, v = (
        s.transpose(s.reshape(s.linear(x, HEADS * WIDTH, HEADS * WIDTH), 3, 6, HEADS, WIDTH, kept=3), 0, 2, 1, 3)
        for _ in range(3)
    )
    scores = s.b.quantize(s.b.op("MatMul", q, s.transpose(k, 0, 1, 3, 2)), 0.2, 128)
    scores = s.b.quantize(s.b.op("Div", scores, s.b.constant(np.float32(8**0.5))), 0.07, 128)
    shares = s.b.quantize(s.b.op("Softmax", scores, axis=-1), 1 / 256, 0)
    out = s.transpose(s.b.quantize(s.b.op("MatMul", shares, v), 0.03, 128), 0, 2, 1, 3)
    s.b.result(s.reshape(out, 3, 6, HEADS * WIDTH, kept=3), 0.03, 128)


def torchvision(s: Style) -> None:
    """As timm, the three taken apart by Split and Squeeze, k transposed at once."""
    x = s.b.real_input("x", (3, 6, HEADS * WIDTH), 0.02, 128)
    qkv = s.reshape(s.linear(x, HEADS * WIDTH, 3 * HEADS * WIDTH), 3, 6, 3, HEADS, WIDTH, kept=3)
    parts = s.b.op("Split", s.transpose(qkv, 2, 0, 3, 1, 4), s.integers(1, 1, 1), outputs=3, axis=0)
    q, k, v = (s.b.op("Squeeze", part, s.integers(0)) for part in parts)
    out = weighted(s, q, s.transpose(k, 0, 1, 3, 2), v, bias=False)
    out = s.reshape(s.transpose(out, 0, 2, 1, 3), 3, 6, HEADS * WIDTH, kept=3)
    s.b.result(out, 0.03, 128)


def masked(s: Style) -> None:
    """The mask of shifted windows: scores seen as [images, windows, heads, ...] for the sum, and back."""
    x = s.b.real_input("x", (4, HEADS, 6, 6), 0.1, 128)
    mask = s.b.random.choice(np.array([0, 255], np.uint8), (1, 2, 1, 6, 6))
    seen = s.reshape(x, 2, 2, HEADS, 6, 6, kept=4)
    total = s.b.quantize(s.b.op("Add", seen, s.b.dequantize(mask, 0.1, 255)), 0.2, 200)
    scores = s.reshape(total, 4, HEADS, 6, 6)
    s.b.result(s.b.op("Softmax", scores, axis=-1), 1 / 256, 0)


# -------------------------------------------------------------------------------------------------------------- windows


def rolled(s: Style, value: str, shift: int, extent: int) -> str:
    """torch.roll over rows and columns, as every exporter writes it."""
    for axis in (1, 2):
        front = s.part(value, axis, shift % extent, 1 << 62)
        value = s.b.op("Concat", front, s.part(value, axis, 0, shift % extent), axis=axis)
    return value


def shifted_windows(s: Style) -> None:
    """Roll, cut into windows, a product, put together again, roll back."""
    x = s.b.real_input("x", (1, 8, 8, 4), 0.05, 128)
    value = s.reshape(rolled(s, x, 2, 8), 1, 2, 4, 2, 4, 4, kept=1)
    windows = s.reshape(s.transpose(value, 0, 1, 3, 2, 4, 5), 4, 16, 4, kept=1)
    value = s.reshape(s.linear(windows, 4, 4), 1, 2, 2, 4, 4, 4, kept=4)
    value = s.reshape(s.transpose(value, 0, 1, 3, 2, 4, 5), 1, 8, 8, 4)
    s.b.result(rolled(s, value, -2, 8), 0.04, 128)


def padded_windows(s: Style) -> None:
    """A map that windows do not divide: padded in front of the cut, cropped behind it (torchvision, transformers)."""
    x = s.b.real_input("x", (1, 6, 7, 4), 0.05, 128)
    value = s.b.op("Pad", x, s.integers(0, 0, 0, 0, 0, 2, 1, 0))
    value = s.transpose(s.reshape(value, 1, 2, 4, 2, 4, 4), 0, 1, 3, 2, 4, 5)
    value = s.reshape(s.linear(s.reshape(value, 4, 16, 4), 4, 4), 1, 2, 2, 4, 4, 4)
    value = s.reshape(s.transpose(value, 0, 1, 3, 2, 4, 5), 1, 8, 8, 4)
    s.b.result(s.part(s.part(value, 1, 0, 6), 2, 0, 7), 0.04, 128)


def merging_by_slices(s: Style) -> None:
    """Patch merging by four strided slices (torchvision, transformers)."""
    x = s.b.real_input("x", (1, 8, 8, 4), 0.05, 128)
    corners = [s.part(s.part(x, 1, row, 1 << 62, 2), 2, column, 1 << 62, 2) for column in (0, 1) for row in (0, 1)]
    value = s.reshape(s.b.op("Concat", *corners, axis=-1), 1, 16, 16, kept=1)
    s.b.result(s.linear(value, 16, 8), 0.04, 128)


def merging_by_permutation(s: Style) -> None:
    """Patch merging by a reshape and a permutation (timm)."""
    x = s.b.real_input("x", (1, 8, 8, 4), 0.05, 128)
    value = s.transpose(s.reshape(x, 1, 4, 2, 4, 2, 4, kept=1), 0, 1, 3, 4, 2, 5)
    s.b.result(s.linear(s.b.op("Flatten", s.reshape(value, 16, 16), axis=1), 16, 8), 0.04, 128)


def patches(s: Style) -> None:
    """Patch embedding: a convolution, flattened and transposed, with a class token in front and positions added."""
    x = s.b.real_input("x", (2, 3, 8, 8), 0.02, 128)
    weights = s.b.random.integers(-60, 60, (16, 3, 4, 4), np.int8, endpoint=True)
    value = s.b.op("Conv", x, s.b.dequantize(weights, 0.0101237), kernel_shape=[4, 4], strides=[4, 4])
    value = s.b.quantize(value, 0.04, 128)
    value = s.transpose(s.reshape(value, 2, 16, 4, kept=2), 0, 2, 1)
    token = s.b.dequantize(s.b.random.integers(0, 255, (1, 1, 16), np.uint8, endpoint=True), 0.04, 128)
    value = s.b.op("Concat", s.b.op("Expand", token, s.integers(2, 1, 16)), value, axis=1)
    places = s.b.dequantize(s.b.random.integers(0, 255, (1, 5, 16), np.uint8, endpoint=True), 0.02, 128)
    s.b.result(s.b.op("Add", value, places), 0.05, 128)


PATTERNS: Sequence[Callable[[Style], None]] = (
    timm, transformers, torchvision, masked, shifted_windows, padded_windows, merging_by_slices,
    merging_by_permutation, patches,
)  # fmt: skip


@pytest.mark.parametrize("simplified", [False, True], ids=["as exported", "simplified"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
def test_pattern(pattern, simplified):
    style = Style(simplified)
    pattern(style)
    model = style.b.model()
    feeds = random_feeds(model)
    [expected] = onnxruntime_values(model, feeds).values()
    [found] = npusim.build(model, npu_mode="NPU2").session().run(None, feeds)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 10, "a pattern that computes nothing shows nothing"


def test_shifted_windows_are_two_rolls_and_views():
    style = Style(simplified=False)
    shifted_windows(style)
    ops = [node.op for node in graph.load(style.b.model()).nodes]
    assert ops.count("roll") == 2
    assert ops.count("matmul") == 1
    assert set(ops) <= {"roll", "matmul", "reshape", "transpose"}
