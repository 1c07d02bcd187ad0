"""A new key signs what an old key signed, if the user made it, or the policy says that both keys are one owner's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec import structs
from pantry_image import image_of
from pantry_people import Person, claim_tags, claims_about, signer_of
from pantry_target import FaultyTarget

from ctxpack_identity import CtxUri, InvalidInput, Unavailable, digest_of, uri_digest
from ctxpack_oci import Descriptor
from ctxpack_pantry import SignedAll
from ctxpack_pantry.artifact import tag_of
from ctxpack_pantry.claims import claim_tag, publish_claim
from ctxpack_trust import Denied, Signer, Source, generate_key, sign_claim

if TYPE_CHECKING:
    from pantry_project import Project

OWNERS = "it was not made here, and your policy does not say that both keys are one owner's"


@pytest.fixture
def me(tmp_path: Path, registry: FaultyTarget) -> Person:
    return Person(tmp_path / "me", registry)


@pytest.fixture
def ci(tmp_path: Path, registry: FaultyTarget) -> Person:
    """Whose key is to be rotated."""
    return Person(tmp_path / "ci", registry)


@pytest.fixture
def uri(ci: Person, project: Project) -> CtxUri:
    """The URI of a pack that ci ran, pushed and signed."""
    uri = ci.run(project)
    ci.pantry.push(uri, key=ci.key)
    return uri


@pytest.fixture
def image(registry: FaultyTarget, uri: CtxUri) -> Descriptor:
    return image_of(registry, uri).descriptor


def same_owner(me: Person, ci: Person) -> tuple[Signer, Signer]:
    return signer_of("old", "ci", ci.key.public), signer_of("new", "CI", me.key.public)


def why(result: SignedAll) -> str:
    """Return why the one pack was not signed."""
    assert result.signed == ()
    [left] = result.unsigned
    return left.why


def test_what_was_made_here_is_signed_with_the_new_key(
    ci: Person, uri: CtxUri, image: Descriptor, registry: FaultyTarget
) -> None:
    new = generate_key("ed25519")
    result = ci.pantry.sign_all(new, ci.key.public.key_id)
    [signed] = result.signed
    assert (signed.uri, signed.image, signed.key_id, signed.kind, signed.new) == (
        uri,
        image.digest,
        new.public.key_id,
        "run",
        True,
    )
    assert result.unsigned == ()
    assert [claims_about(registry, image, key)[0].kind for key in (ci.key, new)] == ["run", "run"]
    again = ci.pantry.sign_all(new, ci.key.public.key_id)
    assert again.signed == (signed._replace(new=False),)


def test_what_was_made_elsewhere_is_repeated_for_one_owner_and_read_whole(
    me: Person, ci: Person, uri: CtxUri, image: Descriptor, registry: FaultyTarget
) -> None:
    [claim] = claims_about(registry, image, ci.key)
    sources = (Source(digest_of(b"source"), (ci.key.public.key_id,)),)
    publish_claim(
        registry, image, sign_claim(claim._replace(sources=sources), ci.key), ci.key.public, created=claim.finished
    )
    me.trusts(*same_owner(me, ci))
    before = len(registry.calls)
    [signed] = me.pantry.sign_all(me.key, ci.key.public.key_id).signed
    assert (signed.kind, signed.new) == ("run", True)
    [repeated] = claims_about(registry, image, me.key)
    assert repeated._replace(finished="", invocation="") == claim._replace(finished="", invocation="", sources=sources)
    read = {call.subject for call in registry.calls[before:] if call.method.startswith("fetch")}
    assert {layer.digest for layer in image_of(registry, uri).layers} <= read
    assert me.pantry.cache.find(uri_digest(uri)) is None


@pytest.mark.parametrize(
    "policy",
    [
        lambda me, ci: None,
        lambda me, ci: me.trusts(ci, me),  # of two owners
        lambda me, ci: me.trusts(same_owner(me, ci)[0]),
        lambda me, ci: me.trusts(same_owner(me, ci)[1]),
        lambda me, ci: me.trusts(*same_owner(me, ci), deny=Denied(keys=frozenset({ci.key.public.key_id}))),
        lambda me, ci: me.trusts(*(one._replace(scopes=("ghcr.io/team",)) for one in same_owner(me, ci))),
    ],
    ids=["no policy", "two owners", "only the old key", "only the new key", "a stolen key", "another scope"],
)
def test_nothing_else_is_repeated(
    me: Person, ci: Person, uri: CtxUri, registry: FaultyTarget, policy: Callable[[Person, Person], None]
) -> None:
    policy(me, ci)
    result = me.pantry.sign_all(me.key, ci.key.public.key_id)
    assert why(result) == OWNERS
    assert result.unsigned[0].uri == uri
    assert len(claim_tags(registry)) == 1


def test_one_does_not_sign_with_a_key_that_ones_policy_denies(
    me: Person, ci: Person, uri: CtxUri, registry: FaultyTarget
) -> None:
    me.trusts(*same_owner(me, ci), deny=Denied(keys=frozenset({me.key.public.key_id})))
    assert "your policy denies the key" in why(me.pantry.sign_all(me.key, ci.key.public.key_id))
    assert len(claim_tags(registry)) == 1


def test_the_old_key_is_named_by_its_file_too(ci: Person, uri: CtxUri, tmp_path: Path) -> None:
    path = tmp_path / "old.pub"
    path.write_bytes(ci.key.public.as_pem())
    [signed] = ci.pantry.sign_all(generate_key(), str(path)).signed
    assert signed.uri == uri


def test_a_claim_without_its_key_needs_the_file(
    ci: Person, uri: CtxUri, image: Descriptor, registry: FaultyTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As cosign makes them."""
    [claim] = claims_about(registry, image, ci.key)
    with monkeypatch.context() as patched:
        patched.setattr("ctxpack_pantry.claims.KEY_ANNOTATION", "another")
        publish_claim(registry, image, sign_claim(claim, ci.key), ci.key.public, created="")
    assert "the claim does not name its key; give the file" in why(
        ci.pantry.sign_all(generate_key(), ci.key.public.key_id)
    )
    path = tmp_path / "old.pub"
    path.write_bytes(ci.key.public.as_pem())
    assert len(ci.pantry.sign_all(generate_key(), str(path)).signed) == 1


