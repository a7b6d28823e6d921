"""The verifier on programs written by hand: what it refuses, in which words, and what it allows."""

from __future__ import annotations

import dataclasses

import pytest

from isa.instruction import Unit, Wait, unit_number
from isa.instructions import (
    Barrier,
    End,
    Fill,
    Gather,
    Load,
    Lookup,
    MaxPool,
    Multicast,
    Send,
    Store,
    Sync,
)
from isa.program import make_program
from isa.region import Space
from isa.verify import VERIFIER_VERSION, Limits, check_bounds, is_stamped, limits, stamp, verify
from tests.isa.handmade import (
    CONV0,
    CONV1,
    CV,
    IMAGE,
    LIMITS,
    OTHER_CV,
    OTHER_SDMA,
    RESULT,
    SDMA,
    TENG,
    WEIGHTS,
    conv,
    copy,
    load,
    only,
    program,
    store,
    violations,
)

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
