"""Squeezing: pieces become chunks, in parallel and in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import chain
from typing import Final, NamedTuple

from ctxpack_bundle import Piece, make_chunks, runs
from ctxpack_pantry.transfer import in_order

__all__ = ["Squeezed", "squeezed"]

_BLOCK: Final = 1 << 20  # bytes
_HASHED: Final = 3 << 20  # bytes of pieces in memory, hashed or about to be
_SQUEEZED: Final = 8 << 20  # bytes of pieces and chunks in memory, squeezed or about to be


class Squeezed(NamedTuple):
    """A chunk. size: bytes of its piece; sha256: 32 bytes, of the piece; chunk: its bytes."""

    size: int
    sha256: bytes
    chunk: bytes


def squeezed(pieces: Iterable[bytes]) -> Generator[Squeezed, None, None]:
    """Yield the chunks of pieces, which are neighbours in a stream. Close it."""
    with ExitStack() as stack:
        hashing = in_order(_hash, _blocks(pieces), weigh=_weigh_block, budget=_HASHED)
        hashed = chain.from_iterable(stack.enter_context(closing(hashing)))
        squeezing = in_order(_squeeze, runs(hashed), weigh=_weigh, budget=_SQUEEZED)
        for chunks in stack.enter_context(closing(squeezing)):
            while chunks:
                yield chunks.popleft()


def _blocks(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield pieces in lists of some 1 MiB, which are tasks of a fair size."""
    block, size = list[bytes](), 0
    for piece in pieces:
        block.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _hash(block: list[bytes]) -> list[Piece]:
    return [Piece.of(data) for data in block]


def _squeeze(run: list[Piece]) -> deque[Squeezed]:
    chunks = make_chunks([piece.data for piece in run])
    return deque(Squeezed(len(piece.data), piece.sha256, chunk) for piece, chunk in zip(run, chunks, strict=True))


def _weigh_block(block: list[bytes]) -> int:
    return sum(map(len, block))


def _weigh(run: list[Piece]) -> int:
    return 2 * sum(len(piece.data) for piece in run)  # the pieces, then also the chunks
