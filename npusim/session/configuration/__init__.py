"""The build configuration: one schema for files (relaxed JSON, YAML, TOML), flags and Python.

``load`` is the way in, called by ``npusim.build`` and the commands. What a value does is decided where it is used.
"""

from __future__ import annotations

from npusim.session.configuration.merge import Configuration, load
from npusim.session.configuration.schema import KEYS, BuildConfig, InputConfig, InputProcessor, OutputProcessor

__all__ = ["KEYS", "BuildConfig", "Configuration", "InputConfig", "InputProcessor", "OutputProcessor", "load"]
