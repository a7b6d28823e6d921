"""What the machine refuses, what jobs share, and what a run tells: a few instructions each."""

from __future__ import annotations

import numpy as np
import pytest

from isa.assembler import assemble
from isa.instruction import Unit
from isa.instructions import Copy
from isa.verify import verify
from npusim.errors import (
    MachineFault,
    SimulationError,
    UnverifiedProgramError,
    UsageError,
)
from npusim.sim import Job, Mode, executes, limits_of, simulate
from npusim.sim.executor import HANDLERS
from tests.sim.small_runs import BOTH, ROUND_TRIP, SMALL, X, run


def spans(trace, core, unit):
    """(start, end) of a unit's instructions."""
    chosen = trace.select(core=core, unit=unit)
    return list(zip(chosen.start.tolist(), chosen.end.tolist(), strict=True))


# ---------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("mode", BOTH)
def test_values_travel(mode):
    assert np.array_equal(run(ROUND_TRIP, mode=mode).outputs["y"], X)


def test_a_wrongly_ordered_program_computes_wrong_values():
    # Without its wait the copy retires at 1 + 256/16 + 1 = 18, before the load, which
    # the copy's bank delays to 2 + 10 + 5 + 16 + 6 = 39: it moves zeros.
    result = run(ROUND_TRIP.replace("wait(in)", ""), allow_unverified=True)
    assert spans(result.trace, 0, Unit.CV)[0] == (0, 18)
    assert spans(result.trace, 0, Unit.SDMA)[0] == (0, 39)
    assert not result.outputs["y"].any()


def test_a_wrongly_ordered_program_moves_what_was_there_before():
    result = run(ROUND_TRIP.replace("wait(in)", ""), allow_unverified=True, fill=0x5A)
    assert (result.outputs["y"] == 0x5A).all()


def test_in_one_cycle_units_retire_in_the_order_of_their_numbers():
    # conv0 and conv1 write the same bytes in the same cycle: the higher number writes last.
    product = "matmul a=0x0 b=0x0 dst=0x4000 m=1 k=1 n=16 a_row_stride=16 dst_row_stride=16"
    text = """
    .segment y output 16
    .segment p parameters
    .data p s32 0 0 11 0 255
    .data p f32 0 1 1
    .data p s32 0 0 22 0 255
    .data p f32 0 1 1
    sdma load ocm=0x8000 segment=p run=64
    """
    for unit, block in (("conv1", 0x8020), ("conv0", 0x8000)):
        text += f"{unit} {product} params={block} wait(sdma, 1)\n"
    text += "sdma store ocm=0x4000 segment=y run=16 wait(conv0, 1) wait(conv1, 1)\n"
    result = run(text, inputs={}, allow_unverified=True)
    assert spans(result.trace, 0, Unit.CONV0) == spans(result.trace, 0, Unit.CONV1)
    assert (result.outputs["y"] == 22).all()


# ------------------------------------------------------------------------------------------------------------- refusals


def test_an_unproven_program_is_refused():
    with pytest.raises(UnverifiedProgramError, match="race"):
        run(ROUND_TRIP.replace("wait(in)", ""))


def test_a_stamp_saves_the_proof(monkeypatch):
    program = assemble(ROUND_TRIP)
    stamped = program.with_stamp(verify(program, limits_of(SMALL)).stamp)
    monkeypatch.setattr("npusim.sim.loader.verify", None)
    assert simulate(SMALL, Job(program=stamped, inputs={"x": X})).cycles
    with pytest.raises(TypeError):
        simulate(SMALL, Job(program=program, inputs={"x": X}))


def test_a_stamp_of_another_program_proves_nothing():
    program = assemble(ROUND_TRIP)
    racy = assemble(ROUND_TRIP.replace("wait(in)", ""))
    stamped = racy.with_stamp(verify(program, limits_of(SMALL)).stamp)
    with pytest.raises(UnverifiedProgramError, match="race"):
        simulate(SMALL, Job(program=stamped, inputs={"x": X}))


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("allow_unverified", [False, True])
def test_leaving_memory_is_refused_whatever_is_allowed(allow_unverified, mode):
    outside = ROUND_TRIP.replace("dst=0x4000", "dst=0xff80")
    with pytest.raises(UnverifiedProgramError, match=r"OCM 0xff80\.\.0x1007f, past its end"):
        run(outside, allow_unverified=allow_unverified, mode=mode)


