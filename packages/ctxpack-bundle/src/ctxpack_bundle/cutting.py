"""Cutting: where the pieces of the tar stream end. FORMAT.md, "Chunks".

The writer chooses where to cut a stream; every choice unpacks to the same pack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

from pyfastcdc import FastCDC

from ctxpack_bundle.chunk import MAX_PIECE_BYTES

__all__ = ["FINER", "LEAST_AVERAGE", "MOST_AVERAGE", "cut"]

LEAST_AVERAGE: Final = 64 << 10  # bytes of a piece
MOST_AVERAGE: Final = 512 << 10
FINER: Final = 16  # pieces of listings are that much smaller: one line of each changed file is in them

_FARTHEST = 64 << 10  # bytes that a cut moves at most


class Reader(Protocol):
    """The source of cut. readinto returns 0 at the end.

    starts: offsets at which a member begins, ascending; complete as far as the source was read. cut empties it.
    """

    starts: deque[int]

    def readinto(self, buffer: memoryview, /) -> int: ...


def cut(stream: Reader, average: int) -> Iterator[bytes]:
    """Yield stream in pieces whose ends depend on the bytes near them alone. average: bytes of a piece, about.

    FastCDC cuts the stream, and a cut that has the start of a member within half the average moves to the nearest
    start. So a changed file costs hardly more than its own pieces. Memory: a few pieces.
    """
    near = min(average // 2, _FARTHEST)
    most = min(4 * average, MAX_PIECE_BYTES - 2 * near)
    # Asked for 13/16, it gives pieces of the average; level 2 keeps their sizes close to it.
    chunker = FastCDC(13 * average // 16, min_size=average // 4, max_size=most, normalized_chunking=2)
    waiting = _Waiting()
    begin = position = 0  # offsets of waiting and of its end
    found: deque[int] = deque()  # cuts of FastCDC whose neighbourhood was not seen yet
    for grain in chunker.cut_stream(stream):
        waiting.add(bytes(grain.data))
        position += grain.length
        found.append(position)
        while found and found[0] + near <= position:
            end = _nearest(stream.starts, found.popleft(), near)
            if end > begin:
                yield waiting.take(end - begin)
                begin = end
    while len(found) > 1:
        end = _nearest(stream.starts, found.popleft(), near)
        if end > begin:
            yield waiting.take(end - begin)
            begin = end
    if position > begin:
        yield waiting.take(position - begin)


class _Waiting:
    """Bytes from the last cut on. Most pieces of a large file are what was added, and are not copied again."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()

    def add(self, data: bytes) -> None:
        self._parts.append(data)

    def take(self, size: int) -> bytes:
        """Return the first size bytes, and remove them."""
        if len(self._parts[0]) == size:
            return self._parts.popleft()
        taken: list[bytes] = []
        while size:
            part = self._parts.popleft()
            taken.append(part[:size])
            if len(part) > size:
                self._parts.appendleft(part[size:])
            size -= len(taken[-1])
        return b"".join(taken)


def _nearest(starts: deque[int], offset: int, near: int) -> int:
    """Return the start that is nearest to offset, the earlier of two, or offset when none is within near of it."""
    while starts and starts[0] < offset - near:
        starts.popleft()
    nearest = offset
    distance = near + 1
    for start in starts:
        if abs(start - offset) >= distance:
            break
        nearest, distance = start, abs(start - offset)
    return nearest
