"""Plain-text tables and numbers for the terminal, in colour where it shows it; numbers as users write them.

Used by the commands, whose logic does not belong here.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence

from npusim.errors import UsageError

STYLES = {"bold": "1", "good": "32", "bad": "31"}
"""SGR codes of ECMA-48 by what they mean here."""

MOST_BATCH = 1000
"""Inferences in a call: each is simulated, about a hundredth of a second for a small model."""

_ESCAPE = re.compile("\033\\[[0-9;]*m")


def table(header: Sequence[str], rows: Iterable[Sequence[object]], align: str = "<") -> str:
    """Columns aligned by width, the titles bold where the terminal shows it.

    Args:
        header: titles.
        rows: cells; numbers are formatted by ``number``, and ``paint`` may have coloured a text.
        align: ``<`` or ``>`` for each column; columns it does not reach are aligned to the right.
    """
    cells = [list(header), *([number(cell) for cell in row] for row in rows)]
    widths = [max(len(_ESCAPE.sub("", row[column])) for row in cells) for column in range(len(header))]
    sides = align.ljust(len(header), ">")
    lines = [
        "  ".join(_padded(cell, side, width) for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join([paint(lines[0], "bold"), *lines[1:]])


def _padded(cell: str, side: str, width: int) -> str:
    space = " " * (width - len(_ESCAPE.sub("", cell)))
    return cell + space if side == "<" else space + cell


def paint(text: str, style: str) -> str:
    """The text in one of ``STYLES`` where standard output is a terminal and nobody set NO_COLOR (no-color.org)."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else f"\033[{STYLES[style]}m{text}\033[0m"


def number(value: object) -> str:
    """Integers with thousands separators, floats with three decimals, anything else as it prints."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if type(value) is int else f"{value:,.3f}" if isinstance(value, float) else str(value)


def count(amount: int, noun: str) -> str:
    """``1 instruction``, ``2 instructions``."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def whole_number(option: str, text: str, least: int, most: int = 999_999_999) -> int:
    """A whole number that a user wrote.

    Raises:
        UsageError: none, or one outside ``least..most``.
    """
    if not re.fullmatch("[0-9]{1,4000}", text) or int(text) < least:
        raise UsageError(f"{option} takes a whole number from {least} on, not {text!r}")
    if int(text) > most:
        raise UsageError(f"{option} takes at most {most:,}, not {text}")
    return int(text)
