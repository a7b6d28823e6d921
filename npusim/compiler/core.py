"""``Core``: what lowering functions talk to. They ask for operands, constants and room, and say what to run.

A core looks for operands in its own OCM first, then in those of the others, and loads what nobody holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from isa.instruction import Instruction, Unit
from isa.instructions import Copy, Send

from .arena import Arena, Buffer, OutOfRoomError
from .holdings import Held, held_range, place_within, rectangle, tiling
from .joint import joint_dims
from .packing import Packed, pack, span
from .plan import Compute, Operand, Plan, Storage, Transfer
from .view import View

RUN_LIMIT = (1 << 24) - 1
COUNT_LIMIT = (1 << 16) - 1
OCM_STRIDE_LIMIT = (1 << 22) - 1
TRANSFER_DIMS = 3
CHUNK_BYTES = 64 * 1024
"""A contiguous transfer is cut into parts of this length, so that urgent ones need not wait long for their turn."""
SHARED_CHUNK_BYTES = 32 * 1024
"""The same where cores share DRAM: what one leaves idle between two transfers, others use."""
OPEN_PART = 4
"""A share of a result stands in one buffer if it takes at most this part of a core's OCM."""

Loops = tuple[tuple[int, int, int], ...]
"""Count and the strides of two sides, slowest first."""


