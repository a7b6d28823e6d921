"""Waits from hazards: whatever the sequential plan is, the streams are proven and compute what the plan says."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.dtypes import DType
from isa.instruction import UNITS_PER_CORE, Unit, Wait
from isa.instructions import Copy, Fill, Lookup
from isa.memory import Memory
from isa.program import Segment, SegmentKind, make_program
from isa.verify import Limits, verify
from npusim.compiler.hazards import predecessors
from npusim.compiler.order import Order, list_schedule
from npusim.compiler.plan import Compute, Plan, Storage, Transfer
from npusim.compiler.schedule import drop_dead_stores, place
from npusim.compiler.waits import assign_waits
from npusim.config import load
from npusim.sim import Job, simulate

OCM = 1024
SIZE = 2048
CORES = 2


@st.composite
def steps(draw):
    """One step of any unit of two cores on a few hundred bytes, strided or not."""
    core = draw(st.integers(0, CORES - 1))
    kind = draw(st.sampled_from(["load", "store", "multicast", "copy", "fill", "lookup"]))
    # the same few boxes meet often, and any others sometimes
    run = draw(st.sampled_from([16, 48]) | st.integers(1, 48))
    count, pitch = draw(st.sampled_from([(1, run), (3, run + 48)]) | st.tuples(st.integers(1, 3), st.just(run + 7)))
    extent = pitch * (count - 1) + run
    places = st.sampled_from([0, 64, 300]) | st.integers(0, OCM - extent)
    place_, other = draw(places), draw(places)
    if kind in ("load", "store", "multicast"):
        dims = ((count, pitch, pitch),) if count > 1 else ()
        mask = draw(st.integers(1, 3)) if kind == "multicast" else 0
        offset = draw(st.integers(0, SIZE - extent))
        storage = "t" if kind == "store" else draw(st.sampled_from("st"))
        return Transfer(core, kind != "store", storage, offset, place_, run, dims, -1, mask)
    strided = {"count_1": count, "dst_stride_1": pitch}
    if kind == "fill":
        return Compute(core, Unit.CV, Fill(dst=place_, run=run, value=draw(st.integers(0, 255)), **strided), -1)
    if kind == "copy" and abs(place_ - other) >= extent:
        return Compute(core, Unit.CV, Copy(src=other, dst=place_, run=run, src_stride_1=pitch, **strided), -1)
    table = 64 * draw(st.integers(0, (OCM - 256) // 64))
    away = place_ >= table + 256 or place_ + run <= table
    if not away:
        return Compute(core, Unit.CV, Fill(dst=place_, run=run), -1)
    return Compute(core, Unit.TENG, Lookup(src=place_, dst=place_, table=table, count=run), -1)


# every byte of OCM and of the storage t is written before anything reads it, and brought out at the end
FIRST = [Transfer(core, True, "s", OCM * core, 0, OCM, (), -1, 0) for core in range(CORES)]
FIRST += [Transfer(core, False, "t", OCM * core, 0, OCM, (), -1, 0) for core in range(CORES)]
LAST = [Transfer(core, False, "r", OCM * core, 0, OCM, (), -1, 0) for core in range(CORES)]
KINDS = {"s": SegmentKind.INPUT, "t": SegmentKind.OUTPUT, "r": SegmentKind.OUTPUT}
ADDRESSES = {name: (number, 0) for number, name in enumerate(KINDS)}
SEGMENTS = [Segment(name=name, kind=kind, size_bytes=SIZE) for name, kind in KINDS.items()]
HARDWARE = load("small").with_values({"ocm.bytes": OCM})


def as_planned(placed):
    """The sequential order, every step on its own unit."""
    return Order(list(range(len(placed))), [step.unit for step in placed], 0, ())


def in_streams(placed, order):
    return assign_waits(placed, predecessors(placed), order)[0]


@given(st.lists(steps(), max_size=24), st.booleans())
@settings(max_examples=150)
def test_streams_are_proven_and_mean_the_plan(plan, scheduled):
    placed = place([*FIRST, *plan, *LAST], ADDRESSES)
    order = list_schedule(placed, predecessors(placed), HARDWARE) if scheduled else as_planned(placed)
    streams = in_streams(placed, order)
    program = make_program("plan", streams, SEGMENTS, cores=CORES)
    report = verify(program, Limits(cores=CORES, ocm_bytes=OCM))
    assert not report.violations, report.violations[0]
    data = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8)
    ocm, dram = [np.zeros(OCM, np.uint8) for _ in range(CORES)], [data, *(np.zeros(SIZE, np.uint8) for _ in "tr")]
    for step in placed:  # the plan, one step after the other
        step.instruction.operation(Memory(ocm, dram, step.unit // UNITS_PER_CORE))
    outputs = simulate(HARDWARE, Job(program=program, inputs={"s": data})).outputs
    assert outputs["t"].tobytes() == dram[1].tobytes()
    assert outputs["r"].tobytes() == dram[2].tobytes()


def test_what_touches_nothing_in_common_waits_for_nothing():
    plan = [
        Compute(0, Unit.CV, Fill(dst=0, run=64), -1),
        Compute(0, Unit.TENG, Lookup(src=512, dst=512, table=256, count=64), -1),
        Transfer(0, True, "s", 0, 128, 64, (), -1, 0),
    ]
    placed = place(plan, ADDRESSES)
    streams = in_streams(placed, as_planned(placed))
    assert all(not instruction.waits for stream in streams.values() for instruction in stream)


def test_interleaved_slices_do_not_wait_for_one_another():
    halves = [Fill(dst=at, run=16, count_1=8, dst_stride_1=32) for at in (0, 16)]
    plan = [Compute(0, Unit.CV, halves[0], -1), Compute(0, Unit.SDMA, halves[1], -1)]
    placed = place(plan, ADDRESSES)
    streams = in_streams(placed, as_planned(placed))
    assert all(not instruction.waits for stream in streams.values() for instruction in stream)


def started(plan):
    """The steps of a plan in the order in which they start."""
    placed = place(plan, ADDRESSES)
    return list_schedule(placed, predecessors(placed), HARDWARE)


def test_steps_depend_on_what_they_overlap_and_no_further_back_than_the_last_write():
    plan = [
        Compute(0, Unit.CV, Fill(dst=0, run=64), -1),
        Compute(0, Unit.CV, Fill(dst=32, run=16), -1),
        Transfer(0, False, "t", 0, 0, 64, (), -1, 0),
        Compute(0, Unit.CV, Fill(dst=0, run=64), -1),
        Transfer(0, False, "r", 0, 0, 64, (), -1, 0),
    ]
    assert predecessors(place(plan, ADDRESSES)) == [(), (0,), (0, 1), (0, 1, 2), (3,)]


def test_unit_starts_the_longest_chain_first():
    behind = Transfer(0, False, "t", 0, 256, 64, (), -1, 0)
    plan = [*(Compute(0, Unit.CV, Fill(dst=64 * k, run=64), -1) for k in range(5)), behind]
    assert started(plan).steps[0] == 4  # its store follows; the other fills have nothing behind them


def test_load_waits_for_no_other_load_that_is_not_ready():
    plan = [
        Compute(0, Unit.CV, Fill(dst=0, run=1000), -1),
        Transfer(0, True, "s", 0, 0, 64, (), -1, 0),  # into what the fill writes
        Transfer(0, True, "s", 64, 1008, 16, (), -1, 0),
    ]
    assert started(plan).steps == [0, 2, 1]


def test_multicasts_are_shared_among_the_sdma_units():
    plan = [Transfer(0, True, "s", 64 * k, 64 * k, 64, (), -1, 3) for k in range(4)]
    plan += [Transfer(core, False, "r", OCM * core, 0, 64, (), -1, 0) for core in range(CORES)]
    assert sorted(started(plan).units[:4]) == [4, 4, 9, 9]


def test_a_write_waits_for_every_unit_that_reads():
    plan = [
        Compute(0, Unit.CV, Copy(src=0, dst=128, run=64), -1),
        Transfer(0, False, "t", 0, 0, 64, (), -1, 0),
        Compute(0, Unit.TENG, Lookup(src=0, dst=0, table=256, count=64), -1),
    ]
    placed = place(plan, ADDRESSES)
    streams = in_streams(placed, as_planned(placed))
    assert streams[2][0].waits == (Wait(3, 1), Wait(4, 1))


SPANS = st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(1, 12)), max_size=40)


@given(SPANS)
def test_only_bytes_that_a_later_load_wants_are_stored(spans):
    plan = Plan()
    plan.add_storage(Storage("scratch", DType.U8, 64, SegmentKind.SCRATCH))
    plan.steps = [Transfer(0, loads, "scratch", offset, 1000 + offset, run, (), 0) for loads, offset, run in spans]
    left = iter(drop_dead_stores(plan))
    for position, (loads, offset, run) in enumerate(spans):
        if loads:
            assert next(left) == plan.steps[position]
            continue
        later = [range(o, o + r) for is_load, o, r in spans[position + 1 :] if is_load]
        wanted = {byte for byte in range(offset, offset + run) if any(byte in one for one in later)}
        stored: set[int] = set()
        while stored != wanted:  # in pieces, each from the place in OCM that holds it
            step = next(left)
            assert not step.load
            assert step.ocm - step.offset == 1000
            piece = set(range(step.offset, step.offset + step.run))
            assert piece <= wanted
            assert not piece & stored
            stored |= piece
    assert not list(left)
