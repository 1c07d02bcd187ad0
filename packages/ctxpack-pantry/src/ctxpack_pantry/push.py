"""Push: a pack of the cache becomes an artifact of a target. Blobs first, the tag last."""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from ctxpack_bundle import PackManifest, make_chunk, pack, read_pack_manifest, stream_size
from ctxpack_identity import Conflict, CtxPackError, CtxUri, Digest, IntegrityError, Progress, silent
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, Target, describe
from ctxpack_pantry.artifact import (
    build_artifact,
    chunk_descriptor,
    chunks_served,
    describe_contract,
    find_artifact,
    tag_of,
)
from ctxpack_pantry.holdings import Holdings
from ctxpack_pantry.transfer import in_order

__all__ = ["ABSENT_RUN", "PROBE", "Presence", "Pushed", "push"]

ABSENT_RUN = 8  # chunks: more than the manifest and listings, which are new in every pack
PROBE = 8  # chunks, of which one is asked for
NEIGHBOURS = 4  # packs that target is asked for; two requests each


class Pushed(NamedTuple):
    """A pack in a target. artifact: digest of its OCI manifest; sent: bytes of blobs that were not there before."""

    uri: CtxUri
    target: str
    artifact: str
    sent: int
    new: bool


def push(target: Target, folder: str, uri: CtxUri, *, progress: Progress, holdings: Holdings | None = None) -> Pushed:
    """Publish the pack in folder under the tag of uri.

    holdings: of the cache that folder lies in, if it does; they learn the pack's chunks.
    Raises: Conflict when the tag names other outputs, which is never overwritten; IntegrityError when the folder is
    damaged or the tag names something else than this contract's pack; AccessDenied, Unavailable.
    """
    manifest = read_pack_manifest(folder)
    if manifest.uri != uri:
        raise IntegrityError("pack of another contract", where=folder, expected=uri, got=manifest.uri)
    present = _present(target, manifest)
    if present is not None:
        return Pushed(uri, target.name, present.digest, 0, False)
    known = _known(target, holdings, uri) if holdings is not None else frozenset()
    chunks, sent = _push_chunks(target, folder, manifest, known, progress)
    try:
        artifact = _push_manifest(target, manifest, chunks)
    except CtxPackError:
        if not known:
            raise
        # Perhaps somebody removed a blob from under its manifest: now ask for each.
        chunks, more = _push_chunks(target, folder, manifest, frozenset(), silent)
        sent += more
        artifact = _push_manifest(target, manifest, chunks)
    if holdings is not None:
        holdings.record(manifest, chunks)
    # Registries have no "tag unless it exists": look again just before, and again after (last writer wins).
    present = _present(target, manifest)
    if present is None:
        target.tag(artifact, tag_of(uri))
        present = _present(target, manifest)
    return Pushed(uri, target.name, (present or artifact).digest, sent, True)


def _present(target: Target, manifest: PackManifest) -> Descriptor | None:
    """Return what the tag names, if it is these outputs. Raises: Conflict if it is others."""
    found = find_artifact(target, manifest.uri)
    if found is None:
        return None
    if found.pack.outputs_digest != manifest.outputs_digest:
        raise Conflict(
            "the registry holds other outputs of the same contract",
            where=f"{target.name}:{tag_of(manifest.uri)}",
            expected=f"outputs {found.pack.outputs_digest}",
            got=manifest.outputs_digest,
            fix="this push overwrote nothing; the transform is not deterministic, or something it depends on is "
            "missing from the contract",
        )
    return found.descriptor


def _known(target: Target, holdings: Holdings, uri: CtxUri) -> frozenset[Digest]:
    """Return chunks that target certainly has: of the cache's newest packs but that of uri, those it has as well."""
    known: frozenset[Digest] = frozenset()
    for other in islice((other for other in holdings.recent() if other != uri), NEIGHBOURS):
        with suppress(IntegrityError):  # not what we ask for, and nothing to rely on
            known |= chunks_served(target, other)
    return known


def _push_manifest(target: Target, manifest: PackManifest, chunks: list[Descriptor]) -> Descriptor:
    contract = manifest.contract_bytes
    target.push(describe_contract(contract), contract)
    data = build_artifact(contract, chunks)
    artifact = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
    target.push(artifact, data)
    return artifact


def _push_chunks(
    target: Target, folder: str, manifest: PackManifest, known: frozenset[Digest], progress: Progress
) -> tuple[list[Descriptor], int]:
    total = stream_size(manifest)
    sent = 0
    counting = threading.Lock()
    presence = Presence(target, known)

    def send(piece: bytes) -> Descriptor:
        nonlocal sent
        chunk = make_chunk(piece)
        del piece  # while the chunk is on its way, it alone takes memory
        descriptor = chunk_descriptor(chunk)
        if not presence.of(descriptor):
            target.push(descriptor, chunk.data)
            with counting:
                sent += descriptor.size
        progress("push", chunk.content_size, total)
        return descriptor

    def weigh(piece: bytes) -> int:
        return 3 * len(piece) // 2  # the piece, then also its chunk, then the chunk alone

    return list(in_order(send, pack(folder), weigh=weigh)), sent


class Presence:
    """Whether target has a chunk already: asked less often where the answer was no for a while.

    Asking takes a third of all requests. After ABSENT_RUN noes in a row only every PROBE-th chunk is asked for, until
    there is a yes again: a new pack costs hardly a question, a changed one a few chunks sent for nothing. About known
    chunks it is never asked.
    """

    def __init__(self, target: Target, known: frozenset[Digest] = frozenset()) -> None:
        self._target, self._known = target, known
        self._absent = 0

    def of(self, chunk: Descriptor) -> bool:
        """Return whether chunk is certainly there. Called from several threads; a lost count does no harm."""
        if chunk.digest in self._known:
            return True
        self._absent += 1
        if self._absent > ABSENT_RUN and self._absent % PROBE:
            return False
        if self._target.exists(chunk):
            self._absent = 0
            return True
        return False
