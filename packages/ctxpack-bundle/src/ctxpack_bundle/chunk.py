"""Chunks: where the tar stream is cut, and the gzip member each piece becomes. FORMAT.md, "Chunks".

Where a stream is cut and how a piece is squeezed are the writer's choice; any choice unpacks to the same pack.
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
with contextlib.suppress(ImportError):  # no wheel for this platform; zlib does the same, slower
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
_MANY = 256  # pieces; with fewer, a small change would resend too much of a pack
_MOST = 12_000  # pieces; the OCI manifest that lists them has at most 4 MiB, some 300 bytes for each
_FARTHEST = 16 * MIB  # enough for packs of 375 GiB
_END = 64  # bytes of a grain that decide how high it is
_MIDDLE = 1024  # bytes of a grain that tell whether it is text, or something else that shrinks
_FEW = 128  # different bytes among those

_PLAIN = b"\x1f\x8b\x08\x00"  # RFC 1952: deflate; neither name, comment, extra field nor header checksum
_HEADER = _PLAIN + b"\x00\x00\x00\x00\x00\xff"  # no time, unknown system
_STORED_BLOCK = 65_535  # bytes, RFC 1951 3.2.4
_SAMPLE = 32 << 10  # bytes, from three places
_WORTHWHILE = 0.9  # squeezing that saves less than a tenth costs every reader more time than it saves


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One gzip member. data: its bytes; digest: of data; content_size: bytes it unpacks to."""

    digest: Digest
    data: bytes
    content_size: int


class Reader(Protocol):
    """What cut reads from; readinto returns 0 at the end."""

    def readinto(self, buffer: memoryview, /) -> int: ...


def reach(total: int) -> int:
    """Return how far a piece's end is the highest, in bytes, for a pack of total bytes; pieces have twice that.

    One is twice the other: versions of a pack mostly agree on it, and where they do not, what ends a piece with the
    larger one mostly does so with the smaller one too.
    """
    size = _NEAR
    while (size < _FAR and total // (2 * size) > _MANY) or (size < _FARTHEST and total // (2 * size) > _MOST):
        size *= 2
    return size


def cut(stream: Reader, total: int) -> Iterator[bytes]:
    """Yield stream in pieces, cut where its content says so, each a copy of its own.

    total: bytes of the whole pack, which decides how large pieces are. Memory: a few pieces.
    """
    from pyfastcdc import FastCDC  # needed by writers only

    chunker = FastCDC(_GRAIN, min_size=_GRAIN // 4, max_size=4 * _GRAIN)
    grains = (bytes(grain.data) for grain in chunker.cut_stream(stream))
    near = reach(total)
    return join_grains(grains, near, min(3 * max(near, _FAR), MAX_CHUNK_BYTES - 4 * _GRAIN))


def join_grains(grains: Iterable[bytes], reach: int, most: int) -> Iterator[bytes]:
    """Yield grains joined to pieces: one ends with each grain that is the highest within reach, before and after it.

    How high a grain is, its last bytes say. So where a piece ends depends on what is near, hardly ever on where others
    ended, and versions of a pack are in step again right after a change. Only a piece that becomes too long ends at
    the highest so far: one of more than most bytes. reach: bytes; those of grains that shrink count half.
    """
    joined: list[bytes] = []
    higher: deque[tuple[int, int]] = deque()  # positions and falling heights of those within reach
    position = size = 0
    summit, until = 0, 0  # how many of joined end the next piece, if none is higher before that position
    for grain in grains:
        joined.append(grain)
        size += len(grain)
        position += len(grain) // 2 if _shrinks(grain) else len(grain)
        if summit and (position >= until or size > most):
            yield _take(joined, summit)
            size, summit = sum(map(len, joined)), 0
        height = zlib.crc32(grain[-_END:])
        while higher and higher[-1][1] < height:
            higher.pop()
        while higher and higher[0][0] <= position - reach:
            higher.popleft()
        if not higher or size > most:
            summit, until = len(joined), position + reach
        higher.append((position, height))
    if joined:
        yield _take(joined, len(joined))


def _take(grains: list[bytes], count: int) -> bytes:
    """Return the first count grains as one and let go of them, so that they are not in memory twice for long."""
    taken = b"".join(grains[:count])
    del grains[:count]
    return taken


def make_chunk(content: bytes) -> Chunk:
    """Return content as a gzip member (RFC 1952), stored as it is when squeezing hardly helps."""
    body = _squeezed(content) if _is_compressible(content) else _stored(content)
    data = b"".join([_HEADER, *body, struct.pack("<II", codec.crc32(content), len(content) & 0xFFFFFFFF)])
    return Chunk(digest=digest_of(data), data=data, content_size=len(content))


def inflate_chunk(data: bytes, content_size: int, *, where: str) -> bytes:
    """Return what a chunk unpacks to.

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
    return sum(map(len, _squeezed(sample))) < _WORTHWHILE * len(sample)


def _shrinks(grain: bytes) -> bool:
    """Whether grain is likely to shrink well: cheaper than to try, and the same whatever library squeezes."""
    start = max(0, len(grain) - _MIDDLE) // 2
    return len(set(grain[start : start + _MIDDLE])) <= _FEW


def _squeezed(content: bytes) -> list[bytes]:
    squeezer = codec.compressobj(1, zlib.DEFLATED, -15)
    return [squeezer.compress(content), squeezer.flush()]


def _stored(content: bytes) -> list[bytes | memoryview]:
    view, blocks = memoryview(content), list[bytes | memoryview]()
    for start in range(0, len(content), _STORED_BLOCK):
        block = view[start : start + _STORED_BLOCK]
        last = start + _STORED_BLOCK >= len(content)
        blocks += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    return blocks
