"""Push: a pack of the cache becomes an artifact of a target. Blobs first, the tag last."""

from __future__ import annotations

import threading
from typing import NamedTuple

from ctxpack_bundle import PackManifest, make_chunk, pack, read_manifest, stream_size
from ctxpack_identity import Conflict, CtxUri, IntegrityError, Progress
from ctxpack_oci import MANIFEST_MEDIA_TYPE, Descriptor, Target, describe
from ctxpack_pantry.artifact import (
    build_artifact,
    chunk_descriptor,
    describe_contract,
    find_artifact,
    tag_of,
)
from ctxpack_pantry.holdings import Holdings
from ctxpack_pantry.transfer import in_order

__all__ = ["ABSENT_RUN", "PROBE", "Presence", "Pushed", "push"]


ABSENT_RUN = 8  # chunks: more than the manifest and listings, which are new in every pack
PROBE = 8


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
    manifest = read_manifest(folder)
    if manifest.uri != uri:
        raise IntegrityError("pack of another contract", where=folder, expected=uri, got=manifest.uri)
    present = _present(target, manifest)
    if present is not None:
        return Pushed(uri, target.name, present.digest, 0, False)
    chunks, sent = _push_chunks(target, folder, manifest, progress)
    if holdings is not None:
        holdings.record(manifest, chunks)
    contract = manifest.contract_bytes
    target.push(describe_contract(contract), contract)
    data = build_artifact(contract, chunks)
    artifact = describe(data, MANIFEST_MEDIA_TYPE)
    target.push(artifact, data)
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


def _push_chunks(
    target: Target, folder: str, manifest: PackManifest, progress: Progress
) -> tuple[list[Descriptor], int]:
    total = stream_size(manifest)
    sent = 0
    counting = threading.Lock()
    presence = Presence(target)

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

    return list(in_order(send, pack(folder), weigh=lambda piece: len(piece) * 5 // 4)), sent


class Presence:
    """Whether target has a chunk already: asked less often where the answer was no for a while.

    Asking takes a third of all requests. After ABSENT_RUN noes in a row only every PROBE-th chunk is asked for, until
    there is a yes again: a new pack costs hardly a question, a changed one a few chunks sent for nothing.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._absent = 0

    def of(self, chunk: Descriptor) -> bool:
        """Return whether chunk is certainly there. Called from several threads; a lost count does no harm."""
        self._absent += 1
        if self._absent > ABSENT_RUN and self._absent % PROBE:
            return False
        if self._target.exists(chunk):
            self._absent = 0
            return True
        return False
