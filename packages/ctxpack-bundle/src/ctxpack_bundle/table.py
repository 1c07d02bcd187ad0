"""The table of a pack in a registry: where each chunk lies, and the digest of its piece. FORMAT.md, "Table"."""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from ctxpack_bundle.chunk import MAX_CHUNK_BYTES, MAX_PIECE_BYTES, inflate_chunk
from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_identity import IntegrityError, digest_from_hex

__all__ = [
    "FIRST_DATA_LAYER",
    "MAX_INTERLEAVED",
    "MAX_LAYERS",
    "MAX_TABLE_BYTES",
    "TABLE_RECORDS",
    "Record",
    "Table",
    "TableDraft",
    "encode_table",
    "interleaved",
    "parse_table",
    "read_chunk",
]

MAX_TABLE_BYTES: Final = 32 << 20  # what a reader accepts
MAX_LAYERS: Final = 480  # of an image; ECR refuses more than about 500
MAX_INTERLEAVED: Final = 16  # layers between their first and their last use at one point of the stream
FIRST_DATA_LAYER: Final = 2  # in `layers`, after the pack manifest and the table

_HEAD = struct.Struct(">8sII")  # magic, version, number of records
_MAGIC, _VERSION = b"CTXTABLE", 1
_RECORD = struct.Struct(">32sIIHHI")  # the offset, of 48 bits, in two fields
_LAYER_FIELD = 40  # where it starts in a record

TABLE_RECORDS: Final = ((24 << 20) - _HEAD.size) // _RECORD.size  # that a writer aims at


class Record(NamedTuple):
    """One chunk. sha256: 32 bytes, of its piece; size: of its piece; chunk_size, offset: in its layer; bytes.

    layer: index in the image manifest's `layers`.
    """

    sha256: bytes
    size: int
    chunk_size: int
    layer: int
    offset: int

    @property
    def stop(self) -> int:
        """The offset after the chunk."""
        return self.offset + self.chunk_size


