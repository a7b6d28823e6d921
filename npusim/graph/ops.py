"""The operations of the integer graph: operands, attributes and meaning of each.

``check`` holds a graph against this list; the compiler has one lowering function per entry. What ONNX operators become
them is written in ``rules``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ir import Graph, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation.

    Attributes:
        meaning: what it computes, in one or two sentences.
        inputs: smallest and largest number of operands.
        attributes: those it always has, and what their values are.
        optional: those it may have.
    """

    meaning: str
    inputs: tuple[int, int]
    attributes: dict[str, str]
    optional: dict[str, str]


OPS: dict[str, Operation] = {}
"""Every operation by name."""

CLAMP = {"clamp": "smallest and largest integer of the result, where narrower than its type"}
_PLACE = {
    "strides": "steps of the window, rows and columns",
    "pads": "padding: top, left, bottom, right; what the result's shape needs beyond is padding as well",
    "dilations": "steps between taps, rows and columns",
}
_KERNEL = {"kernel": "extents of the window, rows and columns", **_PLACE}


def _operation(
    name: str, meaning: str, inputs: int | tuple[int, int] = 1, attributes: dict[str, str] | None = None,
    optional: dict[str, str] | None = None,
) -> None:  # fmt: skip
    counts = (inputs, inputs) if isinstance(inputs, int) else inputs
    OPS[name] = Operation(meaning=meaning, inputs=counts, attributes=attributes or {}, optional=optional or {})


# ---------------------------------------------------------------------------------------------------------- products

_operation(
    "conv",
    "Convolve [N, C, H, W] with constant weights [OC, C / groups, kh, kw] and add a bias s32[OC]. Padding holds the "
    "input's zero point. An s32 (16-bit operands: s64) result is the raw accumulator.",
    (2, 3),
    {**_PLACE, "groups": "groups of channels; as many as channels for a depthwise convolution"},
    CLAMP,
)
_operation(
    "conv_transpose",
    "Transposed convolution of [N, C, H, W] with constant weights [C, OC / groups, kh, kw] and a bias s32[OC].",
    (2, 3),
    {**_PLACE, "groups": "groups of channels"},
    CLAMP,
)
_operation(
    "matmul",
    "Product of [..., m, k] and [..., k, n] with broadcast batch dimensions, plus a bias s32[n]. The second operand "
    "may be live, or constant and quantized per column.",
    (2, 3),
    {},
    {"alpha": "float factor that joins the first operand's scale: f32(alpha * as)", **CLAMP},
)

# ------------------------------------------------------------------------------------------------------- elementwise

_operation(
    "add",
    "Sum with broadcasting. The operands stand in the order in which they are rounded: "
    "fma(a, rA, fma(b, rB, F)) for 8 bits.",
    2, {}, CLAMP,
)  # fmt: skip
for _name, _meaning in {
    "sub": "Difference a - b",
    "mul": "Product",
    "div": "Quotient a / b",
    "min": "Smaller real value",
    "max": "Larger real value",
}.items():
    _operation(_name, f"{_meaning}, with broadcasting.", 2, {}, CLAMP)
_operation(
    "table",
    "Any function of one variable: dequantize, evaluate in float64, round correctly through QuantizeLinear.",
    1,
    {"expression": "pointwise.Expression"},
    CLAMP,
)
_operation(
    "tables",
    "A function of one 8-bit variable for each index of the expression's axis, such as a channel; otherwise a table.",
    1,
    {"expression": "pointwise.Expression whose constants vary along an axis"},
    CLAMP,
)
_operation("rescale", "Dequantize and quantize again, to another scale, type or range.", 1, {}, CLAMP)
_operation("quantize", "QuantizeLinear of f32; per tensor, per axis or by blocks.", 1, {}, CLAMP)
_operation("dequantize", "DequantizeLinear to f32; per tensor, per axis or by blocks.")
_operation("cast", "The same integers in a wider type.")
_operation("reinterpret", "The same integers with another scale: a change of label without work.")

# ----------------------------------------------------------------------------------------------- pools and reductions

_operation("max_pool", "Largest integer under each window of [N, C, H, W]; padding never wins.", 1, _KERNEL)
_operation(
    "average_pool",
    "Average of the real values under each window of [N, C, H, W].",
    1,
    {**_KERNEL, "count_padding": "1 where padding counts as zeros"},
    CLAMP,
)
_operation("global_average_pool", "Average over H and W of [N, C, H, W], by the exact sum.", 1, {}, CLAMP)
_REDUCE = {"axes": "reduced axes, ascending", "keepdims": "1 where they stay with extent 1"}
_operation("reduce_mean", "Mean of the real values.", 1, _REDUCE, CLAMP)
_operation("reduce_sum", "Sum of the real values.", 1, _REDUCE, CLAMP)
_operation("reduce_max", "Largest real value.", 1, _REDUCE, CLAMP)
_operation("reduce_min", "Smallest real value.", 1, _REDUCE, CLAMP)
_ARG = {
    "axis": "the axis that is searched",
    "keepdims": "1 where it stays with extent 1",
    "select_last": "1 to take the last of equals",
}
_operation("arg_max", "Position of the largest integer, s64.", 1, _ARG)
_operation("arg_min", "Position of the smallest integer, s64.", 1, _ARG)
_operation(
    "resize",
    "Resample H and W of [N, C, H, W]. nearest: pixel (rows[y], columns[x]). linear: real values are interpolated "
    "along columns, then along rows, and rounded once.",
    1,
    {
        "mode": "nearest or linear",
        "rows": "source row of each result row; the lower one for linear",
        "columns": "source column of each result column; the lower one for linear",
    },
    {
        "rows_high": "linear: the upper row",
        "row_weights": "linear: weight of the upper row",
        "columns_high": "linear: the upper column",
        "column_weights": "linear: weight of the upper column",
        **CLAMP,
    },
)

