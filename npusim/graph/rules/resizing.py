"""Resize: source positions by ONNX's rules, worked out once into tables of indices and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import Array, Tensor
from ..lowering import Lowering
from ..refusal import Refusal, lowers
from ..source import SourceNode
from ..target import Target
from .needs import quantized_input


def _half_pixel(x: Array, scale: Any, _size: int, _result: int) -> Array:
    return (x + np.float32(0.5)) / scale - np.float32(0.5)


def _pytorch_half_pixel(x: Array, scale: Any, size: int, result: int) -> Array:
    return _half_pixel(x, scale, size, result) if result > 1 else np.zeros_like(x)


def _align_corners(x: Array, _scale: Any, size: int, result: int) -> Array:
    return x * np.float32(size - 1) / np.float32(result - 1) if result > 1 else np.zeros_like(x)


def _asymmetric(x: Array, scale: Any, _size: int, _result: int) -> Array:
    return x / scale


def _half_pixel_symmetric(x: Array, scale: Any, size: int, result: int) -> Array:
    adjustment = np.float32(result) / (scale * np.float32(size))
    centre = np.float32(size) / np.float32(2)
    return centre * (np.float32(1) - adjustment) + (x + np.float32(0.5)) / scale - np.float32(0.5)


TRANSFORMATIONS: dict[str, Callable[[Array, Any, int, int], Array]] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": _asymmetric,
    "half_pixel_symmetric": _half_pixel_symmetric,
}
"""Position in the source of each position in the result, in float32 as onnxruntime computes it."""

NEAREST: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
    "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}
"""Which pixel is nearest to a position."""


def _positions(lowering: Lowering, node: SourceNode) -> tuple[Array, Array]:
    """Source positions of the result's rows and columns, float32.

    Raises:
        Refusal: it is no plain resize of rows and columns.
    """
    attributes = node.attributes
    shape, result = lowering.shape(node.inputs[0]), lowering.shape(node.output)
    mode = str(attributes.get("coordinate_transformation_mode", "half_pixel"))
    if lowering.source.opset < 11:
        raise Refusal(node, "it needs operator set 11 or newer, which defines positions exactly")
    if mode not in TRANSFORMATIONS:
        raise Refusal(node, f"it needs another coordinate_transformation_mode than {mode}")
    if attributes.get("antialias", 0) or attributes.get("exclude_outside", 0):
        raise Refusal(node, "it needs antialias and exclude_outside to be off")
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refusal(node, "it needs the keep_aspect_ratio_policy stretch")
    if len(shape) != 4 or shape[:2] != result[:2]:
        raise Refusal(node, "it needs an input of shape [N, C, H, W] whose N and C stay")
    scales = _scales(lowering, node)
    found = []
    for axis in (2, 3):
        x = np.arange(result[axis], dtype=np.float32)
        found.append(TRANSFORMATIONS[mode](x, scales[axis], shape[axis], result[axis]).astype(np.float32))
    return found[0], found[1]


def _scales(lowering: Lowering, node: SourceNode) -> dict[int, Any]:
    """The factor of each axis: as the model gives it, or from the extents where it gives sizes."""
    shape, result = lowering.shape(node.inputs[0]), lowering.shape(node.output)
    axes = [int(axis) % 4 for axis in node.attributes.get("axes", range(4))]
    given = lowering.source.constants.get(node.input(2)) if node.input(2) else None
    scales: dict[int, Any] = {axis: np.float32(result[axis]) / np.float32(shape[axis]) for axis in range(4)}
    if given is not None and given.size:
        scales |= {axis: np.float32(value) for axis, value in zip(axes, given, strict=True)}
    return scales


def nearest_positions(lowering: Lowering, node: SourceNode) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Source row of each result row, and source column of each result column.

    Raises:
        Refusal: the mode is not nearest, or it is no plain resize of rows and columns.
    """
    if node.attributes.get("mode", "nearest") != "nearest":
        raise Refusal(node, "it needs the mode nearest or linear")
    choose = NEAREST[str(node.attributes.get("nearest_mode", "round_prefer_floor"))]
    shape = lowering.shape(node.inputs[0])
    rows, columns = (
        tuple(int(i) for i in np.clip(choose(x), 0, extent - 1))
        for x, extent in zip(_positions(lowering, node), shape[2:], strict=True)
    )
    return rows, columns


def _linear(x: Array, extent: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
    """Lower index, upper index and weight of the upper one."""
    inside = np.clip(x, np.float32(0), np.float32(extent - 1))
    low = np.floor(inside).astype(np.int64)
    high = np.minimum(low + 1, extent - 1)
    weight = inside - low.astype(np.float32)
    return tuple(map(int, low)), tuple(map(int, high)), tuple(map(float, weight))


def resize_linear(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A bilinear resize: one rounding, after rows and columns."""
    if node.attributes.get("mode", "nearest") != "linear":
        nearest_positions(lowering, node)  # says what is wrong with it, for it came here because it cannot be moved
        raise Refusal(node, "it needs the mode linear here")
    tensor = lowering.activation(node.inputs[0])
    assert tensor is not None
    row_positions, column_positions = _positions(lowering, node)
    rows, rows_high, row_weights = _linear(row_positions, tensor.shape[2])
    columns, columns_high, column_weights = _linear(column_positions, tensor.shape[3])
    return lowering.emit(
        target, "resize", [tensor], node, mode="linear", rows=rows, rows_high=rows_high, row_weights=row_weights,
        columns=columns, columns_high=columns_high, column_weights=column_weights,
    )  # fmt: skip


lowers(
    "Resize",
    attributes="antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value "
    "keep_aspect_ratio_policy mode nearest_mode",
    needs=(quantized_input,),
)(resize_linear)
