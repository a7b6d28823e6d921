"""HTML for notebooks: a heading and tables, the same for everything that shows itself there.

Used by the ``_repr_html_`` of results, traces, models and machines. Standard library only; what is shown is theirs.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_CELL = "padding:2px 12px 2px 0;vertical-align:top;text-align:"


def heading(title: str, *notes: str) -> str:
    """A bold line, and plain ones below it."""
    lines = "".join(f"<p style='margin:0'>{html.escape(note)}</p>" for note in notes if note)
    return f"<p style='margin:0'><b>{html.escape(title)}</b></p>{lines}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers are aligned to the right, integers with thousands separators.

    >>> table(["n"], [[1000]]).count("1,000")
    1
    """
    cells = [list(row) for row in rows]
    numeric = [all(isinstance(row[k], int | float) for row in cells) for k in range(len(header))]
    head = "".join(_cell("th", name, right) for name, right in zip(header, numeric, strict=True))
    body = "".join(f"<tr>{''.join(map(_cell, ['td'] * len(row), row, numeric))}</tr>" for row in cells)
    return f"<table style='font-variant-numeric:tabular-nums'><tr>{head}</tr>{body}</table>"


def number(value: object) -> str:
    """Integers with thousands separators, floats with three decimals, anything else as it prints."""
    return f"{value:,}" if type(value) is int else f"{value:,.3f}" if isinstance(value, float) else str(value)


def _cell(tag: str, value: object, right: bool) -> str:
    return f"<{tag} style='{_CELL}{'right' if right else 'left'}'>{html.escape(number(value))}</{tag}>"
