"""Chunks: where streams are cut, the bytes of gzip members, and the members that are refused."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.chunk import (
    MAX_CHUNK_BYTES,
    MIB,
    cut,
    inflate_chunk,
    join_grains,
    make_chunk,
    reach,
)
from ctxpack_identity import IntegrityError, digest_of

GIB = 1 << 30
NOISE = random.Random(1).randbytes(300_000)


@pytest.mark.parametrize(
    ("total", "wanted"),
    [
        (0, 1),
        (512 * MIB, 1),
        (GIB, 2),
        (46 * GIB, 2),
        (48 * GIB, 4),
        (100 * GIB, 8),
        (375 * GIB, 16),
        (10_000 * GIB, 16),
    ],
)
def test_larger_packs_have_larger_pieces_and_at_most_12_000(total: int, wanted: int) -> None:
    assert reach(total) == wanted * MIB
    if total <= 375 * GIB:
        assert total // (2 * reach(total)) <= 12_000


def test_the_pieces_together_are_the_stream() -> None:
    assert b"".join(cut(io.BytesIO(NOISE * 20), len(NOISE) * 20)) == NOISE * 20
    assert list(cut(io.BytesIO(b""), 0)) == []


def test_an_error_of_the_stream_is_an_error_of_the_cut() -> None:
    class Failing(io.RawIOBase):
        def readinto(self, buffer: object) -> int:
            raise IntegrityError("file differs")

    with pytest.raises(IntegrityError, match=r"^file differs$"):
        list(cut(Failing(), 1))


def test_an_insertion_of_a_few_kib_changes_few_pieces() -> None:
    data = random.Random(2).randbytes(64 * MIB)
    changed = data[: 32 * MIB] + random.Random(3).randbytes(5000) + data[32 * MIB :]
    before = {digest_of(piece) for piece in cut(io.BytesIO(data), len(data))}
    after = {digest_of(piece) for piece in cut(io.BytesIO(changed), len(changed))}
    assert len(before) > 20
    assert len(before & after) >= 0.8 * len(before)


def noise_grains(seed: int, count: int) -> list[bytes]:
    noise = random.Random(seed)
    return [noise.randbytes(noise.randrange(256, 2048)) for _ in range(count)]


def test_versions_have_the_same_cuts_right_after_a_change() -> None:
    grains = noise_grains(4, 3000)
    before = set(join_grains(grains, 12_000, 40_000))
    lost = []
    for at in range(0, 3000, 30):
        changed = [*grains[:at], NOISE[:1000], *grains[at:]]
        lost.append(len(before - set(join_grains(changed, 12_000, 40_000))))
    assert len(before) > 100
    assert max(lost) <= 4
    assert sum(lost) / len(lost) < 1.5


def test_cuts_depend_only_on_grains_nearby() -> None:
    grains = noise_grains(5, 2000)
    whole = list(join_grains(grains, 12_000, 40_000))
    for start in (1, 700, 1400):
        assert list(join_grains(grains[start:], 12_000, 40_000))[-10:] == whole[-10:]


def test_a_piece_has_about_twice_the_reach() -> None:
    pieces = list(join_grains(noise_grains(6, 5000), 12_000, 40_000))[:-1]
    sizes = [len(piece) for piece in pieces]
    assert 20_000 < sum(sizes) / len(sizes) < 28_000
    assert max(sizes) <= 40_000 + 2048


def test_pieces_of_text_are_twice_as_large() -> None:
    grains = [grain.hex().encode() for grain in noise_grains(7, 5000)]
    sizes = [len(piece) for piece in list(join_grains(grains, 12_000, 200_000))[:-1]]
    assert 40_000 < sum(sizes) / len(sizes) < 56_000


def test_equal_grains_are_cut_where_a_piece_becomes_too_long() -> None:
    sizes = [len(piece) for piece in join_grains([bytes(1000)] * 1000, 10_000, 30_000)]
    assert sum(sizes) == 1_000_000
    assert all(10_000 <= size <= 31_000 for size in sizes[1:-1])


@given(st.lists(st.binary(min_size=1, max_size=20)), st.integers(1, 50))
def test_pieces_hold_every_grain_and_have_a_maximum_length(grains: list[bytes], reach: int) -> None:
    pieces = list(join_grains(grains, reach, 3 * reach))
    assert b"".join(pieces) == b"".join(grains)
    assert all(piece and len(piece) <= 3 * reach + 20 for piece in pieces)


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
    assert len(make_chunk(bytes(4 * MIB)).data) < 100_000
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
BOMB = gzip.compress(bytes(80 * MIB))
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
    (BOMB, 80 * MIB, "no size of a chunk"),
    (BOMB, 1000, "chunk unpacks to more than announced"),
    (BOMB, 64 * MIB, "chunk unpacks to more than announced"),
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


def test_pieces_of_a_giant_pack_are_large_but_readable() -> None:
    data = random.Random(5).randbytes(200 * MIB)
    pieces = list(cut(io.BytesIO(data), 10_000 * GIB))
    assert b"".join(pieces) == data
    assert all(len(piece) <= MAX_CHUNK_BYTES for piece in pieces)
    assert 3 < len(pieces) < 10
