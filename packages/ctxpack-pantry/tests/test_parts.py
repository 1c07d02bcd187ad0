"""Parts: what is wanted lies in few ranges of layers, none of them large, and few of them in memory at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle import FIRST_DATA_LAYER, Record, Table, encode_table
from ctxpack_pantry.parts import MOST, Part, Plan, plan_parts

KIB, MIB = 1 << 10, 1 << 20
GAP = 256 * KIB
LARGEST = MIB + 64 * KIB  # bytes of a chunk


class Case(NamedTuple):
    """What plan_parts takes."""

    table: Table
    wanted: list[int]
    layers: list[int]

    def plan(self) -> Plan:
        return plan_parts(self.table, self.wanted, self.layers)

    def wanted_in(self, layer: int) -> list[Record]:
        """Return the wanted chunks of a layer as they lie in it, each once."""
        records = {self.table[number] for number in self.wanted if self.table[number].layer == layer}
        return sorted(records, key=lambda record: record.offset)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Layers with chunks and dead bytes between them, used in any order, some chunks again and again."""
    sizes = st.sampled_from([1, 30 * KIB, 60 * KIB, 60 * KIB, 300 * KIB, LARGEST])
    gaps = st.sampled_from([0, 0, 0, 0, 1, 100 * KIB, GAP - 1, GAP, MIB])
    layers = [0] * FIRST_DATA_LAYER
    records: list[Record] = []
    for _ in range(draw(st.integers(1, 4))):
        end = 0
        for size, gap in draw(st.lists(st.tuples(sizes, gaps), max_size=25)):
            records.append(Record(len(records).to_bytes(32, "big"), 7, size, len(layers), end + gap))
            end += gap + size
        layers.append(end + draw(gaps))
    order = records if draw(st.booleans()) else draw(st.permutations(records))
    again = draw(st.lists(st.sampled_from(records), max_size=5)) if records else []
    table = Table(encode_table([*order, *again]))
    wanted = [number for number in range(len(table)) if draw(st.integers(0, 3))]
    return Case(table, wanted, layers)


def in_layer(plan: Plan, layer: int) -> list[Part]:
    return sorted((part for part in plan.parts if part.layer == layer), key=lambda part: part.start)


def overlap(one: Part, other: Part) -> bool:
    """Whether both are in use at one point of the stream."""
    return one.first <= other.last and other.first <= one.last


@given(cases())
def test_every_wanted_chunk_lies_in_its_part(case: Case) -> None:
    plan = case.plan()
    assert len(plan.part_of) == len(case.wanted)
    for position, number in enumerate(case.wanted):
        record, part = case.table[number], plan.parts[plan.part_of[position]]
        assert record.layer == part.layer
        assert part.start <= record.offset < record.stop <= part.stop


@given(cases())
def test_parts_are_in_the_order_of_their_first_use_and_know_their_last(case: Case) -> None:
    plan = case.plan()
    assert all(one.first < other.first for one, other in pairwise(plan.parts))
    for number, part in enumerate(plan.parts):
        uses = [position for position, used in enumerate(plan.part_of) if used == number]
        assert (part.first, part.last) == (uses[0], uses[-1])


@given(cases())
def test_parts_of_a_layer_are_apart_within_it_and_none_is_large(case: Case) -> None:
    plan = case.plan()
    for layer, size in enumerate(case.layers):
        parts = in_layer(plan, layer)
        assert all(0 <= part.start < part.stop <= size and part.size <= MOST for part in parts)
        assert all(one.stop <= other.start for one, other in pairwise(parts))


@given(cases())
def test_small_gaps_are_joined_and_no_others(case: Case) -> None:
    plan = case.plan()
    for layer, size in enumerate(case.layers):
        parts = in_layer(plan, layer)
        if [(part.start, part.stop) for part in parts] == [(0, size)]:
            continue
        chunks = case.wanted_in(layer)
        for one, other in pairwise(chunks):
            joined = any(part.start <= one.offset and other.stop <= part.stop for part in parts)
            assert not joined or other.offset - one.stop < GAP
        for before, after in pairwise(parts):
            following = next(chunk for chunk in chunks if chunk.offset == after.start)
            assert after.start - before.stop >= GAP or following.stop - before.start > MOST
        assert {part.start for part in parts} <= {chunk.offset for chunk in chunks}
        assert {part.stop for part in parts} <= {chunk.stop for chunk in chunks}


