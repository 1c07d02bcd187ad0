"""Copy and hash a file: as a clone if the file system can do that, else in one pass that writes and hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from types import TracebackType

from ctxpack_bundle.sidehash import WORTHWHILE, SideHash
from ctxpack_identity.disk import write_all
from ctxpack_identity.hashing.filehash import unreadable
from ctxpack_identity.progress import OnBytes

__all__ = ["Copier"]

_BLOCK = 1 << 20  # bytes read at once

_FICLONE = 0x40049409  # ioctl_ficlone(2): the files share their data until one of them is written to
_NO_CLONE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM, errno.ETXTBSY, errno.EISDIR}
)


class Copier:
    """Copies files one after the other. Close it: it may have a thread that hashes large files."""

    def __init__(self) -> None:
        self._side_hash = SideHash()
        self._can_clone = sys.platform == "linux"

    def __enter__(self) -> Copier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._side_hash.close()

    def copy(self, source: int, copy: int, size: int, *, where: str, on_bytes: OnBytes) -> tuple[str, int]:
        """Copy what can be read from source to copy. Both are descriptors; copy is open for reading too.

        size: bytes that source should have. If source is longer, the copy may stop anywhere after size bytes.
        where: name of source in messages.
        Returns: SHA-256 (64 hexadecimal digits) and length of the copy.
        Raises: LocalFailure when source cannot be read; OSError when copy cannot be written.
        """
        if size <= WORTHWHILE:
            return _copy_small(source, copy, size, where, on_bytes)
        if self._clone(source, copy):
            return _hash(copy, size, where, on_bytes)
        return self._side_hash.write(_blocks(source, size, where, on_bytes), copy)

    def _clone(self, source: int, copy: int) -> bool:
        if not self._can_clone:
            return False
        try:
            fcntl.ioctl(copy, _FICLONE, source)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            self._can_clone = False
        return self._can_clone


def _hash(copy: int, size: int, where: str, on_bytes: OnBytes) -> tuple[str, int]:
    digest, length = hashlib.sha256(), 0
    for block in _blocks(copy, size, where, on_bytes):
        digest.update(block)
        length += len(block)
    return digest.hexdigest(), length


def _blocks(source: int, size: int, where: str, on_bytes: OnBytes) -> Iterator[memoryview]:
    """Yield what can be read from source, in two buffers in turn, and stop at most one block after size bytes."""
    block, other = memoryview(bytearray(_BLOCK)), memoryview(bytearray(_BLOCK))
    length = 0
    while length <= size and (count := _read_into(source, block, where)):
        yield block[:count]
        length += count
        on_bytes(count)
        block, other = other, block


def _copy_small(source: int, copy: int, size: int, where: str, on_bytes: OnBytes) -> tuple[str, int]:
    data = _read(source, size + 1, where)
    while 0 < len(data) < size and (more := _read(source, size + 1 - len(data), where)):
        data += more  # some network file systems return less than requested
    write_all(copy, data)
    on_bytes(len(data))
    return hashlib.sha256(data).hexdigest(), len(data)


def _read(source: int, size: int, where: str) -> bytes:
    try:
        return os.read(source, size)
    except OSError as error:
        raise unreadable(where, error) from error


def _read_into(source: int, block: memoryview, where: str) -> int:
    try:
        return os.readv(source, [block])
    except OSError as error:
        raise unreadable(where, error) from error
