"""Chunks: the gzip member that a piece becomes, and the way back. FORMAT.md, "Chunks".

The writer chooses how to compress a piece; every choice unpacks to the same pack.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ctxpack_bundle.packmanifest import MAX_PACK_MANIFEST_BYTES
from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_bundle.tar import BLOCK
from ctxpack_identity import IntegrityError

codec: Any = zlib
with contextlib.suppress(ImportError):  # no wheel for this platform: zlib does the same, slower
    from isal import isal_zlib as codec

__all__ = [
    "MAX_CHUNK_BYTES",
    "MAX_FIRST_PIECE_BYTES",
    "MAX_PIECE_BYTES",
    "Piece",
    "both_chunks",
    "inflate_chunk",
    "inflate_first",
    "make_chunk",
    "make_chunks",
    "runs",
]

MAX_PIECE_BYTES: Final = 1 << 20  # what a reader accepts of every piece but the first
MAX_CHUNK_BYTES: Final = MAX_PIECE_BYTES + (1 << 16)
MAX_FIRST_PIECE_BYTES: Final = MAX_PACK_MANIFEST_BYTES + BLOCK

_PLAIN = b"\x1f\x8b\x08\x00"  # RFC 1952: deflate; neither name, comment, extra field nor header checksum
_HEADER = _PLAIN + b"\x00\x00\x00\x00\x00\xff"  # no time, unknown system
_TRAILER = struct.Struct("<II")  # RFC 1952: CRC-32 and size of the content
_STORED = struct.Struct("<BHH")  # RFC 1951, 3.2.4: last block or not, size, complement of the size
_STORED_BLOCK = 65_535  # bytes
_RUN, _LONGEST_RUN = 1 << 20, 4 << 20  # bytes of pieces that are all stored or all compressed
_SAMPLE = 32 << 10  # bytes, from three places of a run
_WORTHWHILE = 0.95  # compression that saves less costs every reader more time than it saves


class Piece(NamedTuple):
    """Bytes of the stream that become one chunk. sha256: 32 bytes, of data."""

    data: bytes
    sha256: bytes

    @classmethod
    def of(cls, data: bytes) -> Piece:
        """Return data as a piece, hashed."""
        return cls(data, hashlib.sha256(data).digest())


def runs(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Yield pieces in runs for make_chunks: what is stored in one pack is then stored in the next, wherever it is.

    A run ends at the first piece past 1 MiB whose digest ends in four zero bits, and before it has more than 4 MiB.
    """
    run, size = list[Piece](), 0
    for piece in pieces:
        if run and size + len(piece.data) > _LONGEST_RUN:
            yield run
            run, size = [], 0
        run.append(piece)
        size += len(piece.data)
        if size > _RUN and not piece.sha256[-1] & 0x0F:
            yield run
            run, size = [], 0
    if run:
        yield run


def make_chunks(pieces: Sequence[bytes]) -> list[bytes]:
    """Return the pieces of a run as chunks: all stored when compression hardly helps the run, else all compressed."""
    make = _compressed if _is_compressible(pieces) else _stored
    return [_member(piece, make(piece)) for piece in pieces]


def make_chunk(piece: bytes) -> bytes:
    """Return a piece that is a run of its own as a gzip member (RFC 1952)."""
    return make_chunks([piece])[0]


def both_chunks(piece: bytes) -> tuple[bytes, bytes]:
    """Return the two chunks that this writer makes of a piece: the compressed one, and the one that stores it."""
    return _member(piece, _compressed(piece)), _member(piece, _stored(piece))


def inflate_chunk(data: bytes | memoryview, size: int, *, where: str) -> bytes:
    """Return the piece of a chunk.

    size: bytes expected. Raises: IntegrityError unless data is exactly one gzip member of that content.
    """
    if not 0 <= size <= MAX_PIECE_BYTES:
        raise _refused("no size of a piece", where, f"0 to {MAX_PIECE_BYTES} bytes", str(size))
    content = _copied(data, size)
    if content is None:
        content = _inflated(data, size, where)
    if len(content) < size:
        raise _refused("chunk unpacks to less than announced", where, f"{size} bytes", str(len(content)))
    return content


