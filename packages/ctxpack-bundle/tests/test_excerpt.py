"""Parts of a stream in pieces: the pieces that hold them, no other, and every byte of them."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.excerpt import Excerpt, Spans

STREAM = bytes(range(200))


def spans_of(edges: list[int]) -> tuple[Spans, list[tuple[int, int]]]:
    """Every other range between edges, and what that is."""
    pairs = [*pairwise(edges)][::2]
    spans = Spans()
    for pair in pairs:
        spans.add(*pair)
    return spans, pairs


edges = st.lists(st.integers(0, len(STREAM)), max_size=20).map(sorted)


@given(edges, edges)
def test_what_is_cut_out_is_what_the_spans_say(marks: list[int], cuts: list[int]) -> None:
    spans, pairs = spans_of(marks)
    pieces = [STREAM[start:stop] for start, stop in pairwise([0, *cuts, len(STREAM)])]
    excerpt = Excerpt(spans, [len(piece) for piece in pieces])
    cut = b"".join(excerpt.cut(pieces[number] for number in excerpt.needed))
    assert cut == b"".join(STREAM[start:stop] for start, stop in pairs)


@given(edges, st.lists(st.integers(0, 40), max_size=12))
def test_needed_are_the_pieces_that_hold_a_byte_of_them(marks: list[int], sizes: list[int]) -> None:
    """Also when sizes end before the spans do, or go on after."""
    spans, pairs = spans_of(marks)
    wanted = {position for pair in pairs for position in range(*pair)}
    ends = [0, *accumulate(sizes)]
    expected = [n for n, (start, stop) in enumerate(pairwise(ends)) if wanted & set(range(start, stop))]
    assert list(Excerpt(spans, sizes).needed) == expected


@given(edges, edges, st.data())
def test_a_piece_too_few_or_too_short_leaves_bytes_out_and_adds_none(
    marks: list[int], cuts: list[int], data: st.DataObject
) -> None:
    spans, pairs = spans_of(marks)
    pieces = [STREAM[start:stop] for start, stop in pairwise([0, *cuts, len(STREAM)])]
    excerpt = Excerpt(spans, [len(piece) for piece in pieces])
    needed = [pieces[number][: data.draw(st.integers(0, 200))] for number in excerpt.needed]
    given = needed[: data.draw(st.integers(0, len(needed)))]
    wanted = b"".join(STREAM[start:stop] for start, stop in pairs)
    assert set(b"".join(excerpt.cut(given))) <= set(wanted)


@given(edges)
def test_ranges_that_touch_are_one(marks: list[int]) -> None:
    spans = Spans()
    for pair in pairwise(marks):
        spans.add(*pair)
    assert list(spans) == ([(marks[0], marks[-1])] if marks and marks[0] < marks[-1] else [])
