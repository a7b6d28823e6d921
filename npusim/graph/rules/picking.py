"""Rules of the operators that take or replace elements by index: gathers and scatters.

With constant indices it is known which element goes where, and that is a choice of rows. Nothing here does arithmetic
on elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..ir import Array, Tensor
from ..lowering import Lowering
from ..refusal import ModelError, Refusal
from ..source import SourceNode
from . import layout
from .movement import moves

CONSTANT_INDICES = "it needs constant indices"
REPLACES = "it needs the reduction none, which replaces elements"

Shape = tuple[int, ...]
Index = tuple[Array, ...]
"""One array of indices for each axis, as NumPy takes them."""


@moves("Gather", attributes="axis")
def gather(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """Rows by index; constant indices that follow one another are a slice."""
    (tensor,) = tensors
    axis = int(node.attributes.get("axis", 0)) % len(tensor.shape)
    indices = lowering.source.constants.get(node.inputs[1])
    if indices is None:
        shape = lowering.shape(value)
        return layout.move(lowering, "gather", [tensor, lowering.integer(node.inputs[1])], shape, node, name, axis=axis)
    return _rows(lowering, tensor, axis, _positive(indices, tensor.shape[axis], axis, node), node, name)


def _picked(_: Lowering, node: SourceNode) -> Sequence[str]:
    return (node.inputs[0], node.inputs[2])


@moves("GatherElements", attributes="axis", needs=(CONSTANT_INDICES,))
def gather_elements(lowering: Lowering, node: SourceNode, _: str, tensors: list[Tensor], name: str) -> Tensor:
    """Elements by index along an axis."""
    (tensor,) = tensors
    indices = _along(_indices(lowering, node), tensor.shape, node)
    return _elements(lowering, tensors, _numbered(tensor.shape)[indices], node, name)


@moves("GatherND", attributes="batch_dims", needs=(CONSTANT_INDICES,))
def gather_nd(lowering: Lowering, node: SourceNode, _: str, tensors: list[Tensor], name: str) -> Tensor:
    """Elements, or blocks of trailing axes, by their coordinates."""
    (tensor,) = tensors
    batch = int(node.attributes.get("batch_dims", 0))
    indices = _coordinates(_indices(lowering, node), tensor.shape, node, batch)
    return _elements(lowering, tensors, _numbered(tensor.shape)[indices], node, name)


@moves("ScatterElements", attributes="axis reduction", data=_picked, needs=(CONSTANT_INDICES, REPLACES))
def scatter_elements(lowering: Lowering, node: SourceNode, _: str, tensors: list[Tensor], name: str) -> Tensor:
    """A tensor in which elements are replaced by index along an axis."""
    indices = _indices(lowering, node)
    return _scatter(lowering, node, tensors, _along(indices, tensors[0].shape, node), indices.shape, name)


@moves("ScatterND", attributes="reduction", data=_picked, needs=(CONSTANT_INDICES, REPLACES))
def scatter_nd(lowering: Lowering, node: SourceNode, _: str, tensors: list[Tensor], name: str) -> Tensor:
    """A tensor in which elements, or blocks of trailing axes, are replaced by their coordinates."""
    indices, shape = _indices(lowering, node), tensors[0].shape
    index = _coordinates(indices, shape, node, 0)
    return _scatter(lowering, node, tensors, index, (*indices.shape[:-1], *shape[indices.shape[-1] :]), name)


def _scatter(
    lowering: Lowering, node: SourceNode, tensors: list[Tensor], indices: Index, replaced: Shape, name: str
) -> Tensor:
    """A copy of the first tensor with the second's elements, which have the shape ``replaced``, where indices point."""
    if node.attributes.get("reduction", "none") != "none":
        raise Refusal(node, REPLACES)
    data, updates = tensors
    _require(node, updates.shape == replaced, f"its updates have the shape {updates.shape}, not {replaced}")
    if not updates.size:
        return data
    chosen = _numbered(data.shape)
    chosen[indices] = data.size + _numbered(updates.shape)  # of equal indices the last one counts
    return _elements(lowering, tensors, chosen, node, name)


def _indices(lowering: Lowering, node: SourceNode) -> Array:
    found = lowering.source.constants.get(node.inputs[1])
    if found is None:
        raise Refusal(node, CONSTANT_INDICES)
    return found


def _positive(indices: Array, extent: int, axis: int, node: SourceNode) -> Array:
    """Indices counted from the front, s64.

    Raises:
        Refusal: one lies outside of the axis.
    """
    if indices.size and not -extent <= indices.min() <= indices.max() < extent:
        raise Refusal(node, f"it needs indices within the {extent} entries of axis {axis}")
    return np.where(indices < 0, indices + extent, indices).astype(np.int64)


