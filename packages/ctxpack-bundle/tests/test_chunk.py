"""The bytes of gzip members, and the members that are refused."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.chunk import inflate_chunk, make_chunk
from ctxpack_identity import IntegrityError, digest_of

NOISE = random.Random(1).randbytes(300_000)


@given(st.binary(max_size=5000))
def test_a_chunk_unpacks_to_its_content(content: bytes) -> None:
    chunk = make_chunk(content)
    assert chunk.content_size == len(content)
    assert chunk.digest == digest_of(chunk.data)
    assert inflate_chunk(chunk.data, len(content), where="chunk") == content
    assert gzip.decompress(chunk.data) == content
    assert make_chunk(content) == chunk


@pytest.mark.parametrize("size", [96 << 10, (96 << 10) + 1, 131_070, 131_071, 196_605, 300_000])
def test_incompressible_content_is_stored(size: int) -> None:
    content = NOISE[:size]
    chunk = make_chunk(content)
    blocks = -(-size // 65_535)
    if size > 96 << 10:
        assert len(chunk.data) == 10 + size + 5 * blocks + 8
        assert content[:65_535] in chunk.data
    assert inflate_chunk(chunk.data, size, where="chunk") == gzip.decompress(chunk.data) == content


def test_compressible_content_is_compressed() -> None:
    assert len(make_chunk(bytes(4 << 20)).data) < 100_000
    assert len(make_chunk(b"0123456789abcdef" * 1000).data) < 1000


def test_the_gzip_header_holds_nothing_of_the_machine() -> None:
    for content in (b"text", NOISE):
        assert make_chunk(content).data[:10].hex() == "1f8b08000000000000ff"


def test_a_reader_ignores_time_and_system_in_the_gzip_header() -> None:
    for level in range(10):
        assert inflate_chunk(gzip.compress(b"content", level, mtime=12345), 7, where="chunk") == b"content"


def _named() -> bytes:
    data = io.BytesIO()
    with gzip.GzipFile("name", "wb", fileobj=data) as file:
        file.write(b"content")
    return data.getvalue()


NAMED = _named()
GOOD = gzip.compress(b"content")
BOMB = gzip.compress(bytes(80 << 20))
HUGE_NAME = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"n" * 10_000_000

REFUSED = [
    (b"", 0, "not a plain gzip member: expected 1f8b0800"),
    (b"\x1f\x8b", 7, "not a plain gzip member: expected 1f8b0800, got 1f8b"),
    (b"content", 7, "not a plain gzip member"),
    (zlib.compress(b"content"), 7, "not a plain gzip member"),
    (GOOD[10:], 7, "not a plain gzip member"),
    (b"\x1f\x8b\x09" + GOOD[3:], 7, "not a plain gzip member: expected 1f8b0800, got 1f8b0900"),
    (GOOD[:3] + b"\xe0" + GOOD[4:], 7, "not a plain gzip member"),
    (NAMED, 7, "not a plain gzip member: expected 1f8b0800, got 1f8b0808"),
    (HUGE_NAME, 7, "not a plain gzip member"),
    (b"\0" + GOOD, 7, "not a plain gzip member"),
    (GOOD[:10] + b"\xff" * 20, 7, "damaged gzip member"),
    (GOOD[:-8] + b"\0\0\0\0" + GOOD[-4:], 7, "damaged gzip member"),
    (GOOD[:-4] + struct.pack("<I", 8), 7, "damaged gzip member"),
    (GOOD[:4], 7, "gzip member ends too early"),
    (GOOD[:12], 7, "gzip member ends too early"),
    (GOOD[:-1], 7, "gzip member ends too early"),
    (GOOD[:-8], 7, "gzip member ends too early"),
    (GOOD + b"\0", 7, "bytes after the gzip member: got 1 bytes"),
    (GOOD + GOOD, 7, "bytes after the gzip member"),
    (GOOD + bytes(512), 7, "bytes after the gzip member: got 512 bytes"),
    (GOOD, 6, "chunk unpacks to more than announced: expected 6 bytes"),
    (GOOD, 0, "chunk unpacks to more than announced: expected 0 bytes"),
    (GOOD, 8, "chunk unpacks to less than announced: expected 8 bytes, got 7"),
    (GOOD, -1, "no size of a chunk: expected 0 to 67108864 bytes, got -1"),
    (BOMB, -(2**62), "no size of a chunk"),
    (GOOD, 2**62, "no size of a chunk: expected 0 to 67108864 bytes, got 4611686018427387904"),
    (BOMB, 80 << 20, "no size of a chunk"),
    (BOMB, 1000, "chunk unpacks to more than announced"),
    (BOMB, 64 << 20, "chunk unpacks to more than announced"),
]


@pytest.mark.parametrize(("data", "size", "fault"), REFUSED, ids=range(len(REFUSED)))
def test_a_chunk_that_is_not_one_plain_gzip_member_is_refused(data: bytes, size: int, fault: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        inflate_chunk(data, size, where="layer 3")
    assert str(caught.value).startswith(f"layer 3: {fault}")
    assert str(caught.value).endswith("; pull again; if the error stays, the pack in the registry is damaged")


def test_a_flipped_bit_is_an_error_or_changes_nothing() -> None:
    """A reader ignores time and system in the header, and the bits that fill the last byte before the checksum."""
    content = b"some content, some content"
    data = make_chunk(content).data
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            try:
                assert inflate_chunk(bytes(flipped), len(content), where="chunk") == content
            except IntegrityError:
                continue
            assert position in (4, 5, 6, 7, 8, 9, len(data) - 9)
