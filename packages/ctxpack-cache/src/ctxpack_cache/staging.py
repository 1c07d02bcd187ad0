"""Private folders for unfinished packs, removed when the work ends, or after its process died.

Each folder has a lock file, and the process that fills the folder holds the lock. If the lock is free, the process is
dead, and the sweep removes the folder.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from ctxpack_cache.failure import local_failure, translated
from ctxpack_cache.lock import Lock
from ctxpack_cache.tree import remove_tree
from ctxpack_identity.disk import NO_ROOM
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
        """Return whether path has the name of a folder that this area made."""
        parent, name = os.path.split(os.path.abspath(path))
        return parent == os.path.abspath(self._folder) and _is_staging_name(name)

    def fresh(self) -> Staging:
        """Return a new private folder, made when entered. Sweeps first."""
        with contextlib.suppress(OSError, LocalFailure):  # for example a folder of another user: no reason to stop
            self.sweep()
        return Staging(*self._place(_new_name()))

    def discard(self, path: str) -> None:
        """Remove the folder at path. No process sees half of it there.

        The folder is renamed into this area, then deleted. Neither needs free space, so a full disk can be emptied.
        Raises: OSError, FileNotFoundError when path is gone; LocalFailure.
        """
        moved, lock = self._place(_new_name())
        with lock:
            # Only a writable folder can move to another parent.
            os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) | stat.S_IWUSR)
            os.rename(path, moved)
            remove_tree(moved)

    def sweep(self) -> int:
        """Remove what dead processes left: staging folders, then lock files. Return how many folders.

        Raises: OSError, LocalFailure: the first failure, after the rest was removed.
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
            # Renamed before it is deleted: on some network filesystems the lock of a living process looks free. That
            # process then finds no folder and fails, and cannot publish half of one.
            self.discard(path)
        except FileNotFoundError:
            return False  # another sweep was faster
        finally:
            lock.release()
        return True

    def _sweep_lock(self, name: str) -> None:
        lock = Lock(os.path.join(self._locks, name))
        if lock.attempt():
            lock.release()  # removes the file

    def _place(self, name: str) -> tuple[str, Lock]:
        return os.path.join(self._folder, name), Lock(os.path.join(self._locks, f"staging-{name}"))


class Staging:
    """A private folder (mode 0700) while the context lasts; removed at the end, unless it was published.

    Raises: LocalFailure, also in place of an OSError of the body that means no space (disk, quota, file size).
    A Ctrl-C during the removal does not stop it; a second one does, and leaves the rest to a sweep.
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
            return  # a forked child that exits must not remove its parent's folder
        try:
            with translated("cannot remove the staging folder", self._path):
                self._tidy()
        except Exception:
            if error is None:
                raise
            # The error of the body says more, and the next sweep removes the folder.
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
