"""Recipes: how a model registers itself, what it takes, and how it is built from names and words.

Used by ``zoo`` to register, by the command and by tests to build. No layer and no model lives here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from .errors import ParameterError, UnknownModelError, nearest
from .graph import NEWEST_OPSET, OLDEST_OPSET, Network, Value

Outputs = Value | dict[str, Value]
Builder = Callable[..., Outputs]

_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to build one model.

    Attributes:
        name: as the command takes it.
        summary: one line for the list.
        input_name: of the model's only input.
        input_shape: used where none is given; None where the recipe's parameters decide.
        builder: adds the layers to a network: ``builder(net, x, **parameters)``.
        parameters: names and defaults of what the builder takes besides.
    """

    name: str
    summary: str
    input_name: str
    input_shape: Callable[..., tuple[int, ...]] | tuple[int, ...]
    builder: Builder
    parameters: Mapping[str, Any]


_RECIPES: dict[str, Recipe] = {}


def recipe(
    summary: str,
    *,
    input_shape: Callable[..., tuple[int, ...]] | tuple[int, ...] = (1, 3, 224, 224),
    input_name: str = "input",
) -> Callable[[Builder], Builder]:
    """Register a function that adds a model's layers to a network and returns its output or outputs.

    The function's name is the model's; its keyword-only arguments are the model's parameters, and each must have a
    default, whose type is the parameter's.

    Args:
        summary: one line for the list.
        input_shape: of the model's input; a function of the parameters where they decide it.
        input_name: of the model's input.
    """

    def register(builder: Builder) -> Builder:
        signature = inspect.signature(builder).parameters.values()
        parameters = {item.name: item.default for item in signature if item.kind is inspect.Parameter.KEYWORD_ONLY}
        name = builder.__name__
        if name in _RECIPES:
            raise ValueError(f"two recipes are called {name!r}")
        _RECIPES[name] = Recipe(
            name=name,
            summary=summary,
            input_name=input_name,
            input_shape=input_shape,
            builder=builder,
            parameters=parameters,
        )
        return builder

    return register


def recipes() -> list[Recipe]:
    """All recipes, in the order in which they are registered."""
    from . import zoo  # noqa: F401 - registers them; here, because its modules import this one

    return list(_RECIPES.values())


def find(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        UnknownModelError: there is none.
    """
    known = {item.name: item for item in recipes()}
    if name not in known:
        raise UnknownModelError(name, known)
    return known[name]


def build(
    name: str,
    *,
    seed: int = 0,
    opset: int = 17,
    input_shape: Sequence[int] | None = None,
    fold_bn: bool = True,
    **parameters: Any,
) -> onnx.ModelProto:
    """Build a model with seeded weights; equal arguments give equal bytes.

    Args:
        name: of the recipe.
        seed: of the weights.
        opset: of the model, 11 to 24.
        input_shape: instead of the recipe's own.
        fold_bn: whether batch normalization is folded into the convolutions.
        parameters: of the recipe, as values of the default's type or as words.

    Raises:
        UnknownModelError: no recipe has this name.
        ParameterError: the recipe does not take a parameter or its value.
        ShapeError: the input shape does not fit the model.

    >>> model = build("matmul_stack", m=4, k=8, n=8, layers=1)
    >>> [node.op_type for node in model.graph.node]
    ['MatMul', 'Add']
    """
    chosen = find(name)
    values = {**chosen.parameters, **{key: _value(chosen, key, given) for key, given in parameters.items()}}
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ParameterError(name, "opset", f"is {opset}, but recipes write opset {OLDEST_OPSET} to {NEWEST_OPSET}")
    if seed < 0:
        raise ParameterError(name, "seed", f"is {seed}, but must not be negative")
    usual = chosen.input_shape(**values) if callable(chosen.input_shape) else chosen.input_shape
    shape = tuple(input_shape or usual)
    if len(shape) != len(usual) or min(shape) < 1:
        raise ParameterError(name, "input_shape", f"is {shape}, but must be {len(usual)} positive numbers like {usual}")
    net = Network(name, seed=seed, opset=opset, fold_bn=fold_bn)
    outputs = chosen.builder(net, net.input(chosen.input_name, shape), **values)
    return net.finish({"output": outputs} if isinstance(outputs, Value) else outputs)


def _value(chosen: Recipe, key: str, given: Any) -> Any:
    """A parameter's value with the type of its default.

    >>> _value(find("conv_stack"), "channels", "64")
    64
    """
    if key not in chosen.parameters:
        hint = nearest(key, chosen.parameters) or f"; it takes {', '.join(chosen.parameters) or 'none'}"
        raise ParameterError(chosen.name, key, f"is unknown{hint}")
    kind = type(chosen.parameters[key])
    try:
        value = _SWITCH[str(given).casefold()] if kind is bool else kind(given)
    except (KeyError, ValueError):
        value = None
    if value is None or (kind is int and value < 1):  # all integers are counts and sizes
        words = {bool: "true or false", int: "a positive integer", float: "a number"}
        raise ParameterError(chosen.name, key, f"is {given!r}, but must be {words[kind]}")
    return value
