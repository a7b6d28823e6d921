"""Where a quantized ONNX model (QDQ) rounds, and the same model with every layer on its own.

Used by what compares a quantized model with its float one: ``precision`` and ``bias``. Nothing is run here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from npusim.graph.ir import DTYPE_NAMES, DTYPES, Array, Quantization
from npusim.graph.quantize import dequantize
from npusim.graph.rules.movement import MOVES

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
FED = ":float"
"""Ending of the inputs through which a model of single layers is given the float model's tensors."""
ALONE = ":alone"
"""Ending of the integers that a layer computes from them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rounded:
    """A result that is rounded to integers.

    Attributes:
        tensor: its name in the float model.
        node: name of the node that computes it; of the tensor, where it is an input of the model.
        op: that node's operator, or ``input``.
        quantizer: the QuantizeLinear.
        quantization: its parameters.
        dtype: of the integers, as ``npusim.graph`` names it.
        logits: whether a softmax alone reads it, which cannot tell apart what lies below the smallest integer.
    """

    tensor: str
    node: str
    op: str
    quantizer: onnx.NodeProto
    quantization: Quantization
    dtype: str
    logits: bool = False

    @property
    def integers(self) -> str:
        """Name of the integers in the quantized model."""
        return self.quantizer.output[0]

    def real(self, integers: Array) -> Array:
        """What integers of this tensor mean, float32."""
        return dequantize(integers, self.quantization)

    def wanted(self, real: Array) -> Array:
        """What the float model's values have to be compared as: masked logits as the smallest integer."""
        if not self.logits:
            return real
        smallest = np.array(np.iinfo(DTYPES[self.dtype]).min, DTYPES[self.dtype])
        return np.maximum(real, self.real(smallest))


def find_rounded(quantized: onnx.ModelProto, known: Collection[str]) -> list[Rounded]:
    """The results that a quantized model rounds, in the order of the graph.

    Left out are what is rounded a second time, and what movement hands on in the parameters it came in.

    Args:
        quantized: QDQ.
        known: tensors of the float model; results with other names have nothing to be compared with.
    """
    graph = quantized.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    shown = {
        node.input[0]: node.output[0] for node in graph.node if node.op_type == DEQUANTIZE and node.output[0] in outputs
    }
    inputs = {value.name for value in graph.input}
    readers = _readers(graph)
    found: dict[str, Rounded] = {}
    for quantizer in graph.node:
        value = quantizer.input[0] if quantizer.input else ""
        producer = producers.get(value)
        if quantizer.op_type != QUANTIZE or (producer is None and value not in inputs):
            continue
        if producer is not None and producer.op_type in (DEQUANTIZE, *MOVES):
            continue
        tensor = value if value in known else shown.get(quantizer.output[0], "")
        parameters = [constants.get(name) for name in quantizer.input[1:3]]
        if tensor not in known or value in found or None in parameters or len(parameters) < 2:
            continue
        scale, zero_point = (numpy_helper.to_array(item) for item in parameters if item is not None)
        if scale.ndim:
            continue
        found[value] = Rounded(
            tensor=tensor,
            node=producer.name if producer is not None else value,
            op=producer.op_type if producer is not None else "input",
            quantizer=quantizer,
            quantization=Quantization(scale=np.float32(scale), zero_point=int(zero_point)),
            dtype=DTYPE_NAMES[zero_point.dtype],
            logits=_is_logits(readers, quantizer.output[0]),
        )
    return list(found.values())


def _is_logits(readers: Mapping[str, list[onnx.NodeProto]], name: str) -> bool:
    """Whether some value is read by softmaxes alone, behind movement and further roundings."""
    return bool(readers.get(name)) and all(
        node.op_type == "Softmax"
        or (node.op_type in (QUANTIZE, DEQUANTIZE, *MOVES) and _is_logits(readers, node.output[0]))
        for node in readers[name]
    )


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each value."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def types_of(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Types of everything that a model is given or computes, by name."""
    graph = model.graph
    wanted = {name for node in graph.node for name in node.output if name}
    found = {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}
    if wanted <= found.keys():
        return found
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}


def single_layers(
    quantized: onnx.ModelProto, rounded: Collection[Rounded], types: Mapping[str, onnx.TypeProto]
) -> onnx.ModelProto:
    """The quantized model cut at every rounded result.

    Whoever reads such a result is given an input of the model instead, ``<tensor>:float``, which is rounded in the same
    way; what the layer itself computes is rounded as ``<tensor>:alone``. The model's own inputs stay what they are.

    Args:
        quantized: QDQ.
        rounded: its results, as ``find_rounded`` gives them.
        types: of the float model's tensors.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(quantized)
    quantizers = {node.output[0]: node for node in cut.graph.node if node.op_type == QUANTIZE}
    readers = _readers(cut.graph)
    for item in rounded:
        if item.op == "input":
            continue
        quantizer = quantizers[item.integers]
        value = quantizer.input[0]
        alone = helper.make_node(
            QUANTIZE, quantizer.input, [item.tensor + ALONE], name=item.tensor + ALONE, domain=quantizer.domain
        )
        alone.attribute.extend(quantizer.attribute)
        cut.graph.node.append(alone)
        for node in readers[value]:
            node.input[:] = [item.tensor + FED if name == value else name for name in node.input]
        cut.graph.input.append(helper.make_value_info(item.tensor + FED, types[item.tensor]))
    return cut
