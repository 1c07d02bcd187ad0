"""Chunks: the gzip member that a piece becomes, and the way back. FORMAT.md, "Chunks".

The writer chooses how to compress a piece; every choice unpacks to the same pack.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import Any

import msgspec

from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_identity import Digest, IntegrityError, digest_of

codec: Any = zlib
with contextlib.suppress(ImportError):  # no wheel for this platform: zlib does the same, slower
    from isal import isal_zlib as codec

__all__ = ["MAX_CHUNK_BYTES", "Chunk", "inflate_chunk", "make_chunk"]

MAX_CHUNK_BYTES = 64 << 20  # uncompressed; what a reader accepts

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
