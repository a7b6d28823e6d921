"""Two small quantized models: a chain of convolutions, and one with several inputs and outputs of several types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from isa.program import Program, SegmentKind
from npusim.axmodel import Axmodel
from tests.graph.tiny import Builder


def weights(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.integers(-127, 127, shape, np.int8, endpoint=True)


def chain() -> onnx.ModelProto:
    """Input x: u8[1,8,8,8]; three convolutions; output u8[1,16,8,8]."""
    b = Builder()
    value = b.real_input("x", (1, 8, 8, 8))
    channels = 8
    for _ in range(3):
        w = b.dequantize(weights(b.random, 16, channels, 3, 3), 0.002)
        value = b.op("Conv", value, w, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        value = b.quantize(value, 0.05, 128)
        channels = 16
    value = b.op("Conv", value, b.dequantize(weights(b.random, 8, 16, 1, 1), 0.002), kernel_shape=[1, 1])
    b.result(value, 0.05, 128)
    return b.model()


def several() -> onnx.ModelProto:
    """Inputs a: u8[1,4,6,6] and b: f32[1,4,6,6]; outputs their sum as u8, and a convolution of it as f32."""
    b = Builder()
    left = b.real_input("a", (1, 4, 6, 6), 0.02, 100)
    right = b.quantize(b.input("b", (1, 4, 6, 6)), 0.03, 120)
    total = b.op("QuantizeLinear", b.op("Add", left, right), *b.parameters(0.05, 90, "u8"))
    b.output(total, "u8")
    real = b.op("DequantizeLinear", total, *b.parameters(0.05, 90, "u8"))
    w = b.dequantize(weights(b.random, 8, 4, 3, 3), 0.005)
    b.output(b.quantize(b.op("Conv", real, w, kernel_shape=[3, 3]), 0.1, 128))
    return b.model()


def with_fault(model: Axmodel, offset: int, bit: int = 64) -> Axmodel:
    """The same file with one bit of its parameters turned."""
    program: Program = model.program
    segments = []
    for segment in program.segments:
        if segment.kind is SegmentKind.PARAMETERS:
            data = segment.data.copy()
            data[offset] ^= bit
            segment = replace(segment, data=data)
        segments.append(segment)
    part = replace(model.parts[0], program=replace(program, segments=tuple(segments), stamp=""))
    return replace(model, parts=(part,))


def altered(source: onnx.ModelProto, layer: int) -> onnx.ModelProto:
    """The same model with one weight of one convolution changed."""
    model = onnx.ModelProto.FromString(source.SerializeToString())
    tensor = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4][layer]
    values = numpy_helper.to_array(tensor).copy()
    values[3, 2, 0, 0] = -100 if values[3, 2, 0, 0] > 0 else 100
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model
