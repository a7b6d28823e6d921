"""Functions of one variable: from the real operators behind a DequantizeLinear to one expression.

The search goes backwards from a real value. Every operator on the way is pointwise, every other operand a single
constant number, and all paths end in one quantized tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir import ACTIVATION_DTYPES, Tensor
from ..lowering import Lowering
from ..pointwise import Expression, Step
from ..refusal import Refusal, check_attributes
from ..source import SourceNode

SILENT = ("Identity", "Dropout")
"""Operators that change nothing, so that they are no step."""

LONGEST = 64
"""Steps of the longest chain that is tried."""

Argument = int | float

PLAIN = {
    "Abs": "abs",
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "HardSwish": "hard_swish",
    "Log": "log",
    "Mish": "mish",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Round": "round",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Tanh": "tanh",
    "com.microsoft.FastGelu": "gelu_tanh",
    "com.microsoft.Gelu": "gelu",
}
"""Operators of one operand without parameters, by name."""

PARAMETERS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "Celu": ("celu", (("alpha", 1.0),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Selu": ("selu", (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875))),
    "Shrink": ("shrink", (("bias", 0.0), ("lambd", 0.5))),
    "Swish": ("quick_gelu", (("alpha", 1.0),)),
    "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
    "com.microsoft.QuickGelu": ("quick_gelu", (("alpha", 1.702),)),
}
"""Operators whose attributes are numbers: function, and each attribute with its default."""

BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Min": "min", "Max": "max",
          "Sum": "add"}  # fmt: skip
"""Operators of two or more operands, of which at most one quantized tensor is live."""


CONDITIONS = {"And": "and", "Equal": "equal", "Greater": "greater", "GreaterOrEqual": "greater_or_equal",
              "Less": "less", "LessOrEqual": "less_or_equal", "Not": "not", "Or": "or", "Where": "where",
              "Xor": "xor"}  # fmt: skip
"""Operators that make or take conditions: with a Where or a Cast to float behind them, functions like others."""


class _Search:
    """One backward search: the steps found so far, and the tensor they start from."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering
        self.leaf: Tensor | None = None
        self.steps: list[Step] = []
        self.known: dict[str, Argument] = {}
        self.source: list[str] = []

    def argument(self, value: str, reader: SourceNode) -> Argument:
        """A value as an argument of a step.

        Raises:
            Refusal: it is neither a number, nor the one variable, nor pointwise in it.
        """
        if value not in self.known:
            self.known[value] = self._argument(value, reader)
        return self.known[value]

    def _argument(self, value: str, reader: SourceNode) -> Argument:
        array = self.lowering.array(value)
        if array is not None:
            if array.size != 1:
                raise Refusal(reader, "it needs one number as its constant operand, or a quantized one")
            return float(np.float32(array.reshape(())))
        tensor = self.lowering.quantized(value)
        if tensor is not None:
            return self._variable(tensor, reader)
        node = self.lowering.source.producers.get(value)
        if node is None:
            raise Refusal(reader, "it computes on a real input: it needs a QuantizeLinear in front of it")
        self.lowering.check_allowed(node)
        if (node.op in SILENT or self._is_cast_truth(node)) and value == node.output:
            return self.argument(node.inputs[0], node)
        rule = POINTWISE.get(node.op) or CONDITIONAL.get(node.op)
        if rule is None or value != node.output:
            raise Refusal(node, "its result stays real: it needs a QuantizeLinear behind it")
        if len(self.steps) >= LONGEST:
            raise Refusal(node, f"it needs at most {LONGEST} operators between two quantizations")
        step = rule(self, node)
        self.source += node.source
        self.steps.append(step)
        return len(self.steps)

    def _is_cast_truth(self, node: SourceNode) -> bool:
        """Whether a Cast makes 1 and 0 of true and false, which they are here anyway."""
        types = self.lowering.source.types
        return node.op == "Cast" and types[node.inputs[0]].dtype == "bool" and types[node.output].dtype == "f32"

    def _variable(self, tensor: Tensor, reader: SourceNode) -> int:
        quantization = tensor.quantization
        if tensor.dtype not in ACTIVATION_DTYPES or quantization is None or not quantization.per_tensor:
            raise Refusal(reader, "it needs a quantized input of 8 or 16 bits and one scale")
        if self.leaf is not None and self.leaf.name != tensor.name:
            raise Refusal(reader, "it computes on two live tensors between quantizations")
        self.leaf = tensor
        return 0


