"""A few threads on one queue, which run jobs in the order of submission.

Importing concurrent.futures takes longer than hashing 20 MB.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from ctxpack_identity.lighttyping import Any

__all__ = ["Job", "Threads"]

LINGER = 0.1  # seconds that close waits for jobs that are running


class Job:
    """A call that was submitted, and its result."""

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
            del self._work  # the thread keeps its last job until the next one; its bytes must not stay as well
            self._running.release()

    def wait(self, seconds: float) -> bool:
        """Return whether it has run, after at most so many seconds."""
        if not self._running.acquire(timeout=seconds):
            return False
        self._running.release()
        return True

    def result(self) -> Any:
        """Wait, and return what the work returned; to be called once. Raises: what the work raised."""
        self._running.acquire()
        if self._error is not None:
            raise self._error
        return self._result


class Threads:
    """count: threads, or fewer where the system refuses more. Without any, submit runs the job itself."""

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
        """Drop jobs that have not begun. Jobs that are running go on; wait at most LINGER for them."""
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
