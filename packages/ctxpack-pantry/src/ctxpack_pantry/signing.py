"""Sign: a claim about a pack in the registry, made of its pack manifest, signed and published.

One signs what one made or made again (`made`); anything else takes `--vouch`, and counts towards no threshold. Whoever
signs an image manifest has read every chunk of it: now, or earlier, as far as this cache sent it or fetched it whole.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ctxpack_bundle import PackManifest
from ctxpack_identity import (
    AccessDenied,
    Conflict,
    CtxUri,
    Digest,
    IntegrityError,
    InvalidInput,
    NotFound,
    PolicyRefused,
    Unavailable,
    canonical_json,
    parse_digest,
    uri_digest,
)
from ctxpack_identity.contractview import input_digests, transforms
from ctxpack_pantry.claimed import sources_of, unsigned_sources
from ctxpack_pantry.claimnotes import ClaimNotes, FoundClaim
from ctxpack_pantry.claims import claim_tag, fetch_claims, is_listed, publish_claim, send_bundle
from ctxpack_pantry.context import Context
from ctxpack_pantry.fetch import read_pack
from ctxpack_pantry.kinship import kin_of
from ctxpack_pantry.lookup import Located, examine, open_pack, require_located
from ctxpack_pantry.made import Made
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.outlet import manifest_of, reading, require_intact
from ctxpack_pantry.policyfile import load_policy
from ctxpack_pantry.results import Signed
from ctxpack_pantry.seed import VERSION, same_outputs
from ctxpack_pantry.tables import Tables
from ctxpack_pantry.transfer import at_once
from ctxpack_trust import (
    COUNTING,
    Claim,
    Dependency,
    OutputRoot,
    PrivateKey,
    PublicKey,
    Source,
    Tool,
    read_claim,
    sign_claim,
    verified_payload,
)

__all__ = [
    "NOT_OWN",
    "key_if_own",
    "manifest_at",
    "own_kind",
    "publish_signed",
    "require_not_denied",
    "require_own",
    "require_read",
    "sign",
    "sign_pushed",
]

NOT_OWN = "E_NOT_OWN"
_DENIED = "E_DENIED"
_RANKS = {"vouch": 0, "seed": 1, "rebuild": 2, "run": 2}


def sign(context: Context, uri: CtxUri, key: PrivateKey, *, vouch: bool = False) -> Signed:
    """Sign the pack that the registry has under uri now, and publish the claim beside it.

    vouch: sign also what was not made here; such a claim counts towards no threshold.
    A claim by the same key that says as much stays; then nothing is published.
    Raises: PolicyRefused (E_NOT_OWN) when the pack is not one's own, unless vouch is set, and E_DENIED for what the
    user's policy denies; NotFound when the registry has no such pack; IntegrityError when it is damaged; InvalidInput
    when the claim would be too large; Conflict when a tag cannot be moved; AccessDenied, Unavailable, LocalFailure.
    """
    located = require_located(context, uri)
    require_not_denied(context, located, key)
    manifest = manifest_at(context, located)
    kind = "vouch" if vouch else own_kind(context, manifest)
    if kind is None:
        raise _not_own(uri, f"{context.target.name}, {located.image}")
    return publish_signed(context, located, manifest, key, kind)


def sign_pushed(
    context: Context, located: Located, ours: PackManifest, key: PrivateKey, *, is_sent: bool, has_empty: bool = False
) -> Signed:
    """Sign the pack that the registry has after a push of ours, an own pack with the same files.

    is_sent: whether it is what this push sent, every layer of it. Another's pack with the same files is signed as what
    was made again. has_empty: see claims.send_bundle.
    Raises: as sign does; IntegrityError also when the files differ after all.
    """
    require_not_denied(context, located, key)
    kind = own_kind(context, ours)
    if kind is None:
        raise _not_own(ours.uri, f"cache {context.cache.root}")
    if is_sent:
        return publish_signed(context, located, ours, key, kind, is_read=True, has_empty=has_empty)
    theirs = manifest_at(context, located)
    if not same_outputs(theirs, ours):
        raise IntegrityError(
            "the pack in the registry is not the one that was compared",
            where=located.where,
            expected=f"files {ours.listings[0].digest}",
            got=theirs.listings[0].digest,
            fix="push again",
        )
    if theirs.digest != ours.digest:
        kind = own_kind(context, theirs) or ("rebuild" if kind in COUNTING else kind)
    # What was made again was made of what ours names, whatever theirs says that it is made of.
    return publish_signed(context, located, theirs, key, kind, sources=sources_of(ours))


def key_if_own(context: Context, uri: CtxUri, folder: str, key: PrivateKey) -> PrivateKey | None:
    """Return key if the cached pack in folder is one's own, so that a push may sign it; else None, which is said."""
    with reading(uri, folder):
        kind = own_kind(context, manifest_of(uri, folder))
    if kind is None:
        context.notice(
            f"not signed: {uri} was not made here; `ctxpack verify --rebuild --sign` makes it again, and signs when it "
            "is the same; `ctxpack sign --vouch` vouches for it, which counts towards no threshold"
        )
    return None if kind is None else key


