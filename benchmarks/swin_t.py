"""All of Swin-T's arithmetic as kernel calls on tensors of the real shapes, for ``benchmarks.kernels``.

Values are random: no kernel's time depends on them. Window partition, its reverse and patch merging are strided
copies and are included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from isa import law
from npusim import kernels

Array = np.ndarray[Any, Any]
Calls = list[Callable[[], None]]

DEPTHS, DIMENSION, HEADS, WINDOW = (2, 2, 6, 2), 96, (3, 6, 12, 24), 7
TOKENS = WINDOW * WINDOW
HEAD_SIZE = DIMENSION // HEADS[0]


def blocked(n: int, k: int, rng: np.random.Generator) -> Array:
    """Random weights ``[ceil(n/32), ceil(k/4), 32, 4]``."""
    return rng.integers(-127, 128, (-(-n // 32), -(-k // 4), 32, 4), dtype=np.int8)


def folded_bias(weights: Array, zero: int) -> Array:
    """A bias that holds ``-zero * sum(w)``, so that activations need no zero point.

    A compiler folds it once, as onnxruntime packs constant weights and their sums when a session is made.
    """
    return (-zero * weights.sum(axis=(1, 3), dtype=np.int32)).astype(np.int32).ravel()


class Network:
    """Builds the calls; every method appends the kernels of one layer and returns the tensor they write."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.calls: Calls = []
        self._rng = rng

    def tensor(self, *shape: int) -> Array:
        """Random bytes."""
        return self._rng.integers(0, 256, shape, dtype=np.uint8)

    def linear(self, x: Array, n: int) -> Array:
        """A fully connected layer with bias and per-channel scales."""
        m, k = x.shape
        y, weights = self.tensor(m, n), blocked(n, k, self._rng)
        bias, multiplier = folded_bias(weights, 128)[:n], np.full(n, 1e-3, np.float32)
        self.calls.append(lambda: kernels.matmul(
            x, weights, y, weight_layout="blocked", bias=bias, multiplier=multiplier, dst_zero=128
        ))  # fmt: skip
        return y

    def batched(self, a: Array, b: Array, layout: str, n: int) -> Array:
        """A product of two live tensors."""
        y = self.tensor(*a.shape[:3], n)
        self.calls.append(lambda: kernels.matmul(
            a, b, y, weight_layout=layout, src_zero=128, weight_zero=120, multiplier=1e-3, dst_zero=128
        ))  # fmt: skip
        return y

    def norm(self, x: Array) -> Array:
        """Layer norm over the last axis."""
        y, n = self.tensor(*x.shape), x.shape[1]
        gain, offset = np.ones(n, np.float32), np.zeros(n, np.float32)
        self.calls.append(lambda: kernels.layer_norm(
            x, y, gain=gain, offset=offset, src_scale=0.02, epsilon=1e-5, dst_scale=0.03, dst_zero=128
        ))  # fmt: skip
        return y

    def add(self, a: Array, b: Array) -> Array:
        """An addition, b broadcast."""
        y = self.tensor(*a.shape)
        self.calls.append(lambda: kernels.add(
            a, b, y, a_scale=0.02, b_scale=0.03, dst_scale=0.04, a_zero=128, b_zero=120, dst_zero=128
        ))  # fmt: skip
        return y

    def copy(self, x: Array) -> Array:
        """A strided view made dense."""
        y = np.empty(x.shape, x.dtype)
        self.calls.append(lambda: kernels.copy(x, y))
        return y

    def attention(self, x: Array, side: int, heads: int) -> Array:
        """Windows, queries by keys, position bias, softmax, by values, projection, windows back."""
        dimension = x.shape[1]
        count = side // WINDOW
        windows = x.reshape(count, WINDOW, count, WINDOW, dimension).swapaxes(1, 2)
        rows = self.copy(windows).reshape(-1, dimension)
        qkv = self.linear(rows, 3 * dimension)
        parts = qkv.reshape(count * count, TOKENS, 3, heads, HEAD_SIZE)
        q, k, v = (parts[:, :, i].swapaxes(1, 2) for i in range(3))
        scores = self.batched(q, k, "transposed", TOKENS)
        scores = self.add(scores, self.tensor(1, heads, TOKENS, TOKENS))
        flat = scores.reshape(-1, TOKENS)
        weights, table = self.tensor(*scores.shape), law.exp_table(np.float32(0.05))
        self.calls.append(lambda: kernels.softmax(flat, weights.reshape(-1, TOKENS), table=table, dst_scale=1 / 256))
        mixed = np.empty((count * count, TOKENS, heads, HEAD_SIZE), np.uint8)
        target = mixed.swapaxes(1, 2)
        self.calls.append(lambda: kernels.matmul(
            weights, v, target, weight_layout="row_major", weight_zero=120, multiplier=1e-3, dst_zero=128
        ))  # fmt: skip
        projected = self.linear(mixed.reshape(-1, dimension), dimension)
        back = projected.reshape(count, count, WINDOW, WINDOW, dimension).swapaxes(1, 2)
        return self.copy(back).reshape(x.shape)

    def block(self, x: Array, side: int, heads: int) -> Array:
        """A transformer block."""
        x = self.add(x, self.attention(self.norm(x), side, heads))
        hidden = self.linear(self.norm(x), 4 * x.shape[1])
        table, active = self.tensor(256), self.tensor(*hidden.shape)
        self.calls.append(lambda: kernels.lookup(hidden, table, active))
        return self.add(x, self.linear(active, x.shape[1]))


def calls(rng: np.random.Generator) -> Calls:
    """The kernel calls of one 224 x 224 image."""
    net = Network(rng)
    image, side = net.tensor(224, 224, 3), 56
    x = net.tensor(side * side, DIMENSION)
    weights, multiplier = blocked(DIMENSION, 48, rng), np.full(DIMENSION, 1e-3, np.float32)
    patches = x.reshape(side, side, DIMENSION)
    net.calls.append(lambda: kernels.conv(
        image, weights, patches, kernel=(4, 4), stride=(4, 4), src_zero=114,
        multiplier=multiplier, dst_zero=128,
    ))  # fmt: skip
    y = net.norm(x)
    for stage, depth in enumerate(DEPTHS):
        if stage:
            side //= 2
            quarters = y.reshape(side, 2, side, 2, -1).transpose(0, 2, 3, 1, 4)
            y = net.linear(net.norm(net.copy(quarters).reshape(side * side, -1)), DIMENSION << stage)
        for _ in range(depth):
            y = net.block(y, side, HEADS[stage])
    y = net.norm(y)
    pooled, last = net.tensor(y.shape[1]), y.reshape(side, side, -1)
    net.calls.append(lambda: kernels.global_average_pool(
        last, pooled, multiplier=0.02, src_zero=128, dst_zero=128
    ))  # fmt: skip
    net.linear(pooled[None], 1000)
    return net.calls
