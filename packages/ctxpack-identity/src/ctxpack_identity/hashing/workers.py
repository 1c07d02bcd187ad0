"""Hashing in parallel: threads for large files and URLs, forked processes for many small files, or an executor.

Measured on two cores: SHA-256 releases the GIL, so threads double the rate from some hundred KiB a file; for 8 KiB
files they make it slower than one thread, while a second process nearly doubles it.
"""

from __future__ import annotations

import os
import sys
from collections import deque

from ctxpack_identity.errors import CtxPackError, LocalFailure
from ctxpack_identity.hashing.filehash import Batch
from ctxpack_identity.lighttyping import TYPE_CHECKING, Protocol
from ctxpack_identity.progress import OnBytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor, Future

    from ctxpack_identity.hashing.children import Child, ChildWork
    from ctxpack_identity.hashing.threads import Threads

__all__ = [
    "ALONE",
    "ExecutorWorkers",
    "LocalWorkers",
    "Pending",
    "Work",
    "Workers",
    "end_others",
    "start_others",
    "usable_cpus",
]

LARGE = 256 << 10  # average bytes of a file from which a thread is faster than a process
ALONE = 512  # small files hashed or copied before a second process is worth its start
STREAMS = 8  # objects of a store read at the same time; each needs some MiB
MOST = 8  # threads, or processes; one walk does not keep more busy, and a container may have fewer cores than it sees


class Work(Protocol):
    """Files for one task; small enough to be sent to another machine."""

    def digests(self, on_bytes: OnBytes | None = None) -> list[str]:
        """Return the SHA-256 (64 hexadecimal digits) of each file. on_bytes: called while large ones are read."""
        ...


class Pending(Protocol):
    """Digests that are being computed. reported: bytes of them that on_bytes was called with."""

    @property
    def reported(self) -> int: ...

    def wait(self, seconds: float) -> bool:
        """Return whether result need not wait, after at most so many seconds; True where that cannot be known."""
        ...

    def result(self) -> list[str]:
        """Return the digests of a batch; wait for them. Raises: as its digests() does; LocalFailure if workers fail."""
        ...


class Workers(Protocol):
    """Hashes batches. close() is called in any case, even while batches are pending."""

    def submit(self, batch: Work) -> Pending: ...

    def close(self) -> None: ...


class ExecutorWorkers:
    """Hashes on any concurrent.futures.Executor: Dask's or Ray's use machines that see the same files.

    Some executors, such as Dask's, remember the result of a call and return it for an equal one. Files may have changed
    since, so each call has a random argument.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._futures: deque[Future[list[str]]] = deque()

    def submit(self, batch: Work) -> Pending:
        while self._futures and self._futures[0].done():
            self._futures.popleft()
        try:
            future = self._executor.submit(_digests, batch, os.urandom(16))
        except Exception as error:
            raise _executor_failed(error) from error
        self._futures.append(future)
        return _ExecutorJob(future)

    def close(self) -> None:
        for future in self._futures:
            future.cancel()
        self._futures.clear()


def _digests(batch: Work, unique: bytes) -> list[str]:
    return batch.digests()


class _ExecutorJob:
    reported = 0

    def __init__(self, future: Future[list[str]]) -> None:
        self._future = future

    def wait(self, seconds: float) -> bool:
        return True

    def result(self) -> list[str]:
        try:
            return self._future.result()
        except CtxPackError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, CtxPackError):  # Ray raises a subclass of our error, with a traceback as its text
                raise cause from error
            raise
        except Exception as error:
            raise _executor_failed(error) from error


def _executor_failed(error: Exception) -> LocalFailure:
    got = f"{type(error).__name__}: {error}".removesuffix(": ")
    return LocalFailure("the executor given for hashing failed", got=got)


class LocalWorkers:
    """Hashes on this machine's cores. Threads and processes are started when there is enough to hash.

    Where the system refuses a thread or a process, the others do its work, in the end this thread alone.
    on_bytes: called from any thread while large files are read.
    """

    def __init__(self, on_bytes: OnBytes | None = None) -> None:
        self._on_bytes = on_bytes
        self._small = 0
        self._threads: Threads | None = None
        self._streams: Threads | None = None
        self._children: list[Child] | None = None

    def submit(self, batch: Work) -> Pending:
        if not isinstance(batch, Batch):  # objects of a store: most of the time is waiting
            if self._streams is None:
                self._streams = _threads(STREAMS)
            return _ReportingJob(self._streams, batch, self._on_bytes)
        if sum([size for _, size, _ in batch.files]) >= LARGE * len(batch.files):
            if self._threads is None:
                self._threads = _threads(_cores())
            return _ReportingJob(self._threads, batch, self._on_bytes)
        self._small += len(batch.files)
        if self._children is None and self._small > ALONE:
            self._children = []
            start_others(self._children, lambda task: Batch(*task).digests())
        for child in self._children or ():
            if child.has_room():
                return child.submit(tuple(batch))
        return _FinishedJob(batch.digests())

    def close(self) -> None:
        for threads in (self._threads, self._streams):
            if threads is not None:
                threads.close()
        children, self._children = self._children or [], []
        end_others(children)


def start_others(children: list[Child], work: ChildWork) -> None:
    """Add a child, which does this work, for each other core to the list; none where a fork is not safe."""
    others = _cores() - 1
    if others and _may_fork():
        from ctxpack_identity.hashing.children import start_children  # few trees have so many files

        start_children(children, others, work)


def end_others(children: Sequence[Child]) -> None:
    """End children. Tasks that they have not begun are dropped."""
    for child in children:
        child.close_pipes()
    for child in children:
        child.wait()


def _threads(count: int) -> Threads:
    from ctxpack_identity.hashing.threads import Threads  # small local files do not need it

    return Threads(count)


class _ReportingJob:
    """A batch that a thread hashes, with reports while it runs: one file may take minutes."""

    def __init__(self, threads: Threads, batch: Work, on_bytes: OnBytes | None) -> None:
        self.reported = 0
        self._on_bytes = on_bytes
        self._job = threads.submit(lambda: batch.digests(self._report))

    def _report(self, count: int) -> None:
        self.reported += count
        if self._on_bytes is not None:
            self._on_bytes(count)

    def wait(self, seconds: float) -> bool:
        return self._job.wait(seconds)

    def result(self) -> list[str]:
        digests: list[str] = self._job.result()
        return digests


class _FinishedJob:
    reported = 0

    def __init__(self, digests: list[str]) -> None:
        self._digests = digests

    def wait(self, seconds: float) -> bool:
        return True

    def result(self) -> list[str]:
        return self._digests


def _may_fork() -> bool:
    """Whether a fork is safe: on Linux (macOS frameworks do not survive one), and while this thread is the only one."""
    try:
        return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def usable_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cores() -> int:
    return min(usable_cpus(), MOST)
