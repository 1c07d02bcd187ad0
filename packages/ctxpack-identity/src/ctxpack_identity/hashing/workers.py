"""Who hashes besides the main thread: threads for large files and for URLs, forked processes for many small files.

Measured on two cores: SHA-256 releases the GIL, so threads double the rate from some hundred KiB a file; for 8 KiB
files they make it slower than one thread, while a second process nearly doubles it.
"""

from __future__ import annotations

import errno
import marshal
import os
import sys
from collections import deque

from ctxpack_identity.errors import CtxPackError, LocalFailure
from ctxpack_identity.hashing.filehash import Batch
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, Protocol
from ctxpack_identity.progress import OnBytes, Progress, silent

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from ctxpack_identity.hashing.threads import Threads

__all__ = ["ExecutorWorkers", "LocalWorkers", "Pending", "Work", "Workers"]

LARGE = 256 << 10  # bytes a file on average, from which a thread beats a process
ALONE = 512  # small files hashed before a second process is worth its start
STREAMS = 8  # objects of a store read at a time; each holds some MiB
MOST = 8  # threads, or processes; one walk does not feed more, and a container may own fewer cores than it sees
CHILD_BATCHES = 3  # sent ahead to a child, so that it never waits
PIPE_SIZE = 64 << 10  # bytes, Linux' default; the answers to CHILD_BATCHES (9 KB each) must fit, see _Child


class Work(Protocol):
    """Files to be hashed in one go; small enough to travel to another machine."""

    def digests(self, on_bytes: OnBytes | None = None) -> list[str]:
        """Return the SHA-256 (64 hexadecimal digits) of each file. on_bytes: told of large ones as they are read."""
        ...


class Pending(Protocol):
    """Digests on their way. told: bytes of them that progress heard of already."""

    @property
    def told(self) -> int: ...

    def result(self) -> list[str]:
        """Return the digests of a batch; wait for them. Raises: as its digests() does; LocalFailure if workers fail."""
        ...


class Workers(Protocol):
    """Takes batches, gives digests. close() is called in any case, also with work under way."""

    def submit(self, batch: Work) -> Pending: ...

    def close(self) -> None: ...


class ExecutorWorkers:
    """Hashing on any concurrent.futures.Executor: Dask's or Ray's spread it over machines that see the same files.

    Some executors, Dask's among them, answer a call that they have seen before from memory. Files may have changed
    since, so every call is made to be another one.
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
    told = 0

    def __init__(self, future: Future[list[str]]) -> None:
        self._future = future

    def result(self) -> list[str]:
        try:
            return self._future.result()
        except CtxPackError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, CtxPackError):  # Ray's errors are ours too, but with a traceback as their text
                raise cause from error
            raise
        except Exception as error:
            raise _executor_failed(error) from error


def _executor_failed(error: Exception) -> LocalFailure:
    got = f"{type(error).__name__}: {error}".removesuffix(": ")
    return LocalFailure("the executor given for hashing failed", got=got)


class LocalWorkers:
    """Hashing on this machine's cores. Nothing is started before there is enough to hash.

    Where the system refuses a thread or a process, the others, at last this thread alone, do its share.
    progress: hears of large files while they are read.
    """

    def __init__(self, progress: Progress = silent) -> None:
        self._progress = progress
        self._small = 0
        self._threads: Threads | None = None
        self._streams: Threads | None = None
        self._children: list[_Child] | None = None

    def submit(self, batch: Work) -> Pending:
        if not isinstance(batch, Batch):  # from a network, where time is spent on waiting
            if self._streams is None:
                self._streams = _threads(STREAMS)
            return _Telling(self._streams, batch, self._progress)
        if sum([size for _, size, _ in batch.files]) >= LARGE * len(batch.files):
            if self._threads is None:
                self._threads = _threads(_cores())
            return _Telling(self._threads, batch, self._progress)
        self._small += len(batch.files)
        if self._children is None and self._small > ALONE:
            self._children = []
            _start(self._children)
        for child in self._children or ():
            if child.has_room():
                return child.submit(batch)
        return _Done(batch.digests())

    def close(self) -> None:
        for threads in (self._threads, self._streams):
            if threads is not None:
                threads.close()
        children, self._children = self._children or [], []
        for child in children:
            child.hang_up()
        for child in children:
            child.wait()


def _threads(count: int) -> Threads:
    from ctxpack_identity.hashing.threads import Threads  # which small local files do without

    return Threads(count)


class _Telling:
    """A thread's work that tells how far it is: one file may take minutes."""

    def __init__(self, threads: Threads, batch: Work, progress: Progress) -> None:
        self.told = 0
        self._progress = progress
        self._job = threads.submit(lambda: batch.digests(self._tell))

    def _tell(self, count: int) -> None:
        self.told += count
        self._progress("hash", count, None)

    def result(self) -> list[str]:
        digests: list[str] = self._job.result()
        return digests


