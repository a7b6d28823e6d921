"""The verifier against brute force: sets of bytes, and happens-before as paths in a graph, on small random programs."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from isa.dtypes import item_bytes
from isa.instruction import UNITS_PER_CORE, Instruction, Unit, Wait, unit_number
from isa.instructions import Barrier, Copy, End, Fill, Load, MaxPool, Multicast, Send, Store, Sync
from isa.program import Program, Segment, SegmentKind, make_program
from isa.region import OWN_CORE, Space
from isa.verify import Limits, check_bounds, verify
from isa.verify import races as races_module

OCM_BYTES = 96
DRAM_BYTES = 80
LIMITS = Limits(cores=4, ocm_bytes=OCM_BYTES)
SEGMENTS = (
    Segment(name="scratch", kind=SegmentKind.SCRATCH, size_bytes=DRAM_BYTES),
    Segment(name="parameters", kind=SegmentKind.PARAMETERS, size_bytes=16, data=np.zeros(16, np.uint8)),
)
SINGLE = {"bounds", "alias", "constraint", "alignment"}

# ----------------------------------------------------------------------------------------------------- random programs


def shape(rng, dims, *, fold=False):
    """Run, counts and strides, fastest first; nested unless ``fold``, often with gaps that another may fill."""
    run = rng.choice([1, 2, 3, 4, 8])
    counts, strides, reach = [], [], run
    for _ in range(dims):
        count = rng.choice([1, 1, 2, 2, 3])
        stride = rng.randint(0 if not fold else 1, 12) if fold else rng.choice([reach, reach, 2 * reach, reach + 1])
        counts.append(count)
        strides.append(stride)
        reach += (count - 1) * stride
    return run, counts, strides, reach


def place(rng, reach, size):
    """A base that mostly keeps the region inside, often on a multiple of four so that regions meet exactly."""
    if rng.random() < 0.01:
        return rng.randint(0, size)
    room = max(size - reach, 0)
    base = rng.randint(0, room)
    return base // 4 * 4 if rng.random() < 0.7 else base


def named(prefix, counts, strides):
    return {f"{prefix}stride_{i + 1}": s for i, s in enumerate(strides)} | {
        f"count_{i + 1}": c for i, c in enumerate(counts)
    }


def random_fill(rng):
    run, counts, strides, reach = shape(rng, 2, fold=rng.random() < 0.03)
    return Fill(dst=place(rng, reach, OCM_BYTES), run=run, **named("dst_", counts, strides))


def random_copy(rng):
    run, counts, strides, reach = shape(rng, 2)
    src_strides = rng.choice([strides, [run, run * counts[0]], [rng.randint(0, 8), rng.randint(0, 8)]])
    src_reach = run + sum((c - 1) * s for c, s in zip(counts, src_strides, strict=True))
    return Copy(
        src=place(rng, src_reach, OCM_BYTES), dst=place(rng, reach, OCM_BYTES), run=run,
        src_stride_1=src_strides[0], src_stride_2=src_strides[1], **named("dst_", counts, strides),
    )  # fmt: skip


def random_pool(rng):
    run, (width, height), (pixel, row), reach = shape(rng, 2)
    return MaxPool(
        src=place(rng, reach, OCM_BYTES), dst=place(rng, reach, OCM_BYTES), in_height=height, in_width=width,
        in_channels=run, out_height=height, out_width=width, src_row_stride=row, src_pixel_stride=pixel,
        dst_row_stride=row, dst_pixel_stride=pixel,
    )  # fmt: skip


def random_transfer(rng, cores):
    run, counts, strides, reach = shape(rng, 2)
    dense = [run, run * counts[0]]
    size = run * counts[0] * counts[1]
    ocm = {"ocm": place(rng, size, OCM_BYTES), "ocm_stride_1": dense[0], "ocm_stride_2": dense[1]}
    dram = {"segment": 0, "offset": place(rng, reach, DRAM_BYTES), **named("dram_", counts, strides)}
    kind = rng.choice(["load", "load", "store", "store", "multicast", "parameters", "send"])
    if kind == "load":
        return Load(run=run, **ocm, **dram)
    if kind == "store":
        return Store(run=run, **ocm, **dram)
    if kind == "multicast":
        return Multicast(run=run, cores=rng.randint(1, (1 << cores) - 1), **ocm, **dram)
    if kind == "parameters":
        return Load(run=run, segment=1, ocm=ocm["ocm"], offset=0)
    return Send(
        src=ocm["ocm"], dst_core=rng.randrange(cores), dst=place(rng, reach, OCM_BYTES), run=run,
        src_stride_1=dense[0], src_stride_2=dense[1], **named("dst_", counts, strides),
    )  # fmt: skip


def random_instruction(rng, unit, cores):
    """Mostly one that does not destroy its own source."""
    for _ in range(8):
        made = draw_instruction(rng, unit, cores)
        core = unit // UNITS_PER_CORE
        read, write = ({t for r in regions for t in touched(r, core)} for regions in (made.reads(), made.writes()))
        if not read & write or rng.random() < 0.01:
            return made
    return Sync()


def draw_instruction(rng, unit, cores):
    if rng.random() < 0.05:
        return Sync()
    if unit % UNITS_PER_CORE == Unit.SDMA:
        return random_transfer(rng, cores)
    if unit % UNITS_PER_CORE == Unit.TENG:
        return random_pool(rng)
    return rng.choice([random_fill, random_copy, random_copy])(rng)


def with_waits(instruction, waits):
    values = {field.name: getattr(instruction, field.name) for field in instruction.layout.fields}
    return type(instruction)(**values, waits=tuple(waits[:3]))


def random_program(rng) -> Program:
    """Instructions in a global order, each waiting for some of those before it; sometimes for what never comes."""
    cores = rng.choice([1, 2, 2])
    units = [unit_number(core, unit) for core in range(cores) for unit in (Unit.TENG, Unit.CV, Unit.SDMA)]
    units = rng.sample(units, rng.randint(2, min(4, len(units))))
    care = rng.choice([0.3, 0.7, 0.95, 1.0, 1.0])
    streams: dict[int, list[Instruction]] = {unit: [] for unit in units}
    if rng.random() < 0.8:  # somebody writes everything first
        for core in range(cores):
            mover = unit_number(core, Unit.CV)
            streams.setdefault(mover, []).append(Fill(dst=0, run=OCM_BYTES))
            filler = unit_number(core, Unit.SDMA)
            streams.setdefault(filler, [])
        everybody = sum(1 << unit for unit in streams)
        for unit, stream in streams.items():
            stream.append(Barrier(units=everybody, id=7))
            if unit == unit_number(0, Unit.SDMA):
                stream.append(Store(ocm=0, segment=0, offset=0, run=DRAM_BYTES))
    for _ in range(rng.randint(2, 12)):
        unit = rng.choice(units)
        others = [u for u in streams if u != unit and streams[u]]
        rng.shuffle(others)
        waits = []
        for other in others:
            if rng.random() < care:
                behind = 0 if rng.random() < care else rng.randint(0, 2)
                waits.append(Wait(other, max(len(streams[other]) - behind, 1)))
        if rng.random() < 0.02:
            waits.insert(0, Wait(rng.choice(units), rng.randint(1, 9)))
        if len(waits) > 3:
            streams[unit].append(Sync(waits=tuple(waits)))
            waits = []
        streams[unit].append(with_waits(random_instruction(rng, unit, cores), waits))
        if rng.random() < 0.08:
            members = rng.sample(list(streams), rng.randint(1, len(streams)))
            for member in members if rng.random() < 0.95 else members[:-1]:
                mask = sum(1 << m for m in members)
                streams[member].append(Barrier(units=mask, id=rng.choice([0, 0, 0, 1]) if len(members) == 1 else 2))
    return make_program("random", streams, SEGMENTS, cores=cores)


ARENA_BYTES = 40


def random_duel(rng) -> Program:
    """Four DMA units on one piece of DRAM, in channel slices and whole, in order but for one or two missing waits."""
    units = [unit_number(core, Unit.SDMA) for core in range(4)]
    together = Barrier(units=sum(1 << unit for unit in units))
    streams: dict[int, list[Instruction]] = {u: [Fill(dst=0, run=64), together] for u in units}
    streams[units[0]].insert(1, Store(ocm=0, segment=0, offset=0, run=ARENA_BYTES))
    length = rng.randint(3, 7)
    careless = rng.randrange(1, length)
    for step in range(length):
        unit = rng.choice(units)
        if rng.random() < 0.6:
            place = {"run": rng.choice([2, 4]), "count_1": rng.randint(2, 4), "dram_stride_1": 8, "ocm_stride_1": 4}
            place["offset"] = rng.choice([0, 0, 4, 4, 2, 8, 12])
        else:
            place = {"run": rng.choice([4, 8, 16, 24]), "offset": rng.choice([0, 4, 8, 12])}
        others = [other for other in units if other != unit]
        if step == careless:
            others = rng.sample(others, rng.choice([1, 2]))
        waits = tuple(Wait(other, len(streams[other])) for other in others)
        streams[unit].append(rng.choice([Load, Store])(ocm=0, segment=0, waits=waits, **place))
    return make_program("duel", streams, SEGMENTS, cores=4)


# -------------------------------------------------------------------------------------------------------------- oracle


def touched(region, core):
    """Every (memory, address) a region touches, as often as it does."""
    place = core if region.place == OWN_CORE else region.place
    run = region.run * item_bytes(region.dtype)
    offsets = [
        sum(i * s for i, s in zip(indices, region.strides, strict=True))
        for indices in product(*(range(c) for c in region.counts))
    ]
    return [((region.space, int(place)), region.base + offset + b) for offset in offsets for b in range(run)]


class Oracle:
    """What a program does wrong, found by enumeration."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes = {
            (unit, position): instruction
            for unit in program.streams
            for position, instruction in enumerate(program.instructions(unit))
        }
        self.reads, self.writes = {}, {}
        for (unit, position), instruction in self.nodes.items():
            core = unit // UNITS_PER_CORE
            self.reads[unit, position] = {t for r in instruction.reads() for t in touched(r, core)}
            self.writes[unit, position] = {t for r in instruction.writes() for t in touched(r, core)}

    def single(self):
        """Kinds of violations of single instructions."""
        kinds = set()
        sizes = {(Space.OCM, c): OCM_BYTES for c in range(self.program.cores)}
        sizes |= {(Space.DRAM, n): s.size_bytes for n, s in enumerate(self.program.segments)}
        for node, instruction in self.nodes.items():
            if any(not rule.holds(instruction) for rule in instruction.constraints):
                kinds.add("constraint")
            if any(address >= sizes[memory] for memory, address in self.reads[node] | self.writes[node]):
                kinds.add("bounds")
            for write in instruction.writes():
                listed = touched(write, node[0] // UNITS_PER_CORE)
                if len(set(listed)) < len(listed):
                    kinds.add("alias")
            if self.reads[node] & self.writes[node]:
                kinds.add("alias")  # none of the instructions used here may work in place
        return kinds

    def edges(self):
        """Successor lists, one more node per meeting of a barrier; None where something waited for never comes."""
        lists: dict[tuple, list[tuple]] = {node: [] for node in self.nodes}
        met: dict[tuple, int] = {}
        seen: Counter[tuple[int, int]] = Counter()
        for (unit, position), instruction in self.nodes.items():
            before = [(unit, position - 1)] if position else []
            before += [(wait.unit, wait.value - 1) for wait in instruction.waits]
            here: tuple = (unit, position)
            if isinstance(instruction, Barrier):
                here = ("meeting", instruction.id, instruction.units, seen[unit, instruction.id])
                seen[unit, instruction.id] += 1
                met[here] = met.get(here, 0) + 1
                lists.setdefault(here, []).append((unit, position))
            for node in before:
                if node not in lists:
                    return None
                lists[node].append(here)
        if any(count != meeting[2].bit_count() for meeting, count in met.items()):
            return None
        return lists

    def after(self):
        """For each node those reachable from it; None for a deadlock."""
        edges = self.edges()
        if edges is None:
            return None
        reach = {}
        for start in edges:
            found, todo = set(), list(edges[start])
            while todo:
                node = todo.pop()
                if node not in found:
                    found.add(node)
                    todo.extend(edges[node])
            reach[start] = found
        return None if any(node in found for node, found in reach.items()) else reach

    def races(self, after):
        """Pairs of nodes that race, with the bytes they race for."""
        return {
            (a, b): common
            for a in self.nodes
            for b in self.nodes
            if a[0] < b[0] and b not in after[a] and a not in after[b]
            and (common := (self.writes[a] & (self.reads[b] | self.writes[b])) | (self.reads[a] & self.writes[b]))
        }  # fmt: skip

    def unwritten(self, after):
        """By node: bytes it reads that nothing writes before it."""
        preset = {(Space.DRAM, n) for n, s in enumerate(self.program.segments) if s.preset}
        result = {}
        for node, read in self.reads.items():
            written = set().union(*(self.writes[other] for other in self.nodes if node in after[other]))
            missing = {t for t in read - written if t[0] not in preset}
            if missing:
                result[node] = missing
        return result


def node_of(site):
    core, unit = site.unit.split(".")
    return unit_number(int(core.removeprefix("core")), Unit[unit.upper()]), site.position


def bytes_named(program, violation):
    number = (
        program.segment_number(violation.place)
        if violation.space is Space.DRAM
        else int(violation.place.removeprefix("core"))
    )
    return {((violation.space, number), address) for address in range(violation.low, violation.high + 1)}


def compare(program) -> str:
    """Assert that verifier and oracle agree; what they agree on."""
    oracle = Oracle(program)
    report = verify(program, LIMITS, max_violations=1000)
    kinds = {violation.kind for violation in report.violations}
    single = oracle.single()
    assert kinds & SINGLE == single
    assert {v.kind for v in check_bounds(program, LIMITS)} >= single
    assert report.clean == bool(report.stamp)
    if single:
        return "single"
    if "structure" in kinds:  # masks of a meeting differ: the oracle sees a meeting that lacks somebody
        assert oracle.after() is None
        return "structure"
    after = oracle.after()
    if after is None:
        assert kinds == {"deadlock"}
        return "deadlock"
    races = oracle.races(after)
    unwritten = oracle.unwritten(after)
    for violation in report.violations:
        nodes = tuple(sorted(node_of(site) for site in violation.sites))
        named = bytes_named(program, violation)
        if violation.kind == "race":
            assert named <= races[nodes]
        else:
            assert violation.kind == "uninitialised"
            assert named <= unwritten[nodes[0]]
    assert ("race" in kinds) == bool(races)
    if races:
        return "race"
    assert ("uninitialised" in kinds) == bool(unwritten)
    return "uninitialised" if unwritten else "clean"


# --------------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(params=["seldom", "always"])
def forgetful(request, monkeypatch):
    """Whether the race check drops settled accesses at every step or almost never; the verdict may not depend on it."""
    if request.param == "always":
        monkeypatch.setattr(races_module, "WORK_BEFORE_FORGETTING", 0)
        monkeypatch.setattr(races_module, "WORK_PER_STRETCH", 0)


def test_verdicts_agree_on_programs_of_every_kind(forgetful):
    verdicts = Counter(compare(random_program(random.Random(seed))) for seed in range(120))
    # each verdict is common enough that agreement means something
    assert verdicts["clean"] >= 30, verdicts
    assert verdicts["race"] >= 15, verdicts
    assert min(verdicts[kind] for kind in ("deadlock", "uninitialised", "single")) >= 4, verdicts


def test_a_missing_wait_is_found_whatever_surrounds_it(forgetful):
    verdicts = Counter(compare(random_duel(random.Random(seed))) for seed in range(250))
    assert verdicts["race"] >= 40, verdicts
    assert verdicts["clean"] >= 40, verdicts


@pytest.mark.slow
def test_verdicts_agree_on_many_programs(forgetful):
    verdicts = Counter(compare(random_program(random.Random(seed))) for seed in range(1000, 3000))
    verdicts += Counter(compare(random_duel(random.Random(seed))) for seed in range(1000, 4000))
    assert min(verdicts[kind] for kind in ("clean", "race", "deadlock", "uninitialised", "single")) >= 100, verdicts


@given(st.randoms(use_true_random=False))
def test_verdicts_agree(rng):
    program = random_program(rng)
    for unit in program.streams:
        note(f"{unit}: {[str(type(i).__name__) for i in program.instructions(unit)]}")
    compare(program)


def test_the_oracle_orders_by_waits_and_program_order_and_barriers():
    # cv: fill, barrier, copy; sdma: barrier, store; teng waits for the store only
    cv, sdma, teng = Unit.CV, Unit.SDMA, Unit.TENG
    together = Barrier(units=1 << cv | 1 << sdma)
    pool = MaxPool(
        src=0, dst=8, in_height=1, in_width=1, in_channels=1, out_height=1, out_width=1, src_row_stride=1,
        src_pixel_stride=1, dst_row_stride=1, dst_pixel_stride=1, waits=(Wait(sdma, 2),),
    )  # fmt: skip
    program = make_program(
        "order",
        {
            cv: [Fill(dst=0, run=4), together, Copy(src=0, dst=4, run=4), End()],
            sdma: [together, Store(ocm=0, segment=0, offset=0, run=4), End()],
            teng: [pool, End()],
        },
        SEGMENTS,
    )
    after = Oracle(program).after()
    assert (sdma, 1) in after[cv, 0]
    assert (teng, 0) in after[cv, 0]
    assert (cv, 2) not in after[sdma, 1]
    assert (teng, 0) not in after[cv, 2]
