"""Layers made of a few nodes: convolution with its normalization, linear, layer norm, activations, moves.

Used by the recipes in ``zoo``. Each writes what an exporter writes at the network's opset; nothing here knows a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .errors import ShapeError
from .graph import Array, Draw, Network, Value

# Gains that keep the variance from layer to layer, for weights whose sum over each output's inputs is zero ("scaled
# weight standardisation", Brock et al. 2021). The zero sum takes the mean out that an activation leaves; without it the
# outputs of a deep network with random weights are nearly the same for every image.
LINEAR = 1.0
RELU = math.sqrt(2.0 / (1.0 - 1.0 / math.pi))  # 1.714; variance of max(z, 0) is (1 - 1 / pi) / 2
SMOOTH = 1.77  # for SiLU, HardSwish and GELU; their variances are 0.31, 0.30 and 0.35 (numerical integration)
# For SiLU behind weights that are not centred: it leaves little mean, images stay apart, rounding errors grow less.
# The second moment is 0.36, which asks for 1.68; it is less, because parallel branches add up.
SILU = 1.53
RELU_MEAN = 1.0 / math.sqrt(2.0 * math.pi)  # of max(z, 0) for a unit normal z
SMOOTH_MEAN = 0.19  # of SiLU, 0.21, and HardSwish, 0.17 (numerical integration)
GATED = 1.6  # further factor behind a gate: it passes one half on average, and by its spread a little more
BRANCH = 0.5  # further factor for the last layer beside a shortcut: what the shortcut carries grows by a quarter

Activation = Callable[[Network, Value], Value]

# ------------------------------------------------------------------------------------------------------- weights


def normal(std: float, mean: float | Array = 0.0) -> Draw:
    """Values of a normal distribution, with one mean or an array of them."""
    return lambda stream, shape: mean + std * stream.standard_normal(shape, dtype=np.float32)


def standardized(gain: float, *, centre: bool = True) -> Draw:
    """Weights ``[outputs, ...]`` of standard deviation ``gain / sqrt(inputs)``, with zero sum where centred."""

    def draw(stream: np.random.Generator, shape: tuple[int, ...]) -> Array:
        weights = stream.standard_normal((shape[0], math.prod(shape[1:])), dtype=np.float32)
        if centre:
            weights -= weights.mean(axis=1, keepdims=True)
        weights *= np.float32(gain / math.sqrt(weights.shape[1]))
        return weights.reshape(shape)

    return draw


def after_joins(joins: int) -> float:
    """Gain of a linear layer behind so many shortcuts, each of which made the variance grow by ``BRANCH`` squared.

    >>> after_joins(0), round(after_joins(2), 3)
    (1.0, 0.8)
    """
    return LINEAR / math.sqrt((1.0 + BRANCH**2) ** joins)


def uniform(low: float, high: float) -> Draw:
    """Values evenly spread between two bounds."""
    return lambda stream, shape: low + (high - low) * stream.random(shape, dtype=np.float32)


# -------------------------------------------------------------------------------------------- layers with weights


def conv(
    net: Network,
    name: str,
    x: Value,
    channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    bias: bool = True,
    gain: float = RELU,
    centre: bool = True,
) -> Value:
    """A convolution on NCHW, with ``standardized`` weights.

    Args:
        net: the graph.
        name: of the module.
        x: input, ``[batch, in, height, width]``.
        channels: of the output.
        kernel: height and width of the kernel.
        stride: in both directions.
        padding: on all four sides; None for the same size at stride 1.
        groups: of channels that do not see one another.
        bias: whether it has one.
        gain: standard deviation of the output over that of the input, for independent inputs.
        centre: whether the weights of each output have zero sum.
    """
    with net.scope(name):
        weight, offset = _conv_weights(net, x, channels, kernel, groups, bias, gain, centre)
        return _conv_node(net, x, weight, offset, kernel, stride, padding, groups)


def conv_bn(
    net: Network,
    names: tuple[str, str],
    x: Value,
    channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    activation: Activation | None = None,
    gain: float = RELU,
    centre: bool = True,
    input_mean: float = 0.0,
    eps: float = 1e-5,
) -> Value:
    """A convolution without bias, batch normalization, and an activation; arguments otherwise as of ``conv``.

    Args:
        net: the graph; it decides whether the normalization becomes scale and bias of the convolution.
        names: of the two modules.
        x: input, ``[batch, in, height, width]``.
        channels: of the output.
        kernel: height and width of the kernel.
        stride: in both directions.
        padding: on all four sides; None for the same size at stride 1.
        groups: of channels that do not see one another.
        activation: applied last.
        gain: of the convolution.
        centre: whether the weights of each output have zero sum.
        input_mean: average of the input, which the normalization takes out; it matters for depthwise convolutions,
            whose weights have no zero sum.
        eps: added to the variance.
    """
    with net.scope(names[0]):
        weight, _ = _conv_weights(net, x, channels, kernel, groups, False, gain, centre)
    with net.scope(names[1]):
        gamma = net.parameter("weight", (channels,), uniform(0.7, 1.2))
        beta = net.parameter("bias", (channels,), normal(0.1))
        expected = np.float32(input_mean) * weight.sum(axis=(1, 2, 3))
        mean = _statistic(net, "running_mean", channels, normal(0.1, mean=expected))
        variance = _statistic(net, "running_var", channels, uniform(0.75, 1.25))
    if net.fold_bn:
        scale = (gamma / np.sqrt(variance + np.float32(eps))).astype(np.float32)
        with net.scope(names[0]):
            x = _conv_node(
                net, x, weight * scale[:, None, None, None], beta - mean * scale, kernel, stride, padding, groups
            )
    else:
        with net.scope(names[0]):
            x = _conv_node(net, x, weight, None, kernel, stride, padding, groups)
        with net.scope(names[1]):
            tensors = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
            constants = [net.constant(name, values) for name, values in tensors.items()]
            x = net.op("BatchNormalization", x, *constants, epsilon=eps)
    return activation(net, x) if activation else x


def linear(net: Network, name: str, x: Value, features: int, *, bias: bool = True, gain: float = LINEAR) -> Value:
    """``x W + b`` over the last axis: Gemm for a matrix, MatMul and Add for anything else, as exporters do."""
    inputs = x.shape[-1]
    with net.scope(name):
        weight = net.parameter("weight", (features, inputs), standardized(gain))
        offset = net.parameter("bias", (features,), normal(0.05)) if bias else None
        if len(x.shape) == 2:
            tensors = [("weight", weight)] + ([("bias", offset)] if offset is not None else [])
            return net.op("Gemm", x, *(net.constant(*tensor) for tensor in tensors), transB=1)
        y = net.op("MatMul", x, net.constant("weight", weight.T))
        return y if offset is None else net.op("Add", net.constant("bias", offset), y)


def layer_norm(net: Network, name: str, x: Value, *, eps: float = 1e-5) -> Value:
    """Normalize over the last axis: one node from opset 17 on, nine below."""
    features = x.shape[-1]
    with net.scope(name):
        gamma = net.parameter("weight", (features,), normal(0.1, mean=1.0))
        beta = net.parameter("bias", (features,), normal(0.05))
        if net.opset >= 17:
            constants = net.constant("weight", gamma), net.constant("bias", beta)
            return net.op("LayerNormalization", x, *constants, axis=-1, epsilon=eps)
        centred = net.op("Sub", x, mean(net, x, (-1,)))
        variance = mean(net, net.op("Pow", centred, net.constant("two", np.float32(2))), (-1,))
        deviation = net.op("Sqrt", net.op("Add", variance, net.constant("eps", np.float32(eps))))
        y = net.op("Mul", net.op("Div", centred, deviation), net.constant("weight", gamma))
        return net.op("Add", y, net.constant("bias", beta))


def _conv_weights(
    net: Network, x: Value, channels: int, kernel: int, groups: int, bias: bool, gain: float, centre: bool
) -> tuple[Array, Array | None]:
    if x.shape[1] % groups:
        raise ShapeError(net.path(), f"{x.shape[1]} channels are no multiple of {groups} groups")
    shape = (channels, x.shape[1] // groups, kernel, kernel)
    # An image has zero mean already, and a single plane would lose all that is flat.
    weight = net.parameter("weight", shape, standardized(gain, centre=centre and shape[1] > 3))
    return weight, net.parameter("bias", (channels,), normal(0.05)) if bias else None


def _conv_node(
    net: Network,
    x: Value,
    weight: Array,
    offset: Array | None,
    kernel: int,
    stride: int,
    padding: int | None,
    groups: int,
) -> Value:
    tensors = [("weight", weight)] + ([("bias", offset)] if offset is not None else [])
    side = (kernel - 1) // 2 if padding is None else padding
    return net.op(
        "Conv",
        x,
        *(net.constant(*tensor) for tensor in tensors),
        dilations=[1, 1],
        group=groups,
        kernel_shape=[kernel, kernel],
        pads=[side] * 4,
        strides=[stride, stride],
    )


def _statistic(net: Network, name: str, channels: int, draw: Draw) -> Array:
    """What batch normalization observed while training: drawn like a parameter, but not counted as one."""
    values = net.parameter(name, (channels,), draw)
    del net.parameters[net.path(name)]
    return values


def squeeze_excite(net: Network, x: Value, channels: int, activation: Activation, gate: Activation) -> Value:
    """Scale each channel by a gate computed from the averages of all channels (Hu et al. 2018).

    Args:
        net: the graph.
        x: ``[batch, channels, height, width]``.
        channels: between the two layers.
        activation: between the two layers.
        gate: after them.
    """
    y = net.op("GlobalAveragePool", x)
    y = activation(net, conv(net, "fc1", y, channels, gain=LINEAR))
    return net.op("Mul", gate(net, conv(net, "fc2", y, x.shape[1], gain=LINEAR / 2)), x)


# ---------------------------------------------------------------------------------------------------- activations


def relu(net: Network, x: Value) -> Value:
    """``max(x, 0)``."""
    return net.op("Relu", x)


def relu6(net: Network, x: Value) -> Value:
    """``min(max(x, 0), 6)``, written as Clip."""
    return net.op("Clip", x, net.constant("min", np.float32(0)), net.constant("max", np.float32(6)))


def silu(net: Network, x: Value) -> Value:
    """``x sigmoid(x)``."""
    return net.op("Mul", x, net.op("Sigmoid", x))


def hard_sigmoid(net: Network, x: Value) -> Value:
    """``min(max(x / 6 + 1/2, 0), 1)``."""
    return net.op("HardSigmoid", x, alpha=1.0 / 6.0)


def sigmoid(net: Network, x: Value) -> Value:
    """``1 / (1 + exp(-x))``."""
    return net.op("Sigmoid", x)


def hard_swish(net: Network, x: Value) -> Value:
    """``x hard_sigmoid(x)``: one node from opset 14 on, two below."""
    return net.op("HardSwish", x) if net.opset >= 14 else net.op("Mul", x, hard_sigmoid(net, x))


def gelu(net: Network, x: Value) -> Value:
    """``x / 2 (1 + erf(x / sqrt(2)))``: one node from opset 20 on, five below."""
    if net.opset >= 20:
        return net.op("Gelu", x)
    error = net.op("Erf", net.op("Div", x, net.constant("sqrt_2", np.float32(math.sqrt(2.0)))))
    y = net.op("Mul", x, net.op("Add", error, net.constant("one", np.float32(1))))
    return net.op("Mul", y, net.constant("half", np.float32(0.5)))


# ------------------------------------------------------------------------------------------- reductions and moves


def mean(net: Network, x: Value, axes: Sequence[int], *, keepdims: bool = True) -> Value:
    """Average over some axes."""
    if net.opset >= 18:
        return net.op("ReduceMean", x, net.constant("axes", list(axes)), keepdims=int(keepdims))
    return net.op("ReduceMean", x, axes=list(axes), keepdims=int(keepdims))


def reshape(net: Network, x: Value, *shape: int) -> Value:
    """Another shape for the same elements; one dimension may be -1."""
    return net.op("Reshape", x, net.constant("shape", list(shape)))


def transpose(net: Network, x: Value, *permutation: int) -> Value:
    """Axes in another order."""
    return net.op("Transpose", x, perm=list(permutation))


def resize(net: Network, x: Value, factor: int) -> Value:
    """Larger images by repeating pixels."""
    # Below opset 13 the region of interest is no optional input, but an empty tensor where it is not used.
    region = None if net.opset >= 13 else net.constant("roi", np.zeros(0, dtype=np.float32))
    return net.op(
        "Resize",
        x,
        region,
        net.constant("scales", np.array([1, 1, factor, factor], dtype=np.float32)),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def slice_(net: Network, x: Value, axis: int, start: int, stop: int | None = None, step: int = 1) -> Value:
    """``x[start:stop:step]`` along one axis; a stop of None means the end."""
    end = np.iinfo(np.int64).max if stop is None else stop  # exporters write the largest integer for "to the end"
    bounds = {"starts": start, "ends": end, "axes": axis, "steps": step}
    return net.op("Slice", x, *(net.constant(name, [value]) for name, value in bounds.items()))


def concat(net: Network, values: Sequence[Value], axis: int) -> Value:
    """Values behind one another along an axis."""
    return net.op("Concat", *values, axis=axis)


def roll(net: Network, x: Value, axis: int, shift: int) -> Value:
    """Cyclic shift along one axis, written as two slices and a concatenation."""
    return concat(net, [slice_(net, x, axis, -shift), slice_(net, x, axis, 0, -shift)], axis)


def split(net: Network, x: Value, parts: int, axis: int) -> tuple[Value, ...]:
    """Equal parts along an axis."""
    sizes = [x.shape[axis] // parts] * parts
    if net.opset >= 13:
        return net.ops("Split", parts, x, net.constant("split", sizes), axis=axis)
    return net.ops("Split", parts, x, axis=axis, split=sizes)


def squeeze(net: Network, x: Value, axis: int) -> Value:
    """Drop an axis of length 1."""
    if net.opset >= 13:
        return net.op("Squeeze", x, net.constant("axes", [axis]))
    return net.op("Squeeze", x, axes=[axis])


def pad(net: Network, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    """Zeros around a tensor; one pair of counts for each axis."""
    return net.op("Pad", x, net.constant("pads", [*before, *after]), mode="constant")


def max_pool(net: Network, x: Value, kernel: int, stride: int, *, padding: int = 0, ceil: bool = False) -> Value:
    """Maximum over windows; ``ceil`` keeps the last, incomplete one."""
    return net.op(
        "MaxPool",
        x,
        ceil_mode=int(ceil),
        kernel_shape=[kernel, kernel],
        pads=[padding] * 4,
        strides=[stride, stride],
    )


def global_average(net: Network, x: Value) -> Value:
    """Average over height and width, then ``[batch, channels]``."""
    return net.op("Flatten", net.op("GlobalAveragePool", x), axis=1)
