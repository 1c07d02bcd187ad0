"""The table of the items of one map: path, digest and place of each, and where its result was found.

Items with one digest are one piece of work: by content, equal files. The first of them, in the order of paths, leads.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Protocol

from ctxpack_identity import Digest, digest_from_hex, hex_of
from ctxpack_identity.items import Item, places_in_order
from ctxpack_pantry.items.texts import Texts

__all__ = ["ItemTable", "ResultSource"]

_SHA256 = 32  # bytes


class ResultSource(Protocol):
    """Where results of items are."""

    def location(self, place: int, output: str) -> str:
        """Return the path of the result that has this place there, of an item whose result shall lie at output."""
        ...


class ItemTable:
    """The items of a map, by number, in canonical order of their paths. Some 100 bytes and two paths for each.

    Raises: InvalidInput when their results collide, or lie where a pack may not hold them.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self.paths, self.outputs = Texts(), Texts()
        self._digests = bytearray()
        for item in items:
            self.paths.add(item.path)
            self.outputs.add(item.output)
            self._digests += bytes.fromhex(hex_of(item.digest))
        self.by_output = array("L", places_in_order(self.paths, self.outputs))
        self._by_digest = array("L", sorted(range(len(self)), key=self._digest))
        self._heads = array("Q", [_head(self._digest(number)) for number in self._by_digest])
        self._results = bytearray(len(self._digests))
        self._places = array("Q", bytes(8 * len(self)))
        self._source_of = array("H", bytes(2 * len(self)))  # its number and 1; 0 for none
        self._sources: list[ResultSource] = []

    def __len__(self) -> int:
        return len(self.paths)

    def digest(self, number: int) -> Digest:
        """Return the digest of an item."""
        return digest_from_hex(self._digest(number).hex())

    def find(self, digest: bytes) -> Iterator[int]:
        """Yield the items with a digest (32 bytes); the one that leads is the first."""
        head = _head(digest)
        place = bisect_left(self._heads, head)
        while place < len(self._heads) and self._heads[place] == head:
            number = self._by_digest[place]
            if self._digest(number) == digest:
                yield number
            place += 1

    def leads(self, number: int) -> bool:
        """Return whether no item before this one has the same digest."""
        return next(self.find(self._digest(number))) == number

    def missing(self) -> Iterator[int]:
        """Yield the items that lead and have no result yet."""
        return (number for number in range(len(self)) if not self._source_of[number] and self.leads(number))

    @property
    def lacking(self) -> int:
        """How many items have no result yet."""
        return self._source_of.count(0)

    def source(self, number: int) -> ResultSource | None:
        """Return where the result of an item is, None when it is missing."""
        found = self._source_of[number]
        return self._sources[found - 1] if found else None

    def location(self, number: int) -> str:
        """Return the path of an item's result, which is not missing."""
        source = self.source(number)
        assert source is not None
        return source.location(self._places[number], self.outputs[number])

    def result(self, number: int) -> bytes:
        """Return the digest of an item's result, see `results`."""
        return bytes(self._results[number * _SHA256 : (number + 1) * _SHA256])

    def found(self, number: int, source: ResultSource, place: int, result: bytes) -> None:
        """Note where the result of an item is; it is that of all items with its digest."""
        if source not in self._sources:
            self._sources.append(source)
        for one in self.find(self._digest(number)):
            self._source_of[one] = self._sources.index(source) + 1
            self._places[one] = place
            self._results[one * _SHA256 : (one + 1) * _SHA256] = result

    def lose(self, number: int) -> None:
        """Note that the result of an item, and of all with its digest, is missing after all."""
        for one in self.find(self._digest(number)):
            self._source_of[one] = 0

    def counts(self) -> list[tuple[ResultSource, int]]:
        """Return the sources of results, each with the number of its items."""
        counted = [0] * (len(self._sources) + 1)
        for found in self._source_of:
            counted[found] += 1
        return [(source, count) for source, count in zip(self._sources, counted[1:], strict=True) if count]

    def _digest(self, number: int) -> bytes:
        return bytes(self._digests[number * _SHA256 : (number + 1) * _SHA256])


def _head(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big")
