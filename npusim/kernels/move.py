"""Moves of elements: copies between strided shapes, transposes, gathers.

Called by the executor and by users. NumPy moves bytes as fast as the machine does; nothing here is jitted.
"""

from __future__ import annotations

import numpy as np

from .operands import Array


def copy(src: Array, dst: Array) -> None:
    """``dst[...] = src`` for equal shapes and types; strides are free, the arrays do not overlap.

    Raises:
        ValueError: if shapes or types differ.
    """
    if src.shape != dst.shape or src.dtype != dst.dtype:
        raise ValueError(f"{src.dtype}{src.shape} and {dst.dtype}{dst.shape} differ")
    dst[...] = src


def gather(table: Array, indices: Array, dst: Array) -> None:
    """``dst[i] = table[indices[i]]`` along the first axis.

    Raises:
        ValueError: if shapes or types do not fit.
        IndexError: if an index is negative or beyond the table.
    """
    if dst.shape != (*indices.shape, *table.shape[1:]) or table.dtype != dst.dtype:
        raise ValueError(f"table {table.shape} at {indices.shape} indices does not make dst {dst.shape}")
    if indices.size and not 0 <= indices.min() <= indices.max() < len(table):
        bad = indices[(indices < 0) | (indices >= len(table))][0]
        raise IndexError(f"index {bad} is outside the table of {len(table)} rows")
    np.take(table, indices, axis=0, out=dst) if dst.flags.c_contiguous else np.copyto(dst, table[indices])
