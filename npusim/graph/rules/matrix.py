"""Rules of the products: Conv, ConvTranspose, MatMul and Gemm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir import Array, Quantization, Tensor
from ..lowering import Lowering
from ..refusal import Refusal, lowers
from ..source import SourceNode
from ..target import Target, whole_range
from . import layout
from .needs import one_or_two_spatial_axes, quantized_input
from .window import window

WEIGHT_DTYPES = ("s8", "u8", "s16")
_BIAS_TOLERANCE = 1e-4
"""How far a bias scale may be from the product of the other two: several roundings, but no other number."""


def constant_weights(lowering: Lowering, node: SourceNode) -> bool:
    """Constant weights of 8 bits (or s16), quantized per tensor or per output channel."""
    weights = lowering.quantized(node.inputs[1])
    if weights is None or weights.data is None or weights.quantization is None:
        return False
    axis = 0 if node.op == "Conv" else 1
    per_channel = weights.quantization.axis == axis and not weights.quantization.block
    return weights.dtype in WEIGHT_DTYPES and (weights.quantization.per_tensor or per_channel)


def constant_bias(lowering: Lowering, node: SourceNode) -> bool:
    """A constant bias, or none."""
    return not node.input(2) or lowering.array(node.input(2)) is not None


def two_factors(lowering: Lowering, node: SourceNode) -> bool:
    """Two quantized operands; a scale per channel only along the columns of a constant second one."""
    a, b = lowering.activation(node.inputs[0]), lowering.quantized(node.inputs[1])
    if a is None or b is None or b.quantization is None or b.dtype not in ("u16", *WEIGHT_DTYPES):
        return False
    columns = 0 if node.op == "Gemm" and node.attributes.get("transB", 0) else len(b.shape) - 1
    per_column = b.data is not None and b.quantization.axis == columns and not b.quantization.block
    return b.quantization.per_tensor or per_column


def matrices(lowering: Lowering, node: SourceNode) -> bool:
    """Operands of at least two dimensions."""
    return all(len(lowering.shape(name)) >= 2 for name in node.inputs[:2])


def row_offset(lowering: Lowering, node: SourceNode) -> bool:
    """A constant C that is the same for every row, or none."""
    if not node.input(2) or not float(node.attributes.get("beta", 1.0)):
        return True
    offset = lowering.array(node.input(2))
    return offset is not None and offset.size in (1, lowering.shape(node.output)[-1]) and _runs_along_columns(offset)


def _runs_along_columns(offset: Array) -> bool:
    return offset.ndim <= 1 or offset.shape[-1] == offset.size


def product_quantization(x: Tensor, weights: Tensor, alpha: float, axis: int) -> Quantization:
    """What the accumulator of a product means: ``f32(f32(alpha * xs) * ws)``, per channel along ``axis``."""
    assert x.quantization is not None
    assert weights.quantization is not None
    scaled = np.float32(np.float32(alpha) * np.float32(x.quantization.scale))
    scale = scaled * np.asarray(weights.quantization.scale, np.float32)
    if scale.ndim == 0:
        return Quantization(scale=np.float32(scale))
    return Quantization(scale=scale, zero_point=np.zeros(scale.shape, np.int64), axis=axis)


def bias_tensor(lowering: Lowering, value: str, product: Quantization, channels: int, factor: float = 1.0) -> Tensor:
    """The bias as s32[channels] in the accumulator's scale.

    An int32 bias that the model quantized with that scale keeps its integers; any other constant is rounded to it.
    """
    scale = np.broadcast_to(np.asarray(product.scale, np.float32), (channels,))
    quantization = Quantization(
        scale=product.scale, zero_point=product.zero_point, axis=None if product.per_tensor else 0
    )
    stored = lowering.quantized(value)
    if stored is not None and stored.data is not None and stored.dtype == "s32" and factor == 1.0:
        assert stored.quantization is not None
        own = np.asarray(stored.quantization.scale, np.float32).reshape(-1)
        fits = own.size in (1, channels) and np.allclose(own, scale, rtol=_BIAS_TOLERANCE, atol=0)
        if fits and not np.any(stored.quantization.zero_point):
            data = np.broadcast_to(stored.data.reshape(-1), (channels,))
            return lowering.constant(stored.name, np.array(data), "s32", quantization)
    real = lowering.array(value)
    assert real is not None
    wide = np.broadcast_to(np.float64(real).reshape(-1), (channels,)) * factor / np.float64(scale)
    info = np.iinfo(np.int32)
    data = np.clip(np.rint(wide), info.min, info.max).astype(np.int32)
    return lowering.constant(f"{value}:bias", data, "s32", quantization)


def raw_target(target: Target, operands: Sequence[Tensor]) -> Target:
    """A target whose raw accumulator has the width the operands ask for."""
    if target.quantization is None and any(tensor.dtype in ("s16", "u16") for tensor in operands):
        return Target(value=target.value, dtype="s64", quantization=None, clamp=(-(1 << 63), (1 << 63) - 1))
    return target


@lowers(
    "Conv",
    attributes="auto_pad dilations group kernel_shape pads strides",
    needs=(one_or_two_spatial_axes, quantized_input, constant_weights, constant_bias),
)
def conv(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A convolution with bias; a one-dimensional one is a two-dimensional one of one row."""
    return _conv(lowering, node, target, "conv")


