"""Verdict: who vouches for a pack, whether that counts and why not, and the command of cosign that checks the same."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from ctxpack_bundle import PackManifest
from ctxpack_identity import CtxUri, Digest, InvalidInput, PolicyRefused
from ctxpack_oci import parse_location
from ctxpack_oci.location import RegistryLocation
from ctxpack_pantry.admission import ask
from ctxpack_pantry.context import Context
from ctxpack_pantry.deciding import Deciding, Judgement, refused
from ctxpack_trust import Decision, Vote

__all__ = ["Verdict", "Voucher", "judge_cached", "judge_located", "verdict_of"]

Document = dict[str, Any]

_SHORTEST = 2  # characters of the name of a repository that cosign reads
_SHORT = 16  # digits of a key id that stand for it, as in the tag of a claim


class Voucher(NamedTuple):
    """A claim about a pack, whose signature is right.

    key_id: of the signer; pem: the key. name, owner: as the policy calls it; "" for a key that it does not know.
    kind: run, rebuild, seed or vouch. counts: whether the policy counts it; why: why not. cosign: the command that
    checks the signature, with the key in the file that it names; "" where cosign cannot read the registry. It knows
    signatures, not kinds.
    """

    key_id: str
    name: str
    owner: str
    kind: str
    counts: bool
    why: str
    pem: str
    cosign: str

    @property
    def file(self) -> str:
        """The name of the file in which cosign is to find the key."""
        return _key_file(self.name, self.key_id)


class Verdict(NamedTuple):
    """What the policy says of a pack. registry: the repository, as policies name it; image: None if it is not known.

    skipped: one line for each claim that is none. note: what is not known, and how to find out; "" for nothing.
    """

    uri: CtxUri
    registry: str
    image: Digest | None
    decision: Decision
    vouchers: tuple[Voucher, ...]
    skipped: tuple[str, ...]
    note: str

    @property
    def admitted(self) -> bool:
        return self.decision.admitted

    def members(self) -> Document:
        """Return the verdict as the part of a document."""
        decision = self.decision
        return {
            "registry": self.registry,
            "image": self.image,
            "admitted": decision.admitted,
            "mode": decision.mode,
            "scope": decision.scope,
            "threshold": decision.threshold,
            "reason": decision.reason,
            "by": list(decision.by),
            "claims": [voucher._asdict() for voucher in self.vouchers],
            "skipped": list(self.skipped),
            "note": self.note,
        }

    def as_json(self) -> Document:
        return {"schema": "ctxpack/trust-check/v1", "uri": self.uri, "verdict": self.members()}

    def require_admitted(self) -> None:
        """Raise PolicyRefused when the pack is not admitted."""
        if not self.admitted:
            fix = f"`ctxpack inspect {self.uri}` shows who signed it, `ctxpack trust list` whose claims count"
            raise refused(self.decision, self.uri, where=f"{self.uri}, {self.registry}", fix=fix)


def judge_cached(context: Context, uri: CtxUri, folder: str) -> Verdict:
    """Return the verdict on the cached pack in folder, by the claims that the cache keeps. No registry is asked.

    Raises: InvalidInput, LocalFailure for a policy that cannot be read; IntegrityError for a damaged pack.
    """
    return verdict_of(context, Deciding(context).cached(uri, folder))


def judge_located(context: Context, uri: CtxUri, image: Digest, manifest: PackManifest) -> Verdict:
    """Return the verdict on the pack that the registry has under this image manifest, by all claims that it has.

    manifest: the pack manifest; claims that say something else of the outputs do not count.

    Raises: InvalidInput, LocalFailure for a policy that cannot be read; AccessDenied, Unavailable, IntegrityError when
    it is not known which claims there are.
    """
    return verdict_of(context, Deciding(context).examined(uri, image, manifest))


def verdict_of(context: Context, judged: Judgement) -> Verdict:
    """Return a judgement for people and programs, with what a policy of the caller of `Pantry` says."""
    decision = judged.decision
    pems = {one.key.key_id: one.key.as_pem().decode() for one in judged.found}
    place = _registry(context)
    vouchers = tuple(
        Voucher(*vote, pem=pems.get(vote.key_id, ""), cosign=_cosign(place, judged, vote.name, vote.key_id))
        for vote in sorted(decision.votes, key=_by_weight)
    )
    try:
        ask(context, judged.uri, lambda: judged.image)
    except PolicyRefused as error:
        decision = decision._replace(admitted=False, reason=str(error), by=())
    return Verdict(judged.uri, judged.repository, judged.image, decision, vouchers, judged.skipped, _unknown(judged))


def _by_weight(vote: Vote) -> tuple[bool, bool, str, str]:
    """Return the order for people: claims that count first, then those of known signers; by name."""
    return not vote.counts, not vote.name, vote.name, vote.key_id


def _unknown(judged: Judgement) -> str:
    """Return what is not known of a cached pack, of which only claims are kept that once admitted it."""
    if not judged.kept_in_cache or judged.found:
        return ""
    if judged.image is None:
        return "" if judged.own else "the cache does not know where this pack is from"
    return "the cache keeps no claims about this pack; --skip-cache asks the registry for them"


def _registry(context: Context) -> RegistryLocation | None:
    """Return the location of the registry if other tools can read it; None for a layout, and for a given target."""
    try:
        location = parse_location(context.registry or context.target.name)
    except InvalidInput:
        return None
    if not isinstance(location, RegistryLocation) or len(location.repository) < _SHORTEST:
        return None
    return location


def _cosign(place: RegistryLocation | None, judged: Judgement, name: str, key_id: str) -> str:
    if place is None or judged.image is None:
        return ""
    http = ["--allow-http-registry"] if place.scheme == "http" else []
    about = ["-a", f"contract={judged.uri}", f"{place}@{judged.image}"]
    return shlex.join(
        ["cosign", "verify", "--key", _key_file(name, key_id), "--insecure-ignore-tlog=true", *http, *about]
    )


def _key_file(name: str, key_id: str) -> str:
    return f"{name or key_id[:_SHORT]}.pub"