class Table(Sequence[Record]):
    """The records of a table, in stream order, in the bytes that they came in. Use parse_table for received ones.

    data: the whole table.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._count = (len(data) - _HEAD.size) // _RECORD.size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Record:  # type: ignore[override]  # no slices
        if not 0 <= number < self._count:
            raise IndexError(number)
        return _record(_RECORD.unpack_from(self.data, _HEAD.size + number * _RECORD.size))

    def __iter__(self) -> Iterator[Record]:
        return map(_record, _RECORD.iter_unpack(memoryview(self.data)[_HEAD.size :]))

    def sha256(self, number: int) -> bytes:
        """Return the digest of a piece, 32 bytes."""
        start = _HEAD.size + number * _RECORD.size
        return self.data[start : start + 32]

    def offsets(self) -> array[int]:
        """Return the offset of each piece in the stream after the first piece, and then their total; 8 bytes each."""
        return array("Q", accumulate((record.size for record in self), initial=0))

    @property
    def average(self) -> int:
        """Bytes of a piece on average; 0 for a table without records."""
        return self.offsets()[-1] // max(1, len(self))

    def spans(self) -> dict[int, tuple[int, int]]:
        """Return the numbers of the first and last record of each layer that is used."""
        found: dict[int, tuple[int, int]] = {}
        for number, record in enumerate(self):
            found[record.layer] = (found[record.layer][0] if record.layer in found else number, number)
        return found


class TableDraft:
    """A table that is being made: records in any order, whose layers are numbered in the end. 48 bytes for each."""

    def __init__(self, count: int = 0) -> None:
        self._data = bytearray(_HEAD.size + count * _RECORD.size)

    def put(self, number: int, record: Record) -> None:
        """Set a record. number: of one there is, or the next one."""
        sha256, size, chunk_size, layer, offset = record
        start = _HEAD.size + number * _RECORD.size
        self._data[start : start + _RECORD.size] = _RECORD.pack(
            sha256, size, chunk_size, layer, offset >> 32, offset & 0xFFFFFFFF
        )

    def finish(self, layers: Mapping[int, int] | Sequence[int]) -> bytes:
        """Return the table. layers: by the number of a layer in this draft, its index in the image manifest."""
        data = self._data
        for place in range(_HEAD.size + _LAYER_FIELD, len(data), _RECORD.size):
            layer = layers[data[place] << 8 | data[place + 1]]
            data[place], data[place + 1] = layer >> 8, layer & 0xFF
        _HEAD.pack_into(data, 0, _MAGIC, _VERSION, (len(data) - _HEAD.size) // _RECORD.size)
        return bytes(data)


def encode_table(records: Iterable[Record]) -> bytes:
    """Return the table of records."""
    draft = TableDraft()
    for number, record in enumerate(records):
        draft.put(number, record)
    return draft.finish(range(MAX_LAYERS + FIRST_DATA_LAYER))


def interleaved(spans: Iterable[tuple[int, int]]) -> int:
    """Return how many spans, of a first and a last number each, share a number at most."""
    spans = list(spans)
    firsts, lasts = sorted(first for first, _ in spans), sorted(last for _, last in spans)
    most = closed = 0
    for opened, first in enumerate(firsts, 1):
        while lasts[closed] < first:
            closed += 1
        most = max(most, opened - closed)
    return most


def parse_table(data: bytes, layers: Sequence[int], *, where: str) -> Table:
    """Return the table in data, checked.

    layers: sizes (bytes) of the layers of the image. Raises: IntegrityError when the table breaks a rule of the format.
    """
    if len(data) < _HEAD.size or len(data) > MAX_TABLE_BYTES:
        raise _refused("size of the table", where, f"{_HEAD.size} to {MAX_TABLE_BYTES} bytes", str(len(data)))
    magic, version, count = _HEAD.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        raise _refused("not a table of this version", where, f"{_MAGIC!r}, {_VERSION}", f"{magic!r}, {version}")
    if len(data) != _HEAD.size + count * _RECORD.size:
        expected = f"{_HEAD.size + count * _RECORD.size} bytes for {count} records"
        raise _refused("size of the table", where, expected, str(len(data)))
    table = Table(data)
    _check_apart(table, _check_records(table, layers, where), where)
    most = interleaved(table.spans().values())
    if most > MAX_INTERLEAVED:
        raise _refused("too many layers in use at once", where, f"at most {MAX_INTERLEAVED}", str(most))
    return table


def read_chunk(chunk: bytes | memoryview, record: Record, *, where: str) -> bytes:
    """Return the piece of a chunk, checked by the record. Raises: IntegrityError."""
    piece = inflate_chunk(chunk, record.size, where=where)
    found = hashlib.sha256(piece)
    if found.digest() != record.sha256:
        raise IntegrityError(
            "piece differs from the table",
            where=where,
            expected=digest_from_hex(record.sha256.hex()),
            got=digest_from_hex(found.hexdigest()),
            fix=IN_REGISTRY,
            code="E_DIGEST",
        )
    return piece


def _record(fields: tuple[bytes, int, int, int, int, int]) -> Record:
    sha256, size, chunk_size, layer, high, low = fields
    return Record(sha256, size, chunk_size, layer, high << 32 | low)


def _check_records(table: Table, layers: Sequence[int], where: str) -> set[int]:
    """Check each record; return the layers whose chunks are not used in the order in which they lie there."""
    ends = [0] * len(layers)
    unordered: set[int] = set()
    for number, record in enumerate(table):
        if not 0 < record.size <= MAX_PIECE_BYTES:
            raise _wrong(number, "size of the piece", where, f"1 to {MAX_PIECE_BYTES} bytes", record.size)
        if not 0 < record.chunk_size <= MAX_CHUNK_BYTES:
            raise _wrong(number, "size of the chunk", where, f"1 to {MAX_CHUNK_BYTES} bytes", record.chunk_size)
        if not FIRST_DATA_LAYER <= record.layer < len(layers):
            raise _wrong(number, "layer", where, f"{FIRST_DATA_LAYER} to {len(layers) - 1}", record.layer)
        if record.stop > layers[record.layer]:
            raise _wrong(number, "end of the chunk", where, f"within {layers[record.layer]} bytes", record.stop)
        if record.offset < ends[record.layer]:
            unordered.add(record.layer)
        ends[record.layer] = record.stop
    return unordered


def _check_apart(table: Table, layers: Set[int], where: str) -> None:
    """Check that the chunks in each of these layers are the same or apart."""
    order = sorted(  # one integer for each: a tuple takes five times the memory
        record.layer << 80 | record.offset << 32 | number
        for number, record in enumerate(table)
        if record.layer in layers
    )
    for one, other in pairwise(order):
        before, record = table[one & 0xFFFFFFFF], table[other & 0xFFFFFFFF]
        if record.layer == before.layer and record.offset < before.stop and record != before:
            raise _refused(
                f"chunks of layer {record.layer} overlap", where, f"from {before.stop} on", str(record.offset)
            )


def _wrong(number: int, what: str, where: str, expected: str, got: int) -> IntegrityError:
    return _refused(what, f"{where}, record {number}", expected, str(got))


def _refused(what: str, where: str, expected: str, got: str) -> IntegrityError:
    return IntegrityError(what, where=where, expected=expected, got=got, fix=IN_REGISTRY, code="E_TABLE")
