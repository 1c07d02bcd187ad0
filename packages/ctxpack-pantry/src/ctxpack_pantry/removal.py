"""Rm: packs are removed from the cache, with what is noted about their origin, and from the registry if asked."""

from __future__ import annotations

from ctxpack_identity.uri import CtxUri, uri_digest, uri_for
from ctxpack_pantry.context import Context
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.results import Removed
from ctxpack_pantry.sealed import forget_sealed

__all__ = ["remove_all", "remove_packs"]


def remove_packs(context: Context, *uris: CtxUri, registry: bool = False) -> Removed:
    """Remove packs from the cache; from the registry too if registry is set, whatever their tags name there.

    Blobs stay in the registry until it collects its garbage. Raises: AccessDenied when it does not delete, Unavailable;
    then the cache still has the pack; LocalFailure.
    """
    origins = Origins(context.cache)
    removed, missing = list[CtxUri](), list[CtxUri]()
    for uri in dict.fromkeys(uris):
        gone = registry and _remove_there(context, uri)
        gone = context.cache.remove(uri_digest(uri)) or gone
        (removed if gone else missing).append(uri)
        origins.forget(uri)
        forget_sealed(context.cache, uri)
    return Removed(tuple(removed), tuple(missing), context.target.name if registry else None)


def remove_all(context: Context) -> Removed:
    """Remove all packs from the cache, also those that were set aside. Raises: LocalFailure."""
    return remove_packs(context, *map(uri_for, context.cache.keys()))


def _remove_there(context: Context, uri: CtxUri) -> bool:
    from ctxpack_pantry.artifact import tag_of  # the registry's part is slow to load

    return context.target.delete(tag_of(uri)) is not None