def _require(node: SourceNode, fits: bool, fault: str) -> None:
    """Let nothing pass whose shapes do not fit together, which ONNX's own inference does not see.

    Raises:
        ModelError: with the fault.
    """
    if not fits:
        raise ModelError(f"node {node.name!r} ({node.op}) is malformed: {fault}")


def _along(indices: Array, shape: Shape, node: SourceNode) -> Index:
    """Where the indices of a GatherElements or ScatterElements point: each stays at its place but for one axis."""
    rank, axis = len(shape), int(node.attributes.get("axis", 0))
    _require(node, -rank <= axis < rank, f"it has axis {axis} and a tensor of shape {shape}")
    axis %= rank
    within = indices.ndim == rank and all(indices.shape[a] <= shape[a] for a in range(rank) if a != axis)
    _require(node, within, f"its indices of shape {indices.shape} do not fit axis {axis} of shape {shape}")
    places = [np.asarray(place) for place in np.indices(indices.shape)]
    places[axis] = _positive(indices, shape[axis], axis, node)
    return tuple(places)


def _coordinates(indices: Array, shape: Shape, node: SourceNode, batch: int) -> Index:
    """Where the indices of a GatherND or ScatterND point: coordinates in the last axis, behind ``batch`` equal axes."""
    depth = indices.shape[-1] if indices.ndim else 0
    alike = 0 <= batch < indices.ndim and indices.shape[:batch] == shape[:batch]
    fits = alike and 1 <= depth <= len(shape) - batch
    _require(
        node, fits, f"its indices of shape {indices.shape} do not fit a tensor of shape {shape} with batch_dims {batch}"
    )
    lead = np.indices(indices.shape[:-1])[:batch]
    places = [_positive(indices[..., k], shape[batch + k], batch + k, node) for k in range(depth)]
    return (*lead, *places)


def _numbered(shape: Shape) -> Array:
    """The number of each element of a tensor in its own order, s64."""
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


def _elements(lowering: Lowering, tensors: Sequence[Tensor], chosen: Array, node: SourceNode, name: str) -> Tensor:
    """A result whose elements are ``chosen`` from the elements of tensors that stand behind one another.

    Runs of elements that stay together move as rows, as long as possible.

    Args:
        lowering: to which it is added.
        tensors: of one type and quantization.
        chosen: s64 of the result's shape; numbers that count on from one tensor to the next.
        node: whose work it is.
        name: of the result.
    """
    flat = chosen.reshape(-1)
    if not flat.size:
        raise Refusal(node, "it needs a result with elements")
    begins = np.flatnonzero(np.diff(flat, prepend=flat[0] - 2) != 1)
    lengths = [tensor.size for tensor in tensors]
    run = math.gcd(flat.size, *lengths, int(np.gcd.reduce(begins)), int(np.gcd.reduce(flat[begins])))
    parts = [
        layout.reshape(lowering, tensor, (tensor.size // run, run), node, f"{tensor.name}:rows:{run}")
        for tensor in tensors
    ]
    table = parts[0]
    if len(parts) > 1:
        whole = (sum(lengths) // run, run)
        table = layout.move(lowering, "concat", parts, whole, node, f"{name}:choice", axis=0)
    plain = name if chosen.shape == (flat.size // run, run) else f"{name}:rows"
    picked = _rows(lowering, table, 0, flat[::run] // run, node, plain)
    return layout.reshape(lowering, picked, chosen.shape, node, name)


def _rows(lowering: Lowering, tensor: Tensor, axis: int, indices: Array, node: SourceNode, name: str) -> Tensor:
    """Entries of an axis by constant indices that are not negative; those that follow one another are a slice."""
    shape = (*tensor.shape[:axis], *indices.shape, *tensor.shape[axis + 1 :])
    extent, flat = tensor.shape[axis], indices.reshape(-1)
    if flat.size and np.array_equal(flat, flat[0] + np.arange(flat.size)):
        starts = [int(flat[0]) if a == axis else 0 for a in range(len(tensor.shape))]
        part = tuple(flat.size if a == axis else n for a, n in enumerate(tensor.shape))
        steps = [1] * len(part)
        cut = layout.slice_(lowering, tensor, starts, steps, part, node, name if part == shape else f"{name}:slice")
        return layout.reshape(lowering, cut, shape, node, name)
    if indices.ndim == 1 and np.array_equal(flat, np.roll(np.arange(extent), -flat[0] if flat.size else 0)):
        shifts = (extent - int(flat[0]),)
        return layout.move(lowering, "roll", [tensor], shape, node, name, axes=(axis,), shifts=shifts)
    index = lowering.constant(f"{node.inputs[1]}:indices", indices, "s64")
    return layout.move(lowering, "gather", [tensor, index], shape, node, name, axis=axis)