def _plain(search: _Search, node: SourceNode) -> Step:
    check_attributes(node, ())
    if len([name for name in node.inputs if name]) != 1:
        raise Refusal(node, "it needs a single input")
    return Step(PLAIN[node.op], (search.argument(node.inputs[0], node),))


def _with_parameters(search: _Search, node: SourceNode) -> Step:
    function, names = PARAMETERS[node.op]
    check_attributes(node, [name for name, _ in names])
    numbers = (float(np.float32(node.attributes.get(name, default))) for name, default in names)
    return Step(function, (search.argument(node.inputs[0], node), *numbers))


def _binary(search: _Search, node: SourceNode) -> Step:
    check_attributes(node, ())
    arguments = [search.argument(name, node) for name in node.inputs]
    if len(arguments) == 1:
        return Step("add", (arguments[0], 0.0))
    while len(arguments) > 2:
        search.steps.append(Step(BINARY[node.op], (arguments.pop(0), arguments.pop(0))))
        arguments.insert(0, len(search.steps))
    return Step(BINARY[node.op], (arguments[0], arguments[1]))


def bounds(lowering: Lowering, node: SourceNode) -> tuple[float, float]:
    """The limits of a Clip, infinite where they are left out.

    Raises:
        Refusal: a limit is fed at run time.
    """
    limits = []
    for index, missing in ((1, -np.inf), (2, np.inf)):
        value = node.input(index)
        array = lowering.array(value) if value else np.float32(missing)
        if array is None or np.size(array) != 1:
            raise Refusal(node, "it needs constant limits")
        limits.append(float(np.float32(array).reshape(())))
    return limits[0], limits[1]


def _clip(search: _Search, node: SourceNode) -> Step:
    return Step("clip", (search.argument(node.inputs[0], node), *bounds(search.lowering, node)))


def _gelu(search: _Search, node: SourceNode) -> Step:
    check_attributes(node, ["approximate"])
    tanh = node.attributes.get("approximate", "none") == "tanh"
    return Step("gelu_tanh" if tanh else "gelu", (search.argument(node.inputs[0], node),))


def _prelu(search: _Search, node: SourceNode) -> Step:
    return Step("leaky_relu", (search.argument(node.inputs[0], node), search.argument(node.inputs[1], node)))


def _condition(search: _Search, node: SourceNode) -> Step:
    check_attributes(node, ())
    return Step(CONDITIONS[node.op], tuple(search.argument(name, node) for name in node.inputs))


POINTWISE: dict[str, Callable[[_Search, SourceNode], Step]] = {
    **dict.fromkeys(PLAIN, _plain),
    **dict.fromkeys(PARAMETERS, _with_parameters),
    **dict.fromkeys(BINARY, _binary),
    "Clip": _clip,
    "Gelu": _gelu,
    "PRelu": _prelu,
}
"""Every operator that may stand in an expression."""


CONDITIONAL: dict[str, Callable[[_Search, SourceNode], Step]] = dict.fromkeys(CONDITIONS, _condition)
"""Operators on conditions, and the choice between two values by one."""


def express(lowering: Lowering, value: str) -> tuple[Tensor, Expression, tuple[str, ...]] | Refusal | None:
    """A real value as a function of one quantized tensor.

    Returns:
        The tensor, the function and the names of the ONNX nodes; a refusal where one of the operators is pointwise but
        cannot be used; None where the value's own operator is not pointwise.
    """
    node = lowering.source.producers[value]
    if node.op not in POINTWISE and node.op not in (*CONDITIONAL, "Cast"):
        return None
    search = _Search(lowering)
    try:
        search.argument(value, node)
    except Refusal as refusal:
        return refusal
    if search.leaf is None or search.leaf.shape != lowering.shape(value):
        return Refusal(node, "it needs a live operand of its result's shape")
    return search.leaf, Expression(tuple(search.steps)), tuple(dict.fromkeys(search.source))
