"""The verifier on single instructions: bounds, alignment, constraints, structure and aliasing."""

from __future__ import annotations

import dataclasses

import pytest

from isa.dtypes import DType
from isa.instruction import Unit, Wait, unit_number
from isa.instructions import (
    Add,
    Fill,
    Lookup,
    Multicast,
    Requantize,
    Send,
    Softmax,
)
from isa.program import Program
from isa.verify import check_bounds, verify
from tests.isa.handmade import (
    CONV0,
    CV,
    LIMITS,
    OTHER_SDMA,
    SDMA,
    TENG,
    WEIGHTS,
    conv,
    copy,
    load,
    only,
    program,
    violations,
)

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
