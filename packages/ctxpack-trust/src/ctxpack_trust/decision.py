"""Whether a policy admits a pack, and why: a function of policy, facts and verified claims alone.

POLICY.md, "Decision". Denial is looked at first, then what is one's own, then the mode of the scope. A claim
that is not certain to count does not count.
"""

from __future__ import annotations

from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple
from ctxpack_trust.claim import COUNTING, OWN, Claim, Source, is_key_id
from ctxpack_trust.policy import ACCEPT_ANY, SIGNED, TOFU, Rule, Signer, TrustPolicy, stricter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ctxpack_identity.digest import Digest
    from ctxpack_identity.uri import CtxUri
    from ctxpack_trust.keys import PublicKey

__all__ = ["Decision", "Facts", "SignedClaim", "Vote", "count_owners", "decide"]

_MOST_NAMED = 5  # signers in a reason


class Facts(NamedTuple):
    """What is known of a pack without its claims.

    repository: canonical, the one that was asked for. image: its image manifest, None for a pack that never was in a
    registry. outputs: tree digest, when it is verified. own: this user's run, map or seed made it, by the record of
    that. pinned: of tofu, the key id that the scope is pinned to; another text for one that cannot be read. sources:
    what its provenance lists, and source_uris: the URIs there, which claims do not have. source_outputs: of sources, as
    far as they are known.
    """

    uri: CtxUri
    repository: str
    image: Digest | None
    outputs: Digest | None = None
    own: bool = False
    pinned: str = ""
    sources: tuple[Source, ...] = ()
    source_uris: tuple[str, ...] = ()
    source_outputs: tuple[str, ...] = ()


class SignedClaim(NamedTuple):
    """A claim about the image manifest and URI of the facts, whose signature by key was verified."""

    key: PublicKey
    claim: Claim


class Vote(NamedTuple):
    """How one claim was counted. name, owner: of the signer, empty for a stranger. why: it does not count, in words."""

    key_id: str
    name: str
    owner: str
    kind: str
    counts: bool
    why: str


class Decision(NamedTuple):
    """What a policy says of a pack, and why.

    scope: that of the policy which decided; empty for its default. by: ids of the keys that admitted the pack, or
    (OWN,); empty under accept-any, and when it is refused. votes: one for each claim, in their order. pin: of tofu, the
    key id to pin the scope to now; empty when there is nothing to pin. denied: whether it is refused by the deny list;
    entry: then by what in it, the member of Denied and the value.
    """

    admitted: bool
    mode: str
    scope: str
    threshold: int
    reason: str
    by: tuple[str, ...]
    votes: tuple[Vote, ...]
    pin: str
    denied: bool = False
    entry: tuple[str, str] = ("", "")


def decide(policy: TrustPolicy, facts: Facts, claims: Sequence[SignedClaim], *, at_least: str = ACCEPT_ANY) -> Decision:
    """Return whether policy admits the pack of facts. Never raises.

    at_least: a mode that makes the scope's rule stricter, never weaker; one that is not known counts as reject.
    """
    scope, rule = policy.scope_of(facts.repository)
    rule = stricter(rule, at_least)
    signers = _by_key(policy.signers_of(facts.repository))
    votes = tuple(_vote(each, policy, facts, rule.mode, signers) for each in claims)
    counted = [each for each, vote in zip(claims, votes, strict=True) if vote.counts]

    def decision(admitted: bool, reason: str, by: Iterable[str] = (), pin: str = "") -> Decision:
        return Decision(admitted, rule.mode, scope, rule.threshold, reason, tuple(by), votes, pin)

    if denied := _denied(policy, facts, counted, rule):
        reason, member, value = denied
        return decision(False, reason)._replace(denied=True, entry=(member, value))
    if facts.own:
        return decision(True, "made here, by you", (OWN,))
    if rule.mode == ACCEPT_ANY:
        return decision(True, "accepted unseen: the policy asks for no signature here")
    if rule.mode == SIGNED:
        return decision(*_signed(votes, rule, signers))
    if rule.mode == TOFU:
        return decision(*_first_use(facts, counted, policy.deny.keys))
    return decision(False, f"the policy rejects every pack {f'of {scope}' if scope else 'that no scope names'}")


def _by_key(signers: Iterable[Signer]) -> dict[str, list[Signer]]:
    """Return the signers of each key id; a key may have several names."""
    found: dict[str, list[Signer]] = {}
    for signer in signers:
        found.setdefault(signer.key.key_id, []).append(signer)
    return found


