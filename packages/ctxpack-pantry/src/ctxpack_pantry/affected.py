"""Affected: what a denial is about, as far as this machine knows: cached packs, what was made of them, and where.

Who made what of what is said by provenance, which is unsigned, and by claims. More is listed rather than less: a pack
counts as made from another also where only the digest of an input says so.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from ctxpack_bundle import PackManifest, read_pack_manifest
from ctxpack_identity import CtxPackError, CtxUri, Digest, IntegrityError, uri_for
from ctxpack_pantry.claimed import sources_of
from ctxpack_pantry.claimnotes import ClaimNotes
from ctxpack_pantry.context import Context
from ctxpack_pantry.deciding import Deciding
from ctxpack_pantry.lineage import inputs_of, items_of
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.runnotes import RunNotes
from ctxpack_trust import SignedClaim, public_key_of, read_claim

__all__ = ["Affected", "AffectedPack", "Denial", "find_affected", "known_images", "known_kinds"]

Document = dict[str, Any]

_WORDS = {"image": "the image manifest", "key": "the key", "outputs": "the outputs", "uri": "the URI"}

DENIED, SIGNED, INPUT, ITEMS = "denied", "signed", "input", "items"


class Denial(NamedTuple):
    """What is denied. kind: "image", "key", "outputs" or "uri"; value: a digest, a key id or a URI."""

    kind: str
    value: str

    @property
    def word(self) -> str:
        return _WORDS[self.kind]


class AffectedPack(NamedTuple):
    """A cached pack. why: denied itself; signed by the key; made from another as input, or with items of it.

    through: that other one: a URI, a digest or a key id. refused: whether the policy, with the denial, does not admit
    the pack. places: paths at which outputs of it were left, and something is.
    """

    uri: CtxUri
    folder: str
    why: str
    through: str
    refused: bool
    places: tuple[str, ...]


class Affected(NamedTuple):
    """packs: nearest first, each once. unknown: a line for people for each thing that cannot be known here."""

    packs: tuple[AffectedPack, ...]
    unknown: tuple[str, ...]

    def members(self) -> Document:
        """Return it as the part of a document."""
        packs = [{**pack._asdict(), "places": list(pack.places)} for pack in self.packs]
        return {"packs": packs, "unknown": list(self.unknown)}


class _Known(NamedTuple):
    """What is known of a cached pack. claims: those that the cache keeps, whose signatures are right."""

    uri: CtxUri
    folder: str
    manifest: PackManifest
    images: tuple[Digest, ...]
    claims: tuple[SignedClaim, ...]


def find_affected(context: Context, denial: Denial, policy: bytes) -> Affected:
    """Return what a denial is about. policy: with the denial, as the bytes of its file.

    Raises: LocalFailure when the cache cannot be read; InvalidInput for the policy.
    """
    packs, damaged = _cached(context)
    reasons = _reasons(packs, denial)
    deciding = Deciding(context, policy)
    places, nameless = _places(context)
    found = tuple(
        AffectedPack(
            uri,
            packs[uri].folder,
            *reason,
            refused=_is_refused(deciding, packs[uri]),
            places=tuple(places.get(uri, ())),
        )
        for uri, reason in reasons.items()
    )
    unknown = [
        f"only the packs in {context.cache.root} were looked at: other caches, machines and registries may have more",
        "what was copied, moved or exported from here is not known",
    ]
    if denial.kind == "key":
        unknown.append(
            "the cache keeps a claim when it admitted a pack, so others may be signed by this key as well; "
            "`ctxpack inspect --skip-cache` asks the registry"
        )
    missed = sum(uri in reasons for uri in nameless)
    if missed:
        unknown.append(f"{missed} outputs were left by an earlier version of ctxpack, which did not note where")
    if damaged:
        unknown.append(f"{damaged} damaged cached packs were not looked at; `ctxpack verify --all` sets them aside")
    return Affected(found, tuple(unknown))


def known_kinds(context: Context, digest: str) -> list[str]:
    """Return what the cache knows under a digest: "image", "outputs", both or nothing."""
    packs, _ = _cached(context, claims=False)
    is_image = any(digest in pack.images for pack in packs.values())
    is_outputs = any(pack.manifest.outputs_digest == digest for pack in packs.values())
    return [kind for kind, is_one in (("image", is_image), ("outputs", is_outputs)) if is_one]


def known_images(context: Context, *, uris: Collection[str] = (), outputs: Collection[str] = ()) -> frozenset[str]:
    """Return the image manifests that the cache knows of its packs with one of these URIs, or of these outputs."""
    if not uris and not outputs:
        return frozenset()
    packs, _ = _cached(context, claims=False)
    meant = [pack for pack in packs.values() if pack.uri in uris or pack.manifest.outputs_digest in outputs]
    return frozenset(image for pack in meant for image in pack.images)


def _cached(context: Context, *, claims: bool = True) -> tuple[dict[CtxUri, _Known], int]:
    """Return the packs of the cache, by URI, and how many are damaged."""
    origins, notes = Origins(context.cache), ClaimNotes(context.cache)
    packs, damaged = dict[CtxUri, _Known](), 0
    for cached in context.cache.packs():
        uri = uri_for(cached.key)
        try:
            manifest = read_pack_manifest(cached.path)
        except IntegrityError:
            damaged += 1
            continue
        images = tuple(origins.images(uri, cached.path))
        found = tuple(one for image in images for one in _claims(notes, image, uri)) if claims else ()
        packs[uri] = _Known(uri, cached.path, manifest, images, found)
    return packs, damaged


def _claims(notes: ClaimNotes, image: Digest, uri: CtxUri) -> Iterator[SignedClaim]:
    for found in notes.of(image):
        try:
            key = public_key_of(found.spki or b"", where=found.where)
            yield SignedClaim(key, read_claim(found.bundle, key, image=image, uri=uri))
        except CtxPackError:
            continue  # the cache is no proof; such a note never admits anything, either


def _reasons(packs: dict[CtxUri, _Known], denial: Denial) -> dict[CtxUri, tuple[str, str]]:
    """Return the affected packs, nearest first, and of each why, and through what."""
    uses = _uses_of(packs)
    reasons: dict[CtxUri, tuple[str, str]] = {}
    waiting: deque[CtxUri] = deque()

    def reach(uri: CtxUri, why: str, through: str) -> None:
        if uri not in reasons:
            reasons[uri] = why, through
            waiting.append(uri)

    for pack in packs.values():
        if _is_meant(pack, denial):
            reach(pack.uri, SIGNED if denial.kind == "key" else DENIED, denial.value)
    for user, why in uses.get(denial.value, ()):  # also of what is not cached
        reach(user, why, denial.value)
    while waiting:
        pack = packs[waiting.popleft()]
        for named in (pack.uri, pack.manifest.outputs_digest, *pack.images):
            for user, why in uses.get(named, ()):
                reach(user, why, pack.uri)
    return reasons


def _is_meant(pack: _Known, denial: Denial) -> bool:
    """Return whether the denial is about this pack itself."""
    return {
        "uri": pack.uri == denial.value,
        "outputs": pack.manifest.outputs_digest == denial.value,
        "image": denial.value in pack.images,
        "key": any(one.key.key_id == denial.value for one in pack.claims),
    }[denial.kind]


def _uses_of(packs: dict[CtxUri, _Known]) -> dict[str, list[tuple[CtxUri, str]]]:
    """Return which packs were made from what: a URI, outputs, an image manifest, or what a key's claims admitted."""
    uses = defaultdict[str, list[tuple[CtxUri, str]]](list)
    for pack in packs.values():
        for source in inputs_of(pack.manifest):
            for named in (source.uri, source.digest):
                if named is not None:
                    uses[named].append((pack.uri, INPUT))
        for items in items_of(pack.manifest):
            uses[items.uri].append((pack.uri, ITEMS))
        for one in (*sources_of(pack.manifest), *(one for claim in pack.claims for one in claim.claim.sources)):
            for named in (one.image, *one.admitted_by):
                uses[named].append((pack.uri, ITEMS))
    return uses


def _is_refused(deciding: Deciding, pack: _Known) -> bool:
    try:
        return not deciding.cached(pack.uri, pack.folder).decision.admitted
    except CtxPackError:
        return True


def _places(context: Context) -> tuple[dict[str, list[str]], list[str]]:
    """Return where outputs of each URI were left, as far as something is there, and the URIs without a known place."""
    places, nameless = defaultdict[str, list[str]](list), list[str]()
    for path, note in RunNotes(context.cache).places():
        if not path:
            nameless.append(note.uri)
        elif note.made and os.path.lexists(path):
            places[note.uri].append(path)
    return places, nameless
