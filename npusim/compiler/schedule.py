"""From the sequential plan to streams: transfers move forward, and the waits that the hazards ask for are added.

Waits are derived, never written by hand: two steps of different units are ordered exactly where they touch a common
byte and one of them writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from isa.dtypes import item_bytes
from isa.instruction import UNITS_PER_CORE, Instruction, Unit, Wait, unit_number
from isa.instructions import Load, Multicast, Store, Sync
from isa.program import SegmentKind
from isa.region import OWN_CORE, Box, Space, intersection, make_box

from .plan import Compute, Plan, Step, Transfer

HOIST_WINDOW = 48
"""How many steps a load may overtake."""

Touch = tuple[tuple[int, int], Box, bool]
"""Memory, box, whether it is written."""


@dataclass(slots=True, eq=False)
class Placed:
    """A step as an instruction, with what it touches."""

    unit: int
    instruction: Instruction
    origin: int
    touches: list[Touch]
    is_load: bool


def drop_dead_stores(plan: Plan) -> list[Step]:
    """The steps without the stores of scratch bytes that no later step loads."""
    loaded: dict[str, list[tuple[int, int]]] = {}
    kept: list[Step] = []
    for step in reversed(plan.steps):
        if isinstance(step, Transfer):
            low = step.offset
            high = low + sum((count - 1) * stride for count, stride, _ in step.dims) + step.run
            if step.load:
                loaded.setdefault(step.storage, []).append((low, high))
            elif plan.storages[step.storage].kind is SegmentKind.SCRATCH and not any(
                a < high and low < b for a, b in loaded.get(step.storage, ())
            ):
                continue
        kept.append(step)
    kept.reverse()
    return kept


def place(steps: Iterable[Step], addresses: dict[str, tuple[int, int]]) -> list[Placed]:
    """Steps as instructions.

    Args:
        addresses: segment and offset of each storage.
    """
    placed = []
    for step in steps:
        if isinstance(step, Compute):
            unit, instruction = unit_number(step.core, step.unit), step.instruction
        else:
            unit, instruction = unit_number(step.core, Unit.SDMA), transfer_instruction(step, addresses)
        core = unit // UNITS_PER_CORE
        touches = [(*_footprint(r, core), False) for r in instruction.reads()]
        touches += [(*_footprint(r, core), True) for r in instruction.writes()]
        touches = [t for t in touches if t[1].run]
        placed.append(Placed(unit, instruction, step.origin, touches, isinstance(step, Transfer) and step.load))
    return placed


def transfer_instruction(step: Transfer, addresses: dict[str, tuple[int, int]]) -> Instruction:
    """The load, multicast or store of a transfer."""
    segment, base = addresses[step.storage]
    dims = [(1, 0, 0)] * (3 - len(step.dims)) + list(step.dims)
    fields: dict[str, Any] = {"ocm": step.ocm, "segment": segment, "offset": base + step.offset, "run": step.run}
    for level, (count, dram_stride, ocm_stride) in zip((3, 2, 1), dims, strict=True):
        fields |= {f"count_{level}": count, f"dram_stride_{level}": dram_stride, f"ocm_stride_{level}": ocm_stride}
    if not step.load:
        return Store(**fields)
    return Multicast(**fields, cores=step.cores) if step.cores else Load(**fields)


def _footprint(region: Any, core: int) -> tuple[tuple[int, int], Box]:
    place = core if region.space is Space.OCM and region.place == OWN_CORE else int(region.place)
    box = make_box(int(region.base), int(region.run * item_bytes(region.dtype)), region.counts, region.strides)
    return (int(region.space), place), box


def conflict(a: Placed, b: Placed) -> bool:
    """Whether the order of two steps matters."""
    for memory, box, writes in a.touches:
        for other, there, wrote in b.touches:
            if (
                memory == other and (writes or wrote) and box.base < there.end and there.base < box.end
                and intersection(box, there) is not None
            ):  # fmt: skip
                return True
    return False


def hoist(placed: list[Placed]) -> list[Placed]:
    """Let loads overtake what they do not depend on, as far as the load before them."""
    result: list[Placed] = []
    for step in placed:
        at = len(result)
        if step.is_load:
            limit = max(0, at - HOIST_WINDOW)
            while at > limit:
                before = result[at - 1]
                if (before.is_load and before.unit == step.unit) or conflict(before, step):
                    break
                at -= 1
        result.insert(at, step)
    return result


@dataclass(slots=True, eq=False)
class _Access:
    box: Box
    unit: int
    position: int
    write: bool


@dataclass(slots=True, eq=False)
class _Streams:
    """Streams under construction and what each instruction knows of the others."""

    streams: dict[int, list[Instruction]] = field(default_factory=dict)
    origins: dict[int, list[int]] = field(default_factory=dict)
    clocks: dict[int, list[dict[int, int]]] = field(default_factory=dict)
    live: dict[tuple[int, int], list[_Access]] = field(default_factory=dict)

    def add(self, step: Placed) -> None:
        """Append a step to its unit's stream, behind what it depends on."""
        unit = step.unit
        stream = self.streams.setdefault(unit, [])
        clocks = self.clocks.setdefault(unit, [])
        clock = dict(clocks[-1]) if clocks else {}
        needed: dict[int, int] = {}
        for memory, box, write in step.touches:
            for access in self.live.get(memory, ()):
                if access.unit == unit or not (write or access.write) or access.position < needed.get(access.unit, 0):
                    continue
                if clock.get(access.unit, 0) > access.position:
                    continue
                if box.base < access.box.end and access.box.base < box.end and intersection(box, access.box):
                    needed[access.unit] = access.position + 1
        waits = self._prune(needed)
        for wait in waits:
            for other, value in self.clocks[wait.unit][wait.value - 1].items():
                clock[other] = max(clock.get(other, 0), value)
            clock[wait.unit] = max(clock.get(wait.unit, 0), wait.value)
        clock.pop(unit, None)
        instruction = step.instruction
        if len(waits) > instruction.layout.max_waits:
            stream.append(Sync(waits=tuple(waits)))
            self.origins.setdefault(unit, []).append(step.origin)
            clocks.append(clock)
        elif waits:
            instruction = replace(instruction, waits=tuple(waits))
        position = len(stream)
        stream.append(instruction)
        self.origins.setdefault(unit, []).append(step.origin)
        clocks.append(clock)
        for memory, box, write in step.touches:
            self._record(memory, _Access(box, unit, position, write))

    def _prune(self, needed: dict[int, int]) -> list[Wait]:
        """Drop waits that another one implies."""
        waits = [Wait(unit, value) for unit, value in sorted(needed.items())]
        kept = []
        for wait in waits:
            implied = any(
                self.clocks[other.unit][other.value - 1].get(wait.unit, 0) >= wait.value
                for other in waits
                if other is not wait
            )
            if not implied:
                kept.append(wait)
        return kept

    def _record(self, memory: tuple[int, int], access: _Access) -> None:
        """Enter an access and drop those it makes redundant: covered by its bytes, and ordered before it."""
        live = self.live.setdefault(memory, [])
        box = access.box
        solid = not box.dims
        if access.write:
            live[:] = [
                a for a in live
                if not (a.box == box or (solid and box.base <= a.box.base and a.box.end <= box.end))
                or (a.unit == access.unit and a.position == access.position)
            ]  # fmt: skip
        else:
            live[:] = [a for a in live if a.write or a.unit != access.unit or a.box != box]
        live.append(access)


def assign_waits(placed: Sequence[Placed]) -> tuple[dict[int, list[Instruction]], dict[int, list[int]]]:
    """Streams and origins by unit number."""
    streams = _Streams()
    for step in placed:
        streams.add(step)
    return streams.streams, streams.origins
