"""Recipes: how to make a small case of each instruction that runs.

One per family, entered in ``RECIPES`` by class; a new instruction joins with ``recipe``. A recipe draws a shape,
places the operands in an ``Arena`` and names them in an instruction. What an instruction computes is not known here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from isa import instructions as I
from isa.dtypes import ACTIVATION_TYPES, DType
from isa.instruction import Instruction
from isa.instructions import Interpolation, MatrixLayout, Padding, Parameters
from isa.instructions.matrix import WEIGHT_TYPES, accumulator_type, blocked_elements
from isa.instructions.move import MOVE_TYPES
from isa.instructions.vector import INTEGER_TYPES
from isa.law import coarse_exp_table, exp_table
from isa.memory import Memory
from isa.region import Region, Space

from .arena import Arena

Recipe = Callable[[Arena, Any], tuple[Any, Memory]]
RECIPES: dict[type[Instruction], Recipe] = {}

_R = TypeVar("_R", bound=Recipe)


def recipe(*classes: type[Instruction]) -> Callable[[_R], _R]:
    """Enter a function ``(arena, cls) -> (instruction, memory)`` as the recipe of ``classes``."""

    def enter(function: _R) -> _R:
        RECIPES.update(dict.fromkeys(classes, function))
        return function

    return enter


def recipe_of(cls: type[Instruction]) -> Recipe:
    """The recipe of a class.

    Raises:
        KeyError: it has none.
    """
    if cls not in RECIPES:
        raise KeyError(f"{cls.__name__} has no recipe: write one with npusim.testing.recipe")
    return RECIPES[cls]


def _real_block(arena: Arena, src: DType, dst: DType, other: DType | None = None, combine: Any = max) -> int:
    """A parameter block of zero points, a clamp and scales: what dequantize - compute - quantize needs.

    ``combine`` says how large the real result of two large reals is, so that the destination's scale fits.
    """
    zero_a, other = arena.zero_point(src), other or src
    zero = arena.zero_point(dst, like=(src, zero_a))
    low, high = arena.clamp(dst, zero)
    scale = arena.scale()
    other_scale = arena.near(float(scale) * src.range[1] / other.range[1] * 2.0 ** arena.rng.uniform(-2, 2))
    result = combine(float(scale) * src.range[1], float(other_scale) * other.range[1])
    factor = arena.near(min(result / dst.range[1] * arena.rng.choice((1, 1, 3)), 2.0**22))
    head = Parameters(
        zero_a=zero_a, zero_b=arena.zero_point(other), zero=zero, low=low, high=high, factor_a=scale,
        factor_b=other_scale, factor=factor,
    )  # fmt: skip
    return arena.block(head)


# ------------------------------------------------------------------------------------------------------------- control


@recipe(I.Sync, I.End)
def _nothing(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    return cls(), arena.memory()


@recipe(I.Barrier)
def _barrier(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    return cls(units=arena.integer(1, (1 << 15) - 1), id=arena.integer(0, 3)), arena.memory(cores=3)


# -------------------------------------------------------------------------------------------------------------- matrix


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


def _window(arena: Arena, channels: int) -> dict[str, int]:
    """Geometry of a window over an image of ``channels``: all fields but addresses and strides."""
    window = {"in_channels": channels}
    for side, before in (("height", "top"), ("width", "left")):
        kernel, stride, dilation = arena.integer(1, 3), arena.integer(1, 3), arena.integer(1, 3)
        size, pad = arena.integer(1, 7), arena.integer(0, 3)
        span = (kernel - 1) * dilation + 1
        fitting = max((size + pad + arena.integer(0, 2) - span) // stride + 1, 1)
        window |= {
            f"in_{side}": size, f"kernel_{side}": kernel, f"stride_{side}": stride, f"dilation_{side}": dilation,
            f"pad_{before}": pad, f"out_{side}": arena.integer(1, 6) if arena.rarely() else fitting,
        }  # fmt: skip
    return window


def _images(arena: Arena, window: dict[str, int], src: DType, dst: DType, channels: int) -> dict[str, int]:
    """Source and destination image of a window: addresses and strides."""
    source, (src_row, src_pixel) = arena.tensor(src, (window["in_height"], window["in_width"]), window["in_channels"])
    result, (dst_row, dst_pixel) = arena.tensor(dst, (window["out_height"], window["out_width"]), channels)
    return {
        "src": source, "src_row_stride": src_row, "src_pixel_stride": src_pixel,
        "dst": result, "dst_row_stride": dst_row, "dst_pixel_stride": dst_pixel,
    }  # fmt: skip


def _is_dense(images: dict[str, int], window: dict[str, int], channels: int, dtype: DType) -> bool:
    pixel = channels * dtype.numpy.itemsize
    return images["dst_pixel_stride"] == pixel and images["dst_row_stride"] == window["out_width"] * pixel


@recipe(I.Conv, I.ConvTranspose)
def _conv(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    groups = arena.pick((1, 1, 1, 2, 3))
    in_group, out_group = arena.integer(1, 9), arena.pick((1, 2, 3, 5, 8, 31, 32, 33))
    window, channels = _window(arena, groups * in_group), groups * out_group
    src, weight = arena.pick(ACTIVATION_TYPES), arena.pick(WEIGHT_TYPES)
    depth = window["kernel_height"] * window["kernel_width"] * in_group
    dst, params, flags = _epilogue(arena, src, weight, depth, channels)
    wide = DType(accumulator_type(src, weight))
    images = _images(arena, window, src, dst, channels)
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
    window = _window(arena, channels)
    src, weight = arena.pick(ACTIVATION_TYPES), arena.pick(WEIGHT_TYPES)
    depth = window["kernel_height"] * window["kernel_width"]
    dst, params, flags = _epilogue(arena, src, weight, depth, channels)
    wide = DType(accumulator_type(src, weight))
    images = _images(arena, window, src, dst, channels)
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


# -------------------------------------------------------------------------------------------------------------- vector


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
    params = _real_block(arena, fields["a_type"], fields["dst_type"], fields["b_type"], combine)
    return cls(params=params, **fields), arena.memory()


def _rows(arena: Arena, src: DType, dst: DType, counts: tuple[int, ...], *, may_alias: bool) -> dict[str, int]:
    """Source and destination rows, in place now and then where that is allowed."""
    rows, count = arena.integer(1, 5), arena.pick(counts)
    source, (src_row,) = arena.tensor(src, (rows,), count)
    result, (dst_row,) = source, (src_row,)
    distinct = rows == 1 or src_row > 0
    if not (may_alias and src is dst and distinct and arena.flag()):
        result, (dst_row,) = arena.tensor(dst, (rows,), count)
    return {
        "src": source, "dst": result, "rows": rows, "count": count,
        "src_row_stride": src_row, "dst_row_stride": dst_row,
    }  # fmt: skip


_ROW_COUNTS = (1, 2, 3, 15, 16, 17, 64, 100)


@recipe(I.Lookup)
def _lookup(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src = arena.pick((DType.U8, DType.S8, DType.U8, DType.S8, DType.S16, DType.U16))
    dst = arena.pick(ACTIVATION_TYPES)
    entries = 1 << (8 * src.numpy.itemsize)
    # the table's values are always spread, so that a wrong index shows
    table = arena.put(arena.rng.integers(0, 256, entries * dst.numpy.itemsize, np.uint8), align=64)
    rows = _rows(arena, src, dst, _ROW_COUNTS, may_alias=True)
    return cls(table=table, src_type=src, dst_type=dst, **rows), arena.memory()


@recipe(I.Requantize)
def _requantize(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(INTEGER_TYPES), arena.pick(INTEGER_TYPES)
    rows = _rows(arena, src, dst, _ROW_COUNTS, may_alias=True)
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
    rows = _rows(arena, src, dst, _ROW_COUNTS, may_alias=True)
    return cls(params=_real_block(arena, src, dst), src_type=src, dst_type=dst, **rows), arena.memory()


@recipe(I.Quantize)
def _quantize(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    dst = arena.pick(ACTIVATION_TYPES)
    rows = _rows(arena, DType.F32, dst, _ROW_COUNTS, may_alias=False)
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
    rows = _rows(arena, src, DType.F32, _ROW_COUNTS, may_alias=False)
    zero = arena.zero_point(src) if src is not DType.S32 else 0
    params = arena.block(Parameters(zero_a=zero, factor_a=arena.scale()))
    return cls(params=params, src_type=src, **rows), arena.memory()


# ------------------------------------------------------------------------------------------------ pooling and reduction


@recipe(I.MaxPool)
def _max_pool(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    dtype, channels = arena.pick(ACTIVATION_TYPES), arena.pick((1, 3, 16, 33))
    window = _window(arena, channels)
    return cls(data_type=dtype, **window, **_images(arena, window, dtype, dtype, channels)), arena.memory()


@recipe(I.AveragePool)
def _average_pool(arena: Arena, cls: Any) -> tuple[Any, Memory]:
    src, dst = arena.pick(ACTIVATION_TYPES), arena.pick(ACTIVATION_TYPES)
    channels, counted = arena.pick((1, 3, 16, 33)), arena.flag()
    window = _window(arena, channels)
    for side, before in (("height", "top"), ("width", "left")):  # what the constraint asks for
        size, dilation = window[f"in_{side}"], min(window[f"dilation_{side}"], window[f"in_{side}"])
        pad = min(window[f"pad_{before}"], (window[f"kernel_{side}"] - 1) * dilation)
        most = (size + pad - 1) // window[f"stride_{side}"] + 1
        window |= {
            f"dilation_{side}": dilation, f"pad_{before}": pad, f"out_{side}": min(window[f"out_{side}"], most)
        }  # fmt: skip
    images = _images(arena, window, src, dst, channels)
    made = cls(
        **window, **images, params=_real_block(arena, src, dst), src_type=src, dst_type=dst, count_padding=counted,
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
    params = _real_block(arena, src, dst)
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
        src=source, dst=result, params=_real_block(arena, src, dst), tables=arena.put(np.concatenate(tables), align=4),
        **shape, channels=channels, src_row_stride=src_row, src_pixel_stride=src_pixel, dst_row_stride=dst_row,
        dst_pixel_stride=dst_pixel, src_type=src, dst_type=dst, interpolation=mode,
    )  # fmt: skip
    return made, arena.memory()


# ------------------------------------------------------------------------------------------------------- normalization


def _normalized(arena: Arena, src: DType, dst: DType) -> dict[str, Any]:
    """Rows of a normalization, which calls their length so."""
    rows = _rows(arena, src, dst, (1, 2, 3, 16, 31, 96, 200), may_alias=True)
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


# ------------------------------------------------------------------------------------------------ moves and transfers


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
