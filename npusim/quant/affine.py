"""Factors and offsets of channels join the weights and the bias of the product in front of them.

Part of the float graph optimization. Batch normalization is such a factor and offset; where no product is in front of
it, it becomes a depthwise convolution of one tap. Transposes between the two move behind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from npusim.graph.ir import Array
from npusim.graph.source import SourceGraph, SourceNode

from .editor import Editor

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """``y = x * gain + offset`` for each channel.

    Attributes:
        value: name of x.
        gain: float64[channels], or of one element for all channels.
        offset: likewise; None where nothing is added.
    """

    value: str
    gain: Array
    offset: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """A product with constant weights, and its bias.

    Attributes:
        product: the node.
        adder: the Add that holds the bias of a MatMul; None where the product has its own.
        axis: of the output channels in the weights.
        channels: how many there are.
        bias: name of the constant; "" where it has none.
    """

    product: SourceNode
    adder: SourceNode | None
    axis: int
    channels: int
    bias: str

    @property
    def last(self) -> SourceNode:
        """The node that computes the result."""
        return self.adder or self.product


def fold_affine(graph: SourceGraph) -> SourceGraph:
    """``graph`` with batch normalizations, and factors and offsets of channels, in the weights of products.

    Requires: types (``fold``). Ensures: no BatchNormalization with constant parameters is left.
    """
    editor = Editor(graph)
    for node in graph.nodes:
        _before_transpose(editor, node)
        current = editor.current(node)
        assert current is not None
        node = current
        affine = _batch_normalization(editor, node) or _elementwise(editor, node)
        if affine is None:
            continue
        linear = linear_of(editor, affine.value) if editor.is_private(affine.value) else None
        if linear is not None and _fits(linear, affine):
            _join(editor, node, linear, affine)
        elif node.op == "BatchNormalization" and len(editor.types[affine.value].shape) in (3, 4):
            _stand_alone(editor, node, affine)
    return editor.finish()


def _before_transpose(editor: Editor, node: SourceNode) -> None:
    """Exchange a Mul or Div of a constant with the Transpose in front of it, where a product is in front of that.

    The layer scale of ConvNeXt is such a factor.
    """
    constants = [name for name in node.inputs if name in editor.constants]
    if node.op not in ("Mul", "Div") or len(constants) != 1 or node.inputs[0] in constants:
        return
    transpose = editor.producer(node.inputs[0])
    if transpose is None or transpose.op != "Transpose" or not editor.is_private(transpose.output):
        return
    value = transpose.inputs[0]
    if not editor.is_private(value) or linear_of(editor, value) is None:
        return
    shape = editor.types[node.output].shape
    if editor.types[transpose.output].shape != shape:
        return
    permutation = tuple(transpose.attributes.get("perm", tuple(reversed(range(len(shape))))))
    factor = editor.constants[constants[0]]
    wide = factor.reshape((1,) * (len(shape) - factor.ndim) + factor.shape)
    inner = f"{value}:scaled"
    constant = editor.constant(f"{constants[0]}:transposed", wide.transpose(np.argsort(permutation)))
    editor.types[inner] = editor.types[value]
    editor.put(replace(node, inputs=(value, constant), outputs=(inner,)))
    editor.put(replace(transpose, inputs=(inner,), outputs=node.outputs[:1]))


def channel_axis(product: SourceNode, rank: int) -> int:
    """The axis of the output channels in constant weights of ``rank`` dimensions."""
    if product.op in ("Conv", "ConvTranspose"):
        return 0 if product.op == "Conv" else 1
    return 0 if product.op == "Gemm" and product.attributes.get("transB", 0) else rank - 1


def linear_of(editor: Editor, value: str) -> Linear | None:
    """The product with constant weights that computes a value, or None."""
    node, adder = editor.producer(value), None
    bias = ""
    if node is not None and node.op == "Add":
        bias = next((name for name in node.inputs if name in editor.constants), "")
        adder = node
        node = editor.producer(next(name for name in node.inputs if name != bias))
        if node is None or node.op != "MatMul" or not editor.is_private(node.output) or not bias:
            return None
    if node is None or node.op not in PRODUCTS or node.input(1) not in editor.constants:
        return None
    bias = bias or node.input(2)
    if bias and bias not in editor.constants:
        return None
    if node.op == "ConvTranspose" and int(node.attributes.get("group", 1)) > 1:
        return None  # its weights hold the channels of one group only
    if node.op == "Gemm" and (node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)) != (1.0, 1.0):
        return None
    weights = editor.constants[node.inputs[1]]
    axis = channel_axis(node, weights.ndim)
    linear = Linear(product=node, adder=adder, axis=axis, channels=weights.shape[axis], bias=bias)
    if bias and not _is_row(editor.constants[bias], linear.channels):
        return None
    return linear


def _is_row(array: Array, channels: int) -> bool:
    """Whether a constant holds one number for each entry of the last axis."""
    return array.size in (1, channels) and (array.ndim == 0 or array.shape[-1] == array.size)


def _fits(linear: Linear, affine: Affine) -> bool:
    if affine.gain.size not in (1, linear.channels):
        return False
    needs_bias = affine.offset is not None and linear.product.op == "MatMul" and linear.adder is None
    return not needs_bias


def _join(editor: Editor, node: SourceNode, linear: Linear, affine: Affine) -> None:
    """Exchange a product and ``node`` behind it for the product with other weights."""
    weights = np.float64(editor.constants[linear.product.inputs[1]])
    along = [-1 if axis == linear.axis else 1 for axis in range(weights.ndim)]
    source = (*linear.product.source, *node.source)
    names = {
        linear.product.inputs[1]: _constant(editor, linear.product.inputs[1], weights * affine.gain.reshape(along))
    }
    inputs = [names.get(name, name) for name in linear.product.inputs]
    offset = np.zeros(linear.channels) if affine.offset is None else affine.offset
    bias = ""
    if linear.bias or affine.offset is not None:
        old = np.float64(editor.constants[linear.bias]).reshape(-1) if linear.bias else np.zeros(1)
        row = np.broadcast_to(old * affine.gain + offset, (linear.channels,))
        bias = _constant(editor, linear.bias or f"{linear.product.name}:bias", row)
    editor.remove(node)
    if linear.adder is None:
        inputs = [*inputs[:2], bias] if bias else inputs[:2]
        editor.put(replace(linear.product, inputs=tuple(inputs), outputs=node.outputs[:1], source=source))
        return
    editor.put(replace(linear.product, inputs=tuple(inputs), source=source))
    editor.put(
        replace(
            linear.adder, inputs=(linear.product.output, bias), outputs=node.outputs[:1],
            source=(*linear.adder.source, *node.source),
        )
    )  # fmt: skip


def _constant(editor: Editor, name: str, array: Array) -> str:
    return editor.constant(f"{name}:folded", np.asarray(array, np.float32))


def _batch_normalization(editor: Editor, node: SourceNode) -> Affine | None:
    """A batch normalization in inference mode as factor and offset."""
    if node.op != "BatchNormalization" or node.attributes.get("training_mode", 0) or any(node.outputs[1:]):
        return None
    if not all(name in editor.constants for name in node.inputs[1:]):
        return None
    scale, offset, mean, variance = (np.float64(editor.constants[name]) for name in node.inputs[1:])
    gain = scale / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    return Affine(value=node.inputs[0], gain=gain, offset=offset - mean * gain)


def _elementwise(editor: Editor, node: SourceNode) -> Affine | None:
    """A Mul, Div, Add or Sub of a constant for each channel of a product as factor and offset."""
    if node.op not in ("Mul", "Div", "Add", "Sub") or len(node.inputs) != 2:
        return None
    constants = [name for name in node.inputs if name in editor.constants]
    if len(constants) != 1 or (node.op in ("Div", "Sub") and node.inputs[1] not in editor.constants):
        return None
    (value,) = (name for name in node.inputs if name not in editor.constants)
    product = editor.producer(value)
    shape = editor.types[node.output].shape
    if product is None or editor.types[value].shape != shape or len(shape) < 2:
        return None
    per_channel = _channels(editor.constants[constants[0]], shape, 1 if product.op.startswith("Conv") else -1)
    if per_channel is None or (node.op == "Div" and not np.all(per_channel)):
        return None
    if node.op in ("Mul", "Div"):
        return Affine(value=value, gain=per_channel if node.op == "Mul" else 1 / per_channel)
    if product.op in ("MatMul", "Add"):
        return None  # the Add of a MatMul is its bias already
    return Affine(value=value, gain=np.ones(1), offset=per_channel if node.op == "Add" else -per_channel)


def _channels(array: Array, shape: tuple[int, ...], axis: int) -> Array | None:
    """A constant as float64[1] or float64[channels] where it differs along one axis only, or None."""
    if array.size == 1:
        return np.float64(array).reshape(1)
    axis %= len(shape)
    extents = (1,) * (len(shape) - array.ndim) + array.shape
    if len(extents) > len(shape) or array.size != shape[axis] or extents[axis] != shape[axis]:
        return None
    return np.float64(array).reshape(-1)


def _stand_alone(editor: Editor, node: SourceNode, affine: Affine) -> None:
    """Exchange a batch normalization behind no product for a depthwise convolution of one tap."""
    assert affine.offset is not None
    channels, spatial = affine.gain.size, len(editor.types[affine.value].shape) - 2
    weights = _constant(editor, node.inputs[1], affine.gain.reshape(channels, 1, *(1,) * spatial))
    bias = _constant(editor, node.inputs[2], affine.offset)
    attributes = {"group": channels, "kernel_shape": (1,) * spatial}
    editor.put(
        replace(node, op="Conv", inputs=(affine.value, weights, bias), outputs=node.outputs[:1], attributes=attributes)
    )
