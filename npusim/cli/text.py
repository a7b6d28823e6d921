"""Plain-text tables and numbers for the terminal. No command logic here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]], align: str = "<") -> str:
    """Columns aligned by width.

    Args:
        header: titles.
        rows: cells; numbers are formatted by ``number``.
        align: ``<`` or ``>`` for each column; columns it does not reach are aligned to the right.
    """
    cells = [list(header), *([number(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    sides = align.ljust(len(header), ">")
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in cells
    )


def number(value: object) -> str:
    """Integers with thousands separators, floats with three decimals, anything else as it prints."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if type(value) is int else f"{value:,.3f}" if isinstance(value, float) else str(value)


def count(amount: int, noun: str) -> str:
    """``1 instruction``, ``2 instructions``."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"
