"""Deciding: what the user's policy says of one pack, by the claims about its image manifest and by who made it.

Claims lie in the registry, and are kept in the cache for a pack that came with them. A claim counts only for the image
manifest that is its subject. What is one's own is a record in the user's state folder, never a place.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ctxpack_bundle import PackManifest, read_pack_manifest
from ctxpack_identity import (
    CtxPackError,
    CtxUri,
    Digest,
    IntegrityError,
    InvalidInput,
    PolicyRefused,
    parse_uri,
    uri_digest,
)
from ctxpack_pantry.access import is_in_clear
from ctxpack_pantry.claimed import contradiction, says, source_uris, sources_of
from ctxpack_pantry.claimnotes import ClaimNotes, FoundClaim
from ctxpack_pantry.context import Context
from ctxpack_pantry.made import Made
from ctxpack_pantry.origins import Origins, pack_digest
from ctxpack_pantry.policy import DENIED, DENIED_URI, NOT_ADMITTED, Admission, ResultDenied
from ctxpack_pantry.policyfile import NO_TRUST, load_policy, save_policy
from ctxpack_pantry.remembered import Remembered, question
from ctxpack_trust import (
    COUNTING,
    Claim,
    Decision,
    Facts,
    PublicKey,
    Rule,
    SignedClaim,
    TrustPolicy,
    canonical_repository,
    decide,
    public_key_of,
    read_claim,
    stricter,
)

__all__ = [
    "Deciding",
    "Judgement",
    "decide_cached",
    "decide_located",
    "pinned_key",
    "refusal",
    "refused",
    "repository_of",
]

_ASKED_FOR = {  # of packs of a registry, by the mode that will hold there
    "accept-any": "whoever made them",
    "tofu": "if whoever signed the first one signed them",
    "signed": "if signers that you trust signed them",
}
_REMEDY = "`ctxpack inspect {uri}` shows who signed it, and `ctxpack trust` says whose claims count"
_DAMAGED = "damaged"  # in place of the id of a pinned key, which no key has: it fails closed


class Judgement(NamedTuple):
    """What the policy says of a pack. repository: as policies name it; image: None where it is not known.

    found: claims whose signature is right; skipped: one line for each that is none. kept_in_cache: whether the cache's
    pack was judged, by the claims that the cache has. too_many: a line that says that the registry lists so many
    referrers that none was read, so that there may be other claims; "" if that is not so. contradicted: claims that say
    something else than the pack, once it is known what that says; they are not in found. own: whether it is one's own,
    by the record of that.
    """

    uri: CtxUri
    repository: str
    image: Digest | None
    decision: Decision
    found: tuple[SignedClaim, ...]
    skipped: tuple[str, ...]
    kept_in_cache: bool
    too_many: str = ""
    contradicted: tuple[SignedClaim, ...] = ()
    own: bool = False


def decide_cached(context: Context, uri: CtxUri, folder: str, policy: bytes) -> Admission:
    """Return how the policy admits the cached pack in folder, and remember it. policy: the bytes of the file.

    Raises: as admission.admit_cached does.
    """
    deciding = Deciding(context, policy)
    try:
        judged = deciding.cached(uri, folder)
    except IntegrityError as error:
        raise PolicyRefused(
            "the cached pack cannot be judged, since it is damaged", where=folder, code=NOT_ADMITTED
        ) from error
    try:
        deciding.require(judged)
    except PolicyRefused as error:
        if judged.own and read_pack_manifest(folder).outputs_digest in deciding.denied_outputs:
            fix = f"{error.fix}; `--recompute` makes it again"
            raise ResultDenied(error.what, where=error.where, fix=fix, code=error.code) from error
        raise
    admission = _admission(judged.decision)
    if admission.mode == "own":
        judged = judged._replace(image=None)  # only the cache says that it has this image manifest
    deciding.remember(judged, admission, pack_digest(folder))
    return admission


def decide_located(context: Context, uri: CtxUri, image: Digest) -> tuple[Admission, Callable[[PackManifest], None]]:
    """Return how the policy admits the pack that the registry has under this image manifest.

    The second value is to be called with the pack manifest once that is known, before anything else is used. It
    remembers the decision, and in the mode tofu the key: what cannot be opened pins nobody's. It raises: IntegrityError
    when a claim that admitted the pack says other outputs; PolicyRefused when they are denied, or no key can be pinned.
    Raises: PolicyRefused; InvalidInput, LocalFailure for a policy that cannot be read; AccessDenied, Unavailable and
    IntegrityError when it is not known which claims there are.
    """
    deciding = Deciding(context)
    judged = deciding.in_registry(uri, image)
    if deciding.may_consent(judged):
        deciding = Deciding(context)
        judged = deciding.in_registry(uri, image)
    deciding.require(judged)
    admission = _admission(judged.decision)

    def check(manifest: PackManifest) -> None:
        for one in _counted(judged):
            _require_said(one.claim, manifest, f"{context.target.name}, claim about {image}")
        deciding.require(deciding.opened(judged, manifest))
        deciding.keep(judged)
        deciding.say(judged)
        deciding.remember(judged, admission, None)

    return admission, check


def refusal(context: Context, uri: CtxUri, image: Digest, manifest: PackManifest | None = None) -> PolicyRefused | None:
    """Return why the policy does not admit the pack that the registry has under this image manifest; None if it does.

    manifest: the pack manifest, where it is known. Nothing is remembered.
    Raises: as decide_located does, but not PolicyRefused.
    """
    deciding = Deciding(context)
    try:
        judged = deciding.in_registry(uri, image)
        deciding.require(judged)
        if manifest is not None:
            deciding.require(deciding.opened(judged, manifest))
    except PolicyRefused as error:
        return error
    return None


def refused(decision: Decision, uri: CtxUri, *, where: str, fix: str) -> PolicyRefused:
    """Return the error for a pack that is not admitted. fix: what may help, unless it is denied."""
    member, value = decision.entry
    if not decision.denied:
        return PolicyRefused(decision.reason, where=where, fix=fix, code=NOT_ADMITTED)
    option = {"images": " --image", "outputs": " --outputs"}.get(member, "")
    return PolicyRefused(
        decision.reason,
        where=where,
        fix="`ctxpack trust list` shows what is denied; to allow it again: "
        f"`ctxpack trust deny {value}{option} --undo`",
        code=DENIED_URI if decision.entry == ("uris", uri) else DENIED,
    )


def pinned_key(spki: str) -> PublicKey | None:
    """Return the key of a pin; None for none, and where it is damaged. spki: hexadecimal."""
    try:
        return public_key_of(bytes.fromhex(spki), where="pin") if spki else None
    except (ValueError, InvalidInput):
        return None


def repository_of(context: Context) -> str:
    """Return the repository that context asks, as policies name it: a layout by its resolved path."""
    return _canonical(context.registry or context.target.name)


class Deciding:
    """The policy of a user, and a repository. data: the bytes of the policy file, read if None."""

    def __init__(self, context: Context, data: bytes | None = None) -> None:
        self._context = context
        self._data = context.trust.read() if data is None else data
        self._policy: TrustPolicy = load_policy(context.trust, self._data)
        self._registry = context.registry or context.target.name
        self._repository = _canonical(self._registry)
        self._memory = Remembered(context.state)
        self._in_clear = bool(context.trust.foreign) and is_in_clear(self._registry)
        self._scope, rule = self._policy.scope_of(self._repository)
        self._foreign = self._is_foreign(rule)
        self._with_consent = stricter(rule, context.trust.at_least or "accept-any").mode
        self._at_least = "reject" if self._foreign else context.trust.at_least or "accept-any"
        self._mode = stricter(rule, self._at_least).mode
        self._bundles: dict[SignedClaim, FoundClaim] = {}

    @property
    def denied_outputs(self) -> frozenset[str]:
        return self._policy.deny.outputs

    def _is_foreign(self, rule: Rule) -> bool:
        """Whether only a folder's ctxpack.toml names the registry, and no rule of the user is about it.

        Rules name no scheme. So over plain HTTP, where somebody else may answer, only one that asks for claims is
        about it; and the user's own settings are, when they say plain HTTP, too.
        """
        trust = self._context.trust
        if not trust.foreign or rule.mode in ("signed", "reject") or (self._scope and not self._in_clear):
            return False
        from ctxpack_trust import is_within

        users = trust.users if not self._in_clear or is_in_clear(trust.users) else ""
        return not (users and is_within(_canonical(users), self._repository))

    def _decide(self, facts: Facts, found: Sequence[SignedClaim]) -> Decision:
        """Return what the policy says; of a registry that only a folder names, that this is why it is refused."""
        decision = decide(self._policy, facts, found, at_least=self._at_least)
        if not self._foreign or decision.admitted or decision.denied:
            return decision
        how = " over plain HTTP" if self._in_clear else ""
        return decision._replace(
            mode=self._with_consent,
            reason=f"only {self._context.trust.foreign} names this registry{how}, so no pack of it is used",
        )

    def cached(self, uri: CtxUri, folder: str) -> Judgement:
        """Return the judgement of the cached pack in folder, by what the cache keeps of it.

        Raises: IntegrityError when its manifest is damaged, or gone.
        """
        manifest = read_pack_manifest(folder)
        pack = manifest.digest
        own = Made(self._context.state).kind_of(uri, pack) is not None
        origins, notes = Origins(self._context.cache), ClaimNotes(self._context.cache)
        judged: list[Judgement] = []
        images: list[Digest | None] = [*origins.images(uri, folder)]
        for image in images or [None]:
            found, skipped = self._checked(uri, image, notes.of(image) if image else ())
            said, others = _compared(found, manifest)
            facts = Facts(
                uri,
                self._repository,
                image,
                outputs=manifest.outputs_digest,
                own=own,
                pinned=self._pinned_id(),
                **self._sources(manifest),
            )
            decision = self._decide(facts, said)
            lines = (*skipped, *map(_contradicted, others))
            one = Judgement(uri, self._repository, image, decision, said, lines, kept_in_cache=True)
            judged.append(one._replace(contradicted=others, own=own))
        denied = [one for one in judged if one.decision.denied]
        admitted = [one for one in judged if one.decision.admitted]
        return [*denied, *admitted, *judged][0]

    def in_registry(self, uri: CtxUri, image: Digest, *, all_claims: bool = False) -> Judgement:
        """Return the judgement of the pack that the registry has. all_claims: also those that no decision needs."""
        from ctxpack_pantry.claims import fetch_claims, list_claims  # HTTP is loaded only when the registry is asked

        target = self._context.target
        own = self._memory.is_own_image(uri, image)
        facts = Facts(uri, self._repository, image, own=own, pinned=self._pinned_id())
        found: list[SignedClaim] = []
        skipped: list[str] = []
        unread: list[str] = []
        too_many = ""
        tagged: list[FoundClaim] = []

        def decided() -> Decision:
            return self._decide(facts, found)

        decision = decided()
        if all_claims or (self._mode in ("signed", "tofu") and not own and not decision.denied):
            keys = self._keys()
            if keys:
                tagged = [*fetch_claims(target, image, keys, skip=unread.append)]
                found, skipped = self._checked(uri, image, tagged)
                decision = decided()
            if all_claims or not decision.admitted:
                listed = list_claims(target, image)
                looked_at = {(one.bundle, one.spki) for one in tagged}  # a claim is found in both ways
                rest = [one for one in listed.found if (one.bundle, one.spki) not in looked_at]
                more, others = self._checked(uri, image, rest)
                known = {(one.key.key_id, one.claim) for one in found}
                found += [one for one in more if (one.key.key_id, one.claim) not in known]
                skipped += [*others, *listed.skipped]
                too_many = listed.too_many
                decision = decided()
        return Judgement(
            uri,
            self._repository,
            image,
            decision,
            tuple(found),
            (*([too_many] if too_many else []), *unread, *skipped),
            kept_in_cache=False,
            too_many=too_many,
        )

    def examined(self, uri: CtxUri, image: Digest, manifest: PackManifest) -> Judgement:
        """Return the judgement of the pack that the registry has, and whose pack manifest is known, by all claims.

        As whoever uses it would find: a claim that would admit it, and contradicts it, refuses it.
        Raises: as in_registry does.
        """
        judged = self.in_registry(uri, image, all_claims=True)
        said, others = _compared(judged.found, manifest)
        lines = (*judged.skipped, *map(_contradicted, others))
        opened = self.opened(judged._replace(found=said, skipped=lines, contradicted=others), manifest)
        false = [one for one in others if one in _counted(judged)]
        if false and not opened.decision.denied:
            refused = opened.decision._replace(admitted=False, by=(), pin="", reason=_contradicted(false[0]))
            return opened._replace(decision=refused)
        return opened

    def opened(self, judged: Judgement, manifest: PackManifest) -> Judgement:
        """Return the judgement of a pack whose pack manifest is known."""
        pack = manifest.digest
        facts = Facts(
            judged.uri,
            self._repository,
            judged.image,
            outputs=manifest.outputs_digest,
            own=Made(self._context.state).kind_of(judged.uri, pack) is not None,
            pinned=judged.decision.pin or self._pinned_id(),
            **self._sources(manifest),
        )
        return judged._replace(decision=self._decide(facts, judged.found))

    def _sources(self, manifest: PackManifest) -> dict[str, Any]:
        """Return the members of Facts about the packs that items were taken from.

        What a source has as outputs is looked up only if outputs are denied, and it is no image manifest: an image
        manifest with denied outputs is denied itself (`denying`).
        """
        named = source_uris(manifest)
        unpublished = [uri for uri, image in named.items() if not image] if self._policy.deny.outputs else []
        outputs = filter(None, map(self._cached_outputs, unpublished))
        return {"sources": sources_of(manifest), "source_uris": (*named,), "source_outputs": (*outputs,)}

    def _cached_outputs(self, uri: str) -> Digest | None:
        try:
            folder = self._context.cache.find(uri_digest(parse_uri(uri)))
            return None if folder is None else read_pack_manifest(folder).outputs_digest
        except (IntegrityError, InvalidInput):
            return None

    def require(self, judged: Judgement) -> None:
        """Raise PolicyRefused unless the pack is admitted."""
        decision, uri = judged.decision, judged.uri
        if decision.admitted and decision.pin and not self._context.state:
            raise PolicyRefused(
                "the mode tofu remembers whom it met, and there is no state folder",
                where=self._repository,
                fix="set HOME or XDG_STATE_HOME, or use the mode signed",
                code=NOT_ADMITTED,
            )
        if decision.admitted:
            return
        if self._foreign and not decision.denied:
            raise PolicyRefused(decision.reason, where=self._registry, fix=self._way_in(), code=NOT_ADMITTED)
        if not decision.denied and judged.too_many:
            decision = decision._replace(reason=f"{decision.reason}; {judged.too_many}")
        raise refused(decision, uri, where=f"{uri} of {self._registry}", fix=self._remedy(uri))

    def _remedy(self, uri: CtxUri) -> str:
        remedy, pinned = _REMEDY.format(uri=uri), self._pinned_id()
        if not pinned:
            return remedy
        where = f", in {self._memory.pin_path(self._pin_name())}" if pinned == _DAMAGED else ""
        return f"{remedy}; `ctxpack trust remove --pin {shlex.quote(self._pin_name())}` forgets what is pinned{where}"

    def may_consent(self, judged: Judgement) -> bool:
        """Ask the user about a registry that only a folder names; return whether it may be used from now on."""
        consent, which = self._context.consent, _ASKED_FOR.get(self._with_consent)
        if consent is None or which is None or not self._foreign or self._in_clear:
            return False
        if judged.decision.denied or judged.decision.admitted:
            return False
        question = (
            f"{self._context.trust.foreign} names the registry {self._registry}, which you did not. "
            f"Use packs from it, {which}?"
        )
        if not consent(question):
            return False
        # What holds everywhere else: a yes to a registry asks for nothing less of its packs.
        save_policy(self._context.trust, lambda policy: policy.with_rule(self._repository, policy.default))
        return True

    def _way_in(self) -> str:
        """Return what lets packs be used of a registry that only a folder names."""
        signed = f"`ctxpack trust mode signed --scope {self._repository}`, and `ctxpack trust add` for each signer"
        if self._in_clear:
            return f"use https; or {signed}; or name it yourself: --registry {self._registry}"
        mode = self._policy.default.mode
        return f"if you know it: `ctxpack trust mode {mode} --scope {self._repository}`; or {signed}"

    def keep(self, judged: Judgement) -> None:
        """Keep in the cache the claims that admitted an image manifest, for when its pack is a hit there."""
        notes = ClaimNotes(self._context.cache)
        counted = [one for one in judged.found if one.key.key_id in judged.decision.by and one.claim.kind in COUNTING]
        if judged.image is not None:
            notes.record(judged.image, {one.key.spki: self._bundles[one].bundle for one in counted})

    def say(self, judged: Judgement) -> None:
        """Give a notice of the first contact with a registry, and of another image manifest than that used last."""
        context, uri, by = self._context, judged.uri, judged.decision.by
        unguarded = not (by or self._data or context.trust.at_least or context.trust is NO_TRUST)
        if self._memory.is_first_contact(self._registry) and unguarded:
            context.notice(
                f"first pack from {self._registry}, used whoever made it, since you have no policy: `ctxpack trust add "
                f"--from {uri} --owner NAME` names who signed it, `ctxpack trust mode signed` makes that necessary"
            )
        last = self._memory.last_image(uri, self._registry)
        if last and judged.image is not None and last != judged.image:
            context.notice(
                f"{self._registry} has another image manifest of {uri} than when it was used last: {judged.image}, "
                f"then {last}"
            )

    def remember(self, judged: Judgement, admission: Admission, pack: Digest | None) -> None:
        """Remember the decision, and in the mode tofu the key."""
        trust, decision = self._context.trust, judged.decision
        asked = question(self._data, trust, self._registry)
        if decision.pin:
            [key] = [one.key for one in judged.found if one.key.key_id == decision.pin][:1]
            if not self._memory.pin(self._pin_name(), key.spki.hex()):
                raise PolicyRefused(
                    "the key cannot be pinned: the state folder cannot be written, or another key was pinned just now",
                    where=self._context.state,
                    fix="make it writable, then try again",
                    code=NOT_ADMITTED,
                )
        self._memory.record(judged.uri, asked, self._registry, pack, judged.image, admission)

    def _pin_name(self) -> str:
        return self._scope or self._repository

    def _pinned(self) -> PublicKey | None:
        return pinned_key(self._memory.pinned(self._pin_name()))

    def _pinned_id(self) -> str:
        if self._mode != "tofu" or not self._memory.pinned(self._pin_name()):
            return ""
        key = self._pinned()
        return _DAMAGED if key is None else key.key_id

    def _keys(self) -> list[PublicKey]:
        """Return the keys whose tags are asked for: those of signers that count here, and the one that is pinned."""
        denied = self._policy.deny.keys
        keys = {signer.key.key_id: signer.key for signer in self._policy.signers_of(self._repository)}
        pinned = self._pinned() if self._mode == "tofu" else None
        if pinned is not None:
            keys[pinned.key_id] = pinned
        return [key for key_id, key in keys.items() if key_id not in denied]

    def _checked(
        self, uri: CtxUri, image: Digest | None, candidates: Iterable[FoundClaim]
    ) -> tuple[list[SignedClaim], list[str]]:
        """Return the candidates that are claims about this image manifest, each with its key; a line for each other."""
        found: dict[tuple[str, Claim], SignedClaim] = {}
        skipped: list[str] = []
        for candidate in candidates if image is not None else ():
            assert image is not None
            keys = self._keys_of(candidate)
            if not keys:
                skipped.append(f"{candidate.where}: signed by a key that is not known")
            problem: CtxPackError | None = None
            for key in keys:
                try:
                    claim = read_claim(candidate.bundle, key, image=image, uri=uri)
                except CtxPackError as error:
                    problem = error
                    continue
                problem = None
                found[key.key_id, claim] = one = SignedClaim(key, claim)
                self._bundles[one] = candidate
                break
            if problem is not None:
                skipped.append(f"{candidate.where}: {problem}")
        return [*found.values()], skipped

    def _keys_of(self, candidate: FoundClaim) -> list[PublicKey]:
        """Return the keys that may have signed a candidate: the one it names, else those of the policy."""
        if candidate.spki is None:
            return [signer.key for signer in self._policy.signers]
        try:
            return [public_key_of(candidate.spki, where=candidate.where)]
        except InvalidInput:
            return []


def _canonical(name: str) -> str:
    if name.startswith("oci:"):
        return f"oci:{os.path.realpath(name.removeprefix('oci:'))}"
    try:
        return canonical_repository(name.rpartition("://")[2])
    except InvalidInput:
        return name


def _counted(judged: Judgement) -> list[SignedClaim]:
    """Return the claims that admitted a pack."""
    return [one for one in judged.found if one.key.key_id in judged.decision.by and one.claim.kind in COUNTING]


def _compared(
    found: Iterable[SignedClaim], manifest: PackManifest
) -> tuple[tuple[SignedClaim, ...], tuple[SignedClaim, ...]]:
    """Return the claims that are about the pack of manifest, and those that say something else."""
    found = tuple(found)
    said = tuple(one for one in found if says(one.claim, manifest))
    return said, tuple(one for one in found if one not in said)


def _contradicted(one: SignedClaim) -> str:
    return f"the claim of {one.key.key_id} is about other outputs"


def _admission(decision: Decision) -> Admission:
    return Admission("own" if decision.by == ("own",) else decision.mode, decision.by)


def _require_said(claim: Claim, manifest: PackManifest, where: str) -> None:
    """Raise IntegrityError unless a claim is about the pack of manifest."""
    found = contradiction(claim, manifest)
    if found is not None:
        raise IntegrityError(
            f"the claim that admitted the pack is about other {found.what}",
            where=where,
            expected=found.said,
            got=found.held,
            fix="use neither; whoever signed it has to say why",
            code="E_CLAIM",
        )
