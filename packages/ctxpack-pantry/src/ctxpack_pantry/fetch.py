"""Fetch: a pack of the registry becomes a pack of the cache, every byte checked before the pack is visible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from ctxpack_bundle import encode_pack_manifest, unpack
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, digest_of, uri_digest
from ctxpack_pantry.admission import find_cached
from ctxpack_pantry.context import Context
from ctxpack_pantry.download import Download
from ctxpack_pantry.holdings import Held, Holdings
from ctxpack_pantry.lookup import OpenedPack, require_found
from ctxpack_pantry.origins import Origins

__all__ = ["Fetched", "fetch"]


class Fetched(NamedTuple):
    """A pack in the cache. folder: the pack's; received: bytes of chunks fetched, 0 when another process fetched it."""

    folder: str
    received: int


def fetch(context: Context, uri: CtxUri) -> Fetched:
    """Return the pack of uri, fetched unless the cache has it; chunks that other cached packs hold are not fetched.

    Two processes that want one pack share the work: the second waits.
    Raises: NotFound when the registry has no such pack; IntegrityError when anything that it serves differs from its
    digest, and then nothing is left in the cache; PolicyRefused, AccessDenied, Unavailable, LocalFailure.
    """
    cache, target = context.cache, context.target
    with cache.lock(uri_digest(uri), on_wait=lambda: context.notice("another process fetches this pack; waiting")):
        folder = find_cached(context, uri)
        if folder is not None:
            return Fetched(folder, 0)
        opened = require_found(context, uri)
        download, holdings = Download(target, opened, context.progress), Holdings(cache)
        chunks = opened.located.chunks
        folder = holdings.lend(chunks[1:], lambda held: _publish(cache, download, opened, held))
        holdings.record(opened.manifest, chunks)
        digest = digest_of(encode_pack_manifest(opened.manifest))
        Origins(cache).record(uri, target.name, digest, opened.located.data)
    return Fetched(folder, download.received)


def _publish(cache: Cache, download: Download, opened: OpenedPack, held: Held) -> str:
    located = opened.located
    first, *others = located.chunks
    rest = download.pieces(others, held, total=located.transfer_size, done=first.size)

    def pieces() -> Iterator[bytes]:
        yield opened.first
        yield from rest

    with cache.staging() as staging:
        with closing(rest), cache.flush_ahead(staging):
            unpack(pieces(), staging, where=download.where)
        return cache.publish(uri_digest(located.uri), staging)
