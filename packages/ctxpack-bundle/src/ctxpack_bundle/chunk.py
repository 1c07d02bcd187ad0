"""Chunks: where the tar stream is cut, and the gzip member each piece becomes. FORMAT.md, "Chunks".

The writer chooses where to cut a stream and how to compress a piece; every choice unpacks to the same pack.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec

from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_identity import Digest, IntegrityError, digest_of

codec: Any = zlib
with contextlib.suppress(ImportError):  # no wheel for this platform: zlib does the same, slower
    from isal import isal_zlib as codec

__all__ = [
    "MAX_CHUNK_BYTES",
    "Chunk",
    "cut",
    "inflate_chunk",
    "join_grains",
    "make_chunk",
    "reach",
]

MIB = 1 << 20
MAX_CHUNK_BYTES = 64 * MIB  # uncompressed; what a reader accepts

_GRAIN = 128 << 10  # bytes on average; FastCDC cuts none longer than four times that
_NEAR, _FAR = 1 * MIB, 2 * MIB  # reach: pieces of 2 or 4 MiB on average, of which several are in memory at once
_MANY = 256  # pieces; with fewer, a push after a small change would send too much of a pack again
_MOST = 12_000  # pieces; the image manifest that lists them has at most 4 MiB, some 300 bytes for each
_FARTHEST = 16 * MIB  # enough for packs of 375 GiB
_END = 64  # bytes at the end of a grain that its score is computed from
_MIDDLE = 1024  # bytes in the middle of a grain that show whether it is text, or something else that compresses well
_FEW = 128  # different values among these bytes

_PLAIN = b"\x1f\x8b\x08\x00"  # RFC 1952: deflate; neither name, comment, extra field nor header checksum
_HEADER = _PLAIN + b"\x00\x00\x00\x00\x00\xff"  # no time, unknown system
_STORED_BLOCK = 65_535  # bytes, RFC 1951 3.2.4
_SAMPLE = 32 << 10  # bytes, from three places
_WORTHWHILE = 0.9  # compression that saves less than a tenth costs every reader more time than it saves


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One gzip member. data: its bytes; digest: of data; content_size: bytes it unpacks to."""

    digest: Digest
    data: bytes
    content_size: int


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
    from pyfastcdc import FastCDC  # needed by writers only

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


def make_chunk(content: bytes) -> Chunk:
    """Return content as a gzip member (RFC 1952), stored when compression hardly helps."""
    body = _compressed(content) if _is_compressible(content) else _stored(content)
    data = b"".join([_HEADER, *body, struct.pack("<II", codec.crc32(content), len(content) & 0xFFFFFFFF)])
    return Chunk(digest=digest_of(data), data=data, content_size=len(content))


def inflate_chunk(data: bytes, content_size: int, *, where: str) -> bytes:
    """Return the content of a chunk.

    content_size: bytes expected. Raises: IntegrityError unless data is exactly one gzip member of that content.
    """
    if not 0 <= content_size <= MAX_CHUNK_BYTES:
        raise _refused("no size of a chunk", where, f"0 to {MAX_CHUNK_BYTES} bytes", str(content_size))
    if not data.startswith(_PLAIN):
        raise _refused("not a plain gzip member", where, _PLAIN.hex(), data[:4].hex())
    inflater = codec.decompressobj(31)
    try:
        content: bytes = inflater.decompress(data, content_size + 1)
    except (zlib.error, codec.error) as error:
        raise _refused(f"damaged gzip member: {error}", where) from error
    if len(content) > content_size:
        raise _refused("chunk unpacks to more than announced", where, f"{content_size} bytes")
    if not inflater.eof:
        raise _refused("gzip member ends too early", where, got=f"{len(content)} bytes of content")
    if len(content) < content_size:
        raise _refused("chunk unpacks to less than announced", where, f"{content_size} bytes", str(len(content)))
    if inflater.unused_data:
        raise _refused("bytes after the gzip member", where, got=f"{len(inflater.unused_data)} bytes")
    return content


def _refused(what: str, where: str, expected: str = "", got: str = "") -> IntegrityError:
    return IntegrityError(what, where=where, expected=expected, got=got, fix=IN_REGISTRY)


def _is_compressible(content: bytes) -> bool:
    if len(content) <= 3 * _SAMPLE:
        return True
    middle = len(content) // 2
    sample = b"".join([content[:_SAMPLE], content[middle : middle + _SAMPLE], content[-_SAMPLE:]])
    return sum(map(len, _compressed(sample))) < _WORTHWHILE * len(sample)


def _compresses_well(grain: bytes) -> bool:
    """Return whether grain probably compresses well. Cheaper than to try, and the same with every library."""
    start = max(0, len(grain) - _MIDDLE) // 2
    return len(set(grain[start : start + _MIDDLE])) <= _FEW


def _compressed(content: bytes) -> list[bytes]:
    compressor = codec.compressobj(1, zlib.DEFLATED, -15)
    return [compressor.compress(content), compressor.flush()]


def _stored(content: bytes) -> list[bytes | memoryview]:
    view, blocks = memoryview(content), list[bytes | memoryview]()
    for start in range(0, len(content), _STORED_BLOCK):
        block = view[start : start + _STORED_BLOCK]
        last = start + _STORED_BLOCK >= len(content)
        blocks += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    return blocks
