"""`verify` reads cached packs whole; damaged ones are set aside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_context import context_of
from pantry_project import flip

from ctxpack_bundle import PackManifest, encode_pack_manifest, folder_size, read_pack_manifest
from ctxpack_identity import (
    AccessDenied,
    CtxPackError,
    CtxUri,
    LocalFailure,
    NotFound,
    PolicyRefused,
    Unavailable,
    digest_of,
    uri_digest,
)
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor
from ctxpack_pantry import Context, Pantry, Verified, VerifiedPack, verification
from ctxpack_pantry.artifact import tag_of
from ctxpack_pantry.claimnotes import ClaimNotes
from ctxpack_pantry.claims import publish_claim
from ctxpack_pantry.made import Made
from ctxpack_pantry.outlet import read_whole
from ctxpack_pantry.state import state_folder
from ctxpack_pantry.verdict import Verdict
from ctxpack_pantry.verification import verify
from ctxpack_trust import Claim, OutputRoot, PublicKey, generate_key, sign_claim

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

    from ctxpack_cache.staging import Staging

CREATED = "2026-01-01T00:00:00Z"


@pytest.fixture
def uris(pantry: Pantry, project: Project) -> list[CtxUri]:
    """Three packs of the cache, sorted."""
    found = []
    for number in range(3):
        project.make_outputs(f"number {number}")
        project.write_contract(params={"number": number})
        found.append(pantry.seed([], str(project.contract)).uri)
    return sorted(found)


def folder_of(pantry: Pantry, uri: CtxUri) -> str:
    folder = pantry.cache.find(uri_digest(uri))
    assert folder is not None
    return folder


def whole(pantry: Pantry, uri: CtxUri) -> VerifiedPack:
    folder = folder_of(pantry, uri)
    outputs = read_pack_manifest(folder).outputs
    return VerifiedPack(uri, outputs.files, outputs.size, found_in=folder)


def unjudged(verified: Verified) -> Verified:
    """Return it without what the policy says of packs that were named: that they are one's own."""
    for pack in verified.packs:
        assert pack.damage or (pack.verdict is not None and pack.verdict.decision.by == ("own",))
    return Verified(tuple(pack._replace(verdict=None) for pack in verified.packs))


def test_packs_that_are_whole_stay_and_their_sizes_are_told(pantry: Pantry, uris: list[CtxUri]) -> None:
    expected = Verified(tuple(whole(pantry, uri) for uri in uris))
    assert pantry.verify() == expected
    assert unjudged(pantry.verify(*uris)) == expected
    assert unjudged(pantry.verify(uris[2], uris[0], uris[2])).packs == (expected.packs[2], expected.packs[0])
    assert len(pantry.list_packs().packs) == 3


def test_an_empty_cache_is_whole(pantry: Pantry) -> None:
    assert pantry.verify().packs == ()


MEMBERS = ["manifest.json", "files.jsonl", "inputs/raw_docs.jsonl", "artifacts/joined"]


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("damage", [flip, os.unlink, lambda path: os.truncate(path, 1)])
@pytest.mark.parametrize("named", [False, True])
def test_a_damaged_pack_is_named_and_set_aside_and_the_others_are_read_all_the_same(
    pantry: Pantry, uris: list[CtxUri], notices: list[str], member: str, damage: Callable[[Path], object], named: bool
) -> None:
    expected = [whole(pantry, uri) for uri in uris]
    folder = folder_of(pantry, uris[1])
    path = Path(folder, member)
    path.parent.chmod(0o755)
    damage(path)
    verified = pantry.verify(*(uris if named else []))
    one, two, three = (unjudged(verified) if named else verified).packs
    assert [one, three] == [expected[0], expected[2]]
    assert (two.uri, two.files, two.size) == (uris[1], 0, 0)
    assert str(path) in two.damage
    assert pantry.cache.find(uri_digest(uris[1])) is None
    [notice] = notices
    assert notice.startswith("the cached pack is damaged, and was set aside in ")
    assert notice.endswith(two.damage)
    assert pantry.verify().packs == (expected[0], expected[2])


def test_what_was_changed_with_all_times_restored_is_found(pantry: Pantry, uris: list[CtxUri]) -> None:
    """And what was damaged without a change of its fingerprint, since everything is read."""
    folder = folder_of(pantry, uris[0])
    flip(Path(folder, "artifacts/joined"))
    key = uri_digest(uris[0])
    pantry.cache.confirm(key, pantry.cache.fingerprint_of(key))
    assert pantry.cache.is_as_published(key)
    assert pantry.verify(uris[0]).packs[0].damage != ""


