"""Any function of one quantized variable, as a table.

Called by the executor and by users. The jitted loops are in ``compiled``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import tier
from .operands import KINDS, Array, as_rows
from .threads import split_rows

OPERATIONS = 15
"""Operations of a product that take as long as an element, on AVX2: when threads are worth it."""


def lookup(src: Array, table: Array, dst: Array) -> None:
    """``dst = table[src]``, the source element read as unsigned.

    Args:
        src: 8- or 16-bit integers, rows of any stride: [rows, count], or any shape if contiguous.
        table: 256 or 65,536 entries of dst's type; ``isa.law.lookup_table`` makes one.
        dst: 8- or 16-bit integers of the shape of ``src``; may be ``src`` itself.

    Raises:
        ValueError: if shapes, types or strides do not fit.
    """
    if src.dtype not in KINDS or dst.dtype not in KINDS or table.dtype != dst.dtype:
        raise ValueError(f"{src.dtype} through a table of {table.dtype} to {dst.dtype}: not 8- and 16-bit integers")
    if table.size != 1 << (8 * src.itemsize) or not table.flags.c_contiguous:
        raise ValueError(f"table of {table.size} entries; {src.dtype} wants {1 << (8 * src.itemsize)} contiguous ones")
    src, dst = as_rows(src, dst)
    if dst.size == 0:
        return
    if tier.active() is tier.Tier.NUMPY:
        dst[...] = table.reshape(-1)[src.view(f"u{src.itemsize}")]
        return
    octets, sizes = table.reshape(-1).view(np.uint8), (src.itemsize, dst.itemsize)

    def run(rows: Array, results: Array) -> None:
        if sizes == (1, 1):
            _compiled().bytes_to_bytes(rows, octets, results)
        else:
            _compiled().any_to_any(rows, octets, results, *sizes)

    split_rows(run, src.view(np.uint8), dst.view(np.uint8), OPERATIONS)


@cache
def _compiled() -> Any:
    from .compiled import lookup

    return lookup