GATHER = """
.segment x input 256
.segment y output 16
.segment i parameters
.data i s32 0 3
.let T 0x4000
     sdma load ocm=0x0 segment=x run=256
ids: sdma load ocm=0x4000 segment=i run=8
pick: cv gather table=0 indices=T dst=0x8000 table_rows=3 count=2 run=8 table_row_stride=8 dst_row_stride=8 wait(ids)
     sdma store ocm=0x8000 segment=y run=16 wait(pick)
"""


def test_a_fault_names_the_instruction_its_origin_and_the_cycle():
    # loads: 2 + 10 + 16 + 6 = 34; then 2 + 10 + 1 + 6 = 53; visible at 55; gather 1 + ceil(8/16) + 2 * 1 + 1 = 5
    expected = r"core0.cv\[0\] at cycle 60: gather for pick:9: gather: index 3 is outside the table of 3 rows"
    with pytest.raises(MachineFault, match=expected) as caught:
        run(GATHER)
    assert (caught.value.unit, caught.value.index, caught.value.cycle) == ("core0.cv", 0, 60)


def test_a_fault_without_time_has_no_cycle():
    with pytest.raises(MachineFault, match=r"core2.cv\[0\]: gather for pick:9") as caught:
        run(GATHER, mode=Mode.VALUES, cores=(2,))
    assert caught.value.cycle is None


def test_time_alone_sees_no_fault():
    assert run(GATHER, mode=Mode.TIME).cycles > 60


# ----------------------------------------------------------------------------------------------------------------- jobs


def job(text=ROUND_TRIP, **changes):
    return Job(program=assemble(text), **{"inputs": {"x": X}, **changes})


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([job(cores=(3,))], "job round_trip: the machine has no core 3; its 3 cores count from 0"),
        ([job(cores=(-1,))], "the machine has no core -1"),
        ([job(cores=(0, 1))], "its program has 1 cores, but it is mapped to 2"),
        ([job(".cores 2\ncv sync", cores=(1, 1), inputs={})], "is mapped to core 1 twice"),
        ([job(arrival_cycle=-1)], "cannot arrive at cycle -1"),
        ([job(inputs={})], "input 'x' is missing"),
        ([job(inputs={"x": X[:9]})], "input 'x' has 9 bytes, the program takes 256"),
        ([job(inputs={"x": X, "y": X})], "segment 'y' is no input; it has x"),
        ([job(inputs={"x": X, "X0": X})], "there is no input 'X0'; it has x; did you mean 'x'?"),
        ([job(".segment s scratch 2000000\nsdma fill dst=0 run=4", inputs={})], "take 2000128 bytes of DRAM"),
    ],
)
def test_jobs_that_do_not_fit(jobs, message):
    with pytest.raises(UsageError) as caught:
        simulate(SMALL, jobs)
    assert message in str(caught.value)


def test_inputs_of_any_type_are_bytes():
    for given in (X.tobytes(), X.view(np.int32), X.reshape(16, 16), np.asfortranarray(X.reshape(16, 16))):
        assert np.array_equal(run(ROUND_TRIP, inputs={"x": given}).outputs["y"], X)


def test_an_input_with_a_default_may_be_left_out():
    text = ROUND_TRIP.replace(".segment x input 256", ".segment x input 256\n.data x u8 9")
    assert run(text, inputs={}).outputs["y"][0] == 9
    assert run(text).outputs["y"][9] == 9


def test_time_needs_no_inputs():
    assert run(ROUND_TRIP, inputs={}, mode=Mode.TIME).cycles == run(ROUND_TRIP).cycles


def test_inputs_are_not_changed():
    overwriting = ROUND_TRIP + "sdma store ocm=0x8000 segment=x run=256\n"
    given = X.copy()
    run(overwriting, inputs={"x": given}, allow_unverified=True)
    assert np.array_equal(given, X)


def test_two_jobs_keep_their_memories_apart():
    other = X[::-1].copy()
    result = simulate(SMALL, [job(name="a", cores=(2,)), job(name="b", cores=(0,), inputs={"x": other})])
    assert np.array_equal(result.jobs[0].outputs["y"], X)
    assert np.array_equal(result.jobs[1].outputs["y"], other)
    with pytest.raises(SimulationError, match="2 jobs"):
        _ = result.outputs