@pytest.mark.parametrize("member", ["artifacts/more", "more", "artifacts/deep/empty/more"])
def test_a_file_more_is_damage(pantry: Pantry, uris: list[CtxUri], member: str) -> None:
    path = Path(folder_of(pantry, uris[0]), member)
    path.parent.chmod(0o755)
    path.write_text("more")
    assert pantry.verify(uris[0]).packs[0].damage != ""


def test_a_pack_in_the_folder_of_another_is_damaged(pantry: Pantry, uris: list[CtxUri]) -> None:
    one, other = (folder_of(pantry, uri) for uri in uris[:2])
    os.chmod(one, 0o755)
    os.rename(one, f"{one}.moved")
    os.rename(other, one)
    [pack] = pantry.verify(uris[0]).packs
    assert pack.damage == (
        f"{one}: pack of another contract: expected {uris[0]}, got {uris[1]}; pull it anew, or make it again"
    )


@pytest.mark.parametrize("damage", ["", "shorter", "longer", "manifest", "removed"])
def test_all_packs_have_one_total(pantry: Pantry, uris: list[CtxUri], damage: str) -> None:
    """What is damaged or removed counts as done."""
    sizes = [folder_size(read_pack_manifest(folder_of(pantry, uri))) for uri in uris]
    steps: list[tuple[str, int, int | None]] = []

    def progress(stage: str, advanced: int, total: int | None) -> None:
        if damage == "removed" and not steps:
            pantry.remove(uris[2])
        steps.append((stage, advanced, total))

    if damage in ("shorter", "longer"):
        path = f"{folder_of(pantry, uris[1])}/artifacts/joined"
        os.chmod(path, 0o600)
        os.truncate(path, 0 if damage == "shorter" else 1 << 20)
    if damage == "manifest":
        path = f"{folder_of(pantry, uris[1])}/manifest.json"
        os.chmod(path, 0o600)
        os.truncate(path, 9)
        sizes[1] = 0
    verify(context_of(pantry.cache, pantry.target, progress=progress))
    assert {(stage, total) for stage, _, total in steps} == {("hash", sum(sizes))}
    assert sum(advanced for _, advanced, _ in steps) == sum(sizes)


