"""Content of any size, between a file of the caller and a target: block by block, checked on its way.

The file is the caller's, so its OSError must reach the caller unchanged: not as a fault of the network or the layout,
whose errors are OSErrors too. It travels as a FileFault until `callers_errors` unwraps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from typing import BinaryIO

from ctxpack_identity.digest import digest_from_hex
from ctxpack_oci.descriptor import Descriptor, check_digest, check_length

__all__ = ["BLOCK_BYTES", "Incoming", "Outgoing", "callers_errors"]

BLOCK_BYTES = 128 * 1024  # most bytes of one read: malloc asks the system for each larger block


class FileFault(Exception):
    """An error of a file of the caller. Never leaves this package. error: what `callers_errors` raises instead."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def callers_errors() -> Iterator[None]:
    """A context out of which errors of the caller's files come unchanged."""
    try:
        yield
    except FileFault as fault:
        raise fault.error from None


class Incoming:
    """Content on its way into a file, written from the start of the file, which is emptied first.

    fix: what to do about content that differs.
    """

    def __init__(self, descriptor: Descriptor, file: BinaryIO, *, where: str, fix: str = "") -> None:
        self._descriptor = descriptor
        self._file = file
        self._where = where
        self._fix = fix
        self._size = 0
        self._sha256 = hashlib.sha256()
        with _file_faults():
            file.seek(0)
            file.truncate()

    def write(self, block: bytes) -> None:
        """Take the next block of the content. It must not go beyond the size in the descriptor."""
        self._size += len(block)
        self._sha256.update(block)
        left = memoryview(block)
        with _file_faults():
            while left:  # an unbuffered file may take a part only
                left = left[self._file.write(left) :]

    def finish(self) -> None:
        """Return if the whole content has arrived. Raises: IntegrityError, when the size or the SHA-256 differs."""
        with _file_faults():
            self._file.flush()  # so that a full disk is noticed here
        check_length(self._size, self._descriptor, where=self._where, fix=self._fix)
        found = digest_from_hex(self._sha256.hexdigest())
        check_digest(found, self._descriptor.digest, where=self._where, fix=self._fix)


class Outgoing:
    """Content on its way out of a file: a reader that `rewind` can start again.

    size: bytes, as in the descriptor. Raises: IntegrityError, when the file has another size.
    """

    def __init__(self, descriptor: Descriptor, file: BinaryIO, *, where: str) -> None:
        with _file_faults():
            length = file.seek(0, io.SEEK_END)
        check_length(length, descriptor, where=where)
        self.size = descriptor.size
        self._descriptor = descriptor
        self._file = file
        self._where = where
        self._at = 0

    def rewind(self) -> None:
        """Go to the start of the file."""
        self._at = 0
        with _file_faults():
            self._file.seek(0)

    def read(self, size: int) -> bytes:
        """Return up to size bytes; none after the last. Raises: IntegrityError, when the file became shorter."""
        wanted = min(size, self.size - self._at)
        with _file_faults():
            block = self._file.read(wanted)
        self._at += len(block)
        if wanted and not block:
            check_length(self._at, self._descriptor, where=self._where)
        return block

    def checked_blocks(self) -> Iterator[bytes]:
        """Yield the content from its start. Raises: IntegrityError after the last block, when the SHA-256 differs."""
        sha256 = hashlib.sha256()
        self.rewind()
        while block := self.read(BLOCK_BYTES):
            sha256.update(block)
            yield block
        check_digest(digest_from_hex(sha256.hexdigest()), self._descriptor.digest, where=self._where)


@contextlib.contextmanager
def _file_faults() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        raise FileFault(error) from error
