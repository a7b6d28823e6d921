"""Writing files whole or not at all. What they hold is decided by whoever calls."""

from __future__ import annotations

import os
from pathlib import Path


def write_bytes(target: str | os.PathLike[str], data: bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half of it.

    Raises:
        OSError: the file cannot be written; it names the file and not the temporary one.
    """
    path = Path(target)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error
