"""The table of items: by number, by digest, by place, and where results are."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, digest_from_hex
from ctxpack_identity.items import Item
from ctxpack_pantry.items.table import ItemTable


class Source:
    """A source of results whose paths say all of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def location(self, place: int, output: str) -> str:
        return f"{self.name}/{place}/{output}"


def table_of(contents: list[int]) -> ItemTable:
    """Return the table of items with these contents."""
    digests = [digest_from_hex(hashlib.sha256(b"%d" % content).hexdigest()) for content in contents]
    return ItemTable(Item(f"{n:03}", digest, f"o/{n:03}") for n, digest in enumerate(digests))


contents = st.lists(st.integers(0, 4), max_size=12)


@given(contents)
def test_items_with_one_digest_are_one_piece_of_work(contents: list[int]) -> None:
    table = table_of(contents)
    first = {content: contents.index(content) for content in contents}
    assert [*table.missing()] == sorted(first.values())
    for number, content in enumerate(contents):
        alike = [n for n, other in enumerate(contents) if other == content]
        assert [*table.find(bytes.fromhex(table.digest(number).removeprefix("sha256:")))] == alike
        assert table.leads(number) == (alike[0] == number)
    assert [*table.find(b"\0" * 32)] == []
    assert table.lacking == len(contents)


@given(contents.filter(bool), st.data())
def test_what_was_found_or_lost_is_so_for_all_that_are_alike(contents: list[int], data: st.DataObject) -> None:
    table, sources = table_of(contents), [Source("a"), Source("b")]
    expected: dict[int, tuple[Source, int]] = {}
    for _ in range(data.draw(st.integers(1, 8))):
        number, source = data.draw(st.integers(0, len(contents) - 1)), data.draw(st.sampled_from(sources))
        act = data.draw(st.sampled_from(["found", "found", "lose"]))
        if act == "found":
            table.found(number, source, number, bytes([number]) * 32)
            expected[contents[number]] = source, number
        else:
            table.lose(number)
            expected.pop(contents[number], None)
    for number, content in enumerate(contents):
        source_and_place = expected.get(content)
        if source_and_place is None:
            assert table.source(number) is None
            continue
        where, place = source_and_place
        assert table.source(number) is where
        assert table.location(number) == f"{where.name}/{place}/o/{number:03}"
        assert table.result(number) == bytes([place]) * 32
    assert {*table.missing()} == {contents.index(content) for content in contents if content not in expected}
    assert table.lacking == sum(content not in expected for content in contents)
    counted = {source: sum(found[0] is source for found in map(expected.get, contents) if found) for source in sources}
    assert dict(table.counts()) == {s: count for s, count in counted.items() if count}


def test_places_are_in_the_order_of_a_pack_and_collisions_are_refused() -> None:
    digest = digest_from_hex("0" * 64)
    outputs = ["a.b", "a/b", "a!", "\u00fc", "z"]
    table = ItemTable(Item(str(n), digest, output) for n, output in enumerate(outputs))
    assert [table.outputs[number] for number in table.by_output] == ["a/b", "a!", "a.b", "z", "\u00fc"]
    with pytest.raises(InvalidInput) as caught:
        ItemTable([Item("one", digest, "a"), Item("two", digest, "a/b")])
    assert caught.value.code == "E_EACH"
