"""Verify: everything that cached packs hold is read and compared with its digests."""

from __future__ import annotations

from collections.abc import Sequence

from ctxpack_bundle import PackManifest, folder_size, read_pack_manifest
from ctxpack_identity import CtxUri, IntegrityError, LocalFailure, NotFound, uri_digest, uri_for
from ctxpack_pantry.context import Context
from ctxpack_pantry.outlet import damage_of, read_whole
from ctxpack_pantry.results import Verified, VerifiedPack
from ctxpack_pantry.share import Share

__all__ = ["verify"]


def verify(context: Context, uris: Sequence[CtxUri] | None = None) -> Verified:
    """Read cached packs whole, those of uris or all of them; damaged ones are set aside.

    Raises: NotFound when the cache does not have one of uris; LocalFailure.
    """
    chosen = [uri_for(pack.key) for pack in context.cache.packs()] if uris is None else [*dict.fromkeys(uris)]
    sizes = [_size(context, uri) for uri in chosen]
    total, found = sum(sizes), []
    for uri, size in zip(chosen, sizes, strict=True):
        share = Share(context.progress, size, total)
        try:
            found.append(_verify(context._replace(progress=share.report), uri))
        except NotFound:
            if uris is not None:
                raise
            # It was removed meanwhile.
        share.finish("hash")
    return Verified(tuple(found))


def _size(context: Context, uri: CtxUri) -> int:
    """Return how many bytes of a cached pack will be read; 0 for one that is gone, or whose manifest is damaged."""
    folder = context.cache.find(uri_digest(uri))
    try:
        return folder_size(read_pack_manifest(folder)) if folder is not None else 0
    except (IntegrityError, LocalFailure):
        return 0


def _verify(context: Context, uri: CtxUri) -> VerifiedPack:
    folder = context.cache.find(uri_digest(uri))
    if folder is None:
        raise NotFound("not in the cache", where=uri, fix="`ctxpack ls` lists the cache")
    read: list[PackManifest] = []
    damage = damage_of(context, uri, folder, lambda *pack: read.append(read_whole(*pack)))
    if damage is not None:
        return VerifiedPack(uri, 0, 0, str(damage))
    [manifest] = read
    return VerifiedPack(uri, manifest.outputs.files, manifest.outputs.size)
