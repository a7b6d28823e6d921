"""The critical path against paths worked out by hand, and against what must hold for every program."""

import numpy as np
import pytest
from hypothesis import given, settings

from isa.assembler import assemble
from npusim.config import load
from npusim.report.critical import bounds_of, by_bound, predecessors, walk
from npusim.report.summary import summarize
from npusim.sim import Job, Mode, simulate
from tests.sim.race_free import cases

SMALL = load("small")
# 2 + (2 * 4 + 4 + 3 - 2) + 3 = 18 cycles
MATMUL = "matmul a=0 b=16 dst=128 params=32 m=3 k=4 n=4 a_row_stride=4 b_row_stride=4 dst_row_stride=4"
# 2 to issue, 10 for the page, 4 of data, 6 until it is there: 22 cycles
LOAD = "load ocm=0 segment=x run=64"


def figures(text):
    program = assemble(text)
    result = simulate(SMALL, Job(program=program), mode=Mode.TIME, allow_unverified=True)
    return summarize(result.trace, SMALL, 0, result.cycles, program.cores)


def spent(text):
    return {bound: cycles for bound, cycles in figures(text).critical_cycles.items() if cycles}


def test_a_load_and_the_product_that_waits_for_it():
    # load 0..22, seen at 24, product 24..42, end 42..43
    text = f".segment x input 64\n in: sdma {LOAD}\n mm: conv0 {MATMUL} wait(in)"
    assert spent(text) == {"dram": 22, "compute": 18, "sync": 3}
    assert [(layer.bound_by, layer.critical_cycles) for layer in figures(text).layers] == [
        ("dram", 22),
        ("compute", 18 + 2),  # the two cycles until the load is seen are the product's
    ]


def test_a_hidden_load_is_on_nobodys_path():
    # three products 0..18..36..54, the load done at 22 beside them
    text = (
        f".segment x input 64\n sdma load ocm=4096 segment=x run=64\n conv0 {MATMUL}\n conv0 {MATMUL}\n conv0 {MATMUL}"
    )
    assert spent(text) == {"compute": 54, "sync": 1}
    assert [layer.critical_cycles for layer in figures(text).layers] == [18, 0, 18, 18]  # by start, then end


def test_other_cores_are_seen_later():
    # core 1 retires its product at 18, core 0 sees it at 22
    assert spent(f"core1.conv0 {MATMUL}\n core0.conv0 {MATMUL} wait(core1.conv0, 1)") == {"compute": 36, "sync": 5}


def test_a_barrier_is_left_through_its_last_participant():
    # conv0 arrives at 18, sdma was there at 0; both leave at 20, then 20..21 and 21..22
    text = f"conv0 {MATMUL}\n conv0 barrier units=conv0+sdma\n sdma barrier units=conv0+sdma\n sdma sync"
    assert spent(text) == {"compute": 18, "sync": 4}


def test_what_moves_inside_is_move():
    # send: 2 to issue, 4 flits, 5 until they are there: 11; copy 1 + 4 + 1 = 6, seen at 15
    send = "send src=0 dst_core=1 dst=0 run=64"
    assert spent(f"sdma {send}\n core1.cv copy src=0 dst=4096 run=64 wait(core0.sdma, 1)") == {"move": 17, "sync": 5}


@settings(max_examples=25)
@given(cases())
def test_every_step_of_every_path_is_a_wait_of_known_length(case):
    result = simulate(SMALL, Job(program=case.program), mode=Mode.TIME)
    trace = result.trace
    before = predecessors(trace, SMALL)
    steps = np.flatnonzero((before >= 0) & (trace.stall_cause != -2))  # -2: at a barrier
    gaps = (trace.start[steps] - trace.end[before[steps]]).tolist()
    own = trace.core[steps] == trace.core[before[steps]]
    same = (own & (trace.unit[steps] == trace.unit[before[steps]])).tolist()
    for gap, is_same, is_near in zip(gaps, same, own.tolist(), strict=True):
        assert gap == (0 if is_same else 2 if is_near else 4)
    path = walk(trace, before, len(trace) - 1, inside=False)
    assert trace.start[path[-1]] == 0
    assert sum(by_bound(trace, bounds_of(trace), before, path).values()) == result.cycles


def test_an_empty_program_has_no_path():
    assert figures("conv0 sync").critical_cycles == pytest.approx(
        {"compute": 0, "vector": 0, "move": 0, "dram": 0, "sync": 2}
    )
