"""Convolutions and products through the compiler, on one, two and three cores."""

import numpy as np
import pytest

from npusim import graph as graphs
from tests.compiler.oracle import check_graph
from tests.graph.tiny import Builder

RANDOM = np.random.default_rng(7)


def weights(builder, *shape, axis=0):
    """A constant of int8 weights with a scale per output channel."""
    values = RANDOM.integers(-127, 128, shape, np.int8)
    return builder.dequantize(values, RANDOM.uniform(0.001, 0.01, shape[axis]).astype(np.float32), axis=axis)


def attention(windows, tokens, heads, features, shifted=False):
    """Multi-head attention over windows of tokens, with its residual and a layer norm."""
    b = Builder()
    head = features // heads
    x = b.real_input("x", (windows, tokens, features), 0.03, 128)

    def project(value, scale=0.05):
        return b.quantize(b.op("MatMul", value, weights(b, features, features, axis=1)), scale, 120)

    def split(value):
        shaped = b.op("Reshape", value, b.constant(np.array([windows, tokens, heads, head])))
        return b.op("Transpose", shaped, perm=[0, 2, 1, 3])

    q, k, v = (split(project(x)) for _ in range(3))
    scores = b.quantize(b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2])), 0.02, 110)
    if shifted:
        bias = b.dequantize(RANDOM.integers(0, 255, (1, heads, tokens, tokens), np.uint8), np.float32(0.02), 128)
        scores = b.quantize(b.op("Add", scores, bias), 0.03, 100)
    chances = b.quantize(b.op("Softmax", scores, axis=-1), 1 / 256, 0)
    mixed = b.op("Transpose", b.quantize(b.op("MatMul", chances, v), 0.04, 128), perm=[0, 2, 1, 3])
    joined = b.op("Reshape", mixed, b.constant(np.array([windows, tokens, features])))
    out = b.quantize(b.op("Add", x, project(joined)), 0.06, 128)
    gain, offset = (b.constant(RANDOM.normal(size=features).astype(np.float32)) for _ in range(2))
    b.result(b.op("LayerNormalization", out, gain, offset, epsilon=1e-5), 0.03, 128)
    return graphs.load(b.model())


@pytest.mark.parametrize(
    ("windows", "tokens", "heads", "features"), [(4, 49, 3, 24), (1, 17, 2, 64), (5, 9, 1, 8), (2, 49, 4, 128)]
)
@pytest.mark.parametrize("shifted", [False, True])
def test_attention(windows, tokens, heads, features, shifted):
    results = check_graph(attention(windows, tokens, heads, features, shifted))
    assert results[1].cycles > 0


def image(channels, height, width, *convs):
    """A chain of convolutions (channels, kernel, stride, pads, groups)."""
    b = Builder()
    value = b.real_input("x", (1, channels, height, width), 0.02, 117)
    for out, kernel, stride, pads, groups in convs:
        w = weights(b, out, channels // groups, kernel, kernel)
        conv = b.op("Conv", value, w, strides=[stride] * 2, pads=pads, group=groups, kernel_shape=[kernel] * 2)
        value, channels = b.quantize(conv, 0.03, 90), out
    b.result(value, 0.03, 90)
    return graphs.load(b.model())


CHAINS = [
    (3, 24, 20, (32, 3, 2, [1, 1, 1, 1], 1), (40, 1, 1, [0, 0, 0, 0], 1), (40, 3, 1, [1, 1, 1, 1], 40)),
    (5, 9, 7, (8, 5, 1, [2, 0, 2, 0], 1), (96, 3, 1, [0, 1, 0, 1], 1)),
    (16, 6, 6, (48, 3, 1, [1, 1, 1, 1], 4), (64, 1, 1, [0, 0, 0, 0], 1), (200, 2, 2, [0, 0, 0, 0], 1)),
    (4, 1, 1, (130, 1, 1, [0, 0, 0, 0], 1), (33, 1, 1, [0, 0, 0, 0], 1)),
]


@pytest.mark.parametrize("chain", CHAINS, ids=range(len(CHAINS)))
def test_convolutions(chain):
    check_graph(image(*chain))
