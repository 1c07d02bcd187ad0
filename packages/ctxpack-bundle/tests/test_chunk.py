"""The bytes of gzip members, which pieces are stored, and the members that are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpack_bundle.chunk import (
    MAX_CHUNK_BYTES,
    MAX_FIRST_PIECE_BYTES,
    MAX_PIECE_BYTES,
    Piece,
    inflate_chunk,
    inflate_first,
    make_chunk,
    make_chunks,
    runs,
)
from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_identity import IntegrityError

MIB = 1 << 20
NOISE = random.Random(1).randbytes(300_000)
TEXT = b"0123456789abcdef" * 5000


@given(st.binary(max_size=5000))
def test_a_chunk_unpacks_to_its_piece(piece: bytes) -> None:
    chunk = make_chunk(piece)
    assert inflate_chunk(chunk, len(piece), where="chunk") == piece
    assert inflate_chunk(memoryview(chunk), len(piece), where="chunk") == piece
    assert inflate_first(chunk, where="chunk") == piece
    assert gzip.decompress(chunk) == piece
    assert make_chunk(piece) == chunk


@pytest.mark.parametrize("size", [1, 7, 65_535, 65_536, 131_070, 131_071, 300_000, MAX_PIECE_BYTES])
def test_incompressible_content_is_stored(size: int) -> None:
    piece = (NOISE * 4)[:size]
    chunk = make_chunk(piece)
    assert len(chunk) == 10 + size + 5 * -(-size // 65_535) + 8 <= MAX_CHUNK_BYTES
    assert piece[:65_535] in chunk
    assert inflate_chunk(chunk, size, where="chunk") == gzip.decompress(chunk) == piece


def test_compressible_content_is_compressed() -> None:
    assert len(make_chunk(bytes(MIB))) < 25_000
    assert len(make_chunk(TEXT)) < 1000


def is_stored(chunk: bytes) -> bool:
    return chunk[10] in (0, 1)  # RFC 1951: block type 0, the last block or not


def test_a_run_is_stored_or_compressed_as_a_whole() -> None:
    """Small samples lie: one piece of text among noise is not worth the time of a reader that inflates it."""
    noise = [NOISE[start : start + 50_000] for start in range(0, 300_000, 50_000)]
    assert all(map(is_stored, make_chunks([*noise, TEXT[:50], *noise])))
    assert [is_stored(chunk) for chunk in make_chunks([TEXT, *noise[:1], TEXT])][::2] == [False, False]


def test_a_run_is_judged_by_its_start_middle_and_end() -> None:
    text = [TEXT[:64_000]]
    noise = [NOISE[:100_000], NOISE[100_000:200_000]]
    for run in (text + noise, noise[:1] + text + noise[1:], noise + text):
        assert not any(map(is_stored, make_chunks(run)))
    quarters = [NOISE[:100_000], TEXT[:2000], NOISE[:100_000]]
    assert all(map(is_stored, make_chunks([*quarters, NOISE])))


pieces_of_any_size = st.lists(st.tuples(st.integers(1, MIB), st.binary(max_size=2)), max_size=30).map(
    lambda drawn: [word.ljust(size, b"x") for size, word in drawn]
)


@given(pieces_of_any_size)
@settings(max_examples=30)
def test_runs_hold_each_piece_once_in_order_and_at_most_4_mib(pieces: list[bytes]) -> None:
    found = list(runs(map(Piece.of, pieces)))
    assert [piece.data for run in found for piece in run] == pieces
    assert all(piece.sha256 == hashlib.sha256(piece.data).digest() for run in found for piece in run)
    assert all(run and sum(len(piece.data) for piece in run) <= 4 * MIB for run in found)


def ends_runs(piece: bytes) -> bool:
    return hashlib.sha256(piece).digest()[-1] % 16 == 0


def test_a_run_ends_at_the_first_piece_past_1_mib_whose_digest_ends_in_four_zero_bits() -> None:
    noise = random.Random(2)
    pieces = [noise.randbytes(64 << 10) for _ in range(400)]
    found = list(runs(map(Piece.of, pieces)))
    assert len(found) > 5
    assert all(len(run) * (64 << 10) > MIB for run in found[:-1])
    for run in found[:-1]:
        *before, last = (piece.data for piece in run)
        past = [piece for number, piece in enumerate(before, 1) if number * (64 << 10) > MIB]
        assert not any(map(ends_runs, past))
        assert ends_runs(last) or len(run) == 64


def test_a_run_whose_digests_never_end_in_four_zero_bits_ends_at_4_mib() -> None:
    piece = next(NOISE[start : start + (64 << 10)] for start in range(100) if not ends_runs(NOISE[start:][: 64 << 10]))
    assert [len(run) for run in runs([Piece.of(piece)] * 150)] == [64, 64, 22]


def test_what_is_stored_in_one_pack_is_stored_in_the_next_wherever_it_is() -> None:
    noise = random.Random(3)
    pieces = [noise.randbytes(64 << 10) for _ in range(400)]
    whole = [[piece.data for piece in run] for run in runs(map(Piece.of, pieces))]
    moved = [[piece.data for piece in run] for run in runs(map(Piece.of, [TEXT, TEXT, *pieces[20:]]))]
    assert moved[-1] == whole[-1]
    assert len([run for run in moved if run in whole]) > len(whole) / 2


def test_the_gzip_header_holds_nothing_of_the_machine() -> None:
    for piece in (b"text", TEXT, NOISE):
        assert make_chunk(piece)[:10].hex() == "1f8b08000000000000ff"


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
BOMB = gzip.compress(bytes(8 * MIB))
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
    (GOOD, -1, "no size of a piece: expected 0 to 1048576 bytes, got -1"),
    (BOMB, -(2**62), "no size of a piece"),
    (GOOD, 2**62, "no size of a piece: expected 0 to 1048576 bytes, got 4611686018427387904"),
    (BOMB, 8 * MIB, "no size of a piece"),
    (BOMB, 1000, "chunk unpacks to more than announced"),
    (BOMB, MIB, "chunk unpacks to more than announced: expected 1048576 bytes"),
]


@pytest.mark.parametrize(("data", "size", "fault"), REFUSED, ids=range(len(REFUSED)))
def test_a_chunk_that_is_not_one_plain_gzip_member_is_refused(data: bytes, size: int, fault: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        inflate_chunk(data, size, where="layer 3")
    assert str(caught.value).startswith(f"layer 3: {fault}")
    assert str(caught.value).endswith(f"; {IN_REGISTRY}")


NO_MEMBER = [(data, fault) for data, _, fault in REFUSED if "announced" not in fault and "no size" not in fault]


@pytest.mark.parametrize(("data", "fault"), NO_MEMBER, ids=range(len(NO_MEMBER)))
def test_a_first_chunk_that_is_not_one_plain_gzip_member_is_refused(data: bytes, fault: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        inflate_first(data, where="layer 0")
    assert str(caught.value).startswith(f"layer 0: {fault}")


def test_a_first_piece_has_at_most_the_bytes_of_the_largest_manifest() -> None:
    largest = bytes(MAX_FIRST_PIECE_BYTES)
    assert inflate_first(gzip.compress(largest), where="layer 0") == largest
    with pytest.raises(IntegrityError, match=rf"more than announced: expected {MAX_FIRST_PIECE_BYTES} bytes"):
        inflate_first(gzip.compress(largest + b"\0"), where="layer 0")


@pytest.mark.parametrize(
    ("content", "make", "filling"),
    [(NOISE[:26], make_chunk, 10), (b"some content, some content", gzip.compress, -9)],
    ids=["stored", "compressed"],
)
def test_a_flipped_bit_is_an_error_or_changes_nothing(
    content: bytes, make: Callable[[bytes], bytes], filling: int
) -> None:
    """A reader ignores time and system in the header, and the bits that fill one byte: of a stored block, the first."""
    data = make(content)
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            try:
                assert inflate_chunk(bytes(flipped), len(content), where="chunk") == content
            except IntegrityError:
                continue
            assert position in (4, 5, 6, 7, 8, 9, filling % len(data))
