"""Rules of the operators that make one element of many: average pools and reductions."""

from __future__ import annotations

import math

from ..ir import Tensor
from ..lowering import Lowering
from ..refusal import lowers
from ..source import SourceNode
from ..target import Target
from . import layout
from .matrix import as_image, emit_image
from .needs import one_or_two_spatial_axes, quantized_input
from .window import window

REDUCTIONS = {"ReduceMean": "reduce_mean", "ReduceSum": "reduce_sum", "ReduceMax": "reduce_max",
              "ReduceMin": "reduce_min"}  # fmt: skip


@lowers(
    "AveragePool",
    attributes="auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides",
    needs=(one_or_two_spatial_axes, quantized_input),
)
def average_pool(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """The average under each window."""
    x = lowering.activation(node.inputs[0])
    assert x is not None
    place = window(node, x.shape, lowering.shape(node.output), tuple(node.attributes["kernel_shape"]))
    count_padding = int(node.attributes.get("count_include_pad", 0))
    return emit_image(
        lowering, target, "average_pool", [as_image(lowering, x, node)], node, None,
        **place.attributes(kernel=True), count_padding=count_padding,
    )  # fmt: skip


def spatial_axes(lowering: Lowering, node: SourceNode) -> bool:
    """An input with at least one spatial axis behind N and C."""
    return len(lowering.shape(node.inputs[0])) >= 3


@lowers("GlobalAveragePool", needs=(spatial_axes, quantized_input))
def global_average_pool(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """The average of each channel, by its exact sum."""
    x = lowering.activation(node.inputs[0])
    assert x is not None
    if len(x.shape) != 4:
        n, c, *spatial = x.shape
        size = math.prod(spatial)
        x = layout.reshape(lowering, x, (n, c, 1, size), node, f"{x.name}:image")
    return lowering.emit(target, "global_average_pool", [x], node)


@lowers("GlobalMaxPool", needs=(spatial_axes, quantized_input))
def global_max_pool(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """The largest element of each channel."""
    x = lowering.activation(node.inputs[0])
    assert x is not None
    axes = tuple(range(2, len(x.shape)))
    return lowering.emit(target, "reduce_max", [x], node, axes=axes, keepdims=1)


def constant_axes(lowering: Lowering, node: SourceNode) -> bool:
    """Constant axes."""
    return not node.input(1) or node.input(1) in lowering.source.constants


def reduced_axes(lowering: Lowering, node: SourceNode) -> tuple[int, ...]:
    """The axes of a reduction, ascending; all of them where none are named, unless that means none."""
    rank = len(lowering.shape(node.inputs[0]))
    given = lowering.source.constants.get(node.input(1)) if node.input(1) else node.attributes.get("axes")
    if given is None or not len(given):
        return () if node.attributes.get("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(sorted(int(axis) % rank for axis in given))


@lowers(*REDUCTIONS, attributes="axes keepdims noop_with_empty_axes", needs=(quantized_input, constant_axes))
def reduce(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A reduction over constant axes."""
    x = lowering.activation(node.inputs[0])
    assert x is not None
    axes = reduced_axes(lowering, node)
    if not axes:
        return lowering.realise(target.of(node.inputs[0]))
    keepdims = int(node.attributes.get("keepdims", 1))
    return lowering.emit(target, REDUCTIONS[node.op], [x], node, axes=axes, keepdims=keepdims)
