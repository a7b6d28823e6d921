"""From words to accesses: the streams decoded by kind, their operands as columns, and all of these in one table.

First step of every check of ``isa.verify``. Decides nothing but whether a word is an instruction of its unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..codec import wait_columns
from ..errors import DecodingError, ProgramError
from ..instruction import UNITS_PER_CORE, Instruction, unit_name
from ..instructions import Barrier
from ..program import Program, stream_columns
from ..region import OWN_CORE, Region
from .boxes import DIMS, BoxTable, intern
from .report import Violation, memory_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """One region of one kind of instruction on one unit, an entry per instruction.

    Attributes:
        write: whether the instruction writes it.
        memory: int64[n], number of the memory.
        base: int64[n].
        run: int64[n], bytes; 0 where the region is empty.
        end: int64[n], after the last byte.
        counts: int64[n, 4], slowest first, 1 in front.
        strides: int64[n, 4], likewise, 0 in front.
        dtype: int64[n].
        step: int64[n], what the base must be a multiple of.
        item: int64[n], what the strides must be multiples of.
        fixed_place: the core or segment where it is the same for all, else None.
    """

    write: bool
    memory: np.ndarray[Any, Any]
    base: np.ndarray[Any, Any]
    run: np.ndarray[Any, Any]
    end: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]
    strides: np.ndarray[Any, Any]
    dtype: np.ndarray[Any, Any]
    step: np.ndarray[Any, Any]
    item: np.ndarray[Any, Any]
    fixed_place: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All instructions of one kind on one unit.

    Attributes:
        rows: int64[n], positions in the stream, ascending.
        columns: an instance of ``kind`` that holds columns.
        reads: operands in the order of ``reads()``.
        writes: operands in the order of ``writes()``.
    """

    unit: int
    kind: type[Instruction]
    rows: np.ndarray[Any, Any]
    columns: Any
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What orders one unit's stream.

    Attributes:
        length: instructions.
        waits: by position: (unit, value) pairs; positions without waits are absent.
        barriers: by position: (id, mask).
    """

    length: int
    waits: Mapping[int, tuple[tuple[int, int], ...]]
    barriers: Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A program as columns.

    Attributes:
        groups: by unit, then opcode.
        flows: by unit number.
        violations: streams that hold something else than instructions of their unit; they are absent above.
    """

    groups: tuple[Group, ...]
    flows: Mapping[int, Flow]
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTable:
    """Every non-empty read and write of a program, as columns of equal length.

    Attributes:
        unit: int64[n].
        position: int64[n], in the unit's stream.
        write: bool[n].
        box: int64[n], index into ``boxes``.
        boxes: the different boxes; each lies in one memory.
    """

    unit: np.ndarray[Any, Any]
    position: np.ndarray[Any, Any]
    write: np.ndarray[Any, Any]
    box: np.ndarray[Any, Any]
    boxes: BoxTable

    def __len__(self) -> int:
        return len(self.unit)


def decode(program: Program) -> Decoded:
    """Decode all streams of a program."""
    groups, flows, violations = [], {}, []
    for unit in sorted(program.streams):
        try:
            kinds = stream_columns(program, unit)
        except (DecodingError, ProgramError) as error:
            told = str(error)
            message = told if unit_name(unit) in told else f"{unit_name(unit)}: {told}"
            violations.append(Violation(kind="structure", message=message))
            continue
        for kind, rows, columns in kinds:
            groups.append(_group(unit, kind, rows, columns))
        flows[unit] = _flow(program.streams[unit], kinds)
    return Decoded(groups=tuple(groups), flows=flows, violations=tuple(violations))


def _group(unit: int, kind: type[Instruction], rows: np.ndarray[Any, Any], columns: Any) -> Group:
    reads = tuple(_operand(region, len(rows), unit, write=False) for region in columns.reads())
    writes = tuple(_operand(region, len(rows), unit, write=True) for region in columns.writes())
    return Group(unit=unit, kind=kind, rows=rows, columns=columns, reads=reads, writes=writes)


