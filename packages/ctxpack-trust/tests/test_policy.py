"""The policy file: what is understood is kept, anything else refuses the whole file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust_samples import cases, key, vectors

from ctxpack_identity import InvalidInput, digest_of, uri_for
from ctxpack_trust import (
    MODES,
    NO_POLICY,
    Denied,
    PublicKey,
    Rule,
    Signer,
    TrustPolicy,
    encode_policy,
    parse_policy,
    stricter,
)
from ctxpack_trust.policy import MAX_POLICY_BYTES

P256, ED25519 = key("p256").public, key("ed25519").public
CI = Signer("ci", "ci", P256, ("ghcr.io/team",))
ADA = Signer("ada", "ada@example.org", ED25519)
DIGEST = digest_of(b"")

POLICY = TrustPolicy(
    Rule("accept-any"),
    {
        "ghcr.io": Rule("tofu"),
        "ghcr.io/team/packs": Rule("signed", 2),
        "ghcr.io/team": Rule("reject"),
        "oci:/srv/packs": Rule("tofu"),
    },
    (ADA, CI),
    Denied(images=frozenset({DIGEST}), uris=frozenset({uri_for(DIGEST)})),
)


@pytest.mark.parametrize("case", cases("policies.json", "valid"))
def test_a_policy_is_read_and_written_to_the_byte(case: Any) -> None:
    policy = parse_policy(case["file"].encode(), where="policy.json")
    assert encode_policy(policy).decode() == case["written"]
    assert parse_policy(case["written"].encode(), where="policy.json") == policy


@pytest.mark.parametrize("case", cases("policies.json", "invalid"))
def test_anything_else_refuses_the_whole_file(case: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_policy(case["file"].encode(), where="/home/me/policy.json")
    assert caught.value.code == "E_POLICY_FILE"
    assert caught.value.where.startswith("/home/me/policy.json")
    assert caught.value.fix


def test_an_error_names_the_place_and_what_is_there() -> None:
    file = json.loads(vectors("policies.json")["valid"][0]["file"])
    file["scopes"]["ghcr.io/team/packs"]["mode"] = "warn"
    with pytest.raises(InvalidInput) as caught:
        parse_policy(json.dumps(file).encode(), where="p.json")
    assert str(caught.value) == (
        "p.json, /scopes/ghcr.io~1team~1packs/mode: no policy that this version reads: "
        "expected accept-any or tofu or signed or reject, got warn; correct it; `ctxpack trust` writes it"
    )


def test_a_policy_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 1048576 bytes"):
        parse_policy(encode_policy(POLICY) + b" " * MAX_POLICY_BYTES, where="p.json")


def test_a_policy_comes_back() -> None:
    data = encode_policy(POLICY)
    assert parse_policy(data, where="p.json") == POLICY
    assert data.endswith(b"}\n")
    assert encode_policy(POLICY._replace(signers=(CI, ADA), scopes=dict(reversed(POLICY.scopes.items())))) == data


@pytest.mark.parametrize(
    ("repository", "scope"),
    [
        ("ghcr.io/team/packs", "ghcr.io/team/packs"),
        ("ghcr.io/team/packs/deep", "ghcr.io/team/packs"),
        ("ghcr.io/team/packs2", "ghcr.io/team"),
        ("ghcr.io/teams", "ghcr.io"),
        ("ghcr.io:5000/team/packs", ""),
        ("docker.io/team", ""),
        ("oci:/srv/packs", "oci:/srv/packs"),
        ("oci:/srv", ""),
        ("", ""),
    ],
)
def test_the_longest_scope_alone_decides(repository: str, scope: str) -> None:
    assert POLICY.scope_of(repository) == (scope, POLICY.scopes[scope] if scope else POLICY.default)


def test_a_signer_counts_in_its_scopes_or_everywhere() -> None:
    assert POLICY.signers_of("ghcr.io/team/packs") == (ADA, CI)
    assert POLICY.signers_of("ghcr.io/teams") == (ADA,)
    assert POLICY.signers_of("") == (ADA,)


def test_no_policy_accepts_anything_and_trusts_nobody() -> None:
    assert NO_POLICY.scope_of("ghcr.io/a") == ("", Rule("accept-any", 1))
    assert NO_POLICY.signers_of("ghcr.io/a") == ()
    assert parse_policy(encode_policy(NO_POLICY), where="p") == NO_POLICY


def test_signers_come_and_go_by_name() -> None:
    one = NO_POLICY.with_signer(CI)
    two = one.with_signer(ADA)
    assert two.signers == (ADA, CI)
    assert two.without_signer("ada") == one
    assert NO_POLICY.signers == ()
    with pytest.raises(InvalidInput, match="name is taken") as taken:
        two.with_signer(ADA._replace(name="ci"))
    with pytest.raises(InvalidInput, match=r"no such signer: expected ada, ci, got 'bob'") as missing:
        two.without_signer("bob")
    with pytest.raises(InvalidInput, match="expected none is there"):
        NO_POLICY.without_signer("bob")
    assert (taken.value.code, missing.value.code) == ("E_POLICY_FILE", "E_POLICY_FILE")


@pytest.mark.parametrize(
    "signer",
    [
        CI._replace(name="c i"),
        CI._replace(owner=""),
        CI._replace(scopes=("GHCR.io",)),
        CI._replace(scopes=("oci:srv",)),
        CI._replace(key=PublicKey(b"")),
    ],
)
def test_a_signer_that_no_file_may_have_is_not_added(signer: Signer) -> None:
    with pytest.raises(InvalidInput) as caught:
        NO_POLICY.with_signer(signer)
    assert caught.value.code == "E_POLICY_FILE"


def test_a_rule_is_set_for_a_scope_or_by_default() -> None:
    assert NO_POLICY.with_rule("", Rule("reject")).default == Rule("reject")
    changed = POLICY.with_rule("https://Index.Docker.io/team", Rule("signed", 3))
    assert changed.scopes == POLICY.scopes | {"docker.io/team": Rule("signed", 3)}
    assert changed.with_rule("docker.io/team", Rule("tofu")).scopes["docker.io/team"] == Rule("tofu")
    for scope, rule, code in (
        ("a b", Rule("tofu"), "E_SCOPE"),
        ("", Rule("warn"), "E_POLICY_FILE"),
        ("x", Rule("tofu", 0), "E_POLICY_FILE"),
    ):
        with pytest.raises(InvalidInput) as caught:
            POLICY.with_rule(scope, rule)
        assert caught.value.code == code


def test_what_is_denied_stays_denied() -> None:
    policy = NO_POLICY
    values = {"images": DIGEST, "keys": P256.key_id, "outputs": DIGEST, "uris": uri_for(DIGEST)}
    for kind, value in values.items():
        policy = policy.with_denied(kind, value)
        assert policy.with_denied(kind, value) == policy
    assert policy.deny == Denied(*(frozenset({values[kind]}) for kind in Denied._fields))
    for kind, value in (
        ("signers", "ci"),
        ("keys", DIGEST),
        ("images", P256.key_id),
        ("uris", DIGEST),
        ("outputs", ""),
    ):
        with pytest.raises(InvalidInput) as caught:
            policy.with_denied(kind, value)
        assert caught.value.code == "E_POLICY_FILE"


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_can_only_become_stricter(mode: str) -> None:
    for least in MODES:
        expected = max(mode, least, key=MODES.index)
        assert stricter(Rule(mode, 3), least) == Rule(expected, 3)
    assert stricter(Rule(mode, 3), "unknown") == Rule("reject", 3)


NAMES = st.text("abAB01._@+-", min_size=1, max_size=8).map("x".__add__)
RULES = st.builds(Rule, st.sampled_from(MODES), st.integers(1, 1000))
SCOPES = st.sampled_from(["ghcr.io", "ghcr.io/a", "ghcr.io/a/b", "docker.io/x", "[::1]:5000/a", "oci:/", "oci:/ü x"])
HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
POLICIES = st.builds(
    TrustPolicy,
    RULES,
    st.dictionaries(SCOPES, RULES),
    st.dictionaries(
        NAMES,
        st.tuples(NAMES, st.sampled_from([P256, ED25519]), st.lists(SCOPES, max_size=3).map(tuple)),
        max_size=4,
    ).map(lambda found: tuple(Signer(name, *rest) for name, rest in sorted(found.items()))),
    st.builds(
        Denied,
        st.frozensets(HEX.map("sha256:".__add__), max_size=2),
        st.frozensets(HEX, max_size=2),
        st.frozensets(HEX.map("sha256:".__add__), max_size=2),
        st.frozensets(HEX.map("ctx://sha256:".__add__), max_size=2),
    ),
)


@given(POLICIES)
def test_every_policy_comes_back_and_has_one_text(policy: TrustPolicy) -> None:
    data = encode_policy(policy)
    assert parse_policy(data, where="p") == policy
    assert encode_policy(parse_policy(data, where="p")) == data
