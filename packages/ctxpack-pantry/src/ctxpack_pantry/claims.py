"""Where claims lie: under a tag of each signer, and as referrers of the image manifest that they are about.

Authoritative is the tag, ``claim-<64 hex of the image manifest>-<16 hex of the key id>``: signers do not share it, so
none loses another's claim, as the fallback index of referrers does. Referrers are for other tools, and show who else
made a claim. What is found here is not verified: that takes a key, and a policy.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Final, NamedTuple, TypeVar

from msgspec import structs

from ctxpack_identity import CtxPackError, Digest, IntegrityError, NotFound, Unavailable, hex_of
from ctxpack_oci import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    Descriptor,
    ImageManifest,
    Target,
    describe,
    embedded,
    encode_image_manifest,
    parse_image_manifest,
)
from ctxpack_oci.referrers import MAX_REFERRERS
from ctxpack_pantry.artifact import EMPTY, EMPTY_DATA
from ctxpack_pantry.claimnotes import MAX_BUNDLE_BYTES, ClaimNotes, FoundClaim
from ctxpack_pantry.transfer import at_once, in_order
from ctxpack_trust import BUNDLE_MEDIA_TYPE, PREDICATE_TYPE, PublicKey, hint_of

__all__ = [
    "KEY_ANNOTATION",
    "MAX_BUNDLE_BYTES",
    "ClaimNotes",
    "FoundClaim",
    "ListedClaims",
    "claim_tag",
    "fetch_claim",
    "fetch_claims",
    "is_listed",
    "list_claims",
    "publish_claim",
    "read_claim_tag",
    "send_bundle",
]

KEY_ANNOTATION: Final = "dev.ctxpack.claim.key"

_CREATED = "org.opencontainers.image.created"
_CONTENT, _PREDICATE = "dev.sigstore.bundle.content", "dev.sigstore.bundle.predicateType"  # cosign, BUNDLE_SPEC.md
_TOO_MANY = (
    f"more than {MAX_REFERRERS} manifests refer to it, so none of them was looked at: what signers said that your "
    "policy names is found without"
)
_HEX, _SHORT = 64, 16  # digits of a digest, and of the key id in a tag
_SHOWN = 200  # characters of somebody else's text in a line

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


class ListedClaims(NamedTuple):
    """What the referrers of an image manifest hold. skipped: a line for people for each that is no claim.

    too_many: a line that says that there are so many that none was read; "" if that is not so.
    """

    found: tuple[FoundClaim, ...]
    skipped: tuple[str, ...]
    too_many: str = ""


def claim_tag(image: Digest, key_id: str) -> str:
    """Return the tag of the claim by a key about an image manifest. key_id: 64 hex digits."""
    return f"claim-{hex_of(image)}-{key_id[:_SHORT]}"


def read_claim_tag(tag: str) -> tuple[str, str] | None:
    """Return the hex digits of the image manifest and those of the key id in a tag; None if it is no claim's.

    >>> read_claim_tag("claim-" + "a" * 64 + "-" + "b" * 16) == ("a" * 64, "b" * 16)
    True
    """
    word, _, rest = tag.partition("-")
    image, _, key = rest.partition("-")
    digits = set("0123456789abcdef")
    if word != "claim" or (len(image), len(key)) != (_HEX, _SHORT) or not digits.issuperset(image + key):
        return None
    return image, key


def fetch_claims(
    target: Target, image: Digest, keys: Sequence[PublicKey], *, skip: Callable[[str], object] = lambda line: None
) -> list[FoundClaim]:
    """Return the claims about an image manifest by these keys, by the tag of each: one request for each, in parallel.

    A signer without a claim is not in the list, and neither is a tag that names something else; skip gets a line for
    people for the latter. Nothing is verified.
    Raises: AccessDenied, Unavailable when an answer is not known, which is not "unsigned"; LocalFailure.
    """

    tags = list(dict.fromkeys(claim_tag(image, key.key_id) for key in keys))
    answers = _each(partial(_read_tag, target, image), tags)
    for answer in answers:
        if isinstance(answer, str):
            skip(answer)
    return [answer for answer in answers if isinstance(answer, FoundClaim)]


def fetch_claim(target: Target, image: Digest, key_id: str) -> FoundClaim | None:
    """Return the claim under the tag of a key, as fetch_claims does; None when the tag is gone.

    Raises: NotFound, IntegrityError for a tag that names something else; as fetch_claims does.
    """
    return _under_tag(target, image, claim_tag(image, key_id))


def list_claims(target: Target, image: Digest) -> ListedClaims:
    """Return the claims among the referrers of an image manifest, by anybody. Nothing is verified.

    What is missing, no claim or too large is skipped, and a line says so. Of too many none is read: whoever added them
    would decide which ones are left out.
    Raises: as Target.referrers does, when the list is not known; AccessDenied, Unavailable.
    """
    candidates = target.referrers(image, BUNDLE_MEDIA_TYPE)
    if candidates is None:
        return ListedClaims((), (), _TOO_MANY)
    answers = _each(partial(_read_candidate, target, image), candidates)
    found = tuple(answer for answer in answers if isinstance(answer, FoundClaim))
    return ListedClaims(found, tuple(answer for answer in answers if isinstance(answer, str)))


def is_listed(target: Target, image: Digest, key: PublicKey) -> bool:
    """Return whether the claim under the tag of a key is among the referrers; True when they are too many to tell.

    Raises: as Target.resolve_tag and Target.referrers do.
    """
    listed = target.referrers(image, BUNDLE_MEDIA_TYPE)
    if listed is None:
        return True
    claim = target.resolve_tag(claim_tag(image, key.key_id))
    return any(one.digest == claim for one in listed)


def send_bundle(target: Target, bundle: bytes, *, has_empty: bool = False) -> None:
    """Send the blobs of a claim, which nobody finds yet. has_empty: whether target certainly has EMPTY.

    Raises: as Target.push does.
    """
    push = partial(target.push, describe(bundle, BUNDLE_MEDIA_TYPE), bundle)
    if has_empty:
        push()
    else:
        at_once(partial(_push_empty, target), push)


def publish_claim(
    target: Target,
    image: Descriptor,
    bundle: bytes,
    key: PublicKey,
    *,
    created: str,
    is_sent: bool = False,
    notice: Callable[[str], object] = lambda line: None,
) -> Digest:
    """Publish a claim about an image manifest; return the digest of the claim's own image manifest.

    image: of the pack. created: RFC 3339, shown by registries. is_sent: whether send_bundle was called. A claim by the
    same key under the same tag is replaced; whether it may be, the caller has decided. Where the list of referrers
    cannot be written, notice gets a line: the claim is found by its tag.
    Raises: Conflict when the registry does not let a tag be moved; Unavailable also when the registry loses what it
    took; as Target.attach does.
    """
    if not is_sent:
        send_bundle(target, bundle)
    layer = describe(bundle, BUNDLE_MEDIA_TYPE)
    annotations = {
        _CREATED: created,
        KEY_ANNOTATION: base64.b64encode(key.spki).decode(),
        _CONTENT: "dsse-envelope",
        _PREDICATE: PREDICATE_TYPE,
    }
    data = encode_image_manifest(
        ImageManifest(
            artifact_type=BUNDLE_MEDIA_TYPE,
            config=EMPTY,
            layers=(structs.replace(layer, data=bundle),),
            subject=Descriptor(media_type=image.media_type, digest=image.digest, size=image.size),
            annotations=annotations,
        )
    )
    claim = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
    tag = claim_tag(image.digest, key.key_id)
    try:
        target.attach(claim, data, tag)
    except CtxPackError as error:
        if error.code != "E_REFERRERS":
            raise
        notice(f"other tools will not find the claim, since the list of referrers cannot be written: {error}")
    if target.resolve_tag(tag) is None:
        raise Unavailable(
            "the claim is not there, though the registry accepted it",
            where=f"{target.name}:{tag}",
            fix="sign again; if it stays, ask the operator of the registry",
            code="E_LOST",
        )
    return claim.digest


def _push_empty(target: Target) -> None:
    """Push the empty config, which nearly every repository has: to ask is one request, to push it two."""
    if not target.exists(EMPTY):
        target.push(EMPTY, EMPTY_DATA)


def _each(work: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> list[_Result]:
    """Return work(task) for each task, in order, at the same time."""
    if len(tasks) < 2:
        return [work(task) for task in tasks]  # no threads for the usual case
    with closing(in_order(work, tasks)) as results:
        return list(results)


def _read_tag(target: Target, image: Digest, tag: str) -> FoundClaim | str | None:
    """Return the claim under a tag, None when there is no such tag, or the line that says why it names none."""
    try:
        return _under_tag(target, image, tag)
    except (IntegrityError, NotFound) as error:
        return _skipped(f"{target.name}:{tag}", error)


def _under_tag(target: Target, image: Digest, tag: str) -> FoundClaim | None:
    where = f"{target.name}:{tag}"
    tagged = target.fetch_tag(tag)
    if tagged is None:
        return None
    return _claim_in(target, image, parse_image_manifest(tagged.data, tagged.descriptor, where=where), where)


def _read_candidate(target: Target, image: Digest, candidate: Descriptor) -> FoundClaim | str:
    """Return the claim that a referrer is, or the line that says why it is none.

    The list of referrers may say another artifactType than the manifest, or none.
    """
    where = f"{target.name}@{candidate.digest}"
    try:
        if candidate.media_type != IMAGE_MANIFEST_MEDIA_TYPE:
            raise _no_claim("mediaType", IMAGE_MANIFEST_MEDIA_TYPE, candidate.media_type)
        manifest = parse_image_manifest(target.fetch(candidate), candidate, where=where)
        return _claim_in(target, image, manifest, where)
    except (IntegrityError, NotFound) as error:
        return _skipped(where, error)


def _claim_in(target: Target, image: Digest, manifest: ImageManifest, where: str) -> FoundClaim:
    """Return the claim of an image manifest.

    Raises: IntegrityError when it is not that of a claim about image, or its bundle is malformed; NotFound when the
    bundle is missing.
    """
    about = "nothing" if manifest.subject is None else manifest.subject.digest
    kinds = ", ".join(layer.media_type for layer in manifest.layers)
    for member, expected, got in (
        ("artifactType", BUNDLE_MEDIA_TYPE, manifest.artifact_type),
        ("subject", image, about),
        ("layers", BUNDLE_MEDIA_TYPE, kinds),
    ):
        if expected != got:
            raise _no_claim(member, expected, got)
    [layer] = manifest.layers
    if layer.size > MAX_BUNDLE_BYTES:
        raise _no_claim("size of the bundle", f"at most {MAX_BUNDLE_BYTES} bytes", str(layer.size))
    bundle = embedded(layer)
    if bundle is None:
        bundle = target.fetch(layer)
    return FoundClaim(bundle, _believed_key(manifest.annotations.get(KEY_ANNOTATION, ""), bundle), where)


def _believed_key(annotation: str, bundle: bytes) -> bytes | None:
    """Return the key in the annotation, if its digest is the hint in the bundle: the annotation is anybody's word.

    Raises: IntegrityError when the bundle is malformed.
    """
    hint = hint_of(bundle)
    try:
        spki = base64.b64decode(annotation, validate=True)
    except ValueError:
        return None
    return spki if PublicKey(spki).hint == hint else None


def _no_claim(member: str, expected: str, got: str) -> IntegrityError:
    got = got[:_SHOWN] or "nothing"
    return IntegrityError(f"not a claim about this pack: {member}", expected=expected, got=got, code="E_NO_CLAIM")


def _skipped(where: str, error: IntegrityError | NotFound) -> str:
    return str(error) if error.where.startswith(where) else f"{where}: {error}"
