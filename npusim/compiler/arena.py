"""One core's OCM as a cache of what it holds: parts of storages, constants, and room for results.

Planning happens in program order; whoever needs room takes it from what was used longest ago. Hazards between old and
new owners of an address are the scheduler's business, so nothing here waits.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from npusim.errors import NpusimError

from .holdings import Held

ALIGN = 64


class OutOfRoomError(NpusimError):
    """What one step needs at once does not fit the OCM; the tiler has to cut smaller."""


@dataclass(slots=True, eq=False)
class Buffer:
    """A range of OCM and what it holds.

    Attributes:
        key: what is in it: ``Held`` for a part of a storage.
        address: first byte.
        size: bytes.
        pinned: taking part in the current step.
        used: when it was last asked for.
        live: whether anybody may ask for it again.
    """

    key: Hashable
    address: int
    size: int
    pinned: bool = True
    used: int = 0
    live: bool = True


@dataclass(slots=True)
class Arena:
    """A stretch of OCM that evicts what nobody wants any more, then the least recently used.

    Attributes:
        base: first byte.
        size: bytes.
    """

    base: int
    size: int
    buffers: list[Buffer] = field(default_factory=list)  # by address
    keys: dict[Hashable, Buffer] = field(default_factory=dict)
    holdings: dict[str, list[tuple[Held, Buffer]]] = field(default_factory=dict)  # by storage
    clock: int = 0

    def find(self, key: Hashable) -> Buffer | None:
        """The buffer that holds ``key``, pinned for this step; None where there is none."""
        buffer = self.keys.get(key)
        return None if buffer is None else self.touch(buffer)

    def holding(self, storage: str) -> list[tuple[Held, Buffer]]:
        """The buffers that hold parts of a storage, in the order in which they were taken."""
        return self.holdings.get(storage, [])

    def touch(self, buffer: Buffer) -> Buffer:
        """Mark a buffer as used now and pin it."""
        self.use(buffer)
        buffer.pinned = True
        return buffer

    def use(self, buffer: Buffer) -> None:
        """Mark a buffer as used now."""
        self.clock += 1
        buffer.used = self.clock

    def take(self, key: Hashable, size: int) -> Buffer:
        """Room for ``key``, pinned; evicts what nobody wants any more, then what was used longest ago.

        Raises:
            OutOfRoomError: the pinned buffers leave no gap of this size.
        """
        while True:
            address = self._gap(size)
            if address is not None:
                buffer = Buffer(key, address, size)
                insort(self.buffers, buffer, key=lambda b: b.address)
                self.keys[key] = buffer
                if isinstance(key, Held):
                    self.holdings.setdefault(key.storage, []).append((key, buffer))
                return self.touch(buffer)
            victims = [b for b in self.buffers if not b.pinned]
            if not victims:
                raise OutOfRoomError(f"no {size} bytes left of {self.size}")
            self.drop(min(victims, key=lambda b: (b.live, b.used)))

    def retire(self, storage: str) -> None:
        """Nobody is going to ask for a storage again."""
        for _, buffer in self.holding(storage):
            buffer.live = False

    def drop(self, buffer: Buffer) -> None:
        """Forget what a buffer holds."""
        self.buffers.remove(buffer)
        if self.keys.get(buffer.key) is buffer:
            del self.keys[buffer.key]
        if isinstance(buffer.key, Held):
            held = self.holdings[buffer.key.storage]
            held.remove((buffer.key, buffer))
            if not held:
                del self.holdings[buffer.key.storage]

    def release(self) -> None:
        """The step is over: nothing is pinned."""
        for buffer in self.buffers:
            buffer.pinned = False

    def _gap(self, size: int) -> int | None:
        """The smallest gap that fits, so that large ones stay."""
        best: tuple[int, int] | None = None
        for start, end in self._gaps():
            if end - start >= size and (best is None or end - start < best[0]):
                best = (end - start, start)
        return None if best is None else best[1]

    def _gaps(self) -> Iterator[tuple[int, int]]:
        at = self.base
        for buffer in self.buffers:
            if buffer.address > at:
                yield at, buffer.address
            at = -(-(buffer.address + buffer.size) // ALIGN) * ALIGN
        if self.base + self.size > at:
            yield at, self.base + self.size
