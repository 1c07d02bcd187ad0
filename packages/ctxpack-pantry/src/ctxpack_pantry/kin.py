"""Kin: packs that share tools, input names and output names, in a short list in the registry.

The list is a hint, for a push that knows no earlier pack. It is an ordinary artifact under a tag of its own, so it pins
no pack. FORMAT.md of ctxpack-bundle, "Kin".
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final, Literal

import msgspec

from ctxpack_identity import (
    Conflict,
    CtxPackError,
    CtxUri,
    Digest,
    IntegrityError,
    InvalidInput,
    NotFound,
    canonical_json,
    parse_uri,
)
from ctxpack_identity.digest import DIGEST_PATTERN
from ctxpack_oci import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    Descriptor,
    ImageManifest,
    Target,
    describe,
    encode_image_manifest,
    parse_image_manifest,
)
from ctxpack_pantry.artifact import EMPTY, EMPTY_DATA
from ctxpack_pantry.context import Notice
from ctxpack_pantry.transfer import at_once

__all__ = ["Announcement", "Kin", "KinList", "encode_kin_list", "parse_kin_list"]

ARTIFACT_TYPE: Final = "application/vnd.ctxpack.kin.v1"
LIST_MEDIA_TYPE: Final = "application/vnd.ctxpack.kin.v1+json"
MOST: Final = 16  # packs
GRACE: Final = 1.0  # seconds that a finished push waits for the list

_MAX_BYTES = 64 << 10  # of a list


class Kin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pack in the list. image: digest of its image manifest; pushed: RFC 3339, UTC, seconds."""

    image: Annotated[Digest, msgspec.Meta(pattern=DIGEST_PATTERN)]
    pushed: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
    uri: CtxUri

    def __post_init__(self) -> None:
        parse_uri(self.uri)


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    packs: Annotated[list[Kin], msgspec.Meta(max_length=MOST)]
    schema: Literal["ctxpack/kin-list/v1"] = msgspec.field(default_factory=lambda: "ctxpack/kin-list/v1")


_decode = msgspec.json.Decoder(
    _Document
).decode  # at import: two threads that are the first to do it crash msgspec 0.22


class KinList:
    """The list of one kin in target. kin: see kinship.kin_of."""

    def __init__(self, target: Target, kin: str) -> None:
        self._target = target
        self.tag = f"ctx-kin-{kin}"

    def read(self) -> list[Kin]:
        """Return the packs in the list, newest first. What is not a list is as if it were not there.

        Raises: AccessDenied, Unavailable, LocalFailure.
        """
        try:
            tagged = self._target.fetch_tag(self.tag)
            if tagged is None:
                return []
            manifest = parse_image_manifest(tagged.data, tagged.descriptor)
            [layer] = manifest.layers
            is_list = (manifest.artifact_type, layer.media_type) == (ARTIFACT_TYPE, LIST_MEDIA_TYPE)
            return parse_kin_list(self._target.fetch(layer)) if is_list and layer.size <= _MAX_BYTES else []
        except (IntegrityError, InvalidInput, NotFound, ValueError):
            return []

    def store(self, packs: Sequence[Kin]) -> Descriptor:
        """Send a list; return its image manifest, to be named by `name`. Raises: as Target.push does."""
        data = encode_kin_list(packs)
        layer = describe(data, LIST_MEDIA_TYPE)
        document = encode_image_manifest(ImageManifest(artifact_type=ARTIFACT_TYPE, config=EMPTY, layers=(layer,)))
        image = describe(document, IMAGE_MANIFEST_MEDIA_TYPE)
        at_once(partial(self._target.push, EMPTY, EMPTY_DATA), partial(self._target.push, layer, data))
        self._target.push(image, document)
        return image

    def name(self, image: Descriptor) -> None:
        """Let the tag of this kin name a list that was stored. Raises: as Target.tag does."""
        self._target.tag(image, self.tag)


class Announcement:
    """Adds a pack to the list of its kin while the pack is pushed. It never fails, and hardly ever delays, the push.

    Making it starts a thread, which reads the list. Tell it when the pack is stored, and when it has its tag.
    sent_empty: whether the registry took a manifest whose config is EMPTY, so that it has that.
    """

    def __init__(self, target: Target, kin: str, notice: Notice) -> None:
        self.sent_empty = False
        self._list, self._notice = KinList(target, kin), notice
        self._pack: Kin | None = None
        self._stored, self._published = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="kin", daemon=True)
        self._thread.start()

    def stored(self, uri: CtxUri, image: Digest) -> None:
        """Say that the registry has the pack's image manifest, with this digest."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._pack = Kin(image=image, pushed=now, uri=uri)
        self._stored.set()

    def published(self) -> None:
        """Say that the pack has its tag. Wait for the list, but not long."""
        self._published.set()
        self._thread.join(GRACE)

    def drop(self) -> None:
        """Say that the push failed, or sent nothing: the list stays as it is."""
        self._pack = None
        self._stored.set()
        self._published.set()

    def _run(self) -> None:
        with suppress(CtxPackError, OSError):
            before = self._list.read()
            self._stored.wait()
            pack = self._pack
            if pack is None:
                return
            packs = [pack, *(other for other in before if other.uri != pack.uri)][:MOST]
            image = self._list.store(packs)
            self.sent_empty = True
            self._published.wait()
            if self._pack is None:
                return
            try:
                self._list.name(image)
            except Conflict:
                self._notice(f"tags are immutable there, so {self._list.tag} keeps its list of earlier packs")


def parse_kin_list(data: bytes) -> list[Kin]:
    """Return the packs in a list. Raises: IntegrityError unless it is canonical and of this schema."""
    try:
        document = _decode(data)
    except (msgspec.MsgspecError, InvalidInput, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"not a list of kin: {error}", where="kin list") from error
    if encode_kin_list(document.packs) != data or len({pack.uri for pack in document.packs}) != len(document.packs):
        raise IntegrityError("not a canonical list of kin", where="kin list")
    return document.packs


def encode_kin_list(packs: Sequence[Kin]) -> bytes:
    """Return a list, canonical."""
    return canonical_json(msgspec.to_builtins(_Document(packs=list(packs))))
