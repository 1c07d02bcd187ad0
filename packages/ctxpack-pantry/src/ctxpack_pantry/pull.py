"""Pull: an artifact of a target becomes a pack in the cache, every byte checked before the pack is visible."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import NamedTuple

from ctxpack_bundle import PackManifest, inflate_chunk, read_pack_manifest, unpack
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, NotFound, Progress, uri_digest
from ctxpack_oci import Descriptor, Target
from ctxpack_pantry.artifact import Artifact, content_size, find_artifact, tag_of
from ctxpack_pantry.holdings import Held, Holdings
from ctxpack_pantry.transfer import in_order

__all__ = ["Pulled", "Transfer", "not_found", "pull"]


class Pulled(NamedTuple):
    """A pack in the cache. path: its folder; received: bytes of chunks fetched, 0 when it was there already."""

    uri: CtxUri
    path: str
    manifest: PackManifest
    received: int


def pull(
    cache: Cache, target: Target, uri: CtxUri, *, progress: Progress, on_wait: Callable[[], None] | None = None
) -> Pulled:
    """Return the pack of uri, fetched unless the cache has it; chunks that another pack there holds are not fetched.

    on_wait: called when another process is at the same pack; its work is then used.
    Raises: NotFound when target has no such pack; IntegrityError when anything it serves differs from its digest,
    in which case nothing is left in the cache; AccessDenied, Unavailable, LocalFailure.
    """
    key = uri_digest(uri)
    with cache.lock(key, on_wait=on_wait):
        path = cache.find(key)
        if path is not None:
            return Pulled(uri, path, read_pack_manifest(path), 0)
        artifact = find_artifact(target, uri)
        if artifact is None:
            raise not_found(uri, target.name)
        transfer, holdings = Transfer(target, uri, progress), Holdings(cache)
        path = holdings.lend(artifact.chunks, lambda held: _publish(cache, transfer, artifact, held))
        holdings.record(artifact.pack, artifact.chunks)
    return Pulled(uri, path, artifact.pack, transfer.received)


def not_found(uri: CtxUri, where: str) -> NotFound:
    """Return the error that says a pack is nowhere it was looked for."""
    return NotFound(
        "no such pack",
        where=where,
        got=uri,
        fix="check the URI and the registry, or make the pack: ctxpack run, or ctxpack seed and ctxpack push",
    )


def _publish(cache: Cache, transfer: Transfer, artifact: Artifact, held: Held) -> str:
    with cache.staging() as staging:
        pieces = transfer.pieces(artifact.chunks, held, total=artifact.transfer_size)
        with closing(pieces), cache.flush_ahead(staging):
            manifest = unpack(pieces, staging, where=transfer.where)
        if manifest != artifact.pack:
            raise IntegrityError("first chunk changed between two fetches", where=transfer.where)
        return cache.publish(uri_digest(artifact.pack.uri), staging)


class Transfer:
    """The way of a pack's chunks from target to whoever unpacks them.

    received: bytes of chunks fetched so far, in every attempt. where: for errors.
    """

    def __init__(self, target: Target, uri: CtxUri, progress: Progress) -> None:
        self.received = 0
        self.where = f"{target.name}:{tag_of(uri)}"
        self._target, self._progress = target, progress
        self._told = 0
        self._counting = threading.Lock()

    def pieces(
        self, chunks: Iterable[Descriptor], held: Held, *, total: int, done: int = 0
    ) -> Generator[bytes, None, None]:
        """Yield what chunks unpack to, in order: held, or else fetched, and then checked. Close it.

        total: bytes of chunks in this attempt, for progress; done: how many of them came before.
        Raises: IntegrityError, also when a chunk is missing; AccessDenied, Unavailable, LocalFailure.
        """

        def receive(chunk: Descriptor) -> bytes:
            nonlocal done
            content = self._content(chunk, held)
            with self._counting:
                done += chunk.size
                news, self._told = done - self._told, max(done, self._told)
            if news > 0:  # in a second attempt, nothing is told twice
                self._progress("pull", news, total)
            return content

        def weigh(chunk: Descriptor) -> int:
            return chunk.size + content_size(chunk, where=self.where)  # both are there while it is inflated

        try:
            with closing(in_order(receive, chunks, weigh=weigh)) as pieces:
                yield from pieces
        except NotFound as error:
            raise IntegrityError(
                "a chunk is missing",
                where=f"{self.where}, {error.where}",
                fix="push the pack again",
                code="E_INCOMPLETE",
            ) from error

    def _content(self, chunk: Descriptor, held: Held) -> bytes:
        size = content_size(chunk, where=self.where)
        content = held.content(chunk.digest, size)
        if content is None:
            data = self._target.fetch(chunk)
            with self._counting:
                self.received += chunk.size
            content = inflate_chunk(data, size, where=f"{self.where}, {chunk.digest}")
        return content
