"""Names of tensor files, and writing result files whole or not at all. Reading belongs to the commands."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_bytes(target: str | Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half of it."""
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