def test_jobs_slow_one_another_through_dram():
    alone = simulate(SMALL, job()).cycles
    together = simulate(SMALL, [job(cores=(core,)) for core in range(3)])
    assert all(one.cycles > alone for one in together.jobs)
    assert together.trace.queue_cycles.sum() > 0


def test_jobs_that_do_not_meet_in_dram_do_not_know_one_another():
    # the second job loads for 34 cycles at the start, the first computes all the while
    compute = (
        "cv fill dst=0x0 run=256 value=3\nteng sync wait(cv, 1)\nconv0 barrier units=0b101\nteng barrier units=0b101"
    )
    alone = simulate(SMALL, job(compute, inputs={}))
    beside = simulate(SMALL, [job(cores=(1,), name="other"), job(compute, inputs={}, cores=(2,))])
    mine = beside.trace.select(job=1)
    assert mine.start.tolist() == alone.trace.start.tolist()
    assert mine.end.tolist() == alone.trace.end.tolist()
    assert beside.jobs[0].cycles == simulate(SMALL, job()).cycles


def test_a_job_that_arrives_later_starts_later():
    result = simulate(SMALL, [job(cores=(0,)), job(cores=(1,), arrival_cycle=1_000)])
    first, second = result.jobs
    assert first.end < 1_000
    assert second.arrival == 1_000
    # alone by then; only the direction of DRAM has changed since: 4 cycles
    assert second.cycles == first.cycles + 4
    late = result.trace.select(core=1, unit=Unit.SDMA)
    assert (late.start[0], late.stall_cycles[0]) == (1_000, 1_000)
    assert next(late.rows()).cause == "arrival"


def test_nothing_to_do():
    result = simulate(SMALL, [])
    assert result.cycles == 0
    assert len(result.trace) == 0


# --------------------------------------------------------------------------------------------------- results and trace


def test_a_run_for_values_has_no_time():
    result = run(ROUND_TRIP, mode=Mode.VALUES)
    for ask in (lambda: result.cycles, lambda: result.jobs[0].cycles, lambda: result.trace):
        with pytest.raises(SimulationError):
            ask()


def test_a_trace_that_nobody_asked_for():
    result = run(ROUND_TRIP, trace=False)
    assert result.cycles == run(ROUND_TRIP).cycles
    with pytest.raises(SimulationError, match="no trace was recorded"):
        _ = result.trace


def test_stalls_and_their_causes():
    # load 0..34; copy waits until 36, ends 1 + 16 + 1 later; the store waits until 56: 22 cycles after the load
    rows = {(row.unit, row.position): row for row in run(ROUND_TRIP).trace.rows()}
    copy, store = rows["core0.cv", 0], rows["core0.sdma", 1]
    assert (copy.start, copy.end, copy.stall, copy.cause) == (36, 54, 36, "core0.sdma")
    assert (store.start, store.stall, store.cause) == (56, 22, "core0.cv")
    assert (rows["core0.sdma", 0].stall, rows["core0.sdma", 0].cause) == (0, "")
    assert (copy.mnemonic, copy.origin) == ("copy", "mid:6")


def test_the_last_counter_to_be_seen_is_the_cause():
    # both producers retire at 1: core0's is visible at 3, core1's at 5
    text = """
    .cores 2
    teng sync
    core1.teng sync
    cv sync wait(teng, 1) wait(core1.teng, 1)
    conv0 sync wait(core1.teng, 1) wait(teng, 1)
    """
    for row in run(text, inputs={}).trace.rows():
        if row.unit in ("core0.cv", "core0.conv0") and row.position == 0:
            assert (row.start, row.stall, row.cause) == (5, 5, "core1.teng")


@pytest.mark.parametrize(("first", "second"), [("conv0", "teng"), ("teng", "conv0")])
def test_of_counters_seen_together_the_first_named_is_the_cause(first, second):
    text = f"teng sync\nconv0 sync\ncv sync wait({first}, 1) wait({second}, 1)"
    row = next(row for row in run(text, inputs={}).trace.rows() if row.unit == "core0.cv")
    assert (row.start, row.cause) == (3, f"core0.{first}")


def test_a_units_own_counter_is_no_cause():
    rows = list(run("cv sync\ncv sync wait(cv, 1)", inputs={}).trace.rows())
    assert [(row.start, row.stall, row.cause) for row in rows] == [(0, 0, ""), (1, 0, ""), (2, 0, "")]