def own_kind(context: Context, manifest: PackManifest) -> str | None:
    """Return how this user made a pack, None when it is not one's own: "run", "rebuild" or "seed"."""
    return Made(context.state).kind_of(manifest.uri, manifest.digest)


def require_own(context: Context, manifest: PackManifest) -> None:
    """Raise PolicyRefused (E_NOT_OWN) unless the cached pack of manifest is one's own."""
    if own_kind(context, manifest) is None:
        raise _not_own(manifest.uri, f"cache {context.cache.root}")


def require_not_denied(context: Context, located: Located, key: PrivateKey) -> None:
    """Raise PolicyRefused when the user's policy denies the pack, as far as that is known yet, or the key."""
    deny = load_policy(context.trust).deny
    for what, one, denied in (
        ("the pack", str(located.uri), deny.uris),
        ("the pack's image manifest", str(located.image), deny.images),
        ("the key", key.public.key_id, deny.keys),
    ):
        if one in denied:
            raise _denied(what, one, located.where)


def manifest_at(context: Context, located: Located) -> PackManifest:
    """Return the pack manifest of a located pack, of which nothing else is read. Raises: as lookup.open_pack does."""
    return _cached(context, located) or open_pack(context.target, examine(located)).manifest


def require_read(context: Context, located: Located) -> None:
    """Read every chunk of a located pack, unless this cache sent or read it. Nothing of it is placed or cached.

    Raises: IntegrityError when it is damaged; AccessDenied, Unavailable, LocalFailure.
    """
    cached = _cached(context, located)
    if cached is not None:
        kin = kin_of(cached.contract)
        if Tables(context.cache).is_whole(located.uri, context.target.name, kin, located.image):
            return
    read_pack(context, examine(located))


def publish_signed(
    context: Context,
    located: Located,
    manifest: PackManifest,
    key: PrivateKey,
    kind: str,
    *,
    sources: Sequence[Source] | None = None,
    is_read: bool = False,
    has_empty: bool = False,
) -> Signed:
    """Read every chunk of a pack, and publish a claim about it, unless one by this key that says as much is there.

    manifest: of that pack. sources: what it was made of, by default what the pack says. is_read: whether every chunk
    was read already. has_empty: see claims.send_bundle.
    Raises: as sign does.
    """
    target, image, public = context.target, located.image, key.public
    if manifest.outputs_digest in load_policy(context.trust).deny.outputs:
        raise _denied("outputs", manifest.outputs_digest, located.where)
    claim = _claim(image, manifest, kind, sources_of(manifest) if sources is None else sources)
    tag = claim_tag(image, public.key_id)
    signed = Signed(located.uri, target.name, image, public.key_id, kind, tag, new=False)
    ask = partial(fetch_claims, target, image, [public], skip=context.notice)
    if is_read:
        # What was sent just now is hardly signed yet, so the bundle is sent while that is asked.
        bundle = _bundle(claim, key)
        found = at_once(ask, partial(send_bundle, target, bundle, has_empty=has_empty))[0]
    else:
        found = ask()
    there = _as_much(context, located, found, claim, key)
    if there is not None:
        if there.kind != kind:
            context.notice(
                f"nothing was published: this key has signed the pack as {there.kind} already, which says at least "
                f"as much as {kind}"
            )
        return signed._replace(kind=there.kind)
    unsigned = unsigned_sources(manifest) if kind == "seed" else []
    if unsigned:
        context.notice(
            f"signed as seed, which counts towards no threshold: it has items of {unsigned[0]}, which is neither your "
            "own nor signed by whom you trust; `ctxpack map --push --sign` takes none of those"
        )
    if not is_read:
        require_read(context, located)
        bundle = _bundle(claim, key)
    publish_claim(
        target,
        located.descriptor,
        bundle,
        public,
        created=claim.finished,
        is_sent=is_read,
        notice=context.notice,
    )
    ClaimNotes(context.cache).record(image, {public.spki: bundle})
    return signed._replace(new=True)


