"""Tables: what they hold, and the rules that a reader checks before it uses one."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.chunk import MAX_CHUNK_BYTES, MAX_PIECE_BYTES, make_chunk
from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_bundle.table import (
    FIRST_DATA_LAYER,
    MAX_INTERLEAVED,
    MAX_TABLE_BYTES,
    Record,
    Table,
    TableDraft,
    encode_table,
    interleaved,
    parse_table,
    read_chunk,
)
from ctxpack_identity import IntegrityError, digest_of

REMEDY = f"; {IN_REGISTRY}"


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def encoded(records: Iterable[Record], *, magic: bytes = b"CTXTABLE", version: int = 1, count: int = -1) -> bytes:
    """The table that FORMAT.md describes, made without code of the package."""
    body = [
        sha256 + struct.pack(">IIH", size, chunk_size, layer) + offset.to_bytes(6)
        for sha256, size, chunk_size, layer, offset in records
    ]
    return magic + struct.pack(">II", version, len(body) if count < 0 else count) + b"".join(body)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Record], list[int]]:
    """Records that keep every rule, and the sizes of the layers: own chunks in order, borrowed ones in any order.

    Some chunks are named several times, some not at all.
    """
    layers, places = [100, 200], list[Record]()
    for layer in range(FIRST_DATA_LAYER, FIRST_DATA_LAYER + draw(st.integers(0, MAX_INTERLEAVED))):
        end = draw(st.sampled_from([0, 0, 3, 1 << 32, (1 << 48) - (1 << 24)]))
        for chunk_size in draw(st.lists(st.integers(1, MAX_CHUNK_BYTES), min_size=1, max_size=5)):
            size = draw(st.integers(1, MAX_PIECE_BYTES))
            places.append(Record(digest(len(places)), size, chunk_size, layer, end))
            end += chunk_size + draw(st.sampled_from([0, 0, 7]))
        layers.append(end)
    records = draw(st.lists(st.sampled_from(places), max_size=40)) if places else []
    return records, layers


@given(tables())
def test_a_table_holds_the_records_that_were_put_into_it(drawn: tuple[list[Record], list[int]]) -> None:
    records, layers = drawn
    data = encode_table(records)
    assert data == encoded(records)
    table = parse_table(data, layers, where="layer 1")
    assert table.data == data
    assert list(table) == records
    assert [table[number] for number in range(len(table))] == records
    assert [table.sha256(number) for number in range(len(table))] == [record.sha256 for record in records]
    assert list(table.offsets()) == [0, *accumulate(record.size for record in records)]
    assert table.average == (sum(record.size for record in records) // len(records) if records else 0)
    for layer in range(len(layers)):
        numbers = [number for number, record in enumerate(records) if record.layer == layer]
        assert table.spans().get(layer) == ((numbers[0], numbers[-1]) if numbers else None)


@given(tables(), st.randoms(use_true_random=False))
def test_a_draft_takes_records_in_any_order_and_numbers_layers_in_the_end(
    drawn: tuple[list[Record], list[int]], random: Any
) -> None:
    records, layers = drawn
    names = [*range(2, len(layers)), *range(1 << 15, (1 << 15) + len(layers))]
    names = random.sample(names, len(layers))
    draft = TableDraft(len(records))
    for number in random.sample(range(len(records)), len(records)):
        draft.put(number, records[number]._replace(layer=names[records[number].layer]))
    assert draft.finish({name: layer for layer, name in enumerate(names)}) == encode_table(records)


def test_a_record_is_found_by_its_number_alone() -> None:
    table = Table(encode_table([Record(digest(0), 1, 1, 2, 0)]))
    for number in (-1, 1):
        with pytest.raises(IndexError):
            table[number]


RECORDS = [
    Record(digest(0), 1000, 500, 2, 0),
    Record(digest(1), 2000, 700, 3, 4000),
    Record(digest(2), 3000, 800, 2, 500),
    Record(digest(1), 2000, 700, 3, 4000),
    Record(digest(3), MAX_PIECE_BYTES, MAX_CHUNK_BYTES, 3, 4700),
    Record(digest(4), 1, 1, 3, 0),
]
LAYERS = [100, 300, 1300, 4700 + MAX_CHUNK_BYTES]


def with_record(number: int, **changes: Any) -> bytes:
    return encoded([*RECORDS[:number], RECORDS[number]._replace(**changes), *RECORDS[number + 1 :]])


def test_the_table_that_the_refused_ones_differ_from_is_right() -> None:
    assert list(parse_table(encoded(RECORDS), LAYERS, where="layer 1")) == RECORDS


GOOD = encoded(RECORDS)
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", f": size of the table: expected 16 to {MAX_TABLE_BYTES} bytes, got 0"),
    "a head that is cut": (GOOD[:15], f": size of the table: expected 16 to {MAX_TABLE_BYTES} bytes, got 15"),
    "too large": (
        bytes(MAX_TABLE_BYTES + 1),
        f": size of the table: expected 16 to {MAX_TABLE_BYTES} bytes, got {MAX_TABLE_BYTES + 1}",
    ),
    "another magic": (encoded(RECORDS, magic=b"CTXTABLF"), ": not a table of this version: expected b'CTXTABLE', 1"),
    "another version": (encoded(RECORDS, version=2), ": not a table of this version: expected b'CTXTABLE', 1, got"),
    "a little-endian version": (encoded(RECORDS, version=1 << 24), ": not a table of this version"),
    "a record less than announced": (encoded(RECORDS, count=7), ": size of the table: expected 352 bytes for 7"),
    "a record more than announced": (encoded(RECORDS, count=5), ": size of the table: expected 256 bytes for 5"),
    "a count that is a bomb": (encoded(RECORDS, count=2**32 - 1), ": size of the table: expected"),
    "a record that is cut": (GOOD[:-1], ": size of the table: expected 304 bytes for 6 records, got 303"),
    "a byte after the records": (GOOD + b"\0", ": size of the table: expected 304 bytes for 6 records, got 305"),
    "an empty piece": (with_record(2, size=0), ", record 2: size of the piece: expected 1 to 1048576 bytes, got 0"),
    "a piece over 1 MiB": (
        with_record(4, size=MAX_PIECE_BYTES + 1),
        ", record 4: size of the piece: expected 1 to 1048576 bytes, got 1048577",
    ),
    "an empty chunk": (
        with_record(2, chunk_size=0),
        ", record 2: size of the chunk: expected 1 to 1114112 bytes, got 0",
    ),
    "a chunk over its bound": (
        with_record(4, chunk_size=MAX_CHUNK_BYTES + 1),
        ", record 4: size of the chunk: expected 1 to 1114112 bytes, got 1114113",
    ),
    "a chunk in the layer of the manifest": (
        with_record(0, layer=0, chunk_size=50),
        ", record 0: layer: expected 2 to 3, got 0",
    ),
    "a chunk in the table": (with_record(0, layer=1, chunk_size=50), ", record 0: layer: expected 2 to 3, got 1"),
    "a chunk in no layer": (with_record(5, layer=4), ", record 5: layer: expected 2 to 3, got 4"),
    "a layer of 16 bits": (with_record(5, layer=65_535), ", record 5: layer: expected 2 to 3, got 65535"),
    "a chunk that leaves its layer": (
        with_record(2, offset=501),
        ", record 2: end of the chunk: expected within 1300 bytes, got 1301",
    ),
    "a chunk far outside": (with_record(5, offset=2**48 - 1), ", record 5: end of the chunk: expected within 1118812"),
    "chunks that overlap in order": (
        with_record(2, offset=499),
        ": chunks of layer 2 overlap: expected from 500 on, got 499",
    ),
    "chunks that overlap out of order": (
        with_record(5, offset=3999, chunk_size=2),
        ": chunks of layer 3 overlap: expected from 4001 on, got 4000",
    ),
    "a chunk inside another": (
        with_record(5, offset=4100, chunk_size=5),
        ": chunks of layer 3 overlap: expected from 4700 on, got 4100",
    ),
    "a range that ends elsewhere": (with_record(3, chunk_size=699), ": chunks of layer 3 overlap"),
    "a range with another piece": (with_record(3, sha256=digest(9)), ": chunks of layer 3 overlap"),
    "a range with another size of the piece": (with_record(3, size=1999), ": chunks of layer 3 overlap"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_table_that_breaks_a_rule_is_refused(what: str) -> None:
    data, fault = REFUSED[what]
    with pytest.raises(IntegrityError) as caught:
        parse_table(data, LAYERS, where="layer 1")
    assert str(caught.value).startswith(f"layer 1{fault}")
    assert str(caught.value).endswith(REMEDY)
    assert caught.value.code == "E_TABLE"


@given(tables(), st.data())
def test_chunks_of_a_layer_that_overlap_are_refused_wherever_they_are(
    drawn: tuple[list[Record], list[int]], data: st.DataObject
) -> None:
    records, layers = drawn
    victims = [record for record in records if record.chunk_size > 1]
    if not victims:
        return
    victim = data.draw(st.sampled_from(victims))
    start = data.draw(st.integers(victim.offset, victim.stop - 1))
    stop = data.draw(st.integers(start + 1, min(victim.stop, start + MAX_CHUNK_BYTES)))
    forged = Record(digest(-1), 1, stop - start, victim.layer, start)
    at = data.draw(st.integers(0, len(records)))
    with pytest.raises(IntegrityError, match=rf"chunks of layer {victim.layer} overlap"):
        parse_table(encoded([*records[:at], forged, *records[at:]]), layers, where="layer 1")


def test_a_chunk_is_read_only_if_it_holds_the_piece_of_its_record() -> None:
    chunk = make_chunk(b"content")
    record = Record(hashlib.sha256(b"content").digest(), 7, len(chunk), 2, 0)
    assert read_chunk(chunk, record, where="layer 2") == b"content"
    for wrong, fault in (
        (record._replace(size=8), "layer 2: chunk unpacks to less than announced: expected 8 bytes, got 7"),
        (record._replace(size=6), "layer 2: chunk unpacks to more than announced: expected 6 bytes"),
        (
            record._replace(sha256=digest(0)),
            f"layer 2: piece differs from the table: expected {digest_of(b'0')}, got {digest_of(b'content')}{REMEDY}",
        ),
    ):
        with pytest.raises(IntegrityError) as caught:
            read_chunk(chunk, wrong, where="layer 2")
        assert str(caught.value).startswith(fault)


def nested(count: int) -> list[Record]:
    """Records of count layers that are all in use in the middle."""
    order = [*range(2, 2 + count), *range(2, 2 + count)]
    return [Record(digest(number), 1, 1, layer, number) for number, layer in enumerate(order)]


def test_at_most_16_layers_are_in_use_at_once() -> None:
    layers = [100] * 20
    assert len(parse_table(encoded(nested(16)), layers, where="layer 1")) == 32
    with pytest.raises(IntegrityError, match=r"^layer 1: too many layers in use at once: expected at most 16, got 17;"):
        parse_table(encoded(nested(17)), layers, where="layer 1")
    apart = [Record(digest(number), 1, 1, 2 + number // 2, number) for number in range(2 * 478)]
    assert len(parse_table(encoded(apart), [1000] * 480, where="layer 1")) == 2 * 478


spans = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda pair: (min(pair), max(pair))))


@given(spans)
def test_interleaved_is_the_number_of_spans_that_share_a_point(drawn: Sequence[tuple[int, int]]) -> None:
    naive = max(sum(first <= point <= last for first, last in drawn) for point in range(13))
    assert interleaved(drawn) == naive


def test_a_table_takes_hardly_more_memory_than_its_data() -> None:
    """Also one of a stranger, whose chunks are all in one layer, and in no order."""
    count = 50_000
    data = encoded(Record(digest(offset), 1, 1, 2, offset) for offset in reversed(range(count)))
    tracemalloc.start()
    try:
        assert len(parse_table(data, [0, 0, count], where="layer 1")) == count
        assert tracemalloc.get_traced_memory()[1] < 1.2 * len(data)
    finally:
        tracemalloc.stop()


def test_a_table_is_read_as_often_for_many_layers_as_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's table of 32 MiB, with chunks in no order in 478 layers, would take minutes otherwise."""
    order = [(layer, offset) for layer in range(2, 480) for offset in (3, 1, 2, 0)]
    records = [Record(digest(number), 1, 1, layer, offset) for number, (layer, offset) in enumerate(order)]
    iterate, passes = Table.__iter__, []

    def counted(table: Table) -> Iterator[Record]:
        passes.append(table)
        return iterate(table)

    monkeypatch.setattr(Table, "__iter__", counted)
    assert len(parse_table(encoded(records), [4] * 480, where="layer 1")) == len(order)
    assert 0 < len(passes) < 6
