"""Threads change how long a kernel takes, and nothing else."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from isa import law
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


def product(rng):
    a, b = rng.integers(0, 256, (500, 300), dtype=np.uint8), rng.integers(-128, 128, (300, 400), dtype=np.int8)
    return lambda dst: kernels.matmul(a, b, dst, src_zero=128, multiplier=1e-3, dst_zero=128)


def norm(rng):
    src, gain = rng.integers(0, 256, (500, 400), dtype=np.uint8), rng.normal(1, 0.3, 400).astype(np.float32)
    return lambda dst: kernels.layer_norm(src, dst, gain=gain, offset=gain, src_scale=0.02, epsilon=1e-5,
                                          dst_scale=0.03, dst_zero=128)  # fmt: skip


def softmax(rng):
    src, table = rng.integers(0, 256, (500, 400), dtype=np.uint8), law.exp_table(np.float32(0.05))
    return lambda dst: kernels.softmax(src, dst, table=table, dst_scale=1 / 256)


def lookup(rng):
    src, table = rng.integers(0, 256, (500, 400), dtype=np.uint8), rng.integers(0, 256, 256, dtype=np.uint8)
    return lambda dst: kernels.lookup(src, table, dst)


@pytest.mark.parametrize("make", [product, norm, softmax, lookup])
def test_results_do_not_depend_on_the_number_of_threads(make, monkeypatch):
    monkeypatch.setattr(threads, "WORTHWHILE", 1)
    monkeypatch.setattr(threads, "LEAST_OPERATIONS", 1)
    run, results = make(np.random.default_rng(0)), []
    for count in (1, 2, 3):
        kernels.set_threads(count)
        results.append(np.full((500, 400), count, np.uint8))
        run(results[-1])
    kernels.set_threads(1)
    assert all((result == results[0]).all() for result in results)


def test_no_thread_is_refused():
    with pytest.raises(ValueError, match="0 threads"):
        kernels.set_threads(0)


def test_what_a_part_raises_reaches_the_caller_and_breaks_nothing(two_threads):
    def run(begin, end):
        raise ArithmeticError(threading.current_thread().name)

    for _ in range(3):
        with pytest.raises(ArithmeticError):
            threads.split(run, 37, threads.WORTHWHILE)
    test_every_part_runs_once(None)


def test_both_threads_take_part(two_threads):
    """Each part waits until another thread has one, too."""
    both = threading.Barrier(2, timeout=60)
    threads.split(lambda *_: both.wait(), 2, threads.WORTHWHILE)


def test_a_thread_that_slept_is_woken(two_threads):
    for _ in range(3):
        test_both_threads_take_part(None)
        threading.Event().wait(0.01)  # longer than it looks out for work


def test_callers_share_the_threads(two_threads):
    done: list[int] = []
    work = (lambda begin, end: done.append(end - begin), 37, 2 * threads.WORTHWHILE)
    callers = [threading.Thread(target=threads.split, args=work) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sum(done) == 20 * 37


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own(two_threads):
    test_both_threads_take_part(None)
    child = os.fork()
    if child == 0:
        try:
            test_both_threads_take_part(None)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


needs_alarm = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that interrupts")


class Interrupted(Exception):
    """What a signal raises in the main thread, as the interrupt key raises KeyboardInterrupt."""


@pytest.fixture
def alarm():
    """Interrupts the main thread after so many seconds."""

    def interrupt(signum, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


@needs_alarm
def test_a_call_interrupted_in_its_wait_ends_with_the_other_thread(two_threads, alarm):
    """Or that thread would still write while the next call already counts on it."""
    both, ended = threading.Barrier(2, timeout=60), []

    def run(begin, end):
        both.wait()
        time.sleep(0 if is_main() else 0.3)
        ended.append(begin)

    for _ in range(3):
        ended.clear()
        alarm(0.1)
        with pytest.raises(Interrupted):
            threads.split(run, 2, threads.WORTHWHILE)
        assert sorted(ended) == [0, 1]


@needs_alarm
def test_a_call_interrupted_in_its_own_part_begins_no_other(two_threads, alarm):
    both, begun = threading.Barrier(2, timeout=60), []

    def run(begin, end):
        begun.append(begin)
        if len(begun) <= 2:
            both.wait()
        time.sleep(60 if is_main() else 0.3)

    alarm(0.1)
    with pytest.raises(Interrupted):
        threads.split(run, 6, 3 * threads.WORTHWHILE)
    assert sorted(begun) == [0, 1]
    time.sleep(0.4)
    assert sorted(begun) == [0, 1]
    test_both_threads_take_part(None)


def test_where_no_thread_can_be_started_the_caller_does_all(two_threads, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_helpers", [])
    monkeypatch.setattr(threads, "_idle", set())
    monkeypatch.setattr(threading.Thread, "start", start)
    calls: list[tuple[int, int]] = []
    threads.split(lambda begin, end: calls.append((begin, end)), 37, 3 * threads.WORTHWHILE)
    assert calls == [(0, 37)]


@pytest.mark.parametrize("count", [1.5, "2", None])
def test_a_number_of_threads_is_whole(count):
    with pytest.raises(TypeError):
        kernels.set_threads(count)