def _bundle(claim: Claim, key: PrivateKey) -> bytes:
    bundle = sign_claim(claim, key)
    verified_payload(bundle, key.public)  # nothing is published that readers refuse; sign_claim has read the payload
    return bundle


def _as_much(
    context: Context, located: Located, found: Iterable[FoundClaim], claim: Claim, key: PrivateKey
) -> Claim | None:
    """Return what the key has said of the pack before, if it says as much as claim. found: under the tag of the key."""
    public = key.public
    for one in found:
        try:
            there = read_claim(one.bundle, public, image=claim.image, uri=claim.uri)
        except IntegrityError as error:
            context.notice(f"{one.where}: replaced, since it is no claim by this key about this pack: {error}")
            continue
        if not _says_as_much(there, claim):
            continue
        _require_listed(context, located, one, there, public)
        ClaimNotes(context.cache).record(claim.image, {public.spki: one.bundle})
        return there
    return None


def _require_listed(context: Context, located: Located, found: FoundClaim, claim: Claim, key: PublicKey) -> None:
    """Publish a claim that has its tag again, if it is no referrer: others lost it, or it was stopped before that."""
    target, notice = context.target, context.notice
    try:
        if not is_listed(target, claim.image, key):
            publish_claim(target, located.descriptor, found.bundle, key, created=claim.finished, notice=notice)
    except (AccessDenied, Conflict, IntegrityError, Unavailable) as error:
        notice(f"the claim is there, but other tools may not find it: {error}")


def _cached(context: Context, located: Located) -> PackManifest | None:
    """Return the manifest of the cached pack, if it is intact and has just this image manifest in the registry."""
    uri = located.uri
    folder = context.cache.find(uri_digest(uri))
    if folder is None or Origins(context.cache).image(uri, context.target.name, folder) != located.image:
        return None
    try:
        with reading(uri, folder):
            require_intact(context, uri, folder)
            return manifest_of(uri, folder)
    except (IntegrityError, NotFound):
        return None  # then the registry's is read


def _claim(image: Digest, manifest: PackManifest, kind: str, sources: Sequence[Source]) -> Claim:
    return Claim(
        kind,
        manifest.uri,
        image,
        manifest.outputs_digest,
        tuple(OutputRoot(root.name, root.type) for root in manifest.outputs.roots),
        manifest.digest,
        tools=tuple(_tools(manifest)),
        dependencies=tuple(_dependencies(manifest)),
        sources=tuple(sources),
        version=VERSION,
        finished=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        invocation=str(uuid.uuid4()),
    )


def _tools(manifest: PackManifest) -> Iterable[Tool]:
    for transform in transforms(manifest.contract):
        name, version, params = (transform.get(member) for member in ("tool", "tool_version", "params"))
        if isinstance(name, str):
            text = canonical_json(params, where="params").decode() if isinstance(params, dict) else ""
            yield Tool(name, version if isinstance(version, str) else "", text)


def _dependencies(manifest: PackManifest) -> Iterable[Dependency]:
    """Yield what the contract names by digest: the inputs, and the code and environment of each transform."""
    named: list[tuple[str, Any]] = [(f"inputs/{name}", it) for name, it in input_digests(manifest.contract).items()]
    for member, what in (("code_hash", "code"), ("environment_hash", "environment")):
        named += [(f"{what}/{n}", one.get(member)) for n, one in enumerate(transforms(manifest.contract))]
    for name, digest in named:
        try:
            yield Dependency(name, parse_digest(digest))
        except (InvalidInput, TypeError):  # "opaque", or a contract of a schema that is not known here
            continue


def _about(claim: Claim) -> tuple[object, ...]:
    return claim.uri, claim.image, claim.outputs, claim.roots, claim.pack


def _says_as_much(there: Claim, claim: Claim) -> bool:
    return _about(there) == _about(claim) and _RANKS[there.kind] >= _RANKS[claim.kind]


def _not_own(uri: CtxUri, where: str) -> PolicyRefused:
    return PolicyRefused(
        f"not signed: {uri} was not made here by this user",
        where=where,
        fix="`ctxpack verify --rebuild --sign URI -- COMMAND` makes it again, and signs it when it is the same; "
        "`ctxpack sign --vouch URI` vouches for it, which counts towards no threshold",
        code=NOT_OWN,
    )


def _denied(what: str, one: str, where: str) -> PolicyRefused:
    return PolicyRefused(
        f"not signed: your policy denies {what}",
        where=where,
        got=one,
        fix="`ctxpack trust list` shows what is denied",
        code=_DENIED,
    )
