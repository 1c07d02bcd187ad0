"""A few threads on one queue, which do what they are given in that order.

concurrent.futures would do, but takes longer to import than 20 MB to hash.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from ctxpack_identity.lighttyping import Any

__all__ = ["Job", "Threads"]

LINGER = 0.1  # seconds to wait for threads that are not done with what nobody wants any more


class Job:
    """Work on its way."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self._running = threading.Lock()
        self._running.acquire()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._running.release()

    def result(self) -> Any:
        """Return what the work returned; wait for it, once. Raises: what the work raised."""
        self._running.acquire()
        if self._error is not None:
            raise self._error
        return self._result


class Threads:
    """count: at most so many; where the system refuses them all, the caller's own does the work."""

    def __init__(self, count: int) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._closed = False
        self._threads: list[threading.Thread] = []
        for _ in range(count):
            thread = threading.Thread(target=self._work, daemon=True, name="hash")
            try:
                thread.start()
            except RuntimeError:  # "can't start new thread"
                break
            self._threads.append(thread)

    def submit(self, work: Callable[[], Any]) -> Job:
        job = Job(work)
        if self._threads:
            self._queue.put(job)
        else:
            job.run()
        return job

    def close(self) -> None:
        """Drop what has not begun. A thread in the middle of a file ends with it, and nobody waits that long."""
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        until = time.monotonic() + LINGER
        for thread in self._threads:
            thread.join(max(0, until - time.monotonic()))

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if not self._closed:
                job.run()
