"""Copying a file and hashing it, in one pass: cloned where the file system can, else hashed beside the writing."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from ctxpack_bundle.folder import write_all
from ctxpack_identity import LocalFailure
from ctxpack_identity.progress import OnBytes

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Copier"]

_PIECE = 1 << 20  # bytes read at once, and what is copied by this thread alone

_FICLONE = 0x40049409  # ioctl_ficlone(2): the copy shares the blocks until one of the two is written to
_NO_CLONE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM, errno.ETXTBSY, errno.EISDIR}
)


class Copier:
    """Copies files one after the other. Close it: it may have a thread, for hashing large ones."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._can_clone = sys.platform == "linux"

    def __enter__(self) -> Copier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def copy(self, source: int, copy: int, size: int, *, where: str, on_bytes: OnBytes) -> tuple[str, int]:
        """Copy all that can be read from source, a descriptor, to copy, one that can be read as well.

        size: bytes that source should have; of a longer one the copy has more, but perhaps not all.
        where: of source, for messages.
        Returns: SHA-256 (64 hexadecimal digits) and length of the copy.
        Raises: LocalFailure when source cannot be read; OSError when copy cannot be written.
        """
        if size <= _PIECE:
            return _copy_small(source, copy, size, where, on_bytes)
        if self._clone(source, copy):
            return _hash(copy, size, where, on_bytes)
        return self._copy_large(source, copy, size, where, on_bytes)

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

    def _copy_large(self, source: int, copy: int, size: int, where: str, on_bytes: OnBytes) -> tuple[str, int]:
        pool = self._hashing_pool()
        digest, length = hashlib.sha256(), 0
        piece, other = memoryview(bytearray(_PIECE)), memoryview(bytearray(_PIECE))
        hashing: Future[None] | None = None
        while length <= size and (count := _read_into(source, piece, where)):
            if hashing is not None:
                hashing.result()  # the other piece is free again
            hashing = pool.submit(digest.update, piece[:count])
            write_all(copy, piece[:count])
            length += count
            on_bytes(count)
            piece, other = other, piece
        if hashing is not None:
            hashing.result()
        return digest.hexdigest(), length

    def _hashing_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # 5 ms, which only large files pay

            self._pool = ThreadPoolExecutor(1, thread_name_prefix="hash")
        return self._pool


def _hash(copy: int, size: int, where: str, on_bytes: OnBytes) -> tuple[str, int]:
    digest, length = hashlib.sha256(), 0
    piece = memoryview(bytearray(_PIECE))
    while length <= size and (count := _read_into(copy, piece, where)):
        digest.update(piece[:count])
        length += count
        on_bytes(count)
    return digest.hexdigest(), length


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
        raise _unreadable(where, error) from error


def _read_into(source: int, piece: memoryview, where: str) -> int:
    try:
        return os.readv(source, [piece])
    except OSError as error:
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: OSError) -> LocalFailure:
    return LocalFailure(f"cannot be read: {error.strerror}", where=where, code="E_INPUT_UNREADABLE")
