"""The SHA-256 of what is written, computed in a second thread: a large file keeps two cores busy."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable
from functools import partial
from types import TracebackType

from ctxpack_bundle.holes import Block, write_block
from ctxpack_identity.hashing.threads import Job, Threads

__all__ = ["BUFFERS", "WORTHWHILE", "SideHash", "hash_blocks"]

# With two, each thread would sleep until the other has done a block, and waking up takes as long as half of one.
BUFFERS = 3

WORTHWHILE = 1 << 20  # bytes of content; with less, a second thread costs more than it saves

_ZEROS = memoryview(bytes(1 << 20))


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

    def write(self, blocks: Iterable[Block], fd: int) -> tuple[str, int]:
        """Write blocks to fd, a descriptor at the start of an empty file; holes are left out.

        A block is in use until BUFFERS more blocks were requested, so that many buffers in turn are enough.
        Returns: SHA-256 (64 hexadecimal digits) and length (bytes) of them all, with the zeros of the holes.
        Raises: OSError when fd cannot be written; whatever blocks raises.
        """
        if self._threads is None:
            self._threads = Threads(1)
        digest, length = hashlib.sha256(), 0
        hashing = deque[Job]()
        for block in blocks:
            if len(hashing) == BUFFERS - 1:
                hashing.popleft().result()
            hashing.append(self._threads.submit(partial(_update, digest, block)))
            length += write_block(fd, block)
        os.ftruncate(fd, length)
        for job in hashing:
            job.result()
        return digest.hexdigest(), length


def hash_blocks(blocks: Iterable[Block]) -> tuple[str, int]:
    """Return SHA-256 (64 hexadecimal digits) and length (bytes) of blocks, with the zeros of the holes."""
    digest, length = hashlib.sha256(), 0
    for block in blocks:
        length += _update(digest, block)
    return digest.hexdigest(), length


def _update(digest: hashlib._Hash, block: Block) -> int:
    """Hash block, and return its length."""
    if not isinstance(block, int):
        digest.update(block)
        return len(block)
    left = block
    while left:
        zeros = _ZEROS[:left]
        digest.update(zeros)
        left -= len(zeros)
    return block
