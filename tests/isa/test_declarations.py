"""Declarations: a wrong one fails when it is imported, and a right one has everything that is derived from it."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from isa.dtypes import DType
from isa.errors import DeclarationError
from isa.field import FieldSpec, choice, element_type, extent, flag, ocm_address, unsigned
from isa.instruction import (
    MNEMONICS,
    OPCODES,
    OPERAND_BIT,
    WAIT_BITS,
    WORD_BITS,
    Constraint,
    Instruction,
    Unit,
    instruction,
    operand_group,
)

CLASSES = tuple(OPCODES.values())
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.layout.mnemonic)
FREE = 0xF0


@pytest.fixture(autouse=True)
def registry():
    """The registries as they were, whatever a test declares."""
    opcodes, mnemonics = dict(OPCODES), dict(MNEMONICS)
    yield
    OPCODES.clear()
    OPCODES.update(opcodes)
    MNEMONICS.clear()
    MNEMONICS.update(mnemonics)


def _nothing(self, memory):
    pass


def declare(opcode=FREE, doc="A probe.", *, name="Probe", base=Instruction, operation=True, max_waits=3, **fields):
    body = {"__doc__": doc, "__annotations__": dict.fromkeys(fields, int), "__module__": __name__, **fields}
    if operation:
        body["operation"] = _nothing
    return instruction(opcode=opcode, units=(Unit.CV,), max_waits=max_waits)(type(name, (base,), body))


def test_a_good_declaration_is_entered():
    made = declare(src=ocm_address("source"), rows=extent(16, "rows"), wide=flag("wide", default=0))
    assert OPCODES[FREE] is MNEMONICS["probe"] is made
    assert [(f.name, f.position, f.spec.bits) for f in made.layout.fields] == [
        ("src", OPERAND_BIT, 24),
        ("rows", OPERAND_BIT + 24, 16),
        ("wide", OPERAND_BIT + 40, 1),
    ]
    assert made(src=1, rows=2) == made(src=1, rows=2, wide=0, waits=())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: declare(opcode=0x50), "probe: opcode 0x50 is taken by copy"),
        (lambda: declare(opcode=0), "probe: opcode 0x0 does not fit"),
        (lambda: declare(opcode=256), "probe: opcode 0x100 does not fit"),
        (lambda: declare(name="Copy"), "copy: declared twice"),
        (lambda: declare(doc=""), "probe: no docstring"),
        (lambda: declare(doc=None), "probe: no docstring"),
        (lambda: declare(doc="  \n "), "probe: no docstring"),
        (lambda: declare(operation=False), r"probe: no operation\(\)"),
        (lambda: declare(src=ocm_address("")), "probe.src: no documentation"),
        (lambda: declare(src=dataclasses.field(default=0)), "probe.src: no documentation"),
        (lambda: declare(src=3), "probe.src: no documentation"),
        (
            lambda: declare(a=unsigned(8, "first"), b=unsigned(8, "second", at=OPERAND_BIT + 7)),
            f"probe.b: bits {OPERAND_BIT + 7}..{OPERAND_BIT + 14} overlap",
        ),
        (lambda: declare(a=unsigned(8, "in the waits", at=OPERAND_BIT - 1)), "probe.a: bits 103..110 overlap"),
        (lambda: declare(a=unsigned(8, "on the opcode", at=0)), "probe.a: bits 0..7 overlap"),
        (
            lambda: declare(max_waits=15, a=unsigned(8, "in the extra waits", at=OPERAND_BIT)),
            "probe.a: bits 104..111 overlap",
        ),
        (lambda: declare(a=unsigned(WORD_BITS - OPERAND_BIT + 1, "wide")), "probe.a: ends at bit 513, past 512"),
        (
            lambda: declare(a=unsigned(WORD_BITS - OPERAND_BIT, "all"), b=flag("one too many")),
            "probe.b: ends at bit 513",
        ),
    ],
)
def test_wrong_declaration_is_refused(make, message):
    before = dict(OPCODES)
    with pytest.raises(DeclarationError, match=message):
        make()
    assert before == OPCODES


def test_a_word_can_be_filled_to_its_last_bit():
    made = declare(a=unsigned(WORD_BITS - OPERAND_BIT, "all"))
    assert made.layout.reserved == 0


def test_explicit_position_leaves_a_reserved_gap():
    made = declare(a=unsigned(8, "first"), b=unsigned(8, "second", at=OPERAND_BIT + 12))
    assert made.layout.reserved >> (OPERAND_BIT + 8) & 0xFFF == 0xF  # the gap of 4 bits, then b's 8 in use


def test_own_declaration_is_validated_and_decoded():
    from isa.codec import decode, encode
    from isa.errors import EncodingError

    made = declare(kind=element_type("type", (DType.S32, DType.F32)), n=unsigned(3, "number", minimum=2))
    assert decode(encode(made(kind=DType.F32, n=7))) == made(kind=DType.F32, n=7)
    with pytest.raises(EncodingError, match="kind=0 is none of s32, f32"):
        made(kind=0, n=7)
    with pytest.raises(EncodingError, match=r"n=1 is outside 2\.\.7"):
        made(kind=DType.F32, n=1)


def test_operand_groups_come_first():
    @operand_group
    class Group(Instruction):
        """Shared."""

        src: int = ocm_address("source")

    made = declare(base=Group, more=flag("more", default=0))
    assert [f.name for f in made.layout.fields] == ["src", "more"]


def test_mnemonics_are_snake_case():
    assert {"conv", "depthwise_conv", "conv_transpose", "global_average_pool", "arg_max", "end"} <= MNEMONICS.keys()
    assert declare(name="Int8Probe").layout.mnemonic == "int8_probe"


def test_choice_takes_as_many_bits_as_its_largest_member():
    assert choice(Unit, "a unit").metadata["spec"].bits == 3  # 0..4
    assert choice(Unit, "a unit", allowed=(Unit.CONV0, Unit.CONV1)).metadata["spec"].bits == 1
    assert choice(Unit, "a unit", allowed=(Unit.CONV0,)).metadata["spec"].bits == 1


# ------------------------------------------------------------------------------------- what every instruction must have


def overlaps(fields):
    ranges = sorted((f.position, f.position + f.spec.bits) for f in fields)
    return any(end > start for (_, end), (start, _) in itertools.pairwise(ranges))


@each_class
def test_layout_is_sound(cls):
    layout = cls.layout
    assert not overlaps(layout.fields)
    start = OPERAND_BIT + WAIT_BITS * (layout.max_waits - 3)
    assert all(start <= f.position and f.position + f.spec.bits <= WORD_BITS for f in layout.fields)
    assert OPCODES[layout.opcode] is cls
    assert layout.units
    assert {f.name for f in layout.fields} == {f.name for f in dataclasses.fields(cls)} - {"waits"}
    for field in layout.fields:
        assert all(int(c) < 1 << field.spec.bits for c in field.spec.choices)


def is_sentence(text):
    return text.strip()[0].isupper() or text.strip()[0] == "`"


@each_class
def test_documents_itself(cls):
    first = cls.__doc__.strip().splitlines()[0]
    assert is_sentence(first)
    assert first.endswith((".", ",", ":")) or len(cls.__doc__.strip().splitlines()) > 1
    for field in cls.layout.fields:
        spec = field.spec
        assert isinstance(spec, FieldSpec)
        assert len(spec.doc) > 3
        assert not spec.doc.endswith(".")
        if field.default is not dataclasses.MISSING:
            assert int(field.default) >= spec.minimum


@each_class
def test_constraints_are_phrased_as_rules(cls):
    for constraint in cls.constraints:
        assert isinstance(constraint, Constraint)
        assert len(constraint.rule.split()) > 3
        assert not constraint.rule.endswith(".")
    assert len({c.rule for c in cls.constraints}) == len(cls.constraints)


@each_class
def test_defines_its_own_meaning(cls):
    assert cls.operation is not Instruction.operation
    if "control" not in cls.__module__:
        assert cls.writes is not Instruction.writes, "an instruction that writes nothing computes nothing"
