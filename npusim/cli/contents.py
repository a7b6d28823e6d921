"""What the programs of a built model consist of: work and bytes, by unit and by layer. Printed by ``describe``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from isa.instruction import UNITS_PER_CORE, Unit
from isa.program import Program, SegmentKind, program_columns


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
        _count(found, program)
    return found


def _count(found: Contents, program: Program) -> None:
    macs = {unit: np.zeros(len(words), np.int64) for unit, words in program.streams.items()}
    for alike in program_columns(program):
        found.mnemonics[alike.cls.layout.mnemonic] += len(alike.rows)
        worth = np.broadcast_to(alike.columns.macs(), len(alike.rows))
        for unit in np.unique(alike.units).tolist():
            mine = alike.units == unit
            macs[unit][alike.rows[mine]] = worth[mine]
    for unit, worth in macs.items():
        found.instructions[str(Unit(unit % UNITS_PER_CORE))] += len(worth)
        found.macs += int(worth.sum())
        origins = program.origins.get(unit, np.zeros(0, np.int32))
        for origin in np.unique(origins[origins >= 0]).tolist():
            name, mine = program.origin_names[origin], origins == origin
            found.layer_instructions[name] += int(mine.sum())
            found.layer_macs[name] += int(worth[mine].sum())
