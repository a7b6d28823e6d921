"""The build configuration on the command line: a dotted flag for every key, documented by the schema.

Used by the commands that build. What keys mean and which values they take stands in ``session.configuration.schema``.
"""

from __future__ import annotations

import argparse
from typing import Any

from npusim.session.configuration import KEYS
from npusim.session.configuration.key import Key, Kind
from npusim.session.configuration.schema import SECTIONS

_PREFIX = "config:"
_METAVARS = {
    Kind.TEXT: "TEXT",
    Kind.TEXTS: "A,B",
    Kind.WHOLE: "N",
    Kind.WHOLES: "N,N",
    Kind.NUMBER: "X",
    Kind.NUMBERS: "X,X",
    Kind.SWITCH: "true|false",
    Kind.RECORDS: "JSON",
}
_SHORT = {
    path: path.replace("input_configs.", "") for path in KEYS if path.startswith("quant.input_configs.calibration")
}
"""Spellings without the list in between: ``--quant.calibration_format``."""

_TITLES = {"": "build", "onnx_opt": "float graph", "quant": "quantization", "compiler": "compiler"}


def add_options(parser: argparse.ArgumentParser, leave_out: tuple[str, ...] = ()) -> None:
    """A flag for every key but some, in groups by section."""
    groups = {section: parser.add_argument_group(title) for section, title in _TITLES.items()}
    for path, (key, default) in KEYS.items():
        if path in leave_out:
            continue
        section = path.partition(".")[0]
        group = groups[section if section in SECTIONS else ""]
        spellings = [f"--{path}", *([f"--{_SHORT[path]}"] if path in _SHORT else [])]
        bare: dict[str, Any] = {"nargs": "?", "const": "true"} if key.kind is Kind.SWITCH else {}
        group.add_argument(
            *spellings,
            dest=_PREFIX + path,
            metavar="WORD" if key.choices else _METAVARS[key.kind],
            help=_help(key, default),
            **bare,
        )


def given_options(arguments: argparse.Namespace) -> dict[str, str]:
    """The text of each flag that was given, by dotted key."""
    flags = {name.removeprefix(_PREFIX): text for name, text in vars(arguments).items() if name.startswith(_PREFIX)}
    return {path: text for path, text in flags.items() if text is not None}


def _help(key: Key, default: object) -> str:
    """The key's sentence with its default, and what becomes of other values."""
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    parts = [key.doc + (f" ({shown})" if default not in ("", ()) else "")]
    if key.choices:
        parts.append(" | ".join(filter(None, key.choices)))
    if key.example:
        parts.append(f"as {key.example}")
    if key.refused:
        parts.append(f"other values are refused: {key.refused}")
    if key.idle:
        parts.append(f"changes nothing: {key.idle}")
    return "; ".join(parts).replace("%", "%%")
