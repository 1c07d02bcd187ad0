"""Many at once: in order, few at a time, stopped at the first failure, and nothing goes on behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pantry_target import wait_until_idle

from ctxpack_pantry.transfer import BUDGET, LEAST, MOST, Pace, in_order


@given(st.lists(st.integers(0, 3)))
def test_results_come_in_the_order_of_the_items(delays: list[int]) -> None:
    def work(item: tuple[int, int]) -> int:
        time.sleep(item[1] / 5000)
        return item[0]

    assert list(in_order(work, enumerate(delays))) == list(range(len(delays)))


class Crowd:
    """Work that counts how many are at it at once."""

    def __init__(self, task: Callable[[], object]) -> None:
        self.most = 0
        self._task, self._working, self._lock = task, 0, threading.Lock()

    def __call__(self, item: int) -> int:
        with self._lock:
            self._working += 1
            self.most = max(self.most, self._working)
        self._task()
        with self._lock:
            self._working -= 1
        return item


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), max_size=40))
def test_the_pace_rises_only_where_this_process_waits_and_not_too_far(looks: list[tuple[float, float]]) -> None:
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


def test_where_it_waits_there_are_more_and_more_but_not_too_many() -> None:
    crowd = Crowd(lambda: time.sleep(0.02))
    assert list(in_order(crowd, range(800))) == list(range(800))
    assert crowd.most == MOST


def test_items_are_taken_no_faster_than_results_are() -> None:
    taken, given = 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(50):
            taken += 1
            yield item

    for _ in in_order(lambda item: item, items()):
        given += 1
        assert taken - given <= LEAST + 1
    assert given == 50
    wait_until_idle()


def test_the_first_failure_in_order_is_raised_and_what_was_not_begun_never_begins() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("the third")
        return item

    results = in_order(work, iter(range(1000)))
    with pytest.raises(ValueError, match="the third"):
        list(results)
    wait_until_idle()
    assert len(begun) <= 3 + LEAST + 2


def test_a_failure_of_the_items_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        list(in_order(lambda item: item, items()))
    wait_until_idle()


def test_closed_early_it_leaves_no_thread_behind() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.005)
        return item

    with closing(in_order(work, range(1000))) as results:
        assert next(results) == 0
    wait_until_idle()
    assert len(begun) <= 1 + LEAST + 1


def test_a_failure_does_not_wait_for_what_is_under_way() -> None:
    release = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            raise ValueError("at once")
        release.wait(10)
        return item

    started = time.monotonic()
    with pytest.raises(ValueError, match="at once"):
        list(in_order(work, range(10)))
    assert time.monotonic() - started < 5
    release.set()
    wait_until_idle()


def test_heavy_items_are_under_way_one_at_a_time() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return item

    for taken, _ in enumerate(in_order(work, range(10), weigh=lambda item: BUDGET)):
        assert len(begun) <= taken + 1
    assert begun == list(range(10))


def test_no_more_bytes_than_the_budget_are_under_way() -> None:
    begun: list[int] = []
    with closing(
        in_order(lambda item: begun.append(item), iter(range(1000)), weigh=lambda item: BUDGET // 3)
    ) as results:
        next(results)
        wait_for = time.monotonic() + 10
        while len(begun) < 3:
            assert time.monotonic() < wait_for
        assert max(begun) <= 2
