"""Tasks in parallel: results in order, few at a time, stopped at the first failure, and no thread goes on."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pantry_target import wait_until_idle

from ctxpack_pantry.transfer import BUDGET, LEAST, MOST, Pace, at_once, in_order


@given(st.lists(st.integers(0, 3)))
def test_results_come_in_the_order_of_the_tasks(delays: list[int]) -> None:
    def work(task: tuple[int, int]) -> int:
        time.sleep(task[1] / 5000)
        return task[0]

    assert list(in_order(work, enumerate(delays))) == list(range(len(delays)))


class CountedWork:
    """Work that counts how many threads do it at once."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.most = 0
        self._act, self._working, self._lock = act, 0, threading.Lock()

    def __call__(self, task: int) -> int:
        with self._lock:
            self._working += 1
            self.most = max(self.most, self._working)
        self._act()
        with self._lock:
            self._working -= 1
        return task


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), max_size=40))
def test_the_pace_rises_only_while_this_process_waits_and_not_above_most(looks: list[tuple[float, float]]) -> None:
    now = busy = 0.0
    pace = Pace(lambda: now, lambda: busy)
    for waited, computed in looks:
        now, busy, before = now + waited + computed, busy + computed, pace.limit
        pace.look()
        assert LEAST <= before <= pace.limit <= MOST
    if all(computed >= waited for waited, computed in looks):
        assert pace.limit == LEAST


def test_a_process_that_computes_half_the_time_keeps_its_pace() -> None:
    now = 0.0
    computing, waiting = Pace(lambda: now, lambda: now / 2), Pace(lambda: now, lambda: now / 50)
    for _ in range(1000):
        now += 0.01
        computing.look()
        waiting.look()
    assert (computing.limit, waiting.limit) == (LEAST, MOST)


def test_as_many_tasks_as_most_are_in_flight_when_all_wait() -> None:
    work = CountedWork(lambda: time.sleep(0.02))
    assert list(in_order(work, range(800))) == list(range(800))
    assert work.most == MOST


def test_tasks_are_taken_no_faster_than_results() -> None:
    taken, given = 0, 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for task in range(50):
            taken += 1
            yield task

    for _ in in_order(lambda task: task, tasks()):
        given += 1
        assert taken - given <= LEAST + 1
    assert given == 50
    wait_until_idle()


def test_the_first_failure_in_order_is_raised_and_no_more_tasks_begin() -> None:
    begun: list[int] = []

    def work(task: int) -> int:
        begun.append(task)
        if task == 3:
            raise ValueError("the third")
        return task

    results = in_order(work, iter(range(1000)))
    with pytest.raises(ValueError, match="the third"):
        list(results)
    wait_until_idle()
    assert len(begun) <= 3 + LEAST + 2


def test_a_failure_of_the_iterable_is_raised() -> None:
    def tasks() -> Iterator[int]:
        yield 1
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        list(in_order(lambda task: task, tasks()))
    wait_until_idle()


def test_after_an_early_close_no_thread_goes_on() -> None:
    begun: list[int] = []

    def work(task: int) -> int:
        begun.append(task)
        time.sleep(0.005)
        return task

    with closing(in_order(work, range(1000))) as results:
        assert next(results) == 0
    wait_until_idle()
    assert len(begun) <= 1 + LEAST + 1


def test_a_failure_does_not_wait_for_tasks_in_flight() -> None:
    release = threading.Event()

    def work(task: int) -> int:
        if task == 0:
            raise ValueError("at once")
        release.wait(10)
        return task

    started = time.monotonic()
    with pytest.raises(ValueError, match="at once"):
        list(in_order(work, range(10)))
    assert time.monotonic() - started < 5
    release.set()
    wait_until_idle()


def test_tasks_as_heavy_as_the_budget_are_in_flight_one_at_a_time() -> None:
    begun: list[int] = []

    def work(task: int) -> int:
        begun.append(task)
        return task

    for taken, _ in enumerate(in_order(work, range(10), weigh=lambda task: BUDGET)):
        assert len(begun) <= taken + 1
    assert begun == list(range(10))


def test_no_more_bytes_than_the_budget_are_in_flight() -> None:
    begun: list[int] = []
    with closing(
        in_order(lambda task: begun.append(task), iter(range(1000)), weigh=lambda task: BUDGET // 3)
    ) as results:
        next(results)
        wait_for = time.monotonic() + 10
        while len(begun) < 3:
            assert time.monotonic() < wait_for
        assert max(begun) <= 2


@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 200))
def test_tasks_in_flight_are_within_any_budget_or_one(weights: list[int], budget: int) -> None:
    begun = 0

    def tasks() -> Iterator[int]:
        nonlocal begun
        for number in range(len(weights)):
            begun = number
            yield number

    with closing(in_order(lambda task: task, tasks(), weigh=weights.__getitem__, budget=budget)) as results:
        for taken in results:
            # The newest task waits for room until this result was taken; it is not in flight yet.
            in_flight = weights[taken : max(taken + 1, begun)]
            assert len(in_flight) == 1 or sum(in_flight) <= budget


class Layer:
    """Something that can be seen to be freed."""


def test_a_task_can_be_freed_while_it_is_worked_on() -> None:
    """A layer, for example, which takes memory until its chunks are inflated."""

    def work(task: Layer) -> bool:
        seen, deadline = weakref.ref(task), time.monotonic() + 5
        del task
        while seen() is not None and time.monotonic() < deadline:  # the thread that began it keeps it a moment longer
            time.sleep(0.001)
        return seen() is None

    assert list(in_order(work, (Layer() for _ in range(3)))) == [True, True, True]


def test_calls_are_made_at_the_same_time() -> None:
    together = threading.Barrier(LEAST, timeout=10)
    at_once(*[together.wait] * LEAST)


def test_at_once_raises_what_the_first_call_raises_and_waits_for_no_other() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def fail() -> None:
        assert begun.wait(10)
        raise ValueError("at once")

    def wait() -> None:
        begun.set()
        release.wait(10)
        ended.set()

    with pytest.raises(ValueError, match="at once"):
        at_once(fail, wait)
    assert not ended.is_set()
    release.set()
    wait_until_idle()
    assert ended.is_set()


def test_no_calls_are_no_work() -> None:
    at_once()
