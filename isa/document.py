"""The instruction set manual, generated from the declarations: ``python -m isa.document > docs/isa.md``.

A test regenerates the page and compares. What an instruction means is said in its docstring, not here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

from . import instructions as _instructions
from .dtypes import DType
from .field import FieldSpec
from .instruction import (
    HEADER_WAITS,
    OPCODES,
    OPERAND_BIT,
    UNITS_PER_CORE,
    WAIT_BITS,
    WORD_BYTES,
    Instruction,
    Layout,
    Placed,
)
from .instructions import parameters
from .program import ISA_MAJOR, ISA_MINOR

_INTRODUCTION = f"""# Instruction set {ISA_MAJOR}.{ISA_MINOR}

*Generated from the declarations in `isa/instructions/` by `python -m isa.document`; do not edit.*

A program is one stream of {WORD_BYTES}-byte words per execution unit. Every core has {UNITS_PER_CORE} units: `conv0`
and `conv1` (matrix), `teng` (vector), `cv` (moves inside OCM), `sdma` (transfers). A word carries everything the unit
needs; there are no registers. Cores are logical: the loader decides which silicon runs them.

## Word

| bits | content |
| --- | --- |
| 0..7 | opcode |
| 8..{OPERAND_BIT - 1} | {HEADER_WAITS} waits of {WAIT_BITS} bits: unit number + 1 (0: none), counter value |
| {OPERAND_BIT}..{WORD_BYTES * 8 - 1} | operands; unused bits are zero |

Numbers are little-endian and unsigned. Unit number: `5 * core + unit`, units in the order above. A wait `(unit, value)`
holds the instruction back until that unit has retired `value` instructions. `sync` carries more waits in the operand
bits.

## Assembly

One statement a line, `;` or `#` begins a comment:

```
[label:] [coreN.]unit instruction field=value ... wait(unit, count) wait(label)
```

Fields may be left out where the table shows a default; a flag may be given by its name alone. Values are numbers,
constants, and sums of products of them. `wait(label)` waits for the labelled instruction.

| directive | meaning |
| --- | --- |
| `.program NAME` | names the program |
| `.cores COUNT` | logical cores; by default as many as the statements use |
| `.core N` | units without a core mean this one from here on; 0 at first |
| `.segment NAME KIND [BYTES]` | a DRAM segment; kinds: input, output, parameters, scratch |
| `.data SEGMENT TYPE VALUES` | appends to a segment's bytes; TYPE is {", ".join(str(t) for t in DType)} or hex |
| `.let NAME VALUE` | a constant |

Every stream ends with `end`; the assembler adds it where it is missing.

## Memory and types

An OCM address means the unit's own core. A tensor operand is a run of contiguous elements repeated over strided outer
dimensions. Its base and strides are multiples of its element size; weights and tables begin at multiples of 64 bytes,
parameter blocks at multiples of {parameters.BLOCK_ALIGN}. Within one instruction, source and destination are disjoint,
or identical where the instruction says that it works in place.

## Parameter block

"""


def manual() -> str:
    """The whole page as Markdown."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield _INTRODUCTION.rstrip("\n")
    yield ""
    yield _block_table()
    yield ""
    yield "## Instructions"
    yield ""
    yield "| opcode | instruction | units | meaning |"
    yield "| --- | --- | --- | --- |"
    for opcode in sorted(OPCODES):
        cls = OPCODES[opcode]
        name = cls.layout.mnemonic
        yield f"| {opcode:#04x} | [`{name}`](#{name}) | {_units(cls.layout)} | {_summary(cls)} |"
    for opcode in sorted(OPCODES):
        yield ""
        yield from _instruction(OPCODES[opcode])


def _block_table() -> str:
    rows = [line.split(maxsplit=2) for line in (inspect.getdoc(parameters) or "").splitlines() if line[:1].isdigit()]
    table = [
        "Every instruction that rounds names one in OCM:",
        "",
        "| offset | type | meaning |",
        "| --- | --- | --- |",
    ]
    return "\n".join(table + [f"| {offset} | {kind} | {meaning} |" for offset, kind, meaning in rows])


def _instruction(cls: type[Instruction]) -> Iterator[str]:
    layout = cls.layout
    yield f"### {layout.mnemonic}"
    yield ""
    yield f"Opcode {layout.opcode:#04x}; {_units(layout)}."
    yield ""
    yield inspect.getdoc(cls) or ""
    if layout.fields:
        yield ""
        yield "| field | bits | values | default | meaning |"
        yield "| --- | --- | --- | --- | --- |"
        yield from (_row(field) for field in layout.fields)
    if cls.constraints:
        yield ""
        yield "Rules: " + "; ".join(constraint.rule for constraint in cls.constraints) + "."


def _row(field: Placed) -> str:
    spec = field.spec
    last = field.position + spec.bits - 1
    default = "" if not isinstance(field.default, int) else str(field.default)
    if spec.hexadecimal and default:
        default = hex(int(default))
    return f"| `{field.name}` | {field.position}..{last} | {_values(spec)} | {default} | {spec.doc} |"


def _values(spec: FieldSpec) -> str:
    if spec.choices:
        return ", ".join(f"{choice} ({int(choice)})" for choice in spec.choices)
    if spec.symbol == "units":
        return "mask"
    if spec.bits == 1:
        return "flag"
    return f"{spec.minimum}..{spec.maximum}" if spec.bits <= 8 else f"{spec.minimum}..2^{spec.bits} - 1"


def _units(layout: Layout) -> str:
    return "any unit" if len(layout.units) == UNITS_PER_CORE else ", ".join(str(unit) for unit in layout.units)


def _summary(cls: type[Instruction]) -> str:
    return (inspect.getdoc(cls) or "").splitlines()[0]


assert _instructions.__all__, "imported for its declarations: they fill OPCODES"

if __name__ == "__main__":
    sys.stdout.write(manual())
