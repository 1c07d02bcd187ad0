"""Forked processes that work on batches of small files, each connected to this process by two pipes."""

from __future__ import annotations

import errno
import marshal
import os
import signal
from collections import deque
from collections.abc import Callable
from fcntl import F_GETPIPE_SZ, fcntl
from select import POLLIN, poll

from ctxpack_identity.disk import write_all
from ctxpack_identity.errors import CtxPackError, LocalFailure
from ctxpack_identity.lighttyping import Any
from ctxpack_identity.secrets import keep_variables_from_children

__all__ = ["Child", "ChildJob", "start_children"]

ChildWork = Callable[[Any], "list[Any]"]
"""What a child makes of a task. Both are values that marshal knows; an answer has at most 20 KB."""

BATCHES_AHEAD = 3  # sent to a child before it has answered, so that it never waits for work
PIPE_SIZE = 64 << 10  # bytes, the default of Linux; the answers to BATCHES_AHEAD (9 KB each) must fit, see Child


def start_children(children: list[Child], count: int, work: ChildWork) -> None:
    """Add count children, which do this work, to the list, or fewer where the system refuses more.

    Signals are blocked during the fork: in this process, a handler that raises would leave an orphan child; in the
    child, it would unwind the parent's stack.
    """
    keep_variables_from_children()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        while len(children) < count:
            children.append(Child(work))
    except OSError:  # no more processes, descriptors or memory for pipes
        return
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Child:
    """A forked process that does the tasks it receives, in order, until its pipe closes, however this process ends.

    This process may block while it writes a task, so the child must never block while it writes an answer: its pipe
    has room for all answers that can be outstanding. Raises: OSError where the system refuses the process, or pipes of
    that size.
    """

    def __init__(self, work: ChildWork) -> None:
        self._pending: deque[ChildJob] = deque()
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
                _serve(work, to_child, from_child)
                status = 0
            finally:
                os._exit(status)
        os.close(to_child)
        os.close(from_child)
        self._answers = poll()
        self._answers.register(self._results, POLLIN)

    def has_room(self) -> bool:
        """Whether it takes one more task without blocking us. Receives the answers that have come."""
        while len(self._pending) >= BATCHES_AHEAD and self._answers.poll(0):
            self.receive()
        return len(self._pending) < BATCHES_AHEAD

    def submit(self, task: Any) -> ChildJob:
        try:
            _send(self._tasks, task)
        except BrokenPipeError as error:
            raise _died() from error
        job = ChildJob(self)
        self._pending.append(job)
        return job

    def receive(self) -> None:
        """Receive the next answer, which belongs to the oldest job. Raises: LocalFailure when the child has ended."""
        answer = _receive(self._results)
        if answer is None:
            raise _died()
        self._pending.popleft().answer = answer

    def wait_for_answer(self, seconds: float) -> bool:
        """Return whether receive has something to receive, after at most so many seconds."""
        return bool(self._answers.poll(seconds * 1000))

    def close_pipes(self) -> None:
        os.close(self._tasks)
        os.close(self._results)

    def wait(self) -> None:
        """Wait until it has ended. After close_pipes it finishes at most one task."""
        try:
            os.waitpid(self._id, 0)
        except ChildProcessError:  # a program that embeds us waits for every process, or ignores SIGCHLD
            return


class ChildJob:
    """A task that a child does. answer: what it made, or a pickled error; None before it has come."""

    reported = 0

    def __init__(self, child: Child) -> None:
        self._child = child
        self.answer: list[Any] | bytes | None = None

    def wait(self, seconds: float) -> bool:
        while self.answer is None:
            if not self._child.wait_for_answer(seconds):
                return False
            self._child.receive()
        return True

    def result(self) -> list[Any]:
        while self.answer is None:
            self._child.receive()
        if isinstance(self.answer, list):
            return self.answer
        import pickle  # 4 ms, which only a failure pays

        error: CtxPackError | OSError = pickle.loads(self.answer)
        raise error


def _died() -> LocalFailure:
    return LocalFailure(
        "a process that hashes or copies files ended",
        fix="check whether it was killed, or whether memory is short",
    )


def _require_room(pipe: int) -> None:
    """Raise OSError when a pipe is small, as pipes are once a user has many (pipe(7), pipe-user-pages-soft)."""
    if fcntl(pipe, F_GETPIPE_SZ) < PIPE_SIZE:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


def _serve(work: ChildWork, tasks: int, results: int) -> None:
    """Answer tasks until there are no more: what a child does. Begins with all signals blocked."""
    _forget_parent(keep=(tasks, results))
    while (task := _receive(tasks)) is not None:
        answer: list[Any] | bytes
        try:
            answer = work(task)
        except (CtxPackError, OSError) as error:
            import pickle  # 4 ms, which only a failure pays

            answer = pickle.dumps(error)
        _send(results, answer)


def _forget_parent(keep: tuple[int, int]) -> None:
    """Ignore the signals that the parent handles, and close its descriptors: they hold locks and other pipes open."""
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
    write_all(fd, len(data).to_bytes(8, "little") + data)


def _receive(fd: int) -> Any:
    """Return the next value, or None when the other end is closed."""
    head = _read(fd, 8)
    data = _read(fd, int.from_bytes(head, "little")) if len(head) == 8 else b""
    return marshal.loads(data) if data else None


def _read(fd: int, size: int) -> bytes:
    """Return size bytes, b"" when the pipe ends before."""
    parts = []
    while size and (part := os.read(fd, size)):
        parts.append(part)
        size -= len(part)
    return b"" if size else b"".join(parts)