def forward_geometry(_: Lowering, node: SourceNode) -> bool:
    """Explicit pads, without auto_pad and output_shape."""
    return node.attributes.get("auto_pad", "NOTSET") == "NOTSET" and "output_shape" not in node.attributes


@lowers(
    "ConvTranspose",
    attributes="auto_pad dilations group kernel_shape output_padding output_shape pads strides",
    needs=(one_or_two_spatial_axes, forward_geometry, quantized_input, constant_weights, constant_bias),
)
def conv_transpose(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A transposed convolution; its output padding shows in the shape of the result alone."""
    return _conv(lowering, node, target, "conv_transpose")


def _conv(lowering: Lowering, node: SourceNode, target: Target, op: str) -> Tensor:
    x, weights = lowering.activation(node.inputs[0]), lowering.quantized(node.inputs[1])
    assert x is not None
    assert weights is not None
    shape = lowering.shape(node.output)
    place = window(node, x.shape, shape, weights.shape[2:], transposed=op == "conv_transpose")
    target = raw_target(target, [x, weights])
    product = product_quantization(x, weights, 1.0, 1)
    if op == "conv_transpose" and not product.per_tensor:
        product = _of_every_group(product, shape[1])
    inputs = [as_image(lowering, x, node), as_image(lowering, weights, node)]
    if node.input(2):
        inputs.append(bias_tensor(lowering, node.input(2), product, shape[1]))
    attributes = place.attributes(kernel=False) | {"groups": int(node.attributes.get("group", 1))}
    return emit_image(lowering, target, op, inputs, node, product, **attributes)


def _of_every_group(product: Quantization, channels: int) -> Quantization:
    """Scales of the channels of one group, repeated: the weights of a transposed convolution hold them once."""
    scale = np.tile(product.scale, channels // product.scale.size)
    return Quantization(scale=scale, zero_point=np.zeros(channels, np.int64), axis=product.axis)


def as_image(lowering: Lowering, tensor: Tensor, node: SourceNode) -> Tensor:
    """``[N, C, W]`` as ``[N, C, 1, W]``; four dimensions stay."""
    if len(tensor.shape) == 4:
        return tensor
    n, c, w = tensor.shape
    return layout.reshape(lowering, tensor, (n, c, 1, w), node, f"{tensor.name}:image")


def emit_image(
    lowering: Lowering, target: Target, op: str, inputs: Sequence[Tensor], node: SourceNode,
    raw: Quantization | None = None, **attributes: Any,
) -> Tensor:  # fmt: skip
    """Emit an operation on images, and bring its result to three dimensions where the target has three."""
    shape = lowering.shape(target.value)
    if len(shape) == 4:
        return lowering.emit(target, op, inputs, node, raw, **attributes)
    n, c, w = shape
    name = target.name or f"{target.value}:q"
    wide = Tensor(
        name=lowering.unique(f"{name}:image"), shape=(n, c, 1, w), dtype=target.dtype,
        quantization=target.quantization or raw,
    )  # fmt: skip
    if target.quantization is not None and target.clamp != whole_range(target.dtype):
        attributes["clamp"] = target.clamp
    lowering.add(op, inputs, wide, replace(node, source=(*node.source, *target.source)), **attributes)
    return layout.reshape(lowering, wide, shape, node, name)


@lowers("MatMul", needs=(matrices, two_factors))
def matmul(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A product of matrices, batched over the leading dimensions."""
    a, b = lowering.activation(node.inputs[0]), lowering.quantized(node.inputs[1])
    assert a is not None
    assert b is not None
    shape = lowering.shape(node.output)
    alpha = float(node.attributes.get("alpha", 1.0))  # a factor and a bias that followed it, see ``following``
    product = product_quantization(a, b, alpha, len(shape) - 1)
    inputs = [a, b]
    if node.input(2):
        inputs.append(bias_tensor(lowering, node.input(2), product, shape[-1]))
    extra = {} if alpha == 1.0 else {"alpha": alpha}
    return lowering.emit(raw_target(target, [a, b]), "matmul", inputs, node, product, **extra)


@lowers("Gemm", attributes="alpha beta transA transB", needs=(two_factors, row_offset))
def gemm(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """``alpha * A' B' + beta * C``: transposes are made explicit, beta joins C, alpha stays where it is not 1."""
    a, b = lowering.activation(node.inputs[0]), lowering.quantized(node.inputs[1])
    assert a is not None
    assert b is not None
    attributes = node.attributes
    alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    if attributes.get("transA", 0):
        a = layout.transpose(lowering, a, (1, 0), node, f"{a.name}:transposed")
    if attributes.get("transB", 0):
        b = layout.transpose(lowering, b, (1, 0), node, f"{b.name}:transposed")
    if not alpha:
        raise Refusal(node, "it needs an alpha other than 0")
    target = raw_target(target, [a, b])
    product = product_quantization(a, b, alpha, 1)
    inputs = [a, b]
    if node.input(2) and beta:
        channels = lowering.shape(node.output)[-1]
        inputs.append(bias_tensor(lowering, node.input(2), product, channels, beta))
    extra = {} if alpha == 1.0 else {"alpha": alpha}
    return lowering.emit(target, "matmul", inputs, node, product, **extra)
