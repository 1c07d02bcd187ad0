"""Exclusive or shared use of a name, between threads and processes. No crash leaves a lock held.

The lock is flock(2) on a file of its own: the kernel releases it when the holder dies. Every attempt opens the file
anew, so two threads of one process exclude each other as two processes do. Only a process that holds the file
exclusively removes it, so no holder loses the name under which others look for the lock. An attempt that locked a
removed file counts as failed. A release unlocks the file before closing it, so a child that was forked meanwhile, and
has the file open too, blocks nobody.

Locks do not protect published packs; the rename does. A lock avoids doing the same work twice, and shows the sweep
which staging folders are in use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from ctxpack_cache.failure import ELSEWHERE
from ctxpack_identity.disk import local_failure
from ctxpack_identity.errors import LocalFailure
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["POLL", "Advice", "FileLock", "Lock"]

POLL = 0.02  # seconds between two attempts: Ctrl-C works at once in every thread; 50 calls a second cost little

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})


class Advice(NamedTuple):
    """What messages advise. elsewhere: how to use another place; local_disk: what to do where there are no locks."""

    elsewhere: str
    local_disk: str


_MOVE_THE_CACHE = Advice(ELSEWHERE, "move the cache to a local disk (CTXPACK_CACHE)")


class FileLock:
    """A lock on one path, taken without waiting; not re-entrant.

    path: the lock file; its folder must exist. shared: any number may hold the lock at once, if it is shared for all.
    """

    def __init__(self, path: str, advice: Advice, *, shared: bool = False) -> None:
        self._path = path
        self._advice = advice
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._descriptor: int | None = None
        self._holder = 0  # process id

    @property
    def held(self) -> bool:
        """Whether this process holds the lock; false in a forked child, whose parent still does."""
        return self._descriptor is not None and self._holder == os.getpid()

    @property
    def descriptor(self) -> int | None:
        """The open lock file, None while the lock is not held. A process that inherits it holds the lock as well: until
        this object is released, or both processes have died."""
        return self._descriptor

    def attempt(self) -> bool:
        """Take the lock if it is free; return whether this object now holds it.

        Raises: LocalFailure when the filesystem has no locks or the file cannot be made.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise self._failure("cannot make a lock file", error) from error
        try:
            taken = self._lock(descriptor, self._mode) and self._is_named(descriptor)
            if taken:
                self._descriptor, self._holder = descriptor, os.getpid()
        finally:
            if self._descriptor != descriptor:
                os.close(descriptor)
        return taken

    def release(self) -> None:
        """Release the lock, if this process holds it. The file stays if others share the lock."""
        descriptor, held = self._descriptor, self.held
        self._descriptor = None
        if descriptor is None:
            return
        try:
            if held:
                self._remove(descriptor)
                _unlock(descriptor)
        finally:
            os.close(descriptor)

    def _remove(self, descriptor: int) -> None:
        try:
            # From shared to exclusive is not one step: another may have the lock in between, and remove the file.
            if self._lock(descriptor, fcntl.LOCK_EX) and self._is_named(descriptor):
                os.unlink(self._path)
        except (OSError, LocalFailure):
            return  # the file may stay: the next holder uses it

    def _lock(self, descriptor: int, mode: int) -> bool:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise self._failure("cannot lock", error) from error
            raise LocalFailure(
                "this filesystem has no file locks",
                where=self._path,
                got=error.strerror or "",
                fix=self._advice.local_disk,
                code="E_NO_LOCKS",
            ) from error

    def _failure(self, what: str, error: OSError) -> LocalFailure:
        return local_failure(error, what, self._path, elsewhere=self._advice.elsewhere)

    def _is_named(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False


class Lock(FileLock):
    """An exclusive lock on a file in the cache, as a context manager; neither re-entrant nor fair.

    path: the lock file; its folder must exist. on_wait: called once, before the first wait.
    Raises: LocalFailure when the filesystem has no locks or the file cannot be made.
    """

    def __init__(self, path: str, on_wait: Callable[[], None] | None = None) -> None:
        super().__init__(path, _MOVE_THE_CACHE)
        self._on_wait = on_wait

    def __enter__(self) -> None:
        on_wait = self._on_wait
        try:
            while not self.attempt():
                if on_wait is not None:
                    on_wait()
                    on_wait = None
                time.sleep(POLL)
        except BaseException:
            self.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _unlock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except OSError:
        return  # closing does the same, unless a child has the file open too
