"""The SHA-256 of what is written, computed in a second thread: a large file keeps two cores busy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial
from types import TracebackType

from ctxpack_identity.disk import write_all
from ctxpack_identity.hashing.threads import Job, Threads

__all__ = ["WORTHWHILE", "SideHash"]

WORTHWHILE = 1 << 20  # bytes of content; with less, a second thread costs more than it saves


class SideHash:
    """Writes, and hashes the same bytes in a thread, which the first write starts. Close it."""

    def __init__(self) -> None:
        self._threads: Threads | None = None

    def __enter__(self) -> SideHash:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the thread. Blocks that it has not begun to hash are dropped."""
        if self._threads is not None:
            self._threads.close()

    def write(self, blocks: Iterable[memoryview], fd: int) -> tuple[str, int]:
        """Write blocks to fd, a descriptor; return SHA-256 (64 hexadecimal digits) and length (bytes) of them all.

        A block is in use until the next block but one is requested, so two buffers in turn are enough.
        Raises: OSError when fd cannot be written; whatever blocks raises.
        """
        if self._threads is None:
            self._threads = Threads(1)
        digest, length = hashlib.sha256(), 0
        hashing: Job | None = None
        for block in blocks:
            if hashing is not None:
                hashing.result()
            hashing = self._threads.submit(partial(digest.update, block))
            write_all(fd, block)
            length += len(block)
        if hashing is not None:
            hashing.result()
        return digest.hexdigest(), length
