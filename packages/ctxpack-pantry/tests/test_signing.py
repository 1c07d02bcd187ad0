"""Who may sign what, after reading what, and what the claim says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pantry_image import image_of, republish, with_pieces
from pantry_people import Person, claim_tags, claims_about
from pantry_target import FaultyTarget, each_stop, wait_until_idle
from pantry_versions import Versions, make_layers_small

from ctxpack_bundle import encode_pack_manifest
from ctxpack_identity import (
    AccessDenied,
    Conflict,
    CtxPackError,
    CtxUri,
    IntegrityError,
    InvalidInput,
    NotFound,
    PolicyRefused,
    Unavailable,
    canonical_json,
    digest_of,
    uri_digest,
)
from ctxpack_oci import Descriptor
from ctxpack_pantry import Signed
from ctxpack_pantry.artifact import EMPTY, EMPTY_DATA
from ctxpack_pantry.claims import ClaimNotes, claim_tag, publish_claim
from ctxpack_pantry.lookup import examine, open_pack, require_located
from ctxpack_pantry.made import Made
from ctxpack_pantry.signing import publish_signed
from ctxpack_pantry.state import state_folder
from ctxpack_trust import (
    COUNTING,
    KINDS,
    Claim,
    Denied,
    Dependency,
    OutputRoot,
    Source,
    Tool,
    generate_key,
    read_claim,
    sign_claim,
)

if TYPE_CHECKING:
    from pantry_project import Project

DATA = ("fetch_range", "fetch_into")  # calls that read layers of chunks


@pytest.fixture
def person(tmp_path: Path, registry: FaultyTarget) -> Callable[[str], Person]:
    """Return somebody new who uses the registry."""
    return lambda name: Person(tmp_path / name, registry)


@pytest.fixture
def me(person: Callable[[str], Person]) -> Person:
    return person("me")


@pytest.fixture
def they(person: Callable[[str], Person]) -> Person:
    return person("they")


@pytest.fixture
def their_uri(they: Person, project: Project, monkeypatch: pytest.MonkeyPatch) -> CtxUri:
    """The URI of a pack that they ran, and pushed, at another time than anybody else."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    uri = they.run(project)
    they.pantry.push(uri)
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    return uri


def test_a_push_signs_what_was_run_here(me: Person, project: Project, registry: FaultyTarget) -> None:
    uri = me.run(project)
    pushed = me.pantry.push(uri, key=me.key)
    image = image_of(registry, uri).descriptor
    key_id = me.key.public.key_id
    assert pushed.signed == Signed(
        uri, registry.name, image.digest, key_id, "run", claim_tag(image.digest, key_id), new=True
    )
    [claim] = claims_about(registry, image, me.key)
    manifest = me.pantry.inspect(uri).manifest
    [transform] = manifest.contract["transforms"]
    assert claim._replace(finished="", invocation="") == Claim(
        "run",
        uri,
        image.digest,
        manifest.outputs_digest,
        (OutputRoot("out", "folder"),),
        digest_of(encode_pack_manifest(manifest)),
        tools=(Tool("cat", "9.1", "{}"),),
        dependencies=(
            Dependency("inputs/raw_docs", manifest.contract["inputs"]["raw_docs"]["digest"]),
            Dependency("code/0", transform["code_hash"]),
            Dependency("environment/0", transform["environment_hash"]),
        ),
        version=manifest.provenance["versions"]["ctxpack"],
    )
    [noted] = ClaimNotes(me.pantry.cache).of(image.digest)
    assert read_claim(noted.bundle, me.key.public, image=image.digest, uri=uri) == claim


@pytest.mark.parametrize("make", [Person.run, Person.seed])
def test_a_claim_says_how_the_pack_was_made(
    me: Person, project: Project, make: Callable[[Person, Project], CtxUri]
) -> None:
    uri = make(me, project)
    me.pantry.push(uri)
    assert me.pantry.sign(uri, me.key).kind == ("run" if make is Person.run else "seed")


