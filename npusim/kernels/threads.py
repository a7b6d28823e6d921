"""Threads for one kernel call: off by default, worth it for large ones only.

Called by kernels whose tiles or rows are independent. Compiled kernels run without the GIL, so plain Python threads
do. Between calls they look out for work for a fraction of a millisecond and then sleep: waking a sleeper takes longer
than many a product.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from typing import Any

import numpy as np

from .tier import Tier

Array = np.ndarray[Any, Any]

WORTHWHILE = 10_000_000
"""Operations below which a call stays on its own thread: handing half of them over and waiting for it takes 10 to 20
microseconds, in which a core does up to 8 million."""

PARTS = 3
"""Parts for each thread, taken as threads become free: one that starts late or runs slowly delays nobody for long."""

LEAST_OPERATIONS = 5_000_000
"""Operations of a part, at least."""

LEAST_TILES = {Tier.VNNI: 1, Tier.PORTABLE: 4}
"""Register tiles of a part, at least. The portable tier goes through all columns once for as many rows as it can, and
each part does so anew."""

_LOOKS = 500
"""Looks at a flag before a thread goes to sleep: some 0.5 ms."""
_SETTLE = 200
"""Rounds in which the caller reaches its own part: some 5 us."""

_count = [1]
_calling = [threading.Lock()]
"""Held by the call that has the helpers; others do without."""


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
    if threads <= 1 or operations < WORTHWHILE or not _calling[0].acquire(blocking=False):
        run(0, items)
        return
    try:
        most = min(items // least, PARTS * threads, operations // LEAST_OPERATIONS)
        parts = max(most // threads * threads, threads)  # as many for each
        bounds = [items * part // parts for part in range(parts + 1)]
        tickets = itertools.count()  # whose next() is one step under the GIL

        def work() -> None:
            while (part := next(tickets)) < parts:
                run(bounds[part], bounds[part + 1])

        helpers = [_helper(number) for number in range(threads - 1)]
        for helper in helpers:
            helper.start(work)
        try:
            work()
        finally:
            outcomes = [helper.finish() for helper in helpers]
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
    finally:
        _calling[0].release()


def split_rows(run: Callable[[Array, Array], None], src: Array, dst: Array, operations: int) -> None:
    """Call ``run(src, dst)`` for all rows of both; ``operations`` are multiply-adds that take as long as an element."""
    split(lambda begin, end: run(src[begin:end], dst[begin:end]), len(dst), operations * dst.size)


class _Helper:
    """A thread that does one piece of work at a time."""

    def __init__(self, name: str) -> None:
        from .compiled import handover

        self._handover = handover
        self._flags = np.zeros(16, np.int64)
        """Pieces given, and 64 bytes on, pieces done."""
        self._given, self._done = self._flags.ctypes.data, self._flags[8:].ctypes.data
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._outcomes: SimpleQueue[BaseException | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def start(self, work: Callable[[], None]) -> None:
        """Hand work over; it has begun soon."""
        self._work.put(work)
        self._flags[0] += 1

    def finish(self) -> BaseException | None:
        """Wait for the end of the work; what it raised."""
        self._handover.await_flag(self._done, self._flags[0], _LOOKS)
        return self._outcomes.get()

    def _serve(self) -> None:
        for served in itertools.count():
            self._handover.answer(self._done, self._given, served, _LOOKS, _SETTLE)
            self._outcomes.put(_outcome(self._work.get()))


def _outcome(work: Callable[[], Any]) -> BaseException | None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - the caller raises it
        return error
    return None


@cache
def _helper(number: int) -> _Helper:
    return _Helper(f"npusim-kernel-{number}")


def _forget() -> None:
    """A child process has no threads of its parent's."""
    _calling[0] = threading.Lock()
    _helper.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
