"""Copies and transposes in OCM, from one operand to another of the same shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from isa.dtypes import DType
from isa.instruction import Unit
from isa.instructions import Copy, Transpose

from ..context import LoweringError
from ..core import Core
from ..joint import Dim, joint_dims
from ..plan import Operand

COPY_DIMS = 4
COUNT_LIMIT = (1 << 16) - 1
MOVE_TYPES = {1: DType.U8, 2: DType.U16, 4: DType.S32}
"""A move does not care what the elements mean, only how long they are."""


def move(core: Core, src: Operand, dst: Operand) -> None:
    """Copy all elements; an axis of extent 1 in the source repeats.

    Raises:
        LoweringError: the axes of the two have no common factors.
    """
    dims = joint_dims([dst.axes, src.axes])
    if dims is None:
        raise LoweringError("two groupings of one tensor have no common factors")
    _move(core, src.address, dst.address, dims, src.item_bytes)


def chunks(
    addresses: Sequence[int], dims: Sequence[Dim], most_dims: int, most: int, item: int
) -> Iterator[tuple[tuple[int, ...], list[Dim]]]:
    """The loops of one instruction after the other where one does not hold them all.

    Args:
        addresses: first byte of each operand.
        dims: all loops, slowest first.
        most_dims: how many loops one instruction has.
        most: the longest loop.
        item: bytes of an element.
    """
    worst = next((k for k, dim in enumerate(dims) if dim.size > most), None)
    if worst is None and len(dims) > most_dims:
        worst = min(range(len(dims)), key=lambda k: dims[k].size)
    if worst is None:
        yield tuple(addresses), list(dims)
        return
    dim = dims[worst]
    step = most if dim.size > most else 1
    for start in range(0, dim.size, step):
        moved = [a + start * s * item for a, s in zip(addresses, dim.strides, strict=True)]
        size = min(step, dim.size - start)
        middle = [replace(dim, size=size)] if size > 1 else []
        yield from chunks(moved, [*dims[:worst], *middle, *dims[worst + 1 :]], most_dims, most, item)


def _move(core: Core, src: int, dst: int, dims: list[Dim], item: int) -> None:
    inner = dims[-1] if dims else Dim(1, (1, 1))
    if inner.strides == (1, 1):
        outer, run = dims[:-1], inner.size * item
    elif inner.strides[0] == 1 and any(d.strides[1] == 1 for d in dims) and item in MOVE_TYPES:
        _transpose(core, src, dst, dims, item)
        return
    else:
        outer, run = dims, item
    for (to, of), loops in chunks((dst, src), outer, COPY_DIMS, COUNT_LIMIT, item):
        fields: dict[str, Any] = {}
        for level, dim in zip(range(len(loops), 0, -1), loops, strict=True):
            fields[f"count_{level}"] = dim.size
            fields[f"dst_stride_{level}"], fields[f"src_stride_{level}"] = (s * item for s in dim.strides)
        core.run(Unit.CV, Copy(src=of, dst=to, run=run, **fields))


def _transpose(core: Core, src: int, dst: int, dims: list[Dim], item: int) -> None:
    """The destination's fastest dimension becomes columns of the source: the transposer's work."""
    rows = dims[-1]
    columns = next(d for d in dims if d.strides[1] == 1)
    others = [d for d in dims if d not in (rows, columns)]
    if max(rows.size, columns.size) > COUNT_LIMIT:
        loops = dims
        for (to, of), part in chunks((dst, src), loops, len(loops), COUNT_LIMIT, item):
            _move(core, of, to, part, item)
        return
    for (to, of), batches in chunks((dst, src), others, 1, COUNT_LIMIT, item):
        batch = batches[0] if batches else Dim(1, (0, 0))
        core.run(
            Unit.CV,
            Transpose(
                src=of, dst=to, batch=batch.size, rows=rows.size, columns=columns.size,
                src_batch_stride=batch.strides[1] * item, src_row_stride=rows.strides[1] * item,
                dst_batch_stride=batch.strides[0] * item, dst_row_stride=columns.strides[0] * item,
                data_type=MOVE_TYPES[item],
            ),
        )  # fmt: skip
