"""Threads for one kernel call: off by default, worth it for large products only.

Called by the matrix kernels, whose tiles are independent. Compiled kernels run without the GIL, so plain Python threads
do; they sleep while they wait.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from .tier import Tier

WORTHWHILE = 60_000_000
"""Operations below which a call stays on its own thread: handing half of them over and waiting for it takes tens of
microseconds, in which a core does about 20 million."""

PARTS = 3
"""Parts for each thread, taken as threads become free: one that starts late or runs slowly delays nobody for long."""

LEAST_TILES = {Tier.VNNI: 1, Tier.PORTABLE: 4}
"""Register tiles of a part, at least. The portable tier goes through all columns once for as many rows as it can, and
each part does so anew."""

_count = [1]


def set_threads(count: int) -> None:
    """Let a kernel call use up to ``count`` threads; the results do not depend on it.

    Raises:
        ValueError: if ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"{count} threads: at least one is needed")
    _count[0] = count


def split(run: Callable[[int, int], None], items: int, operations: int, least: int = 1) -> None:
    """Call ``run(begin, end)`` for all of ``items``, in parts on several threads if there is enough to do.

    A part has ``least`` items or more: what a part costs whatever its size is then spread over as many.
    """
    threads = min(_count[0], items // least)
    if threads <= 1 or operations < WORTHWHILE:
        run(0, items)
        return
    parts = min(items // least, PARTS * threads)
    bounds = [items * part // parts for part in range(parts + 1)]
    tickets = itertools.count()  # whose next() is one step under the GIL

    def work() -> None:
        while (part := next(tickets)) < parts:
            run(bounds[part], bounds[part + 1])

    others = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        if not other.cancel():  # one that has not begun by now has nothing left to do
            other.result()


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, "npusim-kernel")
