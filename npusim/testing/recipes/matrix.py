"""Recipes of the matrix instructions."""

from __future__ import annotations

from typing import Any

import numpy as np

from isa import instructions as I
from isa.dtypes import ACTIVATION_TYPES, DType
from isa.instructions import MatrixLayout, Parameters
from isa.instructions.matrix import WEIGHT_TYPES, accumulator_type, blocked_elements
from isa.memory import Memory

from ..arena import Arena
from .registry import images_of, recipe, window_of


def _epilogue(arena: Arena, src: DType, weight: DType, depth: int, channels: int) -> tuple[DType, int, dict[str, int]]:
    """Result type, parameter block and flags of a matrix instruction; ``depth`` products make one accumulator."""
    wide = DType(accumulator_type(src, weight))
    dst = arena.pick((*ACTIVATION_TYPES, wide))
    flags = {name: arena.flag() for name in ("has_bias", "per_channel", "channel_zeros")}
    spread = float(src.range[1]) * float(weight.range[1]) / 4
    typical = spread * depth**0.5
    arrays: list[Any] = []
    if flags["has_bias"]:
        arrays.append(arena.values(DType.S32, (channels,)))
    if flags["per_channel"]:
        arrays.append(np.array([arena.multiplier(typical, dst) for _ in range(min(channels, 4))], "<f4"))
        arrays[-1] = np.resize(arrays[-1], channels)
    if flags["channel_zeros"]:
        low, high = weight.range
        arrays.append(arena.rng.integers(low, high + 1, channels).astype("<i4"))
    zero, (low, high) = 0, (0, 0)  # a raw destination uses neither
    if dst is not wide:
        zero = arena.zero_point(dst)
        low, high = arena.clamp(dst, zero)
    head = Parameters(
        zero_a=arena.zero_point(src), zero_b=arena.zero_point(weight) if arena.flag() else 0, zero=zero,
        low=low, high=high, factor_a=arena.multiplier(typical, dst),
    )  # fmt: skip
    return dst, arena.block(head, *arrays), flags


def _accumulate(arena: Arena, dst: tuple[int, bool], wide: DType, elements: int) -> dict[str, int]:
    """``accumulate`` and ``partial``: accumulators of their own, or those of a dense raw destination."""
    if not arena.flag():
        return {"accumulate": 0, "partial": arena.pick((0, 0, (1 << 24) - 1))}
    address, reusable = dst
    if reusable and arena.flag():
        return {"accumulate": 1, "partial": address}
    return {"accumulate": 1, "partial": arena.tensor(wide, (), elements)[0]}


def _blocks(arena: Arena, weight: DType, elements: int) -> int:
    """Blocked weights; the padding inside the blocks holds values too, which nobody may use."""
    return arena.tensor(weight, (), elements, align=64)[0]


def _is_dense(images: dict[str, int], window: dict[str, int], channels: int, dtype: DType) -> bool:
    pixel = channels * dtype.numpy.itemsize
    return images["dst_pixel_stride"] == pixel and images["dst_row_stride"] == window["out_width"] * pixel


@recipe(I.Conv, I.ConvTranspose)
def _conv(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    groups = arena.pick((1, 1, 1, 2, 3))
    in_group, out_group = arena.integer(1, 9), arena.pick((1, 2, 3, 5, 8, 31, 32, 33))
    window, channels = window_of(arena, groups * in_group), groups * out_group
    src, weight = arena.pick(ACTIVATION_TYPES), arena.pick(WEIGHT_TYPES)
    depth = window["kernel_height"] * window["kernel_width"] * in_group
    dst, params, flags = _epilogue(arena, src, weight, depth, channels)
    wide = DType(accumulator_type(src, weight))
    images = images_of(arena, window, src, dst, channels)
    reusable = dst is wide and _is_dense(images, window, channels, dst)
    more = _accumulate(arena, (images["dst"], reusable), wide, window["out_height"] * window["out_width"] * channels)
    weights = _blocks(arena, weight, groups * blocked_elements(out_group, depth))
    made = cls(
        **window, **images, **flags, **more, params=params, weights=weights, out_channels=channels, groups=groups,
        src_type=src, weight_type=weight, dst_type=dst,
    )  # fmt: skip
    return made, arena.memory()


@recipe(I.DepthwiseConv)
def _depthwise_conv(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    channels = arena.pick((1, 2, 3, 7, 16, 33, 64, 70))
    window = window_of(arena, channels)
    src, weight = arena.pick(ACTIVATION_TYPES), arena.pick(WEIGHT_TYPES)
    depth = window["kernel_height"] * window["kernel_width"]
    dst, params, flags = _epilogue(arena, src, weight, depth, channels)
    wide = DType(accumulator_type(src, weight))
    images = images_of(arena, window, src, dst, channels)
    reusable = dst is wide and _is_dense(images, window, channels, dst)
    more = _accumulate(arena, (images["dst"], reusable), wide, window["out_height"] * window["out_width"] * channels)
    weights = _blocks(arena, weight, depth * channels)
    made = cls(
        **window, **images, **flags, **more, params=params, weights=weights,
        src_type=src, weight_type=weight, dst_type=dst,
    )  # fmt: skip
    return made, arena.memory()


@recipe(I.Matmul)
def _matmul(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    outer, inner = arena.integer(1, 3), arena.integer(1, 3)
    m, k, n = arena.integer(1, 9), arena.integer(1, 21), arena.pick((1, 2, 3, 7, 16, 31, 32, 33, 49))
    src, weight = arena.pick(ACTIVATION_TYPES), arena.pick(ACTIVATION_TYPES)
    layout, a_transposed = arena.pick(tuple(MatrixLayout)), arena.flag()
    dst, params, flags = _epilogue(arena, src, weight, k, n)
    wide = DType(accumulator_type(src, weight))

    def repeated() -> tuple[int, ...]:
        return tuple(d for d in range(2) if arena.rarely())

    a_rows, a_columns = (k, m) if a_transposed else (m, k)
    a, (a_outer, a_inner, a_row) = arena.tensor(src, (outer, inner, a_rows), a_columns, repeat=repeated())
    b_rows, b_columns = {
        MatrixLayout.ROW_MAJOR: (k, n),
        MatrixLayout.TRANSPOSED: (n, k),
        MatrixLayout.BLOCKED: (1, blocked_elements(n, k)),
    }[layout]
    b, (b_outer, b_inner, b_row) = arena.tensor(weight, (outer, inner, b_rows), b_columns, repeat=repeated())
    result, (dst_outer, dst_inner, dst_row) = arena.tensor(dst, (outer, inner, m), n)
    dense = [inner * m * n * 8, m * n * 8, n * 8] if dst is DType.S64 else [inner * m * n * 4, m * n * 4, n * 4]
    reusable = dst is wide and [dst_outer, dst_inner, dst_row] == dense
    more = _accumulate(arena, (result, reusable), wide, outer * inner * m * n)
    made = cls(
        a=a, b=b, dst=result, params=params, batch_outer=outer, batch_inner=inner, m=m, k=k, n=n,
        a_outer_stride=a_outer, a_inner_stride=a_inner, a_row_stride=a_row,
        b_outer_stride=b_outer, b_inner_stride=b_inner, b_row_stride=b_row,
        dst_outer_stride=dst_outer, dst_inner_stride=dst_inner, dst_row_stride=dst_row,
        src_type=src, weight_type=weight, dst_type=dst, a_transposed=a_transposed, b_layout=layout, **flags, **more,
    )  # fmt: skip
    return made, arena.memory()
