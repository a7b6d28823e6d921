"""Bias correction: the mean error that rounding gives to each output channel of a product is taken out of its bias.

The last stage of ``quantize``, on the quantized model (after Nagel et al., arXiv 1906.04721, section 4.2, with measured
means). Nothing but int32 biases is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from npusim.graph.ir import Array

from .calibrate import Progress
from .rounding import DEQUANTIZE, FED, find_rounded, single_layers, types_of
from .runtime import Runner
from .settings import Samples

_LIMITS = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Biased:
    """A node of the quantized model that adds an int32 bias.

    Attributes:
        node: its name, the same in the float model.
        found: what it computes in the quantized model.
        wanted: what it computes in the float model.
        integers: name of the bias.
        scale: of the bias, float32, one or one for each channel.
        axis: of the channels in the result: 1, or -1 for the last.
    """

    node: str
    found: str
    wanted: str
    integers: str
    scale: Array
    axis: int


def correct_bias(
    float_model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    samples: Samples,
    *,
    progress: Progress | None = None,
) -> onnx.ModelProto:
    """The quantized model with corrected biases.

    One pass: every product is given the float model's tensors, rounded, so that the correction holds what its own
    operands' rounding adds on average. What comes from the layers in front of it is left to their own corrections;
    measured in a free run it would be taken out twice. Products without a bias stay as they are.

    Args:
        float_model: as it was quantized.
        quantized: QDQ, with the float model's names; it is left as it is.
        samples: inputs of both.
        progress: told about every sample, 0..1.

    Raises:
        QuantizationError: a sample does not fit the model.
    """
    types = types_of(float_model)
    rounded = find_rounded(quantized, types)
    products = _products(float_model, quantized)
    fed = [item.tensor for item in rounded if item.op != "input"]
    reference = Runner(float_model, [*fed, *(item.wanted for item in products)])
    runner = Runner(single_layers(quantized, rounded, types), [item.found for item in products])
    errors = [np.zeros(1) for _ in products]
    for index, feeds in enumerate(samples):
        wanted = reference.run(feeds, index)
        found = runner.run({**feeds, **{name + FED: wanted[name] for name in fed}}, index)
        for place, item in enumerate(products):
            difference = np.moveaxis(np.float64(wanted[item.wanted]) - found[item.found], item.axis, -1)
            errors[place] = errors[place] + difference.reshape(-1, difference.shape[-1]).mean(axis=0) / len(samples)
        if progress is not None:
            progress((index + 1) / max(len(samples), 1))
    corrected = onnx.ModelProto()
    corrected.CopyFrom(quantized)
    initializers = {tensor.name: tensor for tensor in corrected.graph.initializer}
    for item, error in zip(products, errors, strict=True):
        tensor = initializers[item.integers]
        bias = numpy_helper.to_array(tensor) + np.rint(error / np.float64(item.scale))
        bias = np.clip(bias, _LIMITS.min, _LIMITS.max).astype(np.int32)
        tensor.CopyFrom(numpy_helper.from_array(bias, item.integers))
    return corrected


def _products(float_model: onnx.ModelProto, quantized: onnx.ModelProto) -> list[Biased]:
    """Every node that adds an int32 bias of its own and that both models have."""
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    known = {node.name: node for node in float_model.graph.node}
    uses: dict[str, int] = {}
    for node in quantized.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    biases = {
        node.output[0]: node
        for node in quantized.graph.node
        if node.op_type == DEQUANTIZE
        and node.input[0] in constants
        and constants[node.input[0]].data_type == onnx.TensorProto.INT32
        and uses[node.input[0]] == uses.get(node.output[0], 0) == 1
    }
    found = []
    for node in quantized.graph.node:
        bias = next((biases[name] for name in node.input if name in biases), None)
        if bias is None or node.name not in known:
            continue
        found.append(
            Biased(
                node=node.name,
                found=node.output[0],
                wanted=known[node.name].output[0],
                integers=bias.input[0],
                scale=numpy_helper.to_array(constants[bias.input[1]]),
                axis=1 if node.op_type.startswith("Conv") else -1,
            )
        )
    return found
