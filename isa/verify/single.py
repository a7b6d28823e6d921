"""What can be wrong with one instruction by itself: its rules, bounds, alignment, aliasing, its place in the stream.

Fast, column by column; repeated at every load. What takes two instructions to go wrong belongs elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import islice
from operator import itemgetter
from typing import Any

import numpy as np

from ..codec import select
from ..instruction import MAX_CORES, UNITS_PER_CORE, unit_name
from ..instructions import Barrier, End
from ..program import MAX_SEGMENTS, Program
from ..region import Space, make_box
from .access import Decoded, Group, Operand
from .boxes import DIMS, folds, meet
from .limits import Limits
from .report import PLACE_BITS, Site, Violation, at_memory, byte_range, memory_number, site

assert max(MAX_CORES, MAX_SEGMENTS) <= 1 << PLACE_BITS


def memory_sizes(program: Program, limits: Limits) -> np.ndarray[Any, Any]:
    """Bytes of every memory by its number; -1 where the program has none of that number."""
    sizes = np.full(len(Space) << PLACE_BITS, -1, np.int64)
    sizes[: program.cores] = limits.ocm_bytes
    first = memory_number(Space.DRAM, 0)
    sizes[first : first + len(program.segments)] = [s.size_bytes for s in program.segments]
    return sizes


def check_single(program: Program, limits: Limits, decoded: Decoded, most: int) -> tuple[Violation, ...]:
    """The first ``most`` violations that single instructions commit, by check, unit and position."""
    if not any(True for _ in _violations(program, limits, decoded.units, decoded.groups)):
        return ()
    by_unit = [
        _of_unit(group, unit) for unit in decoded.units for group in decoded.groups if unit in group.alike.units
    ]  # fmt: skip
    return tuple(islice(_violations(program, limits, decoded.units, by_unit), most))


def _of_unit(group: Group, unit: int) -> Group:
    """The instructions of a group that one unit executes."""
    rows = np.flatnonzero(group.alike.units == unit)

    def taken(record: Any) -> Any:
        columns = {f.name: getattr(record, f.name) for f in fields(record)}
        return replace(record, **{n: c[rows] for n, c in columns.items() if isinstance(c, np.ndarray)})

    alike = replace(taken(group.alike), columns=select(group.alike.columns, rows))
    return Group(alike=alike, reads=tuple(map(taken, group.reads)), writes=tuple(map(taken, group.writes)))


def _violations(program: Program, limits: Limits, units: Sequence[int], groups: Sequence[Group]) -> Iterator[Violation]:
    """All violations, by check, then in the order of ``groups``."""
    sizes = memory_sizes(program, limits)
    yield from _check_cores(program, limits)
    yield from _check_flow(program, groups)
    for unit in units:
        yield from _check_end(program, unit)
    for group in groups:
        yield from _check_constraints(program, group)
    for group in groups:
        yield from _check_bounds(program, group, sizes)
    for group in groups:
        yield from _check_alignment(program, group)
    for group in groups:
        yield from _check_folds(program, group)
    for group in groups:
        yield from _check_overlaps(program, group)


def _check_cores(program: Program, limits: Limits) -> Iterator[Violation]:
    if program.cores > limits.cores:
        message = f"program {program.name} uses {program.cores} cores, the machine has {limits.cores}"
        yield Violation(kind="bounds", message=message)


def _check_flow(program: Program, groups: Sequence[Group]) -> Iterator[Violation]:
    """Waits for units that the program does not have, and barriers with such units or without their own."""
    units = program.cores * UNITS_PER_CORE
    waits: list[tuple[int, ...]] = []
    barriers: list[tuple[int, ...]] = []
    for alike in (group.alike for group in groups):
        rows, slots = np.nonzero(alike.wait_units >= units)
        waits += _listed(alike.units[rows], alike.rows[rows], alike.wait_units[rows, slots])
        if alike.cls is Barrier:
            masks = alike.columns.units
            rows = np.flatnonzero((masks >> alike.units & 1 == 0) | (masks >> units > 0))
            barriers += _listed(alike.units[rows], alike.rows[rows], masks[rows])
    for unit in sorted({unit for unit, _, _ in (*waits, *barriers)}):
        for _, position, other in sorted((w for w in waits if w[0] == unit), key=itemgetter(1)):
            where = site(program, unit, position)
            yield _structure(where, f"waits for {unit_name(other)}, {_but_cores(program.cores)}")
        for _, position, mask in sorted(b for b in barriers if b[0] == unit):
            where = site(program, unit, position)
            if not mask >> unit & 1:
                yield _structure(where, f"is a barrier whose mask {mask:#x} leaves out its own unit")
            if mask >> units:
                stranger = unit_name(mask.bit_length() - 1)
                yield _structure(where, f"is a barrier with {stranger}, {_but_cores(program.cores)}")


def _listed(*columns: np.ndarray[Any, Any]) -> list[tuple[int, ...]]:
    """Columns of equal length as tuples."""
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _but_cores(cores: int) -> str:
    return f"but the program has {cores} core{'s' if cores > 1 else ''}"


def _check_end(program: Program, unit: int) -> Iterator[Violation]:
    ends = program.streams[unit][:, 0] == End.layout.opcode
    last = len(ends) - 1
    for position in np.flatnonzero(ends[:-1]).tolist():
        yield _structure(site(program, unit, position), f"ends the stream before its last instruction, {last}")
    if not ends[-1]:
        yield _structure(site(program, unit, last), "is the last of its stream and no end")


def _structure(where: Site, says: str) -> Violation:
    return Violation(kind="structure", message=f"{where} {says}", sites=(where,))


def _check_constraints(program: Program, group: Group) -> Iterator[Violation]:
    for rule, holds in group.alike.cls.constraints:
        for row in np.flatnonzero(~np.broadcast_to(holds(group.alike.columns), len(group.alike.rows))).tolist():
            where = _site(program, group, row)
            yield Violation(kind="constraint", message=f"{where} breaks the rule: {rule}", sites=(where,))


def _check_bounds(program: Program, group: Group, sizes: np.ndarray[Any, Any]) -> Iterator[Violation]:
    for operand in (*group.reads, *group.writes):
        limit = sizes[operand.memory]
        # a region that folds onto itself may be too large for its own arithmetic; its folds are reported below
        bad = (operand.run != 0) & ((operand.end > limit) | (operand.end <= operand.base))
        for row in np.flatnonzero(bad).tolist():
            memory = int(operand.memory[row])
            if limit[row] >= 0:
                why = f"past its end at {limit[row]:#x}"
            elif memory >> PLACE_BITS == Space.OCM:
                why = _but_cores(program.cores)
            else:
                why = f"but the program has {len(program.segments)} segments"
            yield _about(program, group, operand, row, "bounds", f"{{does}} {{bytes}}, {why}")


def _check_alignment(program: Program, group: Group) -> Iterator[Violation]:
    for operand in (*group.reads, *group.writes):
        odd = (operand.base % operand.step != 0) | (operand.strides % operand.item[:, None] != 0).any(axis=1)
        for row in np.flatnonzero(odd & (operand.run > 0)).tolist():
            base, step, item = int(operand.base[row]), int(operand.step[row]), int(operand.item[row])
            if base % step:
                why = f"whose base is not a multiple of {step}"
            else:
                why = f"whose strides are not multiples of its element's {item} bytes"
            yield _about(program, group, operand, row, "alignment", f"{{does}} {{bytes}}, {why}")


def _check_folds(program: Program, group: Group) -> Iterator[Violation]:
    """Writes that put two values into one byte."""
    for operand in group.writes:
        live = operand.counts > 1
        strides = np.where(live, operand.strides, 0)
        order = np.argsort(strides, axis=1, kind="stable")
        strides = np.take_along_axis(strides, order, axis=1)
        reach = np.take_along_axis(np.where(live, operand.counts - 1, 0), order, axis=1) * strides
        # bytes up to the end of what the smaller strides span
        inner = operand.run[:, None] + np.cumsum(reach, axis=1) - reach
        nested = ((strides >= inner) | (strides == 0)).all(axis=1) & ~(live & (operand.strides == 0)).any(axis=1)
        seen: dict[tuple[int, ...], bool] = {}
        for row in np.flatnonzero(~nested & (operand.run > 0)).tolist():
            shape = _shape(operand, row)[1:]
            if shape not in seen:
                seen[shape] = folds(shape[0], shape[1 : 1 + DIMS], shape[1 + DIMS :])
            if seen[shape]:
                yield _about(program, group, operand, row, "alias", "writes twice to one byte of {bytes}")


def _check_overlaps(program: Program, group: Group) -> Iterator[Violation]:
    """A destination that meets a source without being it, or another destination of the same instruction."""
    for number, write in enumerate(group.writes):
        for index, read in enumerate(group.reads):
            allowed = (index, number) in group.alike.cls.may_alias
            yield from _check_pair(program, group, read, write, allowed=allowed)
        for other in group.writes[:number]:
            if other.fixed_place is None or write.fixed_place is None or other.fixed_place == write.fixed_place:
                yield from _check_pair(program, group, other, write, allowed=False)


def _check_pair(
    program: Program, group: Group, first: Operand, second: Operand, *, allowed: bool
) -> Iterator[Violation]:
    near = (first.memory == second.memory) & (first.run > 0) & (second.run > 0)
    near &= (first.base < second.end) & (second.base < first.end)
    if allowed:
        near &= ~_same_elements(first, second)
    seen: dict[tuple[int, ...], bool] = {}
    for row in np.flatnonzero(near).tolist():
        key = (*_shape(first, row), *_shape(second, row), int(first.dtype[row] == second.dtype[row]))
        if key not in seen:
            seen[key] = _collide(first, second, row, allowed=allowed)
        if seen[key]:
            where = _site(program, group, row)
            memory = int(first.memory[row])
            source = byte_range(program, memory, int(first.base[row]), int(first.end[row]) - 1)
            verb = "writes" if first.write else "reads"
            yield at_memory(
                program, "alias", f"{where} {verb} {source} and writes {{bytes}}, which overlap without being the same",
                (where,), memory, int(second.base[row]), int(second.end[row]) - 1,
            )  # fmt: skip


def _same_elements(first: Operand, second: Operand) -> np.ndarray[Any, Any]:
    """bool[n]: the same elements at the same addresses, dimension by dimension."""
    same = (first.base == second.base) & (first.run == second.run) & (first.dtype == second.dtype)
    same &= (first.counts == second.counts).all(axis=1)
    return same & ((first.strides == second.strides) | (first.counts == 1)).all(axis=1)


def _collide(first: Operand, second: Operand, row: int, *, allowed: bool) -> bool:
    """Whether two regions share bytes without being the same elements in the same order."""
    a, b = _shape(first, row), _shape(second, row)
    box_a, box_b = (make_box(s[0], s[1], s[2 : 2 + DIMS], s[2 + DIMS :]) for s in (a, b))
    if not meet(box_a, box_b):
        return False
    # the same box, listed by both from its first byte to its last
    same = box_a == box_b and first.dtype[row] == second.dtype[row] and _is_ascending(a) and _is_ascending(b)
    return not (allowed and same)


def _is_ascending(shape: tuple[int, ...]) -> bool:
    """Whether a region visits its bytes in order, each once."""
    reach = shape[1]
    for count, stride in zip(reversed(shape[2 : 2 + DIMS]), reversed(shape[2 + DIMS :]), strict=True):
        if count > 1:
            if stride < reach:
                return False
            reach += (count - 1) * stride
    return True


def _shape(operand: Operand, row: int) -> tuple[int, ...]:
    """Base, run, counts and strides, as one tuple."""
    return (
        int(operand.base[row]), int(operand.run[row]), *operand.counts[row].tolist(), *operand.strides[row].tolist()
    )  # fmt: skip


def _site(program: Program, group: Group, row: int) -> Site:
    """The instruction in one row of a group."""
    return site(program, int(group.alike.units[row]), int(group.alike.rows[row]))


def _about(program: Program, group: Group, operand: Operand, row: int, kind: Any, says: str) -> Violation:
    """A violation about the bytes of one operand; ``{does}`` in the sentence is what it does to them."""
    where = _site(program, group, row)
    says = says.replace("{does}", "writes" if operand.write else "reads")
    low, high = int(operand.base[row]), int(operand.end[row]) - 1
    return at_memory(program, kind, f"{where} {says}", (where,), int(operand.memory[row]), low, high)
