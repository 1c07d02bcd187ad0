"""Copy and hash a file: as a clone if the file system can do that, else in one pass. Holes stay holes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from itertools import cycle
from types import TracebackType

from ctxpack_bundle.holes import LEAST_HOLE, Block, data_ranges, has_holes
from ctxpack_bundle.sidehash import BUFFERS, WORTHWHILE, SideHash, hash_blocks
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
        sparse = size > LEAST_HOLE and has_holes(os.fstat(source))
        if size <= WORTHWHILE and not sparse:
            return _copy_small(source, copy, size, where, on_bytes)
        if self._clone(source, copy):
            return hash_blocks(_blocks(copy, size, where, on_bytes, sparse=sparse))
        return self._side_hash.write(_blocks(source, size, where, on_bytes, sparse=sparse), copy)

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


def _blocks(source: int, size: int, where: str, on_bytes: OnBytes, *, sparse: bool) -> Iterator[Block]:
    """Yield what can be read from source, in some buffers in turn, and stop one byte after size bytes."""
    buffers = cycle([memoryview(bytearray(_BLOCK)) for _ in range(BUFFERS)])
    block = next(buffers)
    length = 0
    for start, stop in _ranges(source, size + 1, where, sparse=sparse):
        while length < start:
            zeros = min(start - length, _BLOCK)
            yield zeros
            length += zeros
            on_bytes(zeros)
        while length < stop and (count := _read_into(source, block[: stop - length], where)):
            yield block[:count]
            length += count
            on_bytes(count)
            block = next(buffers)
        if length < stop:
            return


def _ranges(source: int, limit: int, where: str, *, sparse: bool) -> Iterator[tuple[int, int]]:
    """Yield start and stop of what is to be read; what lies between is a hole."""
    if not sparse:
        yield 0, limit
        return
    try:
        yield from data_ranges(source, limit)
    except OSError as error:
        raise unreadable(where, error) from error


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
