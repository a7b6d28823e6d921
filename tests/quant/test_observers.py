"""Observers: what they keep of a tensor, and the ranges they choose, against brute force and by their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from npusim.quant.observers import BINS, Statistic, choose_range, divergence, squared_error
from npusim.quant.settings import CALIBRATION_METHODS

FINITE = st.floats(-(2.0**40), 2.0**40, width=32)
ARRAYS = hnp.arrays(np.float32, st.integers(1, 200), elements=FINITE)


def seen(*arrays, histogram=True) -> Statistic:
    statistic = Statistic(histogram=histogram)
    for array in arrays:
        assert statistic.add(np.asarray(array, np.float32))
    return statistic


def test_extremes_are_those_of_all_samples():
    statistic = seen([1.0, -2.0], [0.5, 7.0], histogram=False)
    assert (statistic.low, statistic.high, statistic.counts) == (-2.0, 7.0, None)


def test_bins_are_the_powers_of_two_that_hold_every_value():
    # 4096 bins on each side; 3.0 needs 2 ** 2 = 4096 * 2 ** -10
    statistic = seen([3.0, 0.0, -1.0])
    assert statistic.exponent == -10
    (filled,) = np.nonzero(statistic.counts)
    assert filled.tolist() == [BINS // 2 - 1024, BINS // 2, BINS // 2 + 3072]


@settings(max_examples=40)
@given(st.lists(ARRAYS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(arrays, random):
    forward = seen(*arrays)
    random.shuffle(arrays)
    backward = seen(*arrays)
    assert (forward.low, forward.high) == (backward.low, backward.high)
    assert forward.counts.sum() == sum(array.size for array in arrays)
    if forward.exponent == backward.exponent:
        assert np.array_equal(forward.counts, backward.counts)


@settings(max_examples=40)
@given(st.lists(ARRAYS, min_size=1, max_size=4))
def test_every_value_is_within_half_a_bin_of_its_centre(arrays):
    statistic = seen(*arrays)
    centres, counts = statistic.centres()
    values = np.sort(np.concatenate(arrays)).astype(np.float64)
    assert np.all(np.abs(np.repeat(centres, counts.astype(int)) - values) <= statistic.width)
    assert statistic.width <= max(np.abs(values).max() / (BINS // 4), 2.0**-126)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_told(bad):
    assert not Statistic(histogram=False).add(np.array([1.0, bad], np.float32))


@settings(max_examples=40)
@given(ARRAYS, st.sampled_from(CALIBRATION_METHODS))
def test_a_range_holds_zero_and_lies_within_the_extremes(array, method):
    low, high = choose_range(seen(array), method, 256)
    assert min(array.min(), 0) <= low <= 0 <= high <= max(array.max(), 0)


@settings(max_examples=40)
@given(ARRAYS)
def test_min_max_takes_the_extremes(array):
    low, high = choose_range(seen(array, histogram=False), "MinMax", 256)
    assert (low, high) == (min(array.min(), 0), max(array.max(), 0))


@given(st.sampled_from(CALIBRATION_METHODS))
def test_all_zeros_have_an_empty_range(method):
    assert choose_range(seen(np.zeros(10)), method, 256) == (0.0, 0.0)


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
def test_sixteen_bits_take_the_extremes(method):
    values = np.random.default_rng(0).standard_normal(20_000)
    low, high = choose_range(seen(values), method, 1 << 16)
    assert (low, high) == (float(np.float32(values.min())), float(np.float32(values.max())))


def test_percentile_loses_its_share_at_both_ends():
    # 0.005 % of 100,000 values is five at each end
    values = np.linspace(-1, 1, 100_001)
    low, high = choose_range(seen(values), "Percentile", 256)
    assert low == pytest.approx(values[5], abs=3e-5)  # one value apart
    assert high == pytest.approx(values[-6], abs=3e-5)  # one value apart


def brute_force_error(values, low, high) -> float:
    step = (high - low) / 255
    zero = round(-low / step)
    integers = np.clip(np.rint(values / step) + zero, 0, 255)
    return float(np.mean(((integers - zero) * step - values) ** 2))


@pytest.mark.parametrize("seed", range(3))
def test_mse_finds_the_best_range_that_brute_force_finds(seed):
    random = np.random.default_rng(seed)
    values = np.float64(np.float32(random.standard_t(4, size=20_000)))
    low, high = choose_range(seen(values), "MSE", 256)
    shares = np.linspace(0.2, 1.0, 33)
    best = min(brute_force_error(values, values.min() * a, values.max() * b) for a in shares for b in shares)
    found = brute_force_error(values, low, high)
    assert found <= 1.03 * best
    assert found < brute_force_error(values, values.min(), values.max())


def test_the_error_of_the_histogram_is_the_error_of_the_values():
    values = np.random.default_rng(1).normal(size=50_000).astype(np.float32)
    centres, counts = seen(values).centres()
    assert squared_error(centres, counts, -2.0, 3.0, 256) == pytest.approx(brute_force_error(values, -2, 3), rel=0.02)


def test_divergence_by_hand():
    # four bins in two steps of width 1: (1, 3) and (2, 2); the first step's mass is spread as (2, 2).
    # Four bins less two steps, by chance: 2 / (2 * 8).
    centres, counts = np.array([0.0, 0.25, 0.75, 1.0]), np.array([1.0, 3.0, 2.0, 2.0])
    by_hand = 1 / 8 * np.log(1 / 2) + 3 / 8 * np.log(3 / 2) - 2 / 16
    assert divergence(centres, counts, 0.0, 1.0, 2) == max(by_hand, 0.0)
    many = 1000 * counts
    expected = 1 / 8 * np.log(1 / 2) + 3 / 8 * np.log(3 / 2) - 2 / 16_000
    assert divergence(centres, many, 0.0, 1.0, 2) == pytest.approx(expected)


def test_divergence_counts_what_is_clipped_against_the_range():
    # the last bin's value is clipped into the bin at 1: true (4, 4) / 8, rounded (4, 2) / 6
    centres, counts = np.array([0.0, 1.0, 9.0]), np.array([4.0, 2.0, 2.0])
    expected = 0.5 * np.log(0.5 / (4 / 6)) + 0.5 * np.log(0.5 / (2 / 6))
    assert divergence(centres, counts, 0.0, 1.0, 2) == pytest.approx(expected)


def test_kl_clips_a_lone_outlier_and_keeps_a_full_tail():
    random = np.random.default_rng(2)
    values = random.normal(size=200_000)
    _, high = choose_range(seen([*values, 40.0]), "KL", 256)
    assert 2.5 < high < 10
    low, high = choose_range(seen(random.uniform(-1, 1, size=200_000)), "KL", 256)
    assert low < -0.95
    assert high > 0.95
