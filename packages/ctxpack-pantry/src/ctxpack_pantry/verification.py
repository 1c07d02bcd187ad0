"""Verify: everything that cached packs hold is read and compared with its digests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ctxpack_bundle import PackManifest
from ctxpack_identity import CtxUri, NotFound, uri_digest, uri_for
from ctxpack_pantry.context import Context
from ctxpack_pantry.outlet import damage_of, read_whole
from ctxpack_pantry.results import Verified, VerifiedPack

__all__ = ["verify"]


def verify(context: Context, uris: Sequence[CtxUri] | None = None) -> Verified:
    """Read cached packs whole, those of uris or all of them; damaged ones are set aside.

    Raises: NotFound when the cache does not have one of uris; LocalFailure.
    """
    if uris is not None:
        return Verified(tuple(_verify(context, uri) for uri in dict.fromkeys(uris)))
    found = []
    for pack in context.cache.packs():
        with suppress(NotFound):  # it was removed meanwhile
            found.append(_verify(context, uri_for(pack.key)))
    return Verified(tuple(found))


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
