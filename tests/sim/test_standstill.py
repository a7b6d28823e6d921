"""What the machine says when nothing can go on: deadlocks, and the cycle limit."""

from __future__ import annotations

import pickle

import pytest

from npusim.errors import (
    CycleLimitError,
    DeadlockError,
)
from npusim.sim import Mode
from tests.sim.small_runs import ROUND_TRIP, run

CIRCLE = """
.core 0
conv0 sync wait(core1.teng, 2)
teng sync
teng sync wait(conv0, 1)
.core 1
teng sync
teng sync wait(core0.teng, 2)
"""


@pytest.mark.parametrize("mode", Mode)
def test_a_deadlock_names_who_waits_for_what(mode):
    with pytest.raises(DeadlockError) as caught:
        run(CIRCLE, inputs={}, allow_unverified=True, mode=mode)
    waiting = caught.value.waiting
    assert [(w.unit, w.index, w.needs) for w in waiting] == [
        ("core0.conv0", 0, (("core1.teng", 2, 1),)),
        ("core0.teng", 1, (("core0.conv0", 1, 0),)),
        ("core1.teng", 1, (("core0.teng", 2, 1),)),
    ]
    assert caught.value.cycle == (None if mode is Mode.VALUES else 1)
    assert "core0.conv0[0] sync for program:3 waits for core1.teng >= 2 (now 1)" in str(caught.value)


@pytest.mark.parametrize("mode", Mode)
def test_a_deadlock_at_a_barrier_names_who_is_missing(mode):
    # conv0, conv1 and teng meet twice under name 7, but teng comes once; conv1's second arrival waits for nobody
    text = "\n".join(["conv0 barrier units=0b111 id=7", "conv1 barrier units=0b111 id=7"] * 2)
    with pytest.raises(DeadlockError) as caught:
        run(text + "\nteng barrier units=0b111 id=7", inputs={}, allow_unverified=True, mode=mode)
    assert [(w.unit, w.index, w.needs) for w in caught.value.waiting] == [
        ("core0.conv0", 1, (("barriers 7 of core0.teng", 2, 1),)),
        ("core0.conv1", 1, (("barriers 7 of core0.teng", 2, 1),)),
    ]


@pytest.mark.parametrize("mode", Mode)
def test_a_participant_that_still_waits_is_missing_too(mode):
    # teng has the second meeting ahead of it, but never gets there
    meet = "barrier units=0b101 id=7"
    text = f"conv0 {meet}\nteng {meet}\nconv0 {meet}\nteng {meet} wait(cv, 9)"
    with pytest.raises(DeadlockError) as caught:
        run(text, inputs={}, allow_unverified=True, mode=mode)
    assert [(w.unit, w.index, w.needs) for w in caught.value.waiting] == [
        ("core0.conv0", 1, (("barriers 7 of core0.teng", 2, 1),)),
        ("core0.teng", 1, (("core0.cv", 9, 0),)),
    ]


@pytest.mark.parametrize("mode", Mode)
def test_only_what_is_missing_is_named(mode):
    with pytest.raises(DeadlockError) as caught:
        run("teng sync\ncv sync wait(teng, 1) wait(conv0, 1)", inputs={}, allow_unverified=True, mode=mode)
    assert [w.needs for w in caught.value.waiting] == [(("core0.conv0", 1, 0),)]


@pytest.mark.parametrize("mode", Mode)
def test_waiting_for_a_unit_without_work_is_a_deadlock(mode):
    with pytest.raises(DeadlockError, match=r"core0.cv\[0\] .* waits for core0.conv1 >= 1 \(now 0\)"):
        run("cv sync wait(conv1, 1)", inputs={}, allow_unverified=True, mode=mode)


@pytest.mark.parametrize("mode", Mode)
def test_meeting_a_unit_without_work_is_a_deadlock(mode):
    with pytest.raises(DeadlockError, match=r"core0.cv\[0\] .* waits for barriers 0 of core0.conv1 >= 1 \(now 0\)"):
        run("cv barrier units=0b1010", inputs={}, allow_unverified=True, mode=mode)


def test_the_cycle_limit_is_the_last_cycle_that_may_happen():
    cycles = run(ROUND_TRIP).cycles
    assert run(ROUND_TRIP, max_cycles=cycles).cycles == cycles
    with pytest.raises(CycleLimitError, match=f"limit of {cycles - 1} cycles was reached with 4 of 5"):
        run(ROUND_TRIP, max_cycles=cycles - 1)


def test_the_cycle_limit_says_what_everybody_was_doing():
    # load retires at 34, visible at 36; copy from 36 to 54
    with pytest.raises(CycleLimitError) as caught:
        run(ROUND_TRIP, max_cycles=40)
    assert str(caught.value) == (
        "the limit of 40 cycles was reached with 1 of 5 instructions retired: "
        "core0.cv[0] copy for mid:6 is executing; "
        "core0.sdma[1] store for round_trip:7 waits for core0.cv >= 1 (now 0)"
    )
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.waiting == caught.value.waiting


def test_the_cycle_limit_in_the_middle_of_a_transfer():
    with pytest.raises(CycleLimitError, match=r"0 of 5 .*; core0.sdma\[0\] load for in:5 is executing"):
        run(ROUND_TRIP, max_cycles=20)


def test_a_deadlock_before_the_limit_is_a_deadlock():
    with pytest.raises(DeadlockError):
        run(CIRCLE, inputs={}, allow_unverified=True, max_cycles=1_000)
