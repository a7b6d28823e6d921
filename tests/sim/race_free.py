"""Random programs without races: hypothesis draws them, and each instruction waits for whatever it must come after.

Memory is a set of slots. An instruction reads slots that hold something and overwrites others whole; it waits for the
last writer of what it reads, and for writer and readers of what it overwrites. What it waits for was drawn before it,
so the order of drawing is one in which the program can run: a reference for the values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from isa.instruction import UNITS_PER_CORE, Instruction, Unit, Wait, unit_number
from isa.instructions import (
    Barrier,
    Copy,
    End,
    Fill,
    Load,
    Lookup,
    Matmul,
    Multicast,
    Parameters,
    Send,
    Store,
    Sync,
    Transpose,
)
from isa.memory import Memory
from isa.program import Program, Segment, SegmentKind, make_program
from isa.verify import Limits, verify

SLOT = 256
SLOTS = 12
PITCH = 0x1500  # twelve slots spread over the four banks of the small machine
INPUT_BYTES = 1 << 14
OUTPUT_SLOTS = 8
RUN = 64  # an output slot is four runs of this, interleaved with the other slots
PARAMETERS = SLOTS - 1  # this slot of every core holds a parameter block and is never overwritten

LIMITS = Limits(cores=3, ocm_bytes=1 << 16)  # the small machine's

BLOCK = Parameters(zero=10, low=0, high=255, factor_a=np.float32(0.01))
SEGMENTS = (
    Segment(name="x", kind=SegmentKind.INPUT, size_bytes=INPUT_BYTES),
    Segment(name="y", kind=SegmentKind.OUTPUT, size_bytes=OUTPUT_SLOTS * SLOT),
    Segment(
        name="p", kind=SegmentKind.PARAMETERS, size_bytes=SLOT,
        data=np.frombuffer(BLOCK.pack(np.zeros(SLOT - 32, np.uint8)), np.uint8),
    ),
)  # fmt: skip

Slot = tuple[str, int, int]  # ("ocm", core, slot) or ("dram", 0, slot)


@dataclass
class Access:
    """Who touched a slot last: unit and counter value after the access."""

    writer: tuple[int, int]
    readers: dict[int, int]


@dataclass(frozen=True)
class Case:
    """A program, and its instructions in the order they were drawn, with their units."""

    program: Program
    drawn: tuple[tuple[int, Any], ...]

    def outputs(self, inputs: Any, ocm_bytes: int) -> Any:
        """The bytes of ``y`` after the instructions ran one after the other, by their own definitions."""
        ocm = [np.zeros(ocm_bytes, np.uint8) for _ in range(self.program.cores)]
        dram = [inputs.copy(), np.zeros(SEGMENTS[1].size_bytes, np.uint8), np.array(SEGMENTS[2].data)]
        for unit, instruction in self.drawn:
            instruction.operation(Memory(ocm, dram, unit // UNITS_PER_CORE))
        return dram[1]


class Weaver:
    """Grows a case, one instruction at a time."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.streams: dict[int, list[Any]] = {}
        self.drawn: list[tuple[int, Any]] = []
        self.touched: dict[Slot, Access] = {}
        self.masks: dict[int, int] = {}

    def written(self, core: int) -> list[int]:
        """OCM slots of a core that hold something."""
        return [slot for slot in range(SLOTS) if ("ocm", core, slot) in self.touched]

    def add(self, unit: int, instruction: Any, reads: list[Slot], writes: list[Slot]) -> None:
        needs: dict[int, int] = {}
        for slot in (*reads, *writes):
            access = self.touched.get(slot)
            if access is None:
                continue
            after = dict([access.writer])
            if slot in writes:
                for reader, value in access.readers.items():
                    after[reader] = max(value, after.get(reader, 0))
            for other, value in after.items():
                needs[other] = max(value, needs.get(other, 0))
        needs.pop(unit, None)  # a unit keeps its own order
        waits = tuple(Wait(other, value) for other, value in needs.items())
        if len(waits) > 3:
            self._append(unit, Sync(waits=waits))
            waits = ()
        self._append(unit, replace(instruction, waits=waits))
        now = (unit, len(self.streams[unit]))
        for slot in reads:
            self.touched[slot].readers[unit] = now[1]
        for slot in writes:
            self.touched[slot] = Access(now, {})

    def barrier(self, units: list[int], name: int) -> None:
        # all meetings of one id have the same participants; two ids for each set of them
        mask = sum(1 << unit for unit in units)
        name += 2 * self.masks.setdefault(mask, len(self.masks))
        for unit in units:
            self._append(unit, Barrier(units=mask, id=name))

    def _append(self, unit: int, instruction: Any) -> None:
        self.streams.setdefault(unit, []).append(instruction)
        self.drawn.append((unit, instruction))

    def finish(self) -> Case:
        for unit, stream in self.streams.items():
            stream.append(End())
            self.drawn.append((unit, stream[-1]))
        program = make_program("random", self.streams, SEGMENTS, cores=self.cores)
        # proven here once, so that it need not be proven at every load; a refused one has no stamp and is refused again
        return Case(program.with_stamp(verify(program, LIMITS).stamp), tuple(self.drawn))


def address(slot: int) -> int:
    return slot * PITCH


def ocm(core: int, slot: int) -> Slot:
    return ("ocm", core, slot)


