"""Work on many chunks at once: in order, in bounded memory, and stopped at the first failure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["WORKERS", "in_order"]

WORKERS = 4  # transfers at once; enough to hide a registry's latency, few enough for its rate limits

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int = WORKERS
) -> Generator[_Result, None, None]:
    """Yield work(item) for each item, in order, with at most workers + 1 results made and not yet taken.

    Close it when you leave it early. What was not begun then, or when work or items raise, never begins.
    Raises: whatever work or items raise.
    """
    pending: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="transfer")
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Not waiting: after Ctrl-C or a failure nobody needs what a slow registry still sends.
        pool.shutdown(wait=False, cancel_futures=True)