def test_a_cached_pack_needs_no_place_for_another_one(
    pantry: Pantry, uris: list[CtxUri], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a cache of another user, which cannot be written."""

    def refuse() -> Staging:
        raise LocalFailure("read-only")

    monkeypatch.setattr(pantry.cache, "staging", refuse)
    assert pantry.verify(uris[0]).packs[0].damage == ""


def test_what_was_read_is_known_to_be_whole(pantry: Pantry, uris: list[CtxUri]) -> None:
    key = uri_digest(uris[0])
    os.utime(Path(folder_of(pantry, uris[0]), "artifacts/joined"))
    assert not pantry.cache.is_as_published(key)
    assert pantry.verify(uris[0]).packs[0].damage == ""
    assert pantry.cache.is_as_published(key)


def test_a_pack_that_the_cache_does_not_have_is_an_error(pantry: Pantry, uris: list[CtxUri]) -> None:
    pantry.remove(uris[1])
    with pytest.raises(NotFound) as caught:
        pantry.verify(*uris)
    assert caught.value.where == uris[1]
    assert len(pantry.verify().packs) == 2


def test_a_pack_that_is_removed_meanwhile_is_neither_damaged_nor_listed(
    pantry: Pantry, uris: list[CtxUri], notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = read_whole

    def remove_first(context: Context, uri: CtxUri, folder: str) -> PackManifest:
        if uri == uris[1]:
            pantry.remove(uri)
        return real(context, uri, folder)

    expected = (whole(pantry, uris[0]), whole(pantry, uris[2]))
    monkeypatch.setattr(verification, "read_whole", remove_first)
    assert pantry.verify().packs == expected
    assert notices == []


def test_the_document_says_what_was_wrong(uris: list[CtxUri]) -> None:
    one = VerifiedPack(uris[0], 3, 5, found_in="/cache/x")
    two = VerifiedPack(uris[1], 0, 0, "broken", found_in="here", cached=False)
    assert Verified((one, two)).as_json() == {
        "schema": "ctxpack/verify/v1",
        "packs": [
            {"uri": uris[0], "found_in": "/cache/x", "cached": True, "files": 3, "size": 5},
            {"uri": uris[1], "found_in": "here", "cached": False, "damage": "broken"},
        ],
    }


def judged(pack: VerifiedPack) -> Verdict:
    assert pack.verdict is not None
    return pack.verdict


@pytest.fixture
def pushed(pantry: Pantry, uris: list[CtxUri]) -> CtxUri:
    """A pack of the registry."""
    pantry.push(uris[0])
    return uris[0]


@pytest.fixture
def stranger(
    open_pantry: Callable[..., Pantry], pushed: CtxUri, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Pantry:
    """Another user than who pushed, with a cache of their own, in which nothing is."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "stranger"))
    return open_pantry("strangers-cache")


def test_what_the_cache_lacks_is_read_in_the_registry_and_not_kept(
    pantry: Pantry, stranger: Pantry, pushed: CtxUri, tmp_path: Path
) -> None:
    [pack] = stranger.verify(pushed).packs
    expected = whole(pantry, pushed)._replace(found_in="the registry", cached=False)
    assert pack._replace(verdict=None) == expected
    assert (judged(pack).admitted, judged(pack).decision.by) == (True, ())
    assert stranger.list_packs().packs == ()
    assert [*(tmp_path / "strangers-cache/v1/staging").iterdir()] == []
    assert stranger.verify().packs == ()


def test_a_cached_pack_is_read_there_unless_the_registry_is_asked_for(
    pantry: Pantry, pushed: CtxUri, registry: FaultyTarget
) -> None:
    before = len(registry.calls)
    assert pantry.verify(pushed).packs[0].cached
    assert len(registry.calls) == before
    assert not pantry.verify(pushed, skip_cache=True).packs[0].cached


def test_progress_of_what_is_read_in_the_registry_ends_at_its_total(pantry: Pantry, pushed: CtxUri) -> None:
    steps: list[tuple[str, int, int | None]] = []
    verify(
        context_of(pantry.cache, pantry.target, progress=lambda *step: steps.append(step)), [pushed], skip_cache=True
    )
    pulled = [step for step in steps if step[0] == "pull"]
    assert sum(advanced for _, advanced, _ in pulled) == pulled[-1][2]
    assert pulled[-1][2]


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_a_damaged_layer_of_the_registry_is_damage(
    stranger: Pantry, pushed: CtxUri, registry: FaultyTarget, layer: int, how: str
) -> None:
    digest = json.loads(_image_manifest(registry, pushed))["layers"][layer]["digest"]
    if how == "flipped":
        registry.flip(digest, 20)
    else:
        registry.blob(digest).unlink()
    [pack] = stranger.verify(pushed).packs
    assert pack.damage
    assert (pack.found_in, pack.cached, pack.verdict) == ("the registry", False, None)
    assert stranger.list_packs().packs == ()


def test_what_is_no_pack_in_the_registry_is_damage(stranger: Pantry, pushed: CtxUri, registry: FaultyTarget) -> None:
    data = _image_manifest(registry, pushed).replace(b"vnd.ctxpack.contract", b"vnd.ctxpack.another")
    descriptor = Descriptor(media_type=IMAGE_MANIFEST_MEDIA_TYPE, digest=digest_of(data), size=len(data))
    registry.layout.push(descriptor, data)
    registry.layout.tag(descriptor, tag_of(pushed))
    assert stranger.verify(pushed).packs[0].damage


def _image_manifest(registry: FaultyTarget, uri: CtxUri) -> bytes:
    tagged = registry.layout.fetch_tag(tag_of(uri))
    assert tagged is not None
    return tagged.data


@pytest.mark.parametrize("error", [AccessDenied("no"), Unavailable("away")])
def test_a_registry_without_an_answer_is_an_error_where_it_is_needed(
    pantry: Pantry, stranger: Pantry, pushed: CtxUri, registry: FaultyTarget, error: CtxPackError
) -> None:
    def refuse(call: object) -> None:
        raise error

    registry.on("fetch_tag", refuse)
    with pytest.raises(type(error)):
        stranger.verify(pushed)
    with pytest.raises(type(error)):
        pantry.verify(pushed, skip_cache=True)


def make_strict(pantry: Pantry, *owners: PublicKey) -> None:
    """Let the policy of this user ask for a claim by each of these keys."""
    for number, key in enumerate(owners):
        pantry.trust_add(f"owner{number}", pub=key.as_pem())
    pantry.trust_mode("signed", threshold=max(1, len(owners)))


def test_what_the_policy_does_not_admit_is_read_and_judged(stranger: Pantry, pantry: Pantry, pushed: CtxUri) -> None:
    key, other = generate_key(), generate_key()
    make_strict(stranger, key.public, other.public)
    [pack] = stranger.verify(pushed).packs
    assert (pack.damage, judged(pack).admitted, judged(pack).vouchers) == ("", False, ())
    with pytest.raises(PolicyRefused):
        judged(pack).require_admitted()


def test_claims_of_the_registry_count_for_a_cached_pack_and_if_it_is_away_those_of_the_cache(
    open_pantry: Callable[..., Pantry],
    pantry: Pantry,
    pushed: CtxUri,
    registry: FaultyTarget,
    notices: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    key = generate_key()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "stranger"))
    laptop = open_pantry("laptop")
    laptop.pull(pushed)
    make_strict(laptop, key.public)
    assert not judged(laptop.verify(pushed).packs[0]).admitted
    monkeypatch.delenv("XDG_STATE_HOME")
    made = digest_of(encode_pack_manifest(read_pack_manifest(folder_of(pantry, pushed))))
    assert Made(state_folder(os.environ)).add(pushed, made, "run")
    pantry.sign(pushed, key)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "stranger"))
    [pack] = laptop.verify(pushed).packs
    assert (pack.cached, judged(pack).admitted, judged(pack).decision.by) == (True, True, (key.public.key_id,))

    def refuse(call: object) -> None:
        raise Unavailable("away")

    registry.on("fetch_tag", refuse)
    [pack] = laptop.verify(pushed).packs
    assert (pack.damage, judged(pack).admitted) == ("", False)
    assert "away" in notices[-1]


