"""The decision: one table for the threshold, one for denial, and what holds for every policy and every claim."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import digest_of, uri_for
from ctxpack_trust import (
    KINDS,
    MODES,
    NO_POLICY,
    OWN,
    Claim,
    Decision,
    Denied,
    Facts,
    OutputRoot,
    PublicKey,
    Rule,
    SignedClaim,
    Signer,
    Source,
    TrustPolicy,
    decide,
    generate_key,
)
from ctxpack_trust.decision import count_owners

IMAGE, OUTPUTS, URI = digest_of(b"image"), digest_of(b"outputs"), uri_for(digest_of(b"contract"))
SOURCE, ANOTHER = digest_of(b"source"), digest_of(b"another")
HERE, THERE = "ghcr.io/team/packs", "ghcr.io/else"

# a1 and a2 are two keys of one owner; stranger is in no policy.
KEYS: dict[str, PublicKey] = {
    name: generate_key("ed25519").public for name in ("a1", "a2", "b", "c", "elsewhere", "stranger", "shared")
}
ID = {name: public.key_id for name, public in KEYS.items()}
SIGNERS = (
    Signer("a1", "ada", KEYS["a1"]),
    Signer("a2", "Ada", KEYS["a2"]),  # letters of a name do not make another owner
    Signer("b", "bob", KEYS["b"], ("ghcr.io/team",)),
    Signer("c", "cy", KEYS["c"]),
    Signer("elsewhere", "eve", KEYS["elsewhere"], (THERE, "ghcr.io/team/packs2")),
    Signer("shared-1", "one", KEYS["shared"]),
    Signer("shared-2", "two", KEYS["shared"]),
)

CLAIM = Claim("run", URI, IMAGE, OUTPUTS, (OutputRoot("out", "folder"),), digest_of(b"manifest.json"))
FACTS = Facts(uri=URI, repository=HERE, image=IMAGE)


def policy(mode: str = "signed", threshold: int = 1, **denied: Any) -> TrustPolicy:
    deny = Denied(**{kind: frozenset(values) for kind, values in denied.items()})
    return TrustPolicy(Rule("reject"), {"ghcr.io/team": Rule(mode, threshold)}, SIGNERS, deny)


def signed(text: str) -> list[SignedClaim]:
    """Return claims: "a1 b:vouch" is a run signed by a1, and a vouch signed by b."""
    parts = [each.partition(":") for each in text.split()]
    return [SignedClaim(KEYS[name], CLAIM._replace(kind=kind or "run")) for name, _, kind in parts]


def ids(text: str) -> tuple[str, ...]:
    return tuple(sorted(ID[name] for name in text.split()))


# threshold, claims, keys that admit it ("" = refused)
THRESHOLD = [
    (1, "", ""),
    (1, "a1", "a1"),
    (1, "a1:rebuild", "a1"),
    (1, "a1:seed", ""),
    (1, "a1:vouch", ""),
    (1, "a1:seed a1:vouch", ""),
    (1, "a1:seed a1", "a1"),
    (1, "stranger", ""),
    (1, "elsewhere", ""),
    (1, "stranger elsewhere b:vouch", ""),
    (1, "stranger a1", "a1"),
    (2, "a1", ""),
    (2, "a1 a1", ""),
    (2, "a1 a1:rebuild", ""),
    (2, "a1 a2", ""),
    (2, "a1 b", "a1 b"),
    (2, "b a1", "a1 b"),
    (2, "a1:rebuild b:rebuild", "a1 b"),
    (2, "a1 b:rebuild", "a1 b"),
    (2, "a1 b:seed", ""),
    (2, "a1 b:vouch", ""),
    (2, "a1:vouch b:vouch c", ""),
    (2, "a1 stranger", ""),
    (2, "a1 elsewhere", ""),
    (2, "a1 a2 b", "a1 a2 b"),
    (2, "shared", ""),
    (2, "shared shared:rebuild", ""),
    (2, "shared a1", "a1 shared"),
    (3, "a1 a2 b", ""),
    (3, "shared a1 a2", ""),
    (3, "a1 b c", "a1 b c"),
    (1, "a1 b c", "a1 b c"),
    (4, "a1 a2 b c", ""),
    (1000, "a1 a2 b c shared", ""),
]


@pytest.mark.parametrize(("threshold", "claims", "by"), THRESHOLD)
def test_the_threshold_counts_owners_who_ran_it(threshold: int, claims: str, by: str) -> None:
    found = decide(policy("signed", threshold), FACTS, signed(claims))
    assert (found.admitted, found.by) == (bool(by), ids(by))
    assert (found.mode, found.scope, found.threshold, found.pin) == ("signed", "ghcr.io/team", threshold, "")
    assert len(found.votes) == len(claims.split())
    assert all(bool(vote.why) != vote.counts for vote in found.votes)


def test_owners_who_share_a_key_are_one() -> None:
    """That key must not stand for two owners, also when one of them has another key."""
    three = (*SIGNERS, Signer("own-key", "two", KEYS["c"]))
    found = decide(policy("signed", 2)._replace(signers=three), FACTS, signed("shared c"))
    # c is a key of cy and of two, shared one of one and two: all three are linked.
    assert not found.admitted


@pytest.mark.parametrize("keys", list(permutations(["shared", "b", "c", "a1"])))
def test_owners_are_linked_in_any_order(keys: Sequence[str]) -> None:
    signers = [Signer("one", "one", KEYS["shared"]), Signer("two", "two", KEYS["shared"])]
    signers += [Signer("b", "one", KEYS["b"]), Signer("c", "two", KEYS["c"]), Signer("a", "three", KEYS["a1"])]
    assert count_owners([ID[name] for name in keys], signers) == 2


# claims, what is denied, whether a threshold of 1 is met
DENIED: list[tuple[str, dict[str, Sequence[str]], bool]] = [
    ("a1", {}, True),
    ("a1", {"keys": [ID["a1"]]}, False),
    ("a1", {"keys": [ID["a2"]]}, True),
    ("a1 b", {"keys": [ID["a1"]]}, True),
    ("a1 b", {"keys": [ID["a1"], ID["b"]]}, False),
    ("a1", {"uris": [URI]}, False),
    ("a1", {"uris": [uri_for(ANOTHER)]}, True),
    ("a1", {"images": [IMAGE]}, False),
    ("a1", {"images": [ANOTHER]}, True),
    ("a1", {"images": [OUTPUTS], "outputs": [IMAGE]}, True),
    ("a1", {"outputs": [OUTPUTS]}, False),
    ("a1", {"outputs": [ANOTHER]}, True),
]


@pytest.mark.parametrize(("claims", "denied", "admitted"), DENIED)
def test_what_is_denied_is_refused(claims: str, denied: Any, admitted: bool) -> None:
    assert decide(policy(**denied), FACTS, signed(claims)).admitted is admitted


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("denied", "facts"),
    [
        ({"uris": [URI]}, FACTS),
        ({"images": [IMAGE]}, FACTS),
        ({"outputs": [OUTPUTS]}, FACTS._replace(outputs=OUTPUTS)),
        ({"images": [SOURCE]}, FACTS._replace(sources=(Source(ANOTHER, (OWN,)), Source(SOURCE, (OWN,))))),
        ({"keys": [ID["b"]]}, FACTS._replace(sources=(Source(SOURCE, (ID["b"],)),))),
        ({"keys": [ID["stranger"]]}, FACTS._replace(sources=(Source(SOURCE, (ID["stranger"],)),))),
    ],
)
def test_denial_beats_every_mode_and_what_is_one_s_own(mode: str, own: bool, denied: Any, facts: Facts) -> None:
    found = decide(policy(mode, **denied), facts._replace(own=own), [])
    assert (found.admitted, found.by) == (False, ())
    assert "denies" in found.reason
    assert decide(policy(mode), facts._replace(own=True), []).by == (OWN,)


def test_outputs_are_denied_by_a_claim_that_counts_only() -> None:
    """A stranger who says that the outputs are denied ones must not make a pack unusable."""
    lie = CLAIM._replace(outputs=ANOTHER)
    for name, kind, admitted in (("a1", "run", False), ("a1", "vouch", True), ("stranger", "run", True)):
        claims = [*signed("b"), SignedClaim(KEYS[name], lie._replace(kind=kind))]
        assert decide(policy(outputs=[ANOTHER]), FACTS, claims).admitted is admitted


# threshold, who admitted the source there, denied keys, whether the source still stands
SOURCES = [
    (1, "b", "", True),
    (1, "b", "c", True),
    (1, "b", "b", False),
    (1, "b c", "b", True),
    (1, "b c", "b c", False),
    (1, "stranger", "", True),
    (1, "stranger", "stranger", False),
    (1, "stranger b", "b", True),
    (2, "b c", "", True),
    (2, "b c", "b", False),
    (2, "b c a1", "b", True),
    (2, "b a1 a2", "b", False),
    (2, "b a1 a2 c", "b", True),
    (2, "b", "", True),  # with what it had, it was admitted there; nothing of that is denied
    (2, "b", "a1", True),
    (2, "b b c", "c", False),
    (1, OWN, "a1 b c", True),
    (2, OWN, "b", True),
    (1, "", "b", True),
]


@pytest.mark.parametrize("where", ["claim", "provenance", "own"])
@pytest.mark.parametrize(("threshold", "admitted_by", "denied", "stands"), SOURCES)
def test_a_source_stands_while_the_keys_that_are_left_meet_the_threshold(
    threshold: int, admitted_by: str, denied: str, stands: bool, where: str
) -> None:
    keys = (OWN,) if admitted_by == OWN else tuple(ID[name] for name in admitted_by.split())
    source = Source(SOURCE, keys)
    # Signed by owners that no case denies, so that only the source decides.
    others = [generate_key("ed25519").public for _ in range(2)]
    known = (*SIGNERS, Signer("x", "xi", others[0]), Signer("y", "yo", others[1]))
    asked = policy("signed", threshold, keys=ids(denied))._replace(signers=known)
    sources, facts = ((source,), FACTS) if where == "claim" else ((), FACTS._replace(sources=(source,)))
    claims = [SignedClaim(other, CLAIM._replace(sources=sources)) for other in others]
    assert decide(asked, facts._replace(own=where == "own"), claims).admitted is stands


def test_what_is_own_there_stands_whatever_else_admitted_it() -> None:
    facts = FACTS._replace(sources=(Source(SOURCE, (OWN, ID["b"])),))
    assert decide(policy("signed", 2, keys=[ID["b"]]), facts, signed("a1 c")).admitted


@pytest.mark.parametrize("mode", ["accept-any", "tofu"])
def test_a_threshold_is_asked_of_sources_only_where_it_is_asked_of_packs(mode: str) -> None:
    facts = FACTS._replace(sources=(Source(SOURCE, ids("b c")),))
    assert decide(policy(mode, 2, keys=[ID["b"]]), facts, signed("a1")).admitted
    assert not decide(policy(mode, 2, keys=ids("b c")), facts, signed("a1")).admitted


def test_a_denied_source_of_any_claim_that_counts_refuses_the_pack() -> None:
    poisoned = CLAIM._replace(sources=(Source(ANOTHER, (OWN,)), Source(SOURCE, (OWN,))))
    for name, kind, admitted in (("a1", "run", False), ("a1", "seed", True), ("stranger", "run", True)):
        claims = [*signed("b"), SignedClaim(KEYS[name], poisoned._replace(kind=kind))]
        found = decide(policy(images=[SOURCE]), FACTS, claims)
        assert found.admitted is admitted
        assert admitted or SOURCE in found.reason


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("own", [False, True])
def test_a_source_whose_uri_or_outputs_are_denied_refuses_the_pack(mode: str, own: bool) -> None:
    source = uri_for(SOURCE)
    facts = FACTS._replace(own=own, source_uris=(uri_for(ANOTHER), source), source_outputs=(ANOTHER, SOURCE))
    for value, denying in ((source, policy(mode, uris=[source])), (SOURCE, policy(mode, outputs=[SOURCE]))):
        found = decide(denying, facts, signed("a1"))
        assert (found.admitted, found.denied) == (False, True)
        assert found.reason == f"it has items of {value}, which the policy denies"
    others = policy(mode, uris=[uri_for(OUTPUTS)], outputs=[IMAGE], images=[ANOTHER])
    assert decide(others, facts, signed("a1")) == decide(policy(mode), facts, signed("a1"))


def test_a_stolen_key_cannot_deny_others_packs() -> None:
    """Its claims no longer count, whatever sources and outputs they name."""
    stolen = SignedClaim(KEYS["a1"], CLAIM._replace(sources=(Source(SOURCE, (OWN,)),), outputs=ANOTHER))
    asked = policy(keys=[ID["a1"]], images=[SOURCE], outputs=[ANOTHER])
    assert decide(asked, FACTS, [stolen, *signed("b")]).by == ids("b")


@pytest.mark.parametrize(
    "changed",
    [CLAIM._replace(image=ANOTHER), CLAIM._replace(uri=uri_for(ANOTHER))],
)
def test_a_claim_about_another_pack_does_not_count(changed: Claim) -> None:
    for mode in ("signed", "tofu"):
        found = decide(policy(mode), FACTS, [SignedClaim(KEYS["b"], changed)])
        assert not found.admitted
        assert found.votes[0].why == "it is about another pack"


def test_a_claim_about_other_outputs_does_not_count() -> None:
    for mode in ("signed", "tofu"):
        assert decide(policy(mode), FACTS._replace(outputs=OUTPUTS), signed("b")).admitted
        assert not decide(policy(mode), FACTS._replace(outputs=ANOTHER), signed("b")).admitted


def test_a_pack_without_an_image_manifest_has_no_claims() -> None:
    assert not decide(policy(), FACTS._replace(image=None), signed("a1 b c")).admitted
    assert decide(policy(), FACTS._replace(image=None, own=True), []).by == (OWN,)


# pinned, claims, denied keys, admitted by, pinned now
FIRST_USE = [
    ("", "", "", "", ""),
    ("", "a1", "", "a1", "a1"),
    ("", "stranger", "", "stranger", "stranger"),
    ("", "elsewhere", "", "elsewhere", "elsewhere"),
    ("", "a1:rebuild", "", "a1", "a1"),
    ("", "a1:vouch", "", "", ""),
    ("", "a1:seed stranger:vouch", "", "", ""),
    ("", "a1", "a1", "", ""),
    ("", "stranger", "stranger", "", ""),
    ("a1", "", "", "", ""),
    ("a1", "a1", "", "a1", ""),
    ("a1", "b", "", "", ""),
    ("a1", "a2", "", "", ""),
    ("a1", "b a1", "", "a1", ""),
    ("a1", "a1:vouch b", "", "", ""),
    ("a1", "a1", "a1", "", ""),
    ("stranger", "stranger", "", "stranger", ""),
]


@pytest.mark.parametrize(("pinned", "claims", "denied", "by", "pin"), FIRST_USE)
def test_tofu_keeps_to_the_first_key(pinned: str, claims: str, denied: str, by: str, pin: str) -> None:
    asked = policy("tofu", keys=ids(denied))
    found = decide(asked, FACTS._replace(pinned=ID.get(pinned, "")), signed(claims))
    assert (found.admitted, found.by, found.pin) == (bool(by), ids(by), ID.get(pin, ""))


def test_where_a_key_is_pinned_no_other_claim_counts() -> None:
    lie = SignedClaim(KEYS["b"], CLAIM._replace(outputs=ANOTHER))
    found = decide(policy("tofu", outputs=[ANOTHER]), FACTS._replace(pinned=ID["a1"]), [lie, *signed("a1")])
    assert found.admitted
    assert [vote.why for vote in found.votes] == ["another signer is pinned here", ""]


@pytest.mark.parametrize(
    ("pinned", "denied", "says"),
    [
        (ID["a1"], [], "signed by the key that is pinned here"),
        (ID["b"], [], f"is not signed by the key that is pinned here, {ID['b']}"),
        (ID["a1"], [ID["a1"]], f"the policy denies the key that is pinned here, {ID['a1']}"),
        ("rubbish", [], "which key is pinned here cannot be read, so nobody's claims count"),
    ],
)
def test_what_is_said_of_a_pinned_key(pinned: str, denied: list[str], says: str) -> None:
    assert decide(policy("tofu", keys=denied), FACTS._replace(pinned=pinned), signed("a1")).reason == says


def test_of_several_keys_at_first_use_the_smallest_id_is_pinned() -> None:
    for claims in ("a1 b stranger", "stranger b a1"):
        found = decide(policy("tofu"), FACTS, signed(claims))
        assert found.by == (found.pin,) == ids("a1 b stranger")[:1]


@pytest.mark.parametrize(
    ("mode", "at_least", "admitted"),
    [
        ("accept-any", "accept-any", True),
        ("accept-any", "tofu", False),
        ("accept-any", "signed", False),
        ("accept-any", "reject", False),
        ("accept-any", "anything", False),
        ("accept-any", "", False),
        ("reject", "accept-any", False),
        ("signed", "accept-any", False),
        ("signed", "tofu", False),
    ],
)
def test_what_is_asked_for_besides_only_makes_it_stricter(mode: str, at_least: str, admitted: bool) -> None:
    found = decide(policy(mode), FACTS, [], at_least=at_least)
    assert found.admitted is admitted
    expected = max(mode, at_least, key=MODES.index) if at_least in MODES else "reject"
    assert found.mode == expected
    assert decide(policy(mode), FACTS._replace(own=True), [], at_least=at_least).admitted


def test_the_scope_that_was_asked_for_decides() -> None:
    assert decide(policy("accept-any"), FACTS._replace(repository=THERE), []).scope == ""
    assert not decide(policy("accept-any"), FACTS._replace(repository=THERE), []).admitted
    assert not decide(policy("accept-any"), FACTS._replace(repository=THERE), signed("a1 c")).admitted


def test_a_reason_says_who_signed_and_what_is_missing() -> None:
    assert decide(policy(), FACTS, signed("b a1")).reason == "signed by a1, b"
    assert decide(policy(), FACTS, []).reason == "needs a claim by a signer that you trust, has none"
    missing = decide(policy("signed", 2), FACTS, signed("a1 a2 stranger"))
    assert missing.reason == "needs a claim by 2 owners that you trust, has 1 (a1, a2)"
    assert [vote.why for vote in missing.votes] == ["", "", "you do not trust this key"]
    elsewhere = decide(policy(), FACTS, signed("elsewhere b:vouch c:seed"))
    assert [vote.why for vote in elsewhere.votes] == [
        "you trust this signer elsewhere, not here",
        "who vouches did not make it",
        "who seeds did not see how it was made",
    ]
    assert [(vote.name, vote.owner) for vote in elsewhere.votes] == [("elsewhere", "eve"), ("b", "bob"), ("c", "cy")]


def test_no_policy_admits_everything_and_vouches_for_nothing() -> None:
    found = decide(NO_POLICY, FACTS, signed("a1"))
    assert (found.admitted, found.by, found.mode, found.pin) == (True, (), "accept-any", "")


CLAIMS = st.lists(
    st.builds(
        lambda name, kind, image, outputs, sources: SignedClaim(
            KEYS[name], CLAIM._replace(kind=kind, image=image, outputs=outputs, sources=tuple(sources))
        ),
        st.sampled_from(sorted(KEYS)),
        st.sampled_from(KINDS),
        st.sampled_from([IMAGE, IMAGE, ANOTHER]),
        st.sampled_from([OUTPUTS, ANOTHER]),
        st.lists(
            st.builds(
                Source, st.sampled_from([SOURCE, ANOTHER]), st.lists(st.sampled_from(sorted(ID.values()))).map(tuple)
            ),
            max_size=2,
        ),
    ),
    max_size=6,
)
DENY = st.builds(
    Denied,
    st.frozensets(st.sampled_from([IMAGE, SOURCE]), max_size=2),
    st.frozensets(st.sampled_from(sorted(ID.values())), max_size=3),
    st.frozensets(st.sampled_from([OUTPUTS, ANOTHER]), max_size=1),
    st.frozensets(st.just(URI), max_size=1),
)
FACTS_OF = st.builds(
    Facts,
    st.just(URI),
    st.sampled_from([HERE, THERE, "", "oci:/x", "\ud800"]),
    st.sampled_from([IMAGE, None]),
    st.sampled_from([None, OUTPUTS]),
    st.booleans(),
    st.sampled_from(["", *sorted(ID.values())]),
)
POLICIES = st.builds(
    lambda default, mode, threshold, signers, deny: TrustPolicy(
        Rule(default), {"ghcr.io/team": Rule(mode, threshold)}, tuple(signers), deny
    ),
    st.sampled_from(MODES),
    st.sampled_from(MODES),
    st.integers(1, 3),
    st.lists(st.sampled_from(SIGNERS), unique=True),
    DENY,
)


@given(POLICIES, FACTS_OF, CLAIMS, st.sampled_from(MODES))
def test_what_holds_for_every_decision(asked: TrustPolicy, facts: Facts, claims: list[SignedClaim], least: str) -> None:
    found = decide(asked, facts, claims, at_least=least)
    assert MODES.index(found.mode) >= MODES.index(least)
    assert len(found.votes) == len(claims)
    assert set(found.by).isdisjoint(asked.deny.keys)
    assert found.reason
    if not found.admitted:
        assert (found.by, found.pin) == ((), "")
    if URI in asked.deny.uris or facts.image in asked.deny.images:
        assert not found.admitted
    elif found.admitted and not facts.own:
        assert found.mode != "reject"
        assert bool(found.by) == (found.mode != "accept-any")
        counting = {each.key.key_id for each in claims if each.claim.kind in ("run", "rebuild")}
        assert set(found.by) <= counting
        if found.mode == "signed":
            trusted = {signer.key.key_id: signer.owner for signer in asked.signers_of(facts.repository)}
            assert set(found.by) <= set(trusted)
            assert len(found.by) >= found.threshold


@given(POLICIES, FACTS_OF, CLAIMS, st.randoms())
def test_the_order_of_claims_does_not_matter(
    asked: TrustPolicy, facts: Facts, claims: list[SignedClaim], order: Any
) -> None:
    mixed = [*claims, *claims]
    order.shuffle(mixed)
    one, other = decide(asked, facts, claims), decide(asked, facts, mixed)
    assert (one.admitted, one.by, one.pin) == (other.admitted, other.by, other.pin)


@given(POLICIES, FACTS_OF, CLAIMS, st.sampled_from(sorted(ID.values())))
def test_denying_a_key_admits_nothing_more_unless_that_key_pointed_at_what_is_denied(
    asked: TrustPolicy, facts: Facts, claims: list[SignedClaim], denied: str
) -> None:
    before = decide(asked, facts, claims)
    after: Decision = decide(asked.with_denied("keys", denied), facts, claims)
    if after.admitted and not before.admitted:
        assert any(each.key.key_id == denied for each in claims)
        assert "denies" in before.reason


@given(POLICIES, FACTS_OF, CLAIMS, st.sampled_from(MODES))
def test_a_claim_that_does_not_count_changes_nothing(
    asked: TrustPolicy, facts: Facts, claims: list[SignedClaim], least: str
) -> None:
    whole = decide(asked, facts, claims, at_least=least)
    counted = [claim for claim, vote in zip(claims, whole.votes, strict=True) if vote.counts]
    alone = decide(asked, facts, counted, at_least=least)
    assert whole[:6] == alone[:6]
    assert whole.pin == alone.pin