@pytest.mark.parametrize("content", [None, b"", b"rubbish", "the private key"])
def test_what_is_no_old_key_is_refused(
    me: Person, ci: Person, registry: FaultyTarget, tmp_path: Path, content: bytes | str | None
) -> None:
    path = tmp_path / "old.pub"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else ci.key.as_pem(b"password"))
    with pytest.raises(InvalidInput) as caught:
        me.pantry.sign_all(me.key, str(path))
    assert caught.value.code == "E_KEY"
    assert registry.calls == []


def test_the_old_key_is_not_the_new_one(ci: Person, registry: FaultyTarget) -> None:
    with pytest.raises(InvalidInput, match="the old key is the new one"):
        ci.pantry.sign_all(ci.key, ci.key.public.key_id)


def test_a_strangers_claim_under_the_tag_of_the_old_key_is_not_repeated(
    me: Person, ci: Person, uri: CtxUri, image: Descriptor, registry: FaultyTarget
) -> None:
    stranger = generate_key()
    [claim] = claims_about(registry, image, ci.key)
    publish_claim(registry, image, sign_claim(claim, stranger), stranger.public, created="")
    theirs = registry.layout.fetch_tag(claim_tag(image.digest, stranger.public.key_id))
    assert theirs is not None
    registry.layout.tag(theirs.descriptor, claim_tag(image.digest, ci.key.public.key_id))
    me.trusts(*same_owner(me, ci))
    reason = why(me.pantry.sign_all(me.key, ci.key.public.key_id))
    assert f"another key's claim: expected {ci.key.public.key_id}, got {stranger.public.key_id}" in reason
    assert claims_about(registry, image, me.key) == []


def test_a_pack_that_lost_its_tag_is_not_signed(
    me: Person, ci: Person, uri: CtxUri, image: Descriptor, project: Project, registry: FaultyTarget
) -> None:
    registry.layout.delete(tag_of(uri))
    assert why(ci.pantry.sign_all(me.key, ci.key.public.key_id)) == "the tag of its URI does not name it any more"


def test_an_old_claim_about_other_outputs_is_not_repeated(
    me: Person, ci: Person, image: Descriptor, registry: FaultyTarget
) -> None:
    [claim] = claims_about(registry, image, ci.key)
    wrong = sign_claim(claim._replace(outputs=digest_of(b"other")), ci.key)
    publish_claim(registry, image, wrong, ci.key.public, created="")
    me.trusts(*same_owner(me, ci))
    assert why(me.pantry.sign_all(me.key, ci.key.public.key_id)) == "the old claim is about other outputs"


def test_a_damaged_pack_is_said_and_the_others_are_signed(
    me: Person, ci: Person, uri: CtxUri, project: Project, registry: FaultyTarget
) -> None:
    image = image_of(registry, uri)
    project.write_contract(params={"other": True})
    other = ci.run(project)
    ci.pantry.push(other, key=ci.key)
    shared = {layer.digest for layer in image_of(registry, other).layers}
    [own] = [number for number, layer in enumerate(image.layers) if layer.digest not in shared and number > 1] or [0]
    registry.flip(image.layers[own].digest, image.layers[own].size // 2)
    me.trusts(*same_owner(me, ci))
    result = me.pantry.sign_all(me.key, ci.key.public.key_id)
    assert [signed.uri for signed in result.signed] == [other]
    [left] = result.unsigned
    assert (left.uri, left.image) == (uri, image.descriptor.digest)
    assert image.layers[own].digest[:19] in left.why


def test_claims_by_others_and_other_tags_are_let_be(
    me: Person, ci: Person, uri: CtxUri, image: Descriptor, registry: FaultyTarget
) -> None:
    for tag in ("claim-x", f"claim-{'0' * 64}-{me.key.public.key_id[:16]}", f"claim-{'0' * 64}"):
        registry.layout.tag(image, tag)
    result = ci.pantry.sign_all(generate_key(), ci.key.public.key_id)
    assert ([signed.uri for signed in result.signed], result.unsigned) == ([uri], ())
    assert me.pantry.sign_all(me.key, generate_key().public.key_id) == SignedAll(registry.name, (), ())


def test_a_registry_that_does_not_answer_ends_it(ci: Person, uri: CtxUri, registry: FaultyTarget) -> None:
    def fail(_: object) -> None:
        raise Unavailable("no answer")

    for method in ("tags", "fetch_tag"):
        registry.on(method, fail)
        with pytest.raises(Unavailable):
            ci.pantry.sign_all(generate_key(), ci.key.public.key_id)
        registry.on(method, lambda _: None)


def test_a_claim_about_another_image_manifest_under_the_tag_is_said(
    ci: Person, uri: CtxUri, image: Descriptor, registry: FaultyTarget
) -> None:
    [claim] = claims_about(registry, image, ci.key)
    other = structs.replace(image, digest=digest_of(b"other"))
    publish_claim(registry, other, sign_claim(claim._replace(image=other.digest), ci.key), ci.key.public, created="")
    result = ci.pantry.sign_all(generate_key(), ci.key.public.key_id)
    assert [signed.image for signed in result.signed] == [image.digest]
    [left] = result.unsigned
    assert (left.image, left.why) == (other.digest, "the tag of its URI does not name it any more")
