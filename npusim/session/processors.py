"""Input and output processors: preprocessing and rearrangement that become part of the quantized model.

Called by the build, on QDQ models only: pixels are integers already, so that what is added is exact up to one rounding
of the mean to 1/254 of a pixel's step. Configuration is read here, not checked: ``preprocessing`` does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from npusim.quant.dataset import Preparation, Tensor
from npusim.session.configuration import Configuration
from npusim.session.preprocessing import (
    built_preparation,
    check_tensor_names,
    entry_for,
    model_preparation,
    normalization,
)

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_UNIT = 127
"""The integer that stands for 1/std in the weights of a normalization: the largest of S8."""


def with_processors(model: onnx.ModelProto, inputs: Sequence[Tensor], configuration: Configuration) -> onnx.ModelProto:
    """A copy of a QDQ model that takes and gives what the processors say, and whose inputs say their extents.

    Args:
        model: quantized.
        inputs: of the model.
        configuration: with ``input_processors`` and ``output_processors``.

    Raises:
        ConfigError: a processor for a tensor that is not there, or one that has no exact form.
    """
    outputs = [value.name for value in model.graph.output]
    check_tensor_names(configuration, "input_processors", [tensor.name for tensor in inputs], "input")
    check_tensor_names(configuration, "output_processors", outputs, "output")
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    shapes = {tensor.name: tensor.shape for tensor in inputs}
    for value in changed.graph.input:
        if value.name in shapes:
            element = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, element, shapes[value.name]))
    for tensor in inputs:
        if entry_for(tensor.name, configuration.build.input_processors):
            _Front(changed, tensor, configuration).add()
    for value in list(changed.graph.output):
        found = entry_for(value.name, configuration.build.output_processors)
        if found and found[1].dst_perm:
            index, processor = found
            _permute(changed, value, processor.dst_perm, configuration, f"output_processors[{index}].dst_perm")
    return changed


class _Front:
    """The nodes between the built model's input and the quantized model's."""

    def __init__(self, model: onnx.ModelProto, tensor: Tensor, configuration: Configuration) -> None:
        self.graph = model.graph
        self.tensor = tensor
        self.wanted: Preparation = model_preparation(tensor, configuration)
        self.given: Preparation = built_preparation(tensor, configuration)
        self.mean, self.std = normalization(tensor, configuration)
        self.nodes: list[onnx.NodeProto] = []
        self.configuration = configuration

    def add(self) -> None:
        """Put them in, and change the input's type and shape."""
        pixels = self.given.dtype == "u8"
        swapped = self.given.colours != self.wanted.colours
        if swapped and not pixels:
            index, _ = entry_for(self.tensor.name, self.configuration.build.input_processors) or (0, None)
            message = "another order of channels is exact for pixels only: set src_dtype to U8"
            raise self.configuration.error(f"input_processors[{index}].src_format", message)
        value, layout = self.tensor.name, self.given.layout
        if pixels:
            value = self._node("DequantizeLinear", value, *self._parameters(np.float32(1), np.uint8(0)))
            if self.mean or self.std or swapped:
                value = self._transposed(value, layout, "NCHW")
                value, layout = self._normalized(value, swapped), "NCHW"
        value = self._transposed(value, layout, self.wanted.layout)
        if value == self.tensor.name:
            return
        self._redirect(value)
        (port,) = (port for port in self.graph.input if port.name == self.tensor.name)
        element = TensorProto.UINT8 if pixels else TensorProto.FLOAT
        high, wide, channels = self.given.height, self.given.width, self.given.channels
        shape = (1, channels, high, wide) if self.given.layout == "NCHW" else (1, high, wide, channels)
        port.CopyFrom(helper.make_tensor_value_info(port.name, element, shape))

    def _redirect(self, value: str) -> None:
        """Let the model read ``value`` instead of its input, with the new nodes in front of its own."""
        for node in self.graph.node:
            for index, name in enumerate(node.input):
                if name == self.tensor.name:
                    node.input[index] = value
        own = list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend([*self.nodes, *own])

    def _normalized(self, value: str, swapped: bool) -> str:
        """``(x - mean) / std`` with the channels in the model's order, as a product with one weight a channel."""
        channels = self.wanted.channels
        mean = np.broadcast_to(np.asarray(self.mean or 0, np.float64), channels)
        std = np.broadcast_to(np.asarray(self.std or 1, np.float64), channels)
        order = np.arange(channels)[::-1] if swapped else np.arange(channels)
        weights = np.zeros((channels, channels, 1, 1), np.int8)
        weights[np.arange(channels), order, 0, 0] = _UNIT
        scales = (1 / (std * _UNIT)).astype(np.float32)
        bias = np.rint(-mean * _UNIT).astype(np.int32)
        zeros = np.zeros(channels, np.int8)
        real_weights = self._node("DequantizeLinear", self._constant(weights), *self._parameters(scales, zeros), axis=0)
        real_bias = self._node(
            "DequantizeLinear", self._constant(bias), *self._parameters(scales, zeros.astype(np.int32)), axis=0
        )
        return self._node("Conv", value, real_weights, real_bias, kernel_shape=[1, 1])

    def _transposed(self, value: str, layout: str, wanted: str) -> str:
        if layout == wanted:
            return value
        return self._node("Transpose", value, perm=_TO_NCHW if wanted == "NCHW" else _TO_NHWC)

    def _node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self.tensor.name}/processor_{len(self.nodes)}_{op}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def _parameters(self, scale: Any, zero_point: Any) -> tuple[str, str]:
        return self._constant(scale), self._constant(zero_point)

    def _constant(self, array: Any) -> str:
        name = f"{self.tensor.name}/processor_constant_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name


def _permute(
    model: onnx.ModelProto, value: onnx.ValueInfoProto, perm: Sequence[int], configuration: Configuration, path: str
) -> None:
    """Put a Transpose in front of an output, between the same parameters as before, so that it moves integers."""
    graph, name = model.graph, value.name
    extents = _extents(model, value)
    if sorted(perm) != list(range(len(extents))):
        axes = ", ".join(map(str, range(len(extents))))
        raise configuration.error(path, f"is {list(perm)}; the output {name!r} has the axes {axes}")
    last = next((node for node in graph.node if name in node.output), None)
    if last is None or last.op_type != "DequantizeLinear":
        raise configuration.error(
            path, f"the output {name!r} carries no integers, which alone can be rearranged exactly"
        )
    plain, moved, whole = f"{name}/in_model_order", f"{name}/moved", f"{name}/moved_integers"
    last.output[0] = plain
    parameters = list(last.input)[1:]
    graph.node.append(helper.make_node("Transpose", [plain], [moved], name=moved, perm=list(perm)))
    graph.node.append(helper.make_node("QuantizeLinear", [moved, *parameters], [whole], name=whole))
    graph.node.append(helper.make_node("DequantizeLinear", [whole, *parameters], [name], name=f"{name}/real"))
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.output[0] != name:
            for index, read in enumerate(node.input):
                if read == name:
                    node.input[index] = plain
    value.CopyFrom(
        helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, [extents[axis] for axis in perm])
    )


def _extents(model: onnx.ModelProto, value: onnx.ValueInfoProto) -> list[int]:
    """The shape of an output, inferred where the file does not say it."""
    if not value.type.tensor_type.HasField("shape"):
        inferred = onnx.shape_inference.infer_shapes(model).graph.output
        value = next(other for other in inferred if other.name == value.name)
    return [int(dim.dim_value) for dim in value.type.tensor_type.shape.dim]