def test_what_was_sent_here_is_not_read_again(me: Person, project: Project, registry: FaultyTarget) -> None:
    uri = me.run(project)
    before = len(registry.calls)
    me.pantry.push(uri, key=me.key)
    assert not {"fetch", *DATA} & {call.method for call in registry.calls[before:]}
    before = len(registry.calls)
    me.pantry.sign(uri, generate_key())
    assert not {"fetch", *DATA} & {call.method for call in registry.calls[before:]}


def test_a_second_push_signs_nothing_again(me: Person, project: Project, registry: FaultyTarget) -> None:
    uri = me.run(project)
    first = me.pantry.push(uri, key=me.key)
    pushes = registry.count("push")
    assert first.signed is not None
    assert me.pantry.push(uri, key=me.key) == first._replace(sent=0, new=False, signed=first.signed._replace(new=False))
    assert registry.count("push") == pushes
    assert me.notices == []


def test_what_a_push_has_sent_just_now_is_not_asked_for_when_it_is_signed(
    me: Person, project: Project, registry: FaultyTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = me.run(project)
    monkeypatch.setattr("ctxpack_pantry.push.Announcement.sent_empty", True)
    registry.layout.push(EMPTY, EMPTY_DATA)
    me.pantry.push(uri, key=me.key)
    image = image_of(registry, uri).descriptor
    assert not [call for call in registry.calls if call.subject == EMPTY.digest]
    assert len(claims_about(registry, image, me.key)) == 1


@pytest.mark.parametrize("method", ["push", "sign"])
def test_signing_again_lists_a_claim_that_has_its_tag_only(
    me: Person, project: Project, registry: FaultyTarget, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """As a Ctrl-C leaves it between tag and list, and signers who write a list at the same time, and lose entries."""
    uri = me.run(project)
    me.pantry.push(uri, key=me.key)
    tag = claim_tag(image_of(registry, uri).descriptor.digest, me.key.public.key_id)
    listed: list[Descriptor] = []
    monkeypatch.setattr(registry.layout, "referrers", lambda *_: listed)
    monkeypatch.setattr(registry.layout, "attach", lambda descriptor, *_: listed.append(descriptor))
    for _ in range(2):
        again = me.pantry.sign(uri, me.key) if method == "sign" else me.pantry.push(uri, key=me.key).signed
        assert again is not None
        assert not again.new
        assert [one.digest for one in listed] == [registry.layout.resolve_tag(tag)]


@pytest.mark.parametrize("error", [AccessDenied("denied"), Conflict("immutable"), Unavailable("no answer")])
def test_a_claim_that_cannot_be_finished_is_there_all_the_same(
    me: Person, project: Project, registry: FaultyTarget, error: CtxPackError, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = me.run(project)
    me.pantry.push(uri, key=me.key)
    monkeypatch.setattr(registry.layout, "referrers", lambda *_: [])

    def fail(_: object) -> None:
        raise error

    registry.on("attach", fail)
    assert not me.pantry.sign(uri, me.key).new
    assert me.notices == [f"the claim is there, but other tools may not find it: {error}"]


# ---- what is not one's own


def test_what_was_pulled_is_not_signed_and_nothing_is_sent(
    me: Person, their_uri: CtxUri, registry: FaultyTarget
) -> None:
    """CI hits an attacker's pack: the team's key must not bless it."""
    me.pantry.pull(their_uri)
    before = len(registry.calls)
    with pytest.raises(PolicyRefused, match="was not made here by this user") as caught:
        me.pantry.push(their_uri, key=me.key)
    assert caught.value.code == "E_NOT_OWN"
    assert "`ctxpack verify --rebuild --sign URI -- COMMAND`" in caught.value.fix
    assert "`ctxpack sign --vouch URI`" in caught.value.fix
    assert registry.calls[before:] == []
    with pytest.raises(PolicyRefused, match="was not made here by this user"):
        me.pantry.sign(their_uri, me.key)
    assert claim_tags(registry) == []


def test_a_hit_of_run_is_pushed_without_a_signature_and_that_is_said(
    me: Person, their_uri: CtxUri, project: Project, registry: FaultyTarget
) -> None:
    ran = me.pantry.run(str(project.contract), push=True, key=me.key, force=True)
    assert (ran.hit, ran.pushed and ran.pushed.signed) == (True, None)
    assert claim_tags(registry) == []
    [line] = [line for line in me.notices if line.startswith("not signed")]
    assert line.startswith(f"not signed: {their_uri} was not made here; `ctxpack verify --rebuild --sign`")
    assert me.pantry.push(their_uri, key=me.key, if_own=True).signed is None


def test_a_run_signs_what_it_made(me: Person, project: Project, registry: FaultyTarget) -> None:
    ran = me.pantry.run(str(project.contract), push=True, key=me.key, force=True)
    assert ran.pushed is not None
    assert ran.pushed.signed is not None
    assert ran.pushed.signed.kind == "run"
    again = me.pantry.run(str(project.contract), push=True, key=me.key)
    assert again.hit
    assert again.pushed is not None
    assert again.pushed.signed == ran.pushed.signed._replace(new=False)


@pytest.mark.parametrize("verb", ["run", "compute", "map"])
def test_a_key_without_a_push_is_refused_before_anything_is_made(
    me: Person, project: Project, verb: str, registry: FaultyTarget
) -> None:
    arguments: list[Any] = [str(project.contract)] + ([len] if verb == "compute" else [])
    with pytest.raises(InvalidInput, match="--sign is about a push") as caught:
        getattr(me.pantry, verb)(*arguments, key=me.key)
    assert caught.value.code == "E_USAGE"
    assert registry.calls == []


def test_a_vouching_signer_reads_the_pack_and_keeps_nothing_of_it(
    me: Person, their_uri: CtxUri, registry: FaultyTarget, tmp_path: Path
) -> None:
    image = image_of(registry, their_uri)
    signed = me.pantry.sign(their_uri, me.key, vouch=True)
    assert (signed.kind, signed.new) == ("vouch", True)
    read = {call.subject for call in registry.calls if call.method.startswith("fetch")}
    assert {layer.digest for layer in image.layers} <= read
    assert me.pantry.cache.find(uri_digest(their_uri)) is None
    assert list(Path(me.pantry.cache.side("tables")).glob("*")) == []
    [claim] = claims_about(registry, image.descriptor, me.key)
    assert claim.kind not in COUNTING


def test_a_pack_that_is_not_there_is_not_signed(me: Person, project: Project) -> None:
    with pytest.raises(NotFound):
        me.pantry.sign(me.run(project), me.key, vouch=True)


# ---- packs that are not what they seem


def test_a_pack_with_ones_own_manifest_and_other_chunks_is_not_signed(
    me: Person, project: Project, registry: FaultyTarget
) -> None:
    """Whoever can push can copy the first layer of a pack, and change the rest."""
    uri = me.run(project)
    me.pantry.push(uri)
    image = image_of(registry, uri)
    number = image.find(b"alphabeta")
    forged = with_pieces(image, {number: image.piece(number).replace(b"alphabeta", b"alphabetb")})
    republish(registry, uri, forged.layers, forged.records)
    for act in (
        lambda: me.pantry.sign(uri, me.key),
        lambda: me.pantry.sign(uri, me.key, vouch=True),
        lambda: me.pantry.push(uri, key=me.key),
    ):
        with pytest.raises(IntegrityError):
            act()
    assert claim_tags(registry) == []


@pytest.mark.parametrize("number", range(8))
def test_whatever_chunk_is_damaged_nothing_is_signed(
    me: Person, their_uri: CtxUri, registry: FaultyTarget, project: Project, number: int
) -> None:
    uri = me.run(project)
    image = image_of(registry, uri)
    record = image.table[number * (len(image.table) - 1) // 7]
    registry.flip(image.layers[record.layer].digest, record.offset + record.chunk_size // 2)
    with pytest.raises(IntegrityError):
        me.pantry.push(uri, key=me.key)
    assert claim_tags(registry) == []


def test_other_outputs_under_the_tag_are_a_conflict_and_not_signed(
    me: Person, they: Person, project: Project, registry: FaultyTarget
) -> None:
    uri = me.run(project)
    project.make_outputs("made elsewhere")
    they.seed(project)
    they.pantry.push(uri)
    with pytest.raises(Conflict):
        me.pantry.push(uri, key=me.key)
    assert claim_tags(registry) == []
    pushed = me.pantry.push(uri, key=me.key, replace=True)
    assert pushed.signed is not None
    assert (pushed.signed.image, pushed.signed.kind) == (pushed.image, "run")
    assert image_of(registry, uri).descriptor.digest == pushed.image


# ---- what somebody else made too


def test_the_same_files_made_by_somebody_else_are_read_and_signed_as_made_again(
    me: Person, they: Person, their_uri: CtxUri, project: Project, registry: FaultyTarget
) -> None:
    they.pantry.push(their_uri, key=they.key)
    image = image_of(registry, their_uri)
    assert me.run(project) == their_uri
    before = len(registry.calls)
    pushed = me.pantry.push(their_uri, key=me.key)
    assert (pushed.image, pushed.sent, pushed.new) == (image.descriptor.digest, 0, False)
    assert pushed.signed is not None
    assert (pushed.signed.image, pushed.signed.kind) == (image.descriptor.digest, "rebuild")
    read = {call.subject for call in registry.calls[before:] if call.method.startswith("fetch")}
    assert {layer.digest for layer in image.layers} <= read
    kinds = [claims_about(registry, image.descriptor, key)[0].kind for key in (they.key, me.key)]
    assert kinds == ["run", "rebuild"]


@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_a_pack_that_the_policy_does_not_admit_yet_can_be_signed_as_made_again(
    me: Person, they: Person, their_uri: CtxUri, project: Project, registry: FaultyTarget, threshold: int
) -> None:
    me.trusts(me, they, threshold=threshold)
    assert me.run(project) == their_uri
    assert me.pantry.push(their_uri, key=me.key).signed is not None


def test_what_was_only_seeded_here_is_not_said_to_be_made_again(
    me: Person, their_uri: CtxUri, project: Project
) -> None:
    assert me.seed(project) == their_uri
    signed = me.pantry.push(their_uri, key=me.key).signed
    assert signed is not None
    assert signed.kind == "seed"


def test_the_same_contents_with_other_modes_are_a_conflict_for_a_push_that_signs(
    me: Person, they: Person, project: Project, registry: FaultyTarget
) -> None:
    """The digest of a tree does not say which files are executable."""
    uri = they.seed(project)
    they.pantry.push(uri)
    (project.out / "tool").chmod(0o644)
    me.seed(project)
    assert not me.pantry.push(uri).new
    with pytest.raises(Conflict, match="the same outputs with other modes") as caught:
        me.pantry.push(uri, key=me.key)
    assert "`ctxpack push --replace --sign URI`" in caught.value.fix
    assert claim_tags(registry) == []
    signed = me.pantry.push(uri, key=me.key, replace=True).signed
    assert signed is not None
    assert signed.image == image_of(registry, uri).descriptor.digest


def test_another_cache_of_the_same_person_signs_as_the_one_that_made_it(
    me: Person, project: Project, registry: FaultyTarget
) -> None:
    """What is one's own is a record in the state folder, and not where it lies."""
    uri = me.run(project)
    me.pantry.push(uri)
    elsewhere = me.with_cache("elsewhere")
    assert elsewhere.sign(uri, me.key).kind == "run"
    elsewhere.pull(uri)
    assert elsewhere.push(uri, key=generate_key()).signed is not None


# ---- what counts as read


def test_what_this_cache_pulled_whole_is_not_read_again_and_what_it_pieced_together_is(
    me: Person, project: Project, registry: FaultyTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_layers_small(monkeypatch)
    versions = Versions(project, 500 << 10)
    uris = [versions.seed(me.pantry)]
    versions.change(1)
    uris.append(versions.seed(me.pantry))
    for uri in uris:
        me.pantry.push(uri)
    elsewhere = me.with_cache("elsewhere")
    reads = []
    for uri in uris:
        elsewhere.pull(uri)  # the second takes pieces of the first
        before = len(registry.calls)
        elsewhere.sign(uri, me.key)
        reads.append({call.method for call in registry.calls[before:]} & {"fetch", *DATA})
    assert reads[0] == set()
    assert reads[1] != set()


def test_a_pull_beside_packs_that_share_nothing_is_whole(me: Person, project: Project, registry: FaultyTarget) -> None:
    uris = []
    for number in range(2):
        shutil.rmtree(project.out)
        project.inputs.joinpath("a.txt").write_text(f"{number}" * 999)
        project.out.mkdir()
        (project.out / f"{number}").write_text(f"{number}" * 999)
        uris.append(me.seed(project))
        me.pantry.push(uris[-1])
    elsewhere = me.with_cache("elsewhere")
    for uri in uris:
        elsewhere.pull(uri)
        before = len(registry.calls)
        elsewhere.sign(uri, me.key)
        assert not {"fetch", *DATA} & {call.method for call in registry.calls[before:]}


def test_a_pack_that_was_damaged_in_the_registry_is_healed_and_signed(
    me: Person, project: Project, registry: FaultyTarget
) -> None:
    uri = me.run(project)
    me.pantry.push(uri)
    image = image_of(registry, uri)
    registry.flip(image.layers[-1].digest, 20)
    signed = me.pantry.push(uri, key=me.key, repair=True).signed
    assert signed is not None
    assert signed.image == image_of(registry, uri).descriptor.digest
    assert me.with_cache("elsewhere").sign(uri, generate_key()).new  # which reads it
    registry.complaints.clear()  # it had the damaged layer


def test_a_push_that_signs_borrows_only_what_this_cache_knows_whole(
    me: Person,
    they: Person,
    project: Project,
    registry: FaultyTarget,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_layers_small(monkeypatch)
    versions = Versions(project, 500 << 10)
    theirs = versions.seed(they.pantry)
    they.pantry.push(theirs)
    monkeypatch.setattr("ctxpack_pantry.push.listed_bases", lambda *given: pytest.fail("asked the list of kin"))
    versions.change(1)
    mine = versions.seed(me.pantry)
    me.pantry.push(mine, key=me.key, borrow=True)
    versions.change(1)
    later = versions.seed(me.pantry)
    before = len(registry.calls)
    pushed = me.pantry.push(later, key=me.key)
    assert pushed.signed is not None
    assert pushed.sent < image_of(registry, later).size // 2  # from the one that was pushed here
    assert not {"fetch", *DATA} & {call.method for call in registry.calls[before:]}


def test_a_pack_with_layers_that_somebody_else_sent_is_read_before_it_is_signed(
    me: Person,
    they: Person,
    project: Project,
    registry: FaultyTarget,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ctxpack_pantry.borrowing import known_bases
    from ctxpack_pantry.kinship import kin_of
    from ctxpack_pantry.tables import Tables

    make_layers_small(monkeypatch)
    versions = Versions(project, 500 << 10)
    theirs = versions.seed(they.pantry)
    they.pantry.push(theirs)
    kin = kin_of(they.pantry.inspect(theirs).manifest.contract)
    listed = [base._replace(whole=False) for base in known_bases(Tables(they.pantry.cache), registry.name, kin)]
    monkeypatch.setattr("ctxpack_pantry.push.listed_bases", lambda *given: listed)
    versions.change(1)
    mine = versions.seed(me.pantry)
    me.pantry.push(mine, borrow=True)
    image = image_of(registry, mine)
    borrowed = {layer.digest for layer in image.layers} & {layer.digest for layer in image_of(registry, theirs).layers}
    assert borrowed
    before = len(registry.calls)
    me.pantry.sign(mine, generate_key())
    assert borrowed <= {call.subject for call in registry.calls[before:]}
    # A later pack that borrows from that one is no better, and a push that signs does not borrow from it at all.
    versions.change(1)
    later = versions.seed(me.pantry)
    before = len(registry.calls)
    me.pantry.push(later, key=me.key)
    assert not borrowed & {layer.digest for layer in image_of(registry, later).layers}
    registry.flip(sorted(borrowed)[0], 100)
    with pytest.raises(IntegrityError):
        me.pantry.sign(mine, generate_key())


# ---- claims that are there


@pytest.mark.parametrize("there", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_a_claim_never_gives_way_to_one_that_says_less(
    me: Person, project: Project, registry: FaultyTarget, there: str, wanted: str
) -> None:
    uri = me.run(project)
    me.pantry.push(uri)
    with me.pantry._context() as context:
        located = require_located(context, uri)
        manifest = open_pack(registry, examine(located)).manifest
        publish_signed(context, located, manifest, me.key, there)
        me.notices.clear()
        signed = publish_signed(context, located, manifest, me.key, wanted)
    ranks = {"vouch": 0, "seed": 1, "rebuild": 2, "run": 2}
    stays = ranks[there] >= ranks[wanted]
    kept = there if stays else wanted
    assert (signed.kind, signed.new) == (kept, not stays)
    assert claims_about(registry, located.descriptor, me.key)[0].kind == kept
    assert bool(me.notices) == (stays and there != wanted)
    if me.notices:
        assert me.notices[0].startswith(f"nothing was published: this key has signed the pack as {there} already")


def test_a_claim_under_ones_own_tag_that_is_not_ones_own_is_replaced(
    me: Person, they: Person, project: Project, registry: FaultyTarget
) -> None:
    """A stranger may put anything under any tag."""
    uri = me.run(project)
    me.pantry.push(uri)
    image = image_of(registry, uri).descriptor
    tag = claim_tag(image.digest, me.key.public.key_id)
    says = Claim("run", uri, image.digest, digest_of(b"x"), (OutputRoot("out", "folder"),), digest_of(b"y"))
    publish_claim(registry, image, sign_claim(says, they.key), they.key.public, created="")
    theirs = registry.layout.fetch_tag(claim_tag(image.digest, they.key.public.key_id))
    assert theirs is not None
    registry.layout.tag(theirs.descriptor, tag)
    signed = me.pantry.sign(uri, me.key)
    assert (signed.kind, signed.new) == ("run", True)
    [line] = me.notices
    assert line.startswith(f"{registry.name}:{tag}: replaced, since it is no claim by this key about this pack: ")
    [claim] = claims_about(registry, image, me.key)
    assert claim.outputs == me.pantry.inspect(uri).manifest.outputs_digest


def test_anything_else_under_ones_own_tag_is_replaced(me: Person, project: Project, registry: FaultyTarget) -> None:
    uri = me.run(project)
    me.pantry.push(uri)
    image = image_of(registry, uri).descriptor
    registry.layout.tag(image, claim_tag(image.digest, me.key.public.key_id))
    assert me.pantry.sign(uri, me.key).new
    assert "not a claim about this pack: artifactType" in me.notices[0]
    assert claims_about(registry, image, me.key)[0].kind == "run"


@pytest.mark.parametrize("member", ["outputs", "pack", "roots"])
def test_a_claim_by_ones_own_key_that_says_something_else_is_replaced(
    me: Person, project: Project, registry: FaultyTarget, member: str
) -> None:
    uri = me.run(project)
    me.pantry.push(uri, key=me.key)
    image = image_of(registry, uri).descriptor
    [claim] = claims_about(registry, image, me.key)
    wrong: dict[str, Any] = {
        "outputs": digest_of(b"x"),
        "pack": digest_of(b"x"),
        "roots": (OutputRoot("out", "file"),),
    }
    bundle = sign_claim(claim._replace(**{member: wrong[member]}), me.key)
    publish_claim(registry, image, bundle, me.key.public, created="")
    assert me.pantry.sign(uri, me.key).new
    assert claims_about(registry, image, me.key)[0]._replace(finished="", invocation="") == claim._replace(
        finished="", invocation=""
    )


# ---- what the policy denies


@pytest.mark.parametrize("what", ["uris", "images", "outputs", "keys"])
def test_nothing_that_is_denied_is_signed(
    me: Person, their_uri: CtxUri, project: Project, registry: FaultyTarget, what: str
) -> None:
    image = image_of(registry, their_uri).descriptor.digest
    outputs = me.pantry.inspect(their_uri, skip_cache=True).manifest.outputs_digest
    denied = {"uris": their_uri, "images": image, "outputs": outputs, "keys": me.key.public.key_id}
    me.trusts(me, mode="accept-any", deny=Denied(**{what: frozenset({denied[what]})}))
    with pytest.raises(PolicyRefused, match="not signed: your policy denies") as caught:
        me.pantry.sign(their_uri, me.key, vouch=True)
    assert caught.value.code == "E_DENIED"
    assert denied[what] in str(caught.value)
    assert claim_tags(registry) == []


# ---- sources of items


def test_a_claim_names_the_sources_that_the_own_pack_names(
    me: Person, project: Project, registry: FaultyTarget
) -> None:
    uri = me.seed(project)
    folder = me.pantry.cache.find(uri_digest(uri))
    assert folder is not None
    manifest = json.loads(Path(folder, "manifest.json").read_bytes())
    images = [digest_of(b"one"), digest_of(b"two")]
    by = me.key.public.key_id
    manifest["provenance"]["items"] = [
        {"uri": uri, "items": 1, "image": images[0], "admitted_by": ["own"]},
        {"uri": uri, "items": 1},
        {"uri": uri, "items": None, "image": images[1], "admitted_by": [by]},
    ]
    data = canonical_json(manifest)
    path = Path(folder, "manifest.json")
    path.parent.chmod(0o755)
    path.chmod(0o644)
    path.write_bytes(data)
    Made(state_folder({"HOME": str(me.home)})).add(uri, digest_of(data), "run")
    me.pantry.push(uri, key=me.key)
    [claim] = claims_about(registry, image_of(registry, uri).descriptor, me.key)
    assert claim.sources == (Source(images[0], ("own",)), Source(images[1], (by,)))


# ---- stops


@each_stop
def test_after_a_stop_at_any_call_of_a_push_that_signs_the_next_one_signs(
    me: Person,
    they: Person,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    expected: type[BaseException],
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    they.run(project)
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    uri = me.run(project)
    for is_theirs in (False, True):
        number = 0
        while True:
            target = FaultyTarget(tmp_path / f"{is_theirs} {number}")
            pushers = [Person(person.home, target) for person in (they, me)]
            for pusher, person in zip(pushers, (they, me), strict=True):
                pusher.key = person.key
                for notes in ("tables", "origins"):  # this registry has no earlier pack
                    shutil.rmtree(pusher.pantry.cache.side(notes), ignore_errors=True)
            if is_theirs:
                pushers[0].pantry.push(uri)
            target.calls.clear()
            stopped = stop_at(target, number, error)
            if not stopped(partial(pushers[1].pantry.push, uri, key=me.key), (expected, type(error))):
                break
            signed = pushers[1].pantry.push(uri, key=me.key).signed
            assert signed is not None
            assert signed.kind == ("rebuild" if is_theirs else "run")
            image = image_of(target, uri).descriptor
            assert {claim.kind for claim in claims_about(target, image, me.key)} == {signed.kind}
            number += 1
        assert number > 8


def stop_at(target: FaultyTarget, number: int, error: BaseException) -> Callable[[Callable[[], object], Any], bool]:
    """Let the call of target that follows number others raise error. Return what calls a function until then."""
    methods = ["fetch_tag", "resolve_tag", "exists", "fetch", *DATA, "push", "tag", "referrers", "attach"]

    def stop(_: object) -> None:
        if len(target.calls) > number and not over:
            over.append(True)
            raise error

    over: list[bool] = []

    def stopped(act: Callable[[], object], errors: Any) -> bool:
        for method in methods:
            target.on(method, stop)
        try:
            act()
        except errors:
            wait_until_idle()
            assert over
            return True
        finally:
            for method in methods:
                target.on(method, lambda _: None)
        return False

    return stopped