def _vote(
    signed: SignedClaim, policy: TrustPolicy, facts: Facts, mode: str, signers: Mapping[str, Sequence[Signer]]
) -> Vote:
    key_id, claim = signed.key.key_id, signed.claim
    here = signers.get(key_id, ())
    known = here or [signer for signer in policy.signers if signer.key.key_id == key_id]
    name, owner = (known[0].name, known[0].owner) if known else ("", "")

    def vote(why: str = "") -> Vote:
        return Vote(key_id, name, owner, claim.kind, not why, why)

    if claim.image != facts.image or claim.uri != facts.uri:
        return vote("it is about another pack")
    if key_id in policy.deny.keys:
        return vote("the policy denies this key")
    if facts.outputs is not None and claim.outputs != facts.outputs:
        return vote("it is about other outputs")
    if claim.kind not in COUNTING:
        return vote("who vouches did not make it" if claim.kind == "vouch" else "who seeds did not see how it was made")
    if mode == TOFU:
        return vote("" if facts.pinned in ("", key_id) else "another signer is pinned here")
    if not known:
        return vote("you do not trust this key")
    return vote("" if here else "you trust this signer elsewhere, not here")


def _denied(
    policy: TrustPolicy, facts: Facts, counted: Iterable[SignedClaim], rule: Rule
) -> tuple[str, str, str] | None:
    """Return why the pack is denied, and by which entry: member and value. None if it is not."""
    deny = policy.deny
    if facts.uri in deny.uris:
        return f"the policy denies {facts.uri}", "uris", facts.uri
    if facts.image in deny.images:
        return f"the policy denies the image manifest {facts.image}", "images", str(facts.image)
    outputs = {facts.outputs, *(each.claim.outputs for each in counted)}
    for digest in sorted(deny.outputs & outputs):
        return f"the policy denies the outputs {digest}", "outputs", digest
    for named in (*facts.source_uris, *facts.source_outputs):
        if named in deny.uris or named in deny.outputs:
            member = "uris" if named in deny.uris else "outputs"
            return f"it has items of {named}, which the policy denies", member, named
    threshold = rule.threshold if rule.mode == SIGNED else 1
    for source in (*facts.sources, *(source for each in counted for source in each.claim.sources)):
        if source.image in deny.images:
            return f"it has items of {source.image}, which the policy denies", "images", source.image
        left, gone = set(source.admitted_by) - deny.keys, deny.keys.intersection(source.admitted_by)
        if gone and OWN not in left and count_owners(left, policy.signers) < threshold:
            reason = f"it has items of {source.image}, which keys admitted that the policy denies"
            return reason, "keys", min(gone)
    return None


def _signed(votes: Iterable[Vote], rule: Rule, signers: Mapping[str, Sequence[Signer]]) -> tuple[bool, str, list[str]]:
    keys = sorted({vote.key_id for vote in votes if vote.counts})
    names = sorted({vote.name for vote in votes if vote.counts})
    shown = ", ".join(names[:_MOST_NAMED]) + (" and others" if len(names) > _MOST_NAMED else "")
    owners = count_owners(keys, [signer for each in signers.values() for signer in each])
    if owners >= rule.threshold:
        return True, f"signed by {shown}", keys
    asked = "a signer that you trust" if rule.threshold == 1 else f"{rule.threshold} owners that you trust"
    return False, f"needs a claim by {asked}, has {f'{owners} ({shown})' if owners else 'none'}", []


def count_owners(keys: Iterable[str], signers: Iterable[Signer]) -> int:
    """Return how many different owners keys have. Each key that no signer has counts as an owner of its own.

    Owners who share a key are one: that key alone must not meet a threshold of two.
    """
    owners_of: dict[str, set[str]] = {key: set() for key in keys}
    for signer in signers:
        key_id = signer.key.key_id
        if key_id in owners_of:
            owners_of[key_id].add(signer.owner.lower())
    groups: list[set[str]] = []
    for key, owners in owners_of.items():
        merged = {f"owner {owner}" for owner in owners} or {f"key {key}"}
        for group in [group for group in groups if group & merged]:
            groups.remove(group)
            merged |= group
        groups.append(merged)
    return len(groups)


def _first_use(
    facts: Facts, counted: Iterable[SignedClaim], denied: Collection[str]
) -> tuple[bool, str, list[str], str]:
    keys = sorted(each.key.key_id for each in counted)
    if facts.pinned:
        if facts.pinned in keys:
            return True, "signed by the key that is pinned here", [facts.pinned], ""
        if facts.pinned in denied:
            return False, f"the policy denies the key that is pinned here, {facts.pinned}", [], ""
        if not is_key_id(facts.pinned):
            return False, "which key is pinned here cannot be read, so nobody's claims count", [], ""
        return False, f"is not signed by the key that is pinned here, {facts.pinned}", [], ""
    if keys:
        return True, f"first use: signed by the key {keys[0]}, which is pinned from now on", keys[:1], keys[0]
    return False, "is not signed", [], ""
