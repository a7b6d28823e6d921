"""How large a model is: multiplications it makes and numbers it learned.

Used by the command and by the tests that compare models with published figures.
"""

from __future__ import annotations

import math

import onnx

_SHAPE_DATA = 16  # elements: no shape, list of axes or pair of bounds is longer


def parameters(model: onnx.ModelProto) -> int:
    """Learned numbers, as the recipe drew them: before folding, and without what batch normalization observed."""
    return next(int(entry.value) for entry in model.metadata_props if entry.key == "parameters")


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of convolutions and matrix products; biases, pooling and pointwise operators count nothing.

    Args:
        model: float model with static shapes.

    >>> from models import build
    >>> macs(build("conv_stack", channels=16, size=8, layers=1)) == 8 * 8 * 16 * 16 * 3 * 3
    True
    """
    graph = _without_weights(model)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shapes[value.name] = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):  # no recipe transposes the first operand
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return total


def _without_weights(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with all shapes inferred; weights become inputs, because inference copies whatever is in the model."""
    skeleton = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = skeleton.graph
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SHAPE_DATA:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return onnx.shape_inference.infer_shapes(skeleton).graph
