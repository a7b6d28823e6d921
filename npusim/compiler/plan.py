"""The plan: what every unit does, in one sequential order, with OCM places but without waits.

Lowering functions talk to ``Core``: they ask for operands, constants and room, and say which instructions to run.
Executed one after the other the plan is correct by construction; ``schedule`` lets the units run apart again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isa.dtypes import DType
from isa.instruction import Instruction, Unit
from isa.instructions import Copy
from isa.program import SegmentKind

from .arena import ALIGN, Arena, Buffer, OutOfRoomError
from .joint import Dim, joint_dims
from .view import Factor, View

RUN_LIMIT = (1 << 24) - 1
COUNT_LIMIT = (1 << 16) - 1
OCM_STRIDE_LIMIT = (1 << 22) - 1
TRANSFER_DIMS = 3
CHUNK_BYTES = 64 * 1024
"""A contiguous transfer is cut into parts of this length, so that urgent ones need not wait long for their turn."""
OPEN_PART = 4
"""A share of a result stands in one buffer if it takes at most this part of a core's OCM."""


@dataclass(slots=True, eq=False)
class Storage:
    """Bytes in DRAM that hold one tensor, densely.

    Attributes:
        name: unique.
        dtype: element type.
        elements: how many.
        kind: which segment it goes to.
        data: the bytes of constants.
    """

    name: str
    dtype: DType
    elements: int
    kind: SegmentKind
    data: np.ndarray[Any, Any] | None = None

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return self.dtype.numpy.itemsize

    @property
    def size_bytes(self) -> int:
        """Bytes in all."""
        return self.elements * self.item_bytes


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor, or a part of one, in OCM.

    Attributes:
        address: byte address of index 0.
        axes: factors of each logical axis, strides in elements.
        dtype: element type.
    """

    address: int
    axes: tuple[tuple[Factor, ...], ...]
    dtype: DType

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return self.dtype.numpy.itemsize

    def at(self, elements: int) -> Operand:
        """The same operand further on."""
        return Operand(self.address + elements * self.item_bytes, self.axes, self.dtype)


@dataclass(frozen=True, slots=True)
class Compute:
    """An instruction on a unit of a core."""

    core: int
    unit: Unit
    instruction: Instruction
    origin: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """A load, store or multicast between a storage and OCM; element offsets and strides of the storage in bytes."""

    core: int
    load: bool
    storage: str
    offset: int
    ocm: int
    run: int
    dims: tuple[tuple[int, int, int], ...]  # (count, storage stride, OCM stride), slowest first, at most three
    origin: int
    cores: int = 0  # mask of a multicast


Step = Compute | Transfer


@dataclass(slots=True, eq=False)
class Plan:
    """Steps in sequential order, and the storages they name."""

    steps: list[Step] = field(default_factory=list)
    storages: dict[str, Storage] = field(default_factory=dict)
    origin_names: list[str] = field(default_factory=list)
    origin: int = -1

    def begin(self, name: str) -> None:
        """What follows is done for ``name``."""
        self.origin = len(self.origin_names)
        self.origin_names.append(name)

    def add_storage(self, storage: Storage) -> Storage:
        """Enter a storage."""
        assert storage.name not in self.storages, f"storage {storage.name} exists"
        self.storages[storage.name] = storage
        return storage

    def constant(self, data: bytes) -> str:
        """The storage of a constant's bytes; equal bytes share one."""
        name = "c" + hashlib.sha256(data).hexdigest()[:24]
        if name not in self.storages:
            array = np.frombuffer(data, np.uint8)
            self.storages[name] = Storage(name, DType.U8, len(data), SegmentKind.PARAMETERS, array)
        return name


