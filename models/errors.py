"""What can go wrong when a model is asked for, with messages that name the nearest valid spelling.

Raised throughout ``models``; the command prints the message as one line. Standard library only, and no logic but the
wording.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Similarity from which a spelling counts as a slip: "swint" and "swin_t" have 0.91, "resnet34" and "resnet50" 0.75.
_SIMILAR = 0.65


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The phrase that names the nearest valid spellings, or an empty string where none is near.

    >>> nearest("swint", ["swin_t", "swin_s", "vgg16"])
    "; did you mean 'swin_t' or 'swin_s'?"
    >>> nearest("transformer", ["vgg16"])
    ''
    """
    near = difflib.get_close_matches(word.casefold(), list(candidates), n=2, cutoff=_SIMILAR)
    return f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""


class ModelError(Exception):
    """Root of every error that ``models`` raises on purpose; the message is one self-contained sentence."""


class UnknownModelError(ModelError, LookupError):
    """No recipe has this name.

    Attributes:
        name: what was asked for.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = list(known)
        super().__init__(f"no model is called {name!r}{nearest(name, known) or '; known are ' + ', '.join(known)}")
        self.name = name


class ParameterError(ModelError, ValueError):
    """A recipe does not take this parameter, or not with this value.

    Attributes:
        model: name of the recipe.
        parameter: name of the parameter.
    """

    def __init__(self, model: str, parameter: str, problem: str) -> None:
        super().__init__(f"{model}: parameter {parameter!r} {problem}")
        self.model = model
        self.parameter = parameter


class ShapeError(ModelError, ValueError):
    """An operator cannot take inputs of these shapes, most often because of ``--input_shape``.

    Attributes:
        node: name of the node that refused.
    """

    def __init__(self, node: str, problem: str) -> None:
        super().__init__(f"{node}: {problem}")
        self.node = node
