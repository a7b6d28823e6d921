"""Reads of bytes that nothing wrote.

Takes the order and the table of accesses. What is written stays written, so each box is marked by its first write and
looked up by its first read only; a bitmap per memory holds a byte for each of the memory's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..program import Program
from ..region import Space, run_starts
from .access import AccessTable
from .boxes import BoxTable
from .order import Order
from .report import Violation, at_memory, memory_number, site


def find_unwritten(
    program: Program, order: Order, table: AccessTable, sizes: np.ndarray[Any, Any]
) -> Iterator[Violation]:
    """The first read of every box that reaches bytes nothing has written, in linear order."""
    preset = [memory_number(Space.DRAM, n) for n, segment in enumerate(program.segments) if segment.preset]
    boxes = table.boxes
    chosen = np.flatnonzero(~np.isin(boxes.memory[table.box], preset))
    ranks = np.zeros(len(chosen), np.int64)
    for unit, rank in order.rank.items():
        mine = np.flatnonzero(table.unit[chosen] == unit)
        ranks[mine] = rank[table.position[chosen[mine]]]
    # an instruction reads before it writes
    chosen = chosen[np.lexsort((table.write[chosen], ranks))]
    _, first = np.unique(table.box[chosen] * 2 + table.write[chosen], return_index=True)
    chosen = chosen[np.sort(first)]
    bitmaps: dict[int, np.ndarray[Any, Any]] = {}
    for access in chosen.tolist():
        box, write = int(table.box[access]), bool(table.write[access])
        memory = int(boxes.memory[box])
        if memory not in bitmaps:
            bitmaps[memory] = np.zeros(int(sizes[memory]), np.bool_)
        marks = _view(bitmaps[memory], boxes, box)
        if write:
            marks[...] = True
        elif not marks.all():
            low, high = _first_gap(bitmaps[memory], boxes, box)
            where = site(program, int(table.unit[access]), int(table.position[access]))
            message = f"{where} reads {{bytes}}, which nothing has written before it"
            yield at_memory(program, "uninitialised", message, (where,), memory, low, high)


def _view(bitmap: np.ndarray[Any, Any], boxes: BoxTable, box: int) -> np.ndarray[Any, Any]:
    """The box's own bytes of the bitmap."""
    base, run = int(boxes.base[box]), int(boxes.run[box])
    if boxes.counts[box, 0] == 1:
        return bitmap[base : base + run]
    counts, strides = boxes.counts[box, ::-1].tolist(), boxes.strides[box, ::-1].tolist()
    return np.ndarray((*counts, run), np.bool_, buffer=bitmap.data, offset=base, strides=(*strides, 1))


def _first_gap(bitmap: np.ndarray[Any, Any], boxes: BoxTable, box: int) -> tuple[int, int]:
    """First and last byte of the first stretch of the box that is not written."""
    shape = boxes.box(box)
    for start in run_starts(shape, shape.base, shape.end).tolist():
        gaps = np.flatnonzero(~bitmap[start : start + shape.run])
        if gaps.size:
            length = int(np.flatnonzero(np.append(np.diff(gaps), 2) != 1)[0])
            return start + int(gaps[0]), start + int(gaps[length])
    raise AssertionError("a box that is not written has a first byte that is not")
