"""Threads for one kernel call: off by default, worth it for large ones only.

Called by kernels whose tiles or rows are independent. Compiled kernels run without the GIL, so plain Python threads
do. Between calls they look out for work for a fraction of a millisecond and then sleep: waking a sleeper takes longer
than many a product.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from operator import index
from queue import SimpleQueue
from typing import Any

import numpy as np

from .tier import Tier

Array = np.ndarray[Any, Any]

WORTHWHILE = 25_000_000
"""Operations below which a call stays on its own thread: handing half of them over and waiting for it takes some 40
microseconds, in which a core does 4 million with AVX2 and 16 million with VNNI."""

PARTS = 3
"""Parts for each thread, taken as threads become free: one that starts late or runs slowly delays nobody for long."""

LEAST_OPERATIONS = 5_000_000
"""Operations of a part, at least."""

LEAST_TILES = {Tier.VNNI: 1, Tier.PORTABLE: 4}
"""Register tiles of a part, at least. The portable tier goes through all columns once for as many rows as it can, and
each part does so anew."""

_LOOKS = 500
"""Looks at a flag before a thread goes to sleep: some 0.5 ms."""
_SETTLE = 400
"""Rounds in which the caller reaches its own part: some 15 us."""

_count = [1]
_helpers: list[_Helper] = []
"""All there are."""
_idle: set[_Helper] = set()
"""Those without work. A call takes them from here; they come back by themselves, whatever became of the call."""


def set_threads(count: int) -> None:
    """Let a kernel call use up to ``count`` threads; the results do not depend on it.

    Raises:
        ValueError: if ``count`` is not positive.
        TypeError: if it is no whole number.
    """
    if index(count) < 1:
        raise ValueError(f"{count} threads: at least one is needed")
    _count[0] = index(count)


def split(run: Callable[[int, int], None], items: int, operations: int, least: int = 1) -> None:
    """Call ``run(begin, end)`` for all of ``items``, in parts on several threads if there is enough to do.

    A part has ``least`` items or more: what a part costs whatever its size is then spread over as many.
    """
    threads = min(_count[0], items // least)
    if threads <= 1 or operations < WORTHWHILE:
        run(0, items)
        return
    helpers: list[_Helper] = []
    try:
        _take(helpers, threads - 1)
        threads = len(helpers) + 1
        most = min(items // least, PARTS * threads, operations // LEAST_OPERATIONS)
        parts = max(most // threads * threads, threads) if helpers else 1  # as many for each
        _share(run, [items * part // parts for part in range(parts + 1)], helpers)
    finally:
        _idle.update(helpers)


def _share(run: Callable[[int, int], None], bounds: list[int], helpers: list[_Helper]) -> None:
    """Run the parts between bounds with some helpers, which are removed from the list as they begin."""
    tickets = iter(range(len(bounds) - 1))  # whose next() is one step under the GIL

    def work() -> None:
        for part in tickets:
            run(bounds[part], bounds[part + 1])

    pieces = [_Piece(work) for _ in helpers]
    try:
        for piece in pieces:
            helpers[-1].start(piece)
            helpers.pop()
        work()
    finally:
        deque(tickets, maxlen=0)  # after an interruption nothing else is begun
        _await(pieces)
    for piece in pieces:
        if piece.error is not None:
            raise piece.error


def split_rows(run: Callable[[Array, Array], None], src: Array, dst: Array, operations: int) -> None:
    """Call ``run(src, dst)`` for all rows of both; ``operations`` of a product take as long as an element."""
    split(lambda begin, end: run(src[begin:end], dst[begin:end]), len(dst), operations * dst.size)


class _Piece:
    """What one helper does for one call."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self.helper: _Helper | None = None
        """Set when the piece is in its hands."""
        self.number = 0
        """Of the pieces of the helper."""
        self._work = work
        self._done = False
        self._signal: SimpleQueue[None] = SimpleQueue()

    def do(self) -> None:
        """Do the work, in the helper's thread."""
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self.error = error
        self._done = True
        self._signal.put(None)

    def wait(self) -> None:
        """Return when the work is done. May be interrupted and called again."""
        if self.helper is not None and not self._done:
            self.helper.look_out(self.number)
            while not self._done:
                self._signal.get()


def _await(pieces: list[_Piece]) -> None:
    """Wait for all pieces, even where that is interrupted: nobody may write when the call is over."""
    interruption: BaseException | None = None
    left = list(pieces)
    while left:
        try:
            left[-1].wait()
            left.pop()
        except BaseException as error:  # noqa: BLE001 - raised when the others are done
            interruption = error
    if interruption is not None:
        raise interruption


class _Helper:
    """A thread that does one piece of work at a time."""

    def __init__(self) -> None:
        from .compiled import handover

        self._handover = handover
        self._flags = np.zeros(16, np.int64)
        """Pieces given, and 64 bytes on, pieces done."""
        self._given, self._done = self._flags.ctypes.data, self._flags[8:].ctypes.data
        self._number = 1
        """Of the next piece."""
        self._work: SimpleQueue[_Piece] = SimpleQueue()
        threading.Thread(target=self._serve, name=f"npusim-kernel-{len(_helpers)}", daemon=True).start()

    def start(self, piece: _Piece) -> None:
        """Hand a piece over; it has begun soon."""
        number = piece.number = self._number
        self._work.put(piece)
        piece.helper = self
        self._flags[0] = number

    def look_out(self, number: int) -> None:
        """Return when a piece is done, or after a moment."""
        self._handover.await_flag(self._done, number, _LOOKS)

    def _serve(self) -> None:
        while True:
            self._handover.answer(self._done, self._given, self._number - 1, _LOOKS, _SETTLE)
            self._work.get().do()
            self._number += 1
            _idle.add(self)


def _take(helpers: list[_Helper], wanted: int) -> None:
    """Append so many helpers: idle ones, and new ones while there are fewer; none where others have them all."""
    while len(helpers) < wanted:
        try:
            helpers.append(_idle.pop())
        except KeyError:
            if len(_helpers) >= wanted:
                return
            try:
                _helpers.append(_Helper())
            except RuntimeError:  # no thread can be started: there are too many, or Python is about to end
                return
            helpers.append(_helpers[-1])


def _forget() -> None:
    """A child process has no threads of its parent's."""
    _helpers.clear()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
