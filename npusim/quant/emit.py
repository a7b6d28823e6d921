"""Writing the quantized model: QuantizeLinear and DequantizeLinear around what becomes integer operations.

Called by ``quantize`` as its last stage. Names follow onnxruntime's quantizer, so that its tools find their way about
in the file. Everything was decided before; nothing is chosen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from npusim.graph.import_onnx import DATA_TYPE_KEY
from npusim.graph.ir import DTYPES, Array, Quantization
from npusim.graph.quantize import quantize
from npusim.graph.source import SourceGraph, SourceNode, type_proto

from .affine import PRODUCTS, channel_axis
from .document import MICROSOFT, tensor_proto, wrap_graph
from .layers import FLOAT
from .parameters import Parameters, Range, constant_range, parameters_of, room_for_bias, weight_scales
from .placement import Placement, is_movement, moved_values

_AXIS_SINCE = 13  # first opset with parameters along an axis
_WIDE_SINCE = 21  # first opset with 16-bit integers


def emit(placement: Placement, ranges: Mapping[str, Range], like: onnx.ModelProto) -> onnx.ModelProto:
    """The quantized model.

    Args:
        placement: where integers go.
        ranges: of every tensor with integers.
        like: the float model; gives metadata.
    """
    emission = _Emission(placement, ranges)
    graph = placement.graph
    for name in graph.inputs:
        emission.round_value(name)
    for node in graph.nodes:
        emission.add(node)
    body = helper.make_graph(
        emission.nodes,
        graph.name,
        [helper.make_value_info(name, type_proto(graph.types[name])) for name in graph.inputs],
        [helper.make_value_info(name, type_proto(graph.types[name])) for name in graph.outputs],
        list(emission.initializers.values()),
    )
    return wrap_graph(body, graph.opsets, like)


@dataclass(slots=True)
class _Emission:
    """The file while it grows.

    Attributes:
        placement: where integers go.
        ranges: of the tensors.
        nodes: so far.
        initializers: so far, by name.
        real: name of the real value that stands for (tensor, type).
    """

    placement: Placement
    ranges: Mapping[str, Range]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    real: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def graph(self) -> SourceGraph:
        """The float graph."""
        return self.placement.graph

    def add(self, node: SourceNode) -> None:
        """Write one node, reading rounded values, and round what it computes."""
        outputs = tuple(f"{name}_QuantizeLinear_Input" if self._is_renamed(name) else name for name in node.outputs)
        inputs = self._operands(node)
        proto = replace(node, inputs=inputs, outputs=outputs).proto()
        choice = self.placement.choices[node.name]
        if choice.data_type == FLOAT and choice.rank >= 0:  # or the import would join it with the rounding around it
            proto.metadata_props.add(key=DATA_TYPE_KEY, value=FLOAT)
        self.nodes.append(proto)
        for name, source in zip(node.outputs, outputs, strict=True):
            if name:
                self.round_value(name, source)

    def round_value(self, name: str, source: str = "") -> None:
        """Put the pair behind a tensor that carries integers."""
        group = self.placement.groups.get(name)
        if group is None:
            return
        result = name if self._is_renamed(name) else ""
        self.real[name, group.data_type] = self._pair(name, source or name, group.data_type, group.name, result)

    def _is_renamed(self, name: str) -> bool:
        """Whether a result of the graph is the rounded form of what a node computes."""
        producer = self.graph.producers.get(name)
        return (
            name in self.graph.outputs
            and name in self.placement.groups
            and producer is not None
            and self.placement.choices[producer.name].data_type != FLOAT
        )

    # --------------------------------------------------------------------------------------------------- operands

    def _operands(self, node: SourceNode) -> tuple[str, ...]:
        choice = self.placement.choices[node.name]
        if choice.data_type == FLOAT:
            return tuple(self._float_operand(name) for name in node.inputs)
        if node.op in PRODUCTS and node.input(1) in self.graph.constants and node.inputs[0] in self.placement.groups:
            return self._product_operands(node)
        bias = self._bias_of(node)
        if bias is not None:
            return bias
        if is_movement(node):
            moved = moved_values(self.graph, node)
            return tuple(self._moved(node, name) if name in moved else self._keep(name) for name in node.inputs)
        return tuple(self._operand(node, name, choice.data_type) for name in node.inputs)

    def _operand(self, node: SourceNode, name: str, data_type: str) -> str:
        if name in self.placement.groups:
            return self.read(name, data_type)
        array = self.graph.constants.get(name)
        if array is not None and self._is_operand(node, array):
            return self._constant(name, array, parameters_of(constant_range(array), data_type))
        return self._keep(name)

    def _is_operand(self, node: SourceNode, array: Array) -> bool:
        """Whether a constant is an operand of integers: of a product, or with another shape than a number."""
        return array.dtype == np.float32 and (
            node.op in ("MatMul", "Gemm")
            or (node.op in ("Add", "Sub", "Mul", "Div", "Min", "Max") and not self._is_number(node))
        )

    def _is_number(self, node: SourceNode) -> bool:
        """Whether an elementwise node is a function of one variable, with numbers as its other operands."""
        shape = self.graph.types[node.output].shape
        return all(
            self.graph.constants[name].size == 1 if name in self.graph.constants
            else self.graph.types[name].shape == shape
            for name in node.inputs
        )  # fmt: skip

    def _float_operand(self, name: str) -> str:
        producer = self.graph.producers.get(name)
        group = self.placement.groups.get(name)
        is_raw = producer is None or self.placement.choices[producer.name].data_type == FLOAT
        if group is None or is_raw:
            return self._keep(name)
        return self.read(name, group.data_type)

    def _moved(self, node: SourceNode, name: str) -> str:
        """An operand of movement: in the type of the result, a constant in the result's own integers."""
        result = self.placement.groups.get(node.output)
        if name in self.placement.groups:
            own = self.placement.groups[name].data_type
            return self.read(name, own if result is None else result.data_type)
        if result is None or name not in self.graph.constants:
            return self._keep(name)
        parameters = parameters_of(self.ranges[node.output], result.data_type)
        return self._constant(name, self.graph.constants[name], parameters, f":{result.name}")

    def _keep(self, name: str) -> str:
        if name in self.graph.constants:
            self._initializer(name, self.graph.constants[name])
        return name

    def read(self, name: str, data_type: str) -> str:
        """The real value of a tensor in a type; where the tensor is kept in another one, a pair requantizes it."""
        if (name, data_type) not in self.real:
            own = self.placement.groups[name]
            source = self.real[name, own.data_type]
            owner = f"{own.name}:{data_type}"
            self.real[name, data_type] = self._pair(f"{name}:{data_type}", source, data_type, owner, "", name)
        return self.real[name, data_type]

    # ---------------------------------------------------------------------------------------------------- products

    def _product_operands(self, node: SourceNode) -> tuple[str, ...]:
        """Operands of a product with constant weights; its bias is in the accumulator's scale."""
        choice = self.placement.choices[node.name]
        first = self.read(node.inputs[0], choice.data_type)
        scales, axis = self._weight_scales(node)
        name, weights = node.inputs[1], self.graph.constants[node.inputs[1]]
        quantization = Quantization(
            scale=scales, zero_point=np.zeros(scales.shape, np.int64), axis=axis if scales.ndim else None
        )
        label = name if self.graph.uses[name] == 1 else f"{name}:{node.name}"
        second = self._stored(label, weights, quantization, choice.weight_data_type)
        operands = [first, second]
        if node.input(2):
            operands.append(self._bias(node, node.inputs[2], scales))
        return tuple(operands)

    def _weight_scales(self, node: SourceNode) -> tuple[Array, int | None]:
        """Scales of constant weights, and their axis; they leave room for the bias."""
        choice = self.placement.choices[node.name]
        weights = self.graph.constants[node.inputs[1]]
        axis: int | None = channel_axis(node, weights.ndim)
        if node.op == "ConvTranspose" and int(node.attributes.get("group", 1)) > 1:
            axis = None  # channels of several groups share one row of the weights
        scales = weight_scales(weights, axis, choice.weight_data_type)
        bias = node.input(2) or self._adder_bias(node)
        if bias in self.graph.constants:
            scales = room_for_bias(scales, self.graph.constants[bias].reshape(-1), self._input_scale(node))
        return scales, axis

    def _input_scale(self, node: SourceNode) -> np.float32:
        choice = self.placement.choices[node.name]
        return parameters_of(self.ranges[node.inputs[0]], choice.data_type).scale

    def _adder_bias(self, node: SourceNode) -> str:
        """The constant that a following Add, part of the same operation, adds to a product."""
        if node.output not in self.placement.inner:
            return ""
        reader = next(reader for reader in self.graph.nodes if node.output in reader.inputs)
        if reader.op != "Add":
            return ""
        return next((name for name in reader.inputs if name in self.graph.constants), "")

    def _bias_of(self, node: SourceNode) -> tuple[str, ...] | None:
        """Operands of an Add that is the bias of a product with constant weights, or None."""
        if node.op != "Add":
            return None
        live = [name for name in node.inputs if name in self.placement.inner]
        product = self.graph.producers[live[0]] if len(live) == 1 else None
        if product is None or product.op not in PRODUCTS or product.input(1) not in self.graph.constants:
            return None
        if product.inputs[0] not in self.placement.groups:
            return None
        scales, _ = self._weight_scales(product)
        return tuple(name if name == live[0] else self._bias(product, name, scales) for name in node.inputs)

    def _bias(self, product: SourceNode, name: str, scales: Array) -> str:
        """A constant bias as int32 in the accumulator's scale."""
        if name not in self.graph.constants:
            return name
        scale = np.asarray(self._input_scale(product) * scales, np.float32)
        real = self.graph.constants[name].reshape(-1)
        along = 1 if product.op.startswith("Conv") else -1
        channels = self.graph.types[product.output].shape[along]
        integers = np.rint(np.broadcast_to(real, (channels,)) / scale).astype(
            np.int32
        )  # in float32, as the law divides
        label = name if self.graph.uses[name] == 1 else f"{name}:{product.name}"
        result = f"{label}_DequantizeLinear_Output"
        inputs = (
            self._initializer(f"{label}_quantized", integers),
            self._initializer(f"{label}_scale", scale),
        )
        self._append("DequantizeLinear", f"{label}_DequantizeLinear", inputs, result, "S32", 0 if scale.ndim else None)
        return result

    # ------------------------------------------------------------------------------------------------------- pieces

    def _pair(self, name: str, source: str, data_type: str, owner: str, result: str, tensor: str = "") -> str:
        """QuantizeLinear and DequantizeLinear behind ``source``; the name of the real result."""
        parameters = parameters_of(self.ranges[tensor or name], data_type)
        scale, zero = self._parameters(owner, parameters)
        integers = f"{name}_QuantizeLinear_Output"
        result = result or f"{name}_DequantizeLinear_Output"
        self._append("QuantizeLinear", f"{name}_QuantizeLinear", (source, scale, zero), integers, data_type)
        self._append("DequantizeLinear", f"{name}_DequantizeLinear", (integers, scale, zero), result, data_type)
        return result

    def _parameters(self, owner: str, parameters: Parameters) -> tuple[str, str]:
        zero = np.asarray(parameters.zero_point, DTYPES[parameters.dtype])
        return (
            self._initializer(f"{owner}_scale", np.asarray(parameters.scale, np.float32)),
            self._initializer(f"{owner}_zero_point", zero),
        )

    def _constant(self, name: str, array: Array, parameters: Parameters, suffix: str = "") -> str:
        """The real value of a constant that is kept as integers with one scale."""
        quantization = Quantization(scale=parameters.scale, zero_point=parameters.zero_point)
        return self._stored(f"{name}{suffix}:{parameters.data_type}", array, quantization, parameters.data_type)

    def _stored(self, label: str, array: Array, quantization: Quantization, data_type: str) -> str:
        """The real value of a constant that is kept as integers."""
        result = f"{label}_DequantizeLinear_Output"
        if f"{label}_quantized" in self.initializers:
            return result
        dtype = data_type.lower()
        zero = np.asarray(quantization.zero_point, DTYPES[dtype])
        inputs = (
            self._initializer(f"{label}_quantized", quantize(array, quantization, dtype)),
            self._initializer(f"{label}_scale", np.asarray(quantization.scale, np.float32)),
            self._initializer(f"{label}_zero_point", zero),
        )
        name = f"{label}_DequantizeLinear"
        self._append("DequantizeLinear", name, inputs, result, data_type, quantization.axis)
        return result

    def _initializer(self, name: str, array: Array) -> str:
        if name not in self.initializers:
            self.initializers[name] = tensor_proto(array, name)
        return name

    def _append(
        self, op: str, name: str, inputs: tuple[str, ...], result: str, data_type: str, axis: int | None = None
    ) -> None:
        """A QuantizeLinear or DequantizeLinear, in onnxruntime's domain where ONNX's own is too old for it."""
        needed = _WIDE_SINCE if data_type in ("U16", "S16") else 0 if axis is None else _AXIS_SINCE
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        domain = MICROSOFT if self.graph.opset < needed else ""
        self.nodes.append(helper.make_node(op, inputs, [result], name=name, domain=domain, **attributes))
