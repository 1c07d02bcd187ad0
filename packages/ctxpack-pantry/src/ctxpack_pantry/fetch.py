"""Fetch: a pack of the registry becomes a pack of the cache, every byte checked before the pack is visible."""

from __future__ import annotations

import shutil
from contextlib import closing
from itertools import chain
from typing import NamedTuple

from ctxpack_bundle import PackManifest, read_pack_manifest, stream_size, unpack
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, LocalFailure, PolicyRefused, uri_digest
from ctxpack_pantry.admission import find_cached, is_admitted
from ctxpack_pantry.context import Context
from ctxpack_pantry.download import Download
from ctxpack_pantry.holdings import NOTHING_HELD, Held, Holdings
from ctxpack_pantry.kinship import note_kin
from ctxpack_pantry.lookup import Admitted, Examined, require_found
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.policy import NOT_ADMITTED
from ctxpack_pantry.sealed import note_sealed
from ctxpack_pantry.tables import remember

__all__ = ["Fetched", "fetch", "is_whole", "read_pack", "unpack_into"]


class Fetched(NamedTuple):
    """A pack in the cache. folder: the pack's; received: bytes of layers fetched, 0 when another process fetched it."""

    folder: str
    received: int


def fetch(context: Context, uri: CtxUri, *, replace: bool = False) -> Fetched:
    """Return the pack of uri, fetched unless the cache has it; pieces that other cached packs hold are not fetched.

    Two processes that want one pack share the work: the second waits. replace: fetch it also if the cache has a pack,
    which then gives way, in the end. So does a cached pack that is not admitted, unless it is the same one.
    Raises: NotFound when the registry has no such pack; IntegrityError when anything that it serves differs from its
    digest, and then nothing is left in the cache; PolicyRefused, AccessDenied, Unavailable, LocalFailure.
    """
    cache, target = context.cache, context.target
    with cache.lock(uri_digest(uri), on_wait=lambda: context.notice("another process fetches this pack; waiting")):
        refused = False
        try:
            folder = None if replace else find_cached(context, uri)
        except PolicyRefused as error:
            if error.code != NOT_ADMITTED:
                raise
            folder, refused = None, True
        if folder is not None:
            return Fetched(folder, 0)
        found = require_found(context, uri)
        folder = _same_as_cached(context, found) if refused else None
        if folder is not None:
            return Fetched(folder, 0)
        holdings = Holdings(cache)
        download = Download(context, found, ahead=not holdings.any())
        lent: list[Held] = []

        def publish(held: Held) -> str:
            lent.append(held)
            return _publish(cache, download, held, replace or refused)

        folder = holdings.lend(download.table, publish)
        opened, whole = download.opened, lent[-1].is_empty
        note_sealed(cache, uri, folder)
        note_kin(cache, uri, opened.manifest.contract)
        remember(cache, target.name, opened.manifest, opened.located.data, download.table.data, whole=whole)
    return Fetched(folder, download.received)


def _same_as_cached(context: Context, found: Admitted) -> str | None:
    """Return the folder of the cached pack if it came with this image manifest, and is admitted now."""
    folder = context.cache.find(uri_digest(found.uri))
    if folder is None or found.image not in Origins(context.cache).images(found.uri, folder):
        return None
    try:
        if found.check is not None:
            found.check(read_pack_manifest(folder))  # it keeps the claims
    except IntegrityError:
        return None  # what is fetched in its place says why
    return folder if is_admitted(context, found.uri, folder) else None


def is_whole(context: Context, located: Admitted | Examined) -> bool:
    """Return whether the registry has the whole pack, as a fetch would find it. All of it is fetched.

    Raises: as fetch does, but not IntegrityError.
    """
    try:
        read_pack(context, located)
    except IntegrityError:
        return False
    return True


def read_pack(context: Context, located: Admitted | Examined) -> PackManifest:
    """Return the pack manifest of a pack in the registry, of which each chunk was fetched and verified; keep nothing.

    Raises: IntegrityError when anything differs from its digest; AccessDenied, Unavailable, LocalFailure.
    """
    with context.cache.staging() as staging:
        return unpack_into(context, located, staging)


def unpack_into(context: Context, located: Admitted | Examined, staging: str) -> PackManifest:
    """Make staging, an empty folder, the pack that the registry has; return its manifest. Raises: as read_pack does."""
    download = Download(context, located)
    _unpack(download, NOTHING_HELD, staging)
    return download.opened.manifest


def _publish(cache: Cache, download: Download, held: Held, replace: bool) -> str:
    key = uri_digest(download.opened.located.uri)
    with cache.staging() as staging:
        with cache.flush_ahead(staging):
            _unpack(download, held, staging)
        if replace:
            cache.remove(key)
        return cache.publish(key, staging)


def _unpack(download: Download, held: Held, staging: str) -> None:
    opened = download.opened
    _require_room(staging, opened.manifest)
    with closing(download.pieces(range(len(download.table)), held, staging)) as rest:
        unpack(chain([opened.first], rest), staging, where=download.where)


def _require_room(staging: str, manifest: PackManifest) -> None:
    """Raise LocalFailure when the pack does not fit on the disk, before most of it is fetched."""
    needed, free = stream_size(manifest), shutil.disk_usage(staging).free
    if needed > free:
        raise LocalFailure(
            "no space left for the pack",
            where=staging,
            expected=f"{needed} bytes free",
            got=str(free),
            fix="free some space, or choose another cache with --cache or CTXPACK_CACHE",
            code="E_DISK_FULL",
        )
