"""Work on many chunks at once: in order, in bounded memory, and stopped at the first failure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["LEAST", "MOST", "Pace", "in_order"]

LEAST, MOST = 6, 16  # at once: enough for a near registry, few enough for the rate limits of a far one
BUDGET = 24 << 20  # bytes in memory for what is under way, so that large chunks take no more of it than small ones

_MALLOC = ((-8, 1), (-3, 32 << 20), (-1, 8 << 20))  # M_ARENA_MAX; M_MMAP_THRESHOLD, M_TRIM_THRESHOLD in bytes
_SPAN = 0.2  # seconds that are looked at together
_WAITING = 0.25  # of a core at work: below that, what counts is how many requests wait side by side

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    weigh: Callable[[_Item], int] = lambda item: 0,
) -> Generator[_Result, None, None]:
    """Yield work(item) for each item, in order.

    As many items are begun, and their results not yet taken, as Pace allows and one more; fewer, but at least one,
    when by weigh they have more than BUDGET bytes together. Close it when you leave it early. What was not begun
    then, or when work or items raise, never begins.
    Raises: whatever work or items raise.
    """
    pending: deque[tuple[Future[_Result], int]] = deque()
    heavy = 0
    pace = Pace()
    _spare_memory()
    pool = ThreadPoolExecutor(MOST, thread_name_prefix="transfer")
    try:
        for item in items:
            weight = weigh(item)
            while pending and (len(pending) > pace.limit or heavy + weight > BUDGET):
                done = pending[0][1]
                yield pending.popleft()[0].result()  # of which nobody here keeps hold
                heavy -= done
                pace.look()
            pending.append((pool.submit(_give, work, [item]), weight))
            del item
            heavy += weight
        while pending:
            yield pending.popleft()[0].result()
    finally:
        # Not waiting: after Ctrl-C or a failure nobody needs what a slow registry still sends.
        pool.shutdown(wait=False, cancel_futures=True)


def _give(work: Callable[[_Item], _Result], box: list[_Item]) -> _Result:
    """Return work(item), and keep no hold of item, so that work can let go of it before it ends."""
    return work(box.pop())


class Pace:
    """How many at once: LEAST, and more, up to MOST, as long as this process mostly waits for the others to answer.

    clock, busy: seconds that passed, and that this process computed.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, busy: Callable[[], float] = time.process_time
    ) -> None:
        self.limit = LEAST
        self._clock, self._busy = clock, busy
        self._since = clock(), busy()

    def look(self) -> None:
        """Raise the limit if little was computed since the last look; called for every result."""
        wall, busy = self._clock(), self._busy()
        passed = wall - self._since[0]
        if passed >= _SPAN:
            if busy - self._since[1] < _WAITING * passed:
                self.limit = min(self.limit + 2, MOST)
            self._since = wall, busy


def _spare_memory() -> None:
    """Have glibc use one heap for all threads, also for chunks, and keep no more than some of them; mallopt(3).

    By itself it has one for each thread, and keeps up to 64 MiB of what chunks leave behind. With nothing kept, the
    system would clear the same memory for each chunk anew, a tenth of the time of a pull.
    """
    import ctypes  # 2 ms

    try:
        system = ctypes.CDLL(None)
        for option, value in _MALLOC:
            system.mallopt(option, value)
    except (AttributeError, OSError):  # another C library
        return
