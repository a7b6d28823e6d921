"""One key of the hardware description: its type, its range, its meaning.

Used in the class bodies of ``hardware``; ``reader`` and ``Hardware`` check values with it. No particular key here.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a key means and which values it takes.

    Attributes:
        doc: meaning and unit, in one phrase.
        kind: int, float, bool or str.
        least: smallest number.
        most: largest number.
        choices: the texts allowed; empty for any.
        has_provenance: whether the file says where the value comes from; names do not.
    """

    doc: str
    kind: type
    least: float = 0
    most: float = 0
    choices: tuple[str, ...] = ()
    has_provenance: bool = True

    def coerce(self, value: Any) -> Any:
        """``value`` as the key's own type where nothing is lost (880e6, NumPy integers), else unchanged."""
        if isinstance(value, bool) or self.kind in (bool, str):
            return value
        if self.kind is float:
            return float(value) if hasattr(value, "__float__") else value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return operator.index(value) if hasattr(value, "__index__") else value

    def refusal(self, value: Any) -> str:
        """Why the key does not take ``value``, or an empty string."""
        kind: Any = type(value)
        if kind is not self.kind:
            return f"takes {_KINDS[self.kind]}, not {value!r}"
        if self.kind is str:
            if self.choices and value not in self.choices:
                return f"is {value!r}, must be one of {', '.join(self.choices)}"
            return "" if value.strip() else "is empty"
        if self.kind is not bool and not self.least <= value <= self.most:
            return f"is {value}, must be {self.least:g} to {self.most:g}"
        return ""


_MOST = 1 << 20


def integer(doc: str, least: int = 1, most: int = _MOST) -> Any:
    """A whole number from ``least`` to ``most``."""
    return field(metadata={"key": Key(doc=doc, kind=int, least=least, most=most)})


def number(doc: str, least: float, most: float) -> Any:
    """A real number from ``least`` to ``most``."""
    return field(metadata={"key": Key(doc=doc, kind=float, least=least, most=most)})


def switch(doc: str) -> Any:
    """True or false."""
    return field(metadata={"key": Key(doc=doc, kind=bool)})


def choice(doc: str, *choices: str) -> Any:
    """One of a few words."""
    return field(metadata={"key": Key(doc=doc, kind=str, choices=choices)})


def text(doc: str) -> Any:
    """Free text, which has no provenance."""
    return field(metadata={"key": Key(doc=doc, kind=str, has_provenance=False)})
