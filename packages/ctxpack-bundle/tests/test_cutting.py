"""Where streams are cut: the same content is cut in the same places."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.chunk import MAX_CHUNK_BYTES
from ctxpack_bundle.cutting import MIB, cut, join_grains, reach
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


def test_pieces_of_a_giant_pack_are_large_but_readable() -> None:
    data = random.Random(5).randbytes(200 * MIB)
    pieces = list(cut(io.BytesIO(data), 10_000 * GIB))
    assert b"".join(pieces) == data
    assert all(len(piece) <= MAX_CHUNK_BYTES for piece in pieces)
    assert 3 < len(pieces) < 10
