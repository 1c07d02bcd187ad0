"""The SHA-256 of files, each opened and read once."""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from ctxpack_identity.errors import InvalidInput, LocalFailure
from ctxpack_identity.lighttyping import NamedTuple
from ctxpack_identity.progress import OnBytes

__all__ = ["Batch", "changed", "hash_batch", "hash_file", "open_regular", "require_unchanged", "unreadable"]

READ_SIZE = 1 << 20  # bytes; hashing gains nothing from larger reads

# Errors of open when the file is gone, became a symbolic link or a socket, or has no parent folder any more.
_REPLACED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


class Batch(NamedTuple):
    """Files of one folder for one task: names and numbers, never contents, so that it is small to send.

    location: the folder, with a final ``/``. files: name, size (bytes) and mtime (ns), as they were found.
    """

    location: str
    files: list[tuple[str, int, int]]
    follow: bool = False

    def digests(self, on_bytes: OnBytes | None = None) -> list[str]:
        """Return the result of hash_batch."""
        return hash_batch(self, on_bytes)


def hash_batch(batch: Batch, on_bytes: OnBytes | None = None) -> list[str]:
    """Return the SHA-256 (64 hexadecimal digits) of each file.

    on_bytes: called while large files are read, after each block.
    Raises: InvalidInput for a file that changes while it is read or is replaced by something else; LocalFailure for
    one that cannot be read.
    """
    location, files, follow = batch
    return [
        hash_file(location + name, size, mtime_ns, follow=follow, on_bytes=on_bytes) for name, size, mtime_ns in files
    ]


def hash_file(location: str, size: int, mtime_ns: int, *, follow: bool = False, on_bytes: OnBytes | None = None) -> str:
    """Return the SHA-256 (64 hexadecimal digits) of one regular file of this size (bytes) and mtime.

    on_bytes, Raises: as hash_batch.
    """
    fd = _open(location, follow)
    try:
        if size <= READ_SIZE:
            data = os.read(fd, size + 1)
            digest, length = hashlib.sha256(data).hexdigest(), len(data)
        else:
            digest, length = _hash_large(fd, size, on_bytes)
        if length < size:  # some network file systems answer with less than was asked for
            os.lseek(fd, 0, os.SEEK_SET)
            digest, length = _hash_large(fd, size)
        require_unchanged(fd, location, size, mtime_ns)
    except OSError as error:
        require_unchanged(fd, location, size, mtime_ns)  # when it became a folder, say, this is the better error
        raise unreadable(location, error) from error
    finally:
        os.close(fd)
    if length != size:
        raise changed(location)
    return digest


def open_regular(location: str, *, follow: bool = False) -> int:
    """Return a descriptor of a regular file, open for reading. Never waits for the other end of a FIFO.

    follow: open the target of a symbolic link. Raises: InvalidInput when location is no regular file any more;
    LocalFailure when it cannot be read.
    """
    fd = _open(location, follow)
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError as error:
        os.close(fd)
        raise unreadable(location, error) from error
    if not regular:
        os.close(fd)
        raise changed(location)
    return fd


def require_unchanged(fd: int, location: str, size: int, mtime_ns: int) -> None:
    """Raise InvalidInput when the open file is not regular, or no longer has this size (bytes) and mtime (ns).

    Raise LocalFailure when the system does not answer.
    """
    try:
        now = os.fstat(fd)
    except OSError as error:  # a stale handle of a network file system
        raise unreadable(location, error) from error
    if now.st_size != size or now.st_mtime_ns != mtime_ns or not stat.S_ISREG(now.st_mode):
        raise changed(location)


def unreadable(location: str, error: OSError) -> LocalFailure:
    """Return the error for a file or folder that the system does not let us read."""
    fix = "check its permissions" if isinstance(error, PermissionError) else ""
    return LocalFailure(f"cannot be read: {error.strerror}", where=location, fix=fix, code="E_INPUT_UNREADABLE")


def _open(location: str, follow: bool) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        return os.open(location, flags)
    except OSError as error:
        if error.errno in _REPLACED:
            raise changed(location) from error
        raise unreadable(location, error) from error


def _hash_large(fd: int, size: int, on_bytes: OnBytes | None = None) -> tuple[str, int]:
    """Return SHA-256 and length (bytes) of the rest of the file. Stops once it is longer than size."""
    hasher, length = hashlib.sha256(), 0
    buffer = bytearray(READ_SIZE)
    view = memoryview(buffer)
    while length <= size and (count := os.readv(fd, [buffer])):
        hasher.update(view[:count])
        length += count
        if on_bytes is not None:
            on_bytes(count)
    return hasher.hexdigest(), length


def changed(location: str) -> InvalidInput:
    """Return the error for a file that is not what it was when it was found."""
    return InvalidInput(
        "changed while it was read", where=location, fix="try again when nothing writes to it", code="E_INPUT_CHANGED"
    )
