import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa.assembler import assemble, format_instruction, parse_instruction
from isa.codec import encode
from isa.disassembler import disassemble
from isa.errors import AssemblyError
from isa.instruction import MNEMONICS, UNITS_PER_CORE, Wait
from isa.instructions import Barrier, Conv, Load, Matmul
from isa.program import Program, Segment, SegmentKind, make_program
from npusim.testing.instructions import instructions

SOURCE = """
.program pair
.cores 2
.let TILE 0x40
.segment x input 4*TILE        ; a comment
.segment table parameters 8    # another
.data table s8 -1 2
.data table hex 0aff
.segment y output 256
first: sdma load ocm=TILE segment=x offset=TILE+2*TILE run=TILE
teng lookup src=TILE dst=0x100 table=0 count=TILE wait(first) wait(core1.cv, 2)
.core 1
cv copy src=0 dst=64 run=8
cv copy src=0 dst=128 run=8 wait(core0.sdma, 1)
core0.cv barrier units=cv+core1.cv+7
"""


@pytest.mark.parametrize("mnemonic", sorted(MNEMONICS))
@given(data=st.data())
@settings(max_examples=30)
def test_parse_inverts_format(mnemonic, data):
    instruction = data.draw(instructions(MNEMONICS[mnemonic]))
    core = data.draw(st.integers(0, 11))
    assert parse_instruction(format_instruction(instruction, core), core) == instruction


def test_source_means_what_it_says():
    program = assemble(SOURCE.replace("+7", ""))
    assert (program.name, program.cores) == ("pair", 2)
    assert [s.size_bytes for s in program.segments] == [256, 8, 256]
    assert program.segments[1].data.tolist() == [255, 2, 10, 255, 0, 0, 0, 0]
    load = program.instructions(4)[0]
    assert load == Load(ocm=0x40, segment=0, offset=0xC0, run=0x40)
    assert program.instructions(2)[0].waits == (Wait(4, 1), Wait(8, 2))
    assert program.instructions(8)[1].waits == (Wait(4, 1),)
    assert program.instructions(3)[0] == Barrier(units=1 << 3 | 1 << 8)
    assert program.origin(4, 0) == "first:10"
    assert program.origin(4, 1) == ""  # the `end` that the assembler added


def test_labels_may_lie_ahead_and_name_their_own_core():
    program = assemble("sdma load ocm=0 segment=0 run=4 wait(later)\n.core 2\nlater: cv copy src=0 dst=8 run=4")
    assert program.instructions(4)[0].waits == (Wait(2 * UNITS_PER_CORE + 3, 1),)


def test_flags_may_stand_alone():
    text = (
        "conv src=0 in_height=1 in_width=1 in_channels=1 out_height=1 out_width=1 src_row_stride=1 "
        "src_pixel_stride=1 dst=64 dst_row_stride=1 dst_pixel_stride=1 weights=64 params=128 out_channels=1"
    )
    with_flag = parse_instruction(text + " per_channel has_bias=1")
    assert isinstance(with_flag, Conv)
    assert with_flag.per_channel
    assert with_flag.has_bias
    assert "has_bias=1" in format_instruction(with_flag)


MISTAKES = [
    ("sdma lod ocm=0", "line 1: unknown instruction 'lod'; did you mean load"),
    ("smda load ocm=0", "'smda' is no unit"),
    ("sdma load ocm=0 segment=0", "load needs run"),
    ("sdma load ocm=0 segment=0 run=0", "run=0 is outside 1..16777215"),
    ("sdma load ocm=0 segment=0 run=1 run=2", "run is given twice"),
    ("sdma load ocm=0 segment=0 rum=1", "no field 'rum'; did you mean run"),
    ("sdma load ocm=0 segment=image run=1", "no segment 'image'"),
    ("\n\nsdma load ocm=0 segment=0 run=x1", "line 3: 'x1' is no number"),
    ("sdma load ocm segment=0 run=1", "ocm needs a value"),
    ("sdma load ocm=-4 segment=0 run=1", "ocm=-4 is outside 0..16777215"),
    ("sdma load ocm=0 segment=0 run=1 wait(conv0, 0)", "wait"),
    ("sdma load ocm=0 segment=0 run=1 wait(nowhere)", "no label 'nowhere'"),
    ("a: sdma end\na: cv end", "label a is defined twice"),
    ("sdma", "expected a unit and an instruction"),
    ("conv0 load ocm=0 segment=0 run=1", "runs on sdma only"),
    ("teng requantize src=0 dst=0 count=4 params=64 dst_type=s12", "expected one of"),
    (".sement x input 4", "unknown directive .sement; did you mean .segment"),
    (".segment x inputs 4", "no kind of segment"),
    (".segment x input", "must be at least 1"),
    (".segment x parameters 1\n.data x u8 1 2", "do not fit"),
    (".segment x parameters\n.data x u8 256", "256 does not fit u8"),
    (".segment x parameters\n.data x hex 0g", "not hexadecimal"),
    (".segment x parameters\n.data x u9 1", "no element type"),
    (".data x u8 1", "segment x is not declared"),
    (".cores many", "'many' is no number"),
    (".cores 1\n.core 1\nsdma end", "not on its 1 cores"),
    (".let 1x 3", "not a new identifier"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes_are_named(text, message):
    with pytest.raises(AssemblyError) as caught:
        assemble(text)
    assert message in str(caught.value)


@given(st.text(max_size=200))
def test_any_text_assembles_or_is_refused(text):
    with contextlib.suppress(AssemblyError):
        assemble(text)


@given(st.lists(st.sampled_from(SOURCE.split()), max_size=30), st.randoms(use_true_random=False))
def test_shuffled_source_assembles_or_is_refused(words, random):
    text = "".join(word + random.choice([" ", " ", "\n"]) for word in words)
    with contextlib.suppress(AssemblyError):
        assemble(text)


@st.composite
def programs(draw) -> Program:
    """Well-formed programs that need not make sense: any instructions on units that execute them."""
    data = draw(st.binary(min_size=1, max_size=80))
    segments = [
        Segment(name="in", kind=SegmentKind.INPUT, size_bytes=draw(st.integers(1, 1 << 40))),
        Segment(name="p/0.w-1", kind=SegmentKind.PARAMETERS, size_bytes=len(data), data=np.frombuffer(data, np.uint8)),
    ]
    streams = {}
    for number in draw(st.lists(st.integers(0, 14), unique=True, max_size=4)):
        allowed = [c for c in MNEMONICS.values() if number % UNITS_PER_CORE in c.layout.units and c.layout.fields]
        streams[number] = draw(st.lists(st.sampled_from(allowed).flatmap(instructions), min_size=1, max_size=4))
    return make_program("any", streams, segments)


@given(programs())
@settings(max_examples=60)
def test_disassembly_assembles_to_the_same_program(program):
    again = assemble(disassemble(program))
    assert again.fingerprint() == program.fingerprint()
    assert (again.name, again.cores) == (program.name, program.cores)


def test_waits_print_relative_to_the_core():
    instruction = Matmul(
        a=0, b=64, dst=128, params=256, m=1, k=1, n=1, a_row_stride=1, dst_row_stride=1, waits=(Wait(9, 2), Wait(4, 1))
    )
    assert format_instruction(instruction, core=1).endswith("wait(sdma, 2) wait(core0.sdma, 1)")
    assert len(encode(instruction)) == 64