def inflate_first(data: bytes, *, where: str) -> bytes:
    """Return the first piece of a pack, whose size is not announced. Raises: IntegrityError, as inflate_chunk does."""
    return _inflated(data, MAX_FIRST_PIECE_BYTES, where)


def _inflated(data: bytes | memoryview, most: int, where: str) -> bytes:
    """Return the content of the only member in data, at most most bytes: inflating stops there."""
    if data[:4] != _PLAIN:
        raise _refused("not a plain gzip member", where, _PLAIN.hex(), data[:4].hex())
    inflater = codec.decompressobj(31)
    try:
        content: bytes = inflater.decompress(data, most + 1)
    except (zlib.error, codec.error) as error:
        raise _refused(f"damaged gzip member: {error}", where) from error
    if len(content) > most:
        raise _refused("chunk unpacks to more than announced", where, f"{most} bytes")
    if not inflater.eof:
        raise _refused("gzip member ends too early", where, got=f"{len(content)} bytes of content")
    if inflater.unused_data:
        raise _refused("bytes after the gzip member", where, got=f"{len(inflater.unused_data)} bytes")
    return content


def _copied(data: bytes | memoryview, size: int) -> bytes | None:
    """Return the content of a member that stores size bytes as this writer does, else None. No inflater is made."""
    end = len(data) - _TRAILER.size
    if end < len(_HEADER) or data[:4] != _PLAIN:
        return None
    view, start, last = memoryview(data), len(_HEADER), 0
    blocks: list[memoryview] = []
    while not last:
        if start + _STORED.size > end:
            return None
        last, length, complement = _STORED.unpack_from(view, start)
        start += _STORED.size
        if last > 1 or length != complement ^ 0xFFFF or start + length > end:
            return None
        blocks.append(view[start : start + length])
        start += length
    content = b"".join(blocks)
    if start != end or len(content) != size or _TRAILER.unpack_from(view, end) != (codec.crc32(content), size):
        return None
    return content


def _refused(what: str, where: str, expected: str = "", got: str = "") -> IntegrityError:
    return IntegrityError(what, where=where, expected=expected, got=got, fix=IN_REGISTRY)


def _is_compressible(pieces: Sequence[bytes]) -> bool:
    sample = _sample(pieces)
    return sum(map(len, _compressed(sample))) < _WORTHWHILE * len(sample)


def _sample(pieces: Sequence[bytes]) -> bytes:
    """Return bytes from the start, the middle and the end of the run."""
    size = sum(map(len, pieces))
    if size <= 3 * _SAMPLE:
        return b"".join(pieces)
    return b"".join(_cut_out(pieces, start) for start in (0, (size - _SAMPLE) // 2, size - _SAMPLE))


def _cut_out(pieces: Sequence[bytes], start: int) -> bytes:
    taken, left = list[bytes](), _SAMPLE
    for piece in pieces:
        if start < len(piece):
            taken.append(piece[start : start + left])
            left -= len(taken[-1])
            if not left:
                break
        start = max(0, start - len(piece))
    return b"".join(taken)


def _member(piece: bytes, body: list[bytes] | list[bytes | memoryview]) -> bytes:
    return b"".join([_HEADER, *body, _TRAILER.pack(codec.crc32(piece), len(piece))])


def _compressed(content: bytes) -> list[bytes | memoryview]:
    return [codec.compress(content, 1, -15)]  # with isal, now and then other bytes for the same content


def _stored(content: bytes) -> list[bytes | memoryview]:
    view, blocks = memoryview(content), list[bytes | memoryview]()
    for start in range(0, len(content) or 1, _STORED_BLOCK):
        block = view[start : start + _STORED_BLOCK]
        last = start + _STORED_BLOCK >= len(content)
        blocks += [_STORED.pack(last, len(block), len(block) ^ 0xFFFF), block]
    return blocks
