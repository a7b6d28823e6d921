"""Functions of one variable: from the real operators behind a DequantizeLinear to one expression.

The search goes backwards from a real value. Every operator on the way is pointwise, every other operand a constant
number or one for each index of an axis, and all paths end in one quantized tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir import ACTIVATION_DTYPES, Array, Tensor
from ..lowering import Lowering
from ..pointwise import Argument, Expression, Step
from ..refusal import Refusal, check_attributes
from ..source import SourceNode

SILENT = ("Identity", "Dropout")
"""Operators that change nothing, so that they are no step."""

LONGEST = 64
"""Steps of the longest chain that is tried."""

BYTES = ("s8", "u8")
"""Types of a variable whose function may vary along an axis: a table for each index of it would be long for others."""

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
        self.axis: int | None = None
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
            return self._numbers(array, reader)
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

    def _numbers(self, array: Array, reader: SourceNode) -> Argument:
        """A constant operand: one number, or one for each index of an axis of the result."""
        if array.size == 1:
            return float(np.float32(array.reshape(())))
        axes = [axis for axis in range(-array.ndim, 0) if array.shape[axis] > 1]
        if len(axes) != 1 or array.ndim > len(self.lowering.shape(reader.output)):
            raise Refusal(reader, "it needs a number, or one for each index of an axis, as its constant operand")
        return self.along(axes[0], array, reader)

    def along(self, axis: int, array: Array, reader: SourceNode) -> Argument:
        """Constants that vary along an axis of the variable, which is counted from the back: -1 is the last.

        Operands of fewer axes, a product of constants among them, broadcast from there.

        Raises:
            Refusal: others vary along another axis.
        """
        if self.axis not in (None, axis):
            raise Refusal(reader, "it computes with numbers that vary along two axes between quantizations")
        self.axis = axis
        return tuple(map(float, array.reshape(-1).astype(np.float32)))

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


def _batch_norm(search: _Search, node: SourceNode) -> Step:
    """A factor and an offset for each channel, which onnxruntime computes in float32 as well."""
    check_attributes(node, ["epsilon", "momentum", "spatial", "training_mode"])
    if node.attributes.get("training_mode", 0) or any(search.lowering.source.uses.get(n) for n in node.outputs[1:]):
        raise Refusal(node, "it needs training_mode to be off, and only its first output to be used")
    constants = [search.lowering.array(name) for name in node.inputs[1:]]
    shape = search.lowering.shape(node.inputs[0])
    if any(array is None or array.shape != shape[1:2] for array in constants):
        raise Refusal(node, STATISTICS)
    gain, offset, mean, variance = (np.asarray(array, np.float32) for array in constants)
    with np.errstate(all="ignore"):
        factor = gain * (np.float32(1) / np.sqrt(variance + np.float32(node.attributes.get("epsilon", 1e-5))))
        offset = offset - mean * factor
    channel = 1 - len(shape)
    scaled = Step("mul", (search.argument(node.inputs[0], node), search.along(channel, factor, node)))
    search.steps.append(scaled)
    return Step("add", (len(search.steps), search.along(channel, offset, node)))


def _condition(search: _Search, node: SourceNode) -> Step:
    check_attributes(node, ())
    return Step(CONDITIONS[node.op], tuple(search.argument(name, node) for name in node.inputs))


POINTWISE: dict[str, Callable[[_Search, SourceNode], Step]] = {
    **dict.fromkeys(PLAIN, _plain),
    **dict.fromkeys(PARAMETERS, _with_parameters),
    **dict.fromkeys(BINARY, _binary),
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Gelu": _gelu,
    "PRelu": _prelu,
}
"""Every operator that may stand in an expression."""


STATISTICS = "it needs a constant gain, offset, mean and variance for each channel"


def needs(op: str) -> tuple[str, ...]:
    """What a pointwise operator needs, in words."""
    if op == "BatchNormalization":
        return ("it needs a live input of 8 bits", STATISTICS)
    if op in BINARY or op == "PRelu":
        return (
            "it needs one live input, and numbers as its others: one, or with 8 bits one for each index of an axis",
        )
    return ("it needs one live input",)


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
    if search.axis is None:
        return search.leaf, Expression(tuple(search.steps)), tuple(dict.fromkeys(search.source))
    if search.leaf.dtype not in BYTES:
        return Refusal(node, "it needs an input of 8 bits where its numbers vary along an axis")
    axis = search.axis + len(search.leaf.shape)
    extent = search.leaf.shape[axis]
    if any(len(a) != extent for step in search.steps for a in step.arguments if isinstance(a, tuple)):
        return Refusal(node, f"it needs {extent} numbers where they vary along axis {axis}")
    return search.leaf, Expression(tuple(search.steps), axis), tuple(dict.fromkeys(search.source))
