"""Reads configuration files, lets flags win over them, and says precisely what is wrong with either.

Called through ``npusim.session.configuration``. Names, types and ranges live in ``schema``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from npusim.errors import ConfigError, did_you_mean
from npusim.session.configuration.key import Key, Kind, ValueRefusedError, shown
from npusim.session.configuration.schema import ELSEWHERE, KEYS, SECTIONS, BuildConfig, LayerEntry

FLAGS = "command line"
"""What messages call the place that flags come from."""

LARGEST_BYTES = 1 << 20
SUFFIXES = {".json": "JSON", ".json5": "JSON", ".jsonc": "JSON", ".yaml": "YAML", ".yml": "YAML", ".toml": "TOML"}

Values = dict[str, Any]
"""Checked values by name, sections and records as further such dictionaries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A merged configuration and where it came from.

    Attributes:
        build: the values.
        source: the file's name as the user gave it, or "".
        notes: what is worth telling: keys that change nothing.
    """

    build: BuildConfig
    source: str = ""
    notes: tuple[str, ...] = ()

    def error(self, path: str, message: str, suggestion: str = "") -> ConfigError:
        """The refusal of a key's value, for reasons found later."""
        return ConfigError(path, message, suggestion, self.source)

    def overridden(self, overrides: Mapping[str, Any]) -> Configuration:
        """The same with some values replaced, by dotted key.

        Raises:
            ConfigError: a value that does not fit.
        """
        return replace(load(self.record(), overrides=overrides), source=self.source)

    def record(self) -> dict[str, Any]:
        """All values as JSON; ``load`` makes the same configuration of it."""
        return asdict(self.build)


