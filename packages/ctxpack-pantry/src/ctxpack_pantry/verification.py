"""Verify: everything that packs hold is read and compared with its digests, and who vouches for them is judged.

A pack that the cache lacks is read in the registry, and only looked at: nothing of it is placed or cached. With a
contract file, its recipe is run again besides (`rebuilding`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from ctxpack_bundle import (
    PackManifest,
    folder_size,
    read_pack_manifest,
)
from ctxpack_identity import (
    AccessDenied,
    CtxPackError,
    CtxUri,
    Digest,
    IntegrityError,
    InvalidInput,
    LocalFailure,
    NotFound,
    Unavailable,
    uri_digest,
    uri_for,
)
from ctxpack_pantry.claimed import contradiction
from ctxpack_pantry.claimnotes import ClaimNotes
from ctxpack_pantry.context import Context
from ctxpack_pantry.contractfile import LoadedContractFile
from ctxpack_pantry.deciding import Deciding
from ctxpack_pantry.lookup import Located, examine, locate, open_pack, require_located
from ctxpack_pantry.made import Made
from ctxpack_pantry.origins import Origins
from ctxpack_pantry.outlet import damage_of, read_whole
from ctxpack_pantry.policyfile import load_policy
from ctxpack_pantry.results import Signed, Verified, VerifiedPack
from ctxpack_pantry.share import Share
from ctxpack_pantry.verdict import Verdict, verdict_of
from ctxpack_trust import PrivateKey, SignedClaim, public_key_of, read_claim

__all__ = ["verify", "verify_recipe"]


class _Read(NamedTuple):
    """A pack of which every byte was read. folder: that holds it; located: of one in the registry, else None.

    damage: what is wrong with it, "" for a sound one, which has a manifest.
    """

    folder: str
    found_in: str
    located: Located | None
    manifest: PackManifest | None
    damage: str = ""


def verify(context: Context, uris: Sequence[CtxUri] | None = None, *, skip_cache: bool = False) -> Verified:
    """Read packs whole, those of uris or all of the cache. A damaged one of the cache is set aside.

    A pack that the cache lacks is read in the registry, and all of them with skip_cache. Of uris it is also judged who
    vouches for them: of a cached pack by the claims that the cache keeps, and if these do not suffice, by those that
    the registry has.
    Raises: NotFound when no place has one of uris; InvalidInput, LocalFailure for a policy that cannot be read;
    IntegrityError, AccessDenied, Unavailable when it is not known what the registry has.
    """
    if uris is None:
        return Verified(tuple(_verify_all(context)))
    found = []
    chosen = [*dict.fromkeys(uris)]
    cached = [not skip_cache and context.cache.find(uri_digest(uri)) is not None for uri in chosen]
    sizes = [_size(context, uri) if here else 0 for uri, here in zip(chosen, cached, strict=True)]
    for uri, here, size in zip(chosen, cached, sizes, strict=True):
        share = Share(context.progress, size, sum(sizes))
        reporting = context._replace(progress=share.report) if here else context
        with ExitStack() as stack:
            read = _read(reporting, uri, _staging(context, stack), skip_cache=skip_cache)
            found.append(_judged(context, uri, read))
        share.finish("hash")
    return Verified(tuple(found))


def verify_recipe(
    context: Context,
    uris: Sequence[CtxUri],
    contract_file: LoadedContractFile | None,
    command: Sequence[str] = (),
    *,
    skip_cache: bool = False,
    tolerance: Sequence[str] = (),
    key: PrivateKey | None = None,
) -> Verified:
    """Verify a pack, and run its recipe again in a fresh folder: what that makes must be the same, exactly.

    uris: one. command: see rebuilding.read_recipe. tolerance: see tolerance.parse_tolerances; what is only near is
    reported. key: sign the registry's pack, which is the one that is compared then, when the outputs are equal.
    Equal outputs are noted: from then on the pack is one's own, as made again.
    Raises: as verify does; InvalidInput (E_REBUILD) when the contract file is not that of the pack, or there can be no
    fresh folder; as rebuilding.rebuild and signing.sign do.
    """
    from ctxpack_pantry.rebuilding import read_recipe, rebuild  # it loads what runs commands
    from ctxpack_pantry.tolerance import parse_tolerances

    if contract_file is None or len(uris) != 1:
        raise InvalidInput("a recipe is that of one pack", where="verify", fix="name one pack", code="E_USAGE")
    [uri] = uris
    _require_options(context, tolerance, key)
    recipe = read_recipe(context, contract_file, uri, command)
    tolerances = parse_tolerances(tolerance, contract_file.outputs) if tolerance else None
    with ExitStack() as stack:
        read_pack = _read if key is None else _read_in_registry
        read = read_pack(context, uri, _staging(context, stack), skip_cache=skip_cache)
        if read.manifest is None:
            return Verified((_judged(context, uri, read),))
        rebuilt = rebuild(context, recipe, read.folder, read.manifest, tolerances=tolerances)
        signed = _note(context, uri, read.manifest, key) if rebuilt.equal else None
        return Verified((_judged(context, uri, read)._replace(rebuilt=rebuilt, signed=signed),))


def _verify_all(context: Context) -> Iterator[VerifiedPack]:
    """Yield all packs of the cache, as far as they are not removed meanwhile. Who made them is not judged."""
    chosen = [uri_for(pack.key) for pack in context.cache.packs()]
    sizes = [_size(context, uri) for uri in chosen]
    for uri, size in zip(chosen, sizes, strict=True):
        share = Share(context.progress, size, sum(sizes))
        folder = context.cache.find(uri_digest(uri))
        if folder is not None:
            with suppress(NotFound):  # it was removed meanwhile
                yield _shown(uri, _read_cached(context._replace(progress=share.report), uri, folder))
        share.finish("hash")


def _staging(context: Context, stack: ExitStack) -> Callable[[], str]:
    """Return what makes a staging folder, which goes with stack. A cache that cannot be written needs none."""
    return lambda: stack.enter_context(context.cache.staging())


def _size(context: Context, uri: CtxUri) -> int:
    """Return how many bytes of a cached pack will be read; 0 for one that is gone, or whose manifest is damaged."""
    folder = context.cache.find(uri_digest(uri))
    try:
        return folder_size(read_pack_manifest(folder)) if folder is not None else 0
    except (IntegrityError, LocalFailure):
        return 0


def _require_options(context: Context, tolerance: Sequence[str], key: PrivateKey | None) -> None:
    if key is not None and tolerance:
        raise InvalidInput(
            "a claim says that the outputs are the same, and a tolerance that they need not be",
            where="verify",
            fix="leave out --tolerance, or --sign",
            code="E_USAGE",
        )
    if key is not None and not context.state:
        raise InvalidInput(
            "what was made again is noted in the state folder, and there is none",
            where="verify --sign",
            fix="set HOME or XDG_STATE_HOME",
            code="E_SETTINGS",
        )


def _read(context: Context, uri: CtxUri, staging: Callable[[], str], *, skip_cache: bool) -> _Read:
    """Read the cached pack, or else the registry's, which is unpacked in what staging makes.

    Raises: NotFound; as verify does.
    """
    folder = None if skip_cache else context.cache.find(uri_digest(uri))
    if folder is not None:
        return _read_cached(context, uri, folder)
    try:
        located = locate(context.target, uri)
    except IntegrityError as damage:
        return _Read("", context.target.name, None, None, str(damage))
    if located is None:
        raise NotFound(
            "no such pack: neither the cache nor the registry has it" if not skip_cache else "no such pack",
            where=uri,
            expected=f"a pack in {context.target.name}",
            fix="`ctxpack ls` lists the cache; check the URI and the registry",
        )
    return _read_located(context, located, staging())


def _read_in_registry(context: Context, uri: CtxUri, staging: Callable[[], str], *, skip_cache: bool) -> _Read:
    """Read the registry's pack: the cached one, where that is the same, since whoever signs reads every chunk, too."""
    try:
        located = require_located(context, uri)
        folder = None if skip_cache else context.cache.find(uri_digest(uri))
        if folder is not None:
            manifest = open_pack(context.target, examine(located)).manifest
            read = _read_cached(context, uri, folder)
            if read.manifest is not None and read.manifest.digest == manifest.digest:
                return read._replace(located=located, found_in=context.target.name)
    except IntegrityError as damage:
        return _Read("", context.target.name, None, None, str(damage))
    return _read_located(context, located, staging())


