"""What every package that writes to a disk needs: whole writes, and an OSError that says what to do."""

from __future__ import annotations

import errno
import os

from ctxpack_identity.errors import LocalFailure
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["NO_ROOM", "local_failure", "translated", "write_all"]

_KNOWN = {
    errno.ENOSPC: ("no space left on the disk", "free some space", "E_DISK_FULL"),
    errno.EDQUOT: ("disk quota exceeded", "free some space", "E_DISK_FULL"),
    errno.EFBIG: ("file larger than allowed", "raise the file size limit (`ulimit -f`)", "E_FILE_TOO_BIG"),
    errno.EACCES: ("permission denied", "give yourself write access to this folder", "E_PERMISSION"),
    errno.EPERM: ("operation not permitted", "make yourself the owner of this folder", "E_PERMISSION"),
    errno.EROFS: ("read-only filesystem", "make it writable", "E_READ_ONLY"),
    errno.ENOMEM: ("memory ran out", "give this process more memory (`ulimit -v`)", "E_MEMORY"),
}

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def local_failure(error: OSError, what: str, where: str, *, elsewhere: str) -> LocalFailure:
    """Return error as a LocalFailure that says what to do.

    what: the step that failed, such as "cannot publish the pack". where: used if error names no file. elsewhere: how
    to use another place instead, such as "name another folder".
    """
    unknown = (error.strerror or type(error).__name__, "check the disk and the folder's permissions", "")
    reason, fix, code = _KNOWN.get(error.errno or 0, unknown)
    named = error.filename if isinstance(error.filename, str) else where
    return LocalFailure(f"{what}: {reason}", where=named, fix=f"{fix}, or {elsewhere}", code=code)


class translated:
    """A context that turns an OSError into a LocalFailure, see local_failure.

    A class, because loading contextlib would slow down every cache hit.
    """

    def __init__(self, what: str, where: str, *, elsewhere: str) -> None:
        self._what, self._where, self._elsewhere = what, where, elsewhere

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise local_failure(error, self._what, self._where, elsewhere=self._elsewhere) from error


def write_all(fd: int, data: bytes | memoryview, *, write: Callable[[int, memoryview], int] = os.write) -> None:
    """Write all of data, in as many calls as that takes. write: as os.write. Raises: OSError."""
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]
