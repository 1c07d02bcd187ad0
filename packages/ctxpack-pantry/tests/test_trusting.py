"""The user's policy is read and changed, and a pack is judged by it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_identity import CtxUri, InvalidInput, NotFound, PolicyRefused, digest_of
from ctxpack_pantry import Pantry
from ctxpack_pantry.affected import Denial
from ctxpack_trust import NO_POLICY, PrivateKey, Rule, generate_key, parse_policy, parse_public_key

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

KEYS = [generate_key() for _ in range(3)]
ONE, TWO, THREE = KEYS
ZEROS = "0" * 64


def pub(folder: Path, key: PrivateKey, name: str = "ci") -> str:
    path = folder / f"{name}.pub"
    path.write_bytes(key.public.as_pem())
    return str(path)


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack in the cache and in the registry, which nobody signed."""
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    return uri


@pytest.fixture
def stranger(
    tmp_path: Path, open_pantry: Callable[..., Pantry], registry: FaultyTarget, notices: list[str]
) -> Callable[..., Pantry]:
    """Make a pantry of another user, who made nothing, with the policy of a home of that name."""

    def make(home: str = "stranger") -> Pantry:
        settings = open_pantry(home).settings
        return Pantry(
            settings, target=registry, notice=notices.append, environ={"HOME": str(tmp_path / "homes" / home)}
        )

    return make


def policy_of(pantry: Pantry) -> object:
    file = Path(pantry.trust_list().file)
    return parse_policy(file.read_bytes(), where="policy") if file.exists() else None


# --- signers


def test_without_a_policy_there_are_no_signers_and_no_file(pantry: Pantry) -> None:
    assert pantry.trust_list().policy == NO_POLICY
    assert policy_of(pantry) is None


def test_a_signer_is_added_and_no_mode_changes(pantry: Pantry, tmp_path: Path, notices: list[str]) -> None:
    shown = pantry.trust_add("team", pub=pub(tmp_path, ONE), scopes=["GHCR.io/team", "oci:x", "ghcr.io/team"])
    [signer] = pantry.trust_list().policy.signers
    assert (signer.name, signer.owner, signer.key) == ("ci", "team", ONE.public)
    assert signer.scopes == ("ghcr.io/team", f"oci:{os.getcwd()}/x")
    assert (shown.added, shown.signers, shown.denied) == ("ci", (signer,), False)
    assert pantry.trust_list().policy.default == Rule("accept-any")
    assert notices == [
        "nothing is required of packs of ghcr.io/team yet: "
        "`ctxpack trust mode signed --scope ghcr.io/team` requires a claim",
        f"nothing is required of packs of oci:{os.getcwd()}/x yet: "
        f"`ctxpack trust mode signed --scope oci:{os.getcwd()}/x` requires a claim",
    ]
    assert Path(pantry.trust_list().file).stat().st_mode & 0o777 == 0o600


def test_where_claims_are_required_nothing_more_is_said(pantry: Pantry, tmp_path: Path, notices: list[str]) -> None:
    pantry.trust_mode("signed")
    notices.clear()
    pantry.trust_add("team", pub=pub(tmp_path, ONE))
    assert notices == []


def test_the_same_signer_again_is_no_error_and_another_key_under_its_name_is(pantry: Pantry, tmp_path: Path) -> None:
    for _ in range(2):
        pantry.trust_add("team", pub=pub(tmp_path, ONE))
    before = pantry.trust_list()
    for change in ({"owner": "other"}, {"scopes": ["ghcr.io"]}):
        with pytest.raises(InvalidInput, match="name is taken"):
            pantry.trust_add(**{"owner": "team", "pub": pub(tmp_path, ONE), **change})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="name is taken"):
        pantry.trust_add("team", pub=pub(tmp_path, TWO))
    assert pantry.trust_list() == before


