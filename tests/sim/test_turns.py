"""Jobs that share cores, called once or again and again; cycles added up by hand on ``small``.

The constants of that machine are listed in ``test_hand_computed_machine``. A ``sync`` takes one cycle, a lone load of
64 bytes 22: issue 2 + page miss 10 + 4 bursts + read latency 6; one from a page that is open 12.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.assembler import assemble
from npusim.config import load
from npusim.errors import CycleLimitError, DeadlockError, UsageError
from npusim.sim import Call, Demand, Job, Mode, serve, simulate
from tests.sim.reference_model import Pace, reference_calls
from tests.sim.test_hand_computed_machine import MATMUL_18

SMALL = load("small")
LOAD = ".segment in input 256\nsdma load ocm=0x4000 segment=in run=64"
NINE = "cv sync\n" * 9
"""With the final ``end``: 10 cycles."""
TEN_CYCLES = assemble(NINE)


def busy(cycles: int):
    """A program that keeps a unit of its only core busy so long."""
    return assemble("cv sync\n" * (cycles - 1))


# ---------------------------------------------------------------------------------------------------- one call of each


def test_the_next_job_begins_in_the_cycle_in_which_the_one_before_ends(run):
    # core 0: matmul 0..18, its end 18..19; the second job has the core at 19, though its cv is idle from the start
    spans = run((f"conv0 {MATMUL_18}", (0,)), ("cv sync", (0,)), ("cv sync", (1,)))
    assert spans == {"conv0": [(0, 18)], "cv": [(19, 20)], "core1.cv": [(0, 1)]}


def test_counters_begin_anew_and_dram_does_not(run):
    # The first job's load ends at 22, sees its own end 22..23; the second job's copy of it loads from its own segment:
    # pages 0 and 1, one in each DRAM bank, so a miss again: 23 + 2 + 10 + 4 + 6 = 45. Its sync waits for *its* load.
    second = f"{LOAD}\ncv sync wait(sdma, 1)"
    assert run((LOAD, (0,)), (second, (0,))) == {"sdma": [(0, 22), (23, 45)], "cv": [(47, 48)]}


def test_a_later_job_overtakes_where_its_cores_are_free_but_not_where_it_is_waited_for(run):
    # a has core 0 from 0 to 10. b (cores 0 and 1) waits for it. c (core 1) came later and would delay b: it waits, too,
    # until b has ended at 12; d (core 2) is in nobody's way.
    both = ".cores 2\ncv sync\ncore1.cv sync"
    spans = run((NINE, (0,)), (both, (0, 1)), ("teng sync", (1,)), ("teng sync", (2,)))
    assert spans["cv"][-1] == spans["core1.cv"][-1] == (10, 11)
    assert spans["core1.teng"] == [(12, 13)]
    assert spans["core2.teng"] == [(0, 1)]


def test_the_order_of_arrival_is_the_order_of_turns(run):
    # the second job arrives first: 3..13; the first arrives at 5 and begins at 13
    assert run((NINE, (0,)), (f"teng sync\n{NINE}", (0,)), arrivals=(5, 3))["cv"][9] == (3, 4)
    spans = run((NINE, (0,)), (f"teng sync\n{NINE}", (0,)), arrivals=(5, 3))
    assert spans["teng"] == [(3, 4)]
    assert spans["cv"][0] == (13, 14)


def test_results_say_when_a_job_came_and_when_it_began():
    first, second = simulate(SMALL, [Job(program=TEN_CYCLES), Job(program=TEN_CYCLES, arrival_cycle=4)]).jobs
    assert (first.arrival, first.begin, first.end, first.cycles) == (0, 0, 10, 10)
    assert (second.arrival, second.begin, second.end, second.cycles) == (4, 10, 20, 10)


def test_the_trace_keeps_jobs_apart_and_says_that_one_waited():
    programs = (assemble("teng sync"), TEN_CYCLES, TEN_CYCLES)
    trace = simulate(SMALL, [Job(program=program) for program in programs]).trace
    # job 0 has teng 0..2; job 1 has cv 2..12, job 2 12..22; cv stood still for the first, not between the others
    first, second = (next(trace.select(job=job).rows()) for job in (1, 2))
    assert (first.start, first.stall, first.cause) == (2, 2, "arrival")
    assert (second.start, second.stall, second.cause) == (12, 0, "")


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.VALUES])
def test_jobs_on_one_core_have_memories_of_their_own(mode):
    text = """
        .segment x input 256
        .segment y output 256
        in: sdma load  ocm=0x0 segment=x run=256
            sdma store ocm=0x0 segment=y run=256 wait(in)"""
    given = [np.full(256, value, np.uint8) for value in (1, 2)]
    result = simulate(SMALL, [Job(program=assemble(text), inputs={"x": x}) for x in given], mode=mode)
    assert [job.outputs["y"].tolist() for job in result.jobs] == [x.tolist() for x in given]


def test_an_empty_job_hands_its_cores_on():
    empty = assemble(".cores 1")
    jobs = [Job(program=empty), Job(program=TEN_CYCLES), Job(program=empty), Job(program=TEN_CYCLES)]
    assert len(empty) == 0
    assert [job.end for job in simulate(SMALL, jobs).jobs] == [0, 10, 10, 20]


def test_a_job_that_stands_still_holds_up_the_next_and_the_error_says_so():
    stuck = Job(program=assemble("cv sync wait(teng, 1)"), name="a")
    with pytest.raises(DeadlockError) as caught:
        simulate(SMALL, [stuck, Job(program=TEN_CYCLES, name="b")], allow_unverified=True)
    assert "core0.cv[0] sync for program:1 of job a waits for core0.teng >= 1 (now 0)" in str(caught.value)
    assert "core0.cv[0] sync for program:1 of job b waits for turns of job b >= 1 (now 0)" in str(caught.value)


def test_a_limit_before_a_job_arrives_is_a_limit():
    with pytest.raises(CycleLimitError, match="10 of 20 instructions"):
        simulate(SMALL, [Job(program=TEN_CYCLES), Job(program=TEN_CYCLES, arrival_cycle=99)], max_cycles=50)


# --------------------------------------------------------------------------------------------------- again and again


@pytest.fixture(params=["engine", "reference"])
def calls(request):
    """Calls of programs on cores at paces: (requested, begin, end) by job, from the engine or the reference."""

    def calls(*jobs, arrivals=None):
        placed = [(program, cores) for program, cores, _ in jobs]
        arrivals = arrivals or [0] * len(jobs)
        if request.param == "reference":
            found = reference_calls(SMALL, placed, arrivals=arrivals, paces=[pace for *_, pace in jobs])
        else:
            made = [Job(program=p, cores=c, arrival_cycle=a) for (p, c), a in zip(placed, arrivals, strict=True)]
            demands = [
                Demand(calls=pace.calls, period_cycles=pace.period, gap_cycles=pace.gap, runs=pace.runs)
                for *_, pace in jobs
            ]
            found = [tuple(call) for row in serve(SMALL, made, demands).calls for call in row]
        return [[call[1:] for call in found if call[0] == job] for job in range(len(jobs))]

    return calls


def test_calls_back_to_back(calls):
    assert calls((busy(10), (0,), Pace(calls=3, gap=5))) == [[(0, 0, 10), (15, 15, 25), (30, 30, 40)]]
    assert calls((busy(10), (0,), Pace(calls=2))) == [[(0, 0, 10), (10, 10, 20)]]


def test_a_call_of_several_runs_keeps_its_cores(calls):
    # the first job runs three times in a row; the second waits for all of them, then the first for it
    first, second = calls((busy(10), (0,), Pace(calls=2, runs=3)), (busy(4), (0,), Pace(calls=1)))
    assert first == [(0, 0, 30), (30, 34, 64)]
    assert second == [(0, 30, 34)]


def test_two_models_on_one_core_take_turns(calls):
    # 10 and 4 cycles, each asking again at once: 0..10, 10..14, 14..24, 24..28, 28..38
    first, second = calls((busy(10), (0,), Pace(calls=3)), (busy(4), (0,), Pace(calls=1)))
    assert first == [(0, 0, 10), (10, 14, 24), (24, 28, 38)]
    assert second == [(0, 10, 14), (14, 24, 28)]


def test_of_requests_in_one_cycle_the_first_jobs_is_first(calls):
    # the second job runs 0..10 and asks again at 10 + 20; the first runs 10..20 and asks at 20 + 10, the same cycle
    first, second = calls(
        (busy(10), (0,), Pace(calls=2, gap=10)), (busy(10), (0,), Pace(calls=2, gap=20)), arrivals=[10, 0]
    )
    assert first == [(10, 10, 20), (30, 30, 40)]
    assert second[:2] == [(0, 0, 10), (30, 40, 50)]


def test_who_has_had_his_calls_goes_on_until_the_last_one_has(calls):
    first, second = calls((busy(10), (0,), Pace(calls=2)), (busy(4), (1,), Pace(calls=1)))
    assert first == [(0, 0, 10), (10, 10, 20)]
    assert [end for *_, end in second] == [4, 8, 12, 16, 20]


def test_requests_by_the_clock(calls):
    # every 12.5 cycles: 0, 12, 25, 37; each of 10 cycles is answered in time
    assert calls((busy(10), (0,), Pace(calls=4, period=Fraction(25, 2)))) == [
        [(0, 0, 10), (12, 12, 22), (25, 25, 35), (37, 37, 47)]
    ]


def test_requests_that_come_too_fast_wait_for_one_another(calls):
    # every 6 cycles, 10 each: the wait grows by 4 a call
    assert calls((busy(10), (0,), Pace(calls=4, period=Fraction(6)))) == [
        [(0, 0, 10), (6, 10, 20), (12, 20, 30), (18, 30, 40)]
    ]


def test_a_model_asked_too_often_does_not_take_the_turns_of_another(calls):
    # the first is asked every 2 cycles and takes 10; the second asks 3 cycles after it was answered and takes 4.
    # 0..10 first; 10..14 second, again at 17; 14..24 first, 24..28 second, again at 31; 28..38 first, 38..42 second
    _, second = calls((busy(10), (0,), Pace(calls=1, period=Fraction(2))), (busy(4), (0,), Pace(calls=3, gap=3)))
    assert second == [(0, 10, 14), (17, 24, 28), (31, 38, 42)]


def test_loads_on_two_cores_slow_one_another_call_by_call(calls):
    # Both ask at 2, core 0 first: page miss 10 + 4 = 16, + 6 = 22, end 23. Core 1 is granted at 16: its page 1 is in
    # the other bank: 16 + 10 + 4 = 30, + 6 = 36, end 37. Core 0 asks again at 25, is granted at 30, and its page is
    # still open: 34, + 6 = 40, end 41. Core 1 asks at 39: 43, + 6 = 49, end 50; core 0 at 43: 47, + 6 = 53, end 54.
    program = assemble(LOAD)
    first, second = calls((program, (0,), Pace(calls=3)), (program, (1,), Pace(calls=2)))
    assert first == [(0, 0, 23), (23, 23, 41), (41, 41, 54)]
    assert second == [(0, 0, 37), (37, 37, 50)]


def test_requests_that_had_no_answer_are_known():
    served = serve(SMALL, [Job(program=busy(10))], [Demand(calls=2, period_cycles=Fraction(6))])
    assert served.cycles == 20
    assert [call.end for call in served.calls[0]] == [10, 20]
    assert served.open_requests == ((12, 18),)
    assert serve(SMALL, [], []).calls == ()


def test_every_call_is_told_when_it_has_ended():
    told: list[Call] = []
    jobs = [Job(program=busy(10), cores=(0,)), Job(program=busy(4), cores=(1,))]
    served = serve(SMALL, jobs, [Demand(calls=2), Demand()], told=told.append)
    assert [call.end for call in told] == [4, 8, 10, 12, 16, 20, 20]
    assert sorted(told) == sorted(call for row in served.calls for call in row)


def test_bytes_of_a_call_are_those_of_all_its_runs():
    assert serve(SMALL, [Job(program=assemble(LOAD))], [Demand(runs=3)]).dram_bytes == (192,)


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        (Demand(calls=0), "job program: calls must be at least 1, not 0"),
        (Demand(runs=0), "runs must be at least 1, not 0"),
        (Demand(gap_cycles=-1), "gap_cycles must be at least 0, not -1"),
        (Demand(period_cycles=Fraction(1, 2)), "requests are at least a cycle apart, not 1/2"),
    ],
)
def test_demands_that_make_no_sense(demand, message):
    with pytest.raises(UsageError) as caught:
        serve(SMALL, [Job(program=TEN_CYCLES)], [demand])
    assert message in str(caught.value)


def test_each_job_takes_a_demand():
    with pytest.raises(UsageError, match="0 demands for 1 jobs"):
        serve(SMALL, [Job(program=TEN_CYCLES)], [])


MODELS = st.tuples(st.integers(2, 60), st.integers(0, 80), st.booleans(), st.integers(1, 9))
"""Cycles of a call; gap or period; whether that is a period; calls."""


@settings(max_examples=30)
@given(st.lists(MODELS, min_size=1, max_size=4))
def test_turns_are_fair_whoever_asks_how_often(models):
    """On one core, a request waits for at most one call of each other model, and for those of its own before it."""
    jobs = [Job(program=busy(cycles), name=str(n)) for n, (cycles, *_) in enumerate(models)]
    demands = [
        Demand(calls=calls, period_cycles=Fraction(max(gap, 1)) if clocked else None, gap_cycles=gap)
        for _, gap, clocked, calls in models
    ]
    served = serve(SMALL, jobs, demands)
    assert served == serve(SMALL, jobs, demands)
    every = sorted((call for row in served.calls for call in row), key=lambda call: call.begin)
    assert all(before.end <= after.begin for before, after in pairwise(every))
    others = {n: sum(cycles for m, (cycles, *_) in enumerate(models) if m != n) for n in range(len(models))}
    for n, row in enumerate(served.calls):
        assert len(row) >= demands[n].calls
        free = 0
        for call in row:
            assert call.end - call.begin == models[n][0]
            assert call.begin - max(call.requested, free) <= others[n]
            free = call.end
