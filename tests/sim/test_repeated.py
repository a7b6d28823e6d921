"""A program that is simulated again is not decoded again, and nobody can tell: not on other machines or cores."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from isa.assembler import assemble
from isa.program import Program
from isa.verify import Limits, check_bounds
from npusim.config import load
from npusim.sim import Job, Mode, decode, run, simulate
from npusim.sim.executor import Executor

TEXT = """
.program round_trip
.segment x input 256
.segment y output 256
in:  sdma load  ocm=0x0 segment=x run=256
mid: cv   copy  src=0x0 dst=0x4000 run=256 wait(in)
     sdma store ocm=0x4000 segment=y run=256 wait(mid)
"""
SMALL = load("small")
SLOWER = SMALL.with_values({"dram.read_latency_cycles": SMALL.dram.read_latency_cycles + 7})
X = np.arange(256, dtype=np.uint8)


def job(program: Program, **more: object) -> Job:
    return Job(program=program, inputs={"x": X}, **more)


def test_a_program_is_decoded_once(monkeypatch):
    program = assemble(TEXT)
    first = simulate(SMALL, job(program))
    monkeypatch.setattr(decode, "_stream", None)  # would be called to decode
    again = simulate(SMALL, job(program))
    assert again.trace.end.tolist() == first.trace.end.tolist()
    assert np.array_equal(again.outputs["y"], X)


def test_another_machine_has_its_own_cycles():
    program = assemble(TEXT)
    cycles = [simulate(hardware, job(program)).cycles for hardware in (SMALL, SLOWER, SMALL)]
    assert cycles == [cycles[0], cycles[0] + 7, cycles[0]]


def test_other_cores_have_their_own_units():
    program = assemble(TEXT)
    last = SMALL.machine.cores - 1
    for core in (0, last, 0):
        assert set(simulate(SMALL, job(program, cores=(core,))).trace.core.tolist()) == {core}
    together = simulate(SMALL, [job(program, cores=(0,)), job(program, cores=(last,))])
    assert sorted(set(together.trace.job.tolist())) == [0, 1]


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.VALUES])
def test_other_inputs_have_their_own_outputs(mode):
    program = assemble(TEXT)
    for values in (X, X[::-1].copy(), X):
        result = simulate(SMALL, Job(program=program, inputs={"x": values}), mode=mode)
        assert np.array_equal(result.outputs["y"], values)


def test_bounds_are_those_of_the_machine_asked_for():
    program = assemble(TEXT)
    roomy, narrow = Limits(cores=1, ocm_bytes=0x8000), Limits(cores=1, ocm_bytes=0x4000)
    assert [bool(check_bounds(program, limits)) for limits in (roomy, narrow, roomy)] == [False, True, False]


def test_a_changed_stamp_makes_another_program():
    program = assemble(TEXT)
    assert program.with_stamp("x") != program
    assert program.instructions(4) == program.with_stamp("x").instructions(4)


def test_memories_go_with_the_run(monkeypatch):
    kept = []

    class Watched(Executor):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept.append(weakref.ref(self))

    monkeypatch.setattr(run, "Executor", Watched)
    gc.disable()
    try:
        result = simulate(SMALL, job(assemble(TEXT)))
        assert [reference() for reference in kept] == [None]
    finally:
        gc.enable()
    assert np.array_equal(result.outputs["y"], X)
