"""Push: a pack of the cache is published in a registry. Blobs are sent first, the tag last.

An ordinary push believes an image manifest that it finds under the tag. A repair reads every blob, and heals. What is
there is examined only, to be compared: whether it may be used is not asked. A push that signs reads all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ctxpack_identity import (
    Conflict,
    CtxPackError,
    CtxUri,
    Digest,
    IntegrityError,
    NotFound,
    PolicyRefused,
    Unavailable,
    uri_digest,
)
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, describe, parse_image_manifest
from ctxpack_pantry.admission import note_pushed
from ctxpack_pantry.artifact import build_image_manifest, describe_contract, tag_of
from ctxpack_pantry.borrowing import Survey, known_bases, listed_bases, survey
from ctxpack_pantry.context import Context
from ctxpack_pantry.fetch import is_whole
from ctxpack_pantry.kin import Announcement
from ctxpack_pantry.kinship import kin_of
from ctxpack_pantry.lookup import Located, examine, locate, open_pack, require_located
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.outlet import damage_of, manifest_of, read_whole, reading
from ctxpack_pantry.policy import not_adopted
from ctxpack_pantry.repairing import Soundness, restore
from ctxpack_pantry.results import Pushed, Replaced, Signed
from ctxpack_pantry.seed import same_outputs
from ctxpack_pantry.sending import Sending, Sent
from ctxpack_pantry.tables import Tables, remember
from ctxpack_pantry.tagging import set_tag
from ctxpack_pantry.transfer import at_once

if TYPE_CHECKING:
    from ctxpack_bundle import PackManifest
    from ctxpack_trust import PrivateKey

# Most pushes sign nothing, so `signing` is imported where a key was given.

__all__ = ["push"]

_ATTEMPTS = 2  # of a repair: if the registry does not store a blob again, other blobs hold the same pack


def push(
    context: Context,
    uri: CtxUri,
    *,
    borrow: bool = False,
    repair: bool = False,
    replace: bool = False,
    key: PrivateKey | None = None,
    if_own: bool = False,
) -> Pushed:
    """Publish the cached pack of uri under its tag; nothing is sent when the registry has it.

    When this returns, the tag names this pack, and no push of other outputs can have had the same answer (`tagging`).
    Pieces that the registry holds as part of an earlier pack of the same kin are not sent: of a pack that this cache
    pushed or pulled, and, if borrow is set, of one that the registry's list of kin names.
    repair: read every blob that the registry has of this pack, send what is missing or damaged, and replace anything
    under the tag that is no pack. replace: put this pack also in the place of other outputs. key: sign what the tag
    names in the end; only an own pack can be signed, and layers are borrowed only of packs that this cache knows whole.
    Where the tag names another's pack with the same files, that is read whole and signed, as what was made again.
    if_own: push what is not one's own without a signature, and say so.
    Raises: NotFound when the cache has no such pack; Conflict when the tag names other outputs, which only replace
    overwrites; IntegrityError when the cached pack is damaged, when the tag names something else than this contract's
    pack, which only repair and replace overwrite, and when a repair did not help; Unavailable also when the registry
    loses what it took, and when it is too slow to decide a race; AccessDenied. With key PolicyRefused (E_NOT_OWN),
    before anything is sent, when the pack is not one's own, unless if_own is set; then as signing.sign_pushed does.
    """
    folder = context.cache.find(uri_digest(uri))
    if folder is None:
        raise NotFound(
            f"no such pack: {uri}",
            where=f"cache {context.cache.root}",
            fix="make it or fetch it first: ctxpack run, ctxpack seed or ctxpack pull; `ctxpack ls` lists the cache",
        )
    if key is not None and if_own:
        from ctxpack_pantry.signing import key_if_own

        key = key_if_own(context, uri, folder, key)
    try:
        with reading(uri, folder):
            pushing = _Push(context, uri, folder, key)
            pushed = pushing.publish(borrow=borrow, repair=repair, replace=replace)
    except IntegrityError:
        with suppress(NotFound):  # whether the cached pack is the damaged one, and not what the registry has
            damage_of(context, uri, folder, read_whole)
        raise
    return pushed if key is None else pushed._replace(signed=pushing.sign(pushed.image, key))


class _Found(NamedTuple):
    """What the tag names. image: digest, None without a tag; located: unless that is no image manifest of this pack.

    outputs: digest of the outputs; None where they are not known. noted: whether this cache knew the image manifest;
    settled: and that its tag had its settle time. differs: whether a push that signs must not take it for the pack,
    although the outputs are the same: their modes, or what is a root, differ. manifest: of a pack that was opened.
    """

    image: Digest | None
    located: Located | None = None
    outputs: Digest | None = None
    noted: bool = False
    settled: bool = False
    differs: bool = False
    manifest: PackManifest | None = None


class _Push:
    """One push. sent: bytes of blobs that the target did not have."""

    def __init__(self, context: Context, uri: CtxUri, folder: str, key: PrivateKey | None = None) -> None:
        self._context, self._uri, self._folder = context, uri, folder
        self._target, self._origins = context.target, Origins(context.cache)
        self._manifest = manifest_of(uri, folder)
        self._outputs = self._manifest.outputs_digest
        self._kin = kin_of(self._manifest.contract)
        self._signs, self._whole = key is not None, True
        self._located: Located | None = None  # what the tag named last
        self._published: Digest | None = None  # what this push sent, and tagged
        self._sent_empty = False  # see Announcement
        self._sent = 0
        self._done = self._reported = 0  # bytes of the stream, in this attempt and at most

    def publish(self, *, borrow: bool, repair: bool, replace: bool) -> Pushed:
        if self._signs:
            from ctxpack_pantry.signing import require_own

            require_own(self._context, self._manifest)
        found = self._find_whatever() if repair or replace else self._find()
        is_other = found.differs or found.outputs not in (None, self._outputs)
        if is_other and not replace:
            raise self._conflict(found)
        if found.outputs == self._outputs and not (repair or is_other):
            return self._confirmed(found)
        sound = Soundness(self._target, self._context.progress) if repair else None
        if sound is not None and found.located is not None and not is_other and self._restore(found, sound):
            self._say_contract(sound)
            return self._pushed(found.located.image, new=False)
        announcement = Announcement(self._target, self._kin, self._context.notice)
        try:
            if sound is None:
                sent, image, data = self._send_all(borrow)
            else:
                sent, image, data = self._send_sound(sound)
                self._say_contract(sound)
            return self._publish_new(announcement, found, sent, image, data)
        except BaseException:
            announcement.drop()
            raise

    def sign(self, image: Digest, key: PrivateKey) -> Signed:
        """Sign the pack that the tag names since publish, which is image. Raises: as signing.sign_pushed does."""
        from ctxpack_pantry.signing import sign_pushed

        located = self._located
        if located is None or located.image != image:
            located = require_located(self._context, self._uri)
        is_sent = self._whole and located.image == self._published
        return sign_pushed(
            self._context, located, self._manifest, key, is_sent=is_sent, has_empty=is_sent and self._sent_empty
        )

    def _find(self) -> _Found:
        """Return what the tag names. Raises: as locate and open_pack do."""
        located = self._located = locate(self._target, self._uri)
        if located is None:
            return _Found(None)
        if located.image == self._noted():
            settled = self._origins.is_settled(self._uri, self._target.name)
            return _Found(located.image, located, self._outputs, noted=True, settled=settled)
        theirs = open_pack(self._target, examine(located)).manifest
        differs = self._signs and not same_outputs(theirs, self._manifest)
        return _Found(located.image, located, theirs.outputs_digest, differs=differs, manifest=theirs)

    def _find_whatever(self) -> _Found:
        """Return what the tag names, also if that is no pack, or one that cannot be opened."""
        try:
            return self._find()
        except IntegrityError:
            image = self._target.resolve_tag(tag_of(self._uri))
        located = None
        with suppress(IntegrityError):
            located = locate(self._target, self._uri)
        return _Found(image, located)

    def _noted(self) -> Digest | None:
        """Return the image manifest of this cached pack in the target, as far as this cache knows."""
        return self._origins.image(self._uri, self._target.name, self._folder)

    def _confirmed(self, found: _Found) -> Pushed:
        """Return the result of a push that sent nothing. One that came just now may still lose a race."""
        assert found.image is not None
        if not found.settled and not self._target.conditional_tags:
            time.sleep(self._context.settle)
            if self._target.resolve_tag(tag_of(self._uri)) != found.image:
                return self._pushed(self._theirs(), new=False)
        return self._pushed(found.image, new=False)

    def _theirs(self) -> Digest:
        """Return the image manifest that another push has put under the tag, with the same outputs.

        Raises: Conflict when the outputs are others; Unavailable when there is none; as _find does.
        """
        found = self._find()
        if found.image is None:
            raise self._lost_tag()
        if found.differs or found.outputs != self._outputs:
            raise self._conflict(found)
        return found.image

    def _restore(self, found: _Found, sound: Soundness) -> bool:
        """Return whether the image manifest names a whole pack now, with these outputs."""
        located, cache = found.located, self._context.cache
        assert located is not None
        pack, tables = self._manifest, Tables(cache)
        with cache.staging() as staging:
            sent = restore(self._target, located, self._folder, pack, tables=tables, sound=sound, staging=staging)
        if sent is None:
            return False
        self._sent += sent
        if found.noted:
            return True
        # Each blob is what its digest says; whether they are a pack, nobody here has seen.
        again = self._find_whatever()
        return again.outputs == self._outputs and is_whole(self._context, examine(located))

    def _publish_new(
        self, announcement: Announcement, found: _Found, sent: Sent, image: Descriptor, data: bytes
    ) -> Pushed:
        """Set the tag, and return the result. found: what the tag named before."""
        target, tag = self._target, tag_of(self._uri)
        announcement.stored(self._uri, image.digest)
        named = set_tag(target, image, tag, before=found.image, settle=self._context.settle)
        if named == image.digest:
            cache, whole = self._context.cache, self._whole
            remember(cache, target.name, self._manifest, data, sent.table, settled=True, whole=whole)
            where, manifest = f"{target.name}:{tag}", parse_image_manifest(data)
            self._published, self._located = named, Located(self._uri, where, image, data, manifest)
            note_pushed(self._context, self._uri, named, self._folder)
            announcement.published()
            self._sent_empty = announcement.sent_empty
            if found.image in (None, named):
                return self._pushed(named, new=found.image is None)
            return self._pushed(named, new=found.outputs != self._outputs, replaced=found)
        announcement.drop()
        if named in (None, found.image):
            raise self._lost_tag()
        return self._pushed(self._theirs(), new=True)

    def _pushed(self, image: Digest, *, new: bool, replaced: _Found | None = None) -> Pushed:
        gone = None if replaced is None or replaced.image is None else Replaced(replaced.image, replaced.outputs)
        return Pushed(self._uri, self._target.name, image, self._sent, new, self._outputs, gone)

    def _conflict(self, found: _Found) -> Conflict:
        if found.outputs == self._outputs:
            return Conflict(
                "the registry holds the same outputs with other modes, or as other roots, so they are not signed",
                where=f"{self._target.name}:{tag_of(self._uri)}",
                expected="the files of the cached pack",
                got=str(found.image),
                fix="`ctxpack push --replace --sign URI` puts yours there",
            )
        conflict = Conflict(
            "the registry holds other outputs of the same contract",
            where=f"{self._target.name}:{tag_of(self._uri)}",
            expected=f"outputs {found.outputs}",
            got=self._outputs,
            fix="this push overwrote nothing. The work is not deterministic, or something it depends on is missing "
            "from the contract. To use theirs: `ctxpack rm URI`, then pull; to put yours there: `ctxpack push "
            "--replace URI`; to make it again: `ctxpack run --recompute`; to remove theirs: `ctxpack rm --registry "
            "URI`; to keep both: another `salt` in one contract",
        )
        refused = self._refusal(found)
        return conflict if refused is None else not_adopted(conflict, refused)

    def _refusal(self, found: _Found) -> PolicyRefused | None:
        """Return why the policy does not admit what the tag names; None if it does, or that is not known."""
        from ctxpack_pantry.deciding import refusal  # conflicts are rare

        if found.image is None or found.manifest is None:
            return None
        with suppress(CtxPackError):
            return refusal(self._context, self._uri, found.image, found.manifest)
        return None

    def _lost_tag(self) -> Unavailable:
        return Unavailable(
            "the tag does not name the pack, though the registry accepted that",
            where=f"{self._target.name}:{tag_of(self._uri)}",
            fix="push again; if it stays, ask the operator of the registry",
            code="E_LOST",
        )

    def _send_sound(self, sound: Soundness) -> tuple[Sent, Descriptor, bytes]:
        """Send everything but the tag so that each blob is there and whole; borrow nothing. As _send_all."""
        for attempt in range(_ATTEMPTS):
            sent, image, data = self._send(None, has=sound.of, padding=attempt)
            sound.look_again()
            lacking = sound.lacking_layers(parse_image_manifest(data))
            lacking += [] if sound.of(image) else [image]
            if not lacking:
                return sent, image, data
        raise IntegrityError(
            "the registry took it, and does not give it back as it was",
            where=f"{lacking[0].digest} of {self._target.name}",
            fix="ask the operator of the registry; it keeps damaged data",
            code="E_DIGEST",
        )

    def _say_contract(self, sound: Soundness) -> None:
        """Say that the contract, whose digest is the URI, cannot be healed: a registry may keep what it damaged."""
        if not sound.of(describe_contract(self._manifest.contract_bytes)):
            self._context.notice(
                f"{self._target.name} keeps a damaged contract blob; ctxpack does not need it, but other tools may"
            )

    def _send_all(self, borrow: bool) -> tuple[Sent, Descriptor, bytes]:
        """Send everything but the tag; return what was sent, and the image manifest with its bytes."""
        bases = known_bases(Tables(self._context.cache), self._target.name, self._kin, whole=self._signs)
        if borrow and not bases and not self._signs:
            bases = listed_bases(self._context, self._kin)
        found = survey(self._folder, self._manifest, bases, self._context.progress)
        self._whole = found is None or found.base.whole
        try:
            return self._send(found)
        except (NotFound, Unavailable):
            if found is None:
                raise
        # Perhaps a layer was removed although an image manifest names it.
        self._whole = True
        return self._send(None)

    def _send(
        self, found: Survey | None, *, has: Callable[[Descriptor], bool] | None = None, padding: int = 0
    ) -> tuple[Sent, Descriptor, bytes]:
        """Send everything but the tag. has, padding: as for Sending."""
        self._done = 0
        sending = Sending(self._target, self._folder, self._manifest, found, self._progress, has=has, padding=padding)
        try:
            with self._context.cache.staging() as staging:
                sent = sending.send(staging)
        finally:
            self._sent += sending.sent
        data = build_image_manifest(self._manifest, sent.layers)
        image = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
        # Not every registry refuses an image manifest whose blobs it lost.
        checks = [partial(self._require_kept, blob) for blob in sending.blobs]
        at_once(*checks, partial(self._target.push, image, data))
        return sent, image, data

    def _require_kept(self, blob: Descriptor) -> None:
        if not self._target.exists(blob):
            raise Unavailable(
                "the registry accepted a blob, and has lost it",
                where=f"{blob.digest} of {self._target.name}",
                fix="push again; if it stays, ask the operator of the registry",
                code="E_LOST",
            )

    def _progress(self, stage: str, advanced: int, total: int | None) -> None:
        """Report what goes beyond an earlier attempt, and never more than total, which is an estimate."""
        self._done += advanced
        reached = self._done if total is None else min(self._done, total)
        if reached > self._reported:
            self._context.progress(stage, reached - self._reported, total)
            self._reported = reached
