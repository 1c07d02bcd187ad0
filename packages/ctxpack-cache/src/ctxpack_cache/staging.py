"""Unfinished work: private folders that vanish with whoever made them.

Each has a lock file that its maker holds. A folder whose lock is free is dead, and the sweep removes it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from ctxpack_cache.failure import NO_ROOM, local_failure, translated
from ctxpack_cache.lock import Lock
from ctxpack_cache.tree import remove_tree
from ctxpack_identity.errors import LocalFailure

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Staging", "StagingArea"]

_NAME_LENGTH = 16  # hexadecimal digits
_HEX = frozenset("0123456789abcdef")


class StagingArea:
    """The folder that holds unfinished folders, and the folder that holds their locks; both must exist."""

    def __init__(self, folder: str, locks: str) -> None:
        self._folder = folder
        self._locks = locks

    def owns(self, path: str) -> bool:
        """Return whether path is named like a folder that this area handed out."""
        parent, name = os.path.split(os.path.abspath(path))
        return parent == os.path.abspath(self._folder) and _is_staging_name(name)

    def fresh(self) -> Staging:
        """Return a new private folder, made when entered. Sweeps first."""
        with contextlib.suppress(OSError, LocalFailure):  # another user's leftovers, say: no reason to refuse new work
            self.sweep()
        return Staging(*self._place(_new_name()))

    def discard(self, path: str) -> None:
        """Remove the folder at path, so that nobody sees half of it under that name.

        It is renamed to here and then deleted. Neither needs room for a new folder: a full disk can be emptied.
        Raises: OSError, FileNotFoundError when path is gone; LocalFailure.
        """
        grave, lock = self._place(_new_name())
        with lock:
            # Only a writable folder can move to another parent.
            os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) | stat.S_IWUSR)
            os.rename(path, grave)
            remove_tree(grave)

    def sweep(self) -> int:
        """Remove what dead processes left: staging folders, then lock files. Return how many folders.

        Raises: OSError, LocalFailure: the first that came, when all that can be removed is.
        """
        swept = 0
        failures: list[Exception] = []
        for name in self._folders():
            try:
                swept += self._sweep_folder(name)
            except (OSError, LocalFailure) as failure:
                failures.append(failure)
        for name in os.listdir(self._locks):
            try:
                self._sweep_lock(name)
            except LocalFailure as failure:
                failures.append(failure)
        if failures:
            raise failures[0]
        return swept

    def _folders(self) -> list[str]:
        with os.scandir(self._folder) as listing:
            return [e.name for e in listing if _is_staging_name(e.name) and e.is_dir(follow_symlinks=False)]

    def _sweep_folder(self, name: str) -> bool:
        path, lock = self._place(name)
        if not lock.attempt():
            return False
        try:
            # Renamed before deleted: were the lock to lie (it may, on a network filesystem), a living owner would
            # find his folder gone and fail, and never publish what is left of it.
            self.discard(path)
        except FileNotFoundError:
            return False  # another sweep was faster
        finally:
            lock.release()
        return True

    def _sweep_lock(self, name: str) -> None:
        forgotten = Lock(os.path.join(self._locks, name))
        if forgotten.attempt():
            forgotten.release()

    def _place(self, name: str) -> tuple[str, Lock]:
        return os.path.join(self._folder, name), Lock(os.path.join(self._locks, f"staging-{name}"))


class Staging:
    """A private folder (mode 0700) while the context lasts; what was not published from it is removed.

    Raises: LocalFailure, also in place of an OSError of the body that means no room (disk, quota, file size).
    A Ctrl-C while it tidies up does not stop the tidying; a second one does, and leaves the rest to a sweep.
    """

    def __init__(self, path: str, lock: Lock) -> None:
        self._path = path
        self._lock = lock

    def __enter__(self) -> str:
        try:
            self._lock.__enter__()
            with translated("cannot make a staging folder", self._path):
                os.mkdir(self._path, 0o700)
        except BaseException:
            self._tidy()
            raise
        return self._path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._lock.held:
            return  # a forked child that unwinds must not take its parent's work away
        try:
            with translated("cannot remove the staging folder", self._path):
                self._tidy()
        except Exception:
            if error is None:
                raise
            # The body's error says more, and the sweep comes again.
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise local_failure(error, "cannot fill the staging folder", self._path) from error

    def _tidy(self) -> None:
        try:
            self._remove()
        except KeyboardInterrupt:
            self._remove()
            raise
        finally:
            self._lock.release()

    def _remove(self) -> None:
        if os.path.lexists(self._path):
            remove_tree(self._path)


def _new_name() -> str:
    return os.urandom(_NAME_LENGTH // 2).hex()


def _is_staging_name(name: str) -> bool:
    return len(name) == _NAME_LENGTH and _HEX.issuperset(name)
