"""Recipes of moves, transfers and control."""

from __future__ import annotations

from typing import Any

from isa import instructions as I
from isa.dtypes import DType
from isa.instructions import Padding
from isa.instructions.move import MOVE_TYPES
from isa.memory import Memory
from isa.region import Space

from ..arena import Arena
from .registry import recipe


@recipe(I.Sync, I.End)
def _nothing(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    return cls(), arena.memory()


@recipe(I.Barrier)
def _barrier(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    return cls(units=arena.integer(1, (1 << 15) - 1), id=arena.integer(0, 3)), arena.memory(cores=3)


@recipe(I.Copy)
def _copy(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    counts, run = tuple(arena.integer(1, 4) for _ in range(4)), arena.integer(1, 20)
    fields = {"run": run} | {f"count_{d}": count for d, count in zip((4, 3, 2, 1), counts, strict=True)}
    for name in ("src", "dst"):
        repeat = tuple(d for d in range(4) if name == "src" and arena.rarely())
        fields[name], strides = arena.tensor(DType.U8, counts, run, repeat=repeat)
        fields |= {f"{name}_stride_{d}": stride for d, stride in zip((4, 3, 2, 1), strides, strict=True)}
    return cls(**fields), arena.memory()


@recipe(I.Transpose)
def _transpose(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    batch, rows, columns = arena.integer(1, 3), arena.integer(1, 9), arena.integer(1, 9)
    dtype = arena.pick(MOVE_TYPES)
    source, (src_batch, src_row) = arena.tensor(dtype, (batch, rows), columns)
    result, (dst_batch, dst_row) = arena.tensor(dtype, (batch, columns), rows)
    made = cls(
        src=source, dst=result, batch=batch, rows=rows, columns=columns, src_batch_stride=src_batch,
        src_row_stride=src_row, dst_batch_stride=dst_batch, dst_row_stride=dst_row, data_type=dtype,
    )  # fmt: skip
    return made, arena.memory()


@recipe(I.Pad)
def _pad(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    height, width, channels = arena.integer(1, 6), arena.integer(1, 6), arena.integer(1, 5)
    mode, dtype = arena.pick(tuple(Padding)), arena.pick(MOVE_TYPES)
    reflects = mode is Padding.REFLECT
    top, bottom = (arena.integer(0, height - 1 if reflects else 4) for _ in range(2))
    left, right = (arena.integer(0, width - 1 if reflects else 4) for _ in range(2))
    source, (src_row, src_pixel) = arena.tensor(dtype, (height, width), channels)
    counts = (top + height + bottom, left + width + right)
    result, (dst_row, dst_pixel) = arena.tensor(dtype, counts, channels)
    item = dtype.numpy.itemsize
    made = cls(
        src=source, dst=result, height=height, width=width, channels=channels, top=top, bottom=bottom, left=left,
        right=right, src_row_stride=src_row, src_pixel_stride=src_pixel,
        dst_row_stride=dst_row or item, dst_pixel_stride=dst_pixel or item,  # 0 is refused even where it is not used
        value=arena.integer(0, (1 << 32) - 1), data_type=dtype, mode=mode,
    )  # fmt: skip
    return made, arena.memory()


@recipe(I.Gather)
def _gather(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    rows, count, run = arena.integer(1, 9), arena.integer(1, 12), arena.integer(1, 20)
    table, (table_row,) = arena.tensor(DType.U8, (rows,), run)
    result, (dst_row,) = arena.tensor(DType.U8, (count,), run)
    made = cls(
        table=table, dst=result, indices=arena.put(arena.rng.integers(0, rows, count).astype("<i4"), align=4),
        table_rows=rows, count=count, run=run, table_row_stride=table_row, dst_row_stride=dst_row,
    )  # fmt: skip
    return made, arena.memory()


@recipe(I.Fill)
def _fill(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    counts, run = tuple(arena.integer(1, 4) for _ in range(3)), arena.integer(1, 20)
    dtype = arena.pick(MOVE_TYPES)
    result, strides = arena.tensor(dtype, counts, run)
    made = cls(
        dst=result, run=run, count_3=counts[0], count_2=counts[1], count_1=counts[2], dst_stride_3=strides[0],
        dst_stride_2=strides[1], dst_stride_1=strides[2], value=arena.integer(0, (1 << 32) - 1), data_type=dtype,
    )  # fmt: skip
    return made, arena.memory()


def _transfer_shape(arena: Arena) -> tuple[tuple[int, ...], int]:
    return tuple(arena.integer(1, 4) for _ in range(3)), arena.integer(1, 20)


def _strided(arena: Arena, side: str, counts: tuple[int, ...], run: int, *, repeats: bool) -> dict[str, int]:
    """Strides of one side of a transfer; a source may repeat the same bytes."""
    repeat = [d for d in range(3) if repeats and arena.rarely()]
    strides = list(arena.strides([1 if d in repeat else count for d, count in enumerate(counts)], run, 1))
    for d in repeat:
        strides[d] = 0
    return {f"{side}_stride_{3 - d}": stride for d, stride in enumerate(strides)}


def _counts(counts: tuple[int, ...], run: int) -> dict[str, int]:
    return {"run": run, "count_3": counts[0], "count_2": counts[1], "count_1": counts[2]}


def _extent(counts: tuple[int, ...], run: int, strides: dict[str, int]) -> int:
    return run + sum((count - 1) * stride for count, stride in zip(counts, strides.values(), strict=True))


@recipe(I.Load, I.Store, I.Multicast)
def _dram_transfer(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    counts, run = _transfer_shape(arena)
    cores, segments = arena.integer(1, 3), arena.integer(1, 3)
    segment = arena.integer(0, segments - 1)
    is_store = cls is I.Store
    dram = _strided(arena, "dram", counts, run, repeats=not is_store)
    ocm = _strided(arena, "ocm", counts, run, repeats=is_store)
    offset = arena.reserve(_extent(counts, run, dram), 1, Space.DRAM, segment)
    address, receivers = arena.integer(0, 9), {}
    for core in range(cores):
        arena.reserve(address + _extent(counts, run, ocm), 1, place=core)
    if cls is I.Multicast:
        receivers["cores"] = arena.integer(1, (1 << cores) - 1)
    made = cls(ocm=address, segment=segment, offset=offset, **_counts(counts, run), **dram, **ocm, **receivers)
    return made, arena.memory(cores, segments)


@recipe(I.Send)
def _send(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    counts, run = _transfer_shape(arena)
    cores = arena.integer(1, 3)
    src, dst = _strided(arena, "src", counts, run, repeats=True), _strided(arena, "dst", counts, run, repeats=False)
    source = arena.reserve(_extent(counts, run, src), 1)
    receiver = arena.integer(0, cores - 1)
    target = arena.reserve(_extent(counts, run, dst), 1, place=receiver)
    return cls(src=source, dst_core=receiver, dst=target, **_counts(counts, run), **src, **dst), arena.memory(cores)
