"""Recipes of pooling, reductions and resizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from isa import instructions as I
from isa.dtypes import ACTIVATION_TYPES, DType
from isa.instructions import Interpolation, Parameters
from isa.memory import Memory

from ..arena import Arena
from .registry import images_of, real_block, recipe, window_of


@recipe(I.MaxPool)
def _max_pool(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    dtype, channels = arena.pick(ACTIVATION_TYPES), arena.pick((1, 3, 16, 33))
    window = window_of(arena, channels)
    return cls(data_type=dtype, **window, **images_of(arena, window, dtype, dtype, channels)), arena.memory()


@recipe(I.AveragePool)
def _average_pool(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(ACTIVATION_TYPES), arena.pick(ACTIVATION_TYPES)
    channels, counted = arena.pick((1, 3, 16, 33)), arena.flag()
    window = window_of(arena, channels)
    for side, before in (("height", "top"), ("width", "left")):  # what the constraint asks for
        size, dilation = window[f"in_{side}"], min(window[f"dilation_{side}"], window[f"in_{side}"])
        pad = min(window[f"pad_{before}"], (window[f"kernel_{side}"] - 1) * dilation)
        most = (size + pad - 1) // window[f"stride_{side}"] + 1
        window |= {
            f"dilation_{side}": dilation, f"pad_{before}": pad, f"out_{side}": min(window[f"out_{side}"], most)
        }  # fmt: skip
    images = images_of(arena, window, src, dst, channels)
    made = cls(
        **window, **images, params=real_block(arena, src, dst), src_type=src, dst_type=dst, count_padding=counted,
        pad_bottom=arena.integer(0, 2), pad_right=arena.integer(0, 2),
    )  # fmt: skip
    return made, arena.memory()


@recipe(I.GlobalAveragePool)
def _global_average_pool(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(ACTIVATION_TYPES), arena.pick(ACTIVATION_TYPES)
    height, width, channels = arena.integer(1, 7), arena.integer(1, 7), arena.pick((1, 3, 16, 33))
    zero_a = arena.zero_point(src)
    zero = arena.zero_point(dst, like=(src, zero_a))
    low, high = arena.clamp(dst, zero)
    factor = arena.multiplier(src.range[1] * height * width, dst)
    params = arena.block(Parameters(zero_a=zero_a, zero=zero, low=low, high=high, factor_a=factor))
    source, (row, pixel) = arena.tensor(src, (height, width), channels)
    result, _ = arena.tensor(dst, (), channels)
    made = cls(
        src=source, dst=result, params=params, height=height, width=width, channels=channels,
        src_row_stride=row, src_pixel_stride=pixel, src_type=src, dst_type=dst,
    )  # fmt: skip
    return made, arena.memory()


def _reduced(arena: Arena, src: DType, dst: DType) -> dict[str, Any]:
    """Source and destination of a reduction, and its shape."""
    outer, length, inner = arena.integer(1, 4), arena.integer(1, 9), arena.pick((1, 2, 3, 17))
    source, (outer_stride, stride) = arena.tensor(src, (outer, length), inner)
    result, _ = arena.tensor(dst, (), outer * inner)
    return {
        "src": source, "dst": result, "outer": outer, "length": length, "inner": inner,
        "src_outer_stride": outer_stride, "src_stride": stride, "src_type": src,
    }  # fmt: skip


@recipe(I.ReduceSum, I.ReduceMean, I.ReduceMax, I.ReduceMin)
def _real_reduction(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(ACTIVATION_TYPES), arena.pick(ACTIVATION_TYPES)
    params = real_block(arena, src, dst)
    return cls(params=params, dst_type=dst, **_reduced(arena, src, dst)), arena.memory()


@recipe(I.ArgMax, I.ArgMin)
def _arg_reduction(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    reduced = _reduced(arena, arena.pick(ACTIVATION_TYPES), DType.S32)
    return cls(select_last=arena.flag(), **reduced), arena.memory()


@recipe(I.Resize)
def _resize(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(ACTIVATION_TYPES), arena.pick(ACTIVATION_TYPES)
    mode, channels = arena.pick(tuple(Interpolation)), arena.pick((1, 3, 17))
    shape = {f"{end}_{side}": arena.integer(1, 6) for end in ("in", "out") for side in ("height", "width")}
    tables: list[np.ndarray[Any, Any]] = []
    for side in ("height", "width"):
        size, extent = shape[f"in_{side}"], shape[f"out_{side}"]
        tables.append(arena.rng.integers(0, size, extent).astype("<i4"))
        if mode is Interpolation.LINEAR:
            tables.append(arena.rng.integers(0, size, extent).astype("<i4"))
            quarters = arena.rng.integers(0, 5, extent) / 4
            weights = arena.pick((quarters, arena.rng.random(extent))).astype("<f4")
            tables.append(weights.view("<i4"))
    source, (src_row, src_pixel) = arena.tensor(src, (shape["in_height"], shape["in_width"]), channels)
    result, (dst_row, dst_pixel) = arena.tensor(dst, (shape["out_height"], shape["out_width"]), channels)
    made = cls(
        src=source, dst=result, params=real_block(arena, src, dst), tables=arena.put(np.concatenate(tables), align=4),
        **shape, channels=channels, src_row_stride=src_row, src_pixel_stride=src_pixel, dst_row_stride=dst_row,
        dst_pixel_stride=dst_pixel, src_type=src, dst_type=dst, interpolation=mode,
    )  # fmt: skip
    return made, arena.memory()
