"""Exclusive use of outputs, between all processes of one user on one machine, whatever cache they use.

Each path is locked exclusively, and each folder above it shared: so two outputs exclude each other if one is, or lies
in, the other. All locks are taken in the order of their paths, so no two processes wait for each other. A lock file is
named after the device and the resolved path.

The files lie in /run/user/UID/ctxpack, where there is such a folder of the user, else in /tmp/ctxpack-UID. No
environment variable has a say: two processes that differ in one would not see each other.

Not covered: other machines and other users; two paths of one file that links do not explain (bind mounts, upper and
lower case on macOS); and processes of which one began before the folder in /run/user came or went, which is at the
user's first login and last logout.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time

from ctxpack_cache.lock import POLL, Advice, FileLock
from ctxpack_identity.disk import local_failure
from ctxpack_identity.errors import LocalFailure
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

__all__ = ["PathLocks"]

RUNTIME = "/run/user"  # one folder for each user, made by the login
TEMPORARY = "/tmp"

_FIRST_POLL = 0.001  # seconds; doubled until POLL. A release holds a shared lock exclusively for a moment: no wait

_ASK = "ask the administrator of this machine"
_ADVICE = Advice(_ASK, f"{_ASK} for a file system with locks there")


class PathLocks:
    """Exclusive use of paths, as a context manager whose value is this object; neither re-entrant nor fair.

    paths: need not exist; links are resolved. on_wait: called once, with the path that is waited for: one of paths, or
    one above them.
    Raises: LocalFailure when the folder of the locks cannot be made, when others could change it, and when its
    filesystem has no locks.
    """

    def __init__(self, paths: Sequence[str], on_wait: Callable[[str], None] | None = None) -> None:
        self._paths = paths
        self._on_wait = on_wait
        self._locks: list[FileLock] = []

    def __enter__(self) -> PathLocks:
        try:
            folder = _folder()
            for wanted in _plan(self._paths):
                self._take(wanted, os.path.join(folder, wanted.name))
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The open lock files, for a child to inherit (pass_fds of subprocess); empty outside the context.

        While the child lives and keeps them open, the locks stay held, although the process that took them was killed.
        When that process leaves the context, they are free, whatever the child does.
        """
        return tuple([lock.descriptor for lock in self._locks if lock.descriptor is not None])

    def _take(self, wanted: _Wanted, file: str) -> None:
        lock = FileLock(file, _ADVICE, shared=not wanted.exclusive)
        self._locks.append(lock)
        pause = _FIRST_POLL
        while not lock.attempt():
            if pause >= POLL and self._on_wait is not None:
                self._on_wait(wanted.path)
                self._on_wait = None
            time.sleep(pause)
            pause = min(2 * pause, POLL)
        if wanted.exclusive and lock.descriptor is not None:
            _sign(lock.descriptor, wanted.path)

    def _release(self) -> None:
        try:
            self._release_all()
        except KeyboardInterrupt:
            self._release_all()
            raise

    def _release_all(self) -> None:
        while self._locks:
            self._locks[-1].release()
            self._locks.pop()


class _Wanted(NamedTuple):
    """One lock. path: resolved; name: of the lock file."""

    path: str
    name: str
    exclusive: bool


def _plan(paths: Sequence[str]) -> list[_Wanted]:
    """Return the locks of paths and of all folders above them, sorted: a folder comes before what is in it."""
    exclusive = {os.path.realpath(path) for path in paths}
    everything = set(exclusive)
    for path in exclusive:
        while path != "/":
            path = os.path.dirname(path)
            everything.add(path)
    plan = []
    devices: dict[str, int] = {}
    for path in sorted(everything):
        try:
            devices[path] = os.stat(path).st_dev
        except OSError:
            devices[path] = devices[os.path.dirname(path)]  # it will be made on the device of its folder
        named = hashlib.sha256(b"%d:%b" % (devices[path], os.fsencode(path))).hexdigest()
        plan.append(_Wanted(path, named, path in exclusive))
    return plan


def _sign(descriptor: int, path: str) -> None:
    """Write who holds the lock: process id and path, a line each, for people who look at the file."""
    text = b"%d\n%b\n" % (os.getpid(), os.fsencode(path))
    try:
        os.ftruncate(descriptor, os.pwrite(descriptor, text, 0))
    except OSError:
        return  # no space for it; the lock holds without


def _folder() -> str:
    """Return the folder of the locks, made if it is missing. Raises: LocalFailure unless it is the user's alone."""
    user = os.geteuid()
    folder = os.path.join(RUNTIME, str(user), "ctxpack")
    if not _is_folder_of(user, os.path.dirname(folder)):
        folder = os.path.join(TEMPORARY, f"ctxpack-{user}")
    try:
        _check(folder, _made(folder), user)
    except OSError as error:
        raise local_failure(error, "cannot make the folder for the locks of outputs", folder, elsewhere=_ASK) from error
    return folder


def _is_folder_of(user: int, path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == user


def _made(folder: str) -> os.stat_result:
    try:
        return os.lstat(folder)
    except FileNotFoundError:
        os.makedirs(folder, 0o700, exist_ok=True)  # another process may be faster
    return os.lstat(folder)


def _check(folder: str, status: os.stat_result, user: int) -> None:
    """Raise LocalFailure if another user could remove a lock, or lead its making elsewhere by a link."""
    if not stat.S_ISDIR(status.st_mode):
        expected, got, fix = "a folder", f"file type {stat.filemode(status.st_mode)[0]!r}", "remove it"
    elif status.st_uid != user:
        expected, got = f"owner {user}", f"owner {status.st_uid}"
        fix = "ask its owner, or the administrator of this machine, to remove it"
    elif status.st_mode & 0o022:
        expected, got, fix = "mode 0700", f"{stat.S_IMODE(status.st_mode):04o}", "run `chmod 700` on it"
    else:
        return
    what = "not a folder of your own, for the locks of outputs"
    raise LocalFailure(what, where=folder, expected=expected, got=got, fix=fix)
