"""Names of tensor files, and results as JSON and CSV. Reading belongs to the commands."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from isa.files import write_bytes


def is_same_file(one: str, other: str) -> bool:
    """Whether two names, whose files need not exist, lead to one place, links followed; ``-`` is standard output."""
    return one == other or ("-" not in (one, other) and os.path.realpath(one) == os.path.realpath(other))


def write_json(target: str, value: Any) -> None:
    """Write ``value`` as JSON to a file, or to standard output for ``-``."""
    text = json.dumps(value, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        write_bytes(target, text.encode())


def write_csv(target: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write flat rows with the same keys as CSV to a file, or to standard output for ``-``; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if target == "-":
        sys.stdout.write(text.getvalue())
    else:
        write_bytes(target, text.getvalue().encode())


def file_name(tensor: str) -> str:
    """``<tensor>.bin`` with characters outside ``[A-Za-z0-9_-]`` replaced by ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", tensor) + ".bin"
