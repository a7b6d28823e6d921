"""Compile, or load, every kernel of the active tier ahead of time.

Called by ``npusim info --warmup``, which draws the progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from . import tier


def _matrix_vnni() -> Any:
    from .compiled import matrix_vnni

    return matrix_vnni


def _depthwise_vnni() -> Any:
    from .compiled import depthwise_vnni

    return depthwise_vnni


def _matrix_portable() -> Any:
    from .compiled import matrix_portable

    return matrix_portable


def _depthwise_portable() -> Any:
    from .compiled import depthwise_portable

    return depthwise_portable


def _elementwise() -> Any:
    from .compiled import elementwise

    return elementwise


def _lookup() -> Any:
    from .compiled import lookup

    return lookup


def _normalize() -> Any:
    from .compiled import normalize

    return normalize


def _pool() -> Any:
    from .compiled import pool

    return pool


def _rescale() -> Any:
    from .compiled import rescale

    return rescale


def _handover() -> Any:
    from .compiled import handover

    return handover


_COMMON = (_depthwise_portable, _elementwise, _lookup, _normalize, _pool, _rescale, _handover)
_FAMILIES: dict[tier.Tier, tuple[Callable[[], ModuleType], ...]] = {
    tier.Tier.VNNI: (_matrix_vnni, _depthwise_vnni, *_COMMON),
    tier.Tier.PORTABLE: (_matrix_portable, *_COMMON),
    tier.Tier.NUMPY: (),
}


def warmup() -> Iterator[tuple[str, int, int]]:
    """Make the kernels of the active tier ready, one family a step.

    Yields:
        The family that became ready, how many are, and how many there will be.
    """
    families = _FAMILIES[tier.active()]
    for done, load in enumerate(families, 1):
        load()
        yield load.__name__.strip("_"), done, len(families)
