"""Ranges of a stream that comes in pieces: which pieces hold them, and their bytes cut out of these pieces."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

__all__ = ["Excerpt", "Span", "Spans"]


class Span(NamedTuple):
    """A range of a stream: offset of its first byte, and number of bytes."""

    start: int
    size: int


class Spans:
    """Ranges of a stream, ascending and apart, as pairs (start, stop). 16 bytes of memory for each."""

    def __init__(self) -> None:
        self._starts, self._stops = array("Q"), array("Q")

    def add(self, start: int, stop: int) -> None:
        """Add a range that starts where the last one ends, or later. An empty range is ignored."""
        if start == stop:
            return
        if self._stops and self._stops[-1] == start:
            self._stops[-1] = stop
        else:
            self._starts.append(start)
            self._stops.append(stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)


class Excerpt:
    """Spans of a stream whose pieces have these sizes (bytes). needed: numbers, from 0, of the pieces they are in."""

    needed: tuple[int, ...]

    def __init__(self, spans: Spans, sizes: Sequence[int]) -> None:
        self._spans = spans
        self._starts = [0, *accumulate(sizes)]
        self.needed = tuple(self._overlapping())

    def cut(self, pieces: Iterable[bytes]) -> Iterator[memoryview]:
        """Yield the bytes of the spans, in order. pieces: the needed ones; bytes of missing pieces are left out."""
        spans = iter(self._spans)
        start, stop = next(spans, (0, 0))
        for number, piece in zip(self.needed, pieces, strict=False):
            offset, view = self._starts[number], memoryview(piece)
            while stop and start < offset + len(view):
                yield view[max(0, start - offset) : max(0, stop - offset)]
                if stop > offset + len(view):
                    break
                start, stop = next(spans, (0, 0))

    def _overlapping(self) -> Iterator[int]:
        spans = iter(self._spans)
        start, stop = next(spans, (0, 0))
        for number, (begin, end) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            while stop and stop <= begin:
                start, stop = next(spans, (0, 0))
            if stop and start < end and begin < end:
                yield number