class _Done:
    told = 0

    def __init__(self, digests: list[str]) -> None:
        self._digests = digests

    def result(self) -> list[str]:
        return self._digests


def _start(children: list[_Child]) -> None:
    """Add a child for every further core; fewer, or none, where that is not safe or the system refuses.

    Signals wait meanwhile: one that raises would leave a process nobody knows of, or unwind our stack in the child.
    """
    if not _may_fork():
        return
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        while len(children) < _cores() - 1:
            children.append(_Child())
    except OSError:  # no more processes, descriptors or memory for pipes
        return
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _may_fork() -> bool:
    """Whether a fork is safe: on Linux (macOS frameworks do not survive one), and with this thread alone."""
    try:
        return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _cores() -> int:
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(seen, MOST)


class _Child:
    """A forked process that hashes what it is sent, in order, until its pipe closes, however this process ends.

    We may wait for it to take a task, so it must never wait for us to take an answer: its pipe holds all answers that
    can be under way. Raises: OSError where the system refuses the process, or pipes of that size.
    """

    def __init__(self) -> None:
        from select import POLLIN, poll

        self._pending: deque[_ChildJob] = deque()
        ends: list[int] = []
        try:
            ends += os.pipe()
            ends += os.pipe()
            to_child, self._tasks, self._results, from_child = ends
            _require_room(from_child)
            self._id = os.fork()
        except OSError:
            for end in ends:
                os.close(end)
            raise
        if self._id == 0:
            status = 1
            try:
                _serve(to_child, from_child)
                status = 0
            finally:
                os._exit(status)
        os.close(to_child)
        os.close(from_child)
        self._answers = poll()
        self._answers.register(self._results, POLLIN)

    def has_room(self) -> bool:
        """Whether it would take one more batch without us waiting. Takes the answers that have come."""
        while len(self._pending) >= CHILD_BATCHES and self._answers.poll(0):
            self.receive()
        return len(self._pending) < CHILD_BATCHES

    def submit(self, batch: Batch) -> Pending:
        try:
            _send(self._tasks, tuple(batch))
        except BrokenPipeError as error:
            raise _died() from error
        job = _ChildJob(self)
        self._pending.append(job)
        return job

    def receive(self) -> None:
        """Take the next answer, which belongs to the oldest job. Raises: LocalFailure when there is none to come."""
        answer = _receive(self._results)
        if answer is None:
            raise _died()
        self._pending.popleft().answer = answer

    def hang_up(self) -> None:
        os.close(self._tasks)
        os.close(self._results)

    def wait(self) -> None:
        """Wait for its end, which comes once it has hung up and finished at most one batch."""
        try:
            os.waitpid(self._id, 0)
        except ChildProcessError:  # who embeds us waits for every process, or has the system forget them
            return


class _ChildJob:
    told = 0

    def __init__(self, child: _Child) -> None:
        self._child = child
        self.answer: list[str] | bytes | None = None

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


def _require_room(pipe: int) -> None:
    """Raise OSError when a pipe is small, as pipes are once a user has many (pipe(7), pipe-user-pages-soft)."""
    from fcntl import F_GETPIPE_SZ, fcntl

    if fcntl(pipe, F_GETPIPE_SZ) < PIPE_SIZE:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


def _serve(tasks: int, results: int) -> None:
    """Answer tasks until there are no more: what a child does. Begins with all signals blocked."""
    _forget_parent(keep=(tasks, results))
    while (task := _receive(tasks)) is not None:
        answer: list[str] | bytes
        try:
            answer = Batch(*task).digests()
        except CtxPackError as error:
            import pickle

            answer = pickle.dumps(error)
        _send(results, answer)


def _forget_parent(keep: tuple[int, int]) -> None:
    """Drop what is the parent's: signals that it handles, and descriptors, which hold locks and others' pipes open."""
    import signal

    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):  # among them Ctrl-C: the parent ends, so our pipe closes
            signal.signal(number, signal.SIG_IGN)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:  # the one that listed them
                continue
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


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
