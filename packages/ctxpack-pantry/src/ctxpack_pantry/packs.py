"""Ls: the packs of the cache."""

from __future__ import annotations

from ctxpack_bundle import read_pack_manifest
from ctxpack_identity import CtxUri, IntegrityError, uri_for
from ctxpack_pantry.context import Context
from ctxpack_pantry.results import Listed, StoredPack

__all__ = ["list_packs"]


def list_packs(context: Context) -> Listed:
    """Return the packs of the cache, sorted by URI. The manifest of a damaged pack is None."""
    return Listed(tuple(_stored(uri_for(pack.key), pack.path) for pack in context.cache.packs()))


def _stored(uri: CtxUri, folder: str) -> StoredPack:
    try:
        return StoredPack(uri, folder, read_pack_manifest(folder))
    except IntegrityError:
        return StoredPack(uri, folder, None)
