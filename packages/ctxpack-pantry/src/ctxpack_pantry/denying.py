"""Denying: what the policy refuses from now on, whatever else admits it: a key, a pack, or outputs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ctxpack_identity import InvalidInput, parse_digest, parse_uri
from ctxpack_identity.faults import did_you_mean
from ctxpack_pantry.affected import Denial, find_affected, known_images
from ctxpack_pantry.context import Context
from ctxpack_pantry.policyfile import load_policy, save_policy
from ctxpack_pantry.signers import by_name, find_signers, read_public_key
from ctxpack_pantry.trustresults import Denied
from ctxpack_trust import TrustPolicy, encode_policy

__all__ = ["trust_deny"]

_KINDS = {"image": "images", "key": "keys", "outputs": "outputs", "uri": "uris"}

_is_key_id = re.compile(r"[0-9a-f]{64}").fullmatch


def trust_deny(
    context: Context,
    what: str,
    *,
    kind: str = "",
    undo: bool = False,
    dry_run: bool = False,
    show_affected: bool = False,
) -> Denied:
    """Deny a key, a pack or outputs from now on, whatever else admits them.

    what: the name of a signer, a key id or the path of a public key; a URI; or the digest of an image manifest or of
    outputs. kind: "image" or "outputs" of a digest; by default it is what the cache knows under this digest. undo: take
    the denial back. dry_run: change nothing. show_affected: also find what is affected, as far as this machine knows.
    Claims name what items were taken from by image manifest. So those that the cache knows of packs with a URI or
    outputs are denied, or allowed again, with these.
    Raises: InvalidInput when it is not clear what is meant, and for undo when it is not denied; LocalFailure.
    """
    denial = _denial(context, what, kind, undo=undo)
    member = _KINDS[denial.kind]
    known = known_images(context, **{member: [denial.value]}) if denial.kind in ("uri", "outputs") else frozenset()

    def edit(policy: TrustPolicy) -> TrustPolicy:
        denied: frozenset[str] = getattr(policy.deny, member)
        if not undo:
            for image in known:
                policy = policy.with_denied("images", image)
            return policy.with_denied(member, denial.value)
        if denial.value not in denied:
            raise InvalidInput(
                f"{denial.word} is not denied",
                where=denial.value,
                fix="`ctxpack trust list` shows what is",
                code="E_USAGE",
            )
        left = policy.deny._replace(**{member: denied - {denial.value}})
        others = known_images(context, uris=left.uris, outputs=left.outputs)
        return policy._replace(deny=left._replace(images=left.images - (known - others)))

    before = load_policy(context.trust)
    after = edit(before) if dry_run else save_policy(context.trust, edit)
    signers = tuple(one.name for one in by_name(after.signers) if denial == Denial("key", one.key.key_id))
    affected = None
    if show_affected:
        affected = find_affected(context, denial, encode_policy(after))
    if denial.kind == "outputs" and not undo:
        context.notice(
            "packs with items of a pack with these outputs are refused only where its image manifest is denied, and "
            f"this cache knows {len(known) or 'none'}: to be sure, deny its URI as well"
        )
    images = tuple(sorted((before.deny.images ^ after.deny.images) - {denial.value}))
    now = before if dry_run else after
    is_denied = denial.value in getattr(now.deny, member)
    return Denied(denial, undo, now != before, is_denied, signers, affected, images)


def _denial(context: Context, what: str, kind: str, *, undo: bool) -> Denial:
    """Return what is to be denied, or, with undo, no longer."""
    if what[:4].lower() == "ctx:":
        found = Denial("uri", parse_uri(what))
    elif what.startswith("sha256:"):
        digest = parse_digest(what)
        found = Denial(kind or (_denied_kind if undo else _kind_of)(context, digest), digest)
    else:
        found = Denial("key", _denied_key(context, what))
    if kind and found.kind != kind:
        raise InvalidInput(
            f"not a digest: {found.word} has no other kind", where=what[:160], fix=f"leave out --{kind}", code="E_USAGE"
        )
    return found


def _kind_of(context: Context, digest: str) -> str:
    """Return what the cache knows under this digest. Raises: InvalidInput when that is nothing, or both."""
    from ctxpack_pantry.affected import known_kinds

    kind = _only(known_kinds(context, digest), digest, "of nothing that this cache knows")
    context.notice(f"{digest} is the digest of {Denial(kind, digest).word} of a cached pack")
    return kind


def _denied_kind(context: Context, digest: str) -> str:
    """Return as what this digest is denied. Raises: InvalidInput when it is not, or as both."""
    deny = load_policy(context.trust).deny
    kinds = [kind for kind, denied in (("image", deny.images), ("outputs", deny.outputs)) if digest in denied]
    return _only(kinds, digest, "is not denied")


def _only(kinds: Sequence[str], digest: str, nothing: str) -> str:
    if len(kinds) != 1:
        raise InvalidInput(
            f"the digest {'of an image manifest and of outputs' if kinds else nothing}",
            where=digest,
            fix="say --image for that of an image manifest, or --outputs for that of outputs",
            code="E_USAGE",
        )
    return kinds[0]


def _denied_key(context: Context, what: str) -> str:
    """Return the key id that is meant by the name of a signer, by itself, or by the path of a public key."""
    policy = load_policy(context.trust)
    signers = find_signers(policy, what)
    if signers:
        return signers[0].key.key_id
    if _is_key_id(what):
        return what
    if os.path.lexists(what) or os.sep in what:
        return read_public_key(what).key_id
    near = did_you_mean(what, [signer.name for signer in policy.signers])
    raise InvalidInput(
        "nothing that can be denied",
        where=repr(what)[:160],
        expected="a signer, a key id, the file of a public key, ctx:// and a digest, or sha256: and a digest",
        fix=near or "`ctxpack trust list` shows the signers",
        code="E_USAGE",
    )
