"""Push: a pack of the cache is published in a registry. Blobs are sent first, the tag last."""

from __future__ import annotations

from contextlib import suppress

from ctxpack_identity import Conflict, CtxUri, Digest, IntegrityError, NotFound, Unavailable, uri_digest
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, describe
from ctxpack_pantry.artifact import build_image_manifest, tag_of
from ctxpack_pantry.borrowing import Survey, known_bases, listed_bases, survey
from ctxpack_pantry.context import Context
from ctxpack_pantry.kin import Announcement, kin_of
from ctxpack_pantry.lookup import Located, admit, locate, open_pack
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.outlet import damage_of, manifest_of, read_whole, reading
from ctxpack_pantry.results import Pushed
from ctxpack_pantry.sending import Sending, Sent
from ctxpack_pantry.tables import Tables, remember

__all__ = ["push"]


def push(context: Context, uri: CtxUri, *, borrow: bool = False) -> Pushed:
    """Publish the cached pack of uri under its tag; nothing is sent when the registry has it.

    Pieces that the registry holds as part of an earlier pack of the same kin are not sent: of a pack that this cache
    pushed or pulled, and, if borrow is set, of one that the registry's list of kin names.
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
    try:
        with reading(uri, folder):
            return _Push(context, uri, folder).publish(borrow)
    except IntegrityError:
        with suppress(NotFound):  # whether the cached pack is the damaged one, and not what the registry has
            damage_of(context, uri, folder, read_whole)
        raise


class _Push:
    """One push. sent: bytes of blobs that the target did not have."""

    def __init__(self, context: Context, uri: CtxUri, folder: str) -> None:
        self._context, self._uri, self._folder = context, uri, folder
        self._target, self._origins = context.target, Origins(context.cache)
        self._manifest = manifest_of(uri, folder)
        self._kin = kin_of(self._manifest.contract)
        self._sent = 0
        self._done = self._reported = 0  # bytes of the stream, in this attempt and at most

    def publish(self, borrow: bool) -> Pushed:
        target = self._target
        found = locate(target, self._uri)
        if found is not None:
            if found.image != self._origins.image(self._uri, target.name, self._folder):
                self._require_same_outputs(found)
            return self._pushed(found.image, new=False)
        announcement = Announcement(target, self._kin, self._context.notice)
        try:
            return self._publish_new(announcement, borrow)
        except BaseException:
            announcement.drop()
            raise

    def _publish_new(self, announcement: Announcement, borrow: bool) -> Pushed:
        target = self._target
        sent, image, data = self._send_all(borrow)
        announcement.stored(self._uri, image.digest)
        # Registries have no "tag unless it exists": look again just before, and again after (last writer wins).
        found = locate(target, self._uri)
        if found is None:
            target.tag(image, tag_of(self._uri))
            found = locate(target, self._uri)
        if found is not None and found.image != image.digest:
            self._require_same_outputs(found)
            announcement.drop()
            return self._pushed(found.image, new=True)
        remember(self._context.cache, target.name, self._manifest, data, sent.table)
        announcement.published()
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

    def _send_all(self, borrow: bool) -> tuple[Sent, Descriptor, bytes]:
        """Send everything but the tag; return what was sent, and the image manifest with its bytes."""
        bases = known_bases(Tables(self._context.cache), self._target.name, self._kin)
        if borrow and not bases:
            bases = listed_bases(self._context, self._kin)
        found = survey(self._folder, self._manifest, bases, self._context.progress)
        try:
            return self._send(found)
        except (NotFound, Unavailable):
            if found is None:
                raise
        # Perhaps a layer was removed although an image manifest names it.
        return self._send(None)

    def _send(self, found: Survey | None) -> tuple[Sent, Descriptor, bytes]:
        self._done = 0
        sending = Sending(self._target, self._folder, self._manifest, found, self._progress)
        try:
            with self._context.cache.staging() as staging:
                sent = sending.send(staging)
        finally:
            self._sent += sending.sent
        data = build_image_manifest(self._manifest.contract_bytes, sent.layers)
        image = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
        self._target.push(image, data)
        return sent, image, data

    def _progress(self, stage: str, advanced: int, total: int | None) -> None:
        """Report what goes beyond an earlier attempt, and never more than total, which is an estimate."""
        self._done += advanced
        reached = self._done if total is None else min(self._done, total)
        if reached > self._reported:
            self._context.progress(stage, reached - self._reported, total)
            self._reported = reached
