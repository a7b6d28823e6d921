"""Recipes of norms and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from isa import instructions as I
from isa.dtypes import ACTIVATION_TYPES, DType
from isa.instructions import Parameters
from isa.law import coarse_exp_table, exp_table
from isa.memory import Memory

from ..arena import Arena
from .registry import recipe, rows_of


def _normalized(arena: Arena, src: DType, dst: DType) -> dict[str, Any]:
    """Rows of a normalization, which calls their length so."""
    rows = rows_of(arena, src, dst, (1, 2, 3, 16, 31, 96, 200), may_alias=True)
    rows["length"] = rows.pop("count")
    return {**rows, "src_type": src, "dst_type": dst}


@recipe(I.LayerNorm, I.RmsNorm)
def _norm(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(ACTIVATION_TYPES), arena.pick(ACTIVATION_TYPES)
    rows = _normalized(arena, src, dst)
    zero = arena.zero_point(dst)
    low, high = arena.clamp(dst, zero)
    head = Parameters(
        zero_a=arena.zero_point(src), zero=zero, low=low, high=high, factor_a=arena.scale(),
        factor_b=np.float32(arena.pick((1e-5, 1e-6, 1e-12, 1.0))), factor=arena.near(4 / dst.range[1]),
    )  # fmt: skip
    arrays = [arena.values(DType.F32, (rows["length"],)) for _ in range(1 + (cls is I.LayerNorm))]
    return cls(params=arena.block(head, *arrays), **rows), arena.memory()


@recipe(I.Softmax)
def _softmax(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(ACTIVATION_TYPES), arena.pick(ACTIVATION_TYPES)
    rows = _normalized(arena, src, dst)
    zero = arena.zero_point(dst)
    low, high = arena.clamp(dst, zero)
    scale = arena.near(2.0 ** arena.rng.uniform(-8, -2) * 127 / src.range[1])
    tables = [exp_table(scale)] + [coarse_exp_table(scale)] * (src.numpy.itemsize == 2)
    entries = 1 << (8 * dst.numpy.itemsize)
    steps = np.float32(arena.pick((1 / entries, 1 / (entries - 1), 2 / entries, 0.3 / entries)))
    params = arena.block(Parameters(zero=zero, low=low, high=high, factor=steps), *tables)
    valid = arena.integer(1, rows["length"])
    return cls(params=params, masked=arena.flag(), valid=valid, **rows), arena.memory()
