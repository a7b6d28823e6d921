"""Threads change how long a kernel takes, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from npusim import kernels
from npusim.kernels import threads


@pytest.fixture
def two_threads():
    kernels.set_threads(2)
    yield
    kernels.set_threads(1)


def test_every_part_runs_once(two_threads):
    done: list[int] = []
    threads.split(lambda begin, end: done.extend(range(begin, end)), 37, threads.WORTHWHILE)
    assert sorted(done) == list(range(37))


def test_small_work_stays_whole(two_threads):
    calls: list[tuple[int, int]] = []
    threads.split(lambda begin, end: calls.append((begin, end)), 37, threads.WORTHWHILE - 1)
    assert calls == [(0, 37)]


def test_parts_are_not_smaller_than_asked(two_threads):
    sizes: list[int] = []
    threads.split(lambda begin, end: sizes.append(end - begin), 9, threads.WORTHWHILE, least=4)
    assert sorted(sizes) == [4, 5]
    sizes.clear()
    threads.split(lambda begin, end: sizes.append(end - begin), 7, threads.WORTHWHILE, least=4)
    assert sizes == [7]


def test_results_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (500, 300), dtype=np.uint8), rng.integers(-128, 128, (300, 400), dtype=np.int8)
    results = []
    for count in (1, 2, 3):
        kernels.set_threads(count)
        results.append(np.empty((500, 400), np.uint8))
        kernels.matmul(a, b, results[-1], a_zero=128, multiplier=1e-3, dst_zero=128)
    kernels.set_threads(1)
    assert all((result == results[0]).all() for result in results)


def test_no_thread_is_refused():
    with pytest.raises(ValueError, match="0 threads"):
        kernels.set_threads(0)
