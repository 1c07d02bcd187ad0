"""Download: the pieces of a pack's chunks, from cached packs that hold them, else from a target."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import closing

from ctxpack_bundle import inflate_chunk
from ctxpack_identity import NotFound, Progress
from ctxpack_oci import Descriptor, Target
from ctxpack_pantry.artifact import content_size
from ctxpack_pantry.holdings import Held
from ctxpack_pantry.lookup import OpenedPack, missing_chunk
from ctxpack_pantry.transfer import in_order

__all__ = ["Download"]


class Download:
    """Fetches chunks of one opened pack, in one attempt or two.

    received: bytes of chunks fetched so far, with the first chunk. where: for errors.
    """

    def __init__(self, target: Target, opened: OpenedPack, progress: Progress) -> None:
        self.received = opened.located.chunks[0].size
        self.where = opened.located.where
        self._target, self._progress = target, progress
        self._reported = 0
        self._counting = threading.Lock()

    def pieces(
        self, chunks: Iterable[Descriptor], held: Held, *, total: int, done: int = 0
    ) -> Generator[bytes, None, None]:
        """Yield the pieces of chunks, in order: held ones, or fetched and checked ones. Close the generator.

        total: bytes of chunks in this attempt, for progress; done: bytes of them that came before.
        Raises: IntegrityError, also when a chunk is missing; AccessDenied, Unavailable, LocalFailure.
        """

        def receive(chunk: Descriptor) -> bytes:
            nonlocal done
            piece = self._piece(chunk, held)
            with self._counting:
                done += chunk.size
                advanced, self._reported = done - self._reported, max(done, self._reported)
            if advanced > 0:  # a second attempt reports only what the first did not reach
                self._progress("pull", advanced, total)
            return piece

        def weigh(chunk: Descriptor) -> int:
            return chunk.size + content_size(chunk, where=self.where)  # both are in memory while it is inflated

        try:
            with closing(in_order(receive, chunks, weigh=weigh)) as pieces:
                yield from pieces
        except NotFound as error:
            raise missing_chunk(f"{self.where}, {error.where}") from error

    def _piece(self, chunk: Descriptor, held: Held) -> bytes:
        size = content_size(chunk, where=self.where)
        piece = held.piece(chunk.digest, size)
        if piece is None:
            data = self._target.fetch(chunk)
            with self._counting:
                self.received += chunk.size
            piece = inflate_chunk(data, size, where=f"{self.where}, {chunk.digest}")
        return piece
