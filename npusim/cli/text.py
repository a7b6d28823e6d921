"""Plain-text tables and numbers for the terminal. No command logic here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """Columns aligned by width: the first ``left`` to the left, the others to the right."""
    cells = [list(header), *([number(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        words = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(words).rstrip())
    return "\n".join(lines)


def number(value: object) -> str:
    """Integers with thousands separators, floats with three decimals, anything else as it prints."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def count(amount: int, noun: str) -> str:
    """``1 instruction``, ``2 instructions``."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"
