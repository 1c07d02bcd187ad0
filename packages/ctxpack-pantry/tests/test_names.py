"""A name leads to a pack through a mutable tag; a lock file keeps what it means."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_context import context_of
from pantry_project import contents

from ctxpack_cache import Cache
from ctxpack_identity import (
    AccessDenied,
    Conflict,
    CtxUri,
    Digest,
    IntegrityError,
    InvalidInput,
    NotFound,
    PolicyRefused,
    Unavailable,
    canonical_json,
    digest_from_hex,
    uri_digest,
)
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, ImageManifest, describe, encode_image_manifest
from ctxpack_pantry import Candidate, NamedBefore, Pantry, Tagged
from ctxpack_pantry.artifact import ARTIFACT_TYPE, tag_of
from ctxpack_pantry.lookup import locate
from ctxpack_pantry.names import resolve_name, tag

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import Call, FaultyTarget

NO_PACK = digest_from_hex("0" * 64)


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack in the cache and in the registry."""
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    return uri


@pytest.fixture
def other(pantry: Pantry, project: Project, uri: CtxUri) -> CtxUri:
    """The URI of another pack in the cache and in the registry."""
    project.write_contract(params={"size": 2})
    project.make_outputs("other outputs")
    other = pantry.seed([], str(project.contract)).uri
    pantry.push(other)
    return other


@pytest.fixture
def replaced(open_pantry: Callable[..., Pantry], project: Project, uri: CtxUri) -> Callable[[], Digest]:
    """Put other outputs in the place of the pack of uri in the registry; return their digest."""

    def replace() -> Digest:
        project.make_outputs("made elsewhere")
        maker = open_pantry("rival")
        maker.seed([], str(project.contract))
        return maker.push(uri, replace=True).outputs

    return replace


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock file of the current folder, which is not written yet."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here" / "ctxpack.lock"


def image_of(registry: FaultyTarget, uri: CtxUri) -> Digest:
    located = locate(registry.layout, uri)
    assert located is not None
    return located.image