# ----------------------------------------------------------------------------------------------------- normalizations

_EPSILON = {"epsilon": "float32 added to the variance"}
_operation("layer_norm", "Layer normalization along the last axis: x, gain f32, offset f32.", 3, _EPSILON, CLAMP)
_operation("rms_norm", "RMS normalization along the last axis: x, gain f32.", 2, _EPSILON, CLAMP)
_operation("softmax", "Softmax along the last axis.", 1, {}, CLAMP)

# ------------------------------------------------------------------------------------------------------ data movement

_operation("reshape", "The same elements in the same order, in another shape.")
_operation("transpose", "Axes in another order.", 1, {"permutation": "axis i of the result is this axis of the input"})
_operation("slice", "Every step-th element from start on.", 1, {"starts": "per axis", "steps": "per axis"})
_operation("concat", "Tensors behind one another.", (2, 1 << 16), {"axis": "along which they stand"})
_operation(
    "roll", "A cyclic shift: element i moves to i + shift, modulo the extent.", 1,
    {"axes": "shifted axes", "shifts": "elements, one per axis"},
)  # fmt: skip
_operation(
    "pad", "A border.", 1,
    {"pads": "in front of each axis, then behind each", "mode": "constant, edge or reflect",
     "value": "integer of a constant border"},
)  # fmt: skip
_operation("gather", "Rows of the first operand along an axis, by s32 or s64 indices.", 2, {"axis": "of the rows"})
_operation("expand", "Elements repeated along axes of extent 1.")
_operation("tile", "The tensor repeated along its axes.", 1, {"repeats": "per axis"})

# ---------------------------------------------------------------------------------------------------------------- CPU

_operation(
    "cpu",
    "A part of the model that no integer operation stands for: an ONNX model whose inputs are the operands in order.",
    (0, 1 << 16),
    {
        "ops": "its ONNX operators",
        "blame": "the ONNX node that could not be lowered",
        "blame_op": "that node's operator",
        "reason": "what it would have needed",
        "model": "bytes of the ONNX model",
    },
)

MOVEMENT = frozenset(
    {"reshape", "transpose", "slice", "concat", "roll", "pad", "gather", "expand", "tile", "max_pool", "reinterpret"}
)
"""Operations whose result has the type of their first operand, and whose elements are among its elements."""


def check(graph: Graph) -> None:
    """Hold a graph against its own rules; a broken one is a mistake of npusim, not of the user.

    Raises:
        AssertionError: a node is out of order, reads an unknown tensor, or has other attributes than its operation.
    """
    known = {*graph.inputs, *(name for name, tensor in graph.tensors.items() if tensor.is_constant)}
    names = set()
    for node in graph.nodes:
        _check_node(graph, node, known)
        assert node.name not in names, f"two nodes are called {node.name}"
        names.add(node.name)
        known.update(node.outputs)
    assert known.issuperset(graph.outputs), f"nothing computes {set(graph.outputs) - known}"
    for tensor in graph.tensors.values():
        if tensor.data is not None:
            assert tensor.data.shape == tensor.shape, f"{tensor} has data of shape {tensor.data.shape}"
            assert tensor.data.dtype == tensor.numpy, f"{tensor} has data of type {tensor.data.dtype}"


def _check_node(graph: Graph, node: Node, known: set[str]) -> None:
    operation = OPS[node.op]
    low, high = operation.inputs
    assert low <= len(node.inputs) <= high, f"{node.op} {node.name} has {len(node.inputs)} operands"
    assert known.issuperset(node.inputs), f"{node.op} {node.name} reads {set(node.inputs) - known} too early"
    assert known.isdisjoint(node.outputs), f"{node.op} {node.name} computes {node.outputs} again"
    given, needed = set(node.attributes), set(operation.attributes)
    assert needed <= given <= needed | set(operation.optional), f"{node.op} {node.name} has attributes {given}"
    if node.op in MOVEMENT:
        source, result = graph.tensor(node.inputs[0]), graph.output_of(node)
        assert source.dtype == result.dtype, f"{node.op} {node.name} changes the type"
