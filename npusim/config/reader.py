"""Reads a hardware description: finds the file, follows ``extends``, says precisely what is wrong with it.

Called through ``npusim.config``. Ranges and rules between values live in ``hardware``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from npusim.config.hardware import KEYS, PEAK_KEYS, SECTIONS, Hardware, Provenance, ProvenanceKind
from npusim.errors import ConfigError, did_you_mean

FOLDER = Path(__file__).parent.parent / "configs"

NAMES = {"ax650n": "ax650n", "ax650": "ax650n", "small": "small"}
"""Built-in descriptions: file name without suffix, by name and alias in lower case."""

_ENTRY = ("value", "source", "note")
_FILE_KINDS = tuple(str(kind) for kind in ProvenanceKind if kind is not ProvenanceKind.USER)


class _Draft(NamedTuple):
    """Values and their origins by dotted key, before they are a machine."""

    values: dict[str, Any]
    provenance: dict[str, Provenance]


def load(name_or_path: str | Path) -> Hardware:
    """A built-in description by name (``ax650n``, alias ``AX650``; ``small``), or one of the user's by path.

    Raises:
        ConfigError: no such name or file, or a file that describes no machine.
    """
    return _make(*_read(name_or_path, Path(), ()))


def loads(text: str, source: str = "", folder: Path | None = None) -> Hardware:
    """The description in ``text``.

    Args:
        text: TOML.
        source: what messages call it.
        folder: where an ``extends`` with a relative path starts; by default the current directory.

    Raises:
        ConfigError: the text describes no machine.
    """
    return _make(_parse(text, source, folder or Path(), ()), source)


def changed(hardware: Hardware, changes: Mapping[str, Any]) -> Hardware:
    """``Hardware.with_values``."""
    draft = _Draft(hardware.values(), dict(hardware.provenance))
    for path, entry in changes.items():
        section, _, key = path.partition(".")
        _check_key(section, key, hardware.source)
        _enter(draft, path, entry, hardware.source, variant=True)
    if "machine.name" not in changes:
        what = " ".join(f"{path}={draft.values[path]}" for path in changes)
        draft.values["machine.name"] = f"{hardware.machine.name} {what}".rstrip()
    _adopt_peak(draft, set(changes))
    return _make(draft, hardware.source)


def _read(name_or_path: str | Path, folder: Path, chain: tuple[Path, ...]) -> tuple[_Draft, str]:
    """The draft of a name or a path (relative to ``folder``), and what messages call it."""
    source = str(name_or_path)
    built_in = NAMES.get(source.casefold()) if isinstance(name_or_path, str) else None
    path = FOLDER / f"{built_in}.toml" if built_in else folder / name_or_path
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("", f"is not UTF-8 text: {error.reason} at byte {error.start}", source=source) from None
    except OSError as error:
        known = f"{error.strerror or error}; built-in descriptions are {', '.join(sorted(set(NAMES.values())))}"
        message = f"cannot read the hardware description {source!r}: {known}"
        raise ConfigError("", message, did_you_mean(source, NAMES)) from None
    if path.resolve() in chain:
        raise ConfigError("extends", f"{source} extends itself", source=str(chain[0].name))
    return _parse(text, built_in or source, path.parent, (*chain, path.resolve())), built_in or source


def _parse(text: str, source: str, folder: Path, chain: tuple[Path, ...]) -> _Draft:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("", f"is not TOML: {error}", source=source) from None
    variant = "extends" in tables
    draft = _Draft({}, {})
    if variant:
        parent = tables.pop("extends")
        if not isinstance(parent, str):
            raise ConfigError("extends", f"takes a name or a path, not {parent!r}", source=source)
        draft, _ = _read(parent, folder, chain)
        draft.values["machine.name"] = Path(source).stem or f"variant of {draft.values['machine.name']}"
    given = set()
    for section, table in tables.items():
        if section not in SECTIONS:
            raise ConfigError(section, "there is no such table", did_you_mean(section, SECTIONS), source)
        if not isinstance(table, dict):
            raise ConfigError(section, f"is a table of values, not {table!r}", source=source)
        for key, entry in table.items():
            _check_key(section, key, source)
            _enter(draft, f"{section}.{key}", entry, source, variant=variant)
            given.add(f"{section}.{key}")
    if missing := [path for path in KEYS if path not in draft.values]:
        others = f"; so are {', '.join(missing[1:])}" if missing[1:] else ""
        raise ConfigError(missing[0], f"is missing{others}", source=source)
    if variant:
        _adopt_peak(draft, given)
    return draft


def _check_key(section: str, key: str, source: str) -> None:
    path = f"{section}.{key}" if key else section
    if path in KEYS:
        return
    if section not in SECTIONS:
        raise ConfigError(path, "there is no such key", did_you_mean(path, KEYS), source)
    here = [known.partition(".")[2] for known in KEYS if known.startswith(f"{section}.")]
    elsewhere = [known for known in KEYS if known.endswith(f".{key}")]
    near = f"did you mean {' or '.join(map(repr, elsewhere))}?" if elsewhere else did_you_mean(key, here)
    raise ConfigError(path, "there is no such key", near, source)


def _enter(draft: _Draft, path: str, entry: Any, source: str, *, variant: bool) -> None:
    """Put one value and its origin into the draft; types and ranges are checked when the machine is made."""
    key = KEYS[path]
    if not isinstance(entry, Mapping):
        if key.has_provenance and not variant:
            example = '{ value = ..., source = "assumed", note = "..." }'
            raise ConfigError(path, f"does not say where its value comes from; write {example}", source=source)
        entry = {"value": entry}
    for name in entry:
        if name not in _ENTRY:
            raise ConfigError(f"{path}.{name}", "there is no such key", did_you_mean(name, _ENTRY), source)
    required = _ENTRY if key.has_provenance and not variant else ("value",)
    for name in required:
        if name not in entry:
            raise ConfigError(f"{path}.{name}", "is missing", source=source)
    draft.values[path] = key.coerce(entry["value"])
    if key.has_provenance:
        draft.provenance[path] = _provenance(path, entry, source)


def _provenance(path: str, entry: Mapping[str, Any], source: str) -> Provenance:
    kind, note = entry.get("source", "user"), entry.get("note", "set by the user")
    allowed = (*_FILE_KINDS, "user") if "source" not in entry else _FILE_KINDS
    if kind not in allowed:
        near = did_you_mean(kind, allowed, limit=1) if isinstance(kind, str) else ""
        raise ConfigError(f"{path}.source", f"is {kind!r}, must be one of {', '.join(allowed)}", near, source)
    if not isinstance(note, str) or not note.strip():
        raise ConfigError(f"{path}.note", f"takes a sentence, not {note!r}", source=source)
    return Provenance(kind=ProvenanceKind(kind), note=note)


def _adopt_peak(draft: _Draft, given: set[str]) -> None:
    """Declare the derived peak where a variant changes what it follows from and declares none."""
    if "machine.declared_tops" in given or given.isdisjoint(PEAK_KEYS):
        return
    peak = [draft.values[path] for path in PEAK_KEYS]
    if all(type(value) is int for value in peak):  # others are refused when the machine is made
        clock, cores, rows, columns = peak
        draft.values["machine.declared_tops"] = 4 * cores * rows * columns * clock / 1e12
        note = "peak of the variant's own array, cores and clock"
        draft.provenance["machine.declared_tops"] = Provenance(kind=ProvenanceKind.USER, note=note)


def _make(draft: _Draft, source: str) -> Hardware:
    records: dict[str, Any] = {}
    for section, record in SECTIONS.items():
        own = {path.partition(".")[2]: value for path, value in draft.values.items() if path.startswith(f"{section}.")}
        records[section] = record(**own)
    return Hardware(**records, provenance=draft.provenance, source=source)