@dataclass(slots=True, eq=False)
class Core:
    """One logical core while it is planned.

    Attributes:
        number: logical core.
        plan: the plan it adds to.
        arena: its private OCM.
        shared: the part of OCM in which all cores hold the same constants at the same addresses.
        all_cores: how many cores the program has.
    """

    number: int
    plan: Plan
    arena: Arena
    shared: Arena
    all_cores: int
    opened: set[tuple[int, Any]] = field(default_factory=set)

    def run(self, unit: Unit, instruction: Instruction) -> None:
        """Let a unit execute an instruction."""
        self.plan.steps.append(Compute(self.number, unit, instruction, self.plan.origin))

    def fetch(self, view: View) -> Operand:
        """The view's elements in OCM: found where they are, put together from what is there, or loaded."""
        storage = self.plan.storages[view.storage]
        low, high = span(view)
        for buffer in self._ranges(view.storage):  # a contiguous range that covers it serves any view of it
            if buffer.key[2] <= low and high <= buffer.key[3]:
                self.arena.touch(buffer)
                return _inside(buffer, view, buffer.key[2], storage)
        packed = pack(view)
        small = (high - low) * storage.item_bytes * OPEN_PART <= self.arena.size
        if packed is None or (small and self._present(view.storage, low, high) * 2 >= high - low):
            try:
                buffer = self._assemble(storage, low, high)
            except OutOfRoomError:  # the parts and the whole do not fit side by side
                if packed is None:
                    raise
            else:
                return _inside(buffer, view, low, storage)
        key = ("packed", view.storage, view.offset, packed.key)
        found = self.arena.find(key)
        if found is None:
            found = self.arena.take(key, packed.elements * storage.item_bytes)
            self._transfer(True, view.storage, view.offset, found.address, [packed.dims], storage)
        return Operand(found.address, packed.place(view), storage.dtype)

    def _ranges(self, storage: str) -> list[Any]:
        """The buffers that hold contiguous ranges of a storage."""
        return [
            b for b in self.arena.buffers if isinstance(b.key, tuple) and b.key[0] == "range" and b.key[1] == storage
        ]

    def _present(self, storage: str, low: int, high: int) -> int:
        """How many elements of a range are in OCM; those in two buffers count twice."""
        return sum(max(0, min(high, b.key[3]) - max(low, b.key[2])) for b in self._ranges(storage))

    def _assemble(self, storage: Storage, low: int, high: int) -> Buffer:
        """A range in one buffer: copied from the buffers that hold parts of it, loaded where none does."""
        item = storage.item_bytes
        sources = [b for b in self._ranges(storage.name) if b.key[2] < high and low < b.key[3]]
        for source in sources:
            self.arena.touch(source)
        buffer = self.arena.take(("range", storage.name, low, high), (high - low) * item)
        at = low
        for source in sorted(sources, key=lambda b: b.key[2]):
            first, last = max(at, source.key[2]), min(high, source.key[3])
            if first >= last:
                continue
            if first > at:
                self._load(storage, at, first, buffer.address + (at - low) * item)
            self.run(
                Unit.CV,
                Copy(
                    src=source.address + (first - source.key[2]) * item,
                    dst=buffer.address + (first - low) * item, run=(last - first) * item,
                ),
            )  # fmt: skip
            at = last
        if at < high:
            self._load(storage, at, high, buffer.address + (at - low) * item)
        return buffer

    def _load(self, storage: Storage, low: int, high: int, address: int) -> None:
        """Load a contiguous range."""
        self._transfer(True, storage.name, low, address, [((high - low, 1, 1),)], storage)

    def open(self, view: View | None) -> None:
        """Let the results of this step and its like stand in one buffer, if they are contiguous and it is not large.

        ``room`` then gives parts of it, and whoever fetches any of it later finds it.
        """
        if view is None or pack(view) is not None:
            return
        storage = self.plan.storages[view.storage]
        low, high = span(view)
        key = ("range", view.storage, low, high)
        if (self.plan.origin, key) in self.opened:
            return
        size = (high - low) * storage.item_bytes
        if size * OPEN_PART > self.arena.size:
            return
        self._forget(view.storage, low, high)
        self.arena.take(key, size)
        self.opened.add((self.plan.origin, key))

    def room(self, view: View) -> Operand:
        """Room for the view's elements as a result; nothing is loaded, and old copies of them are forgotten."""
        storage = self.plan.storages[view.storage]
        low, high = span(view)
        for opened in self._ranges(view.storage):
            if (self.plan.origin, opened.key) in self.opened and opened.key[2] <= low and high <= opened.key[3]:
                self.arena.touch(opened)
                return _inside(opened, view, opened.key[2], storage)
        packed = pack(view)
        if packed is None:
            key: Any = ("range", view.storage, low, high)
            self._forget(view.storage, low, high)
            buffer = self.arena.take(key, (high - low) * storage.item_bytes)
            return _inside(buffer, view, low, storage)
        key = ("packed", view.storage, view.offset, packed.key)
        self._forget(view.storage, low, high)
        buffer = self.arena.take(key, packed.elements * storage.item_bytes)
        return Operand(buffer.address, packed.place(view), storage.dtype)

    def flush(self, view: View, operand: Operand) -> None:
        """Store a result to its storage."""
        storage = self.plan.storages[view.storage]
        dims = joint_dims([view.axes, operand.axes])
        assert dims is not None, "a result has the factors of its view"
        loops = tuple((dim.size, dim.strides[0], dim.strides[1]) for dim in dims)
        self._transfer(False, view.storage, view.offset, operand.address, [loops], storage)

    def constant(self, data: bytes, *, common: bool = True) -> int:
        """OCM address of a constant's bytes; a common one is multicast to all cores at once.

        Args:
            common: every core is going to ask for it.
        """
        name = self.plan.constant(data)
        storage = self.plan.storages[name]
        arena = self.shared if common and self.all_cores > 1 else self.arena
        found = arena.find(("constant", name))
        if found is None:
            found = arena.take(("constant", name), len(data))
            mask = (1 << self.all_cores) - 1 if arena is self.shared else 0
            self._transfer(True, name, 0, found.address, [((len(data), 1, 1),)], storage, mask)
        return found.address

    def temporary(self, size: int) -> int:
        """Room for bytes that live until the step ends."""
        return self.arena.take(object(), size).address

    def release(self) -> None:
        """The step is over."""
        self.arena.release()
        self.shared.release()

    def _forget(self, storage: str, low: int, high: int) -> None:
        """Drop copies of a range that is written anew."""
        self.arena.buffers = [b for b in self.arena.buffers if not _overlaps(b, storage, low, high)]

    def _transfer(
        self, load: bool, storage: str, offset: int, ocm: int, groups: Iterable[tuple[tuple[int, int, int], ...]],
        of: Storage, mask: int = 0,
    ) -> None:  # fmt: skip
        """Transfers that walk loops (count, storage stride, OCM stride) in elements, slowest first."""
        item = of.item_bytes
        for loops in groups:
            dims = [(n, s * item, o * item) for n, s, o in loops if n > 1]
            run = item
            if dims and dims[-1][1] == item and dims[-1][2] == item:
                run = dims.pop()[0] * item
            self._nest(load, storage, offset * item, ocm, run, dims, mask)

    def _nest(
        self, load: bool, storage: str, offset: int, ocm: int, run: int, dims: list[tuple[int, int, int]], mask: int
    ) -> None:
        """Unroll what one transfer cannot hold."""
        if len(dims) > TRANSFER_DIMS or any(n > COUNT_LIMIT or o > OCM_STRIDE_LIMIT for n, _, o in dims):
            worst = next((k for k, (n, _, o) in enumerate(dims) if n > COUNT_LIMIT or o > OCM_STRIDE_LIMIT), 0)
            count, outer, inner = dims[worst]
            rest = dims[:worst] + dims[worst + 1 :]
            for index in range(count):
                self._nest(load, storage, offset + index * outer, ocm + index * inner, run, rest, mask)
            return
        if not dims and run > CHUNK_BYTES:
            for start in range(0, run, CHUNK_BYTES):
                part = min(CHUNK_BYTES, run - start)
                self._nest(load, storage, offset + start, ocm + start, part, dims, mask)
            return
        assert run <= RUN_LIMIT, "an OCM is smaller than the longest run"
        self.plan.steps.append(
            Transfer(self.number, load, storage, offset, ocm, run, tuple(dims), self.plan.origin, mask)
        )


