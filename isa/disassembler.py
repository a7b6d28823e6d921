"""Programs back to assembly text that assembles to the same program.

The command line calls this; single instructions are printed by ``assembler.format_instruction``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .assembler import format_instruction
from .instruction import UNITS_PER_CORE, Unit
from .program import Program, Segment

_BYTES_PER_LINE = 32


def disassemble(program: Program, *, data: bool = True) -> str:
    """The program as assembly text.

    Args:
        data: write the bytes of segments too; without them the text shows sizes only and cannot be assembled back.

    Raises:
        DecodingError: a word is not an instruction.
    """
    return "\n".join(_lines(program, data)) + "\n"


def _lines(program: Program, data: bool) -> Iterator[str]:
    yield f".program {program.name}"
    yield f".cores {program.cores}"
    for segment in program.segments:
        yield f".segment {segment.name} {segment.kind} {segment.size_bytes}"
    for segment in program.segments:
        yield from _data(segment, data)
    names = program.segment_names()
    current = 0
    for number in sorted(program.streams):
        core, unit = divmod(number, UNITS_PER_CORE)
        yield ""
        if core != current:
            yield f".core {core}"
            current = core
        for position, instruction in enumerate(program.instructions(number)):
            origin = program.origin(number, position)
            note = f"  ; {origin}" if origin else ""
            yield f"{Unit(unit)} {format_instruction(instruction, core, names)}{note}"


def _data(segment: Segment, wanted: bool) -> Iterator[str]:
    if segment.data is None:
        return
    if not wanted:
        yield f"; {segment.size_bytes} bytes of {segment.name} left out"
        return
    used = np.flatnonzero(segment.data)
    end = int(used[-1]) + 1 if used.size else min(1, segment.size_bytes)
    for start in range(0, end, _BYTES_PER_LINE):
        yield f".data {segment.name} hex {segment.data[start : min(start + _BYTES_PER_LINE, end)].tobytes().hex()}"
