"""Cutting: which grains of the tar stream make up a piece. FORMAT.md, "Chunks".

The writer chooses where to cut a stream; every choice unpacks to the same pack.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

from pyfastcdc import FastCDC

from ctxpack_bundle.chunk import MAX_CHUNK_BYTES

__all__ = ["cut", "join_grains", "reach"]

MIB = 1 << 20

_GRAIN = 128 << 10  # bytes on average; FastCDC cuts none longer than four times that
_NEAR, _FAR = 1 * MIB, 2 * MIB  # reach: pieces of 2 or 4 MiB on average, of which several are in memory at once
_MANY = 256  # pieces; with fewer, a push after a small change would send too much of a pack again
_MOST = 12_000  # pieces; the image manifest that lists them has at most 4 MiB, some 300 bytes for each
_FARTHEST = 16 * MIB  # enough for packs of 375 GiB
_END = 64  # bytes at the end of a grain that its score is computed from
_MIDDLE = 1024  # bytes in the middle of a grain that show whether it is text, or something else that compresses well
_FEW = 128  # different values among these bytes


class Reader(Protocol):
    """The source of cut. readinto returns 0 at the end."""

    def readinto(self, buffer: memoryview, /) -> int: ...


def reach(total: int) -> int:
    """Return the window, in bytes on either side, in which a cut point must have the highest score.

    total: bytes of the pack. A piece has twice the window on average. Windows double, so that two versions of a pack
    mostly have the same window; if not, most cut points of the larger window are cut points of the smaller one too.
    """
    size = _NEAR
    while (size < _FAR and total // (2 * size) > _MANY) or (size < _FARTHEST and total // (2 * size) > _MOST):
        size *= 2
    return size


def cut(stream: Reader, total: int) -> Iterator[bytes]:
    """Yield stream in pieces whose ends depend on the content.

    total: bytes of the whole pack, which the size of pieces depends on. Memory: a few pieces.
    """
    chunker = FastCDC(_GRAIN, min_size=_GRAIN // 4, max_size=4 * _GRAIN)
    grains = (bytes(grain.data) for grain in chunker.cut_stream(stream))
    near = reach(total)
    return join_grains(grains, near, min(3 * max(near, _FAR), MAX_CHUNK_BYTES - 4 * _GRAIN))


def join_grains(grains: Iterable[bytes], reach: int, most: int) -> Iterator[bytes]:
    """Yield grains joined to pieces; one ends at every grain whose score is the maximum within reach on either side.

    The score is the CRC-32 of the last 64 bytes. So a cut depends on the grains near it and hardly ever on other cuts,
    and two versions of a pack have the same cuts again right after a change. A piece of more than most bytes is an
    exception: it ends at its highest score so far. reach: bytes; those of a grain that compresses well count half.
    """
    joined: list[bytes] = []
    candidates: deque[tuple[int, int]] = deque()  # (position, score) of grains within reach; scores fall
    position = size = 0
    count, until = 0, 0  # the next piece is the first count of joined, unless a higher score comes before until
    for grain in grains:
        joined.append(grain)
        size += len(grain)
        position += len(grain) // 2 if _compresses_well(grain) else len(grain)
        if count and (position >= until or size > most):
            yield _take(joined, count)
            size, count = sum(map(len, joined)), 0
        score = zlib.crc32(grain[-_END:])
        while candidates and candidates[-1][1] < score:
            candidates.pop()
        while candidates and candidates[0][0] <= position - reach:
            candidates.popleft()
        if not candidates or size > most:
            count, until = len(joined), position + reach
        candidates.append((position, score))
    if joined:
        yield _take(joined, len(joined))


def _take(grains: list[bytes], count: int) -> bytes:
    """Return the first count grains joined, and remove them from grains: two copies in memory would be too much."""
    taken = b"".join(grains[:count])
    del grains[:count]
    return taken


def _compresses_well(grain: bytes) -> bool:
    """Return whether grain probably compresses well. Cheaper than to try, and the same with every library."""
    start = max(0, len(grain) - _MIDDLE) // 2
    return len(set(grain[start : start + _MIDDLE])) <= _FEW
