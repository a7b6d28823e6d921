"""The event engine and the cycle-stepped reference model agree on every start and retire cycle.

Random programs on random machines (``reference_programs``); docs/microarchitecture.md decides who is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.assembler import assemble
from isa.disassembler import disassemble
from isa.instruction import MNEMONICS
from isa.program import Program, make_program
from npusim.config import Hardware, load
from npusim.timing import uncontended_cycles
from tests.sim.engine_times import engine_calls, engine_times
from tests.sim.reference_model import Pace, reference_calls, reference_times
from tests.sim.reference_programs import FIELDS, Chooser, random_instruction, random_program, random_segments

Placed = tuple[Program, tuple[int, ...], int]
"""A program, its physical cores, and the cycle of its arrival."""

CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "machine.cores": st.integers(1, 3),
    "machine.clock_hz": st.sampled_from((1_000_000_000, 800_000_000, 333_333_333)),
    "conv.rows": st.integers(1, 9),
    "conv.columns": st.integers(1, 9),
    "conv.dataflow": st.sampled_from(("weight_stationary", "output_stationary", "input_stationary")),
    "conv.fold_overlap": st.booleans(),
    "conv.input_channel_granule": st.integers(1, 9),
    "conv.depthwise_pixels": st.integers(1, 5),
    "conv.passes_16_bit": st.integers(1, 3),
    "conv.partial_bytes_per_cycle": st.integers(1, 40),
    "conv.issue_cycles": st.integers(0, 4),
    "conv.epilogue_cycles": st.integers(0, 4),
    "teng.bytes_per_cycle": st.sampled_from((8, 16, 24, 64)),
    "teng.row_cycles": st.integers(0, 5),
    "teng.issue_cycles": st.integers(0, 3),
    "teng.pipeline_cycles": st.integers(0, 5),
    "cv.bytes_per_cycle": st.integers(1, 40),
    "cv.transpose_tile": st.integers(1, 9),
    "cv.issue_cycles": st.integers(0, 3),
    "cv.pipeline_cycles": st.integers(0, 3),
    "sdma.port_bytes_per_cycle": st.integers(1, 40),
    "sdma.issue_cycles": st.integers(0, 4),
    "ocm.bytes": st.sampled_from((1 << 16, 1 << 18)),
    "ocm.banks": st.sampled_from((1, 2, 8, 32)),
    "ocm.conflict_cycles": st.integers(0, 7),
    "sync.counter_latency_cycles": st.integers(1, 6),
    "sync.cross_core_latency_cycles": st.integers(1, 9),
    "sync.control_cycles": st.integers(1, 4),
    "path.bytes_per_cycle": st.integers(1, 40),
    "path.group_flits": st.integers(1, 9),
    "path.latency_cycles": st.integers(1, 9),
    "dram.bytes_per_second": st.integers(1_000_000_000, 40_000_000_000),
    "dram.burst_bytes": st.sampled_from((8, 16, 64)),
    "dram.group_bursts": st.integers(1, 9),
    "dram.page_bytes": st.sampled_from((64, 128, 512, 2048)),
    "dram.banks": st.integers(1, 5),
    "dram.page_miss_cycles": st.integers(0, 12),
    "dram.turnaround_cycles": st.integers(0, 6),
    "dram.read_latency_cycles": st.integers(1, 9),
    "dram.write_latency_cycles": st.integers(1, 9),
}


@st.composite
def machines(draw: Any) -> Hardware:
    """A variant of ``small``: about half of the numbers changed, refresh often on and then frequent."""
    changed = {key: draw(values) for key, values in CHANGES.items() if draw(st.booleans())}
    if draw(st.booleans()):
        interval = draw(st.integers(1, 300))
        changed["dram.refresh_interval_cycles"] = interval
        changed["dram.refresh_cycles"] = draw(st.integers(0, interval - 1))
    return load("small").with_values(changed)


@st.composite
def situations(draw: Any, most: int = 24) -> tuple[Hardware, list[Placed]]:
    """A machine and one to three programs side by side on disjoint sets of its cores."""
    hardware = draw(machines())
    c = Chooser(draw, hardware.ocm.bytes)
    free = list(draw(st.permutations(range(hardware.machine.cores))))
    jobs: list[Placed] = []
    while free and (not jobs or c.flag()):
        count = c.n(1, len(free))
        cores, free = tuple(free[:count]), free[count:]
        arrival = c.n(0, 200) if c.flag() else 0
        jobs.append((random_program(c, f"program{len(jobs)}", count, c.n(1, most)), cores, arrival))
    return hardware, jobs


@st.composite
def shared_cores(draw: Any, most: int = 8) -> tuple[Hardware, list[Placed]]:
    """A machine and two to four short programs on any of its cores, arriving in any order."""
    hardware = draw(machines())
    c = Chooser(draw, hardware.ocm.bytes)
    jobs: list[Placed] = []
    for number in range(c.n(2, 4)):
        cores = draw(st.permutations(range(hardware.machine.cores)))[: c.n(1, hardware.machine.cores)]
        program = random_program(c, f"program{number}", len(cores), c.n(1, most))
        jobs.append((program, tuple(cores), c.pick((0, c.n(0, 100), c.n(0, 1000)))))
    return hardware, jobs


@st.composite
def paces(draw: Any, count: int) -> list[Pace]:
    """How often jobs are called: a few times, back to back or by a clock that may be too fast for them."""
    closed = st.builds(Pace, calls=st.integers(1, 3), gap=st.integers(0, 300), runs=st.integers(1, 2))
    period = st.fractions(50, 3_000, max_denominator=7)
    clocked = st.builds(Pace, calls=st.integers(1, 3), period=period, runs=st.integers(1, 2))
    return list(draw(st.lists(closed | clocked, min_size=count, max_size=count)))


def arguments(jobs: Sequence[Placed]) -> tuple[list[tuple[Program, tuple[int, ...]]], list[int]]:
    """Jobs as ``engine_times`` and ``reference_times`` take them: programs on cores, and arrivals."""
    return [(program, cores) for program, cores, _ in jobs], [arrival for *_, arrival in jobs]


def check_agreement(hardware: Hardware, jobs: Sequence[Placed]) -> None:
    placed, arrivals = arguments(jobs)
    expected = reference_times(hardware, placed, arrivals=arrivals)
    found = engine_times(hardware, placed, arrivals=arrivals)
    if expected == found:
        return
    keys = sorted(expected.keys() | found.keys(), key=lambda key: (expected.get(key, (0, 0)), key))
    wrong = [key for key in keys if expected.get(key) != found.get(key)]
    lines = [f"{key}: reference {expected.get(key)}, engine {found.get(key)}" for key in wrong]
    texts = [f"on cores {cores} from {arrival}:\n{disassemble(program)}" for program, cores, arrival in jobs]
    values = "\n".join(f"{key} = {value}" for key, value in hardware.values().items())
    pytest.fail("\n".join([*lines[:10], *texts, values]))


@pytest.mark.parametrize("mnemonic", sorted(FIELDS))
@settings(max_examples=12)
@given(data=st.data())
def test_each_instruction_alone(mnemonic, data):
    hardware = data.draw(machines())
    if mnemonic == "send" and hardware.machine.cores == 1:
        hardware = hardware.with_values({"machine.cores": 2})
    cores = hardware.machine.cores
    c = Chooser(data.draw, hardware.ocm.bytes)
    unit = c.pick(MNEMONICS[mnemonic].layout.units)
    instruction = random_instruction(c, mnemonic, 0, cores)
    program = make_program("alone", {int(unit): [instruction]}, random_segments(c), cores=cores)
    jobs: list[Placed] = [(program, tuple(range(cores)), 0)]
    check_agreement(hardware, jobs)

    # and the duration that the compiler is told (microarchitecture 6.6)
    calm = hardware.with_values({"dram.refresh_interval_cycles": 0, "dram.refresh_cycles": 0})
    first_pages = -(-program.segments[0].size_bytes // calm.dram.page_bytes)
    base = first_pages * calm.dram.page_bytes if getattr(instruction, "segment", 0) == 1 else 0
    start, retire = reference_times(calm, arguments(jobs)[0])[0, 0, unit, 0]
    assert uncontended_cycles(instruction, unit, calm, base) == retire - start


@settings(max_examples=200)
@given(situations())
def test_engine_and_reference_agree(situation):
    check_agreement(*situation)


@settings(max_examples=40)
@given(shared_cores())
def test_engine_and_reference_agree_on_turns(situation):
    check_agreement(*situation)


@settings(max_examples=30)
@given(st.data())
def test_engine_and_reference_agree_on_calls(data):
    hardware, jobs = data.draw(shared_cores(most=5))
    (placed, arrivals), demanded = arguments(jobs), data.draw(paces(len(jobs)))
    expected = reference_calls(hardware, placed, arrivals=arrivals, paces=demanded)
    assert engine_calls(hardware, placed, arrivals=arrivals, paces=demanded) == expected


@pytest.mark.slow
@settings(max_examples=1_000)
@given(shared_cores(most=30))
def test_engine_and_reference_agree_on_many_turns(situation):
    check_agreement(*situation)


@pytest.mark.slow
@settings(max_examples=2_000)
@given(situations(most=60))
def test_engine_and_reference_agree_on_many(situation):
    check_agreement(*situation)


@settings(max_examples=25)
@given(situations(most=8))
def test_the_reference_model_leaves_out_only_idle_cycles(situation):
    hardware, jobs = situation
    placed, arrivals = arguments(jobs)
    visited = reference_times(hardware, placed, arrivals=arrivals, every_cycle=True)
    assert visited == reference_times(hardware, placed, arrivals=arrivals)


def test_random_programs_know_every_instruction():
    assert FIELDS.keys() | {"barrier", "end"} == MNEMONICS.keys()


@pytest.mark.parametrize("first_run", range(1, 400, 9))
def test_a_copy_that_starts_when_a_group_is_granted_is_in_its_way(first_run):
    # the second copy streams from the banks that the load fills, and starts in every cycle relative to its groups
    small = load("small")
    program = assemble(f"""
        .segment x input 4096
        sdma load ocm=0x0 segment=x run=4096
        cv   copy src=0x6000 dst=0x7000 run={first_run}
        cv   copy src=0x2000 dst=0x3000 run=2048
    """)
    jobs = [(program, (0,))]
    assert engine_times(small, jobs) == reference_times(small, jobs)
