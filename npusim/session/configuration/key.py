"""One key of the build configuration: its type, its range, its meaning, and how a flag's text becomes its value.

Used in the class bodies of ``schema``; ``merge`` checks values with it. No particular key here.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from npusim.errors import did_you_mean


class Kind(Enum):
    """What a key takes, in words."""

    TEXT = "text"
    TEXTS = "a list of texts"
    WHOLE = "a whole number"
    WHOLES = "a list of whole numbers"
    NUMBER = "a number"
    NUMBERS = "a list of numbers"
    SWITCH = "true or false"
    RECORDS = "a list of records"


_LISTS = {Kind.TEXTS: Kind.TEXT, Kind.WHOLES: Kind.WHOLE, Kind.NUMBERS: Kind.NUMBER}
_TYPES: dict[Kind, tuple[type, ...]] = {
    Kind.TEXT: (str,), Kind.WHOLE: (int,), Kind.NUMBER: (int, float), Kind.SWITCH: (bool,),
}  # fmt: skip
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class ValueRefusedError(ValueError):
    """A value that its key does not take; the message continues the key's name in a sentence.

    Attributes:
        suggestion: the nearest valid spelling as a phrase, or "".
    """

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a key means and which values it takes.

    Attributes:
        doc: meaning and unit, in one phrase.
        kind: what it takes.
        least: smallest number.
        most: largest number.
        choices: the texts allowed; empty for any.
        pattern: what a text looks like, as a regular expression; "" for any.
        example: of a text that fits the pattern.
        record: the record's type, of a list of records.
        idle: why another value than the default changes nothing; "" where it does.
        refused: why another value than the default is refused; "" where it is not.
    """

    doc: str
    kind: Kind
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    pattern: str = ""
    example: str = ""
    record: type | None = None
    idle: str = ""
    refused: str = ""

    def parse(self, text: str) -> Any:
        """The value that a flag's text stands for; still to be checked.

        >>> Key(doc="", kind=Kind.NUMBERS).parse("[0.5, 1]")
        [0.5, 1]
        """
        if self.kind in _LISTS:
            words = text.strip().removeprefix("[").removesuffix("]").split(",")
            return [_parsed(word.strip(), _LISTS[self.kind]) for word in words if word.strip()]
        return _parsed(text, self.kind)

    def checked(self, value: Any) -> Any:
        """``value`` as the key's own type.

        Raises:
            ValueRefusedError: it has another type, or is out of range.
        """
        if self.kind not in _LISTS:
            return self._element(value, self.kind)
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueRefusedError(f"takes {self.kind.value}, not {shown(value)}")
        return tuple(self._element(element, _LISTS[self.kind]) for element in value)

    def _element(self, value: Any, kind: Kind) -> Any:
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind is not Kind.SWITCH):
            raise ValueRefusedError(f"takes {self.kind.value}, not {shown(value)}")
        if isinstance(value, str):
            if self.choices and value not in self.choices:
                known = ", ".join(choice for choice in self.choices if choice)
                raise ValueRefusedError(f"is {shown(value)}, must be one of {known}", did_you_mean(value, self.choices))
            if self.pattern and value and not re.fullmatch(self.pattern, value):
                raise ValueRefusedError(f"is {shown(value)}, must look like {self.example}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value) or not self.least <= value <= self.most:
                raise ValueRefusedError(f"is {shown(value)}, must be {self._range()}")
            return float(value) if kind is Kind.NUMBER else value
        return value

    def _range(self) -> str:
        if math.isinf(self.most):
            return "finite" if math.isinf(self.least) else f"{self.least:g} or more"
        return f"{self.least:g} to {self.most:g}"


def shown(value: Any) -> str:
    """A value as messages show it: in one line, and short however large it is."""
    return " ".join(reprlib.repr(value).split())


def _parsed(text: str, kind: Kind) -> Any:
    """The value of a word, or the word itself, which is refused later for its type."""
    if kind is Kind.SWITCH:
        word = text.casefold()
        return True if word in _TRUE else False if word in _FALSE else text
    if kind is Kind.WHOLE and re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if kind is Kind.NUMBER:
        if re.fullmatch(r"[+-]?\d{1,18}", text):
            return int(text)
        try:
            return float(text)
        except ValueError:
            return text
    return text


# ------------------------------------------------------------------------------------------------------ declarations


def text(default: str, doc: str, **more: Any) -> Any:
    """Any text, or one that fits a pattern."""
    return field(default=default, metadata={"key": Key(doc=doc, kind=Kind.TEXT, **more)})


def choice(default: str, doc: str, choices: tuple[str, ...], **more: Any) -> Any:
    """One of a few words."""
    return field(default=default, metadata={"key": Key(doc=doc, kind=Kind.TEXT, choices=choices, **more)})


def texts(doc: str) -> Any:
    """Any number of texts, none by default."""
    return field(default=(), metadata={"key": Key(doc=doc, kind=Kind.TEXTS)})


def whole(default: int, doc: str, least: float = 0, most: float = math.inf, **more: Any) -> Any:
    """A whole number from ``least`` to ``most``."""
    return field(default=default, metadata={"key": Key(doc=doc, kind=Kind.WHOLE, least=least, most=most, **more)})


def wholes(doc: str, least: float, **more: Any) -> Any:
    """Any number of whole numbers, none by default."""
    return field(default=(), metadata={"key": Key(doc=doc, kind=Kind.WHOLES, least=least, **more)})


def number(default: float, doc: str, least: float, most: float = math.inf, **more: Any) -> Any:
    """A number from ``least`` to ``most``."""
    return field(default=default, metadata={"key": Key(doc=doc, kind=Kind.NUMBER, least=least, most=most, **more)})


def numbers(doc: str, least: float = -math.inf) -> Any:
    """Any number of numbers, none by default."""
    return field(default=(), metadata={"key": Key(doc=doc, kind=Kind.NUMBERS, least=least)})


def switch(default: bool, doc: str, **more: Any) -> Any:
    """True or false."""
    return field(default=default, metadata={"key": Key(doc=doc, kind=Kind.SWITCH, **more)})


def records(record: type, doc: str) -> Any:
    """Any number of records, none by default."""
    return field(default=(), metadata={"key": Key(doc=doc, kind=Kind.RECORDS, record=record)})
