"""Where layers end, and that packs stay within the bounds, however often and however they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

import pytest
from pushed_versions import Piece, Pushed, new_pieces, push, stored

from ctxpack_bundle import (
    FIRST_DATA_LAYER,
    MAX_LAYERS,
    Borrowed,
    Layering,
    Own,
    Record,
    Table,
    encode_table,
    plan_borrowing,
    usage,
)

MIB = 1 << 20
MOST_DEAD = 0.22  # of the bytes of all layers listed

Change = Callable[[Random, list[Piece]], list[Piece]]


def somewhere(random: Random, pieces: Sequence[Piece], most: float = 0.5) -> tuple[int, int]:
    """Return where a range starts and stops."""
    start = random.randint(0, len(pieces))
    return start, min(len(pieces), start + random.randint(1, max(1, int(most * len(pieces)))))


def fresh(random: Random, count: int) -> list[Piece]:
    return new_pieces(random, count, AVERAGE)


def clustered(random: Random, pieces: list[Piece]) -> list[Piece]:
    start, stop = somewhere(random, pieces)
    return [*pieces[:start], *fresh(random, stop - start), *pieces[stop:]]


def scattered(random: Random, pieces: list[Piece]) -> list[Piece]:
    share = random.choice([0.01, 0.03, 0.1, 0.3, 0.6])
    return [fresh(random, 1)[0] if random.random() < share else piece for piece in pieces]


def grown(random: Random, pieces: list[Piece]) -> list[Piece]:
    start, stop = somewhere(random, pieces)
    return [*pieces[:start], *fresh(random, stop - start), *pieces[start:]]


def shrunk(random: Random, pieces: list[Piece]) -> list[Piece]:
    start, stop = somewhere(random, pieces)
    return [*pieces[:start], *pieces[stop:]] or fresh(random, 1)


def thinned(random: Random, pieces: list[Piece]) -> list[Piece]:
    return [piece for piece in pieces if random.random() < 0.8] or fresh(random, 1)


def moved(random: Random, pieces: list[Piece]) -> list[Piece]:
    start, stop = somewhere(random, pieces)
    rest = [*pieces[:start], *pieces[stop:]]
    to = random.randint(0, len(rest))
    return [*rest[:to], *pieces[start:stop], *rest[to:]]


def repeated(random: Random, pieces: list[Piece]) -> list[Piece]:
    start, stop = somewhere(random, pieces, 0.2)
    to = random.randint(0, len(pieces))
    return [*pieces[:to], *pieces[start:stop] * random.randint(1, 3), *pieces[to:]]


def sprinkled(random: Random, pieces: list[Piece]) -> list[Piece]:
    """One piece many times, as zeros are."""
    one = random.choice(pieces)
    return [one if random.random() < 0.1 else piece for piece in pieces]


def shuffled(random: Random, pieces: list[Piece]) -> list[Piece]:
    return random.sample(pieces, len(pieces))


CHANGES: list[Change] = [clustered, scattered, grown, shrunk, thinned, moved, repeated, sprinkled, shuffled]
EVERYDAY: list[Change] = [clustered, scattered, scattered, moved, grown, shrunk]
AVERAGE = 1000  # bytes of a piece; real ones have 64 KiB


def layering_of(pieces: Sequence[Piece], least: int) -> Layering:
    """Return the layering of small packs: as Layering, but with layers of least bytes in place of 4 MiB."""
    total = sum(piece.size for piece in pieces)
    layering = Layering(total)
    layering.least = max(least, total // 340)
    return layering


def history(seed: int) -> Iterator[tuple[list[Piece], Pushed]]:
    """Yield the versions of a pack that changes at random, pushed one after the other."""
    random = Random(seed)
    count = 400 if seed % 100 == 0 else random.choice([3, 12, 25, 40])
    least = AVERAGE * random.choice([1, 2, 4, 8])
    pieces, changes = fresh(random, count), random.choice([CHANGES, EVERYDAY])
    pushed = push(pieces, None, layering_of(pieces, least))
    yield pieces, pushed
    for _ in range(random.randint(1, 20)):
        for _ in range(random.choice([1, 1, 2, 3])):
            pieces = random.choice(changes)(random, pieces)[: 2 * count]
        pushed = push(pieces, pushed, layering_of(pieces, least))
        yield pieces, pushed


def dead(pushed: Pushed) -> float:
    """Return the share of the listed bytes that no record names."""
    named = {(record.layer, record.offset): record.chunk_size for record in pushed.table}
    return 1 - sum(named.values()) / sum(layer.size for layer in pushed.layers)


def require_whole(pieces: list[Piece], pushed: Pushed) -> None:
    """Check that each record says where the chunk of its piece is."""
    there = [pushed.layers[record.layer - FIRST_DATA_LAYER].chunks[record.offset] for record in pushed.table]
    assert there == [Piece(*record[:3]) for record in pushed.table] == pieces


def test_every_version_of_500_histories_is_within_the_bounds() -> None:
    """push() has parsed each table, so no more than 16 layers interleave, and no chunks overlap."""
    borrowed = dirty = 0
    for seed in range(500):
        for number, (pieces, pushed) in enumerate(history(seed)):
            require_whole(pieces, pushed)
            share = dead(pushed)
            assert share <= MOST_DEAD, f"history {seed}, version {number}"
            assert len(pushed.layers) + FIRST_DATA_LAYER <= MAX_LAYERS, f"history {seed}, version {number}"
            borrowed += pushed.sent < stored(pieces)
            dirty += share > 0.1
    assert borrowed > 2500
    assert dirty > 500


@pytest.mark.parametrize("share", [0.01, 0.02, 0.03])
def test_versions_with_scattered_changes_send_little_more_than_the_changes(share: float) -> None:
    """What borrowing saves: nothing is sent twice that is not given up for the bounds."""
    random = Random(1)
    pieces = fresh(random, 2000)
    layering = Layering(1)
    layering.least = 64 * AVERAGE * 2 // 3  # as many chunks as are in 4 MiB
    pushed = push(pieces, None, layering)
    first, sent, changed = pushed.sent, list[int](), 0
    for _ in range(20):
        places = set(random.sample(range(len(pieces)), int(share * len(pieces))))
        pieces = [fresh(random, 1)[0] if number in places else piece for number, piece in enumerate(pieces)]
        changed += stored(pieces[number] for number in places)
        pushed = push(pieces, pushed, layering)
        sent.append(pushed.sent)
    assert first == stored(fresh(Random(1), 2000))
    assert sum(sent) <= 2.6 * changed
    assert max(sent) <= 0.15 * first


def test_the_same_pack_again_sends_nothing() -> None:
    pieces = fresh(Random(2), 300)
    layering = layering_of(pieces, 8 * AVERAGE)
    first = push(pieces, None, layering)
    again = push(pieces, first, layering)
    assert (again.sent, again.layers, again.table.data) == (0, first.layers, first.table.data)


def test_a_pack_of_other_pieces_borrows_nothing() -> None:
    random = Random(3)
    layering = layering_of(fresh(random, 300), 8 * AVERAGE)
    first = push(fresh(random, 300), None, layering)
    pieces = fresh(random, 300)
    assert push(pieces, first, layering).sent == stored(pieces)


def test_a_layer_ends_past_4_mib_or_a_340th_of_the_stream_at_digests_that_end_in_5_zero_bits() -> None:
    for total, least in ((0, 4 * MIB), (340 * 4 * MIB, 4 * MIB), (340 * 5 * MIB, 5 * MIB)):
        layering = Layering(total)
        assert (layering.least, layering.most) == (least, 2 * least)
        for last in range(256):
            assert layering.ends_after(least + 1, bytes(31) + bytes([last])) == (last % 32 == 0)
            assert not layering.ends_after(least, bytes(31) + bytes([last]))


def test_a_cut_push_finds_its_layers_again_after_a_change() -> None:
    """Layers end where the content says, so those behind a change are the same."""
    random = Random(4)
    pieces = fresh(random, 2000)
    changed = [*fresh(random, 3), *pieces]
    one, other = (push(version, None, layering_of(version, 20 * AVERAGE)) for version in (pieces, changed))
    layers = [[*layer.chunks.values()] for layer in one.layers]
    assert len(layers) > 20
    assert sum([*layer.chunks.values()] in layers for layer in other.layers) > len(layers) / 2


def test_usage_counts_each_chunk_once_and_spans_all_its_records() -> None:
    base = Table(
        encode_table(
            [
                Record(bytes(32), 10, 4, 2, 0),
                Record(b"1" * 32, 10, 5, 3, 7),
                Record(bytes(32), 10, 4, 2, 0),
                Record(b"2" * 32, 10, 6, 2, 4),
            ]
        )
    )
    sizes = [1, 1, 30, 40, 50]
    assert usage(base, [-1, 0, 2, 0, -1, 3, -1], sizes) == {2: Borrowed(30, 10, (1, 5))}
    assert usage(base, [1, 2, 1], sizes) == {3: Borrowed(40, 5, (0, 2)), 2: Borrowed(30, 4, (1, 1))}
    assert usage(base, [-1], sizes) == {}


LAYERING = Layering(0)


def apart(count: int, *, size: int = 100, live: int = 100) -> dict[int, Borrowed]:
    """Layers of which one is in use at once."""
    return {2 + number: Borrowed(size, live, (number, number)) for number in range(count)}


def given_up(borrowed: dict[int, Borrowed], new: int, own: Own) -> set[int]:
    return set(borrowed) - set(plan_borrowing(borrowed, new, own, LAYERING))


def test_the_deadest_layers_are_given_up_until_22_percent_are_dead() -> None:
    borrowed = apart(10) | {
        20: Borrowed(300, 10, (0, 0)),
        21: Borrowed(900, 600, (0, 0)),
        22: Borrowed(100, 90, (0, 0)),
    }
    assert given_up(borrowed, 0, Own()) == {20}
    assert given_up(borrowed | {23: Borrowed(900, 500, (0, 0))}, 0, Own()) == {20, 23}
    assert plan_borrowing(apart(10, live=78), 0, Own(), LAYERING) == apart(10, live=78)
    assert plan_borrowing(apart(10, live=77), 0, Own(), LAYERING) != apart(10, live=77)


def test_what_is_sent_counts_as_live() -> None:
    assert plan_borrowing(apart(10, live=70), 0, Own(size=370, layers=1, rounds=1), LAYERING) == apart(10, live=70)
    assert plan_borrowing(apart(10, live=70), 420, Own(), LAYERING) == apart(10, live=70)


def test_the_smallest_of_the_layers_in_use_at_once_are_given_up_until_16_are() -> None:
    borrowed = {2 + number: Borrowed(100 + number, 100 + number, (number, 100)) for number in range(18)}
    borrowed |= {90: Borrowed(1, 1, (101, 101))}
    assert given_up(borrowed, 0, Own()) == {2, 3, 4}, "one more, for the layer of their chunks"
    assert given_up(borrowed, 0, Own(rounds=2)) == {2, 3, 4, 5, 6}


def test_the_smallest_layers_are_given_up_until_an_image_has_480() -> None:
    borrowed = apart(478) | {2: Borrowed(90, 90, (0, 0)), 3: Borrowed(80, 80, (1, 1))}
    assert plan_borrowing(borrowed, 0, Own(), LAYERING) == borrowed
    assert given_up(borrowed, 1, Own()) == {3}
    assert given_up(borrowed, 0, Own(layers=1, rounds=1)) == {2, 3}


def test_nothing_is_borrowed_after_4_rounds() -> None:
    assert plan_borrowing(apart(3), 0, Own(rounds=3), LAYERING) == apart(3)
    assert plan_borrowing(apart(3), 0, Own(rounds=4), LAYERING) == {}
