"""The one place where an OSError becomes a LocalFailure that says what to do."""

from __future__ import annotations

import errno

from ctxpack_identity.errors import LocalFailure
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["NO_ROOM", "local_failure", "translated"]

_MOVE = "or move the cache (CTXPACK_CACHE)"

_CHECK = f"check the disk and the folder's permissions, {_MOVE}"

_KNOWN = {
    errno.ENOSPC: ("no space left on the disk", f"free some space, {_MOVE}", "E_DISK_FULL"),
    errno.EDQUOT: ("disk quota exceeded", f"free some space, {_MOVE}", "E_DISK_FULL"),
    errno.EFBIG: ("file larger than allowed", f"raise the file size limit (`ulimit -f`), {_MOVE}", "E_FILE_TOO_BIG"),
    errno.EACCES: ("permission denied", f"give yourself write access to this folder, {_MOVE}", "E_PERMISSION"),
    errno.EPERM: ("operation not permitted", f"make yourself the owner of this folder, {_MOVE}", "E_PERMISSION"),
    errno.EROFS: ("read-only filesystem", f"make it writable, {_MOVE}", "E_READ_ONLY"),
}

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def local_failure(error: OSError, what: str, where: str) -> LocalFailure:
    """Return error as a LocalFailure that says what to do.

    what: the step that failed, such as "cannot publish the pack". where: used if error names no file.
    """
    reason, fix, code = _KNOWN.get(error.errno or 0, (error.strerror or type(error).__name__, _CHECK, ""))
    named = error.filename if isinstance(error.filename, str) else where
    return LocalFailure(f"{what}: {reason}", where=named, fix=fix, code=code)


class translated:
    """A context that turns an OSError into a LocalFailure, see local_failure.

    A class, because loading contextlib would slow down every cache hit.
    """

    def __init__(self, what: str, where: str) -> None:
        self._what = what
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise local_failure(error, self._what, self._where) from error
