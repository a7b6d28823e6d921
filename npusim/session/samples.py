"""Seeded inputs for a model that has to run on something: the same on every machine.

Used by commands and checks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from npusim.axmodel import Port
from npusim.session.call import numpy_type


def random_feeds(ports: Sequence[Port], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """An array for every input."""
    return {port.name: random_array(port, seed) for port in ports}


def random_array(port: Port, seed: int = 0) -> np.ndarray[Any, Any]:
    """Normal numbers for floats, every integer of 8- and 16-bit types, 0 and 1 for wider ones and booleans.

    Wide integers are indices as a rule, and 0 and 1 are in range of any table worth indexing.
    """
    digest = hashlib.sha256(f"{seed}:{port.name}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    dtype = numpy_type(port)
    if dtype.kind == "f":
        return generator.standard_normal(port.shape).astype(dtype)
    if dtype.kind == "b" or dtype.itemsize > 2:
        return generator.integers(0, 2, port.shape).astype(dtype)
    info = np.iinfo(dtype)
    return generator.integers(info.min, info.max, port.shape, dtype, endpoint=True)
