"""Work on many chunks at once: in order, in bounded memory, and stopped at the first failure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["WORKERS", "in_order"]

WORKERS = 8  # transfers at once; enough to hide a registry's latency, few enough for its rate limits
BUDGET = 24 << 20  # bytes under way, so that large chunks take no more memory than small ones

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    weigh: Callable[[_Item], int] = lambda item: 0,
    workers: int = WORKERS,
) -> Generator[_Result, None, None]:
    """Yield work(item) for each item, in order.

    At most workers + 1 items are begun and their results not yet taken; fewer, but at least one, when by weigh they
    have more than BUDGET bytes together. Close it when you leave it early. What was not begun then, or when work or
    items raise, never begins.
    Raises: whatever work or items raise.
    """
    pending: deque[tuple[Future[_Result], int]] = deque()
    heavy = 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="transfer")
    try:
        for item in items:
            weight = weigh(item)
            while pending and (len(pending) > workers or heavy + weight > BUDGET):
                future, done = pending.popleft()
                yield future.result()
                heavy -= done
            pending.append((pool.submit(work, item), weight))
            heavy += weight
        while pending:
            yield pending.popleft()[0].result()
    finally:
        # Not waiting: after Ctrl-C or a failure nobody needs what a slow registry still sends.
        pool.shutdown(wait=False, cancel_futures=True)