def _operand(region: Region, length: int, unit: int, *, write: bool) -> Operand:
    def column(value: Any) -> np.ndarray[Any, Any]:
        return np.broadcast_to(np.asarray(value, dtype=np.int64), length)

    place = column(region.place)
    place = np.where(place == OWN_CORE, unit // UNITS_PER_CORE, place)
    counts, strides = np.ones((length, DIMS), np.int64), np.zeros((length, DIMS), np.int64)
    first = DIMS - len(region.counts)
    for index, (count, stride) in enumerate(zip(region.counts, region.strides, strict=True)):
        counts[:, first + index], strides[:, first + index] = count, stride
    elements, run = column(region.run), column(region.run_bytes)
    item = run // np.maximum(elements, 1)  # of an empty region nothing is asked
    return Operand(
        write=write,
        memory=memory_number(region.space, place),
        base=column(region.base),
        run=run,
        end=column(region.end),
        counts=counts,
        strides=strides,
        dtype=column(region.dtype),
        step=np.maximum(item, region.align),
        item=np.maximum(item, 1),
        fixed_place=None if isinstance(region.place, np.ndarray) else int(place[0]),
    )


def _flow(words: np.ndarray[Any, Any], kinds: Sequence[tuple[type[Instruction], Any, Any]]) -> Flow:
    waits: dict[int, tuple[tuple[int, int], ...]] = {}
    barriers: dict[int, tuple[int, int]] = {}
    for kind, rows, columns in kinds:
        units, values = wait_columns(words[rows], kind.layout.max_waits)
        some = np.flatnonzero(units[:, 0] >= 0)  # waits fill the slots from the first
        for row, us, vs in zip(rows[some].tolist(), units[some].tolist(), values[some].tolist(), strict=True):
            waits[row] = tuple((u, v) for u, v in zip(us, vs, strict=True) if u >= 0)
        if kind is Barrier:
            barriers.update(
                zip(rows.tolist(), zip(columns.id.tolist(), columns.units.tolist(), strict=True), strict=True)
            )
    return Flow(length=len(words), waits=waits, barriers=barriers)


def tabulate(groups: Sequence[Group], sizes: np.ndarray[Any, Any]) -> AccessTable:
    """All accesses within bounds; contiguous reads of one instruction that touch count as one.

    Args:
        groups: the decoded program.
        sizes: int64[memory number], bytes; -1 where the program has no such memory.
    """
    parts: list[tuple[Any, ...]] = []
    for group in groups:
        for operand in (*_joined(group.reads), *group.writes):
            rows = np.flatnonzero((operand.run > 0) & (operand.end <= sizes[operand.memory]))
            parts.append(
                (
                    np.full(len(rows), group.unit), group.rows[rows], np.full(len(rows), operand.write),
                    operand.memory[rows], operand.base[rows], operand.run[rows], operand.counts[rows],
                    operand.strides[rows],
                )
            )  # fmt: skip
    none = np.zeros(0, np.int64)
    parts.append(
        (none, none, none.astype(bool), none, none, none, np.zeros((0, DIMS), np.int64), np.zeros((0, DIMS), np.int64))
    )
    unit, position, write, memory, base, run, counts, strides = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    boxes, box = intern(memory, base, run, counts, strides)
    return AccessTable(unit=unit, position=position, write=write, box=box, boxes=boxes)


def _joined(reads: Sequence[Operand]) -> list[Operand]:
    """Let a contiguous read absorb the contiguous one that follows it without a gap: arrays of a parameter block."""
    result = list(reads)
    for index in range(len(result) - 2, -1, -1):
        this, following = result[index], result[index + 1]
        if _is_run(this) and _is_run(following):
            touching = (following.base == this.end) & (following.memory == this.memory)
            run = this.run + np.where(touching, following.run, 0)
            result[index] = replace(this, run=run, end=this.base + run)
            result[index + 1] = replace(following, run=np.where(touching, 0, following.run))
    return result


def _is_run(operand: Operand) -> bool:
    return bool((operand.counts == 1).all())
