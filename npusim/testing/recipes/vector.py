"""Recipes of elementwise instructions, tables and changes of scale."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from isa import instructions as I
from isa.dtypes import ACTIVATION_TYPES, DType
from isa.instructions import Parameters
from isa.instructions.vector import INTEGER_TYPES
from isa.memory import Memory
from isa.region import Region, Space

from ..arena import Arena
from .registry import ROW_COUNTS, real_block, recipe, rows_of


@recipe(I.Add, I.Mul, I.Sub, I.Div, I.Min, I.Max)
def _elementwise(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    counts = tuple(arena.integer(1, 4) for _ in range(3))
    count = arena.pick((1, 2, 3, 15, 16, 17, 33, 64))
    types = [arena.pick(ACTIVATION_TYPES if arena.rarely() else ACTIVATION_TYPES[:2]) for _ in range(3)]
    fields: dict[str, Any] = {"count": count, "count_3": counts[0], "count_2": counts[1], "count_1": counts[2]}
    for name, dtype in zip(("a", "b", "dst"), types, strict=True):
        is_source = name != "dst"
        broadcast = int(is_source and arena.rarely())
        repeat = tuple(d for d in range(3) if is_source and arena.rarely())
        address, strides = arena.tensor(dtype, counts, 1 if broadcast else count, repeat=repeat)
        placed = {name: address, f"{name}_type": dtype}
        placed |= {f"{name}_stride_{d}": stride for d, stride in zip((3, 2, 1), strides, strict=True)}
        if is_source:
            placed[f"{name}_broadcast"] = broadcast
        fields |= placed
    for name in ("a", "b"):  # in place
        takes = (name, f"{name}_type", *(f"{name}_stride_{d}" for d in (1, 2, 3)))
        distinct = all(fields[f"{name}_stride_{d}"] or fields[f"count_{d}"] == 1 for d in (1, 2, 3))
        if distinct and (count == 1 or not fields[f"{name}_broadcast"]) and arena.rarely():
            fields |= {field.replace(name, "dst", 1): fields[field] for field in takes}
            break
    combine = {I.Mul: operator.mul, I.Div: lambda a, b: 4 * a / b}.get(cls, max)
    params = real_block(arena, fields["a_type"], fields["dst_type"], fields["b_type"], combine)
    return cls(params=params, **fields), arena.memory()


@recipe(I.Lookup)
def _lookup(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src = arena.pick((DType.U8, DType.S8, DType.U8, DType.S8, DType.S16, DType.U16))
    dst = arena.pick(ACTIVATION_TYPES)
    entries = 1 << (8 * src.numpy.itemsize)
    # the table's values are always spread, so that a wrong index shows
    table = arena.put(arena.rng.integers(0, 256, entries * dst.numpy.itemsize, np.uint8), align=64)
    rows = rows_of(arena, src, dst, ROW_COUNTS, may_alias=True)
    return cls(table=table, src_type=src, dst_type=dst, **rows), arena.memory()


@recipe(I.Requantize)
def _requantize(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(INTEGER_TYPES), arena.pick(INTEGER_TYPES)
    rows = rows_of(arena, src, dst, ROW_COUNTS, may_alias=True)
    narrow = dst in ACTIVATION_TYPES
    zero = arena.zero_point(dst) if narrow else 0
    low, high = arena.clamp(dst, zero) if narrow else (0, 0)
    typical = float(min(src.range[1], 1 << 20)) / 2
    per_channel = arena.flag()
    few = np.array([arena.multiplier(typical, dst) for _ in range(3 * per_channel)], "<f4")
    zero_a = arena.zero_point(src) if src in ACTIVATION_TYPES else arena.integer(-65535, 65535)
    factor = np.float32(1) if arena.rarely() else arena.multiplier(typical, dst)
    head = Parameters(zero_a=zero_a, zero=zero, low=low, high=high, factor_a=factor)
    params = arena.block(head, np.resize(few, rows["count"] * per_channel))
    return cls(params=params, src_type=src, dst_type=dst, per_channel=per_channel, **rows), arena.memory()


@recipe(I.Rescale)
def _rescale(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(ACTIVATION_TYPES), arena.pick(ACTIVATION_TYPES)
    rows = rows_of(arena, src, dst, ROW_COUNTS, may_alias=True)
    return cls(params=real_block(arena, src, dst), src_type=src, dst_type=dst, **rows), arena.memory()


@recipe(I.Quantize)
def _quantize(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    dst = arena.pick(ACTIVATION_TYPES)
    rows = rows_of(arena, DType.F32, dst, ROW_COUNTS, may_alias=False)
    zero, scale = arena.zero_point(dst), arena.scale()
    low, high = arena.clamp(dst, zero)
    params = arena.block(Parameters(zero=zero, low=low, high=high, factor=scale))
    halves = arena.rng.integers(-300, 300, (rows["rows"], rows["count"])) / 2
    values = arena.pick((arena.values(DType.F32, halves.shape), (halves * scale).astype(np.float32)))
    if arena.rarely():
        values.flat[:] = arena.rng.choice(
            np.array([np.nan, np.inf, -np.inf, 3e38, -1e-45, 0, -0.0], "<f4"), values.size
        )
    source = Region(Space.OCM, rows["src"], rows["count"], DType.F32, (rows["rows"],), (rows["src_row_stride"],))
    arena.fill(source, values)
    return cls(params=params, dst_type=dst, **rows), arena.memory()


@recipe(I.Dequantize)
def _dequantize(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src = arena.pick((*ACTIVATION_TYPES, DType.S32))
    rows = rows_of(arena, src, DType.F32, ROW_COUNTS, may_alias=False)
    zero = arena.zero_point(src) if src is not DType.S32 else 0
    params = arena.block(Parameters(zero_a=zero, factor_a=arena.scale()))
    return cls(params=params, src_type=src, **rows), arena.memory()