@pytest.mark.parametrize("wrong", ["outputs", "roots", "pack"])
def test_a_claim_of_somebody_trusted_that_says_something_else(
    stranger: Pantry, pantry: Pantry, pushed: CtxUri, registry: FaultyTarget, wrong: str
) -> None:
    key, tagged = generate_key(), registry.layout.fetch_tag(tag_of(pushed))
    assert tagged is not None
    manifest = read_pack_manifest(folder_of(pantry, pushed))
    true = Claim(
        "run",
        pushed,
        tagged.descriptor.digest,
        manifest.outputs_digest,
        (OutputRoot("out", "folder"),),
        digest_of(encode_pack_manifest(manifest)),
    )
    others = {"outputs": digest_of(b"x"), "roots": (OutputRoot("out", "file"),), "pack": digest_of(b"y")}
    false = true._replace(**{wrong: others[wrong]})  # type: ignore[arg-type]
    publish_claim(registry.layout, tagged.descriptor, sign_claim(false, key), key.public, created=CREATED)
    [pack] = stranger.verify(pushed).packs
    assert pack.contradictions == ()  # nobody trusts this key
    stranger.trust_add("owner", pub=key.public.as_pem())
    [pack] = stranger.verify(pushed).packs
    [line] = pack.contradictions
    said = "manifest.json" if wrong == "pack" else wrong
    assert line.startswith(f"the claim of owner ({key.public.key_id}) says {said} ")
    assert judged(pack).decision.by == ()
    publish_claim(registry.layout, tagged.descriptor, sign_claim(true, key), key.public, created=CREATED)
    assert stranger.verify(pushed).packs[0].contradictions == (line,)  # the first is a referrer still


def test_noted_claims_that_contradict_a_cached_pack(
    stranger: Pantry, pushed: CtxUri, registry: FaultyTarget, pantry: Pantry
) -> None:
    """As when somebody else's pack lies in a cache, with the claims about another one."""
    key, tagged = generate_key(), registry.layout.fetch_tag(tag_of(pushed))
    assert tagged is not None
    stranger.trust_add("owner", pub=key.public.as_pem())
    stranger.pull(pushed)
    false = Claim(
        "run", pushed, tagged.descriptor.digest, digest_of(b"x"), (OutputRoot("out", "folder"),), digest_of(b"y")
    )
    notes = ClaimNotes(stranger.cache)
    notes.record(tagged.descriptor.digest, {key.public.spki: sign_claim(false, key)})
    [pack] = stranger.verify(pushed).packs
    assert len(pack.contradictions) == 1
    notes.record(tagged.descriptor.digest, {key.public.spki: b"rubbish"})
    assert stranger.verify(pushed).packs[0].contradictions == ()
