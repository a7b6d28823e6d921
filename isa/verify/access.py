"""From words to accesses: the streams decoded by kind, their operands as columns, and all of these in one table.

First step of every check of ``isa.verify``. Decides nothing but whether a word is an instruction of its unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import DecodingError, ProgramError
from ..instruction import UNITS_PER_CORE, unit_name
from ..instructions import Barrier
from ..program import Alike, Program, columns_of, program_columns
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
        fixed_place: the core or segment where the declaration names the same one for all, else None.
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
    """Instructions of one class with their operands.

    Attributes:
        alike: the instructions, by unit, then by position.
        reads: operands in the order of ``reads()``.
        writes: operands in the order of ``writes()``.
    """

    alike: Alike
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
        groups: by opcode.
        units: unit numbers of the streams decoded, ascending.
        violations: streams that hold something else than instructions of their unit; they are absent above.
    """

    groups: tuple[Group, ...]
    units: tuple[int, ...]
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
    units, violations = sorted(program.streams), []
    try:
        kinds = program_columns(program)
    except (DecodingError, ProgramError):
        failures = {unit: _failure(program, unit) for unit in units}
        units = [unit for unit in units if failures[unit] is None]
        violations = [failure for failure in failures.values() if failure is not None]
        kinds = columns_of(program, units)
    groups = tuple(_group(alike) for alike in kinds)
    return Decoded(groups=groups, units=tuple(units), violations=tuple(violations))


def _failure(program: Program, unit: int) -> Violation | None:
    """Why a stream does not decode, if it does not."""
    try:
        columns_of(program, (unit,))
    except (DecodingError, ProgramError) as error:
        told = str(error)
        message = told if unit_name(unit) in told else f"{unit_name(unit)}: {told}"
        return Violation(kind="structure", message=message)
    return None


def _group(alike: Alike) -> Group:
    reads = tuple(_operand(region, alike.units, write=False) for region in alike.columns.reads())
    writes = tuple(_operand(region, alike.units, write=True) for region in alike.columns.writes())
    return Group(alike=alike, reads=reads, writes=writes)


def _operand(region: Region, units: np.ndarray[Any, Any], *, write: bool) -> Operand:
    length = len(units)

    def column(value: Any) -> np.ndarray[Any, Any]:
        return np.broadcast_to(np.asarray(value, dtype=np.int64), length)

    place = column(region.place)
    shared = not isinstance(region.place, np.ndarray) and region.place != OWN_CORE
    counts, strides = np.ones((length, DIMS), np.int64), np.zeros((length, DIMS), np.int64)
    first = DIMS - len(region.counts)
    for index, (count, stride) in enumerate(zip(region.counts, region.strides, strict=True)):
        counts[:, first + index], strides[:, first + index] = count, stride
    elements, run = column(region.run), column(region.run_bytes)
    item = run // np.maximum(elements, 1)  # of an empty region nothing is asked
    return Operand(
        write=write,
        memory=memory_number(region.space, np.where(place == OWN_CORE, units // UNITS_PER_CORE, place)),
        base=column(region.base),
        run=run,
        end=column(region.end),
        counts=counts,
        strides=strides,
        dtype=column(region.dtype),
        step=np.maximum(item, region.align),
        item=np.maximum(item, 1),
        fixed_place=int(region.place) if shared else None,
    )


def flows_of(program: Program, decoded: Decoded) -> dict[int, Flow]:
    """What orders the streams that decoded, by unit number."""
    waits: dict[int, dict[int, tuple[tuple[int, int], ...]]] = {unit: {} for unit in decoded.units}
    barriers: dict[int, dict[int, tuple[int, int]]] = {unit: {} for unit in decoded.units}
    for alike in (group.alike for group in decoded.groups):
        columns = (alike.units, alike.rows, alike.wait_units, alike.wait_values)
        some = np.flatnonzero(alike.wait_units[:, 0] >= 0)
        for unit, row, us, vs in zip(*(column[some].tolist() for column in columns), strict=True):
            waits[unit][row] = tuple((u, v) for u, v in zip(us, vs, strict=True) if u >= 0)
        if alike.cls is Barrier:
            fields = (alike.units, alike.rows, alike.columns.id, alike.columns.units)
            for unit, row, name, mask in zip(*(column.tolist() for column in fields), strict=True):
                barriers[unit][row] = name, mask
    return {
        unit: Flow(length=len(program.streams[unit]), waits=waits[unit], barriers=barriers[unit])
        for unit in decoded.units
    }  # fmt: skip


def tabulate(groups: Sequence[Group], sizes: np.ndarray[Any, Any]) -> AccessTable:
    """All accesses within bounds, by unit; contiguous reads of one instruction that touch count as one.

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
                    group.alike.units[rows], group.alike.rows[rows], np.full(len(rows), operand.write),
                    operand.memory[rows], operand.base[rows], operand.run[rows], operand.counts[rows],
                    operand.strides[rows],
                )
            )  # fmt: skip
    none = np.zeros(0, np.int64)
    parts.append(
        (none, none, none.astype(bool), none, none, none, np.zeros((0, DIMS), np.int64), np.zeros((0, DIMS), np.int64))
    )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    unit, position, write, memory, base, run, counts, strides = (column[order] for column in columns)
    boxes, box = intern(memory, base, run, counts, strides)
    return AccessTable(unit=unit, position=position, write=write, box=box, boxes=boxes)


def _joined(reads: Sequence[Operand]) -> list[Operand]:
    """Let a contiguous read absorb the contiguous one that follows it without a gap: arrays of a parameter block."""
    result = list(reads)
    for index in range(len(result) - 2, -1, -1):
        this, following = result[index], result[index + 1]
        touching = (following.base == this.end) & (following.memory == this.memory) & _is_run(this) & _is_run(following)
        if touching.any():
            run = np.where(touching, this.run + following.run, this.run)
            result[index] = replace(this, run=run, end=np.where(touching, following.end, this.end))
            result[index + 1] = replace(following, run=np.where(touching, 0, following.run))
    return result


def _is_run(operand: Operand) -> np.ndarray[Any, Any]:
    """bool[n]: contiguous."""
    return np.asarray((operand.counts == 1).all(axis=1))
