"""Bytes in use against hand-made programs, and against a slow count line by line."""

import numpy as np
from hypothesis import given, settings

from isa.assembler import assemble
from isa.instruction import UNITS_PER_CORE
from isa.region import OWN_CORE, Space, make_box, run_starts
from npusim.config import load
from npusim.report.curve import Curve, from_changes, total
from npusim.report.occupancy import LINE_BYTES, occupancy
from npusim.sim import Job, Mode, simulate
from npusim.sim.trace import concatenate
from tests.sim.race_free import cases

SMALL = load("small")


def run(program, cores=None):
    result = simulate(SMALL, Job(program=program, cores=cores), mode=Mode.TIME, allow_unverified=True)
    return result.trace, occupancy([program], result.trace, result.jobs[0].cores, SMALL.ocm.bytes)


def times(trace):
    return {row.origin.split(":")[0]: (row.start, row.end) for row in trace.rows() if row.origin}


def steps(curve):
    return list(zip(curve.cycles.tolist(), curve.values.tolist(), strict=True))


COPY = """
.segment x input 128
.segment y output 64
in: sdma load ocm=0 segment=x run=128
c: cv copy src=0 dst=1024 run=64 wait(in)
out: sdma store ocm=1024 segment=y run=64 wait(c)
"""


def test_a_value_lives_from_its_write_to_its_last_read():
    trace, ((ocm,), scratch) = run(assemble(COPY))
    at = times(trace)
    # the second line that `in` writes is read by nobody
    assert steps(ocm) == [(at["in"][0], 64), (at["c"][0], 128), (at["c"][1], 64), (at["out"][1], 0)]
    assert steps(scratch) == []


def test_cores_are_those_of_the_machine():
    _, ((one,), _) = run(assemble(COPY))
    trace, ((other,), _) = run(assemble(COPY), cores=(2,))
    assert set(trace.core.tolist()) == {2}
    assert steps(one) == steps(other)


def test_programs_that_follow_one_another_are_told_apart():
    program = assemble(COPY)
    trace, ((one,), _) = run(program)
    joined = concatenate([trace, trace], [0, trace.cycles], "twice")
    ((both,), _) = occupancy([program, program], joined, (0,), SMALL.ocm.bytes)
    later = [(cycle + trace.cycles, value) for cycle, value in steps(one)]
    assert steps(both) == steps(one) + later


def test_what_is_written_again_after_it_was_read_is_another_value():
    text = """
    .segment x input 64
    .segment s scratch 64
    .segment y output 64
    a: sdma load ocm=0 segment=x run=64
    b: sdma store ocm=0 segment=s run=64
    c: sdma load ocm=0 segment=s run=64
    d: sdma store ocm=0 segment=y run=64
    """
    trace, ((ocm,), scratch) = run(assemble(text))
    at = times(trace)
    assert steps(ocm) == [(at["a"][0], 64), (at["b"][1], 64), (at["d"][1], 0)]  # at b's end one ends, one begins
    assert steps(scratch) == [(at["b"][0], 64), (at["c"][1], 0)]


def test_a_value_replaced_in_place_ends_where_its_successor_begins():
    text = """
    .segment x input 64
    .segment y output 64
    a: sdma load ocm=0 segment=x run=64
    t: teng lookup src=0 dst=0 table=256 count=64 wait(a)
    b: sdma store ocm=0 segment=y run=64 wait(t)
    """
    trace, ((ocm,), _) = run(assemble(text))
    at = times(trace)
    assert [step for step in steps(ocm) if step[1] != steps(ocm)[0][1]] == [(at["b"][1], 0)]


def test_parts_of_a_line_that_are_written_one_after_the_other_are_one_value():
    text = """
    .segment x input 64
    .segment y output 64
    a: sdma load ocm=0 segment=x run=32
    b: sdma load ocm=32 segment=x offset=32 run=32
    c: sdma store ocm=0 segment=y run=64
    """
    trace, ((ocm,), _) = run(assemble(text))
    at = times(trace)
    assert steps(ocm) == [(at["a"][0], 64), (at["c"][1], 0)]


def counted(program, trace, core):
    """Bytes in use of one core, line by line and cycle by cycle, from the instructions' own regions."""
    accesses: dict = {}
    when = {(int(c), int(u), int(p)): (int(s), int(e)) for c, u, p, s, e in zip(
        trace.core, trace.unit, trace.position, trace.start, trace.end, strict=True)}  # fmt: skip
    for unit in program.streams:
        for position, instruction in enumerate(program.instructions(unit)):
            own, kind = divmod(unit, UNITS_PER_CORE)
            start, end = when[own, kind, position]
            for write, regions in ((False, instruction.reads()), (True, instruction.writes())):
                for region in regions:
                    place = own if region.place == OWN_CORE else int(region.place)
                    if region.space is not Space.OCM or place != core or not region.run_bytes:
                        continue
                    box = make_box(int(region.base), int(region.run_bytes), region.counts, region.strides)
                    for first in run_starts(box, box.base, box.end).tolist():
                        for line in range(first // LINE_BYTES, (first + box.run - 1) // LINE_BYTES + 1):
                            accesses.setdefault(line, set()).add((start, write, end))
    used = np.zeros(trace.cycles + 1, np.int64)
    for events in accesses.values():
        written = last = None
        for start, write, end in [*sorted(events), (trace.cycles + 1, True, 0)]:
            if not write:
                last = end if last is None else max(last, end)
            elif written is None or last is not None:
                if written is not None:
                    used[written : min(last, start)] += LINE_BYTES
                written, last = start, None
    return used


@settings(max_examples=20)
@given(cases())
def test_bytes_in_use_are_those_counted_one_by_one(case):
    trace, (curves, _) = run(case.program)
    for core, curve in enumerate(curves):
        expected = counted(case.program, trace, core)
        drawn = np.zeros(trace.cycles + 1, np.int64)
        for cycle, value in steps(curve):
            drawn[cycle:] = value
        np.testing.assert_array_equal(drawn, expected)


def test_a_thinned_curve_keeps_its_peak():
    curve = from_changes(np.arange(1000), np.where(np.arange(1000) % 2, -1, 1) * 7)
    thin = curve.thinned(50)
    assert len(thin.cycles) == 50
    assert thin.peak == curve.peak == 7
    assert curve.thinned(500) is curve


def test_curves_add_up():
    a = Curve(cycles=np.array([0, 10]), values=np.array([5, 0]))
    b = Curve(cycles=np.array([5, 10]), values=np.array([1, 2]))
    assert steps(total([a, b])) == [(0, 5), (5, 6), (10, 2)]
    assert total([]).peak == 0