@dataclass(slots=True, eq=False)
class Core:
    """One logical core while it is planned.

    Attributes:
        number: logical core.
        plan: the plan it adds to.
        arena: its private OCM.
        shared: the part of OCM in which all cores hold the same constants at the same addresses.
        cores: all cores of the program.
    """

    number: int
    plan: Plan
    arena: Arena
    shared: Arena
    cores: list[Core]
    opened: set[tuple[int, Held]] = field(default_factory=set)

    def run(self, unit: Unit, instruction: Instruction) -> None:
        """Let a unit execute an instruction."""
        self.plan.steps.append(Compute(self.number, unit, instruction, self.plan.origin))

    def fetch(self, view: View) -> Operand:
        """The view's elements in OCM: found where they are, put together from what cores hold, or loaded."""
        storage = self.plan.storages[view.storage]
        low, high = span(view)
        for held, buffer in self.arena.holding(view.storage):  # a range that covers it serves any view of it
            if held.covers(low, high):
                self.arena.touch(buffer)
                return _inside(buffer, view, held.low, storage)
        packed = pack(view)
        if packed is None:
            return _inside(self._assemble(storage, low, high), view, low, storage)
        key = Held(view.storage, view.offset, packed.key)
        found = self.arena.find(key)
        small = (high - low) * storage.item_bytes * OPEN_PART <= self.arena.size
        if found is None and small and self._present(view.storage, low, high) * 2 >= high - low:
            try:
                return _inside(self._assemble(storage, low, high), view, low, storage)
            except OutOfRoomError:  # the parts and the whole do not fit side by side
                pass
        if found is None:
            found = self.arena.take(key, packed.elements * storage.item_bytes)
            if not (self._piece_together(storage, key, found) or self._receive(storage, key, packed, found)):
                self._transfer(True, view.storage, view.offset, found.address, [packed.dims], storage)
        return Operand(found.address, packed.place(view), storage.dtype)

    def _others(self) -> list[Core]:
        """The other cores, the next one first."""
        return [*self.cores[self.number + 1 :], *self.cores[: self.number]]

    def _present(self, storage: str, low: int, high: int) -> int:
        """How many elements of a range are in OCM; those in two buffers count twice."""
        ranges = (held for held, _ in self.arena.holding(storage) if held.contiguous)
        return sum(max(0, min(high, held.high) - max(low, held.low)) for held in ranges)

    def _assemble(self, storage: Storage, low: int, high: int) -> Buffer:
        """A range in one buffer: copied from the buffers that hold parts of it, else sent by other cores or loaded."""
        own = [(self, *entry) for entry in self.arena.holding(storage.name)]
        for _, held, source in own:
            if held.low < high and low < held.high:
                self.arena.touch(source)
        buffer = self.arena.take(held_range(storage.name, low, high), (high - low) * storage.item_bytes)
        others = [(core, *entry) for core in self._others() for entry in core.arena.holding(storage.name)]
        for a, b in self._fill(storage, buffer, low, (low, high), own):
            for c, d in self._fill(storage, buffer, low, (a, b), others):
                key = held_range(storage.name, c, d)
                address = buffer.address + (c - low) * storage.item_bytes
                if not self._piece_together(storage, key, Buffer(key, address, (d - c) * storage.item_bytes)):
                    self._transfer(True, storage.name, c, address, [((d - c, 1, 1),)], storage)
        return buffer

    def _fill(
        self, storage: Storage, buffer: Buffer, base: int, part: tuple[int, int], sources: Sequence[Source]
    ) -> Iterator[tuple[int, int]]:  # fmt: skip
        """Bring what ranges hold of a part of a buffer that begins with element ``base``; yields what is missing."""
        at, high = part
        item = storage.item_bytes
        for core, held, source in sorted((s for s in sources if s[1].contiguous), key=lambda s: s[1].low):
            first, last = max(at, held.low), min(high, held.high)
            if first >= last:
                continue
            if first > at:
                yield at, first
            places = source.address + (first - held.low) * item, buffer.address + (first - base) * item
            self._bring(core, source, places, (last - first) * item)
            at = last
        if at < high:
            yield at, high

    def _piece_together(self, storage: Storage, key: Held, target: Buffer) -> bool:
        """Bring a rectangle, or whole rows, from rectangles that cores hold; False where some of it is missing."""
        parts = [
            (core, held, buffer)
            for core in (self, *self._others())
            for held, buffer in core.arena.holding(storage.name)
            if core is not self or not buffer.address <= target.address < buffer.address + buffer.size
        ]
        if key.contiguous:
            pitch = next((held.factors[0][1] for _, held, _ in parts if len(held.factors) == 2), 0)
        else:
            pitch = key.factors[0][1]
        wanted = rectangle(key, pitch) if pitch else None
        if wanted is None or wanted.elements * storage.item_bytes != target.size:
            return False
        rectangles = [(part, rectangle(part[1], pitch)) for part in parts]
        tiles = tiling(wanted, [(part, area) for part, area in rectangles if area is not None])
        if tiles is None:
            return False
        item = storage.item_bytes
        for (core, held, buffer), area in tiles:
            source, source_pitch = place_within(held, pitch, area.top, area.left)
            place, place_pitch = place_within(key, pitch, area.top, area.left)
            places = buffer.address + source * item, target.address + place * item
            rows = area.bottom - area.top
            strides = (source_pitch * item, place_pitch * item)
            self._bring(core, buffer, places, (area.right - area.left) * item, ((rows, *strides),))
        return True

    def _receive(self, storage: Storage, key: Held, packed: Packed, target: Buffer) -> bool:
        """Let another core send a view with gaps from a range that covers it, or from a copy of it."""
        item = storage.item_bytes
        for core in self._others():
            for held, buffer in core.arena.holding(key.storage):
                if held == key:
                    self._bring(core, buffer, (buffer.address, target.address), target.size)
                    return True
                if held.covers(key.low, key.high):
                    loops = [(n, s * item, o * item) for n, s, o in packed.dims]
                    run = loops.pop()[0] * item if loops[-1][1:] == (item, item) else item
                    if len(loops) > TRANSFER_DIMS:
                        return False
                    places = buffer.address + (key.low - held.low) * item, target.address
                    self._bring(core, buffer, places, run, tuple(loops))
                    return True
        return False

    def _bring(
        self, core: Core, source: Buffer, places: tuple[int, int], run: int, loops: Loops = ()
    ) -> None:  # fmt: skip
        """Copy bytes within the core, or let another one send them.

        Args:
            core: who holds them.
            source: the buffer they are in.
            places: addresses there and here.
            run: contiguous bytes.
            loops: count, stride there and stride here, slowest first.
        """
        longest = next((k for k, (count, _, _) in enumerate(loops) if count > COUNT_LIMIT), None)
        if longest is not None:
            count, there, here = loops[longest]
            for start in range(0, count, COUNT_LIMIT):
                part = (min(COUNT_LIMIT, count - start), there, here)
                moved = places[0] + start * there, places[1] + start * here
                self._bring(core, source, moved, run, (*loops[:longest], part, *loops[longest + 1 :]))
            return
        core.arena.use(source)
        fields: dict[str, Any] = {}
        for level, (count, there, here) in zip(range(len(loops), 0, -1), loops, strict=True):
            fields |= {f"count_{level}": count, f"src_stride_{level}": there, f"dst_stride_{level}": here}
        if core is self:
            self.run(Unit.CV, Copy(src=places[0], dst=places[1], run=run, **fields))
        else:
            core.run(Unit.SDMA, Send(src=places[0], dst_core=self.number, dst=places[1], run=run, **fields))

    def open(self, view: View | None) -> None:
        """Let the results of this step and its like stand in one buffer, if they are contiguous and it is not large.

        ``room`` then gives parts of it, and whoever fetches any of it later finds it.
        """
        if view is None or pack(view) is not None:
            return
        storage = self.plan.storages[view.storage]
        low, high = span(view)
        key = held_range(view.storage, low, high)
        if (self.plan.origin, key) in self.opened:
            return
        size = (high - low) * storage.item_bytes
        if size * OPEN_PART > self.arena.size:
            return
        self.arena.take(key, size)
        self.opened.add((self.plan.origin, key))

    def room(self, view: View) -> Operand:
        """Room for the view's elements as a result; nothing is loaded. Every element of a storage is written once."""
        storage = self.plan.storages[view.storage]
        low, high = span(view)
        for held, opened in self.arena.holding(view.storage):
            if (self.plan.origin, held) in self.opened and held.covers(low, high):
                self.arena.touch(opened)
                return _inside(opened, view, held.low, storage)
        packed = pack(view)
        if packed is None:
            buffer = self.arena.take(held_range(view.storage, low, high), (high - low) * storage.item_bytes)
            return _inside(buffer, view, low, storage)
        buffer = self.arena.take(Held(view.storage, view.offset, packed.key), packed.elements * storage.item_bytes)
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
            data: the bytes.
            common: every core is going to ask for it.
        """
        name = self.plan.constant(data)
        arenas = [self.shared, self.arena] if common and len(self.cores) > 1 else [self.arena]
        for arena in arenas:
            found = arena.find(("constant", name))
            if found is not None:
                return found.address
        try:
            made = arenas[0].take(("constant", name), len(data))
        except OutOfRoomError:
            if len(arenas) == 1:
                raise
            del arenas[0]  # each core loads a copy of its own
            made = self.arena.take(("constant", name), len(data))
        mask = (1 << len(self.cores)) - 1 if arenas[0] is self.shared else 0
        self._transfer(True, name, 0, made.address, [((len(data), 1, 1),)], self.plan.storages[name], mask)
        return made.address

    def temporary(self, size: int) -> int:
        """Room for bytes that live until the step ends."""
        return self.arena.take(object(), size).address

    def release(self) -> None:
        """The step is over."""
        self.arena.release()
        self.shared.release()

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
        chunk = CHUNK_BYTES if len(self.cores) == 1 else SHARED_CHUNK_BYTES
        if not dims and run > chunk:
            for start in range(0, run, chunk):
                part = min(chunk, run - start)
                self._nest(load, storage, offset + start, ocm + start, part, dims, mask)
            return
        assert run <= RUN_LIMIT, "an OCM is smaller than the longest run"
        self.plan.steps.append(
            Transfer(self.number, load, storage, offset, ocm, run, tuple(dims), self.plan.origin, mask)
        )


Source = tuple[Core, Held, Buffer]


def _inside(buffer: Buffer, view: View, low: int, storage: Storage) -> Operand:
    """A view of a buffer that holds the storage from element ``low`` on."""
    return Operand(buffer.address + (view.offset - low) * storage.item_bytes, view.axes, storage.dtype)
