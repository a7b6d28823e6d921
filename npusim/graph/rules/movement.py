"""Rules of the operators that move elements and do no arithmetic: quantization passes through them unchanged.

They serve integers and real values alike. Max pooling and nearest resizing are here as well: both commute with every
rising function, and so with quantization.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import quantize
from ..ir import Array, Tensor
from ..lowering import Lowering, Move
from ..refusal import Refusal, check_attributes
from ..source import SourceNode
from . import layout
from .matrix import as_image
from .resizing import nearest_positions
from .window import window

MOVES: dict[str, Move] = {}
"""Movement by operator."""

ATTRIBUTES: dict[str, str] = {}
"""The attributes each of them understands."""

NEEDS: dict[str, tuple[str, ...]] = {}
"""What each of them needs, in words."""

Apply = Callable[[Lowering, SourceNode, str, list[Tensor], str], Tensor]


def _first(_: Lowering, node: SourceNode) -> Sequence[str]:
    return node.inputs[:1]


def _all(_: Lowering, node: SourceNode) -> Sequence[str]:
    return node.inputs


def moves(
    *ops: str, attributes: str = "", data: Callable[[Lowering, SourceNode], Sequence[str]] = _first,
    needs: tuple[str, ...] = (),
) -> Callable[[Apply], Apply]:  # fmt: skip
    """Register movement for ONNX operators.

    Args:
        ops: operator names.
        attributes: those they may have, separated by blanks.
        data: names of the operands whose elements they take.
        needs: what the rule refuses otherwise, for the support table.
    """

    def register(apply: Apply) -> Apply:
        def checked(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
            check_attributes(node, attributes.split())
            return apply(lowering, node, value, tensors, name or f"{value}:q")

        for op in ops:
            MOVES[op] = Move(data=data, apply=checked)
            ATTRIBUTES[op], NEEDS[op] = attributes, needs
        return apply

    return register


def constant(lowering: Lowering, node: SourceNode, index: int) -> Array | None:
    """A constant input, or None where it is left out.

    Raises:
        Refusal: it is fed at run time.
    """
    value = node.input(index)
    if not value:
        return None
    if value not in lowering.source.constants:
        raise Refusal(node, f"it needs a constant input {index} ({value!r})")
    return lowering.source.constants[value]


@moves("Identity", "Dropout", attributes="seed ratio")
def identity(_: Lowering, node: SourceNode, value: str, tensors: list[Tensor], _name: str) -> Tensor:
    """The tensor itself."""
    if value != node.output:
        raise Refusal(node, "it needs only its first output to be used")
    return tensors[0]


@moves("Reshape", "Flatten", "Squeeze", "Unsqueeze", attributes="allowzero axis axes")
def reshape(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """The same elements in another shape, which shape inference knows."""
    return layout.reshape(lowering, tensors[0], lowering.shape(value), node, name)


@moves("Transpose", attributes="perm")
def transpose(lowering: Lowering, node: SourceNode, _: str, tensors: list[Tensor], name: str) -> Tensor:
    """Axes in another order; without ``perm``, reversed."""
    permutation = node.attributes.get("perm", tuple(reversed(range(len(tensors[0].shape)))))
    return layout.transpose(lowering, tensors[0], permutation, node, name)


@moves("Slice")
def slice_(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """A strided part."""
    (tensor,) = tensors
    begins, ends = constant(lowering, node, 1), constant(lowering, node, 2)
    assert begins is not None
    assert ends is not None
    axes, steps = constant(lowering, node, 3), constant(lowering, node, 4)
    rank = len(tensor.shape)
    axes = np.arange(len(begins)) if axes is None else axes
    steps = np.ones(len(begins), np.int64) if steps is None else steps
    starts, strides = [0] * rank, [1] * rank
    for axis, begin, end, step in zip(axes, begins, ends, steps, strict=True):
        axis = int(axis) % rank
        starts[axis], _, strides[axis] = slice(int(begin), int(end), int(step)).indices(tensor.shape[axis])
    return layout.slice_(lowering, tensor, starts, strides, lowering.shape(value), node, name)


@moves("Split", attributes="axis split num_outputs")
def split(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """One of the parts, as a slice."""
    (tensor,) = tensors
    axis = int(node.attributes.get("axis", 0)) % len(tensor.shape)
    position = node.outputs.index(value)
    start = sum(lowering.shape(output)[axis] for output in node.outputs[:position] if output)
    if any(not output for output in node.outputs[:position]):
        raise Refusal(node, "it needs names for all of its outputs")
    starts = [start if a == axis else 0 for a in range(len(tensor.shape))]
    steps = [1] * len(tensor.shape)
    return layout.slice_(lowering, tensor, starts, steps, lowering.shape(value), node, name)


@moves("Concat", attributes="axis", data=_all)
def concat(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """Tensors behind one another; empty ones are left out."""
    shape = lowering.shape(value)
    parts = [tensor for tensor in tensors if tensor.size]
    if len(parts) == 1:
        return parts[0]
    axis = int(node.attributes["axis"]) % len(shape)
    return layout.move(lowering, "concat", parts, shape, node, name, axis=axis)


@moves("Expand")
def expand(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """Elements repeated along axes of extent 1."""
    (tensor,) = tensors
    shape = lowering.shape(value)
    if tensor.shape == shape:
        return tensor
    return layout.move(lowering, "expand", [tensor], shape, node, name)


@moves("Tile")
def tile(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """The tensor repeated along its axes."""
    repeats = constant(lowering, node, 1)
    assert repeats is not None
    counts = tuple(int(count) for count in repeats)
    if all(count == 1 for count in counts):
        return tensors[0]
    return layout.move(lowering, "tile", tensors, lowering.shape(value), node, name, repeats=counts)


def _pad_widths(lowering: Lowering, node: SourceNode, rank: int) -> list[int]:
    """Elements in front of each axis, then behind each."""
    pads = constant(lowering, node, 1)
    axes = constant(lowering, node, 3)
    assert pads is not None
    chosen = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    widths = [0] * (2 * rank)
    for position, axis in enumerate(chosen):
        widths[axis], widths[rank + axis] = int(pads[position]), int(pads[position + len(pads) // 2])
    if min(widths, default=0) < 0:
        raise Refusal(node, "it needs pads of at least 0")
    return widths


@moves("Pad", attributes="mode")
def pad(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """A border around the tensor: a constant, the edge, or its reflection."""
    (tensor,) = tensors
    widths = _pad_widths(lowering, node, len(tensor.shape))
    if not any(widths):
        return tensor
    mode = str(node.attributes.get("mode", "constant"))
    if mode not in ("constant", "edge", "reflect"):
        raise Refusal(node, "it needs the mode constant, edge or reflect")
    given = constant(lowering, node, 2) if mode == "constant" else None
    fill = np.zeros(1, np.float32) if given is None else given.reshape(1)
    number = int(fill[0]) if not lowering.is_real(value) else 0
    if lowering.is_real(value) and mode == "constant":
        assert tensor.quantization is not None
        integers = quantize.quantize(fill, tensor.quantization, tensor.dtype)
        number = int(integers[0])
        if not np.array_equal(quantize.dequantize(integers, tensor.quantization), fill.astype(np.float32)):
            raise Refusal(node, f"it needs a border value that the scale of its input can express, not {fill[0]}")
    return layout.move(
        lowering, "pad", [tensor], lowering.shape(value), node, name, pads=tuple(widths), mode=mode, value=number
    )


def _blocks(node: SourceNode) -> int:
    return int(node.attributes["blocksize"])


@moves("DepthToSpace", attributes="blocksize mode")
def depth_to_space(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """Channels become pixels: reshape, transpose, reshape."""
    (tensor,) = tensors
    n, c, h, w = tensor.shape
    size = _blocks(node)
    depth = c // (size * size)
    if node.attributes.get("mode", "DCR") == "DCR":
        split_shape, permutation = (n, size, size, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split_shape, permutation = (n, depth, size, size, h, w), (0, 1, 4, 2, 5, 3)
    parts = layout.reshape(lowering, tensor, split_shape, node, f"{name}:blocks")
    turned = layout.transpose(lowering, parts, permutation, node, f"{name}:turned")
    return layout.reshape(lowering, turned, lowering.shape(value), node, name)


@moves("SpaceToDepth", attributes="blocksize")
def space_to_depth(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """Pixels become channels: reshape, transpose, reshape."""
    (tensor,) = tensors
    n, c, h, w = tensor.shape
    size = _blocks(node)
    parts = layout.reshape(lowering, tensor, (n, c, h // size, size, w // size, size), node, f"{name}:blocks")
    turned = layout.transpose(lowering, parts, (0, 3, 5, 1, 2, 4), node, f"{name}:turned")
    return layout.reshape(lowering, turned, lowering.shape(value), node, name)


@moves("MaxPool", attributes="auto_pad ceil_mode dilations kernel_shape pads storage_order strides")
def max_pool(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """The largest integer under each window."""
    (tensor,) = tensors
    if value != node.output or any(lowering.source.uses.get(other, 0) for other in node.outputs[1:]):
        raise Refusal(node, "it needs only its first output to be used")
    if len(tensor.shape) not in (3, 4):
        raise Refusal(node, "it needs an input of shape [N, C, W] or [N, C, H, W]")
    shape = lowering.shape(value)
    place = window(node, tensor.shape, shape, tuple(node.attributes["kernel_shape"]))
    wide = (shape[0], shape[1], 1, shape[2]) if len(shape) == 3 else shape
    image = as_image(lowering, tensor, node)
    if image.data is not None:
        raise Refusal(node, "it needs an input that is no constant")
    pooled = layout.move(
        lowering, "max_pool", [image], wide, node, name if wide == shape else f"{name}:image",
        **place.attributes(kernel=True),
    )  # fmt: skip
    return layout.reshape(lowering, pooled, shape, node, name)


@moves(
    "Resize",
    attributes="antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value "
    "keep_aspect_ratio_policy mode nearest_mode",
)
def resize_nearest(lowering: Lowering, node: SourceNode, value: str, tensors: list[Tensor], name: str) -> Tensor:
    """Pixels picked by position; other modes do arithmetic and have a rule of their own."""
    (tensor,) = tensors
    rows, columns = nearest_positions(lowering, node)
    return layout.move(
        lowering, "resize", [tensor], lowering.shape(value), node, name, mode="nearest", rows=rows, columns=columns
    )
