"""Strided boxes by the hundred thousand: canonical form as columns, equal ones found, exact disjointness of two.

Used by the verifier's checks. ``isa.region`` holds the one-at-a-time definitions that this must agree with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..region import Box, intersection

DIMS = 4
"""Outer dimensions of a region, at most."""

_COUNT_BITS = 25
"""More than any count has; strides have at most 30 bits, so that both together fit 63."""

_PATIENCE = 20_000
"""Nodes the exact search visits before it lists runs instead."""

HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio: Fibonacci hashing."""


@dataclass(frozen=True, kw_only=True)
class BoxTable:
    """Different boxes, as columns.

    Attributes:
        memory: int64[n], number of the memory.
        base: int64[n], first byte.
        end: int64[n], after the last byte.
        run: int64[n], bytes of a run.
        counts: int64[n, 4], fastest dimension first, 1 where there is none.
        strides: int64[n, 4], likewise, 0 where there is none.
    """

    memory: np.ndarray[Any, Any]
    base: np.ndarray[Any, Any]
    end: np.ndarray[Any, Any]
    run: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]
    strides: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.base)

    @cached_property
    def solid(self) -> np.ndarray[Any, Any]:
        """bool[n]: one contiguous run."""
        return self.counts[:, 0] == 1

    def box(self, index: int) -> Box:
        """One of them as a ``Box``."""
        pairs = zip(self.counts[index].tolist(), self.strides[index].tolist(), strict=True)
        dims = tuple(pair for pair in pairs if pair[0] > 1)[::-1]
        return Box(int(self.base[index]), int(self.run[index]), dims)


def canonical_columns(
    run: np.ndarray[Any, Any], counts: np.ndarray[Any, Any], strides: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What ``make_box`` does, for columns.

    Args:
        run: int64[n], bytes, at least 1.
        counts: int64[n, 4] in any order.
        strides: int64[n, 4].

    Returns:
        ``run``, and ``counts`` and ``strides`` with the fastest dimension first, 1 and 0 where there is none.
    """
    live = (counts > 1) & (strides > 0)
    out_run, out_counts, out_strides = run.copy(), np.ones_like(counts), np.zeros_like(strides)
    rows = np.flatnonzero(live.any(axis=1))
    keys = np.where(live[rows], (strides[rows] << _COUNT_BITS) | counts[rows], 0)
    keys.sort(axis=1)
    length, depth = run[rows], np.zeros(len(rows), np.int64)  # depth: dimensions kept so far
    kept_counts, kept_strides = np.ones((len(rows), DIMS), np.int64), np.zeros((len(rows), DIMS), np.int64)
    for column in range(DIMS):
        stride, count = keys[:, column] >> _COUNT_BITS, keys[:, column] & ((1 << _COUNT_BITS) - 1)
        here = stride > 0
        grow = here & (depth == 0) & (stride <= length)
        length = np.where(grow, length + (count - 1) * stride, length)
        top = np.maximum(depth - 1, 0)[:, None]
        below_count = np.take_along_axis(kept_counts, top, axis=1)[:, 0]
        below_stride = np.take_along_axis(kept_strides, top, axis=1)[:, 0]
        merge = here & (depth > 0) & (stride == below_count * below_stride)
        where = np.flatnonzero(merge)
        kept_counts[where, depth[where] - 1] *= count[where]
        where = np.flatnonzero(here & ~grow & ~merge)
        kept_counts[where, depth[where]], kept_strides[where, depth[where]] = count[where], stride[where]
        depth[where] += 1
    out_run[rows], out_counts[rows], out_strides[rows] = length, kept_counts, kept_strides
    return out_run, out_counts, out_strides


def intern(
    memory: np.ndarray[Any, Any],
    base: np.ndarray[Any, Any],
    run: np.ndarray[Any, Any],
    counts: np.ndarray[Any, Any],
    strides: np.ndarray[Any, Any],
) -> tuple[BoxTable, np.ndarray[Any, Any]]:
    """Bring regions into canonical form and number the different ones.

    Returns:
        The different boxes, and int64[n]: which of them each region is.
    """
    run, counts, strides = canonical_columns(run, counts, strides)
    rows = np.column_stack([memory, base, run, counts, strides])
    first, inverse = _unique_rows(rows)
    end = base + ((counts - 1) * strides).sum(axis=1) + run
    table = BoxTable(
        memory=memory[first], base=base[first], end=end[first], run=run[first], counts=counts[first],
        strides=strides[first],
    )  # fmt: skip
    return table, inverse


def _unique_rows(rows: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Index of the first of each different row, and which of them each row is.

    Sorts by a 64-bit hash, which is ten times faster than sorting rows, and sorts rows if two hashes collide.
    """
    mixed = np.zeros(len(rows), np.uint64)
    for column in rows.T.astype(np.uint64):
        mixed = (mixed ^ column) * HASH_FACTOR
        mixed ^= mixed >> np.uint64(29)
    _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
    if not np.array_equal(rows[first[inverse]], rows):
        _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)


