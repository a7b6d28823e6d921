"""Rules of the operators on two quantized tensors, and of the bounds that join the operation in front of them."""

from __future__ import annotations

from dataclasses import replace

from ..ir import Tensor
from ..lowering import Lowering
from ..refusal import Refusal, lowers
from ..source import SourceNode
from ..target import Target
from .expression import bounds
from .following import biased_product, lower_biased, lower_scaled, scaled_product
from .needs import two_quantized_inputs


def leading_operand_broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether onnxruntime exchanges the operands of an Add, which decides the order of its roundings.

    It walks over the axes that both operands have, innermost first, and takes the first on which they are not both 1
    (the outermost of them where there is none); the leading operand is exchanged where it has a single element there.
    """
    if not a:
        return True
    if not b:
        return a[-1] == 1
    shared = min(len(a), len(b))
    pairs = [(a[-i], b[-i]) for i in range(1, shared + 1)]
    deciding = next((pair for pair in pairs if max(pair) > 1), pairs[-1])
    return deciding[0] <= 1


def _operands(lowering: Lowering, node: SourceNode) -> tuple[Tensor, Tensor]:
    a, b = (lowering.activation(name) for name in node.inputs)
    assert a is not None
    assert b is not None
    return a, b


def summands(lowering: Lowering, node: SourceNode) -> bool:
    """Two quantized inputs of one scale each, or a product and its constant bias."""
    return two_quantized_inputs(lowering, node) or biased_product(lowering, node) is not None


def factors(lowering: Lowering, node: SourceNode) -> bool:
    """Two quantized inputs of one scale each, or a matrix product and one constant number."""
    return two_quantized_inputs(lowering, node) or scaled_product(lowering, node) is not None


@lowers("Add", "Sum", needs=(summands,))
def add(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A sum, its operands in the order in which onnxruntime rounds them."""
    joined = lower_biased(lowering, node, target)
    if joined is not None:
        return joined
    a, b = _operands(lowering, node)
    if leading_operand_broadcasts(a.shape, b.shape):
        a, b = b, a
    return lowering.emit(target, "add", [a, b], node)


@lowers("Mul", "Div", needs=(factors,))
def product(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A product or quotient with broadcasting, or the factor of a matrix product."""
    return lower_scaled(lowering, node, target) or binary(lowering, node, target)


@lowers("Sub", "Min", "Max", needs=(two_quantized_inputs,))
def binary(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A difference, product, quotient, minimum or maximum with broadcasting."""
    return lowering.emit(target, node.op.lower(), _operands(lowering, node), node)


def plain_target(node: SourceNode, target: Target) -> None:
    """Refuse a raw accumulator: bounds need a scale."""
    if target.quantization is None:
        raise Refusal(node, "it needs a QuantizeLinear behind it")


@lowers("Relu")
def relu(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """A lower bound of 0 on whatever computes the operand."""
    plain_target(node, target)
    return _bounded(lowering, node, target.clamped(0.0, float("inf")))


@lowers("Clip")
def clip(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """Bounds on whatever computes the operand."""
    plain_target(node, target)
    low, high = bounds(lowering, node)
    return _bounded(lowering, node, target.clamped(low, high))


def _bounded(lowering: Lowering, node: SourceNode, target: Target) -> Tensor:
    """The operand within bounds: the tensor itself where they change nothing."""
    return lowering.realise(replace(target, value=node.inputs[0], source=(*node.source, *target.source)))
