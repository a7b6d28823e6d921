"""The verifier on programs written by hand: what it refuses, in which words, and what it allows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from isa.dtypes import DType
from isa.instruction import Unit, Wait, unit_number
from isa.instructions import (
    Add,
    Barrier,
    Conv,
    Copy,
    End,
    Fill,
    Gather,
    Load,
    Lookup,
    MaxPool,
    Multicast,
    Requantize,
    Send,
    Softmax,
    Store,
    Sync,
)
from isa.program import Program, Segment, SegmentKind, make_program
from isa.region import Space
from isa.verify import VERIFIER_VERSION, Limits, check_bounds, is_stamped, limits, stamp, verify

CONV0, CONV1, TENG, CV, SDMA = (int(unit) for unit in Unit)
OTHER_CV, OTHER_SDMA = unit_number(1, Unit.CV), unit_number(1, Unit.SDMA)
LIMITS = Limits(cores=3, ocm_bytes=0x10000)
SEGMENTS = (
    Segment(name="weights", kind=SegmentKind.PARAMETERS, size_bytes=0x1000, data=np.zeros(0x1000, np.uint8)),
    Segment(name="image", kind=SegmentKind.INPUT, size_bytes=0x1000),
    Segment(name="result", kind=SegmentKind.OUTPUT, size_bytes=0x1000),
)
WEIGHTS, IMAGE, RESULT = range(3)


def program(streams, **more):
    return make_program("hand", streams, SEGMENTS, **more)


def violations(streams, **more):
    return verify(program(streams, **more), LIMITS).violations


def only(streams, **more):
    """The one violation of a program."""
    (violation,) = violations(streams, **more)
    return violation


def load(ocm, run=64, *, offset=0, segment=WEIGHTS, waits=(), **more):
    return Load(ocm=ocm, run=run, segment=segment, offset=offset, waits=tuple(Wait(*w) for w in waits), **more)


def store(ocm, run=64, *, offset=0, waits=(), **more):
    return Store(ocm=ocm, run=run, segment=RESULT, offset=offset, waits=tuple(Wait(*w) for w in waits), **more)


def copy(src, dst, run=64, *, waits=(), **more):
    return Copy(src=src, dst=dst, run=run, waits=tuple(Wait(*w) for w in waits), **more)


# ------------------------------------------------------------------------------------------------------- clean programs


def test_a_clean_program_is_proven_and_stamped():
    made = program({SDMA: [load(0), store(64, waits=[(CV, 1)])], CV: [copy(0, 64, waits=[(SDMA, 1)])]})
    report = verify(made, LIMITS)
    assert report.clean
    assert report.violations == ()
    assert report.stamp == stamp(made, LIMITS)
    # 2 transfers, 1 copy, 2 ends; 2 accesses each; boxes: weights, result, OCM 0..63, OCM 64..127
    assert (report.instructions, report.accesses, report.boxes) == (5, 6, 4)
    assert is_stamped(made.with_stamp(report.stamp), LIMITS)


def test_an_empty_program_is_clean():
    assert verify(make_program("empty", {}), LIMITS).clean


def test_order_reaches_through_other_units():
    # sdma 0 -> cv 0 -> teng 0, which reads what sdma wrote without waiting for sdma itself
    pool = MaxPool(
        src=0, dst=256, in_height=1, in_width=1, in_channels=64, out_height=1, out_width=1, src_row_stride=64,
        src_pixel_stride=64, dst_row_stride=64, dst_pixel_stride=64, waits=(Wait(CV, 1),),
    )  # fmt: skip
    assert not violations({SDMA: [load(0)], CV: [copy(0, 64, waits=[(SDMA, 1)])], TENG: [pool]})


# ---------------------------------------------------------------------------------------------------------------- races


def test_race_names_both_instructions_their_origins_and_the_bytes():
    violation = only(
        {
            SDMA: [load(0x3C0, 0x80), load(0x440)],
            CV: [copy(0x400, 0x800, 0x40, waits=[(SDMA, 1)]), Fill(dst=0x460, run=64)],
        },
        origins={SDMA: [0, -1], CV: [-1, 1]},
        origin_names=["conv1/weights", "pad tile 3"],
    )
    assert violation.kind == "race"
    assert violation.message == (
        "core0.sdma instruction 1 (load) writes and core0.cv instruction 1 (fill for pad tile 3) writes "
        "core0 OCM 0x460..0x47f, and neither waits for the other"
    )
    second, first = violation.sites
    assert (first.unit, first.position, first.mnemonic, first.origin) == ("core0.cv", 1, "fill", "pad tile 3")
    assert (second.unit, second.position, second.mnemonic, second.origin) == ("core0.sdma", 1, "load", "")
    assert (violation.space, violation.place, violation.low, violation.high) == (Space.OCM, "core0", 0x460, 0x47F)
    assert str(violation).startswith("race: core0.sdma")


def test_write_after_read_races_as_read_after_write_does():
    # the copy waits for the first load; the second load overwrites its source without waiting for it
    violation = only({SDMA: [load(0), load(0)], CV: [copy(0, 0x80, waits=[(SDMA, 1)])]})
    assert violation.kind == "race"
    assert "core0.sdma instruction 1 (load) writes" in violation.message
    assert "core0.cv instruction 0 (copy) reads" in violation.message
    assert not violations({SDMA: [load(0), load(0, waits=[(CV, 1)])], CV: [copy(0, 0x80, waits=[(SDMA, 1)])]})


def test_two_readers_do_not_race():
    assert not violations({
        SDMA: [load(0), store(0)], CV: [copy(0, 0x80, waits=[(SDMA, 1)])], OTHER_SDMA: [load(0)],
    })  # fmt: skip


def test_cores_race_in_dram():
    violation = only({SDMA: [load(0), store(0, offset=0x20)], OTHER_SDMA: [load(0), store(0, offset=0x5F)]})
    assert violation.kind == "race"
    assert "core1.sdma instruction 1 (store)" in violation.message
    assert "segment result 0x5f..0x5f" in violation.message
    assert (violation.space, violation.place) == (Space.DRAM, "result")
    assert not violations({SDMA: [load(0), store(0, offset=0x20)], OTHER_SDMA: [load(0), store(0, offset=0x60)]})


def test_one_cores_memory_is_not_anothers():
    assert not violations({SDMA: [load(0)], OTHER_SDMA: [load(0)]})


def test_send_and_multicast_write_the_other_core():
    fill = Fill(dst=0x100, run=64)
    sent = [load(0), Send(src=0, dst_core=1, dst=0x120, run=64)]
    violation = only({SDMA: sent, OTHER_CV: [fill]})
    assert (violation.kind, violation.place, violation.low, violation.high) == ("race", "core1", 0x120, 0x13F)
    multicast = Multicast(ocm=0x13F, segment=WEIGHTS, offset=0, run=8, cores=0b10)
    violation = only({SDMA: [multicast], OTHER_CV: [fill], CV: [fill]}, cores=2)
    assert (violation.kind, violation.place, violation.low, violation.high) == ("race", "core1", 0x13F, 0x13F)


def test_a_repeated_race_is_reported_once():
    assert len(violations({SDMA: [load(0)] * 50, CV: [Fill(dst=0, run=64)] * 50})) == 1


def test_max_violations_limits_the_report():
    made = program({SDMA: [load(64 * i) for i in range(9)], CV: [Fill(dst=64 * i, run=64) for i in range(9)]})
    assert len(verify(made, LIMITS, max_violations=4).violations) == 4
    assert len(verify(made, LIMITS).violations) == 9
    with pytest.raises(ValueError, match="max_violations must be at least 1, not 0"):
        verify(made, LIMITS, max_violations=0)


def conv(part, dst, pixel=64, **more):
    """One half of the output channels of a 1 x 1 convolution of four pixels."""
    return Conv(
        src=0, in_height=2, in_width=2, in_channels=32, out_height=2, out_width=2, out_channels=32,
        src_row_stride=64, src_pixel_stride=32, dst=dst + 32 * part, dst_row_stride=2 * pixel, dst_pixel_stride=pixel,
        weights=0x400 + 0x400 * part, params=0xC00, waits=(Wait(SDMA, 1),), **more,
    )  # fmt: skip


def test_interleaved_channel_slices_do_not_race():
    streams = {SDMA: [load(0, 0x1000)], CONV0: [conv(0, 0x2000)], CONV1: [conv(1, 0x2000)]}
    assert not violations(streams)
    # one element more on the left, and the halves meet in the first byte of every pixel
    violation = only({**streams, CONV1: [dataclasses.replace(conv(1, 0x2000), dst=0x201F)]})
    assert violation.kind == "race"
    assert "core0 OCM 0x201f..0x201f" in violation.message
    assert "core0.conv0 instruction 0 (conv) writes and core0.conv1 instruction 0 (conv) writes" in violation.message


def test_both_units_read_and_overwrite_interleaved_slices_in_turn():
    both = [(CONV0, 1), (CONV1, 1)]
    streams = {
        SDMA: [load(0, 0x1000), store(0x2000, 256, waits=both)],
        CONV0: [conv(0, 0x2000)],
        CONV1: [conv(1, 0x2000)],
    }
    assert not violations(streams)
    streams[SDMA][1] = store(0x2000, 256, waits=both[:1])
    violation = only(streams)
    assert violation.kind == "race"
    assert "core0.conv1" in violation.message


@pytest.mark.parametrize(("kind", "apart"), [(Store, 4), (Load, 0)])
def test_a_strided_access_hides_no_earlier_one_it_does_not_follow(kind, apart):
    # core 0 and core 1 write neighbouring slices, or read the same one, in no order; core 2 knows of core 1 only
    units = [unit_number(core, Unit.SDMA) for core in range(3)]
    slices = {"run": 4, "count_1": 4, "dram_stride_1": 8, "ocm_stride_1": 4, "segment": RESULT, "ocm": 0}
    meet = Barrier(units=sum(1 << unit for unit in units))
    streams = {unit: [load(0), store(0, offset=64 * core), meet] for core, unit in enumerate(units)}
    streams[units[0]].append(kind(offset=0, **slices))
    streams[units[1]].append(kind(offset=apart, **slices))
    last = Store(offset=0, waits=(Wait(units[1], 4),), **slices)
    streams[units[2]].append(last)
    assert [[site.unit for site in v.sites] for v in violations(streams)] == [["core0.sdma", "core2.sdma"]]
    streams[units[2]][-1] = dataclasses.replace(last, waits=(Wait(units[0], 4), Wait(units[1], 4)))
    assert not violations(streams)


def test_a_gather_reads_its_whole_table():
    gather = Gather(
        table=0, indices=0x800, dst=0x900, table_rows=16, count=4, run=16, table_row_stride=64, dst_row_stride=16
    )
    before = [load(0, 0x900)]
    late = Fill(dst=15 * 64 + 15, run=1)  # the last byte of the last row
    waits = (Wait(SDMA, 1),)
    streams = {SDMA: [*before, dataclasses.replace(late, waits=())], CV: [dataclasses.replace(gather, waits=waits)]}
    assert only(streams).kind == "race"
    streams[SDMA][1] = dataclasses.replace(late, dst=15 * 64 + 16)  # the gap behind the row
    assert not violations(streams)


# ------------------------------------------------------------------------------------------------------------- barriers


def test_a_barrier_orders_both_ways():
    meet = Barrier(units=1 << CV | 1 << SDMA)
    streams = {SDMA: [load(0), meet, load(0x80)], CV: [Fill(dst=0x80, run=64), meet, Fill(dst=0, run=64)]}
    assert not violations(streams)
    apart = {SDMA: [load(0), load(0x80)], CV: [Fill(dst=0x80, run=64), Fill(dst=0, run=64)]}
    assert [v.kind for v in violations(apart)] == ["race", "race"]


def test_what_waits_for_a_barrier_is_behind_all_participants():
    meet = Barrier(units=1 << CV | 1 << OTHER_CV)
    # core1.sdma waits for core 0's cv to pass the barrier, and so for core 1's cv to have filled
    streams = {
        CV: [meet], OTHER_CV: [Fill(dst=0, run=64), meet],
        OTHER_SDMA: [store(0, waits=[(CV, 1)])],
    }  # fmt: skip
    assert not violations(streams)


def test_barriers_meet_by_id_and_number():
    def meet(name):
        return Barrier(units=1 << CV | 1 << SDMA, id=name)

    assert not violations({CV: [meet(1), meet(2), meet(1)], SDMA: [meet(1), meet(2), meet(1)]})
    violation = only({CV: [meet(1), meet(2)], SDMA: [meet(2), meet(1)]})
    assert violation.kind == "deadlock"
    assert violation.message == (
        "core0.cv instruction 0 (barrier) waits at barrier 1 for core0.sdma; "
        "core0.sdma instruction 0 (barrier) waits at barrier 2 for core0.cv"
    )


def test_barrier_masks_must_agree_and_hold_their_own_unit():
    three = Barrier(units=1 << CV | 1 << SDMA | 1 << TENG)
    found = violations({CV: [Barrier(units=1 << CV | 1 << SDMA)], SDMA: [three], TENG: [three]})
    assert [v.kind for v in found] == ["structure", "structure"]
    assert [v.message for v in found] == [
        f"core0.{one} instruction 0 (barrier) and core0.{other} instruction 0 (barrier) are meeting 0 of barrier 0, "
        f"but their masks differ: {masks}"
        for one, other, masks in (("teng", "cv", "0x1c and 0x18"), ("cv", "sdma", "0x18 and 0x1c"))
    ]
    (violation,) = check_bounds(program({CV: [Barrier(units=1 << SDMA)], SDMA: [End()]}), LIMITS)
    assert violation.message == "core0.cv instruction 0 (barrier) is a barrier whose mask 0x10 leaves out its own unit"
    (violation,) = check_bounds(program({CV: [Barrier(units=1 << CV | 1 << 9)]}), LIMITS)
    assert violation.message.endswith("is a barrier with core1.sdma, but the program has 1 core")


@pytest.mark.parametrize(
    ("stream", "tells"),
    [([End()], "waits at barrier 0 for core0.sdma, which never comes"), (None, "for core0.sdma, which has no stream")],
)
def test_a_barrier_that_somebody_misses_is_a_deadlock(stream, tells):
    streams = {CV: [Barrier(units=1 << CV | 1 << SDMA)]} | ({SDMA: stream} if stream else {})
    violation = only(streams)
    assert violation.kind == "deadlock"
    assert violation.message.endswith(tells)


# ------------------------------------------------------------------------------------------------------------ deadlocks


def test_deadlock_names_the_cycle_and_not_those_behind_it():
    violation = only({
        SDMA: [load(0), load(64, waits=[(CV, 1)])],
        CV: [copy(64, 128, waits=[(SDMA, 2)])],
        TENG: [Sync(waits=(Wait(CV, 1),))],
    })  # fmt: skip
    assert violation.kind == "deadlock"
    assert violation.message == (
        "core0.cv instruction 0 (copy) waits for core0.sdma to retire 2; "
        "core0.sdma instruction 1 (load) waits for core0.cv to retire 1"
    )
    assert [(s.unit, s.position) for s in violation.sites] == [("core0.cv", 0), ("core0.sdma", 1)]


def test_two_cycles_are_two_violations():
    def pair(a, b):
        return {a: [Sync(waits=(Wait(b, 1),))], b: [Sync(waits=(Wait(a, 1),))]}

    assert [v.kind for v in violations(pair(CV, SDMA) | pair(OTHER_CV, OTHER_SDMA))] == ["deadlock", "deadlock"]


@pytest.mark.parametrize(
    ("waits", "tells"),
    [
        ((SDMA, 4), "waits for core0.sdma to retire 4, but its stream has 3"),
        ((TENG, 1), "waits for core0.teng to retire 1, which has no stream"),
        ((CV, 1), "waits for core0.cv to retire 1"),
    ],
)
def test_a_wait_that_nothing_satisfies_is_a_deadlock(waits, tells):
    violation = only({SDMA: [load(0), load(64)], CV: [copy(0, 128, waits=[waits])]})
    assert violation.kind == "deadlock"
    assert violation.message == f"core0.cv instruction 0 (copy) {tells}"


def test_waiting_for_the_end_of_another_unit_is_allowed():
    assert not violations({SDMA: [load(0), load(64)], CV: [copy(0, 128, waits=[(SDMA, 3)])]})


# -------------------------------------------------------------------------------------------------------- uninitialised


def test_reading_what_nothing_wrote_names_the_first_gap():
    violation = only({SDMA: [load(0, 0x30), load(0x38, 8), store(0)]})
    assert violation.kind == "uninitialised"
    assert violation.message == (
        "core0.sdma instruction 2 (store) reads core0 OCM 0x30..0x37, which nothing has written before it"
    )


def test_writing_afterwards_does_not_help():
    assert only({SDMA: [store(0), load(0)]}).kind == "uninitialised"


def test_an_instruction_reads_before_it_writes():
    in_place = Lookup(src=0x400, dst=0x400, count=32, table=0, waits=(Wait(SDMA, 1),))
    violation = only({SDMA: [load(0, 0x100)], TENG: [in_place]})
    assert (violation.kind, violation.low, violation.high) == ("uninitialised", 0x400, 0x41F)


def test_inputs_and_parameters_count_as_written_and_outputs_do_not():
    assert not violations({SDMA: [load(0), load(0x40, segment=IMAGE)]})
    violation = only({SDMA: [load(0, segment=RESULT)]})
    assert violation.message == (
        "core0.sdma instruction 0 (load) reads segment result 0x0..0x3f, which nothing has written before it"
    )


def test_gaps_between_strided_rows_may_stay_unwritten():
    rows = {"count_1": 4, "dram_stride_1": 16}
    fill = Fill(dst=0, run=16, count_1=4, dst_stride_1=32)
    streams = {CV: [fill], SDMA: [store(0, 16, ocm_stride_1=32, waits=[(CV, 1)], **rows)]}
    assert not violations(streams)
    streams[SDMA] = [store(1, 16, ocm_stride_1=32, waits=[(CV, 1)], **rows)]
    violation = only(streams)
    assert (violation.kind, violation.low, violation.high) == ("uninitialised", 16, 16)


def test_parameter_arrays_are_read_where_flags_ask_for_them():
    head = [load(0, 0x1000)]
    arrays = {"has_bias": 1, "per_channel": 1}
    at_end = {"params": 0x1000 - 32 - 128}  # room for the head and one array of 32 four-byte entries
    waits = {"waits": (Wait(SDMA, 1),)}
    one = dataclasses.replace(conv(0, 0x2000), **at_end, has_bias=1, **waits)
    assert not violations({SDMA: head, CONV0: [one]})
    violation = only({SDMA: head, CONV0: [dataclasses.replace(one, **arrays)]})
    assert (violation.kind, violation.low, violation.high) == ("uninitialised", 0x1000, 0x107F)


# -------------------------------------------------------------------------------------------------- single instructions


def test_bounds():
    violation = only({CV: [Fill(dst=0xFFC1, run=64)]})
    assert violation.kind == "bounds"
    assert (
        violation.message == "core0.cv instruction 0 (fill) writes core0 OCM 0xffc1..0x10000, past its end at 0x10000"
    )
    assert not violations({CV: [Fill(dst=0xFFC0, run=64)]})
    violation = only({SDMA: [load(0, 64, offset=0xFC1)]})
    assert violation.message == (
        "core0.sdma instruction 0 (load) reads segment weights 0xfc1..0x1000, past its end at 0x1000"
    )


def test_memory_that_does_not_exist():
    assert [v.message for v in violations({SDMA: [load(0), Send(src=0, dst_core=1, dst=0, run=8)]})] == [
        "core0.sdma instruction 1 (send) writes core1 OCM 0x0..0x7, but the program has 1 core"
    ]
    assert [v.message for v in violations({SDMA: [load(0, segment=7)]})] == [
        "core0.sdma instruction 0 (load) reads segment 7 0x0..0x3f, but the program has 3 segments"
    ]
    multicast = Multicast(ocm=0, segment=WEIGHTS, offset=0, run=8, cores=0b101)
    assert [v.place for v in violations({SDMA: [multicast]}, cores=2)] == ["core2"]
    (violation,) = verify(program({SDMA: [load(0)]}, cores=4), LIMITS).violations
    assert violation.message == "program hand uses 4 cores, the machine has 3"


def test_alignment():
    words = Requantize(src=0, dst=0x100, count=4, params=0x40, per_channel=0)
    streams = {SDMA: [load(0, 0x80)], TENG: [dataclasses.replace(words, waits=(Wait(SDMA, 1),))]}
    assert not violations(streams)
    streams[TENG] = [dataclasses.replace(words, src=2, waits=(Wait(SDMA, 1),))]
    assert [(v.kind, v.message) for v in violations(streams)] == [
        (
            "alignment",
            "core0.teng instruction 0 (requantize) reads core0 OCM 0x2..0x11, whose base is not a multiple of 4",
        )
    ]
    streams[TENG] = [dataclasses.replace(words, rows=2, src_row_stride=18, dst_row_stride=4, waits=(Wait(SDMA, 1),))]
    (violation,) = violations(streams)
    assert violation.kind == "alignment"
    assert violation.message.endswith("whose strides are not multiples of its element's 4 bytes")
    streams[TENG] = [dataclasses.replace(words, params=0x48, waits=(Wait(SDMA, 1),))]
    (violation,) = violations(streams)
    assert violation.message.endswith("core0 OCM 0x48..0x67, whose base is not a multiple of 16")


def test_constraints():
    # entry 0 of the table is not checked before the program runs
    softmax = Softmax(src=0x480, dst=0x480, params=0, length=16, masked=1, valid=17, waits=(Wait(SDMA, 1),))
    violation = only({SDMA: [load(0, 0x500)], TENG: [softmax]})
    assert violation.kind == "constraint"
    assert violation.message == "core0.teng instruction 0 (softmax) breaks the rule: valid is at most length"
    assert not violations({SDMA: [load(0, 0x500)], TENG: [dataclasses.replace(softmax, valid=16)]})


def test_structure():
    two = program({CV: [Fill(dst=0, run=8)]})
    words = two.streams[CV]
    no_end = Program(name="hand", cores=1, streams={CV: words[:1]})
    assert [str(v) for v in check_bounds(no_end, LIMITS)] == [
        "structure: core0.cv instruction 0 (fill) is the last of its stream and no end"
    ]
    early = Program(name="hand", cores=1, streams={CV: words[[1, 0, 1]]})
    assert [v.message for v in check_bounds(early, LIMITS)] == [
        "core0.cv instruction 0 (end) ends the stream before its last instruction, 2"
    ]
    stranger = program({CV: [copy(0, 128, waits=[(unit_number(2, Unit.CV), 1)])]})
    assert [v.message for v in check_bounds(stranger, LIMITS)] == [
        "core0.cv instruction 0 (copy) waits for core2.cv, but the program has 1 core"
    ]


def test_words_that_are_no_instructions_of_their_unit():
    made = program({CV: [Fill(dst=0, run=8)]})
    broken = made.streams[CV].copy()
    broken[0, 0] = 0xFF
    (violation,) = verify(dataclasses.replace(made, streams={CV: broken}), LIMITS).violations
    assert str(violation) == "structure: core0.cv: word 0: opcode 0xff is no instruction"
    (violation,) = verify(dataclasses.replace(made, streams={TENG: made.streams[CV]}), LIMITS).violations
    assert str(violation) == "structure: core0.teng instruction 0: fill does not run on this unit"


# ------------------------------------------------------------------------------------------------------------- aliasing


def add(a, b, dst, **more):
    return Add(a=a, b=b, dst=dst, count=32, params=0x200, waits=(Wait(SDMA, 1),), **more)


def teng(instruction):
    return {SDMA: [load(0, 0x400)], TENG: [instruction]}


def test_a_destination_is_apart_from_its_sources_or_one_of_them():
    assert not violations(teng(add(0, 0x40, 0x80)))
    assert not violations(teng(add(0, 0x40, 0)))
    assert not violations(teng(add(0, 0x40, 0x40)))
    violation = only(teng(add(0, 0x40, 0x1F)))
    assert violation.kind == "alias"
    assert violation.message == (
        "core0.teng instruction 0 (add) reads core0 OCM 0x0..0x1f and writes core0 OCM 0x1f..0x3e, "
        "which overlap without being the same"
    )


def test_the_same_bytes_in_another_order_or_type_are_not_the_same():
    plane = {"count_1": 4, "count_2": 4, "dst_stride_1": 32, "dst_stride_2": 128, "b_stride_1": 0}
    same = {"a_stride_1": 32, "a_stride_2": 128}
    turned = {"a_stride_1": 128, "a_stride_2": 32}
    for strides, kinds in ((same, []), (turned, ["alias"])):
        instruction = dataclasses.replace(add(0, 0x220, 0, **plane, **strides), params=0x300)
        assert [v.kind for v in violations(teng(instruction))] == kinds
    wider = dataclasses.replace(add(0, 0x40, 0), a_type=DType.S8)
    assert [v.kind for v in violations(teng(wider))] == ["alias"]


def test_a_dense_destination_is_its_source_however_its_dimensions_are_written():
    flat = {"count": 32, "count_1": 2, "a_stride_1": 32, "dst_stride_1": 32, "b_stride_1": 32}
    assert not violations(teng(dataclasses.replace(add(0, 0x80, 0), **flat)))
    # raw accumulators: partial is a flat array, the destination an image
    raw = {"accumulate": 1, "partial": 0x2000, "dst_type": DType.S32}
    image = {"dst": 0x2000, "dst_row_stride": 256, "dst_pixel_stride": 128}
    inplace = dataclasses.replace(conv(0, 0), **raw, **image)
    streams = {SDMA: [load(0, 0x1000)], CV: [Fill(dst=0x2000, run=512)], CONV0: [inplace]}
    streams[CONV0] = [dataclasses.replace(inplace, waits=(Wait(SDMA, 1), Wait(CV, 1)))]
    assert not violations(streams)
    streams[CONV0] = [dataclasses.replace(inplace, dst=0x2004, waits=(Wait(SDMA, 1), Wait(CV, 1)))]
    assert [v.kind for v in violations(streams)] == ["alias"]


def test_a_copy_may_not_work_in_place():
    assert [v.kind for v in violations({SDMA: [load(0)], CV: [copy(0, 0, waits=[(SDMA, 1)])]})] == ["alias"]


def test_a_copy_between_interleaved_rows_is_no_alias():
    swap = copy(0, 16, 16, count_1=4, src_stride_1=32, dst_stride_1=32, waits=[(SDMA, 1)])
    assert not violations({SDMA: [load(0, 128)], CV: [swap]})


@pytest.mark.parametrize(("stride", "kinds"), [(16, []), (15, ["alias"]), (0, ["alias"])])
def test_a_destination_does_not_fold_onto_itself(stride, kinds):
    fill = Fill(dst=0, run=16, count_1=4, dst_stride_1=stride)
    assert [v.kind for v in violations({CV: [fill]})] == kinds


def test_a_lookup_table_is_no_destination():
    lookup = Lookup(src=0, dst=0x40, count=32, table=0x100, waits=(Wait(SDMA, 1),))
    assert not violations(teng(lookup))
    assert [v.kind for v in violations(teng(dataclasses.replace(lookup, dst=0x100)))] == ["alias"]


def test_a_send_to_the_own_core_is_checked_as_a_copy():
    def send(core):
        return {SDMA: [load(0), Send(src=0, dst_core=core, dst=8, run=32)], OTHER_SDMA: [load(0x80)]}

    assert [v.kind for v in violations(send(0))] == ["alias"]
    assert not violations(send(1))


# --------------------------------------------------------------------------------------------------------------- stamps


def test_a_stamp_binds_program_machine_and_verifier(monkeypatch):
    made = program({SDMA: [load(0)]})
    stamped = made.with_stamp(stamp(made, LIMITS))
    assert is_stamped(stamped, LIMITS)
    assert not is_stamped(made, LIMITS)
    assert not is_stamped(stamped, Limits(cores=3, ocm_bytes=0x8000))
    assert not is_stamped(stamped, Limits(cores=2, ocm_bytes=0x10000))
    other = dataclasses.replace(program({SDMA: [load(64)]}), stamp=stamped.stamp)
    assert not is_stamped(other, LIMITS)
    monkeypatch.setattr(limits, "VERIFIER_VERSION", VERIFIER_VERSION + 1)
    assert not is_stamped(stamped, LIMITS)


def test_a_refused_program_has_no_stamp():
    assert verify(program({SDMA: [store(0)]}), LIMITS).stamp == ""


def test_check_bounds_does_not_ask_for_order():
    racing = program({SDMA: [load(0)], CV: [Fill(dst=0, run=64), Sync(waits=(Wait(SDMA, 9),))]})
    assert check_bounds(racing, LIMITS) == ()
    assert not verify(racing, LIMITS).clean


def test_the_report_is_the_same_every_time():
    made = program({SDMA: [load(0)], CV: [Fill(dst=0, run=64)]})
    assert verify(made, LIMITS) == verify(made, LIMITS)


# ---------------------------------------------------------------------------------------------------------------- scale


def test_a_long_program_of_reused_buffers_keeps_few_accesses_in_mind(monkeypatch):
    from isa.verify import races

    largest = 0

    class Watched(races._Stretches):
        def enter(self, *arguments):
            nonlocal largest
            largest = max(largest, self.size() + sum(map(len, self.writes)) + sum(map(len, self.reads)))
            return super().enter(*arguments)

    monkeypatch.setattr(races, "_Stretches", Watched)
    loads, copies = [], []
    for index in range(3000):
        buffer = index % 2 * 0x4000 + index % 7 * 64  # drifts, so that no write covers an earlier one for good
        loads.append(load(buffer, 16, count_1=8, ocm_stride_1=32, waits=[(CV, index - 1)] if index > 1 else []))
        copies.append(
            copy(
                buffer,
                0x8000 + index % 11 * 1000,
                16,
                count_1=8,
                src_stride_1=32,
                dst_stride_1=48,
                waits=[(SDMA, index + 1)],
            )
        )
    assert verify(program({SDMA: loads, CV: copies}), LIMITS).clean
    assert largest < 2000
