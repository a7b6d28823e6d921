"""What the programs of a built model consist of: work and bytes, by unit and by layer. Printed by ``describe``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from isa.instruction import UNITS_PER_CORE, Unit
from isa.program import Program, SegmentKind, stream_columns


@dataclass(slots=True, kw_only=True)
class Contents:
    """Sums over programs.

    Attributes:
        instructions: by kind of unit, such as ``conv0``.
        mnemonics: instructions by name.
        macs: multiply-accumulates of one inference.
        segment_bytes: DRAM by kind of segment, such as ``parameters``.
        layer_instructions: by layer.
        layer_macs: by layer.
    """

    instructions: Counter[str] = field(default_factory=Counter)
    mnemonics: Counter[str] = field(default_factory=Counter)
    macs: int = 0
    segment_bytes: Counter[str] = field(default_factory=Counter)
    layer_instructions: Counter[str] = field(default_factory=Counter)
    layer_macs: Counter[str] = field(default_factory=Counter)

    @property
    def parameter_bytes(self) -> int:
        """Weights, biases, scales and tables, as they lie in DRAM."""
        return self.segment_bytes[str(SegmentKind.PARAMETERS)]


def contents_of(programs: Sequence[Program]) -> Contents:
    """Count what programs consist of."""
    found = Contents()
    for program in programs:
        for segment in program.segments:
            found.segment_bytes[str(segment.kind)] += segment.size_bytes
        for unit in program.streams:
            _count(found, program, unit)
    return found


def _count(found: Contents, program: Program, unit: int) -> None:
    length = len(program.streams[unit])
    found.instructions[str(Unit(unit % UNITS_PER_CORE))] += length
    macs = np.zeros(length, np.int64)
    for cls, rows, columns in stream_columns(program, unit):
        found.mnemonics[cls.layout.mnemonic] += len(rows)
        macs[rows] = columns.macs()
    found.macs += int(macs.sum())
    origins = program.origins.get(unit)
    if origins is None:
        return
    for origin in np.unique(origins[origins >= 0]).tolist():
        name, mine = program.origin_names[origin], origins == origin
        found.layer_instructions[name] += int(mine.sum())
        found.layer_macs[name] += int(macs[mine].sum())