def test_one_key_under_two_names_is_said_to_count_once(pantry: Pantry, tmp_path: Path, notices: list[str]) -> None:
    pantry.trust_mode("reject")
    pantry.trust_add("a", pub=ONE.public.as_pem())
    pantry.trust_add("b", pub=pub(tmp_path, ONE, "other"))
    assert notices == ["the same key is a; its claims count once"]
    assert [one.name for one in pantry.trust_show("other").signers] == ["a", "other"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "E_KEY"),
        (b"rubbish", "E_KEY"),
        (ONE.as_pem(b"pw"), "E_KEY"),
        (ONE.public.as_pem() * 2, "E_KEY"),
        (b"\0" * (70 << 10), "E_KEY"),
    ],
    ids=["empty", "rubbish", "private", "two", "large"],
)
def test_what_is_no_public_key_is_refused(pantry: Pantry, tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        pantry.trust_add("team", pub=str(tmp_path / "k"))
    assert caught.value.code == code
    assert policy_of(pantry) is None


def test_what_is_no_file_is_refused(pantry: Pantry, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in ("missing", "", str(tmp_path), str(tmp_path / "fifo"), str(tmp_path / "x" / "y")):
        with pytest.raises(InvalidInput) as caught:
            pantry.trust_add("team", pub=path)
        assert caught.value.code == "E_KEY", path


@pytest.mark.parametrize("word", ["", " ", "a b", "-x", "a/b", "é", "x" * 129])
def test_names_and_owners_are_words(pantry: Pantry, tmp_path: Path, word: str) -> None:
    key = pub(tmp_path, ONE)
    with pytest.raises(InvalidInput, match="not the owner of a signer") as caught:
        pantry.trust_add(word, pub=key)
    assert caught.value.fix == "give it with --owner"
    if word:
        with pytest.raises(InvalidInput, match="not the name of a signer"):
            pantry.trust_add("team", pub=key, name=word)


def test_exactly_one_source_of_the_key_is_named(pantry: Pantry, tmp_path: Path, uri: CtxUri) -> None:
    with pytest.raises(InvalidInput, match="which key"):
        pantry.trust_add("team")
    with pytest.raises(InvalidInput, match="which key"):
        pantry.trust_add("team", pub=pub(tmp_path, ONE), pack=uri)
    with pytest.raises(InvalidInput, match="--key-id chooses a key of a pack"):
        pantry.trust_add("team", pub=pub(tmp_path, ONE), key_id="0" * 8)


# --- keys from the claims on a pack


def test_the_only_key_that_signed_a_pack_is_added_and_is_to_be_compared(
    pantry: Pantry, stranger: Callable[..., Pantry], uri: CtxUri, notices: list[str]
) -> None:
    pantry.push(uri, key=ONE)
    user = stranger()
    notices.clear()
    shown = user.trust_add("team", pack=uri)
    assert (shown.key, shown.added, shown.seen_on) == (ONE.public, "team", uri)
    assert notices[0].startswith(f"the key {ONE.public.key_id} is only what the pack says: compare it")
    assert not os.path.exists(user.cache.root)


def test_of_several_keys_one_is_chosen(pantry: Pantry, stranger: Callable[..., Pantry], uri: CtxUri) -> None:
    for key in KEYS:
        pantry.push(uri, key=key)
    user = stranger()
    with pytest.raises(InvalidInput, match="3 keys signed this pack") as caught:
        user.trust_add("team", pack=uri)
    assert caught.value.code == "E_KEY"
    assert all(key.public.key_id in caught.value.got for key in KEYS)
    for wrong in ("f" * 64, TWO.public.key_id[:4], "g" * 8):
        with pytest.raises(InvalidInput, match="no claim by this key"):
            user.trust_add("team", pack=uri, key_id=wrong)
    assert user.trust_add("team", pack=uri, key_id=TWO.public.key_id[:12]).key == TWO.public


def test_of_a_flood_no_key_is_taken_for_the_only_one(
    pantry: Pantry, stranger: Callable[..., Pantry], uri: CtxUri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (ONE, TWO):
        pantry.push(uri, key=key)
    user = stranger()
    monkeypatch.setattr("ctxpack_oci.referrers.MAX_REFERRERS", 0)
    with pytest.raises(InvalidInput, match="nobody signed this pack") as caught:
        user.trust_add("team", pack=uri)
    assert "more than 64 manifests refer to it" in caught.value.got
    user.trust_add("team", pub=pub(tmp_path, ONE))
    with pytest.raises(InvalidInput, match="perhaps more than one key signed this pack"):
        user.trust_add("others", pack=uri)
    assert user.trust_add("others", pack=uri, key_id=ONE.public.key_id).key == ONE.public


def test_a_pack_that_nobody_signed_names_no_key(stranger: Callable[..., Pantry], uri: CtxUri) -> None:
    with pytest.raises(InvalidInput, match="nobody signed this pack"):
        stranger().trust_add("team", pack=uri)
    with pytest.raises(NotFound):
        stranger().trust_add("team", pack=CtxUri(f"ctx://sha256:{ZEROS}"))


# --- modes


def test_modes_are_set_for_a_scope_and_by_default(pantry: Pantry, tmp_path: Path, notices: list[str]) -> None:
    pantry.trust_mode("tofu", scope="docker.io/team")
    pantry.trust_mode("signed", scope="ghcr.io/team", threshold=2)
    policy = pantry.trust_mode("reject").policy
    assert policy.default == Rule("reject")
    assert policy.scopes == {"docker.io/team": Rule("tofu"), "ghcr.io/team": Rule("signed", 2)}
    assert notices == [
        "no pack of ghcr.io/team is admitted yet, but what you made: 2 owners must have signed it, and the policy has "
        "none; `ctxpack trust add` adds one"
    ]


def test_a_threshold_stays_until_another_one_is_said(pantry: Pantry) -> None:
    pantry.trust_mode("signed", scope="ghcr.io/team", threshold=2)
    assert pantry.trust_mode("signed", scope="GHCR.IO/team").policy.scopes["ghcr.io/team"] == Rule("signed", 2)
    assert pantry.trust_mode("signed", scope="ghcr.io/team", threshold=1).policy.scopes["ghcr.io/team"].threshold == 1
    pantry.trust_mode("signed", threshold=3)
    assert pantry.trust_mode("accept-any").policy.default == Rule("accept-any")
    assert pantry.trust_mode("signed").policy.default == Rule("signed")


@pytest.mark.parametrize(
    ("mode", "threshold", "what"),
    [
        ("sign", None, "no such mode"),
        ("", None, "no such mode"),
        ("SIGNED", None, "no such mode"),
        ("signed", 0, "a threshold is 1 to 1000: got 0; say how many owners must have signed"),
        ("signed", -1, "a threshold is 1 to 1000"),
        ("signed", 1001, "a threshold is 1 to 1000"),
        ("tofu", 2, "has no threshold"),
        ("reject", 1, "has no threshold"),
    ],
)
def test_what_is_no_mode_is_refused(pantry: Pantry, mode: str, threshold: int | None, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        pantry.trust_mode(mode, threshold=threshold)
    assert policy_of(pantry) is None


@pytest.mark.parametrize("scope", ["", "/", " "])
def test_an_empty_scope_is_none(pantry: Pantry, tmp_path: Path, scope: str) -> None:
    """As of a variable that is not set. It is neither the default nor everywhere."""
    key = pub(tmp_path, ONE)
    for use in (
        lambda: pantry.trust_mode("accept-any", scope=scope),
        lambda: pantry.trust_remove(scope=scope),
        lambda: pantry.trust_remove("ci", scope=scope),
        lambda: pantry.trust_remove(""),
        lambda: pantry.trust_add("team", pub=key, scopes=[scope]),
    ):
        with pytest.raises(InvalidInput):
            use()
    assert policy_of(pantry) is None


def test_a_dry_run_says_what_is_denied_now(pantry: Pantry) -> None:
    uri = f"ctx://sha256:{'0' * 64}"

    def deny(*, undo: bool = False, dry_run: bool = False) -> tuple[bool, bool]:
        denied = pantry.trust_deny(uri, undo=undo, dry_run=dry_run)
        assert denied.as_json()["denied"] is denied.denied
        return denied.denied, denied.changed

    assert deny(dry_run=True) == (False, False)
    assert deny() == (True, True)
    assert deny(dry_run=True) == deny(dry_run=True, undo=True) == deny() == (True, False)
    assert deny(undo=True) == (False, True)


def test_tofu_needs_a_state_folder(pantry: Pantry, registry: FaultyTarget, tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": "relative", "HOME": ""}
    nowhere = Pantry(pantry.settings, target=registry, environ=environ)
    with pytest.raises(InvalidInput, match="no state folder"):
        nowhere.trust_mode("tofu")
    nowhere.trust_mode("signed")


def test_owners_that_count_are_counted_once_and_denied_keys_not(
    pantry: Pantry, tmp_path: Path, notices: list[str]
) -> None:
    pantry.trust_mode("reject")
    for name, owner, key in (("a", "ann", ONE), ("b", "Ann", TWO), ("c", "carl", THREE)):
        pantry.trust_add(owner, pub=key.public.as_pem(), name=name, scopes=["ghcr.io/team"] if name == "c" else [])
    pantry.trust_mode("signed", scope="quay.io", threshold=2)
    assert "the policy has ann;" in notices.pop()
    pantry.trust_mode("signed", scope="ghcr.io", threshold=2)
    assert notices == []
    pantry.trust_deny("c")
    pantry.trust_mode("signed", scope="ghcr.io", threshold=2)
    assert "the policy has ann;" in notices.pop()


# --- remove, show


def test_owners_who_share_a_key_are_counted_once(pantry: Pantry, notices: list[str]) -> None:
    for name in ("ann", "bob"):
        pantry.trust_add(name, pub=ONE.public.as_pem())
    pantry.trust_mode("signed", threshold=2)
    assert "the policy has ann, bob, who count as 1, since they share a key" in notices[-1]
    notices.clear()
    pantry.trust_add("cy", pub=TWO.public.as_pem())
    pantry.trust_mode("signed", threshold=2)
    assert notices == []


def test_signers_and_scopes_are_removed(pantry: Pantry, tmp_path: Path) -> None:
    pantry.trust_add("team", pub=pub(tmp_path, ONE))
    pantry.trust_mode("reject", scope="ghcr.io/team")
    with pytest.raises(InvalidInput, match='no such signer; did you mean "ci"'):
        pantry.trust_remove("c")
    with pytest.raises(InvalidInput, match="no such scope"):
        pantry.trust_remove(scope="ghcr.io")
    for wrong in ({}, {"name": "ci", "scope": "ghcr.io/team"}):
        with pytest.raises(InvalidInput, match="which one"):
            pantry.trust_remove(**wrong)
    assert pantry.trust_remove("ci").policy.signers == ()
    assert pantry.trust_remove(scope="ghcr.io/team/").policy == NO_POLICY


def test_a_key_is_shown_by_name_and_by_its_digits(pantry: Pantry, tmp_path: Path) -> None:
    pantry.trust_add("team", pub=pub(tmp_path, ONE))
    by_name = pantry.trust_show("ci")
    assert by_name == pantry.trust_show(ONE.public.key_id) == pantry.trust_show(ONE.public.key_id[:8])
    assert parse_public_key(by_name.as_json()["pem"].encode(), where="pem") == ONE.public
    for wrong in ("cI", ONE.public.key_id[:7], ZEROS):
        with pytest.raises(InvalidInput, match="no such signer or key"):
            pantry.trust_show(wrong)


# --- deny


@pytest.mark.parametrize("how", ["ci", "id", "digits", "file"])
def test_a_key_is_denied_by_name_by_id_and_by_its_file(pantry: Pantry, tmp_path: Path, how: str) -> None:
    path = pub(tmp_path, ONE)
    pantry.trust_add("team", pub=path)
    key_id = ONE.public.key_id
    what = {"ci": "ci", "id": key_id, "digits": key_id[:8], "file": path}[how]
    denied = pantry.trust_deny(what)
    assert (denied.denial, denied.changed, denied.signers) == (Denial("key", key_id), True, ("ci",))
    assert pantry.trust_list().policy.deny.keys == {key_id}
    assert not pantry.trust_deny(what).changed
    assert pantry.trust_deny(what, undo=True).changed
    assert pantry.trust_list().policy.deny.keys == frozenset()
    with pytest.raises(InvalidInput, match="the key is not denied"):
        pantry.trust_deny(what, undo=True)


def test_a_key_that_the_policy_does_not_know_is_denied(pantry: Pantry, tmp_path: Path, notices: list[str]) -> None:
    pantry.trust_deny(ZEROS)
    pantry.trust_deny(pub(tmp_path, ONE))
    assert pantry.trust_list().policy.deny.keys == {ZEROS, ONE.public.key_id}
    pantry.trust_add("team", pub=pub(tmp_path, ONE))
    assert any("the key is denied" in notice for notice in notices)
    assert pantry.trust_show("ci").denied


def test_a_dry_run_denies_nothing(pantry: Pantry) -> None:
    assert not pantry.trust_deny(ZEROS, dry_run=True).changed
    assert policy_of(pantry) is None


def test_a_uri_is_denied(pantry: Pantry, stranger: Callable[..., Pantry], uri: CtxUri) -> None:
    assert pantry.trust_deny(uri).denial == Denial("uri", uri)
    with pytest.raises(PolicyRefused):
        pantry.pull(uri)  # although it is one's own
    with pytest.raises(PolicyRefused) as caught:
        pantry.trust_check(uri).require_admitted()
    assert (caught.value.code, f"`ctxpack trust deny {uri} --undo`" in caught.value.fix) == ("E_DENIED_URI", True)
    assert stranger().trust_check(uri).admitted
    pantry.trust_deny(uri, undo=True)
    pantry.pull(uri)


def test_the_known_image_manifests_of_a_uri_and_of_outputs_are_denied_with_them(pantry: Pantry, uri: CtxUri) -> None:
    inspected = pantry.inspect(uri, skip_cache=True)
    assert inspected.located is not None
    outputs, image = inspected.manifest.outputs_digest, inspected.located.image

    def denied() -> frozenset[str]:
        return pantry.trust_list().policy.deny.images

    for what in (uri, outputs):
        assert pantry.trust_deny(what, dry_run=True).images == (image,)
        assert denied() == frozenset()
        assert pantry.trust_deny(what).images == (image,)
        assert denied() == {image}
        assert pantry.trust_deny(what).images == ()
        assert pantry.trust_deny(what, undo=True).images == (image,)
        assert denied() == frozenset()
    pantry.trust_deny(uri)
    pantry.trust_deny(outputs)
    assert pantry.trust_deny(uri, undo=True).images == ()  # it still has denied outputs
    assert denied() == {image}
    assert pantry.trust_deny(image).images == ()


def test_the_cache_says_what_a_digest_is_of(pantry: Pantry, uri: CtxUri, notices: list[str]) -> None:
    inspected = pantry.inspect(uri, skip_cache=True)
    assert inspected.located is not None
    outputs, image = inspected.manifest.outputs_digest, inspected.located.image
    notices.clear()
    assert pantry.trust_deny(outputs).denial == Denial("outputs", outputs)
    assert pantry.trust_deny(image).denial == Denial("image", image)
    assert notices == [
        f"{outputs} is the digest of the outputs of a cached pack",
        "packs with items of a pack with these outputs are refused only where its image manifest is denied, and this "
        "cache knows 1: to be sure, deny its URI as well",
        f"{image} is the digest of the image manifest of a cached pack",
    ]
    unknown = digest_of(b"x")
    with pytest.raises(InvalidInput, match="of nothing that this cache knows"):
        pantry.trust_deny(unknown)
    for kind in ("image", "outputs"):
        assert pantry.trust_deny(unknown, kind=kind).denial == Denial(kind, unknown)


def test_what_is_denied_is_allowed_again_though_the_cache_does_not_know_it_any_more(pantry: Pantry) -> None:
    one, both = digest_of(b"one"), digest_of(b"both")
    for kind in ("image", "outputs"):
        pantry.trust_deny(one, kind=kind)
        assert pantry.trust_deny(one, undo=True).denial == Denial(kind, one)
        pantry.trust_deny(both, kind=kind)
    with pytest.raises(InvalidInput, match="of an image manifest and of outputs"):
        pantry.trust_deny(both, undo=True)
    with pytest.raises(InvalidInput, match="is not denied"):
        pantry.trust_deny(one, undo=True)


@pytest.mark.parametrize("kind", ["uri", "outputs", "image"])
def test_an_own_pack_that_is_denied_is_still_known_to_be_one_s_own(pantry: Pantry, uri: CtxUri, kind: str) -> None:
    inspected = pantry.inspect(uri, skip_cache=True)
    assert inspected.located is not None
    what = {"uri": uri, "outputs": inspected.manifest.outputs_digest, "image": inspected.located.image}[kind]
    pantry.trust_deny(what)
    verdict = pantry.trust_check(uri)
    assert (verdict.admitted, "where this pack is from" in verdict.note) == (False, False)
    with pytest.raises(PolicyRefused) as caught:
        verdict.require_admitted()
    assert caught.value.code == ("E_DENIED_URI" if kind == "uri" else "E_DENIED")
    assert " --undo`" in caught.value.fix


@pytest.mark.parametrize(
    "what", ["", "nobody", "sha256:0", f"sha256:{'A' * 64}", "ctx://sha256:0", "A" * 64, "0" * 65, "./none", "/"]
)
def test_what_cannot_be_denied_is_refused(pantry: Pantry, what: str) -> None:
    with pytest.raises(InvalidInput):
        pantry.trust_deny(what)
    assert policy_of(pantry) is None


def test_a_kind_is_of_a_digest_only(pantry: Pantry, uri: CtxUri) -> None:
    for what in (uri, ZEROS):
        with pytest.raises(InvalidInput, match="not a digest"):
            pantry.trust_deny(what, kind="outputs")


def test_a_policy_that_cannot_be_read_is_not_changed(pantry: Pantry, tmp_path: Path) -> None:
    pantry.trust_mode("reject")
    file = Path(pantry.trust_list().file)
    file.write_bytes(file.read_bytes().replace(b'"signers"', b'"unknown"'))
    before = file.read_bytes()
    for change in (
        lambda: pantry.trust_mode("accept-any"),
        lambda: pantry.trust_add("team", pub=pub(tmp_path, ONE)),
        lambda: pantry.trust_deny(ZEROS),
        pantry.trust_list,
    ):
        with pytest.raises(InvalidInput):
            change()
    assert file.read_bytes() == before


# --- check, inspect


def test_who_signed_a_pack_and_why_that_counts_or_not(
    pantry: Pantry, stranger: Callable[..., Pantry], uri: CtxUri
) -> None:
    for key in (ONE, TWO, THREE):
        pantry.push(uri, key=key)
    user = stranger()
    user.trust_add("team", pub=ONE.public.as_pem(), name="ci")
    user.trust_add("team", pub=THREE.public.as_pem(), name="old")
    user.trust_deny("old")
    user.trust_mode("signed")
    verdict = user.trust_check(uri)
    why = {one.key_id: (one.name, one.counts, one.why) for one in verdict.vouchers}
    assert why == {
        ONE.public.key_id: ("ci", False, "who seeds did not see how it was made"),
        TWO.public.key_id: ("", False, "who seeds did not see how it was made"),
        THREE.public.key_id: ("old", False, "the policy denies this key"),
    }
    assert (verdict.admitted, verdict.decision.mode, verdict.decision.by) == (False, "signed", ())
    assert parse_public_key(verdict.vouchers[0].pem.encode(), where="pem").key_id == verdict.vouchers[0].key_id
    assert [one.cosign for one in verdict.vouchers] == [""] * 3  # cosign reads no folders
    assert user.inspect(uri).as_json()["verdict"] == verdict.members()
    assert not os.path.exists(user.cache.root)


def test_nobody_signed_this_pack(stranger: Callable[..., Pantry], pantry: Pantry, uri: CtxUri) -> None:
    verdict = stranger().trust_check(uri)
    assert (verdict.admitted, verdict.decision.mode, verdict.vouchers, verdict.note) == (True, "accept-any", (), "")
    own = pantry.trust_check(uri)
    assert (own.admitted, own.decision.by) == (True, ("own",))


def test_a_cached_pack_is_judged_without_asking_the_registry(
    pantry: Pantry, stranger: Callable[..., Pantry], uri: CtxUri, registry: FaultyTarget
) -> None:
    user = stranger()
    user.pull(uri)
    pantry.push(uri, key=ONE)
    calls = len(registry.calls)
    for verdict in (user.trust_check(uri), user.inspect(uri).verdict):
        assert verdict.vouchers == ()
        assert verdict.note == "the cache keeps no claims about this pack; --skip-cache asks the registry for them"
    assert len(registry.calls) == calls
    assert user.trust_check(uri, skip_cache=True).vouchers[0].key_id == ONE.public.key_id
