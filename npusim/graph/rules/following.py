"""What may follow a product in real numbers and still be part of it: a constant bias, or a constant factor.

Some quantizers put no integers between a MatMul and the Add of its bias, or the factor of an attention. Both join the
accumulator's own scale, so nothing is rounded between.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir import Tensor
from ..lowering import Lowering
from ..refusal import ENTRIES, check
from ..source import SourceNode
from ..target import Target

_PRODUCTS = ("MatMul", "Conv")


def _product(lowering: Lowering, value: str) -> SourceNode | None:
    """The product without bias that computes a value."""
    node = lowering.source.producers.get(value)
    if node is None or node.op not in _PRODUCTS or node.input(2) or lowering.why_on_cpu(node):
        return None
    return node


def biased_product(lowering: Lowering, node: SourceNode) -> tuple[SourceNode, str] | None:
    """An Add as a product and its bias, or None."""
    if len(node.inputs) != 2:
        return None
    for value, bias in (node.inputs, node.inputs[::-1]):
        product = _product(lowering, value)
        array = lowering.array(bias) if product is not None else None
        if product is None or array is None or lowering.shape(value) != lowering.shape(node.output):
            continue
        channel_axis = 1 if product.op == "MatMul" else len(lowering.shape(value)) - 1  # counted from the last
        extents = (1,) * (channel_axis - array.ndim) + array.shape
        if array.size in (1, extents[-channel_axis]):
            return product, bias
    return None


def scaled_product(lowering: Lowering, node: SourceNode) -> tuple[SourceNode, float] | None:
    """A Mul or Div as a matrix product and its factor, or None."""
    if len(node.inputs) != 2:
        return None
    for value, factor in (node.inputs, node.inputs[::-1])[: 1 if node.op == "Div" else 2]:
        product = _product(lowering, value)
        array = lowering.array(factor) if product is not None and product.op == "MatMul" else None
        if product is None or array is None or array.size != 1:
            continue
        number = np.float32(array.reshape(()))
        alpha = float(np.float32(1) / number if node.op == "Div" and number else number)
        if alpha > 0 and np.isfinite(alpha) and lowering.shape(value) == lowering.shape(node.output):
            return product, alpha
    return None


def _lower(lowering: Lowering, node: SourceNode, product: SourceNode, joined: SourceNode, target: Target) -> Tensor:
    entry = ENTRIES[product.op]
    check(entry, lowering, product)
    return entry.rule(lowering, replace(joined, source=(*product.source, *node.source)), target)


def lower_biased(lowering: Lowering, node: SourceNode, target: Target) -> Tensor | None:
    """An Add behind a product, as the product with a bias."""
    found = biased_product(lowering, node)
    if found is None:
        return None
    product, bias = found
    return _lower(lowering, node, product, replace(product, inputs=(*product.inputs[:2], bias)), target)


def lower_scaled(lowering: Lowering, node: SourceNode, target: Target) -> Tensor | None:
    """A Mul or Div behind a matrix product, as the product with another factor."""
    found = scaled_product(lowering, node)
    if found is None:
        return None
    product, alpha = found
    return _lower(lowering, node, product, replace(product, attributes={"alpha": alpha}), target)
