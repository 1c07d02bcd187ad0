"""Push: a pack of the cache is published in a registry. Blobs are sent first, the tag last."""

from __future__ import annotations

import threading
from contextlib import suppress
from itertools import islice

from ctxpack_bundle import encode_pack_manifest, make_chunk, pack, read_pack_manifest, stream_size
from ctxpack_identity import (
    Conflict,
    CtxPackError,
    CtxUri,
    Digest,
    IntegrityError,
    NotFound,
    Progress,
    digest_of,
    silent,
    uri_digest,
)
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, Target, describe
from ctxpack_pantry.artifact import build_image_manifest, chunk_descriptor, describe_contract, tag_of
from ctxpack_pantry.context import Context
from ctxpack_pantry.holdings import Holdings
from ctxpack_pantry.lookup import Located, admit, locate, open_pack
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.results import Pushed
from ctxpack_pantry.transfer import in_order

__all__ = ["ABSENT_RUN", "PROBE", "Presence", "push"]

ABSENT_RUN = 8  # chunks: more than those of the pack manifest and listings, which are new in every pack
PROBE = 8  # chunks, of which one is asked for
NEIGHBOURS = 4  # packs that target is asked for; one request each


def push(context: Context, uri: CtxUri) -> Pushed:
    """Publish the cached pack of uri under its tag; nothing is sent when the registry has it.

    Raises: NotFound when the cache has no such pack; Conflict when the tag names other outputs, which is never
    overwritten; IntegrityError when the cached pack is damaged or the tag names something else than this contract's
    pack; PolicyRefused, AccessDenied, Unavailable.
    """
    folder = context.cache.find(uri_digest(uri))
    if folder is None:
        raise NotFound(
            f"no such pack: {uri}",
            where=f"cache {context.cache.root}",
            fix="make it or fetch it first: ctxpack run, ctxpack seed or ctxpack pull; `ctxpack ls` lists the cache",
        )
    return _Push(context, uri, folder).publish()


class _Push:
    """One push. sent: bytes of blobs that the target did not have."""

    def __init__(self, context: Context, uri: CtxUri, folder: str) -> None:
        self._context, self._uri, self._folder = context, uri, folder
        self._target, self._holdings, self._origins = context.target, Holdings(context.cache), Origins(context.cache)
        self._manifest = read_pack_manifest(folder)
        if self._manifest.uri != uri:
            raise IntegrityError(
                "pack of another contract",
                where=folder,
                expected=uri,
                got=self._manifest.uri,
                fix=f"remove the pack (ctxpack rm {uri}), then pull or seed it again",
            )
        self._sent = 0
        self._counting = threading.Lock()

    def publish(self) -> Pushed:
        target = self._target
        found = locate(target, self._uri)
        if found is not None:
            if found.image != self._origins.image(self._uri, target.name, self._folder):
                self._require_same_outputs(found)
            return self._pushed(found.image, new=False)
        chunks, image, data = self._send_all()
        self._holdings.record(self._manifest, chunks)
        # Registries have no "tag unless it exists": look again just before, and again after (last writer wins).
        found = locate(target, self._uri)
        if found is None:
            target.tag(image, tag_of(self._uri))
            found = locate(target, self._uri)
        if found is not None and found.image != image.digest:
            self._require_same_outputs(found)
            return self._pushed(found.image, new=True)
        self._origins.record(self._uri, target.name, digest_of(encode_pack_manifest(self._manifest)), data)
        return self._pushed(image.digest, new=True)

    def _pushed(self, image: Digest, *, new: bool) -> Pushed:
        return Pushed(self._uri, self._target.name, image, self._sent, new)

    def _require_same_outputs(self, found: Located) -> None:
        """Return if found, which is not the image manifest of this cached pack, holds the same outputs.

        Raises: Conflict; PolicyRefused; as open_pack does.
        """
        theirs = open_pack(self._target, admit(self._context, found)).manifest.outputs_digest
        if theirs != self._manifest.outputs_digest:
            raise Conflict(
                "the registry holds other outputs of the same contract",
                where=found.where,
                expected=f"outputs {theirs}",
                got=self._manifest.outputs_digest,
                fix="this push overwrote nothing; the transform is not deterministic, or something it depends on is "
                "missing from the contract",
            )

    def _send_all(self) -> tuple[list[Descriptor], Descriptor, bytes]:
        """Send chunks, contract and image manifest; return the chunks, and the image manifest with its bytes."""
        known = self._known()
        chunks = self._send_chunks(known, self._context.progress)
        try:
            return chunks, *self._send_image_manifest(chunks)
        except CtxPackError:
            if not known:
                raise
        # Perhaps a blob was removed although an image manifest names it: now ask for each chunk.
        chunks = self._send_chunks(frozenset(), silent)
        return chunks, *self._send_image_manifest(chunks)

    def _known(self) -> frozenset[Digest]:
        """Return chunks that target certainly has: those of the cache's newest packs that target has as well.

        A registry accepts no image manifest whose blobs it lacks, and keeps blobs that an image manifest names.
        """
        known: frozenset[Digest] = frozenset()
        others = (uri for uri in self._holdings.recent() if uri != self._uri)
        for uri in islice(others, NEIGHBOURS):
            with suppress(IntegrityError):  # nothing depends on the tag of another pack
                found = locate(self._target, uri)
                known |= {chunk.digest for chunk in found.chunks} if found is not None else set()
        return known

    def _send_image_manifest(self, chunks: list[Descriptor]) -> tuple[Descriptor, bytes]:
        contract = self._manifest.contract_bytes
        self._target.push(describe_contract(contract), contract)
        data = build_image_manifest(contract, chunks)
        image = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
        self._target.push(image, data)
        return image, data

    def _send_chunks(self, known: frozenset[Digest], progress: Progress) -> list[Descriptor]:
        total = stream_size(self._manifest)
        presence = Presence(self._target, known)

        def send(piece: bytes) -> Descriptor:
            chunk = make_chunk(piece)
            del piece  # while the chunk is sent, only the chunk takes memory
            descriptor = chunk_descriptor(chunk)
            if not presence.of(descriptor):
                self._target.push(descriptor, chunk.data)
                with self._counting:
                    self._sent += descriptor.size
            progress("push", chunk.content_size, total)
            return descriptor

        def weigh(piece: bytes) -> int:
            return 3 * len(piece) // 2  # the piece, then also its chunk, then the chunk alone

        return list(in_order(send, pack(self._folder), weigh=weigh))


class Presence:
    """Whether target has a chunk already. It is asked less often after several negative answers in a row.

    Asking takes a third of all requests. After ABSENT_RUN negative answers in a row only every PROBE-th chunk is asked
    for, until an answer is positive: a new pack costs few requests, a changed one sends a few chunks for nothing. Known
    chunks are never asked for.
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
