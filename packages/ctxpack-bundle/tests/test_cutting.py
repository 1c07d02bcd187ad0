"""Where streams are cut: the same content is cut in the same places, and a change moves only the cuts near it."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpack_bundle.chunk import MAX_PIECE_BYTES
from ctxpack_bundle.cutting import FINER, LEAST_AVERAGE, MOST_AVERAGE, cut
from ctxpack_identity import IntegrityError

KIB, MIB = 1 << 10, 1 << 20
NOISE = random.Random(1).randbytes(4 * MIB)

averages = st.sampled_from([LEAST_AVERAGE // FINER, LEAST_AVERAGE, 2 * LEAST_AVERAGE, MOST_AVERAGE])


class Source:
    """A stream with members that start at these offsets. A read ends at one of ends, and tells the starts in it."""

    def __init__(self, data: bytes, starts: Sequence[int] = (), ends: Sequence[int] = ()) -> None:
        self.starts: deque[int] = deque()
        self._data, self._unknown, self._ends = data, deque(starts), ends
        self._position = 0

    def readinto(self, buffer: memoryview, /) -> int:
        end = min(self._position + len(buffer), self._read_end(), len(self._data))
        count = end - self._position
        buffer[:count] = self._data[self._position : end]
        self._position = end
        while self._unknown and self._unknown[0] < end:
            self.starts.append(self._unknown.popleft())
        return count

    def _read_end(self) -> int:
        return self._ends[number] if (number := bisect_right(self._ends, self._position)) < len(self._ends) else 1 << 62


def pieces_of(data: bytes, average: int, starts: Sequence[int] = (), ends: Sequence[int] = ()) -> list[bytes]:
    return list(cut(Source(data, starts, ends), average))


def ends_of(pieces: Sequence[bytes]) -> list[int]:
    return [*accumulate(map(len, pieces))]


@st.composite
def streams(draw: st.DrawFn, most: int = 3 * MIB) -> tuple[bytes, list[int]]:
    """A stream of runs of noise, zeros and short words, and where its members start."""
    data = bytearray()
    for kind, size in draw(st.lists(st.tuples(st.sampled_from([b"", b"\0", b"ab"]), st.integers(1, MIB)), max_size=5)):
        at = draw(st.integers(0, MIB))
        data += (kind * size)[:size] if kind else NOISE[at : at + size]
    data = data[:most]
    starts = draw(st.lists(st.integers(0, max(0, len(data) - 1)), unique=True, max_size=60).map(sorted))
    return bytes(data), starts


@given(streams(), averages, st.lists(st.integers(1, 3 * MIB), max_size=20).map(sorted))
@settings(max_examples=60)
def test_the_pieces_are_the_stream_and_the_same_wherever_its_reads_end(
    stream: tuple[bytes, list[int]], average: int, ends: list[int]
) -> None:
    data, starts = stream
    pieces = pieces_of(data, average, starts)
    assert b"".join(pieces) == data
    assert all(pieces)
    assert pieces_of(data, average, starts, ends) == pieces
    assert pieces_of(data, average, starts, range(0, len(data), 5000)) == pieces


@given(streams(most=6 * MIB), averages)
@settings(max_examples=60)
def test_no_piece_is_larger_than_a_reader_accepts(stream: tuple[bytes, list[int]], average: int) -> None:
    data, starts = stream
    assert max(map(len, pieces_of(data, average, starts)), default=0) <= MAX_PIECE_BYTES


@pytest.mark.parametrize("average", [LEAST_AVERAGE // FINER, LEAST_AVERAGE, 2 * LEAST_AVERAGE, MOST_AVERAGE])
@pytest.mark.parametrize("data", [bytes(12 * MIB), NOISE * 3, b"word " * (2 * MIB)], ids=["zeros", "noise", "words"])
def test_pieces_have_at_most_1_mib_even_where_cuts_move_apart(data: bytes, average: int) -> None:
    """Cuts move by `near` at most; a start before each second cut and after the others moves them farthest apart."""
    ends = ends_of(pieces_of(data, average))
    near = min(average // 2, 64 * KIB)
    starts = sorted({end + (near if number % 2 else -near) for number, end in enumerate(ends[:-1])})
    pieces = pieces_of(data, average, starts)
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= MAX_PIECE_BYTES


def test_an_empty_stream_has_no_pieces() -> None:
    assert pieces_of(b"", LEAST_AVERAGE) == []


@pytest.mark.parametrize("average", [LEAST_AVERAGE // FINER, LEAST_AVERAGE, MOST_AVERAGE])
def test_pieces_have_about_the_average(average: int) -> None:
    sizes = [len(piece) for piece in pieces_of(NOISE * 4, average)]
    assert 0.9 * average < sum(sizes) / len(sizes) < 1.5 * average


def test_an_error_of_the_stream_is_an_error_of_the_cut() -> None:
    class Failing(Source):
        def readinto(self, buffer: memoryview, /) -> int:
            raise IntegrityError("file differs")

    with pytest.raises(IntegrityError, match=r"^file differs$"):
        list(cut(Failing(b""), LEAST_AVERAGE))


PLAIN_ENDS = ends_of(pieces_of(NOISE, LEAST_AVERAGE))
NEAR = LEAST_AVERAGE // 2
NEIGHBOURS = zip(PLAIN_ENDS, PLAIN_ENDS[1:], PLAIN_ENDS[2:], strict=False)
CUT = next(cut for before, cut, after in NEIGHBOURS if min(cut - before, after - cut) > 2 * NEAR + 1)


@pytest.mark.parametrize(
    ("starts", "end"),
    [
        ([CUT - NEAR], CUT - NEAR),
        ([CUT + NEAR], CUT + NEAR),
        ([CUT], CUT),
        ([CUT - NEAR - 1], CUT),
        ([CUT + NEAR + 1], CUT),
        ([CUT - 5, CUT + 6], CUT - 5),
        ([CUT - 6, CUT + 5], CUT + 5),
        ([CUT - 5, CUT + 5], CUT - 5),
        ([CUT - NEAR, CUT - 700, CUT + 2000, CUT + NEAR], CUT - 700),
    ],
)
def test_a_start_of_a_member_within_half_the_average_of_a_cut_becomes_the_cut(starts: list[int], end: int) -> None:
    assert ends_of(pieces_of(NOISE, LEAST_AVERAGE, starts)) == [end if at == CUT else at for at in PLAIN_ENDS]


def test_two_cuts_with_the_same_nearest_start_become_one() -> None:
    before, after = next(pair for pair in pairwise(PLAIN_ENDS[:-1]) if pair[1] - pair[0] < NEAR)
    start = (before + after) // 2
    expected = [start if at == before else at for at in PLAIN_ENDS if at != after]
    assert ends_of(pieces_of(NOISE, LEAST_AVERAGE, [start])) == expected


def test_an_insertion_of_a_few_kib_changes_few_pieces() -> None:
    changed = NOISE[: 2 * MIB] + random.Random(3).randbytes(5000) + NOISE[2 * MIB :]
    before = pieces_of(NOISE, LEAST_AVERAGE)
    after = pieces_of(changed, LEAST_AVERAGE)
    assert len(before) > 40
    assert len(set(after) - set(before)) <= 2
    assert (after[0], after[-1]) == (before[0], before[-1])


def test_small_files_among_many_cost_their_own_pieces() -> None:
    """Cuts are the same right after a change, and cuts at the starts of files keep the pieces of the neighbours."""
    noise = random.Random(4)
    files = [noise.randbytes(noise.randrange(5_000, 60_000)) for _ in range(150)]
    lost, anywhere = [], []
    for at in range(0, 150, 10):
        for changed in (
            [*files[:at], NOISE[:30_000], *files[at:]],
            [*files[:at], *files[at + 1 :]],
            [*files[:at], NOISE[: 50_000 - len(files[at]) // 2], *files[at + 1 :]],
        ):
            lost.append(new_bytes(files, changed, at_starts=True))
            anywhere.append(new_bytes(files, changed, at_starts=False))
    assert max(lost) < 8 * LEAST_AVERAGE
    assert sum(lost) / len(lost) < 2.2 * LEAST_AVERAGE
    assert sum(lost) < 0.95 * sum(anywhere)


def new_bytes(files: Sequence[bytes], changed: Sequence[bytes], *, at_starts: bool) -> int:
    before, after = (
        pieces_of(b"".join(version), LEAST_AVERAGE, [0, *ends_of(version)][:-1] if at_starts else ())
        for version in (files, changed)
    )
    return sum(map(len, set(after) - set(before)))
