"""Chunks: where the tar stream is cut, and the gzip member each piece becomes. FORMAT.md, "Chunks".

Where a stream is cut and how a piece is squeezed are the writer's choice; any choice unpacks to the same pack.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec

from ctxpack_identity import Digest, IntegrityError, digest_of

codec: Any = zlib
with contextlib.suppress(ImportError):  # no wheel for this platform; zlib does the same, slower
    from isal import isal_zlib as codec

__all__ = [
    "MAX_CHUNK_BYTES",
    "Chunk",
    "average_size",
    "cut",
    "inflate_chunk",
    "join_pieces",
    "least_size",
    "make_chunk",
]

MIB = 1 << 20
MAX_CHUNK_BYTES = 64 * MIB  # uncompressed; what a reader accepts

_SMALLEST, _LARGEST = 1 * MIB, 4 * MIB  # average chunk; pyfastcdc cuts no larger ones
_MANY = 384  # chunks; with fewer, a small change would resend too much of a pack
_MOST = 12_000  # chunks; the OCI manifest that lists them has at most 4 MiB, some 300 bytes for each
_LONGEST = 6 * MIB  # piece; several are in memory at once
_LARGEST_JOINED = 32 * MIB  # enough for packs of 375 GiB
_END = 64  # bytes of a piece that decide whether it ends a join

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


def average_size(total: int) -> int:
    """Return the average chunk for a pack of total bytes: a power of two, so that most versions of it agree."""
    size = _SMALLEST
    while size < _LARGEST and total // size > _MANY:
        size *= 2
    return size


def least_size(total: int) -> int:
    """Return what pieces of a pack of total bytes are joined to, at least: 0 (they are not) or a power of two."""
    size = _LARGEST
    while size < _LARGEST_JOINED and total // size > _MOST:
        size *= 2
    return size if size > _LARGEST else 0


def join_pieces(pieces: Iterable[bytes], least: int, most: int) -> Iterator[bytes]:
    """Yield pieces, neighbours joined to at least least bytes each; the last one may be shorter.

    A join ends after a piece whose own end says so, and at the latest when it has most bytes. So two versions of a
    pack fall into step again a few joins after a change.
    """
    joined: list[bytes] = []
    size = 0
    for piece in pieces:
        joined.append(piece)
        size += len(piece)
        if size >= most or (size >= least and zlib.crc32(piece[-_END:]) % 2 == 0):
            yield b"".join(joined)
            joined, size = [], 0
    if joined:
        yield b"".join(joined)


def cut(stream: Reader, total: int) -> Iterator[bytes]:
    """Yield stream in pieces, cut where its content says so (FastCDC), each a copy of its own.

    total: bytes of the whole pack, which decides how large pieces are. Memory: a few pieces.
    """
    from pyfastcdc import FastCDC  # needed by writers only

    average = average_size(total)
    chunker = FastCDC(average, min_size=min(average // 4, MIB), max_size=min(2 * average, _LONGEST))
    pieces = (bytes(piece.data) for piece in chunker.cut_stream(stream))
    least = least_size(total)
    return join_pieces(pieces, least, MAX_CHUNK_BYTES - 2 * _LARGEST) if least else pieces


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
        raise IntegrityError(
            "no size of a chunk", where=where, expected=f"0 to {MAX_CHUNK_BYTES} bytes", got=str(content_size)
        )
    if not data.startswith(_PLAIN):
        raise IntegrityError("not a plain gzip member", where=where, expected=_PLAIN.hex(), got=data[:4].hex())
    inflater = codec.decompressobj(31)
    try:
        content: bytes = inflater.decompress(data, content_size + 1)
    except (zlib.error, codec.error) as error:
        raise IntegrityError(f"damaged gzip member: {error}", where=where) from error
    if len(content) > content_size:
        raise IntegrityError("chunk unpacks to more than announced", where=where, expected=f"{content_size} bytes")
    if not inflater.eof:
        raise IntegrityError("gzip member ends too early", where=where, got=f"{len(content)} bytes of content")
    if len(content) < content_size:
        raise IntegrityError(
            "chunk unpacks to less than announced",
            where=where,
            expected=f"{content_size} bytes",
            got=str(len(content)),
        )
    if inflater.unused_data:
        raise IntegrityError("bytes after the gzip member", where=where, got=f"{len(inflater.unused_data)} bytes")
    return content


def _is_compressible(content: bytes) -> bool:
    if len(content) <= 3 * _SAMPLE:
        return True
    middle = len(content) // 2
    sample = b"".join([content[:_SAMPLE], content[middle : middle + _SAMPLE], content[-_SAMPLE:]])
    return sum(map(len, _squeezed(sample))) < _WORTHWHILE * len(sample)


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
