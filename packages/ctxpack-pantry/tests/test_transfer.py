"""Many at once: in order, few at a time, stopped at the first failure, and nothing goes on behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_pantry.transfer import BUDGET, WORKERS, in_order


def transfer_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("transfer")]


def wait_until_idle() -> None:
    deadline = time.monotonic() + 10
    while transfer_threads():
        assert time.monotonic() < deadline, transfer_threads()
        time.sleep(0.001)


@given(st.lists(st.integers(0, 3)), st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(delays: list[int], workers: int) -> None:
    def work(item: tuple[int, int]) -> int:
        time.sleep(item[1] / 5000)
        return item[0]

    assert list(in_order(work, enumerate(delays), workers=workers)) == list(range(len(delays)))


def test_many_are_at_work_at_once_but_no_more_than_workers() -> None:
    together = threading.Barrier(WORKERS)
    working, most, lock = 0, 0, threading.Lock()

    def work(item: int) -> int:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        together.wait(10)
        with lock:
            working -= 1
        return item

    assert list(in_order(work, range(4 * WORKERS))) == list(range(4 * WORKERS))
    assert most == WORKERS


def test_items_are_taken_no_faster_than_results_are() -> None:
    taken, given = 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(50):
            taken += 1
            yield item

    for _ in in_order(lambda item: item, items()):
        given += 1
        assert taken - given <= WORKERS + 1
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
    assert len(begun) <= 3 + WORKERS + 2


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
    assert len(begun) <= 1 + WORKERS + 1


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