def _read_cached(context: Context, uri: CtxUri, folder: str) -> _Read:
    read: list[PackManifest] = []
    damage = damage_of(context, uri, folder, lambda *pack: read.append(read_whole(*pack)))
    if damage is not None:
        return _Read(folder, folder, None, None, str(damage))
    return _Read(folder, folder, None, read[0])


def _read_located(context: Context, located: Located, staging: str) -> _Read:
    """Read every chunk of a pack in the registry into staging."""
    from ctxpack_pantry.fetch import unpack_into  # HTTP is loaded only when the registry is asked

    found_in = context.target.name
    try:
        return _Read(staging, found_in, located, unpack_into(context, examine(located), staging))
    except IntegrityError as damage:
        return _Read("", found_in, None, None, str(damage))


def _note(context: Context, uri: CtxUri, manifest: PackManifest, key: PrivateKey | None) -> Signed | None:
    """Note that the pack was made again, and sign it if there is a key."""
    noted = Made(context.state).add(uri, manifest.digest, "rebuild")
    if key is None:
        return None
    if not noted:
        raise LocalFailure(
            "it cannot be noted that this pack was made again, so it is not signed",
            where=context.state,
            fix="give yourself write access to this folder, and others none",
        )
    from ctxpack_pantry.signing import sign

    return sign(context, uri, key)


