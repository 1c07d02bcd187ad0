"""Layers: where one ends, and which layers of an earlier pack a new one may borrow. FORMAT.md, "Layers", "Borrowing".

Every choice of layers unpacks to the same pack; a reader checks only the bounds.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ctxpack_bundle.table import FIRST_DATA_LAYER, MAX_INTERLEAVED, MAX_LAYERS, Table

__all__ = ["Borrowed", "Layering", "Own", "plan_borrowing", "usage"]

_LEAST: Final = 4 << 20  # bytes of a layer, unless it is the last one
_MOST_FRESH: Final = 340  # layers of a pack that borrows nothing: it leaves room for those that later packs add
_MOST_DEAD: Final = 0.22  # of the bytes of all layers listed
_CAUTION: Final = 0.9  # how much new pieces take is known only when they are compressed
_ROUNDS: Final = 4  # after which nothing more is borrowed


class Layering:
    """Where the layers of a pack end. total: bytes of its stream; least: of a layer."""

    def __init__(self, total: int) -> None:
        self.least = max(_LEAST, total // _MOST_FRESH)

    @property
    def most(self) -> int:
        """Bytes of a layer at most."""
        return 2 * self.least

    def ends_after(self, size: int, sha256: bytes) -> bool:
        """Return whether a layer of size bytes ends after the piece with this digest (32 bytes).

        It depends on the content, so that a push finds the layers of a cut or concurrent push.
        """
        return size > self.least and not sha256[-1] & 0x1F


class Borrowed(NamedTuple):
    """A layer of an earlier pack, as a new one would use it. size: its bytes; live: those that the new pack names.

    span: numbers of the first and last record of the new pack that name it.
    """

    size: int
    live: int
    span: tuple[int, int]

    @property
    def dead(self) -> int:
        """Bytes that the new pack does not name."""
        return self.size - self.live

    @property
    def live_in_span(self) -> float:
        """Live bytes for each record in the span: the fewer, the longer the layer is in use for little."""
        return self.live / (self.span[1] - self.span[0] + 1)


class Own(NamedTuple):
    """What a push has sent so far: bytes and number of its layers, and rounds in which it sent them.

    The layers of one round are in stream order, so one of them is in use at once.
    """

    size: int = 0
    layers: int = 0
    rounds: int = 0


def usage(base: Table, found: Sequence[int], layers: Sequence[int]) -> dict[int, Borrowed]:
    """Return the layers of base that a new pack could use, by index.

    found: for each record of the new pack, the number of the record of base with the same piece, or -1. layers: bytes
    of each layer of base.
    """
    spans: dict[int, tuple[int, int]] = {}
    named: dict[int, array[int]] = {}  # records of base, by layer
    for number, there in enumerate(found):
        if there >= 0:
            layer = base[there].layer
            spans[layer] = spans.get(layer, (number, number))[0], number
            named.setdefault(layer, array("I")).append(there)
    used: dict[int, Borrowed] = {}
    for layer, records in named.items():
        chunks = {base[there].offset: base[there].chunk_size for there in records}  # several records can name one
        used[layer] = Borrowed(layers[layer], sum(chunks.values()), spans[layer])
    return used


def plan_borrowing(borrowed: Mapping[int, Borrowed], new: int, own: Own, layering: Layering) -> dict[int, Borrowed]:
    """Return those of the borrowed layers that are kept; the live chunks of the others must be sent again.

    new: bytes of pieces that borrowed does not have and that were not sent yet, compressed, about. When it is 0 and
    everything is kept, the pack is within the bounds, and can be published.
    The rule: first, until at most 22 % of all bytes listed are dead, the deadest layer is given up; if that alone is
    enough, then of those that alone are enough the one with the fewest live bytes. Then, where too many layers are in
    use at once, the one with the fewest live bytes for its span. Then, while there are too many layers, the one with
    the fewest live bytes.
    """
    if own.rounds >= _ROUNDS:
        return {}
    kept = dict(borrowed)
    coming = _CAUTION * new

    while kept:
        listed = own.size + coming + sum(layer.size for layer in kept.values())
        too_dead = sum(layer.dead for layer in kept.values()) - _MOST_DEAD * listed
        crowd = _most_crowded(kept)
        rounds = own.rounds + bool(coming)
        layers = FIRST_DATA_LAYER + len(kept) + own.layers + bool(coming) + int(coming / layering.least)
        if too_dead > 0:
            given_up = max(kept, key=lambda layer: (kept[layer].dead / kept[layer].size, layer))
            # Dead bytes that go are not listed any more either.
            enough = [layer for layer in kept if (1 - _MOST_DEAD) * kept[layer].dead >= too_dead]
            if given_up in enough:
                given_up = min(enough, key=lambda layer: (kept[layer].live, layer))
        elif len(crowd) + rounds > MAX_INTERLEAVED:
            given_up = min(crowd, key=lambda layer: (kept[layer].live_in_span, layer))
        elif layers > MAX_LAYERS:
            given_up = min(kept, key=lambda layer: (kept[layer].live, layer))
        else:
            break
        coming += kept.pop(given_up).live
    return kept


def _most_crowded(kept: Mapping[int, Borrowed]) -> list[int]:
    """Return the layers in use at the point of the stream where most are."""
    most: list[int] = []
    in_use: list[int] = []
    for layer in sorted(kept, key=lambda layer: kept[layer].span[0]):
        first = kept[layer].span[0]
        in_use = [*(other for other in in_use if kept[other].span[1] >= first), layer]
        if len(in_use) > len(most):
            most = in_use
    return most
