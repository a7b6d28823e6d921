"""Machines and core allocations as users name them: ``ax650n``, ``my.toml``, ``NPU2``.

Used by everything in ``session`` and by the command line. What a machine consists of is ``npusim.config``'s business.
"""

from __future__ import annotations

import re
from pathlib import Path

from npusim import config
from npusim.axmodel import Axmodel, AxmodelError
from npusim.config import Hardware
from npusim.errors import ConfigError, UsageError, did_you_mean

BASE = "ax650n"
"""The description whose keys a stored machine fills in."""


def find_hardware(hardware: str | Path | Hardware) -> Hardware:
    """A machine by built-in name, by path, or as it is.

    Raises:
        ConfigError: no such machine.
    """
    return hardware if isinstance(hardware, Hardware) else config.load(hardware)


def cores_of(npu_mode: str, hardware: Hardware) -> int:
    """How many cores ``NPU1``, ``NPU2``, ... stands for.

    Raises:
        UsageError: no such allocation on this machine.

    >>> cores_of("NPU3", config.load("ax650n"))
    3
    """
    modes = npu_modes(hardware)
    match = re.fullmatch(r"NPU(\d+)", npu_mode)
    if npu_mode not in modes or match is None:
        name = hardware.machine.name
        raise UsageError(f"{name} has no npu_mode {npu_mode!r}, only {', '.join(modes)}", did_you_mean(npu_mode, modes))
    return int(match[1])


def npu_modes(hardware: Hardware) -> tuple[str, ...]:
    """The allocations of a machine, the smallest first."""
    return tuple(f"NPU{cores + 1}" for cores in range(hardware.machine.cores))


def hardware_of(model: Axmodel) -> Hardware:
    """The machine a model was built for, from the values in its file.

    Raises:
        AxmodelError: this version describes machines by other values.
    """
    if model.hardware in config.NAMES:
        known = config.load(model.hardware)
        if known.fingerprint(model.hardware_values) == model.hardware_fingerprint:
            return known
    try:
        stored = config.load(BASE).with_values(model.hardware_values)
    except ConfigError as error:
        message = f"{model.name}: the machine it was built for cannot be restored ({error}); name one instead"
        raise AxmodelError(message) from error
    if stored.fingerprint(model.hardware_values) != model.hardware_fingerprint:
        message = "the machine it was built for has values this version does not know; name one instead"
        raise AxmodelError(f"{model.name}: {message}")
    return stored
