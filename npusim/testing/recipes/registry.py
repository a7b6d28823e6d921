"""The registry of recipes, and what the recipes of several families share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from isa.dtypes import DType
from isa.instruction import Instruction
from isa.instructions import Parameters
from isa.memory import Memory

from ..arena import Arena

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


def real_block(arena: Arena, src: DType, dst: DType, other: DType | None = None, combine: Any = max) -> int:
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


def rows_of(arena: Arena, src: DType, dst: DType, counts: tuple[int, ...], *, may_alias: bool) -> dict[str, int]:
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


ROW_COUNTS = (1, 2, 3, 15, 16, 17, 64, 100)


def window_of(arena: Arena, channels: int) -> dict[str, int]:
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


def images_of(arena: Arena, window: dict[str, int], src: DType, dst: DType, channels: int) -> dict[str, int]:
    """Source and destination image of a window: addresses and strides."""
    source, (src_row, src_pixel) = arena.tensor(src, (window["in_height"], window["in_width"]), window["in_channels"])
    result, (dst_row, dst_pixel) = arena.tensor(dst, (window["out_height"], window["out_width"]), channels)
    return {
        "src": source, "src_row_stride": src_row, "src_pixel_stride": src_pixel,
        "dst": result, "dst_row_stride": dst_row, "dst_pixel_stride": dst_pixel,
    }  # fmt: skip
