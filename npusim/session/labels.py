"""Names of classes: ImageNet's thousand, or those of a file.

Used by ``npusim classify``. What a model was trained on is not known here: the number of its outputs decides.
"""

from __future__ import annotations

import os
from pathlib import Path

from npusim.errors import UsageError

IMAGENET = Path(__file__).parent / "imagenet1k.txt"


def imagenet_names() -> tuple[str, ...]:
    """The names of ImageNet-1k's classes by index.

    >>> names = imagenet_names()
    >>> len(names), names[0], names[285], names[999]
    (1000, 'tench', 'Egyptian cat', 'toilet tissue')
    """
    return _lines(IMAGENET)


def class_names(classes: int, path: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """The names of a model's classes; empty where none are known.

    Args:
        classes: how many the model has.
        path: a text file with one name a line; ImageNet's names by default, where the number fits.

    Raises:
        UsageError: the file has another number of names.
        OSError: it cannot be read.
    """
    if path is None:
        names = imagenet_names()
        return names if len(names) == classes else ()
    try:
        names = _lines(Path(path))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from None
    if len(names) != classes:
        raise UsageError(f"{path} has {len(names):,} names, one a line; the model has {classes:,} classes")
    return names


def _lines(path: Path) -> tuple[str, ...]:
    text = path.read_text(encoding="utf-8-sig")
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
