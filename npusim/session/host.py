"""What CPU parts cost: from the shapes of their operators, never from a clock, so that a build repeats exactly.

Used by ``summaries``. The formula stands in docs/microarchitecture.md, section 7; the constants in the TOML's ``host``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper

from npusim.axmodel import CpuPart
from npusim.config import Hardware
from npusim.report.summary import CpuWork

Shapes = Mapping[str, tuple[int, ...]]
_Node = onnx.NodeProto

FREE = frozenset({
    "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements",
    "GatherND", "Identity", "Pad", "Reshape", "ScatterElements", "ScatterND", "Shape", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators that compute nothing; they cost their bytes."""

PER_ELEMENT = {
    "Div": 4, "Sqrt": 4, "Reciprocal": 4, "Mod": 4, "Exp": 16, "Log": 16, "Pow": 32, "Erf": 16, "Tanh": 16, "Sin": 16,
    "Cos": 16, "Tan": 16, "Sigmoid": 20, "Softplus": 32, "Softmax": 20, "LogSoftmax": 36, "Gelu": 20, "Mish": 52,
    "Elu": 16, "Selu": 16, "Celu": 16, "Swish": 20, "LayerNormalization": 8, "RMSNormalization": 6,
    "SimplifiedLayerNormalization": 6, "InstanceNormalization": 8, "GroupNormalization": 8, "LpNormalization": 6,
    "BatchNormalization": 2, "QuantizeLinear": 8, "DequantizeLinear": 2, "DynamicQuantizeLinear": 12, "Resize": 8,
    "GridSample": 24, "RoiAlign": 24, "Sort": 16, "TopK": 16,
}  # fmt: skip
"""Arithmetic operations per element, where one would not do: series of exponentials and the like count as 16."""


def price(part: CpuPart, hardware: Hardware) -> CpuWork:
    """The cost of one call of a part."""
    graph = onnx.ModelProto.FromString(part.model).graph
    shapes, sizes = _values(graph)
    host = hardware.host
    flops = total_bytes = 0
    seconds = 0.0
    for node in graph.node:
        work = operations(node, shapes)
        moved = sum(sizes.get(name, 0) for name in (*node.input, *node.output))
        flops, total_bytes = flops + work, total_bytes + moved
        seconds += max(work / host.flops_per_second, moved / host.bytes_per_second)
    copied = sum(port.size_bytes for port in (*part.inputs, *part.outputs))
    seconds += copied / host.copy_bytes_per_second
    first = part.reasons[0] if part.reasons else None
    return CpuWork(
        name=part.name,
        ops=tuple(dict.fromkeys(node.op_type for node in graph.node)),
        operators=len(graph.node),
        flops=flops,
        bytes=total_bytes,
        copied_bytes=copied,
        ms=host.subgraph_ms + len(graph.node) * host.operator_ms + seconds * 1e3,
        node=first.node if first else "",
        reason=first.constraint if first else "",
    )


def _values(graph: onnx.GraphProto) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Shape and bytes of every value by name."""
    shapes, sizes = {}, {}
    typed = [(value.name, value.type.tensor_type.elem_type, [dim.dim_value for dim in value.type.tensor_type.shape.dim])
             for value in (*graph.input, *graph.output, *graph.value_info)]  # fmt: skip
    typed += [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in graph.initializer]
    for name, code, extents in typed:
        shapes[name] = tuple(extents)
        sizes[name] = math.prod(extents) * np.dtype(helper.tensor_dtype_to_np_dtype(code)).itemsize
    return shapes, sizes


def operations(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Arithmetic operations of one operator: 2 for a multiply-accumulate, 1 per element where nothing else is known."""
    if node.op_type in FREE:
        return 0
    if node.op_type in _COUNTS:
        return _COUNTS[node.op_type](node, shapes)
    elements = max(math.prod(shapes[name]) for name in (*node.input, *node.output) if name in shapes)
    return PER_ELEMENT.get(node.op_type, 1) * elements


# ------------------------------------------------------------------------------------------------ operators with loops


def _attribute(node: _Node, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


def _conv(weights: int) -> Callable[[_Node, Shapes], int]:
    """Each result takes as many products as a filter has weights."""

    def count(node: _Node, shapes: Shapes) -> int:
        filters = shapes[node.input[weights]]
        return 2 * math.prod(shapes[node.output[0]]) * math.prod(filters[1:])

    return count


def _conv_transpose(node: _Node, shapes: Shapes) -> int:
    """Each element of the input goes through as many products as its channel has weights."""
    return 2 * math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _matmul(node: _Node, shapes: Shapes) -> int:
    return 2 * math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: _Node, shapes: Shapes) -> int:
    rows, columns = shapes[node.input[0]]
    return 2 * math.prod(shapes[node.output[0]]) * (rows if _attribute(node, "transA", 0) else columns)


def _einsum(node: _Node, shapes: Shapes) -> int:
    """A product for every combination of all letters; an ellipsis counts by the extents it stands for."""
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    extents: dict[str, int] = {}
    for term, name in zip(equation.split("->")[0].replace(" ", "").split(","), node.input, strict=True):
        front, dots, back = term.partition("...")
        shape = shapes[name]
        extents |= zip(front, shape, strict=False)
        extents |= zip(reversed(back), reversed(shape), strict=False)
        if dots:
            extents["..."] = math.prod(shape[len(front) : len(shape) - len(back)])
    return 2 * math.prod(extents.values())


def _pool(node: _Node, shapes: Shapes) -> int:
    kernel = next((attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape"), (1,))
    return math.prod(shapes[node.output[0]]) * math.prod(kernel)


def _recurrent(node: _Node, shapes: Shapes) -> int:
    """Every step multiplies with all weights of W and R, in every direction."""
    steps, batch = shapes[node.input[0]][:2]
    return 2 * steps * batch * (math.prod(shapes[node.input[1]]) + math.prod(shapes[node.input[2]]))


_COUNTS: dict[str, Callable[[_Node, Shapes], int]] = {
    "Conv": _conv(1), "ConvInteger": _conv(1), "QLinearConv": _conv(3), "ConvTranspose": _conv_transpose,
    "MatMul": _matmul, "MatMulInteger": _matmul, "QLinearMatMul": _matmul, "Gemm": _gemm, "Einsum": _einsum,
    "AveragePool": _pool, "MaxPool": _pool, "LpPool": _pool, "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent,
}  # fmt: skip
