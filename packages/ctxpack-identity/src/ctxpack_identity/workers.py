"""Who hashes besides the main thread: threads for large files, forked processes for many small ones.

Measured on two cores: SHA-256 releases the GIL, so threads double the rate from some hundred KiB a file; for 8 KiB
files they make it slower than one thread, while a second process nearly doubles it.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections import deque

from ctxpack_identity.errors import CtxPackError, LocalFailure
from ctxpack_identity.filehash import Batch, hash_batch
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["ExecutorWorkers", "LocalWorkers", "Pending", "Workers"]

LARGE = 256 << 10  # bytes a file on average, from which a thread beats a process
ALONE = 512  # small files hashed before a second process is worth its start
CHILD_BATCHES = 3  # sent ahead to a child, so that it never waits


class Pending(Protocol):
    """Digests on their way."""

    def result(self) -> list[str]:
        """Return the digests of a batch; wait for them. Raises: as hash_batch does."""
        ...


class Workers(Protocol):
    """Takes batches, gives digests. close() is called in any case, also with work under way."""

    def submit(self, batch: Batch) -> Pending: ...

    def close(self) -> None: ...


class ExecutorWorkers:
    """Hashing on any concurrent.futures.Executor: Dask's or Ray's spread it over machines that see the same files."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._futures: list[Any] = []

    def submit(self, batch: Batch) -> Pending:
        self._futures = [future for future in self._futures if not future.done()]
        future = self._executor.submit(hash_batch, batch)
        self._futures.append(future)
        return future

    def close(self) -> None:
        for future in self._futures:
            future.cancel()


class LocalWorkers:
    """Hashing on this machine's cores. Nothing is started before there is enough to hash."""

    def __init__(self) -> None:
        self._small = 0
        self._threads: _Threads | None = None
        self._children: list[_Child] = []
        self._can_fork = _may_fork()

    def submit(self, batch: Batch) -> Pending:
        size = sum(file[1] for file in batch.files)
        if size >= LARGE * len(batch.files) and size >= LARGE:
            if self._threads is None:
                self._threads = _Threads(_cores())
                self._can_fork = False  # a fork of a process with threads may deadlock
            return self._threads.submit(batch)
        self._small += len(batch.files)
        if self._small > ALONE and self._can_fork and not self._children:
            self._children = [_Child() for _ in range(_cores() - 1)]
            self._can_fork = False
        for child in self._children:
            if len(child.pending) < CHILD_BATCHES:
                return child.submit(batch)
        return _Done(hash_batch(batch))

    def close(self) -> None:
        if self._threads is not None:
            self._threads.close()
        for child in self._children:
            child.close()


class _Done:
    def __init__(self, digests: list[str]) -> None:
        self._digests = digests

    def result(self) -> list[str]:
        return self._digests


class _Threads:
    """A few threads on one queue. concurrent.futures would do, but takes longer to import than 20 MB to hash."""

    def __init__(self, count: int) -> None:
        import threading
        from queue import SimpleQueue

        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._count = count
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True, name="hash").start()

    def submit(self, batch: Batch) -> Pending:
        job = _Job(batch)
        self._queue.put(job)
        return job

    def close(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except Exception:  # queue.Empty
            for _ in range(self._count):
                self._queue.put(None)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()


class _Job:
    def __init__(self, batch: Batch) -> None:
        from _thread import allocate_lock

        self._batch = batch
        self._digests: list[str] = []
        self._error: BaseException | None = None
        self._running = allocate_lock()
        self._running.acquire()

    def run(self) -> None:
        try:
            self._digests = hash_batch(self._batch)
        except BaseException as error:
            self._error = error
        finally:
            self._running.release()

    def result(self) -> list[str]:
        self._running.acquire()
        if self._error is not None:
            raise self._error
        return self._digests


class _Child:
    """A forked process that hashes what it is sent, in order, until its pipe closes, however this process ends."""

    def __init__(self) -> None:
        self.pending: deque[_ChildJob] = deque()
        to_child, self._tasks = os.pipe()
        self._results, from_child = os.pipe()
        self._id = os.fork()
        if self._id == 0:
            status = 1
            try:
                os.close(self._tasks)
                os.close(self._results)
                _serve(to_child, from_child)
                status = 0
            finally:
                os._exit(status)
        os.close(to_child)
        os.close(from_child)

    def submit(self, batch: Batch) -> Pending:
        try:
            _send(self._tasks, tuple(batch))
        except BrokenPipeError as error:
            raise _died() from error
        job = _ChildJob(self)
        self.pending.append(job)
        return job

    def receive(self) -> None:
        """Take the next answer, which belongs to the oldest job."""
        answer = _receive(self._results)
        if answer is None:
            raise _died()
        self.pending.popleft().answer = answer

    def close(self) -> None:
        os.close(self._tasks)
        os.close(self._results)
        os.waitpid(self._id, 0)


class _ChildJob:
    def __init__(self, child: _Child) -> None:
        self._child = child
        self.answer: Any = None

    def result(self) -> list[str]:
        while self.answer is None:
            self._child.receive()
        if isinstance(self.answer, list):
            return self.answer
        import pickle

        error: CtxPackError = pickle.loads(self.answer)
        raise error


def _died() -> LocalFailure:
    return LocalFailure("a hashing process ended unexpectedly", fix="was it killed, or is memory short?")


def _serve(tasks: int, results: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and closes the pipe
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    while (task := _receive(tasks)) is not None:
        answer: list[str] | bytes
        try:
            answer = hash_batch(Batch(*task))
        except CtxPackError as error:
            import pickle

            answer = pickle.dumps(error)
        _send(results, answer)


def _send(fd: int, value: Any) -> None:
    data = marshal.dumps(value)
    view = memoryview(len(data).to_bytes(8, "little") + data)
    while view:
        view = view[os.write(fd, view) :]


def _receive(fd: int) -> Any:
    """Return the next value, or None when the other end is gone."""
    head = _read(fd, 8)
    data = _read(fd, int.from_bytes(head, "little")) if len(head) == 8 else b""
    return marshal.loads(data) if data else None


def _read(fd: int, size: int) -> bytes:
    parts = []
    while size and (part := os.read(fd, size)):
        parts.append(part)
        size -= len(part)
    return b"" if size else b"".join(parts)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _may_fork() -> bool:
    """Whether a fork is safe: on Linux (macOS frameworks do not survive one), and with this thread alone."""
    try:
        return sys.platform == "linux" and _cores() > 1 and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False
