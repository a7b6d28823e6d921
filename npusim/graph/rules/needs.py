"""Constraints that several operators share. Each docstring completes the sentence "it needs ..."."""

from __future__ import annotations

from ..lowering import Lowering
from ..source import SourceNode


def quantized_input(lowering: Lowering, node: SourceNode) -> bool:
    """A quantized first input: 8- or 16-bit integers of one scale, through a DequantizeLinear."""
    return lowering.activation(node.inputs[0]) is not None


def two_quantized_inputs(lowering: Lowering, node: SourceNode) -> bool:
    """Two quantized inputs: 8- or 16-bit integers of one scale each, through a DequantizeLinear."""
    return len(node.inputs) == 2 and all(lowering.activation(name) is not None for name in node.inputs)


def one_output(lowering: Lowering, node: SourceNode) -> bool:
    """Only its first output to be used."""
    return all(lowering.source.uses.get(name, 0) == 0 for name in node.outputs[1:] if name)


def one_or_two_spatial_axes(lowering: Lowering, node: SourceNode) -> bool:
    """An input of shape [N, C, W] or [N, C, H, W]."""
    return len(lowering.shape(node.inputs[0])) in (3, 4)
