"""Parts: which ranges of which layers a download fetches. One request for each part.

Gaps that are small are fetched with what surrounds them, and a layer of which more than half is wanted is fetched
whole, unless it is too large for one part. Most parts are used one after the other, and stay in memory; a part that is
in use while others come and go is kept in a file.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Container, Sequence
from typing import Final, NamedTuple

from ctxpack_bundle import Record, Table

__all__ = ["MOST", "Part", "Plan", "plan_parts"]

MOST: Final = 8 << 20  # bytes of a part, and of all parts that are in memory besides the one in turn
_GAP: Final = 256 << 10  # bytes that are not wanted, but cost less than another request


class Part(NamedTuple):
    """A range of a layer. first, last: positions among the wanted records; filed: whether it is kept in a file."""

    layer: int
    start: int
    stop: int
    first: int
    last: int
    filed: bool = False

    @property
    def size(self) -> int:
        return self.stop - self.start


class Plan(NamedTuple):
    """parts: in the order in which they are needed. part_of: for each wanted record, the number of its part."""

    parts: list[Part]
    part_of: array[int]


def plan_parts(table: Table, wanted: Sequence[int], layers: Sequence[int], *, here: Container[int] = ()) -> Plan:
    """Return what to fetch for the wanted records.

    wanted: their numbers, ascending; layers: sizes of layers, bytes. here: layers that need not be fetched; each is one
    part.
    """
    by_layer: dict[int, array[int]] = {}
    for position, number in enumerate(wanted):
        by_layer.setdefault(table[number].layer, array("I")).append(position)
    parts: list[Part] = []
    for layer, positions in by_layer.items():
        if layer in here:
            parts.append(Part(layer, 0, layers[layer], positions[0], positions[-1]))
        else:
            parts += _parts_of(layer, [(table[wanted[position]], position) for position in positions], layers[layer])
    parts = _with_files(sorted(parts, key=lambda part: (part.first, part.layer, part.start)))
    return Plan(parts, _part_of(table, wanted, parts))


def _parts_of(layer: int, chunks: list[tuple[Record, int]], size: int) -> list[Part]:
    """Return the parts of one layer that hold chunks. chunks: records, and their positions. size: of the layer."""
    chunks.sort(key=lambda chunk: chunk[0].offset)
    parts: list[Part] = []
    for record, position in chunks:
        if parts and record.offset - parts[-1].stop < _GAP and record.stop - parts[-1].start <= MOST:
            last = parts[-1]
            stop, first = max(last.stop, record.stop), min(last.first, position)
            parts[-1] = Part(layer, last.start, stop, first, max(last.last, position))
        else:
            parts.append(Part(layer, record.offset, record.stop, position, position))
    if size <= MOST and sum(part.size for part in parts) > size // 2:
        return [Part(layer, 0, size, min(part.first for part in parts), max(part.last for part in parts))]
    return parts


def _with_files(parts: list[Part]) -> list[Part]:
    """Return parts with those marked that are kept in a file: memory holds one at a time, and a few small ones."""
    if sum(part.size for part in parts) <= MOST:
        return parts
    in_turn: list[tuple[int, int]] = []  # first and last of parts that do not overlap, sorted
    filed: set[Part] = set()
    for part in sorted(parts, key=lambda part: part.size / (part.last - part.first + 1), reverse=True):
        place = bisect_left(in_turn, (part.first, part.first))
        if (place and in_turn[place - 1][1] >= part.first) or (place < len(in_turn) and in_turn[place][0] <= part.last):
            filed.add(part)
        else:
            in_turn.insert(place, (part.first, part.last))
    return [part._replace(filed=part in filed) for part in parts]


def _part_of(table: Table, wanted: Sequence[int], parts: list[Part]) -> array[int]:
    by_layer: dict[int, list[tuple[int, int]]] = {}
    for number, part in enumerate(parts):
        by_layer.setdefault(part.layer, []).append((part.start, number))
    for places in by_layer.values():
        places.sort()
    found = array("I")
    for number in wanted:
        record = table[number]
        places = by_layer[record.layer]
        found.append(places[bisect_right(places, (record.offset, len(parts))) - 1][1])
    return found