@st.composite
def cases(draw: st.DrawFn, most_cores: int = 3, most: int = 40) -> Case:
    """A random race-free program."""
    cores = draw(st.integers(1, most_cores))
    weaver = Weaver(cores)
    for core in range(cores):
        sdma = unit_number(core, Unit.SDMA)
        weaver.add(sdma, Load(ocm=address(PARAMETERS), segment=2, offset=0, run=SLOT), [], [ocm(core, PARAMETERS)])
        weaver.add(sdma, Load(ocm=address(0), segment=0, offset=core * SLOT, run=SLOT), [], [ocm(core, 0)])
    for _ in range(draw(st.integers(1, most))):
        core = draw(st.integers(0, cores - 1))
        step = draw(st.sampled_from(STEPS))
        step(draw, weaver, core)
    return weaver.finish()


def _target(draw: st.DrawFn, *avoid: int) -> int:
    return draw(st.sampled_from([slot for slot in range(PARAMETERS) if slot not in avoid]))


def _source(draw: st.DrawFn, weaver: Weaver, core: int) -> int:
    return draw(st.sampled_from(weaver.written(core)))


def _load(draw: st.DrawFn, weaver: Weaver, core: int) -> None:
    slot = _target(draw)
    run = draw(st.sampled_from([16, 64, 256]))
    count = SLOT // run
    stride = draw(st.sampled_from([run, run + 16, 250, 512, 1000]))
    offset = draw(st.integers(0, INPUT_BYTES - run - (count - 1) * stride))
    load = Load(
        ocm=address(slot), segment=0, offset=offset, run=run, count_1=count, ocm_stride_1=run, dram_stride_1=stride
    )
    weaver.add(unit_number(core, Unit.SDMA), load, [], [ocm(core, slot)])


def _multicast(draw: st.DrawFn, weaver: Weaver, core: int) -> None:
    slot = _target(draw)
    targets = draw(st.sets(st.integers(0, weaver.cores - 1), min_size=1))
    offset = draw(st.integers(0, INPUT_BYTES - SLOT))
    mask = sum(1 << target for target in targets)
    cast = Multicast(ocm=address(slot), segment=0, offset=offset, run=SLOT, cores=mask)
    weaver.add(unit_number(core, Unit.SDMA), cast, [], [ocm(target, slot) for target in sorted(targets)])


def _store(draw: st.DrawFn, weaver: Weaver, core: int) -> None:
    source, target = _source(draw, weaver, core), draw(st.integers(0, OUTPUT_SLOTS - 1))
    store = Store(
        ocm=address(source), segment=1, offset=target * RUN, run=RUN, count_1=SLOT // RUN, ocm_stride_1=RUN,
        dram_stride_1=OUTPUT_SLOTS * RUN,
    )  # fmt: skip
    weaver.add(unit_number(core, Unit.SDMA), store, [ocm(core, source)], [("dram", 0, target)])


def _send(draw: st.DrawFn, weaver: Weaver, core: int) -> None:
    other = draw(st.integers(0, weaver.cores - 1))
    source = _source(draw, weaver, core)
    target = _target(draw, source)
    send = Send(src=address(source), dst_core=other, dst=address(target), run=SLOT)
    weaver.add(unit_number(core, Unit.SDMA), send, [ocm(core, source)], [ocm(other, target)])


def _fill(draw: st.DrawFn, weaver: Weaver, core: int) -> None:
    unit, slot = draw(st.sampled_from([Unit.CV, Unit.SDMA])), _target(draw)
    fill = Fill(dst=address(slot), run=SLOT, value=draw(st.integers(0, 255)))
    weaver.add(unit_number(core, unit), fill, [], [ocm(core, slot)])


def _copy(draw: st.DrawFn, weaver: Weaver, core: int) -> None:
    source = _source(draw, weaver, core)
    target = _target(draw, source)
    move: Instruction = Copy(src=address(source), dst=address(target), run=SLOT)
    if draw(st.booleans()):
        move = Transpose(
            src=address(source), dst=address(target), rows=16, columns=16, src_row_stride=16, dst_row_stride=16
        )
    weaver.add(unit_number(core, Unit.CV), move, [ocm(core, source)], [ocm(core, target)])


def _lookup(draw: st.DrawFn, weaver: Weaver, core: int) -> None:
    source, table = _source(draw, weaver, core), _source(draw, weaver, core)
    target = _target(draw, source, table)
    look = Lookup(src=address(source), dst=address(target), table=address(table), count=SLOT)
    weaver.add(unit_number(core, Unit.TENG), look, [ocm(core, source), ocm(core, table)], [ocm(core, target)])


def _matmul(draw: st.DrawFn, weaver: Weaver, core: int) -> None:
    a, b = _source(draw, weaver, core), _source(draw, weaver, core)
    target = _target(draw, a, b)
    k = draw(st.sampled_from([1, 5, 16]))
    product = Matmul(
        a=address(a), b=address(b), dst=address(target), params=address(PARAMETERS), m=16, k=k, n=16, a_row_stride=k,
        b_row_stride=16, dst_row_stride=16,
    )  # fmt: skip
    unit = draw(st.sampled_from([Unit.CONV0, Unit.CONV1]))
    reads = [ocm(core, a), ocm(core, b), ocm(core, PARAMETERS)]
    weaver.add(unit_number(core, unit), product, reads, [ocm(core, target)])


def _barrier(draw: st.DrawFn, weaver: Weaver, core: int) -> None:
    units = draw(st.sets(st.integers(0, weaver.cores * UNITS_PER_CORE - 1), min_size=1))
    weaver.barrier(sorted(units), draw(st.integers(0, 1)))


STEPS = (_load, _store, _copy, _matmul, _lookup, _send, _multicast, _fill, _barrier, _load, _store, _matmul)
