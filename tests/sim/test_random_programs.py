"""What holds for every race-free program, on programs hypothesis draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.instructions import Store
from isa.verify import verify
from npusim.config import load
from npusim.sim import Job, Mode, limits_of, simulate
from tests.sim.race_free import INPUT_BYTES, Case, cases

SMALL = load("small")
REFRESHED = SMALL.with_values({"dram.refresh_interval_cycles": 97, "dram.refresh_cycles": 13})
MACHINES = (SMALL, REFRESHED)
X = np.random.default_rng(7).integers(0, 256, INPUT_BYTES, dtype=np.uint8)


def run(case: Case, mode: Mode = Mode.FULL, machine=SMALL, cores=None, **options):
    return simulate(machine, Job(program=case.program, inputs={"x": X}, cores=cores), mode=mode, **options)


def times(result):
    """Every instruction with its start and retire cycle, independent of the cores it ran on."""
    t = result.trace
    cores = {core: logical for logical, core in enumerate(result.jobs[0].cores)}
    logical = [cores[core] for core in t.core.tolist()]
    rows = zip(logical, t.unit.tolist(), t.position.tolist(), t.start.tolist(), t.end.tolist(), strict=True)
    return sorted(rows)


brief = settings(max_examples=25)  # each example is a whole simulation, or two


def equal_traces(a, b) -> bool:
    return all(np.array_equal(column, b.columns()[name]) for name, column in a.columns().items())


@brief
@given(cases())
def test_generated_programs_verify(case):
    assert verify(case.program, limits_of(SMALL)).violations == ()


@brief
@given(cases())
def test_outputs_are_those_of_the_instructions_one_after_the_other(case):
    assert np.array_equal(run(case).outputs["y"], case.outputs(X, SMALL.ocm.bytes))


@brief
@given(cases(), st.sampled_from(MACHINES))
def test_values_make_no_difference_to_time(case, machine):
    full, timed = run(case, machine=machine), run(case, Mode.TIME, machine=machine)
    assert equal_traces(full.trace, timed.trace)
    assert full.cycles == timed.cycles
    assert timed.outputs == {}


@brief
@given(cases())
def test_time_makes_no_difference_to_values(case):
    assert np.array_equal(run(case, Mode.VALUES).outputs["y"], run(case).outputs["y"])


@brief
@given(cases(), st.sampled_from(MACHINES))
def test_the_same_program_takes_the_same_cycles_again(case, machine):
    first, second = run(case, machine=machine), run(case, machine=machine)
    assert equal_traces(first.trace, second.trace)
    assert np.array_equal(first.outputs["y"], second.outputs["y"])


@brief
@given(cases())
def test_nobody_reads_what_was_there_before(case):
    # bytes of y that nobody stores keep the filling, those stored hold the same whatever it was
    low, high = (run(case, fill=fill).outputs["y"] for fill in (0, 255))
    stored = np.zeros(len(low), dtype=bool)
    for _, instruction in case.drawn:
        if isinstance(instruction, Store):
            for row in range(4):
                stored[instruction.offset + 512 * row :][:64] = True
    assert np.array_equal(low[stored], high[stored])
    assert not low[~stored].any()
    assert (high[~stored] == 255).all()


@brief
@given(cases(most_cores=1), st.integers(0, 2))
def test_one_core_is_as_good_as_another(case, core):
    here, there = run(case), run(case, cores=(core,))
    assert times(here) == times(there)
    assert np.array_equal(here.outputs["y"], there.outputs["y"])


# Round robin follows the numbers of the physical cores, so that a mapping that keeps their order keeps the cycles.
@brief
@given(cases(most_cores=2), st.sampled_from([(0, 2), (1, 2)]))
def test_a_mapping_in_order_keeps_the_cycles(case, cores):
    here, there = run(case), run(case, cores=cores[: case.program.cores])
    assert times(here) == times(there)
    assert np.array_equal(here.outputs["y"], there.outputs["y"])


@brief
@given(cases(), st.permutations([0, 1, 2]))
def test_any_mapping_keeps_the_values(case, cores):
    there = run(case, cores=tuple(cores[: case.program.cores]))
    assert np.array_equal(run(case).outputs["y"], there.outputs["y"])


@brief
@given(cases(), st.integers(1, 400))
def test_a_later_arrival_only_shifts_time(case, arrival):
    at_once = simulate(SMALL, Job(program=case.program, inputs={"x": X}))
    later = simulate(SMALL, Job(program=case.program, inputs={"x": X}, arrival_cycle=arrival))
    assert later.trace.start.tolist() == (at_once.trace.start + arrival).tolist()
    assert later.trace.end.tolist() == (at_once.trace.end + arrival).tolist()
    assert later.jobs[0].cycles == at_once.jobs[0].cycles == at_once.cycles


@brief
@given(cases(), st.sampled_from(MACHINES))
def test_the_trace_is_consistent(case, machine):
    trace = run(case, Mode.TIME, machine=machine).trace
    assert len(trace) == len(case.program)
    assert (trace.start < trace.end).all()
    numbers = trace.core * 5 + trace.unit
    assert sorted(zip(trace.end.tolist(), numbers.tolist(), strict=True)) == list(
        zip(trace.end.tolist(), numbers.tolist(), strict=True)
    )
    for number in np.unique(numbers):
        unit = trace.take(numbers == number)
        assert unit.position.tolist() == list(range(len(unit)))
        assert (unit.start[1:] >= unit.end[:-1]).all()
        barrier = unit.stall_cause == -2
        idle = unit.start - np.concatenate(([0], unit.end[:-1]))
        assert (unit.stall_cycles == idle)[~barrier].all()
        assert (unit.stall_cycles > idle)[barrier].all()
        # every stall has a cause, and every cause has a stall
        assert ((unit.stall_cycles > 0) == (unit.stall_cause != -1)).all()


@pytest.mark.slow
@settings(max_examples=250)
@given(cases(most=120), st.sampled_from(MACHINES))
def test_long_programs_too(case, machine):
    full, timed = run(case, machine=machine), run(case, Mode.TIME, machine=machine)
    assert equal_traces(full.trace, timed.trace)
    assert np.array_equal(full.outputs["y"], case.outputs(X, SMALL.ocm.bytes))