def test_a_barrier_stalls_until_the_last_participant_starts():
    # cv arrives at 0, teng at 3; both leave at 3 + 2
    text = "cv barrier units=0b1100\nteng sync\nteng sync\nteng sync\nteng barrier units=0b1100"
    rows = {(row.unit, row.position): row for row in run(text, inputs={}).trace.rows()}
    assert rows["core0.cv", 0][3:7] == (0, 5, 3, "barrier")
    assert rows["core0.teng", 3][3:7] == (3, 5, 0, "")


def test_bytes_and_macs():
    text = """
    .segment x input 256
    .segment y output 8
    .segment p parameters
    .data p s32 0 0 0 0 255
    .data p f32 1 1 1
    sdma load ocm=0x0 segment=p run=32
    sdma load ocm=0x100 segment=x offset=8 run=16
    sdma multicast ocm=0x200 segment=x run=16 cores=0b11
    .let A 0x100
    conv0 matmul a=A b=0x200 dst=0x300 params=0 m=2 k=3 n=4 a_row_stride=8 b_row_stride=4 dst_row_stride=4 wait(sdma, 3)
    sdma store ocm=0x300 segment=y run=8 wait(conv0, 1)
    .cores 2
    """
    trace = run(text).trace
    sdma, conv = trace.select(unit=Unit.SDMA), trace.select(unit=Unit.CONV0)
    assert sdma.bytes.tolist() == [32, 16, 16, 8, 0]
    assert sdma.dram_bytes.tolist() == [32, 32, 16, 16, 0]  # whole bursts of 16 bytes; offset 8 touches two
    assert conv.macs.tolist() == [2 * 3 * 4, 0]
    assert conv.bytes.tolist() == [8, 0]
    assert conv.dram_bytes.tolist() == [0, 0]


def test_what_transfers_pay_is_in_the_trace():
    # 512 bytes: two pages, two misses; then a store to another page: a miss and a turnaround
    text = """
    .segment x input 512
    .segment y output 16
    sdma load ocm=0x0 segment=x run=512
    sdma store ocm=0x0 segment=y run=16
    """
    sdma = run(text, inputs={"x": np.zeros(512, np.uint8)}).trace.select(unit=Unit.SDMA)
    assert sdma.page_misses.tolist() == [2, 1, 0]
    assert sdma.turnaround_cycles.tolist() == [0, 4, 0]
    assert sdma.queue_cycles.tolist() == [0, 0, 0]


def test_utilization_and_table():
    trace = run(ROUND_TRIP).trace
    # cv: copy 36..54 and end 54..55
    assert trace.utilization()["core0.cv"] == pytest.approx(19 / trace.cycles)
    lines = trace.to_table(2).splitlines()
    assert lines[1].split() == ["core0.sdma", "0", "load", "0", "34", "0", "in:5"]
    assert lines[2].split() == ["core0.cv", "0", "copy", "36", "54", "36", "core0.sdma", "mid:6"]
    assert lines[3] == "... 3 more"


# -------------------------------------------------------------------------------------------------------------- kernels


def test_a_registered_kernel_performs_the_instruction(monkeypatch):
    monkeypatch.delitem(HANDLERS, Copy, raising=False)

    @executes(Copy)
    def upside_down(fields, source, target):
        assert (fields.run, source.shape, target.shape) == (256, (1, 1, 1, 1, 256), (1, 1, 1, 1, 256))
        target[...] = 255 - source

    try:
        assert np.array_equal(run(ROUND_TRIP).outputs["y"], 255 - X)
    finally:
        del HANDLERS[Copy]


def test_two_kernels_for_one_instruction_are_one_too_many(monkeypatch):
    monkeypatch.setitem(HANDLERS, Copy, print)
    with pytest.raises(AssertionError, match="copy is executed twice"):
        executes(Copy)(print)


@pytest.mark.parametrize("core", [0, 1, 2])
def test_bank_conflicts_happen_on_the_core_the_program_runs_on(core):
    # The fill streams into bank 0 for longer than the load takes to write there: every group meets it.
    program = assemble(
        """
        .segment x input 512
        cv fill dst=0x1000 run=4096
        sdma load ocm=0 segment=x run=512
        """
    )
    trace = simulate(SMALL, Job(program=program, cores=[core]), mode=Mode.TIME).trace
    groups = 512 // (SMALL.dram.burst_bytes * SMALL.dram.group_bursts)
    assert trace.select(core=core, unit=Unit.SDMA).conflict_cycles[0] == groups * SMALL.ocm.conflict_cycles
