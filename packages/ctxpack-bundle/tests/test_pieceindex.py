"""Pieces are found by their digests, as in a dict."""

from __future__ import annotations

import hashlib
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle import PieceIndex, Record, Table, encode_table


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def table_of(numbers: list[int]) -> Table:
    return Table(encode_table(Record(digest(number), 1, 1, 2, at) for at, number in enumerate(numbers)))


@given(st.lists(st.integers(0, 30), max_size=60))
def test_a_piece_is_found_where_the_table_has_it_first(numbers: list[int]) -> None:
    index = PieceIndex(table_of(numbers))
    first = {number: at for at, number in reversed([*enumerate(numbers)])}
    for number in range(40):
        assert index.find(digest(number)) == first.get(number, -1)


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(-1, 70))
def test_of_equal_pieces_the_next_one_after_a_number_is_found_else_the_first(numbers: list[int], after: int) -> None:
    """Of 16 at most: what is farther on may be found or not."""
    index = PieceIndex(table_of(numbers))
    for number in range(8):
        places = [at for at, there in enumerate(numbers) if there == number]
        later = [at for at in places[:16] if at > after] + [at for at in places if at == after + 1]
        assert index.find(digest(number), after) == (min(later) if later else places[0] if places else -1)


def test_16_records_of_one_piece_are_looked_at() -> None:
    index = PieceIndex(table_of([0, 1] * 30))
    assert [index.find(digest(0), after) for after in (0, 1, 2, 28, 30, 40)] == [2, 2, 4, 30, 0, 0]


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2]), max_size=80))
def test_a_stream_like_the_tables_finds_its_records_in_order(numbers: list[int]) -> None:
    index = PieceIndex(table_of(numbers))
    found, last = [], -1
    for number in numbers:
        last = index.find(digest(number), last)
        found.append(last)
    assert found == [*range(len(numbers))]


def test_digests_that_begin_or_end_alike_are_told_apart() -> None:
    digests = [bytes([n]) + bytes(31) for n in range(50)] + [bytes(31) + bytes([n]) for n in range(1, 50)]
    index = PieceIndex(Table(encode_table(Record(sha256, 1, 1, 2, at) for at, sha256 in enumerate(digests))))
    assert [index.find(sha256) for sha256 in digests] == [*range(len(digests))]


def test_an_index_takes_20_bytes_for_each_record() -> None:
    table = table_of([*range(50_000)])
    tracemalloc.start()
    try:
        index = PieceIndex(table)
        assert index.find(table.sha256(49_999)) == 49_999
        assert tracemalloc.get_traced_memory()[1] < 2 * 20 * len(table)  # while it is made, twice as much
    finally:
        tracemalloc.stop()
