"""Holes: runs of zeros in a file that take no room on the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from typing import Final

from ctxpack_identity.disk import write_all

__all__ = ["LEAST_HOLE", "Block", "data_ranges", "has_holes", "with_holes", "write_block"]

LEAST_HOLE: Final = 64 << 10  # bytes; file systems keep at least a block of 4 KiB, and a hole costs more than one write

Block = memoryview | int
"""The next bytes of a file, or how many zeros come next, which become a hole."""

_ZEROS: Final = bytes(LEAST_HOLE)


def has_holes(status: os.stat_result) -> bool:
    """Return whether a file may have holes that the system can name. A compressed file counts too."""
    return hasattr(os, "SEEK_HOLE") and status.st_blocks * 512 < status.st_size


def data_ranges(fd: int, limit: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop (bytes) of each range of an open file that is no hole, in order, up to limit.

    The last is empty, and lies at the end of the file if that ends in a hole. The position of fd is the start of the
    range. Raises: OSError.
    """
    offset = 0
    while offset < limit:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
            stop = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole, or nothing at all
                start = stop = os.fstat(fd).st_size
            else:  # a file system that knows no holes
                start, stop = offset, limit
        start, stop = min(start, limit), min(stop, limit)
        os.lseek(fd, start, os.SEEK_SET)
        yield start, stop
        if start == stop:
            return
        offset = stop


def with_holes(blocks: Iterable[memoryview]) -> Iterator[Block]:
    """Yield blocks, and in place of long runs of zeros their length.

    A run is found where it is at least LEAST_HOLE long and begins at a multiple of that in its block.
    """
    for block in blocks:
        start = at = 0  # of what is not yielded yet, and of what is not judged yet
        while len(block) - at >= LEAST_HOLE:
            zeros = _leading_zeros(block[at:])
            if zeros:
                if at > start:
                    yield block[start:at]
                yield zeros
                start = at = at + zeros
            else:
                at += LEAST_HOLE
        if len(block) > start:
            yield block[start:]


def write_block(fd: int, block: Block) -> int:
    """Write the next bytes of a new file, or leave a hole; return how many bytes that is. Raises: OSError.

    After the last block, give the file its length (ftruncate): a hole at the end does not.
    """
    if isinstance(block, int):
        os.lseek(fd, block, os.SEEK_CUR)
        return block
    write_all(fd, block)
    return len(block)


def _leading_zeros(block: memoryview) -> int:
    """Return how many zeros block, of at least LEAST_HOLE bytes, begins with, in multiples of that; all, if all are."""
    zeros = 0
    while zeros < len(block) and _ZEROS.startswith(block[zeros : zeros + LEAST_HOLE]):
        zeros = min(zeros + LEAST_HOLE, len(block))
    return zeros