def meet(a: Box, b: Box) -> bool:
    """Whether two boxes share a byte; the truth of ``intersection``, without listing runs.

    Boxes of one tensor share their strides, and then a dimension's two indices count only by their difference: a few
    steps decide where lists of runs would have thousands of entries.
    """
    if a.base >= b.end or b.base >= a.end:
        return False
    offset = b.base - a.base
    strides = [stride for _, stride in (*a.dims, *b.dims)]
    pitch = min(strides, default=0)
    if pitch and all(stride % pitch == 0 for stride in strides):
        # every run of b begins at one phase of a's pitch: slices of one channel dimension part here
        phase = offset % pitch
        if phase >= a.run and phase + b.run <= pitch:
            return False
    spans: dict[int, tuple[int, int]] = {}
    for count, stride in a.dims:
        low, high = spans.get(stride, (0, 0))
        spans[stride] = (low, high + count - 1)
    for count, stride in b.dims:
        low, high = spans.get(stride, (0, 0))
        spans[stride] = (low - count + 1, high)
    answer = _reachable([(stride, *spans[stride]) for stride in spans], offset - a.run + 1, offset + b.run - 1)
    return intersection(a, b) is not None if answer is None else answer


def folds(run: int, counts: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether a region of ``run`` bytes touches a byte twice. Exact."""
    dims = sorted(((s, c) for s, c in zip(strides, counts, strict=True) if c > 1), reverse=True)
    for index, (stride, count) in enumerate(dims):
        inner = [(s, 1 - c, c - 1) for s, c in dims[index + 1 :]]
        # two equal entries differ in this dimension first, the one way round or the other
        answer = _reachable([(stride, 1, count - 1), *inner], 1 - run, run - 1)
        if answer is None:
            return _folds_by_listing(run, dims)
        if answer:
            return True
    return False


def _folds_by_listing(run: int, dims: Sequence[tuple[int, int]]) -> bool:
    starts = np.zeros(1, np.int64)
    for stride, count in dims:
        starts = (starts[:, None] + np.arange(count, dtype=np.int64) * stride).ravel()
    return bool((np.diff(np.sort(starts)) < run).any())


def _reachable(dims: list[tuple[int, int, int]], low: int, high: int) -> bool | None:
    """Whether ``low <= sum(stride * v) <= high`` for some integers v, each in its dimension's (stride, least, most).

    Depth first, largest stride first, trying only values the smaller strides can complete. None when that takes too
    long.
    """
    dims = sorted(dims, reverse=True)
    least, most = [0], [0]
    for stride, lowest, highest in reversed(dims):
        least.append(least[-1] + stride * lowest)
        most.append(most[-1] + stride * highest)
    least.reverse()
    most.reverse()
    stack = [(0, low, high)]
    for _ in range(_PATIENCE):
        if not stack:
            return False
        depth, low, high = stack.pop()
        if low > most[depth] or high < least[depth]:
            continue
        if depth == len(dims):
            return True
        stride, lowest, highest = dims[depth]
        if stride:  # v * stride + rest within [low, high], rest within [least, most] of what follows
            lowest = max(lowest, -((most[depth + 1] - low) // stride))
            highest = min(highest, (high - least[depth + 1]) // stride)
        else:
            highest = min(lowest, highest)
        if depth == len(dims) - 1 and lowest <= highest:
            return True
        if highest - lowest > _PATIENCE:
            return None
        stack.extend((depth + 1, low - v * stride, high - v * stride) for v in range(lowest, highest + 1))
    return None
