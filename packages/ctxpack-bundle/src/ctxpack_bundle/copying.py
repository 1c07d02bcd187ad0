"""Copying a file and hashing it, in one pass: cloned where the file system can, else hashed beside the writing."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from types import TracebackType

from ctxpack_bundle.folder import write_all
from ctxpack_bundle.sidehash import WORTHWHILE, SideHash
from ctxpack_identity.hashing.filehash import unreadable
from ctxpack_identity.progress import OnBytes

__all__ = ["Copier"]

_BLOCK = 1 << 20  # bytes read at once

_FICLONE = 0x40049409  # ioctl_ficlone(2): the copy shares the blocks until one of the two is written to
_NO_CLONE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM, errno.ETXTBSY, errno.EISDIR}
)


class Copier:
    """Copies files one after the other. Close it: it may have a thread, for hashing large ones."""

    def __init__(self) -> None:
        self._beside = SideHash()
        self._can_clone = sys.platform == "linux"

    def __enter__(self) -> Copier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beside.close()

    def copy(self, source: int, copy: int, size: int, *, where: str, on_bytes: OnBytes) -> tuple[str, int]:
        """Copy all that can be read from source, a descriptor, to copy, one that can be read as well.

        size: bytes that source should have; of a longer one the copy has more, but perhaps not all.
        where: of source, for messages.
        Returns: SHA-256 (64 hexadecimal digits) and length of the copy.
        Raises: LocalFailure when source cannot be read; OSError when copy cannot be written.
        """
        if size <= WORTHWHILE:
            return _copy_small(source, copy, size, where, on_bytes)
        if self._clone(source, copy):
            return _hash(copy, size, where, on_bytes)
        return self._beside.write(_blocks(source, size, where, on_bytes), copy)

    def _clone(self, source: int, copy: int) -> bool:
        if not self._can_clone:
            return False
        import fcntl

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
    """Yield what can be read from source, at most some bytes more than size, in two buffers by turns."""
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
        data += more  # some network file systems answer with less than was asked for
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
