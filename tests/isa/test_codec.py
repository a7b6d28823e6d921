"""Encoding: every instruction survives it, any other 64 bytes are refused, and columns equal singles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.codec import decode, decode_columns, decode_stream, encode, encode_stream, select, wait_columns
from isa.errors import DecodingError, EncodingError
from isa.instruction import (
    MAX_CORES,
    MAX_COUNTER,
    OPCODES,
    OPERAND_BIT,
    UNITS_PER_CORE,
    WAIT_BITS,
    WORD_BITS,
    WORD_BYTES,
    Unit,
    Wait,
    unit_name,
    unit_number,
)
from isa.instructions import Add, Barrier, Copy, End, Gather, Load, Lookup, Resize, Softmax, Sync
from isa.region import Region
from npusim.testing import instructions, words

CLASSES = tuple(OPCODES.values())
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.layout.mnemonic)
COPY = Copy(src=0, dst=64, run=7, waits=(Wait(4, 1), Wait(0, MAX_COUNTER)))


def flip(instruction, bits):
    return (int.from_bytes(encode(instruction), "little") ^ bits).to_bytes(WORD_BYTES, "little")


@each_class
@settings(max_examples=30)
@given(data=st.data())
def test_round_trip(cls, data):
    made = data.draw(instructions(cls))
    back = decode(encode(made))
    assert type(back) is cls
    assert back == made
    assert all(isinstance(wait, Wait) for wait in back.waits)
    for field in cls.layout.fields:
        value = getattr(back, field.name)
        assert type(value) is (type(field.spec.choices[0]) if field.spec.choices else int)


@each_class
@settings(max_examples=20)
@given(data=st.data())
def test_bits_are_where_the_layout_says(cls, data):
    made = data.draw(instructions(cls))
    word = int.from_bytes(encode(made), "little")
    assert word & 0xFF == cls.layout.opcode
    assert word & cls.layout.reserved == 0
    for field in cls.layout.fields:
        assert word >> field.position & (1 << field.spec.bits) - 1 == getattr(made, field.name)
    for slot, wait in enumerate(made.waits):
        packed = word >> (8 + 32 * slot) & 0xFFFFFFFF
        assert (packed & 0xFF, packed >> 8) == (wait.unit + 1, wait.value)


def test_one_word_by_hand():
    # opcode 0x50; waits: unit 4 at 8..15 as 5, value 1 at 16..39; unit 0 as 1, value 2^24-1; operands from bit 104
    word = encode(COPY)
    assert word[0] == 0x50
    assert word[1:9] == bytes([5, 1, 0, 0, 1, 0xFF, 0xFF, 0xFF])
    assert word[9:13] == bytes(4)  # no third wait
    assert word[13:16] == bytes(3)  # src
    assert word[16:19] == bytes([64, 0, 0])  # dst
    assert word[19:22] == bytes([7, 0, 0])  # run
    assert word[22:30] == bytes([1, 0] * 4)  # counts are stored as they are


@settings(max_examples=300)
@given(word=words())
def test_any_64_bytes_are_an_instruction_or_refused(word):
    try:
        made = decode(word)
    except DecodingError:
        return
    assert encode(made) == word
    assert dataclasses.replace(made) == made, "what is decoded can also be written"


@settings(max_examples=25)
@given(stream=st.lists(instructions(), max_size=12))
def test_stream_equals_singles(stream):
    encoded = encode_stream(stream)
    assert encoded.shape == (len(stream), WORD_BYTES)
    assert encoded.tobytes() == b"".join(encode(made) for made in stream)
    assert decode_stream(encoded) == stream


def same(column, row, single):
    value = column[row] if isinstance(column, np.ndarray) and column.ndim else column
    return int(value) == int(single)


def same_product(column, row, single):
    """As ``same``, where the single number fits int64: columns wrap beyond, which no program in bounds reaches."""
    return single >= 1 << 63 or same(column, row, single)


def same_region(columns, row, single):
    """Whether entry ``row`` of a region of columns is the region of the single instruction."""
    assert isinstance(columns, Region)
    assert isinstance(single, Region)
    parts = ("base", "run", "dtype", "place", "run_bytes", "end")
    assert columns.space is single.space
    assert columns.align == single.align
    assert len(columns.counts) == len(columns.strides) == len(single.counts) == len(single.strides)
    assert same_product(columns.size_bytes, row, single.size_bytes)
    return all(same(getattr(columns, part), row, getattr(single, part)) for part in parts) and all(
        same(a, row, b) for a, b in zip(columns.counts + columns.strides, single.counts + single.strides, strict=True)
    )


@each_class
@settings(max_examples=25)
@given(data=st.data())
def test_columns_equal_singles(cls, data):
    stream = data.draw(st.lists(instructions(cls), min_size=1, max_size=6))
    ((kind, rows, columns),) = decode_columns(encode_stream(stream))
    assert kind is cls
    assert rows.tolist() == list(range(len(stream)))
    for row, made in enumerate(stream):
        for field in cls.layout.fields:
            assert getattr(columns, field.name).dtype == np.int64
            assert getattr(columns, field.name)[row] == getattr(made, field.name)
        for constraint in cls.constraints:
            assert same(constraint.holds(columns), row, constraint.holds(made)), constraint.rule
        if not all(constraint.holds(made) for constraint in cls.constraints):
            continue  # it is refused, whatever its footprint
        for method in ("reads", "writes"):
            many, one = getattr(columns, method)(), getattr(made, method)()
            assert len(many) == len(one)
            assert all(same_region(a, row, b) for a, b in zip(many, one, strict=True))
        assert same_product(columns.macs(), row, made.macs())
        for read, write in cls.may_alias:
            assert read < len(made.reads())
            assert write < len(made.writes())


@each_class
@settings(max_examples=20)
@given(data=st.data())
def test_select_restricts_columns(cls, data):
    stream = data.draw(st.lists(instructions(cls), min_size=3, max_size=5))
    ((_, _, columns),) = decode_columns(encode_stream(stream))
    picked = select(columns, np.array([2, 0]))
    for field in cls.layout.fields:
        expected = [getattr(stream[2], field.name), getattr(stream[0], field.name)]
        assert getattr(picked, field.name).tolist() == expected


@settings(max_examples=30)
@given(stream=st.lists(instructions(), min_size=1, max_size=8))
def test_columns_cover_a_mixed_stream_once(stream):
    seen: dict[int, type] = {}
    for cls, rows, _ in decode_columns(encode_stream(stream)):
        assert rows.tolist() == sorted(rows.tolist())
        seen |= dict.fromkeys(rows.tolist(), cls)
    assert seen == {row: type(made) for row, made in enumerate(stream)}


@settings(max_examples=30)
@given(made=instructions(Sync))
def test_wait_columns(made):
    units, values = wait_columns(encode_stream([made]), 15)
    padding = [-1] * (15 - len(made.waits))
    assert units.tolist() == [[wait.unit for wait in made.waits] + padding]
    assert values.tolist() == [[wait.value for wait in made.waits] + [0] * len(padding)]


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_wrong_size_is_refused(size):
    with pytest.raises(DecodingError, match=f"64 bytes, not {size}"):
        decode(bytes(size))


def test_unknown_opcode_is_named():
    with pytest.raises(DecodingError, match="word 1: opcode 0xff is no instruction"):
        decode_stream(np.frombuffer(encode(End()) + b"\xff" + bytes(63), np.uint8).reshape(2, 64))


def test_zeros_are_no_instruction():
    with pytest.raises(DecodingError, match="opcode 0x00"):
        decode(bytes(64))


@each_class
def test_every_reserved_bit_is_refused(cls):
    plain = {
        field.name: field.spec.choices[0] if field.spec.choices else max(field.spec.minimum, 0)
        for field in cls.layout.fields
    }
    made = cls(**plain)
    bits = [bit for bit in range(WORD_BITS) if cls.layout.reserved >> bit & 1]
    assert len(bits) == WORD_BITS - 8 - 32 * cls.layout.max_waits - sum(f.spec.bits for f in cls.layout.fields)
    for bit in bits:
        with pytest.raises(DecodingError, match=f"reserved bits of {cls.layout.mnemonic} are not zero"):
            decode(flip(made, 1 << bit))


def word_with_waits(made, *slots):
    """The word of an instruction without waits, its wait slots replaced by (unit byte, value) pairs."""
    bits = 0
    for slot, (unit, value) in enumerate(slots):
        bits |= (unit | value << 8) << (8 + slot * WAIT_BITS)
    return flip(made, bits)


LAST_UNIT = MAX_CORES * UNITS_PER_CORE


@pytest.mark.parametrize(
    "slots",
    [
        ((0, 5),),  # a value without a unit
        ((1, 0),),  # a unit without a value
        ((0, 0), (1, 1)),  # a gap before the second
        ((1, 1), (0, 0), (2, 2)),  # a gap before the third
    ],
)
def test_malformed_wait_is_refused(slots):
    with pytest.raises(DecodingError, match="word 0: lookup has a malformed wait"):
        decode(word_with_waits(Lookup(src=0, dst=0, count=1, table=0), *slots))


def test_waits_on_the_last_unit_and_counter():
    waits = (Wait(LAST_UNIT - 1, MAX_COUNTER),) * 3
    assert decode(word_with_waits(End(), *((LAST_UNIT, MAX_COUNTER),) * 3)) == End(waits=waits)
    assert LAST_UNIT == 255, "a unit byte of 255 is the last unit: no byte is left over to refuse"


def test_sync_holds_fifteen_waits_and_refuses_a_gap():
    full = Sync(waits=tuple(Wait(unit, 100 + unit) for unit in range(15)))
    assert decode(encode(full)) == full
    fourth = 0xFFFFFFFF << OPERAND_BIT
    with pytest.raises(DecodingError, match="sync has a malformed wait"):
        decode((int.from_bytes(encode(full), "little") & ~fourth).to_bytes(WORD_BYTES, "little"))


def put(made, field_name, value):
    (field,) = (f for f in made.layout.fields if f.name == field_name)
    word = int.from_bytes(encode(made), "little")
    word &= ~(((1 << field.spec.bits) - 1) << field.position)
    return (word | value << field.position).to_bytes(WORD_BYTES, "little")


@pytest.mark.parametrize(("field", "value"), [("run", 0), ("count_3", 0)])
def test_zero_extent_is_refused(field, value):
    with pytest.raises(DecodingError, match=rf"word 0: copy.{field} cannot be {value}"):
        decode(put(COPY, field, value))


@pytest.mark.parametrize("value", [4, 5, 6, 7])
def test_element_type_that_is_not_allowed_is_refused(value):
    made = Softmax(src=0, dst=0, params=0, length=1)
    with pytest.raises(DecodingError, match=f"softmax.src_type cannot be {value}"):
        decode(put(made, "src_type", value))


# ---------------------------------------------------------------------------------------------------- construction


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Copy(src=-1, dst=0, run=1), "copy: src=-1 is outside 0..16777215"),
        (lambda: Copy(src=1 << 24, dst=0, run=1), "src=16777216 is outside"),
        (lambda: Copy(src=0, dst=0, run=0), "run=0 is outside 1.."),
        (lambda: Copy(src=0.0, dst=0, run=1), "src takes an integer, not 0.0"),
        (lambda: Copy(src=0, dst=0, run=True), "run takes an integer, not True"),
        (lambda: Copy(src="x", dst=0, run=1), "src takes an integer, not 'x'"),
        (lambda: Softmax(src=0, dst=0, params=0, length=1, src_type=4), "src_type=4 is none of s8, u8, s16, u16"),
        (lambda: End(waits=(Wait(0, 1),) * 4), "end: 4 waits do not fit, at most 3; put a sync before it"),
        (lambda: Sync(waits=(Wait(0, 1),) * 16), "sync: 16 waits do not fit"),
        (lambda: End(waits=(Wait(0, 0),)), r"wait\(0, 0\) is out of range"),
        (lambda: End(waits=(Wait(LAST_UNIT, 1),)), r"wait\(255, 1\) is out of range"),
        (lambda: End(waits=(Wait(-1, 1),)), "out of range"),
        (lambda: End(waits=(Wait(0, MAX_COUNTER + 1),)), "out of range"),
        (lambda: Barrier(units=1 << 60), "units=1152921504606846976 is outside"),
    ],
)
def test_value_that_does_not_fit_is_refused(make, message):
    with pytest.raises(EncodingError, match=message):
        make()


def test_numpy_integers_are_integers():
    made = Gather(
        table=np.int64(8), indices=np.uint8(4), dst=np.int32(64), table_rows=1, count=1, run=1, table_row_stride=1
    )
    assert decode(encode(made)) == made


def test_instructions_are_values():
    assert dataclasses.replace(COPY) == COPY
    assert dataclasses.replace(COPY, run=8) != COPY
    assert hash(COPY) == hash(dataclasses.replace(COPY))
    with pytest.raises(dataclasses.FrozenInstanceError):
        COPY.run = 8


def test_widest_fields_at_their_largest():
    made = Load(ocm=0, segment=255, offset=(1 << 40) - 1, run=(1 << 24) - 1, dram_stride_3=(1 << 30) - 1)
    assert decode(encode(made)) == made
    assert decode(encode(Barrier(units=(1 << 60) - 1))).units == (1 << 60) - 1


def test_unit_numbers():
    assert unit_number(1, Unit.SDMA) == 9
    assert unit_name(9) == "core1.sdma"
    assert [unit_name(n) for n in range(5)] == [f"core0.{u}" for u in ("conv0", "conv1", "teng", "cv", "sdma")]


def test_empty_stream():
    assert decode_stream(np.empty((0, 64), np.uint8)) == []
    assert encode_stream([]).shape == (0, 64)


def test_regions_of_resize_and_add_by_hand():
    # the vectorised footprints are compared with the scalar ones above; here the scalar ones with paper and pencil
    resize = Resize(
        src=100, dst=500, params=1600, tables=2000, in_height=3, in_width=4, out_height=5, out_width=6, channels=7,
        src_row_stride=40, src_pixel_stride=8, dst_row_stride=60, dst_pixel_stride=10, interpolation=1,
    )  # fmt: skip
    image, head, tables = resize.reads()
    assert (image.base, image.end) == (100, 100 + 2 * 40 + 3 * 8 + 7)
    assert (head.base, head.end) == (1600, 1632)
    assert (tables.base, tables.end) == (2000, 2000 + 3 * (5 + 6) * 4)
    (result,) = resize.writes()
    assert (result.end, result.size_bytes) == (500 + 4 * 60 + 5 * 10 + 7, 5 * 6 * 7)
    add = Add(a=0, b=64, dst=128, params=256, count=9, count_1=3, a_stride_1=10, dst_stride_1=16, b_broadcast=1)
    a, b, _ = add.reads()
    assert (a.end, b.end, add.writes()[0].end) == (2 * 10 + 9, 64 + 1, 128 + 2 * 16 + 9)