def _shown(uri: CtxUri, read: _Read) -> VerifiedPack:
    cached = read.located is None and read.folder == read.found_in
    if read.manifest is None:
        return VerifiedPack(uri, 0, 0, read.damage, found_in=read.found_in, cached=cached)
    outputs = read.manifest.outputs
    return VerifiedPack(uri, outputs.files, outputs.size, found_in=read.found_in, cached=cached)


def _judged(context: Context, uri: CtxUri, read: _Read) -> VerifiedPack:
    """Return the result of a pack that was named: also who vouches for it, and which trusted claims it contradicts."""
    pack = _shown(uri, read)
    if read.manifest is None:
        return pack
    if read.located is None:
        verdict, found = _judge_cached(context, uri, read.folder, read.manifest)
    else:
        verdict, found = _judge_located(context, uri, read.located, read.manifest)
    wrong = _contradictions(context, verdict, found, read.manifest)
    return pack._replace(verdict=verdict, contradictions=wrong)


def _judge_cached(
    context: Context, uri: CtxUri, folder: str, manifest: PackManifest
) -> tuple[Verdict, list[SignedClaim]]:
    """Return the verdict on a cached pack, and the claims that were looked at."""
    verdict = verdict_of(context, Deciding(context).cached(uri, folder))
    images = Origins(context.cache).images(uri, folder)
    found = [*_noted_claims(context, uri, images)]
    if verdict.admitted or not images:
        return verdict, found
    try:
        located = locate(context.target, uri)
        if located is not None and located.image in images:
            verdict, more = _judge_located(context, uri, located, manifest)
            found += more
    except (AccessDenied, IntegrityError, Unavailable) as error:
        context.notice(f"judged by the claims that the cache keeps, since the registry has no answer: {error}")
    return verdict, found


def _judge_located(
    context: Context, uri: CtxUri, located: Located, manifest: PackManifest
) -> tuple[Verdict, list[SignedClaim]]:
    """Return the verdict on a pack by all claims that the registry has, and these."""
    judged = Deciding(context).examined(uri, located.image, manifest)
    return verdict_of(context, judged), [*judged.found, *judged.contradicted]


def _noted_claims(context: Context, uri: CtxUri, images: Sequence[Digest]) -> Iterator[SignedClaim]:
    """Yield the claims that the cache keeps about these image manifests, as far as their signatures are right."""
    for image in images:
        for noted in ClaimNotes(context.cache).of(image):
            try:
                key = public_key_of(noted.spki or b"", where=noted.where)
                yield SignedClaim(key, read_claim(noted.bundle, key, image=image, uri=uri))
            except CtxPackError:
                continue  # anybody may have written there


def _contradictions(
    context: Context, verdict: Verdict, found: Sequence[SignedClaim], manifest: PackManifest
) -> tuple[str, ...]:
    """Return a line for each claim of somebody who is trusted here that says something else than the pack."""
    policy = load_policy(context.trust)
    names = {signer.key.key_id: signer.name for signer in policy.signers_of(verdict.registry)}
    lines: dict[str, None] = {}
    for one in found:
        key_id, said = one.key.key_id, contradiction(one.claim, manifest)
        if key_id in names and key_id not in policy.deny.keys and said is not None:
            lines[f"the claim of {names[key_id]} ({key_id}) says {said.what} {said.said}, the pack has {said.held}"] = (
                None
            )
    return tuple(lines)
