"""Where a factor per channel may travel in a float graph: from the weights that take it to those that undo it.

Asked by ``rescale``. A rule per operator says how it treats the factor; an operator without a rule stops it. Nothing
here changes a graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from npusim.graph.ir import Array
from npusim.graph.source import SourceNode

from .editor import Editor

NORMS = ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")
PRODUCTS = ("MatMul", "Gemm")
PASSING = ("Add", "Relu")
"""What may lie between a product and the tensor whose channels are looked at: an offset, a bound at zero."""

Rule = Callable[[Editor, SourceNode, int], int | None]
"""The axis of the channels behind an operator, from the axis before it; None where the factor does not pass."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weight:
    """A constant whose entries meet the channels of a tensor.

    Attributes:
        node: who reads it.
        index: which of its inputs it is.
        axis: of the constant along which the channels lie.
        depthwise: whether each channel has an output channel of its own.
    """

    node: SourceNode
    index: int
    axis: int
    depthwise: bool = False

    @property
    def name(self) -> str:
        """Name of the constant."""
        return self.node.inputs[self.index]

    def shaped(self, factors: Array, rank: int) -> Array:
        """Factors per channel in a form that broadcasts over the constant."""
        return factors.reshape([-1 if axis == self.axis else 1 for axis in range(rank)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Span:
    """A tensor whose channels may be rescaled without changing the model.

    Attributes:
        tensor: its name.
        axis: of its channels.
        channels: how many.
        sources: constants that are divided by the factors.
        readers: weights that are multiplied by them, of every node that reads the tensor.
    """

    tensor: str
    axis: int
    channels: int
    sources: tuple[Weight, ...]
    readers: tuple[Weight, ...]


def spans(editor: Editor) -> list[Span]:
    """Every tensor that can be rescaled, in the order of the graph.

    A factor enters where a norm, a product or a convolution writes its result, and leaves in the weights of products
    and convolutions. Where the result passes through an offset or a bound at zero first, the tensor behind that counts.
    """
    found = []
    for node in editor.graph.nodes:
        tensor, rank = node.output, _rank(editor, node.output)
        if node.op not in (*NORMS, *PRODUCTS, *PASSING, "Conv") or rank < 2 or _goes_on(editor, tensor):
            continue
        axis = _channel_axis(editor, node, rank)
        if axis is None:
            continue
        channels = editor.types[tensor].shape[axis]
        sources, readers = _sources(editor, node, axis), readers_of(editor, tensor, axis)
        if sources and readers and all(_extent(editor, weight) == channels for weight in (*sources, *readers)):
            found.append(
                Span(tensor=tensor, axis=axis, channels=channels, sources=tuple(sources), readers=tuple(readers))
            )
    return found


def _goes_on(editor: Editor, tensor: str) -> bool:
    """Whether the only reader hands the channels on as they are, so that its result is the one to look at."""
    if not editor.is_private(tensor):
        return False
    (node,) = editor.readers(tensor)
    return node.op == "Relu" or (node.op == "Add" and any(name in editor.constants for name in node.inputs))


def _rank(editor: Editor, value: str) -> int:
    return len(editor.types[value].shape)


def _extent(editor: Editor, weight: Weight) -> int | None:
    """How many channels a constant has entries for; None where it is no constant, or has another shape."""
    array = editor.constants.get(weight.name)
    return None if array is None or not 0 <= weight.axis < array.ndim else array.shape[weight.axis]


# ---------------------------------------------------------------------------------------------------------- backwards


def _live(editor: Editor, node: SourceNode) -> list[str]:
    return [name for name in node.inputs if name not in editor.constants]


def _channel_axis(editor: Editor, node: SourceNode | None, rank: int) -> int | None:
    """The axis along which a tensor of ``rank`` axes has its channels, from the node that computes it."""
    while node is not None and node.op in PASSING:
        live = _live(editor, node)
        node = editor.producer(live[0]) if len(live) == 1 else None
    if node is None or node.op not in (*NORMS, *PRODUCTS, "Conv"):
        return None
    return 1 if node.op == "Conv" else rank - 1


def _sources(editor: Editor, node: SourceNode, axis: int) -> list[Weight] | None:
    """The constants to divide so that a result's channels are divided, or None where something is in the way."""
    rank = _rank(editor, node.output)
    if node.op in NORMS:
        own = [Weight(node=node, index=index, axis=0) for index in (1, 2) if node.input(index)]
        return own if node.attributes.get("axis", -1) in (-1, rank - 1) else None
    if node.op == "Conv":
        return _with_offset(editor, node, Weight(node=node, index=1, axis=0))
    if node.op == "Gemm":
        return _with_offset(editor, node, Weight(node=node, index=1, axis=0 if node.attributes.get("transB", 0) else 1))
    if node.op == "MatMul":
        return [Weight(node=node, index=1, axis=1)] if _rank(editor, node.inputs[1]) == 2 else None
    (before,) = _live(editor, node)
    producer = editor.producer(before)
    inner = _sources(editor, producer, axis) if producer is not None and editor.is_private(before) else None
    if inner is None or node.op == "Relu":
        return inner
    offset = 1 - node.inputs.index(before)
    return [*inner, Weight(node=node, index=offset, axis=axis - (rank - _rank(editor, node.inputs[offset])))]


def _with_offset(editor: Editor, node: SourceNode, weight: Weight) -> list[Weight]:
    """The weight, and the offset of the same node where it has one."""
    if not node.input(2):
        return [weight]
    return [weight, Weight(node=node, index=2, axis=_rank(editor, node.input(2)) - 1)]


# ----------------------------------------------------------------------------------------------------------- forwards


def readers_of(editor: Editor, tensor: str, axis: int) -> list[Weight] | None:
    """The weights that meet a tensor's channels, or None where some reader would see the factor."""
    found: dict[str, Weight] = {}
    axes = {tensor: axis}
    waiting = [tensor]
    joins: list[SourceNode] = []
    while waiting:
        name = waiting.pop()
        if name in editor.graph.outputs:
            return None
        for node in editor.readers(name):
            weight = _meets(editor, node, name, axes[name])
            if weight is not None:
                found[node.name] = weight
                continue
            moved = _carried(editor, node, name, axes[name])
            if moved is None:
                return None
            if node.op == "Concat":
                joins.append(node)
            for result in filter(None, node.outputs):
                if result not in axes:
                    axes[result] = moved
                    waiting.append(result)
                elif axes[result] != moved:
                    return None
    complete = all(name in axes for node in joins for name in node.inputs)
    return list(found.values()) if complete else None


def _meets(editor: Editor, node: SourceNode, value: str, axis: int) -> Weight | None:
    """The weight of a product or convolution that sums over the channels, or has one kernel for each."""
    if node.inputs[0] != value or node.input(1) not in editor.constants:
        return None
    shape = editor.constants[node.inputs[1]].shape
    if node.op == "MatMul" and axis == _rank(editor, value) - 1 and len(shape) == 2:
        return Weight(node=node, index=1, axis=0)
    if node.op == "Gemm" and axis == 1 and not node.attributes.get("transA", 0):
        return Weight(node=node, index=1, axis=1 if node.attributes.get("transB", 0) else 0)
    if node.op == "Conv" and axis == 1:
        groups = node.attributes.get("group", 1)
        if groups == 1:
            return Weight(node=node, index=1, axis=1)
        if groups == shape[0] and shape[1] == 1:
            return Weight(node=node, index=1, axis=0, depthwise=True)
    return None


def _carried(editor: Editor, node: SourceNode, value: str, axis: int) -> int | None:
    """The axis of the channels behind an operator that lets a positive factor per channel pass, or None."""
    rule = _RULES.get(node.op)
    if rule is None or (node.inputs[0] != value and node.op != "Concat"):
        return None
    return rule(editor, node, axis)


def _reshape(editor: Editor, node: SourceNode, axis: int) -> int | None:
    before, after = editor.types[node.inputs[0]].shape, editor.types[node.output].shape
    places = (
        place
        for place, extent in enumerate(after)
        if extent == before[axis] and math.prod(after[:place]) == math.prod(before[:axis])
    )
    return next(places, None)


def _transpose(editor: Editor, node: SourceNode, axis: int) -> int | None:
    reverse = range(_rank(editor, node.inputs[0]) - 1, -1, -1)
    return list(node.attributes.get("perm", reverse)).index(axis)


def _beside(editor: Editor, node: SourceNode, axis: int) -> int | None:
    """Concat and Split along another axis."""
    return axis if int(node.attributes.get("axis", 0)) % _rank(editor, node.output) != axis else None


def _slice(editor: Editor, node: SourceNode, axis: int) -> int | None:
    axes = editor.constants.get(node.input(3))
    if axes is None:
        return None
    return axis if axis not in {int(cut) % _rank(editor, node.output) for cut in axes} else None


def _pad(editor: Editor, node: SourceNode, axis: int) -> int | None:
    same = editor.types[node.inputs[0]].shape[axis] == editor.types[node.output].shape[axis]
    value = editor.constants.get(node.input(2))
    zeros = not node.input(2) or (value is not None and not value.any())
    constant = node.attributes.get("mode", "constant") in ("constant", b"constant")
    return axis if same and (zeros or not constant) else None


def _gather(editor: Editor, node: SourceNode, axis: int) -> int | None:
    place = int(node.attributes.get("axis", 0)) % _rank(editor, node.inputs[0])
    if place == axis:
        return None
    return axis if axis < place else axis - 1 + _rank(editor, node.inputs[1])


def _pool(editor: Editor, node: SourceNode, axis: int) -> int | None:
    del editor
    return axis if axis == 1 and len(node.outputs) == 1 else None


def _reduce(editor: Editor, node: SourceNode, axis: int) -> int | None:
    over = node.attributes.get("axes", editor.constants.get(node.input(1)))
    if over is None:
        return None
    gone = {int(item) % _rank(editor, node.inputs[0]) for item in over}
    if axis in gone:
        return None
    return axis if node.attributes.get("keepdims", 1) else axis - sum(item < axis for item in gone)


def _bound(editor: Editor, node: SourceNode, axis: int) -> int | None:
    """Bounds at zero: what is positive stays so."""
    del editor, node
    return axis


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"), _reshape),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), _pool),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"), _reduce),
    **dict.fromkeys(("Concat", "Split"), _beside),
    **dict.fromkeys(("Relu", "LeakyRelu"), _bound),
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
    "Gather": _gather,
}
