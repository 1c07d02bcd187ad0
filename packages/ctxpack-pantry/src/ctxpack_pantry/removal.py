"""Rm: packs are removed from the cache, with what is noted about their origin."""

from __future__ import annotations

from ctxpack_identity.uri import CtxUri, uri_digest
from ctxpack_pantry.context import Context
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.results import Removed
from ctxpack_pantry.sealed import forget_sealed

__all__ = ["remove_packs"]


def remove_packs(context: Context, *uris: CtxUri) -> Removed:
    """Remove packs from the cache, never from the registry."""
    origins = Origins(context.cache)
    removed, missing = list[CtxUri](), list[CtxUri]()
    for uri in dict.fromkeys(uris):
        (removed if context.cache.remove(uri_digest(uri)) else missing).append(uri)
        origins.forget(uri)
        forget_sealed(context.cache, uri)
    return Removed(tuple(removed), tuple(missing))
