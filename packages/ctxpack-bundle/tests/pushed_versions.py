"""Pushes of one pack's versions to one repository, as ctxpack-pantry makes them, but of sizes and digests alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from ctxpack_bundle import (
    FIRST_DATA_LAYER,
    Borrowed,
    Layering,
    Own,
    PieceIndex,
    Record,
    Table,
    TableDraft,
    parse_table,
    plan_borrowing,
    usage,
)

__all__ = ["Layer", "Piece", "Pushed", "new_pieces", "push", "stored"]

_OWN = 1 << 15  # in a draft, the first number of the layers that a push makes


class Piece(NamedTuple):
    sha256: bytes
    size: int
    chunk_size: int


class Layer:
    """A layer in the repository. chunks: by their offsets."""

    def __init__(self) -> None:
        self.size = 0
        self.chunks: dict[int, Piece] = {}
        self._places: dict[bytes, int] = {}

    def add(self, piece: Piece) -> int:
        """Return the offset of the chunk of piece, added unless it is here already."""
        if piece.sha256 not in self._places:
            self._places[piece.sha256] = self.size
            self.chunks[self.size] = piece
            self.size += piece.chunk_size
        return self._places[piece.sha256]


class Pushed(NamedTuple):
    """A version in the repository. layers: those with chunks. table: as a reader accepted it. sent: bytes of layers."""

    table: Table
    layers: list[Layer]
    sent: int

    @property
    def sizes(self) -> list[int]:
        """Bytes of all layers, of the manifest and the table too."""
        return [*[1] * FIRST_DATA_LAYER, *(layer.size for layer in self.layers)]


def new_pieces(random: Random, count: int, average: int) -> list[Piece]:
    """Return pieces that no version has yet, compressed more or less."""
    return [
        Piece(random.randbytes(32), size, max(1, int(size * random.uniform(0.3, 1.0))))
        for size in (random.randint(average // 4, 2 * average) for _ in range(count))
    ]


def stored(pieces: Iterable[Piece]) -> int:
    """Return the bytes of the chunks of pieces; equal pieces count once."""
    return sum(piece.chunk_size for piece in set(pieces))


def push(pieces: Sequence[Piece], base: Pushed | None, layering: Layering) -> Pushed:
    """Return the version of these pieces, pushed after base, whose layers it may borrow."""
    return _Push(pieces, layering).borrowing(base) if base else _Push(pieces, layering).fresh()


class _Push:
    def __init__(self, pieces: Sequence[Piece], layering: Layering) -> None:
        self._pieces, self._layering = pieces, layering
        self._draft = TableDraft(len(pieces))
        self._own, self._layers = Own(), list[Layer]()

    def fresh(self) -> Pushed:
        self._fill(range(len(self._pieces)))
        return self._finished([], {})

    def borrowing(self, base: Pushed) -> Pushed:
        found = self._find(base.table)
        kept, new = usage(base.table, found, base.sizes), self._estimate(base.table, found)
        placed = bytearray(len(found))
        while True:
            kept, new = plan_borrowing(kept, new, self._own, self._layering), 0
            numbers = [
                number
                for number, there in enumerate(found)
                if not placed[number] and (there < 0 or base.table[there].layer not in kept)
            ]
            if not numbers:
                break
            for number in numbers:
                placed[number] = 1
            self._fill(numbers)
        for number, there in enumerate(found):
            if not placed[number]:
                self._draft.put(number, base.table[there])
        return self._finished(base.layers, kept)

    def _find(self, table: Table) -> array[int]:
        index, last, found = PieceIndex(table), -1, array("i")
        for piece in self._pieces:
            record = index.find(piece.sha256, last)
            found.append(record)
            last = record if record >= 0 else last
        return found

    def _estimate(self, table: Table, found: Sequence[int]) -> int:
        ratio = sum(record.chunk_size for record in table) / max(1, sum(record.size for record in table))
        return int(ratio * sum(piece.size for piece, there in zip(self._pieces, found, strict=True) if there < 0))

    def _fill(self, numbers: Iterable[int]) -> None:
        layer = Layer()
        for number in numbers:
            piece = self._pieces[number]
            if layer.size and layer.size + piece.chunk_size > self._layering.most:
                layer = self._ended(layer)
            record = Record(*piece, _OWN + self._own.layers, layer.add(piece))
            self._draft.put(number, record)
            if self._layering.ends_after(layer.size, piece.sha256):
                layer = self._ended(layer)
        if layer.size:
            self._ended(layer)
        self._own = self._own._replace(rounds=self._own.rounds + 1)

    def _ended(self, layer: Layer) -> Layer:
        self._layers.append(layer)
        self._own = self._own._replace(size=self._own.size + layer.size, layers=self._own.layers + 1)
        return Layer()

    def _finished(self, base: Sequence[Layer], kept: dict[int, Borrowed]) -> Pushed:
        order = [*sorted(kept), *range(_OWN, _OWN + len(self._layers))]
        data = self._draft.finish({layer: number for number, layer in enumerate(order, FIRST_DATA_LAYER)})
        layers = [*(base[number - FIRST_DATA_LAYER] for number in sorted(kept)), *self._layers]
        pushed = Pushed(Table(data), layers, self._own.size)
        return pushed._replace(table=parse_table(data, pushed.sizes, where="table"))
