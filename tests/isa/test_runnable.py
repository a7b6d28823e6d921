"""The strategies of npusim.testing: every instruction has a recipe, and what a recipe makes runs as it promises."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.instruction import OPCODES, Instruction
from isa.instructions import Fill
from isa.memory import Memory
from isa.region import Space, intersection, make_box
from npusim.testing import RECIPES, recipe, runnable
from npusim.testing.recipes import recipe_of

CLASSES = tuple(OPCODES.values())
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.layout.mnemonic)


def test_every_instruction_has_a_recipe():
    assert [cls.__name__ for cls in CLASSES if cls not in RECIPES] == []


def box(region):
    run = int(region.run_bytes)
    return make_box(int(region.base), run, [int(c) for c in region.counts], [int(s) for s in region.strides])


def place(region):
    core = 0 if region.space is Space.OCM and region.place == -1 else int(region.place)
    return region.space, core


def copy_of(memory):
    return Memory([b.copy() for b in memory.ocm], [b.copy() for b in memory.dram], memory.core)


@each_class
@settings(max_examples=30)
@given(data=st.data())
def test_case_runs_and_writes_what_it_says(cls, data):
    made, memory = data.draw(runnable(cls))
    assert type(made) is cls
    assert all(constraint.holds(made) for constraint in cls.constraints)

    reads = [(i, r) for i, r in enumerate(made.reads()) if r.size_bytes]
    writes = [(i, r) for i, r in enumerate(made.writes()) if r.size_bytes]
    for i, read in reads:
        for j, write in writes:
            if place(read) == place(write) and intersection(box(read), box(write)):
                assert (i, j) in cls.may_alias
                assert (read.base, read.run, read.dtype, read.counts) == (
                    write.base, write.run, write.dtype, write.counts,
                ) or box(read) == box(write)  # fmt: skip

    before, again = copy_of(memory), copy_of(memory)
    made.operation(memory)
    made.operation(again)
    inside = copy_of(memory)
    for _, region in writes:
        where = inside.view(region)
        where.view(f"u{where.itemsize}")[...] = 0
        blank = before.view(region)
        blank.view(f"u{blank.itemsize}")[...] = 0
    for kind in ("ocm", "dram"):
        for one, two in zip(getattr(memory, kind), getattr(again, kind), strict=True):
            assert np.array_equal(one, two), "the same case gives the same bytes"
        for one, two in zip(getattr(inside, kind), getattr(before, kind), strict=True):
            assert np.array_equal(one, two), "nothing outside of writes() changes"


@each_class
@settings(max_examples=25)
@given(data=st.data())
def test_result_depends_on_reads_only(cls, data):
    made, memory = data.draw(runnable(cls))
    other = copy_of(memory)
    noise = np.random.default_rng(1)
    for buffer in (*other.ocm, *other.dram):
        buffer[:] = noise.integers(0, 256, buffer.size, np.uint8)
    for region in made.reads():
        if region.size_bytes:
            there = other.view(region)
            there.view(f"u{there.itemsize}")[...] = memory.view(region).view(f"u{there.itemsize}")
    made.operation(memory)
    made.operation(other)
    for region in made.writes():
        if region.size_bytes:
            assert memory.load(region).tobytes() == other.load(region).tobytes()


@each_class
def test_results_vary(cls):
    # A recipe whose results are nearly always saturated would test a kernel for nothing.
    varied: list[bool] = []

    @settings(max_examples=40, database=None)
    @given(case=runnable(cls))
    def run(case):
        made, memory = case
        made.operation(memory)
        long = (region for region in made.writes() if region.run and region.size_bytes >= 16)
        varied.extend(len(np.unique(memory.load(region))) > 2 for region in long)

    run()
    assert not varied or np.mean(varied) > 0.25 or cls is Fill


def test_missing_recipe_is_named():
    class Unknown(Instruction):
        pass

    with pytest.raises(KeyError, match="Unknown has no recipe"):
        recipe_of(Unknown)


def test_a_recipe_of_ones_own_is_found():
    class Own(Instruction):
        pass

    @recipe(Own)
    def make(arena, cls):
        return cls, arena.memory()

    try:
        assert recipe_of(Own) is make
    finally:
        del RECIPES[Own]


def test_missing_hypothesis_is_said_plainly():
    program = "import sys; sys.modules['hypothesis'] = None\nimport npusim.testing"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "npusim.testing needs hypothesis: pip install hypothesis" in done.stderr
