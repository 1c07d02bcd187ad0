"""Excerpts need only the pieces that hold bytes of the spans, and yield exactly these bytes."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.excerpt import Excerpt, Spans

STREAM = bytes(range(200))


def spans_of(edges: list[int]) -> tuple[Spans, list[tuple[int, int]]]:
    """Return every other range between edges, as Spans and as pairs."""
    pairs = [*pairwise(edges)][::2]
    spans = Spans()
    for pair in pairs:
        spans.add(*pair)
    return spans, pairs


edges = st.lists(st.integers(0, len(STREAM)), max_size=20).map(sorted)


@given(edges, edges)
def test_the_excerpt_is_the_bytes_of_the_spans(marks: list[int], cuts: list[int]) -> None:
    spans, pairs = spans_of(marks)
    pieces = [STREAM[start:stop] for start, stop in pairwise([0, *cuts, len(STREAM)])]
    excerpt = Excerpt(spans, [len(piece) for piece in pieces])
    cut = b"".join(excerpt.cut(pieces[number] for number in excerpt.needed))
    assert cut == b"".join(STREAM[start:stop] for start, stop in pairs)


@given(edges, st.lists(st.integers(0, 40), max_size=12))
def test_the_needed_pieces_are_those_with_a_byte_of_a_span(marks: list[int], sizes: list[int]) -> None:
    """Also if the pieces are shorter or longer than the range of the spans."""
    spans, pairs = spans_of(marks)
    wanted = {position for pair in pairs for position in range(*pair)}
    ends = [0, *accumulate(sizes)]
    expected = [n for n, (start, stop) in enumerate(pairwise(ends)) if wanted & set(range(start, stop))]
    assert list(Excerpt(spans, sizes).needed) == expected


@given(edges, edges, st.data())
def test_missing_or_short_pieces_remove_bytes_and_add_none(
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
def test_adjacent_ranges_become_one(marks: list[int]) -> None:
    spans = Spans()
    for pair in pairwise(marks):
        spans.add(*pair)
    assert list(spans) == ([(marks[0], marks[-1])] if marks and marks[0] < marks[-1] else [])
