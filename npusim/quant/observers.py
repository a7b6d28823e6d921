"""From what calibration has seen of a tensor to the range that its integers cover.

``Statistic`` takes one array after another and holds extremes and, where asked, a histogram; ``choose_range`` applies
one of the calibration methods. Nothing here knows a model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npusim.graph.ir import Array

BINS = 8192
"""Bins of a histogram, half of them below zero: a range that one half holds has 2048 or more."""

_SMALLEST_EXPONENT = -126
"""Of a bin's width: its reciprocal is still a float32."""

PERCENTILE = 99.99
"""Share of the values that the Percentile method keeps, in per cent; both ends lose the same share."""

_CANDIDATES = 128
"""Ranges that MSE and KL compare: whole, and shrunk in equal steps."""
_FEWEST_PER_LEVEL = 16
"""Values for each integer below which a histogram shows no distribution, so that KL takes the extremes."""
_KL_ERROR = 4.0
"""Mean squared error that KL may cost, as a multiple of that of the extremes: one bit.

Where few values repeat often, as behind a constant background, divergence alone would clip without limit."""
_SMALLEST_SHARE = 0.1
"""The narrowest of them, as a share of the whole range."""


class Statistic:
    """What is known about the values of one tensor.

    The bins are as wide as the smallest power of two that lets them hold every value so far; where a larger one comes,
    neighbours are added up. So one pass suffices, and the order of the samples does not matter.

    Attributes:
        low: smallest value so far; infinite before the first.
        high: largest value so far.
        counts: int64[BINS]; bin ``i`` holds values from ``(i - BINS / 2) * width`` on. None where no histogram is kept.
        exponent: the width is two to this power.
    """

    def __init__(self, *, histogram: bool) -> None:
        self.low = np.inf
        self.high = -np.inf
        self.counts: Array | None = np.zeros(BINS, np.int64) if histogram else None
        self.exponent: int | None = None

    @property
    def width(self) -> float:
        """Of a bin."""
        return 2.0 ** (self.exponent or 0)

    def add(self, values: Array) -> bool:
        """Take in the values of one more sample; False where one of them is no finite number."""
        if not values.size:
            return True
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.counts is not None:
            self._count(values, max(-low, high))
        return True

    def _count(self, values: Array, largest: float) -> None:
        assert self.counts is not None
        fitting = int(np.frexp(largest)[1]) - int(np.log2(BINS // 2))
        needed = max(fitting, _SMALLEST_EXPONENT) if largest else _SMALLEST_EXPONENT
        if self.exponent is None:
            self.exponent = needed
        while self.exponent < needed:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[BINS // 4 : BINS // 4 + BINS // 2] = pairs
            self.exponent += 1
        index = np.floor(values * np.float32(1 / self.width)).astype(np.intp)  # exact: the width is a power of two
        index += BINS // 2
        self.counts += np.bincount(index.reshape(-1), minlength=BINS)

    def centres(self) -> tuple[Array, Array]:
        """Centre and count of every bin that is not empty, float64; centres lie within the extremes."""
        assert self.counts is not None
        (filled,) = np.nonzero(self.counts)
        centres = (filled - BINS // 2 + 0.5) * self.width
        return np.clip(centres, self.low, self.high), self.counts[filled].astype(np.float64)


def choose_range(statistic: Statistic, method: str, levels: int) -> tuple[float, float]:
    """The range that the integers of a tensor cover; zero is always in it.

    Args:
        statistic: with a histogram, but for MinMax.
        method: one of ``settings.CALIBRATION_METHODS``.
        levels: how many integers there are. From 4096 on every method takes the extremes: a histogram is coarser.
    """
    low, high = min(statistic.low, 0.0), max(statistic.high, 0.0)
    if not low < high or method == "MinMax" or levels >= BINS // 2 or not np.isfinite(high - low):
        return (low, high) if statistic.low <= statistic.high else (0.0, 0.0)
    centres, counts = statistic.centres()
    if method == "Percentile":
        return _percentile(centres, counts, low, high, statistic.width)
    if method == "MSE":
        return _smallest(squared_error, centres, counts, (low, high), levels)
    beside_zero = centres != 0.5 * statistic.width  # zeros are exact in every range; what a ReLU cuts off is no sign
    centres, counts = centres[beside_zero], counts[beside_zero]
    if counts.sum() < _FEWEST_PER_LEVEL * levels:
        return low, high
    allowed = _KL_ERROR * squared_error(centres, counts, low, high, levels)

    def within_reason(centres: Array, counts: Array, low: float, high: float, levels: int) -> float:
        error = squared_error(centres, counts, low, high, levels)
        return divergence(centres, counts, low, high, levels) if error <= allowed else float("inf")

    return _smallest(within_reason, centres, counts, (low, high), levels)


def _percentile(centres: Array, counts: Array, low: float, high: float, width: float) -> tuple[float, float]:
    below = np.cumsum(counts)
    cut = (1 - PERCENTILE / 100) / 2 * below[-1]

    def position(rank: float) -> float:
        """The value with ``rank`` values below it, those of a bin being evenly spread."""
        index = int(np.searchsorted(below, rank, side="right"))
        share = (rank - below[index] + counts[index]) / counts[index]
        return float(centres[index] + (share - 0.5) * width)

    return min(max(low, position(cut)), 0.0), max(min(high, position(below[-1] - cut)), 0.0)


Measure = Callable[[Array, Array, float, float, int], float]
"""How bad a range is: (centres, counts, low, high, levels) to a number."""


def _smallest(
    measure: Measure, centres: Array, counts: Array, whole: tuple[float, float], levels: int
) -> tuple[float, float]:
    """The range with the smallest measure: both ends shrunk together, then each alone; the wider one of equals."""
    shares = np.linspace(1.0, _SMALLEST_SHARE, _CANDIDATES)

    def search(ranges: list[tuple[float, float]]) -> tuple[float, float]:
        return min(ranges, key=lambda ends: measure(centres, counts, ends[0], ends[1], levels))

    low, high = search([(whole[0] * share, whole[1] * share) for share in shares])
    if low < 0:
        low, high = search([(low, high), *((whole[0] * share, high) for share in shares)])
    if high > 0:
        low, high = search([(low, high), *((low, whole[1] * share) for share in shares)])
    return low, high


def squared_error(centres: Array, counts: Array, low: float, high: float, levels: int) -> float:
    """Mean squared error of rounding the values to ``levels`` steps between ``low`` and ``high``, which holds zero."""
    step = (high - low) / (levels - 1)
    zero = np.rint(-low / step)
    rounded = np.clip(np.rint(centres / step), -zero, levels - 1 - zero) * step
    return float(np.dot(counts, (rounded - centres) ** 2) / counts.sum())


def divergence(centres: Array, counts: Array, low: float, high: float, levels: int) -> float:
    """Kullback-Leibler divergence of the rounded distribution from the true one.

    The true one is that of the bins within the range, with what lies outside in the outermost ones; the rounded one
    spreads the mass that a step receives from inside over the step's bins that are not empty, as in TensorRT's
    calibration (S. Migacz, 8-bit inference with TensorRT, 2017). What bins of one step differ by chance is taken off
    (half a degree of freedom each, Miller and Madow), or few samples would make narrow ranges look good.
    """
    step = (high - low) / (levels - 1)
    inside = (centres >= low - step / 2) & (centres <= high + step / 2)
    if not inside.any():
        return float("inf")
    true = counts[inside].copy()
    true[0] += counts[centres < low - step / 2].sum()
    true[-1] += counts[centres > high + step / 2].sum()
    steps = np.rint((centres[inside] - low) / step).astype(np.intp)
    mass = np.bincount(steps, weights=counts[inside], minlength=levels)
    bins = np.bincount(steps, minlength=levels)
    rounded = (mass / np.maximum(bins, 1))[steps]
    p, q = true / true.sum(), rounded / rounded.sum()
    chance = (len(steps) - np.count_nonzero(bins)) / (2 * counts.sum())
    return max(float(np.dot(p, np.log(p / q))) - chance, 0.0)
