"""Batched matrix products of quantized tensors.

Called by the executor and by users. The jitted loops are in ``compiled``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import tier
from .compiled.workspace import portable_layout
from .operands import (
    SIGNED,
    Array,
    accumulation,
    bias_array,
    finish,
    fits,
    integer_matmul,
    limits,
    multiplier_array,
    require_contiguous_axis,
    workspace,
    zero_array,
)  # fmt: skip
from .threads import LEAST_TILES, split
from .wide import deliver, fits_words, sum_of_planes

LAYOUTS = {"row_major": 0, "transposed": 1, "blocked": 2}
_NO_PARTIAL = np.empty((0, 0, 0, 0), np.int32)


def matmul(
    src: Array,
    weights: Array,
    dst: Array,
    *,
    src_transposed: bool = False,
    weight_layout: str = "row_major",
    src_zero: int = 0,
    weight_zero: Any = 0,
    bias: Array | None = None,
    partial: Array | None = None,
    multiplier: Any = None,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """``dst[b0, b1] = requantize(src[b0, b1] @ weights[b0, b1])`` of 8- or 16-bit integers, exactly.

    The second operand is called weights where it is computed, too.

    Args:
        src: [b0, b1, m, k] integers, or [b0, b1, k, m] where ``src_transposed``. Leading axes may be missing.
        weights: ``row_major`` [b0, b1, k, n], ``transposed`` [b0, b1, n, k], or ``blocked``
            [b0, b1, ceil(n/32), ceil(k/4), 32, 4], dense from the third axis on, of any shape there. Batch axes
            may have stride 0.
        dst: [b0, b1, m, n]: 8 or 16 bits, or int32 (int64 where an operand has 16 bits) for raw accumulators.
        src_transposed: see ``src``.
        weight_layout: ``row_major``, ``transposed`` or ``blocked``; see ``weights``.
        src_zero: zero point of the source.
        weight_zero: zero point of the weights, or int32[n].
        bias: int32[n], added to the accumulators.
        partial: accumulators of an earlier product, int32 (int64) of dst's shape, added too.
        multiplier: float32 factor or float32[n]; see ``isa.law.requantize``.
        dst_zero: zero point of the destination.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    The last axis of every operand is contiguous; all other axes may have any stride.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    if not (src.ndim == dst.ndim == 4):
        src, weights, dst, partial = _four_axes(src, weights, dst, partial, weight_layout)
    outer, inner, m, n = dst.shape
    if src_transposed:
        k, rows = src.shape[2:]
    else:
        rows, k = src.shape[2:]
    _require_shapes(src, weights, dst, weight_layout, rows, k)
    mode, wide = accumulation(src, weights, dst, partial)
    bias_, zeros = bias_array(bias, n), zero_array(weight_zero, n)
    multipliers = multiplier_array(multiplier, n, mode >= 2)
    low, high = limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    chosen = tier.active()
    jitted = chosen is not tier.Tier.NUMPY and k > 0 and fits(src, src_zero, zeros, dst_zero)
    if jitted and wide and fits_words(k, weights, zeros):

        def multiply(src: Array, src_zero: int, weights: Array, weight_zero: Any, acc: Array) -> None:
            matmul(src, weights, acc, src_transposed=src_transposed, weight_layout=weight_layout, src_zero=src_zero,
                   weight_zero=weight_zero)  # fmt: skip

        acc = sum_of_planes(src, src_zero, weights, zeros, dst.shape, multiply)
        deliver(acc, dst, bias_, multipliers, partial, dst_zero, low, high)
        return
    if not jitted or wide:
        _numpy(src, weights, dst, src_transposed, weight_layout, k, src_zero, zeros, bias_, partial, multipliers,
               dst_zero, low, high, wide)  # fmt: skip
        return
    layout = LAYOUTS[weight_layout]
    if layout == 2:
        weights = weights.reshape(outer, inner, 1, -1)
    blocks, steps = (n + 31) // 32, (k + 3) // 4
    portable = chosen is tier.Tier.PORTABLE
    size = portable_layout(k, n)[-1] if portable else 8192 + blocks * (704 + 128 * steps) + 32 * (k + 192)
    signs = SIGNED[src.dtype] + 2 * SIGNED[weights.dtype]
    compiled = _portable() if portable else _vnni()
    views = (src.view(np.uint8), weights.view(np.uint8), dst.view(np.uint8))

    def run(begin: int, end: int) -> None:
        compiled.matmul(*views, _NO_PARTIAL if partial is None else partial, src_transposed, layout, signs, src_zero,
                        zeros, bias_, multipliers, mode, dst_zero, low, high, workspace(size), begin, end)  # fmt: skip

    split(run, outer * inner * -(-m // compiled.MAX_ROWS), 2 * outer * inner * m * n * k, LEAST_TILES[chosen])


@cache
def _vnni() -> Any:
    from .compiled import matrix_vnni

    return matrix_vnni


@cache
def _portable() -> Any:
    from .compiled import matrix_portable

    return matrix_portable


def _require_shapes(src: Array, weights: Array, dst: Array, layout: str, rows: int, k: int) -> None:
    """Refuse operands of four axes whose shapes or strides do not fit."""
    outer, inner, m, n = dst.shape
    if layout == "row_major":
        fit = weights.shape == (outer, inner, k, n)
    elif layout == "transposed":
        fit = weights.shape == (outer, inner, n, k)
    elif layout == "blocked":
        wanted = (0, -(-n // 32) * -(-k // 4) * 128)
        fit = weights.shape[:2] == (outer, inner) and weights[:1, :1].size in wanted
        if weights.size and not weights[0, 0].flags.c_contiguous:
            raise ValueError("the blocks of the weights are not dense")
    else:
        raise ValueError(f"weight_layout {layout!r}; allowed: {', '.join(LAYOUTS)}")
    if rows != m or not fit or src.shape[:2] != (outer, inner):
        raise ValueError(f"shapes do not fit: src {src.shape}, weights {weights.shape} {layout}, dst {dst.shape}")
    require_contiguous_axis(src=src, weights=weights, dst=dst)


def _four_axes(src: Array, weights: Array, dst: Array, partial: Array | None, layout: str) -> tuple[Any, ...]:
    """Put missing batch axes in front."""
    if not 2 <= src.ndim <= 4 or not 2 <= dst.ndim <= 4 or (weights.ndim > 4 and layout != "blocked"):
        raise ValueError(f"too many axes, or too few: src {src.shape}, weights {weights.shape}, dst {dst.shape}")
    missing = 4 - (src.ndim if layout == "blocked" else weights.ndim)
    src, weights, dst = src[(None,) * (4 - src.ndim)], weights[(None,) * missing], dst[(None,) * (4 - dst.ndim)]
    if partial is not None:
        partial = partial[(None,) * (4 - partial.ndim)]
    return src, weights, dst, partial


def _numpy(src: Array, weights: Array, dst: Array, transposed: bool, layout: str, k: int, src_zero: int,
           zeros: Array, bias: Array, partial: Array | None, multipliers: Array, dst_zero: int, low: int, high: int,
           wide: bool) -> None:  # fmt: skip
    n = dst.shape[3]
    if transposed:
        src = src.swapaxes(2, 3)
    if layout == "blocked":
        outer, inner = weights.shape[:2]
        weights = weights.reshape(outer, inner, -(-n // 32), -(-k // 4), 32, 4)
        weights = weights.transpose(0, 1, 3, 5, 2, 4).reshape(outer, inner, -1, weights.shape[2] * 32)[:, :, :k, :n]
    elif layout == "transposed":
        weights = weights.swapaxes(2, 3)
    acc = integer_matmul(src.astype(np.int64) - src_zero, weights.astype(np.int64) - zeros)
    finish(acc, dst, bias, multipliers, partial, dst_zero, low, high, wide)