def load(
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    flags: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Configuration:
    """The configuration of a file or a mapping, with flags and values that win over it.

    Args:
        config: a file (relaxed JSON, YAML or TOML by its suffix), or its content.
        flags: text by dotted key.
        overrides: values by dotted key.

    Raises:
        ConfigError: an unknown key, or a value that does not fit.
        OSError: the file cannot be read.
    """
    source = "" if config is None or isinstance(config, Mapping) else str(config)
    table = {} if config is None else config if isinstance(config, Mapping) else _read(Path(config), source)
    values = _checked_table(table, BuildConfig, "", source)
    for path, text in (flags or {}).items():
        if path not in KEYS:
            raise ConfigError(path, "there is no such key", did_you_mean(path, KEYS), FLAGS)
        _set(values, path, _from_flag(path, KEYS[path][0], text))
    for path, value in (overrides or {}).items():
        _set(values, path, _checked(value, KEYS[path][0], path, ""))
    build = _made(BuildConfig, values)
    for index, entry in enumerate(build.quant.layer_configs):
        _check_selectors(entry, f"quant.layer_configs[{index}]", source)
    _check_names(build, source)
    return Configuration(build=build, source=source, notes=tuple(_notes(build, source)))


# -------------------------------------------------------------------------------------------------------------- files


def _read(path: Path, source: str) -> Mapping[str, Any]:
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        message = f"a configuration is a file with suffix {', '.join(SUFFIXES)}"
        raise ConfigError("", message, did_you_mean(path.suffix, SUFFIXES), source)
    data = path.read_bytes()
    if len(data) > LARGEST_BYTES:
        raise ConfigError("", f"has {len(data):,} bytes; a configuration has at most {LARGEST_BYTES:,}", source=source)
    try:
        table = _PARSERS[kind](data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError("", f"is not UTF-8 text: {error.reason} at byte {error.start}", source=source) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError("", f"is not {kind}: {_reason(error)}", source=source) from None
    if not isinstance(table, Mapping):
        raise ConfigError("", f"holds {shown(table)}, not keys with values", source=source)
    return table


def _reason(error: Exception) -> str:
    """What a parser says, in one line."""
    return " ".join(str(error).replace("<string>:", "line ").split())


def _json(text: str) -> Any:
    import json5

    return json5.loads(text, allow_duplicate_keys=False)


def _yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML takes the last of two equal keys without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names = [self.construct_object(name, deep=True) for name, _ in node.value]
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise yaml.YAMLError(f"the key {name!r} is there twice{name_mark(node.value[index][0])}")
            return super().construct_mapping(node, deep)

    def name_mark(node: yaml.Node) -> str:
        return f" (line {node.start_mark.line + 1})" if node.start_mark else ""

    try:
        return yaml.load(text, Loader) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


_PARSERS: dict[str, Callable[[str], Any]] = {"JSON": _json, "YAML": _yaml, "TOML": tomllib.loads}


# ------------------------------------------------------------------------------------------------------------- values


def _checked_table(table: Mapping[str, Any], record: type, prefix: str, source: str) -> Values:
    """The values of a table, each checked; ``prefix`` ends with a dot."""
    known = {entry.name: entry for entry in fields(record)}
    values: Values = {}
    for name, value in table.items():
        path = f"{prefix}{name}"
        if name not in known:
            raise _unknown(path, str(name), tuple(known), source)
        if not prefix and name in SECTIONS:
            if not isinstance(value, Mapping):
                raise ConfigError(path, f"holds keys with values, not {shown(value)}", source=source)
            values[name] = _checked_table(value, SECTIONS[name], f"{path}.", source)
        else:
            values[name] = _checked(value, known[name].metadata["key"], path, source)
    return values


def _checked(value: Any, key: Key, path: str, source: str) -> Any:
    if key.kind is Kind.RECORDS:
        assert key.record is not None
        if not isinstance(value, list | tuple):
            raise ConfigError(path, f"takes {key.kind.value}, not {shown(value)}", source=source)
        for index, entry in enumerate(value):
            if not isinstance(entry, Mapping):
                raise ConfigError(f"{path}[{index}]", f"holds keys with values, not {shown(entry)}", source=source)
        return [_checked_table(entry, key.record, f"{path}[{index}].", source) for index, entry in enumerate(value)]
    try:
        return key.checked(value)
    except ValueRefusedError as error:
        raise ConfigError(path, str(error), error.suggestion, source) from None


def _unknown(path: str, name: str, siblings: tuple[str, ...], source: str) -> ConfigError:
    plain = ".".join(part.partition("[")[0] for part in path.split("."))
    if plain in ELSEWHERE:
        return ConfigError(path, f"is a key of the vendor's that npusim does not have: {ELSEWHERE[plain]}", "", source)
    elsewhere = [known for known in KEYS if known.endswith(f".{name}")]
    near = did_you_mean(name, siblings) or (f"did you mean {' or '.join(map(repr, elsewhere))}?" if elsewhere else "")
    return ConfigError(path, "there is no such key", near or f"there are {', '.join(siblings)}", source)


def _from_flag(path: str, key: Key, text: str) -> Any:
    if key.kind is not Kind.RECORDS:
        return _checked(key.parse(text), key, path, FLAGS)
    try:
        value = _json(text)
    except (ValueError, RecursionError) as error:
        message = f"takes a list of records as JSON: {_reason(error)}"
        raise ConfigError(path, message, source=FLAGS) from None
    return _checked(value, key, path, FLAGS)


def _set(values: Values, path: str, value: Any) -> None:
    """Put a value where its path says; one of a record into every record of the list, or into a first one."""
    *parents, name = path.split(".")
    places = [values]
    for depth, parent in enumerate(parents):
        whole = ".".join(parents[: depth + 1])
        if whole in KEYS:
            places = [entry for place in places for entry in place.setdefault(parent, []) or _first(place, parent)]
        else:
            places = [place.setdefault(parent, {}) for place in places]
    for place in places:
        place[name] = value


def _first(place: Values, parent: str) -> list[Values]:
    place[parent] = [{}]
    return list(place[parent])


def _made(record: type, values: Values) -> Any:
    """The record of checked values; what is not there has its default."""
    made: Values = {}
    for entry in fields(record):
        if entry.name not in values:
            continue
        value = values[entry.name]
        key: Key | None = entry.metadata.get("key")
        if key is None:
            made[entry.name] = _made(SECTIONS[entry.name], value)
        elif key.kind is Kind.RECORDS and key.record is not None:
            made[entry.name] = tuple(_made(key.record, part) for part in value)
        else:
            made[entry.name] = value
    return record(**made)


# -------------------------------------------------------------------------------------------------------------- rules


def _check_selectors(entry: LayerEntry, path: str, source: str) -> None:
    named = bool(entry.layer_name or entry.layer_names)
    typed = bool(entry.op_type or entry.op_types)
    between = bool(entry.start_tensor_names or entry.end_tensor_names)
    if named + typed + between != 1:
        found = "none" if not named + typed + between else "several"
        ways = "layer_name(s), op_type(s), or start_tensor_names with end_tensor_names"
        raise ConfigError(path, f"selects layers in exactly one way: {ways}; it has {found}", source=source)
    if between and not (entry.start_tensor_names and entry.end_tensor_names):
        raise ConfigError(path, "needs both start_tensor_names and end_tensor_names", source=source)
    if not entry.data_type and not entry.weight_data_type:
        raise ConfigError(path, "needs data_type or weight_data_type", source=source)


def _check_names(build: BuildConfig, source: str) -> None:
    if not build.output_name or Path(build.output_name).name != build.output_name:
        raise ConfigError("output_name", f"is a file name in output_dir, not {build.output_name!r}", source=source)
    lists: dict[str, tuple[Any, ...]] = {
        "quant.input_configs": build.quant.input_configs,
        "input_processors": build.input_processors,
        "output_processors": build.output_processors,
    }
    for path, entries in lists.items():
        names = [entry.tensor_name for entry in entries]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ConfigError(f"{path}[{index}].tensor_name", f"{name!r} has an entry already", source=source)
    for index, entry in enumerate(build.quant.input_configs):
        if entry.calibration_size == 0:
            path = f"quant.input_configs[{index}].calibration_size"
            raise ConfigError(path, "is 0, must be 1 or more, or -1 for all", source=source)


def _notes(build: BuildConfig, source: str) -> list[str]:
    """What keys that change nothing say about it; refused ones end here."""
    notes = []
    for path, (key, default) in KEYS.items():
        if not (key.idle or key.refused):
            continue
        value: Any = build
        for part in path.split("."):
            value = getattr(value, part)
        if value == default:
            continue
        if key.refused:
            raise ConfigError(path, f"{shown(value)} is refused: {key.refused}", source=source)
        notes.append(f"{path} changes nothing: {key.idle}")
    return notes
