"""Functions of one real variable: what stands between a DequantizeLinear and a QuantizeLinear as one table.

``table`` nodes hold an ``Expression``; whoever makes the table evaluates it in float64. Quantizing the result is not
done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .ir import Array

_LETTERS = "abcdefghijklmnopqrstuvwyz_"

_erf_of_one = np.frompyfunc(math.erf, 1, 1)


def erf(x: Any) -> Any:
    """The error function, by the C library's double-precision routine."""
    return np.asarray(_erf_of_one(x), dtype=np.float64)


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``."""
    return 1.0 / (1.0 + np.exp(-x))


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))``, without overflow."""
    return np.logaddexp(0.0, x)


def gelu(x: Any) -> Any:
    """``x / 2 * (1 + erf(x / sqrt(2)))``."""
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def gelu_tanh(x: Any) -> Any:
    """``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))``."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def _negative_branch(x: Any, negative: Any) -> Any:
    return np.where(x < 0, negative, x)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "and": lambda x, y: np.logical_and(x, y).astype(np.float64),
    "acos": np.arccos,
    "acosh": np.arccosh,
    "add": np.add,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "celu": lambda x, alpha: np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha)),
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "cos": np.cos,
    "cosh": np.cosh,
    "div": np.divide,
    "elu": lambda x, alpha: _negative_branch(x, alpha * np.expm1(x)),
    "equal": lambda x, y: np.equal(x, y).astype(np.float64),
    "erf": erf,
    "exp": np.exp,
    "floor": np.floor,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "greater": lambda x, y: np.greater(x, y).astype(np.float64),
    "greater_or_equal": lambda x, y: np.greater_equal(x, y).astype(np.float64),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0.0, 1.0),
    "hard_swish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "leaky_relu": lambda x, alpha: _negative_branch(x, alpha * x),
    "less": lambda x, y: np.less(x, y).astype(np.float64),
    "less_or_equal": lambda x, y: np.less_equal(x, y).astype(np.float64),
    "log": np.log,
    "max": np.maximum,
    "min": np.minimum,
    "mish": lambda x: x * np.tanh(softplus(x)),
    "mul": np.multiply,
    "neg": np.negative,
    "not": lambda x: np.logical_not(x).astype(np.float64),
    "or": lambda x, y: np.logical_or(x, y).astype(np.float64),
    "pow": np.power,
    "quick_gelu": lambda x, alpha: x * sigmoid(alpha * x),
    "reciprocal": np.reciprocal,
    "relu": lambda x: np.maximum(x, 0.0),
    "round": np.rint,
    "selu": lambda x, alpha, gamma: gamma * _negative_branch(x, alpha * np.expm1(x)),
    "shrink": lambda x, bias, lambd: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0.0)),
    "sigmoid": sigmoid,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "softplus": softplus,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "sqrt": np.sqrt,
    "sub": np.subtract,
    "tan": np.tan,
    "tanh": np.tanh,
    "thresholded_relu": lambda x, alpha: np.where(x > alpha, x, 0.0),
    "where": lambda x, y, z: np.where(x != 0, y, z),
    "xor": lambda x, y: np.logical_xor(x, y).astype(np.float64),
}
"""The functions a step may name: float64 arrays and numbers in, float64 array out, elementwise; true is 1, false 0."""

Argument = int | float | tuple[float, ...]
"""An int names a value (0 is the variable, n the result of step n), a float is a constant; a tuple is one constant for
each index of the axis along which the function varies."""


@dataclass(frozen=True, slots=True)
class Step:
    """One function of an expression.

    Attributes:
        function: a key of ``FUNCTIONS``.
        arguments: in the order the function takes them.
    """

    function: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Expression:
    """A function of one variable as steps, each of which may use every value before it; the last is the result.

    >>> silu = Expression((Step("sigmoid", (0,)), Step("mul", (0, 1))))
    >>> str(silu)
    'mul(x, sigmoid(x))'
    >>> float(silu(np.array(0.0)))
    0.0

    Attributes:
        steps: in the order in which they are evaluated.
        axis: of the variable: along which constants vary; None where none does.
    """

    steps: tuple[Step, ...]
    axis: int | None = None

    def at(self, index: int) -> Expression:
        """The function at one index of its axis.

        >>> str(Expression((Step("mul", (0, (0.5, 2.0))),), axis=1).at(1))
        'mul(x, 2)'
        """
        chosen = [[a[index] if isinstance(a, tuple) else a for a in step.arguments] for step in self.steps]
        return Expression(tuple(Step(s.function, tuple(a)) for s, a in zip(self.steps, chosen, strict=True)))

    def __call__(self, x: Array) -> Array:
        """Evaluate in float64, elementwise; NaN and infinities are results like others.

        Requires: no constant varies.
        """
        values: list[Any] = [np.asarray(x, dtype=np.float64)]
        with np.errstate(all="ignore"):
            for step in self.steps:
                arguments = [values[a] if isinstance(a, int) else np.asarray(a, np.float64)[()] for a in step.arguments]
                values.append(FUNCTIONS[step.function](*arguments))
        return np.asarray(values[-1], dtype=np.float64)

    def __str__(self) -> str:
        used = [a for step in self.steps for a in step.arguments if isinstance(a, int) and a > 0]
        texts = ["x"]
        named: list[str] = []
        for index, step in enumerate(self.steps, 1):
            inner = ", ".join(texts[a] if isinstance(a, int) else _text(a) for a in step.arguments)
            text = f"{step.function}({inner})"
            if used.count(index) > 1:  # written once and named, or the text of a long chain would explode
                named.append(f"{_LETTERS[len(named) % 26]}{len(named) // 26 or ''}")
                named[-1], text = f"{named[-1]} = {text}", named[-1]
            texts.append(text)
        return "; ".join([*named, texts[-1]])


def _text(constant: float | tuple[float, ...]) -> str:
    """A constant, or the first and the last of several."""
    if isinstance(constant, tuple):
        return f"[{constant[0]:.9g} .. {constant[-1]:.9g}]"
    return f"{constant:.9g}"