def span(view: View) -> tuple[int, int]:
    """First element of the storage that a view names, and the one after its last."""
    last = view.offset + sum((size - 1) * stride for axis in view.axes for size, stride in axis)
    return view.offset, last + 1


@dataclass(frozen=True, slots=True)
class Packed:
    """How a view with gaps lies in OCM: its factors in the order of the storage, without the gaps."""

    key: tuple[Factor, ...]
    elements: int
    dims: tuple[tuple[int, int, int], ...]
    places: tuple[tuple[int, int, int], ...]  # (storage stride, size, packed stride)

    def place(self, view: View) -> tuple[tuple[Factor, ...], ...]:
        """The view's factors with packed strides."""

        def packed(stride: int) -> int:
            for base, size, step in self.places:
                if base <= stride < base * size:
                    return step * (stride // base)
            raise AssertionError("a factor of the view is one of the packing's")

        return tuple(tuple((n, packed(s)) for n, s in axis if n > 1) for axis in view.axes)


def pack(view: View) -> Packed | None:
    """The packing of a view's elements, or None where they are contiguous already. Repeated elements count once."""
    factors = sorted((f for axis in view.axes for f in axis if f[0] > 1 and f[1] > 0), key=lambda f: -f[1])
    joined: list[Factor] = []
    for size, stride in factors:
        if joined and joined[-1][1] == size * stride:
            joined[-1] = (joined[-1][0] * size, stride)
        else:
            joined.append((size, stride))
    elements = int(np.prod([n for n, _ in joined], dtype=np.int64))
    low, high = span(view)
    if elements == high - low:
        return None
    places, step = [], 1
    for size, stride in reversed(joined):
        places.append((stride, size, step))
        step *= size
    places.reverse()
    dims = tuple((size, stride, step) for stride, size, step in places)
    return Packed(tuple(joined), elements, dims, tuple(places))


def _inside(buffer: Buffer, view: View, low: int, storage: Storage) -> Operand:
    """A view of a buffer that holds the storage from element ``low`` on."""
    return Operand(buffer.address + (view.offset - low) * storage.item_bytes, view.axes, storage.dtype)


def _overlaps(buffer: Buffer, storage: str, low: int, high: int) -> bool:
    key = buffer.key
    if not isinstance(key, tuple) or len(key) < 3 or key[1] != storage:
        return False
    if key[0] == "range":
        return bool(key[2] < high and low < key[3])
    factors = key[3]
    end = key[2] + sum((n - 1) * s for n, s in factors) + 1
    return bool(key[2] < high and low < end)


__all__ = ["ALIGN", "Compute", "Core", "Dim", "Operand", "Plan", "Storage", "Transfer", "pack", "span"]