def test_a_name_is_a_tag_on_the_packs_image_manifest(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    image = image_of(registry, uri)
    assert pantry.tag(uri, "rag-index") == Tagged(uri, "rag-index", "the registry", image, new=True)
    assert registry.layout.resolve_tag("name-rag-index") == image
    assert pantry.tag(uri, "rag-index") == Tagged(uri, "rag-index", "the registry", image, new=False)


def test_a_name_that_is_moved_says_what_it_stood_for(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, other: CtxUri
) -> None:
    pantry.tag(uri, "rag-index")
    tagged = pantry.tag(other, "rag-index")
    assert (tagged.new, tagged.replaced) == (False, NamedBefore(image_of(registry, uri), uri))
    assert tagged.as_json()["replaced"] == {"image": image_of(registry, uri), "uri": uri}
    assert pantry.find("rag-index") == other


def test_only_a_pack_that_the_registry_has_gets_a_name(
    pantry: Pantry, registry: FaultyTarget, project: Project
) -> None:
    uri = pantry.seed([], str(project.contract)).uri
    with pytest.raises(NotFound, match=f"the registry: no such pack: {uri}; .* `ctxpack push` it first"):
        pantry.tag(uri, "rag-index")
    assert registry.count("tag") == 0


@pytest.mark.parametrize(
    "name", ["", "a/b", "x.json", "deadbeef", "DEADBEEF", "ctx:x", "-x", ".x", "ä", "a\n", "x" * 124]
)
def test_what_would_be_read_as_another_kind_is_no_name(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, name: str
) -> None:
    before = len(registry.calls)
    with pytest.raises(InvalidInput, match="cannot be a name") as caught:
        pantry.tag(uri, name)
    assert caught.value.code == "E_NAME"
    assert len(registry.calls) == before


def test_the_longest_name_is_the_longest_tag(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    pantry.tag(uri, "x" * 123)
    assert len(registry.calls[-1].subject) == 128
    assert pantry.find("x" * 123) == uri


def test_a_name_that_stood_for_no_pack_is_moved(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    image = tag_foreign(registry, "name-rag-index")
    assert pantry.tag(uri, "rag-index").replaced == NamedBefore(image, None)


def test_tags_that_cannot_be_moved_are_said(pantry: Pantry, registry: FaultyTarget, uri: CtxUri, other: CtxUri) -> None:
    def refuse(call: Call) -> None:
        if call.subject.startswith("name-"):
            raise Conflict("tag is immutable and names another manifest")

    pantry.tag(uri, "rag-index")
    registry.on("tag", refuse)
    with pytest.raises(
        Conflict, match=f"does not let the name rag-index be moved: .*, and this one names {uri}"
    ) as caught:
        pantry.tag(other, "rag-index")
    assert caught.value.code == "E_IMMUTABLE"
    assert pantry.tag(uri, "rag-index").new is False  # it needs no move


def test_a_registry_that_loses_the_tag_is_an_error(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "tag", lambda descriptor, tag: None)
    with pytest.raises(Unavailable, match="the name is not there, though the registry accepted it") as caught:
        pantry.tag(uri, "rag-index")
    assert caught.value.code == "E_LOST"


def test_a_policy_decides_what_gets_a_name(cache: Cache, registry: FaultyTarget, uri: CtxUri) -> None:
    def refuse(candidate: Candidate) -> None:
        raise PolicyRefused(f"no {candidate.image}")

    with pytest.raises(PolicyRefused, match=f"no {image_of(registry, uri)}"):
        tag(context_of(cache, registry, policy=refuse), uri, "rag-index")
    assert registry.layout.resolve_tag("name-rag-index") is None


def test_another_machine_pulls_by_name_and_is_told_the_uri(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project, uri: CtxUri, notices: list[str], lock: Path
) -> None:
    pantry.tag(uri, "rag-index")
    elsewhere = open_pantry("elsewhere")
    pulled = elsewhere.pull("rag-index")
    assert pulled.uri == uri
    assert contents(pulled.folder) == contents(project.out)
    assert notices == [f"rag-index is {uri}"]
    assert elsewhere.inspect("rag-index").manifest.uri == uri
    assert not lock.exists()


def test_a_pull_by_name_is_admitted_like_any_other(
    pantry: Pantry, cache: Cache, registry: FaultyTarget, uri: CtxUri, lock: Path
) -> None:
    asked: list[Candidate] = []
    pantry.tag(uri, "rag-index")
    with Pantry(pantry.settings, target=registry, policy=asked.append) as judged:
        judged.pull("rag-index")
    assert asked == [Candidate(uri, "the registry", image_of(registry, uri))]


def test_a_name_that_nobody_gave(
    pantry: Pantry, registry: FaultyTarget, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="the registry: no such name: rag-index; check the name and the registry"):
        pantry.pull("rag-index")
    with pytest.raises(NotFound, match="the first digits of a URI are at least 8"):
        pantry.pull("1f2e")
    (lock.parent / "contract").touch()
    with pytest.raises(NotFound, match=r"\./contract is the contract file"):
        pantry.pull("contract")


@pytest.mark.parametrize("error", [AccessDenied("no"), Unavailable("no answer")])
def test_a_registry_that_does_not_answer_has_not_said_that_there_is_no_such_name(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, lock: Path, error: Exception
) -> None:
    def fail(call: Call) -> None:
        raise error

    registry.on("fetch_tag", fail)
    with pytest.raises(type(error)):
        pantry.pull("rag-index")


def tag_foreign(registry: FaultyTarget, at: str, **changes: object) -> Digest:
    """Let a tag name an image manifest that is no pack's; return its digest."""
    config = describe(b"{}", "application/vnd.oci.image.config.v1+json")
    registry.layout.push(config, b"{}")
    members = {"artifact_type": "", "config": config, "layers": ()} | changes
    data = encode_image_manifest(ImageManifest(**members))  # type: ignore[arg-type]
    image = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
    registry.layout.push(image, data)
    registry.layout.tag(image, at)
    return image.digest


@pytest.mark.parametrize("changes", [{}, {"artifact_type": ARTIFACT_TYPE}], ids=["an image", "only the type"])
def test_a_name_that_stands_for_something_foreign_is_a_clear_error(
    cache: Cache, registry: FaultyTarget, changes: dict[str, object]
) -> None:
    tag_foreign(registry, "name-rag-index", **changes)
    with pytest.raises(IntegrityError) as caught:
        resolve_name(context_of(cache, registry), "rag-index")
    assert caught.value.code == "E_NOT_THE_PACK"
    assert caught.value.what.startswith("the name rag-index stands for no pack: ")
    assert caught.value.where == "the registry:name-rag-index"
    assert "`ctxpack tag URI rag-index` lets it name a pack" in caught.value.fix


def test_a_name_on_outputs_that_were_replaced_is_said(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    uri: CtxUri,
    replaced: Callable[[], Digest],
    notices: list[str],
    lock: Path,
) -> None:
    pantry.tag(uri, "rag-index")
    before = image_of(registry, uri)
    outputs = replaced()
    notices.clear()
    elsewhere = open_pantry("elsewhere")
    elsewhere.pull("rag-index")
    assert notices[0] == f"rag-index is {uri}"
    assert notices[1].startswith(
        f"rag-index was given to {before}, but {image_of(registry, uri)} is what has that URI now"
    )
    assert elsewhere.inspect(uri).manifest.outputs_digest == outputs


def test_a_name_whose_pack_has_no_tag_of_its_own_any_more_is_said(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, notices: list[str], lock: Path
) -> None:
    pantry.tag(uri, "rag-index")
    index = registry.folder / "index.json"
    document = json.loads(index.read_text())
    document["manifests"] = [entry for entry in document["manifests"] if tag_of(uri) not in json.dumps(entry)]
    index.write_text(json.dumps(document))
    assert pantry.find("rag-index") == uri
    assert notices[-1] == "the registry has that pack under this name only; under its URI it is not there any more"


def test_a_pack_that_is_removed_from_the_registry_takes_its_name_along(pantry: Pantry, uri: CtxUri, lock: Path) -> None:
    pantry.tag(uri, "rag-index")
    pantry.remove(uri, registry=True)
    with pytest.raises(NotFound, match="no such name: rag-index"):
        pantry.pull("rag-index")


def test_a_pin_is_written_and_used_without_asking_the_registry(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, other: CtxUri, notices: list[str], lock: Path
) -> None:
    pantry.tag(uri, "rag-index")
    pulled = pantry.pull("rag-index", lock=True)
    outputs = pantry.inspect(uri).manifest.outputs_digest
    pin = {"outputs": outputs, "uri": uri}
    assert lock.read_bytes() == canonical_json({"names": {"rag-index": pin}, "schema": "ctxpack/lock/v1"})
    assert notices[-1] == f"{lock} says now that rag-index is {uri}, with outputs {outputs}"
    pantry.tag(other, "rag-index")
    before = len(registry.calls)
    assert pantry.pull("rag-index") == pantry.pull("rag-index", locked=True) == pulled
    assert pantry.inspect("rag-index").manifest.uri == pantry.find("rag-index") == uri
    assert len(registry.calls) == before
    assert notices[-1] == f"rag-index is {uri}, as {lock} says"


def test_lock_asks_anew_and_moves_the_pin(
    pantry: Pantry, open_pantry: Callable[..., Pantry], uri: CtxUri, other: CtxUri, lock: Path
) -> None:
    pantry.tag(uri, "rag-index")
    pantry.tag(uri, "stays")
    pantry.pull("rag-index", lock=True)
    pantry.pull("stays", lock=True)
    pantry.tag(other, "rag-index")
    elsewhere = open_pantry("elsewhere")
    assert elsewhere.pull("rag-index").uri == uri
    assert elsewhere.pull("rag-index", lock=True).uri == other
    assert {name: pin["uri"] for name, pin in json.loads(lock.read_text())["names"].items()} == {
        "rag-index": other,
        "stays": uri,
    }


def test_a_pull_that_fails_pins_nothing(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri, lock: Path
) -> None:
    pantry.tag(uri, "rag-index")

    def fail(call: Call) -> None:
        raise Unavailable("no answer")

    registry.on("fetch", fail)
    with pytest.raises(Unavailable):
        open_pantry("elsewhere").pull("rag-index", lock=True)
    assert not lock.exists()


def test_locked_refuses_a_name_that_is_not_pinned(
    pantry: Pantry, registry: FaultyTarget, project: Project, uri: CtxUri, lock: Path
) -> None:
    pantry.tag(uri, "rag-index")
    before = len(registry.calls)
    with pytest.raises(
        InvalidInput, match=f"{lock}: the name rag-index is not pinned; `ctxpack pull rag-index --lock`"
    ):
        pantry.pull("rag-index", locked=True)
    pantry.pull(uri, locked=True)
    pantry.pull(str(project.contract), locked=True)
    assert len(registry.calls) == before


@pytest.mark.parametrize("reference", ["{uri}", "{digits}", "{contract}"])
def test_only_a_name_can_be_pinned(pantry: Pantry, project: Project, uri: CtxUri, lock: Path, reference: str) -> None:
    text = reference.format(uri=uri, digits=uri[-64:-50], contract=project.contract)
    with pytest.raises(InvalidInput, match="only a name can be pinned"):
        pantry.pull(text, lock=True)
    assert not lock.exists()


def test_lock_and_locked_exclude_each_other(pantry: Pantry, lock: Path) -> None:
    with pytest.raises(InvalidInput, match="--lock moves a pin, and --locked keeps all of them"):
        pantry.pull("rag-index", lock=True, locked=True)


WAYS = pytest.mark.parametrize("include", [(), ("*",)], ids=["whole", "some"])


@WAYS
@pytest.mark.parametrize("cached", [True, False])
def test_other_outputs_than_the_pinned_ones_are_refused_before_anything_is_placed(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    uri: CtxUri,
    replaced: Callable[[], Digest],
    lock: Path,
    include: tuple[str, ...],
    cached: bool,
) -> None:
    pantry.tag(uri, "rag-index")
    pantry.pull("rag-index", lock=True)
    pinned, theirs = json.loads(lock.read_text())["names"]["rag-index"]["outputs"], replaced()
    elsewhere = open_pantry("elsewhere")
    if cached:
        elsewhere.pull(uri)
    for output in ("out", None) if not include else ("out",):
        with pytest.raises(IntegrityError) as caught:
            elsewhere.pull("rag-index", output, include=include)
        assert (caught.value.code, caught.value.where) == ("E_PINNED", str(lock))
        assert (caught.value.expected, caught.value.got) == (pinned, theirs)
        assert "`ctxpack pull rag-index --lock` pins what the registry has now" in caught.value.fix
    assert os.listdir() == ["ctxpack.lock"]
    if cached:
        assert elsewhere.cache.find(uri_digest(uri)) is not None  # it is not damaged
    pantry.pull("rag-index", "out", include=include)
    assert os.path.exists("out/joined")
    assert elsewhere.pull("rag-index", lock=True).uri == uri
    assert json.loads(lock.read_text())["names"]["rag-index"]["outputs"] == theirs


@WAYS
def test_what_only_this_cache_has_is_not_pinned(
    pantry: Pantry, uri: CtxUri, replaced: Callable[[], Digest], lock: Path, include: tuple[str, ...]
) -> None:
    pantry.tag(uri, "rag-index")
    mine, theirs = pantry.inspect(uri).manifest.outputs_digest, replaced()
    pantry.tag(uri, "rag-index")
    with pytest.raises(
        Conflict, match="the cache holds other outputs of the same contract than the registry"
    ) as caught:
        pantry.pull("rag-index", "out", include=include, lock=True)
    assert (caught.value.expected, caught.value.got) == (f"outputs {theirs}", mine)
    assert os.listdir() == []
    pantry.remove(uri)
    pantry.pull("rag-index", "out", include=include, lock=True)
    assert json.loads(lock.read_text())["names"]["rag-index"]["outputs"] == theirs


def test_a_lock_file_of_somebody_else_names_only_packs_of_the_registry_that_is_in_use(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, lock: Path
) -> None:
    pin = {"outputs": NO_PACK, "uri": f"ctx://{NO_PACK}"}
    lock.write_bytes(canonical_json({"names": {"rag-index": pin}, "schema": "ctxpack/lock/v1"}))
    pantry.tag(uri, "rag-index")
    with pytest.raises(NotFound, match=f"no such pack: ctx://{NO_PACK}"):
        pantry.pull("rag-index")
    assert pantry.pull(uri).uri == uri


def test_a_damaged_lock_file_stops_every_pull_by_name_before_the_registry_is_asked(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri, lock: Path
) -> None:
    lock.write_text("{}")
    before = len(registry.calls)
    for lock_it, locked in ((False, False), (True, False), (False, True)):
        with pytest.raises(InvalidInput, match="no lock file that this version reads"):
            open_pantry("elsewhere").pull("rag-index", lock=lock_it, locked=locked)
    assert len(registry.calls) == before
    assert pantry.pull(uri).uri == uri
