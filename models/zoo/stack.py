"""Stacks of equal layers, whose parameters are the point: scaling studies, benchmarks of the compiler, small tests.

Recipes only; layers live in ``models.layers``.
"""

from __future__ import annotations

from ..graph import Network, Value
from ..layers import LINEAR, RELU, conv, linear, relu
from ..recipe import recipe


def _conv_input(*, channels: int, size: int, **_: int) -> tuple[int, ...]:
    return (1, channels, size, size)


@recipe("convolutions of one shape, each with a ReLU", input_shape=_conv_input)
def conv_stack(
    net: Network, x: Value, *, channels: int = 64, layers: int = 8, size: int = 56, kernel: int = 3
) -> Value:
    """``layers`` convolutions of ``channels`` channels on a square image of ``size``, same padding."""
    del size  # it is in the input's shape
    for index in range(layers):
        x = relu(net, conv(net, f"layers.{index}", x, channels, kernel=kernel))
    return x


def _matmul_input(*, m: int, k: int, **_: int) -> tuple[int, ...]:
    return (1, m, k)


@recipe("matrix products with constant weights, k to n and back", input_shape=_matmul_input)
def matmul_stack(net: Network, x: Value, *, m: int = 196, k: int = 384, n: int = 384, layers: int = 8) -> Value:
    """``layers`` products of ``[m, k]`` with ``[k, n]``; where n differs from k, every second one leads back.

    A ReLU stands between two products, so that they cannot be multiplied out.
    """
    del m  # it is in the input's shape
    sides = (n, k)
    for index in range(layers):
        gain = RELU if index else LINEAR
        x = linear(net, f"layers.{index}", relu(net, x) if index else x, sides[index % 2], gain=gain)
    return x
