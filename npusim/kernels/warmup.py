"""Compile, or load, every kernel of the active tier ahead of time.

Called by ``npusim info --warmup``, which draws the progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

from . import tier


def _matrix_vnni() -> None:
    from .compiled import matrix_vnni as _matrix_vnni


def _depthwise_vnni() -> None:
    from .compiled import depthwise_vnni as _depthwise_vnni


def _matrix_portable() -> None:
    from .compiled import matrix_portable as _matrix_portable


def _depthwise_portable() -> None:
    from .compiled import depthwise_portable as _depthwise_portable


def _elementwise() -> None:
    from .compiled import elementwise as _elementwise


def _lookup() -> None:
    from .compiled import lookup as _lookup


def _normalize() -> None:
    from .compiled import normalize as _normalize


def _pool() -> None:
    from .compiled import pool as _pool


def _rescale() -> None:
    from .compiled import rescale as _rescale


_COMMON = (_depthwise_portable, _elementwise, _lookup, _normalize, _pool, _rescale)
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
