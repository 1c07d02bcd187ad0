"""Rotation: a new key signs what an old key signed, pack by pack, so that the old one can be removed from policies.

One signs what one made. So a pack is signed again only if it is one's own, or if the user's policy says that both keys
are one owner's, and does not deny the old one; then its claim is repeated as it is. What a stolen key may have signed
is never signed again just because it was.
"""

from __future__ import annotations

from typing import NamedTuple

from ctxpack_identity import (
    Conflict,
    Digest,
    IntegrityError,
    InvalidInput,
    LocalFailure,
    NotFound,
    PolicyRefused,
    digest_from_hex,
)
from ctxpack_pantry.claimed import says
from ctxpack_pantry.claims import fetch_claim, read_claim_tag
from ctxpack_pantry.context import Context
from ctxpack_pantry.deciding import repository_of
from ctxpack_pantry.lookup import locate
from ctxpack_pantry.policyfile import load_policy
from ctxpack_pantry.results import Signed, SignedAll, Unsigned
from ctxpack_pantry.signing import manifest_at, own_kind, publish_signed, require_not_denied
from ctxpack_trust import (
    Claim,
    PrivateKey,
    PublicKey,
    TrustPolicy,
    is_key_id,
    parse_public_key,
    public_key_of,
    read_claim,
)

__all__ = ["sign_all"]

_MAX_KEY_FILE = 64 << 10  # bytes


class _Old(NamedTuple):
    """The old key. key: None when only its id was given: then each claim must name it."""

    key_id: str
    key: PublicKey | None


def sign_all(context: Context, key: PrivateKey, signed_by: str) -> SignedAll:
    """Sign with key each pack of the registry that has a claim by an old key; say of the others why they are not.

    signed_by: the file with the old public key, or its key id. Only packs that still have the tag of their URI are
    signed, and each is read whole, as far as this cache does not know it. Of an own pack the claim says how it was made
    here; of another, what the old claim says.
    Raises: InvalidInput when signed_by is no key, or the same key; as Target.tags does; AccessDenied, Unavailable,
    LocalFailure, which end it: what was signed before stays.
    """
    old = _old_key(signed_by)
    if old.key_id == key.public.key_id:
        raise InvalidInput(
            "the old key is the new one",
            where="--signed-by",
            got=old.key_id,
            fix="give the new key with --key, CTXPACK_KEY or the settings",
            code="E_USAGE",
        )
    is_repeated = _is_repeated(load_policy(context.trust), repository_of(context), old.key_id, key.public.key_id)
    answers = [_sign_again(context, image, old, key, is_repeated) for image in _signed_images(context, old.key_id)]
    signed = tuple(answer for answer in answers if isinstance(answer, Signed))
    return SignedAll(context.target.name, signed, tuple(answer for answer in answers if isinstance(answer, Unsigned)))


def _sign_again(context: Context, image: Digest, old: _Old, key: PrivateKey, is_repeated: bool) -> Signed | Unsigned:
    """Return what became of one pack. is_repeated: see _is_repeated."""
    unsigned = Unsigned(image, None, "")
    try:
        claim = _old_claim(context, image, old)
        unsigned = unsigned._replace(uri=claim.uri)
        located = locate(context.target, claim.uri)
        if located is None or located.image != image:
            return unsigned._replace(why="the tag of its URI does not name it any more")
        require_not_denied(context, located, key)
        manifest = manifest_at(context, located)
        kind = own_kind(context, manifest)
        if kind is not None:
            return publish_signed(context, located, manifest, key, kind)
        if not is_repeated:
            return unsigned._replace(
                why="it was not made here, and your policy does not say that both keys are one owner's"
            )
        if not says(claim, manifest):
            return unsigned._replace(why="the old claim is about other outputs")
        return publish_signed(context, located, manifest, key, claim.kind, sources=claim.sources)
    except (IntegrityError, NotFound, PolicyRefused, InvalidInput, Conflict) as error:
        return unsigned._replace(why=str(error))


def _is_repeated(policy: TrustPolicy, repository: str, old: str, new: str) -> bool:
    """Return whether what the old key said is repeated: the policy names both for one owner, and denies neither."""
    signers = policy.signers_of(repository)
    owners = [{signer.owner.lower() for signer in signers if signer.key.key_id == one} for one in (old, new)]
    return bool(owners[0] & owners[1]) and policy.deny.keys.isdisjoint((old, new))


def _old_key(signed_by: str) -> _Old:
    if is_key_id(signed_by):
        return _Old(signed_by, None)
    try:
        with open(signed_by, "rb") as file:
            data = file.read(_MAX_KEY_FILE)
    except FileNotFoundError as error:
        raise InvalidInput(
            "no such key",
            where="--signed-by",
            expected="the file of a public key, or a key id of 64 hex digits",
            got=signed_by,
            fix="`ctxpack inspect URI` shows the ids of the keys that signed it",
            code="E_KEY",
        ) from error
    except OSError as error:
        raise LocalFailure(f"cannot be read: {error.strerror}", where=signed_by) from error
    key = parse_public_key(data, where=signed_by)
    return _Old(key.key_id, key)


def _signed_images(context: Context, key_id: str) -> list[Digest]:
    """Return the image manifests that have a tag for a claim by a key, in order."""
    found = set[Digest]()
    for tag in context.target.tags():
        named = read_claim_tag(tag)
        if named is not None and key_id.startswith(named[1]):
            found.add(digest_from_hex(named[0]))
    return sorted(found)


def _old_claim(context: Context, image: Digest, old: _Old) -> Claim:
    """Return what the old key said of an image manifest. Raises: IntegrityError, NotFound, InvalidInput."""
    found = fetch_claim(context.target, image, old.key_id)
    if found is None:
        raise NotFound("the claim of the old key is gone", where=context.target.name)
    key = old.key
    if key is None:
        if found.spki is None:
            raise NotFound("the claim does not name its key", where=found.where, fix="give the file of the old key")
        key = public_key_of(found.spki, where=found.where)
        if key.key_id != old.key_id:
            raise IntegrityError("another key's claim", where=found.where, expected=old.key_id, got=key.key_id)
    return read_claim(found.bundle, key, image=image)
