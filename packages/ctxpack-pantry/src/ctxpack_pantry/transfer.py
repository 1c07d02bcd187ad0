"""Work on many layers or chunks in parallel: results in order, bounded memory, stopped at the first failure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cache
from typing import Any, TypeVar

__all__ = ["BUDGET", "LEAST", "MOST", "Pace", "at_once", "in_order"]

LEAST, MOST = 6, 16  # tasks in flight: enough for a near registry, few enough for the rate limits of a far one
BUDGET = 24 << 20  # bytes of the tasks in flight, so that large layers need no more memory than small ones

_MALLOC = ((-8, 1), (-3, 32 << 20), (-1, 8 << 20))  # M_ARENA_MAX; M_MMAP_THRESHOLD, M_TRIM_THRESHOLD in bytes
_SPAN = 0.2  # seconds between two measurements
_WAITING = 0.25  # of a core: a process that uses less mostly waits for answers

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def in_order(
    work: Callable[[_Task], _Result],
    tasks: Iterable[_Task],
    *,
    weigh: Callable[[_Task], int] = lambda task: 0,
    budget: int = BUDGET,
) -> Generator[_Result, None, None]:
    """Yield work(task) for each task, in order.

    At most pace.limit + 1 tasks are in flight (begun, and the result not taken); fewer, but at least one, if their
    weights exceed budget. weigh: bytes of a task. Close the generator if you leave it early. Tasks that were not
    begun then, or when work or tasks raise, never begin.
    Raises: whatever work or tasks raise.
    """
    pending: deque[tuple[Future[_Result], int]] = deque()
    total = 0  # weight in flight
    pace = Pace()
    _spare_memory()
    pool = ThreadPoolExecutor(MOST, thread_name_prefix="transfer")
    try:
        for task in tasks:
            weight = weigh(task)
            while pending and (len(pending) > pace.limit or total + weight > budget):
                done = pending[0][1]
                yield pending.popleft()[0].result()  # no local variable keeps the result alive
                total -= done
                pace.look()
            pending.append((pool.submit(_give, work, [task]), weight))
            del task
            total += weight
        while pending:
            yield pending.popleft()[0].result()
    finally:
        # Not waiting: after Ctrl-C or a failure, what a slow registry still sends is of no use.
        pool.shutdown(wait=False, cancel_futures=True)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Make calls at the same time; return what they return, in order.

    Raises: what the first of them raises, without waiting for the others.
    """
    with closing(in_order(lambda call: call(), calls)) as results:
        return list(results)


def _give(work: Callable[[_Task], _Result], box: list[_Task]) -> _Result:
    """Return work(task) and keep no reference to the task, so that work can free it before it returns."""
    return work(box.pop())


class Pace:
    """How many tasks may be in flight: LEAST at first, and more, up to MOST, while this process mostly waits.

    clock: seconds that passed; busy: seconds of CPU time of this process.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, busy: Callable[[], float] = time.process_time
    ) -> None:
        self.limit = LEAST
        self._clock, self._busy = clock, busy
        self._since = clock(), busy()

    def look(self) -> None:
        """Raise the limit if this process used little CPU time since the last measurement. Call it for every result."""
        wall, busy = self._clock(), self._busy()
        passed = wall - self._since[0]
        if passed >= _SPAN:
            if busy - self._since[1] < _WAITING * passed:
                self.limit = min(self.limit + 2, MOST)
            self._since = wall, busy


@cache
def _spare_memory() -> None:
    """Make glibc use one heap for all threads, also for layers, and keep at most 8 MiB of it free; mallopt(3).

    By default glibc has a heap for each thread, and keeps up to 64 MiB that layers have freed. If it kept nothing, the
    system would clear memory again for each layer: a tenth of the time of a pull.
    """
    import ctypes  # 2 ms

    try:
        system = ctypes.CDLL(None)
        for option, value in _MALLOC:
            system.mallopt(option, value)
    except (AttributeError, OSError):  # another C library
        return
