"""Threads for one kernel call: off by default, worth it for large products only.

Called by the matrix kernels, whose tiles are independent. Compiled kernels run without the GIL, so plain Python threads
do; they sleep while they wait.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

WORTHWHILE = 60_000_000
"""Operations below which a call stays on its own thread: handing half of them over and waiting for it takes tens of
microseconds, in which a core does about 20 million."""

_count = [1]


def set_threads(count: int) -> None:
    """Let a kernel call use up to ``count`` threads; the results do not depend on it.

    Raises:
        ValueError: if ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"{count} threads: at least one is needed")
    _count[0] = count


def split(run: Callable[[int, int], None], items: int, operations: int) -> None:
    """Call ``run(begin, end)`` for all of ``items``, in equal parts on several threads if there is enough to do."""
    threads = min(_count[0], items)
    if threads == 1 or operations < WORTHWHILE:
        run(0, items)
        return
    bounds = [items * part // threads for part in range(threads + 1)]
    others = [_pool(threads - 1).submit(run, bounds[i], bounds[i + 1]) for i in range(1, threads)]
    run(0, bounds[1])
    for other in others:
        other.result()


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, "npusim-kernel")
