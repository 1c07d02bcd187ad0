"""Exclusive use of a name, between threads and processes. No crash leaves a lock held.

The lock is flock(2) on a file of its own: the kernel releases it when the holder dies. Every attempt opens the file
anew, so two threads of one process exclude each other as two processes do. The holder removes the file before closing
it, so a child that was forked meanwhile, and has the file open too, blocks nobody. An attempt that locked a removed
file counts as failed.

Locks do not protect published packs; the rename does. A lock avoids doing the same work twice, and shows the sweep
which staging folders are in use.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

from ctxpack_cache.failure import local_failure
from ctxpack_identity.errors import LocalFailure

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Lock"]

_POLL = 0.02  # seconds between two attempts: Ctrl-C works at once in every thread; 50 calls a second cost little

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})


class Lock:
    """An exclusive lock on one path, as a context manager; neither re-entrant nor fair.

    path: the lock file; its folder must exist. on_wait: called once, before the first wait.
    Raises: LocalFailure when the filesystem has no locks or the file cannot be made.
    """

    def __init__(self, path: str, on_wait: Callable[[], None] | None = None) -> None:
        self._path = path
        self._on_wait = on_wait
        self._descriptor: int | None = None
        self._holder = 0  # process id

    def __enter__(self) -> None:
        on_wait = self._on_wait
        try:
            while not self.attempt():
                if on_wait is not None:
                    on_wait()
                    on_wait = None
                time.sleep(_POLL)
        except BaseException:
            self.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def held(self) -> bool:
        """Whether this process holds the lock; false in a forked child, whose parent still does."""
        return self._descriptor is not None and self._holder == os.getpid()

    def attempt(self) -> bool:
        """Take the lock if it is free, without waiting; return whether this object now holds it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise local_failure(error, "cannot make a lock file", self._path) from error
        try:
            taken = self._exclude(descriptor) and self._still_named(descriptor)
            if taken:
                self._descriptor, self._holder = descriptor, os.getpid()
        finally:
            if self._descriptor != descriptor:
                os.close(descriptor)
        return taken

    def release(self) -> None:
        """Release the lock, if this process holds it."""
        descriptor, held = self._descriptor, self.held
        self._descriptor = None
        if descriptor is None:
            return
        try:
            if held:
                with contextlib.suppress(OSError):  # the empty file may stay: the next holder uses it
                    os.unlink(self._path)
        finally:
            os.close(descriptor)

    def _exclude(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise local_failure(error, "cannot lock", self._path) from error
            raise LocalFailure(
                "this filesystem has no file locks",
                where=self._path,
                got=error.strerror or "",
                fix="move the cache to a local disk (CTXPACK_CACHE)",
                code="E_NO_LOCKS",
            ) from error

    def _still_named(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False
