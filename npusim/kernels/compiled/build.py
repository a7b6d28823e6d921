"""How a function becomes a kernel: compiled once for one signature, kept on disk, loaded by every later process.

Used by the modules beside it as a decorator. No kernels in here.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

from isa import law

from ..tier import compiled_features

logger = logging.getLogger("npusim.kernels")

VERSION = 1
"""Bump to discard every cached kernel, when something outside the digested sources changes their meaning."""

listeners: list[Callable[[str, bool], None]] = []
"""Called with the name of each kernel that becomes ready, and whether it had to be compiled."""

_announced: list[str] = []
"""Where compiled kernels go, once the user has been told."""


@cache
def sources_digest() -> str:
    """Hash of all code that kernels are made of.

    numba's own index notices a change of the file that holds a function, not of the code generators and laws that
    the function calls.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256(str(VERSION).encode())
    for path in [*sorted(here.glob("*.py")), Path(str(law.__file__))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def require_features(features: frozenset[str]) -> None:
    """Refuse to go on where numba compiles for a CPU without these features; LLVM would abort the process.

    Raises:
        ImportError: naming those that are missing.
    """
    missing = sorted(features - compiled_features())
    if missing:
        raise ImportError(f"these kernels need CPU features that numba does not compile for here: {', '.join(missing)}")


class _DigestedCache(FunctionCache):
    """numba's on-disk cache, its key extended by ``sources_digest``."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), sources_digest())


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile the decorated module-level function for ``signature``, without the GIL, through the on-disk cache."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
        dispatcher._cache = _DigestedCache(function)
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        compiled = sum(dispatcher.stats.cache_misses.values()) > 0
        if compiled:
            _announce(dispatcher.stats.cache_path)
        for listener in listeners:
            listener(function.__qualname__, compiled)
        return dispatcher

    return decorate


def _announce(cache_path: str | None) -> None:
    if not _announced:
        _announced.append(str(cache_path))
        logger.warning("compiling kernels for this machine; later runs load them from %s", cache_path)
