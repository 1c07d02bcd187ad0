"""Pull: an artifact of a target becomes a pack in the cache, every byte checked before the pack is visible."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from ctxpack_bundle import PackManifest, inflate_chunk, read_manifest, unpack
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, NotFound, Progress, uri_digest
from ctxpack_oci import Descriptor, Target
from ctxpack_pantry.artifact import Artifact, content_size, find_artifact, tag_of
from ctxpack_pantry.transfer import in_order

__all__ = ["Pulled", "not_found", "pull"]


class Pulled(NamedTuple):
    """A pack in the cache. path: its folder; received: bytes of chunks fetched, 0 when it was there already."""

    uri: CtxUri
    path: str
    manifest: PackManifest
    received: int


def pull(
    cache: Cache, target: Target, uri: CtxUri, *, progress: Progress, on_wait: Callable[[], None] | None = None
) -> Pulled:
    """Return the pack of uri, fetched unless the cache has it.

    on_wait: called when another process is at the same pack; its work is then used.
    Raises: NotFound when target has no such pack; IntegrityError when anything it serves differs from its digest,
    in which case nothing is left in the cache; AccessDenied, Unavailable, LocalFailure.
    """
    key = uri_digest(uri)
    with cache.lock(key, on_wait=on_wait):
        path = cache.find(key)
        if path is not None:
            return Pulled(uri, path, read_manifest(path), 0)
        artifact = find_artifact(target, uri)
        if artifact is None:
            raise not_found(uri, target.name)
        with cache.staging() as staging:
            manifest = _unpack(target, artifact, staging, uri, progress)
            path = cache.publish(key, staging)
    return Pulled(uri, path, manifest, artifact.transfer_size)


def not_found(uri: CtxUri, where: str) -> NotFound:
    """Return the error that says a pack is nowhere it was looked for."""
    return NotFound(
        "no such pack",
        where=where,
        got=uri,
        fix="check the URI and the registry, or make the pack: ctxpack run, or ctxpack seed and ctxpack push",
    )


def _unpack(target: Target, artifact: Artifact, staging: str, uri: CtxUri, progress: Progress) -> PackManifest:
    where = f"{target.name}:{tag_of(uri)}"
    total = artifact.transfer_size

    def receive(chunk: Descriptor) -> bytes:
        data = target.fetch(chunk)
        content = inflate_chunk(data, content_size(chunk, where=where), where=f"{where}, {chunk.digest}")
        progress("pull", chunk.size, total)
        return content

    def weigh(chunk: Descriptor) -> int:
        return chunk.size + content_size(chunk, where=where)

    try:
        with closing(in_order(receive, artifact.chunks, weigh=weigh)) as pieces:
            manifest = unpack(pieces, staging, where=where)
    except NotFound as error:
        raise IntegrityError(
            "a chunk is missing", where=f"{where}, {error.where}", fix="push the pack again", code="E_INCOMPLETE"
        ) from error
    if manifest != artifact.pack:
        raise IntegrityError("first chunk changed between two fetches", where=where)
    return manifest
