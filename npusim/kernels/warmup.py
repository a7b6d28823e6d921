"""Compile, or load, every kernel of the active tier ahead of time.

Called by ``npusim info --warmup``, which draws the progress.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from . import tier

_COMMON = ("depthwise_portable", "elementwise", "lookup", "normalize", "pool", "rescale")
_MODULES = {
    tier.Tier.VNNI: ("matrix_vnni", "depthwise_vnni", *_COMMON),
    tier.Tier.PORTABLE: ("matrix_portable", *_COMMON),
    tier.Tier.NUMPY: (),
}


def warmup() -> Iterator[tuple[str, int, int]]:
    """Make the kernels of the active tier ready, one family a step.

    Yields:
        The family that became ready, how many are, and how many there will be.
    """
    names = _MODULES[tier.active()]
    for done, name in enumerate(names, 1):
        importlib.import_module(f".compiled.{name}", __package__)
        yield name, done, len(names)
