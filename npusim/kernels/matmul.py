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
    a: Array,
    b: Array,
    dst: Array,
    *,
    a_transposed: bool = False,
    b_layout: str = "row_major",
    a_zero: int = 0,
    b_zero: Any = 0,
    bias: Array | None = None,
    partial: Array | None = None,
    multiplier: Any = None,
    dst_zero: int = 0,
    low: int | None = None,
    high: int | None = None,
) -> None:
    """``dst[b0, b1] = requantize(a[b0, b1] @ b[b0, b1])`` of 8- or 16-bit integers, exactly.

    Args:
        a: [b0, b1, m, k] integers, or [b0, b1, k, m] where ``a_transposed``. Leading axes may be missing.
        b: ``row_major`` [b0, b1, k, n], ``transposed`` [b0, b1, n, k], or ``blocked``
            [b0, b1, ceil(n/32), ceil(k/4), 32, 4], dense from the third axis on, of any shape there. Batch axes
            may have stride 0.
        dst: [b0, b1, m, n]: 8 or 16 bits, or int32 (int64 where an operand has 16 bits) for raw accumulators.
        a_zero: zero point of ``a``.
        b_zero: zero point of ``b``, or int32[n].
        bias: int32[n], added to the accumulators.
        partial: accumulators of an earlier product, int32 (int64) of dst's shape, added too.
        multiplier: float32 factor or float32[n]; see ``isa.law.requantize``.
        dst_zero: zero point of ``dst``.
        low: smallest result, zero point included; by default the type's.
        high: largest result.

    The last axis of every operand is contiguous; all other axes may have any stride.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    if not (a.ndim == dst.ndim == 4):
        a, b, dst, partial = _four_axes(a, b, dst, partial, b_layout)
    outer, inner, m, n = dst.shape
    if a_transposed:
        k, rows = a.shape[2:]
    else:
        rows, k = a.shape[2:]
    _require_shapes(a, b, dst, b_layout, rows, k)
    mode, wide = accumulation(a, b, dst, partial)
    bias_, zeros = bias_array(bias, n), zero_array(b_zero, n)
    multipliers = multiplier_array(multiplier, n, mode >= 2)
    low, high = limits(dst.dtype, low, high)
    if dst.size == 0:
        return
    chosen = tier.active()
    jitted = chosen is not tier.Tier.NUMPY and k > 0 and fits(a, a_zero, zeros, dst_zero)
    if jitted and wide and fits_words(k, b, zeros):

        def multiply(a: Array, a_zero: int, b: Array, b_zero: Any, acc: Array) -> None:
            matmul(a, b, acc, a_transposed=a_transposed, b_layout=b_layout, a_zero=a_zero, b_zero=b_zero)

        acc = sum_of_planes(a, a_zero, b, zeros, dst.shape, multiply)
        deliver(acc, dst, bias_, multipliers, partial, dst_zero, low, high)
        return
    if not jitted or wide:
        _numpy(a, b, dst, a_transposed, b_layout, k, a_zero, zeros, bias_, partial, multipliers, dst_zero, low, high,
               wide)  # fmt: skip
        return
    layout = LAYOUTS[b_layout]
    if layout == 2:
        b = b.reshape(outer, inner, 1, -1)
    blocks, steps = (n + 31) // 32, (k + 3) // 4
    portable = chosen is tier.Tier.PORTABLE
    size = portable_layout(k, n)[-1] if portable else 8192 + blocks * (704 + 128 * steps) + 32 * (k + 192)
    signs = SIGNED[a.dtype] + 2 * SIGNED[b.dtype]
    compiled = _portable() if portable else _vnni()
    arrays = (a.view(np.uint8), b.view(np.uint8), dst.view(np.uint8), _NO_PARTIAL if partial is None else partial)

    def run(begin: int, end: int) -> None:
        compiled.matmul(*arrays, a_transposed, layout, signs, a_zero, zeros, bias_, multipliers, mode, dst_zero, low,
                        high, workspace(size), begin, end)  # fmt: skip

    split(run, outer * inner * -(-m // compiled.MAX_ROWS), 2 * outer * inner * m * n * k, LEAST_TILES[chosen])


@cache
def _vnni() -> Any:
    from .compiled import matrix_vnni

    return matrix_vnni


@cache
def _portable() -> Any:
    from .compiled import matrix_portable

    return matrix_portable


def _require_shapes(a: Array, b: Array, dst: Array, b_layout: str, rows: int, k: int) -> None:
    """Refuse operands of four axes whose shapes or strides do not fit."""
    outer, inner, m, n = dst.shape
    if b_layout == "row_major":
        b_fits = b.shape == (outer, inner, k, n)
    elif b_layout == "transposed":
        b_fits = b.shape == (outer, inner, n, k)
    elif b_layout == "blocked":
        b_fits = b.shape[:2] == (outer, inner) and b[:1, :1].size in (0, -(-n // 32) * -(-k // 4) * 128)
        if b.size and not b[0, 0].flags.c_contiguous:
            raise ValueError("the blocks of b are not dense")
    else:
        raise ValueError(f"b_layout {b_layout!r}; allowed: {', '.join(LAYOUTS)}")
    if rows != m or not b_fits or a.shape[:2] != (outer, inner):
        raise ValueError(f"shapes do not fit: a {a.shape}, b {b.shape} {b_layout}, dst {dst.shape}")
    require_contiguous_axis(a=a, b=b, dst=dst)


def _four_axes(a: Array, b: Array, dst: Array, partial: Array | None, b_layout: str) -> tuple[Any, ...]:
    """Put missing batch axes in front."""
    if not 2 <= a.ndim <= 4 or not 2 <= dst.ndim <= 4 or (b.ndim > 4 and b_layout != "blocked"):
        raise ValueError(f"too many axes, or too few: a {a.shape}, b {b.shape}, dst {dst.shape}")
    missing = 4 - (a.ndim if b_layout == "blocked" else b.ndim)
    a, b, dst = a[(None,) * (4 - a.ndim)], b[(None,) * missing], dst[(None,) * (4 - dst.ndim)]
    if partial is not None:
        partial = partial[(None,) * (4 - partial.ndim)]
    return a, b, dst, partial


def _numpy(a: Array, b: Array, dst: Array, a_transposed: bool, b_layout: str, k: int, a_zero: int, zeros: Array,
           bias: Array, partial: Array | None, multipliers: Array, dst_zero: int, low: int, high: int,
           wide: bool) -> None:  # fmt: skip
    n = dst.shape[3]
    if a_transposed:
        a = a.swapaxes(2, 3)
    if b_layout == "blocked":
        outer, inner = b.shape[:2]
        b = b.reshape(outer, inner, -(-n // 32), -(-k // 4), 32, 4)
        b = b.transpose(0, 1, 3, 5, 2, 4).reshape(outer, inner, -1, b.shape[2] * 32)[:, :, :k, :n]
    elif b_layout == "transposed":
        b = b.swapaxes(2, 3)
    acc = integer_matmul(a.astype(np.int64) - a_zero, b.astype(np.int64) - zeros)
    finish(acc, dst, bias, multipliers, partial, dst_zero, low, high, wide)
