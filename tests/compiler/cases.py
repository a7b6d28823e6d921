"""Graphs that each try one operation, by name; ``case`` enters them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CASES: dict[str, tuple[str, Callable[[], Any]]] = {}
"""Operation, and a function that returns a graph or a graph with feeds, by the name of the case."""


def case(op):
    """Enter a function as a case of an operation; its name says what is special about it."""

    def enter(function):
        assert function.__name__ not in CASES, f"two cases are called {function.__name__}"
        CASES[function.__name__] = (op, function)
        return function

    return enter