@given(cases())
def test_a_layer_of_which_more_than_half_is_wanted_is_fetched_whole_unless_it_is_large(case: Case) -> None:
    plan = case.plan()
    for layer, size in enumerate(case.layers):
        places = [(part.start, part.stop) for part in in_layer(plan, layer)]
        if size <= MOST and 2 * sum(chunk.chunk_size for chunk in case.wanted_in(layer)) > size + 1:
            assert places == [(0, size)]
        elif places == [(0, size)]:
            chunks = case.wanted_in(layer)
            gaps = sum(gap for one, other in pairwise(chunks) if (gap := other.offset - one.stop) < GAP)
            assert 2 * (sum(chunk.chunk_size for chunk in chunks) + gaps) >= size


@given(cases())
def test_parts_in_memory_are_used_one_after_the_other_or_are_small_together(case: Case) -> None:
    plan = case.plan()
    kept = [part for part in plan.parts if not part.filed]
    if sum(part.size for part in plan.parts) <= MOST:
        assert kept == plan.parts
    else:
        assert not any(overlap(one, other) for number, one in enumerate(kept) for other in kept[:number])
    for part in plan.parts:
        assert not part.filed or any(overlap(part, other) for other in kept), "a file only where memory is taken"


def layered(sizes: Sequence[int], order: Sequence[int]) -> Case:
    """A case in which everything is wanted: chunks of 64 KiB, of these layers in turn. sizes: chunks of each layer."""
    ends = [0] * len(sizes)
    records: list[Record] = []
    for place in order:
        records.append(Record(bytes(32), 1, 64 * KIB, FIRST_DATA_LAYER + place, ends[place]))
        ends[place] += 64 * KIB
    layers = [*[0] * FIRST_DATA_LAYER, *(64 * KIB * size for size in sizes)]
    return Case(Table(encode_table(records)), [*range(len(records))], layers)


def test_layers_in_stream_order_are_whole_parts_in_memory() -> None:
    case = layered([100] * 5, [layer for layer in range(5) for _ in range(100)])
    assert case.plan().parts == [
        Part(2 + number, 0, 100 * 64 * KIB, 100 * number, 100 * number + 99) for number in range(5)
    ]


def test_a_layer_over_the_limit_comes_in_parts_in_stream_order() -> None:
    case = layered([300], [0] * 300)
    assert [(part.start, part.stop, part.filed) for part in case.plan().parts] == [
        (0, 8 * MIB, False),
        (8 * MIB, 16 * MIB, False),
        (16 * MIB, 300 * 64 * KIB, False),
    ]


def test_what_is_spread_over_the_stream_is_filed_and_what_is_dense_is_not() -> None:
    """An old layer of which some chunks are used everywhere, among new layers that are used one after the other."""
    order = [place for new in (1, 2, 3) for _ in range(25) for place in (0, new, new, new, new)]
    parts = layered([75, 100, 100, 100], order).plan().parts
    assert [(part.layer, part.filed) for part in parts] == [(2, True), (3, False), (4, False), (5, False)]


def test_nothing_wanted_is_nothing_fetched() -> None:
    plan = layered([3], [0, 0, 0])._replace(wanted=[]).plan()
    assert (plan.parts, list(plan.part_of)) == ([], [])


def test_a_few_chunks_of_a_layer_are_a_few_ranges() -> None:
    case = layered([100], [0] * 100)._replace(wanted=[10, 11, 15, 16, 40, 99])
    chunk = 64 * KIB
    assert [(part.start // chunk, part.stop // chunk) for part in case.plan().parts] == [
        (10, 17),  # a gap of 3 chunks costs less than a request
        (40, 41),
        (99, 100),
    ]
