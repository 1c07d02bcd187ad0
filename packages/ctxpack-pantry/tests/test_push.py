"""A pack of the cache is published in the registry; other outputs under its tag are a conflict."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_context import context_of
from pantry_image import image_of
from pantry_target import FaultyTarget, each_stop, wait_until_idle
from pantry_versions import Versions, make_layers_small

from ctxpack_identity import (
    AccessDenied,
    Conflict,
    CtxPackError,
    CtxUri,
    IntegrityError,
    NotFound,
    Unavailable,
    uri_digest,
)
from ctxpack_oci import Layout
from ctxpack_pantry import Pantry
from ctxpack_pantry.artifact import tag_of
from ctxpack_pantry.lookup import locate
from ctxpack_pantry.push import push
from ctxpack_pantry.sending import ABSENT_RUN

if TYPE_CHECKING:
    from pantry_project import Project


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack in the cache."""
    return pantry.seed([], str(project.contract)).uri


@pytest.fixture
def rival(
    open_pantry: Callable[..., Pantry], project: Project, uri: CtxUri, registry: FaultyTarget, tmp_path: Path
) -> Callable[[], object]:
    """Let the tag name other outputs of the same contract, also when it names a pack already."""
    project.make_outputs("made elsewhere")
    elsewhere = Layout(tmp_path / "elsewhere")
    maker = open_pantry("rival")
    maker.seed([], str(project.contract))
    push(context_of(maker.cache, elsewhere), uri)
    located = locate(elsewhere, uri)
    assert located is not None

    def push_theirs() -> None:
        for part in (located.manifest.config, *located.layers, located.descriptor):
            registry.layout.push(part, elsewhere.fetch(part))
        registry.layout.tag(located.descriptor, tag_of(uri))

    return push_theirs


def test_a_pushed_pack_is_found_under_its_tag(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    pushed = pantry.push(uri)
    located = locate(registry, uri)
    assert located is not None
    assert (pushed.uri, pushed.registry, pushed.image) == (uri, "the registry", located.image)
    assert pushed.new
    assert pushed.sent == located.transfer_size


def test_the_tag_comes_last(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    pantry.push(uri)
    methods = [call.method for call in registry.calls]
    assert methods.index("tag") > max(index for index, method in enumerate(methods) if method == "push")


def test_a_second_push_sends_nothing_and_costs_one_request(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    first = pantry.push(uri)
    before = len(registry.calls)
    again = pantry.push(uri)
    assert again == first._replace(sent=0, new=False)
    assert [call.method for call in registry.calls[before:]] == ["fetch_tag"]


def test_the_same_outputs_seeded_elsewhere_are_not_sent_again_and_cost_three_requests(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri, project: Project
) -> None:
    first = pantry.push(uri)
    elsewhere = open_pantry("elsewhere")
    elsewhere.seed([], str(project.contract))
    before = len(registry.calls)
    assert elsewhere.push(uri) == first._replace(sent=0, new=False)
    assert [call.method for call in registry.calls[before:]] == ["fetch_tag", "fetch", "resolve_tag"]


def test_only_the_layers_that_the_registry_lacks_are_sent(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, project: Project
) -> None:
    first = pantry.push(uri)
    project.write_contract(params={"other": True})
    other = pantry.push(pantry.seed([], str(project.contract)).uri)
    assert other.new
    assert 0 < other.sent < first.sent


def test_a_pack_that_is_not_in_the_cache_cannot_be_pushed(pantry: Pantry, tmp_path: Path) -> None:
    nowhere = CtxUri("ctx://sha256:" + "0" * 64)
    with pytest.raises(NotFound) as caught:
        pantry.push(nowhere)
    assert str(caught.value) == (
        f"cache {tmp_path / 'cache'}: no such pack: {nowhere}; make it or fetch it first: ctxpack run, "
        "ctxpack seed or ctxpack pull; `ctxpack ls` lists the cache"
    )


def test_other_outputs_of_the_same_contract_are_a_conflict_and_stay(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, rival: Callable[[], object]
) -> None:
    rival()
    before = registry.layout.fetch_tag(tag_of(uri))
    with pytest.raises(Conflict) as caught:
        pantry.push(uri)
    theirs, ours = pantry.inspect(uri, skip_cache=True), pantry.inspect(uri)
    assert str(caught.value) == (
        f"the registry:{tag_of(uri)}: the registry holds other outputs of the same contract: "
        f"expected outputs {theirs.manifest.outputs_digest}, got {ours.manifest.outputs_digest}; "
        "this push overwrote nothing. The work is not deterministic, or something it depends on is missing from the "
        "contract. To use theirs: `ctxpack rm URI`, then pull; to put yours there: `ctxpack push --replace URI`; to "
        "make it again: `ctxpack run --recompute`; to remove theirs: `ctxpack rm --registry URI`; to keep both: "
        "another `salt` in one contract"
    )
    assert registry.layout.fetch_tag(tag_of(uri)) == before
    assert registry.count("push") == registry.count("tag") == 0


def test_other_outputs_pushed_during_a_push_are_a_conflict_and_stay(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, rival: Callable[[], object]
) -> None:
    registry.after("resolve_tag", 0, rival)  # between our first look and the second
    with pytest.raises(Conflict):
        pantry.push(uri)
    assert registry.count("tag") == 0
    assert pantry.inspect(uri, skip_cache=True).manifest.outputs_digest != pantry.inspect(uri).manifest.outputs_digest


def test_the_same_outputs_pushed_during_a_push_are_success(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri, project: Project
) -> None:
    peer = open_pantry("peer")
    peer.seed([], str(project.contract))
    registry.after("resolve_tag", 0, lambda: push(context_of(peer.cache, registry.layout), uri))
    pushed = pantry.push(uri)
    theirs = registry.layout.fetch_tag(tag_of(uri))
    assert theirs is not None
    assert pushed.image == theirs.descriptor.digest
    assert registry.count("tag") == 0


def test_other_outputs_tagged_after_ours_are_a_conflict(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, rival: Callable[[], object]
) -> None:
    """Both found no tag; the registry keeps the last one, and the first writer gets an error."""
    registry.after("resolve_tag", 1, rival)  # between our tag and our last look
    with pytest.raises(Conflict, match="the registry holds other outputs of the same contract"):
        pantry.push(uri)
    assert registry.count("tag") == 1


def test_a_push_that_tags_last_overwrites_other_outputs_without_an_error(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, rival: Callable[[], object]
) -> None:
    """Registries have no "tag unless it exists", so nothing can be done about a tag written just before ours."""
    registry.after("tag", 0, rival)
    assert pantry.push(uri).new
    assert pantry.inspect(uri, skip_cache=True).manifest.outputs_digest == pantry.inspect(uri).manifest.outputs_digest


def test_a_tag_that_names_another_contracts_pack_is_refused_and_stays(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, project: Project
) -> None:
    project.write_contract(params={"other": True})
    other = pantry.seed([], str(project.contract)).uri
    pantry.push(other)
    others = registry.layout.fetch_tag(tag_of(other))
    assert others is not None
    registry.layout.tag(others.descriptor, tag_of(uri))
    with pytest.raises(IntegrityError, match=r"not this contract's pack: config\.digest, the contract: expected"):
        pantry.push(uri)
    assert registry.layout.fetch_tag(tag_of(uri)) == others


def _flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("member", "damage", "message"),
    [
        ("artifacts/joined", _flip, "artifacts/joined: content differs from its digest"),
        ("artifacts/joined", lambda path: path.unlink(), "artifacts/joined: pack is damaged: No such file"),
        ("artifacts/joined", lambda path: os.truncate(path, 3), "artifacts/joined: not the file its listing names"),
        ("files.jsonl", _flip, "files.jsonl"),
        ("inputs/raw_docs.jsonl", _flip, "inputs/raw_docs.jsonl: content differs from its digest"),
        ("manifest.json", lambda path: os.truncate(path, 10), "manifest.json: malformed"),
        ("manifest.json", lambda path: path.unlink(), "manifest.json: pack is damaged: No such file"),
    ],
)
def test_a_damaged_pack_never_gets_a_tag(
    pantry: Pantry,
    registry: FaultyTarget,
    uri: CtxUri,
    member: str,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    folder = pantry.cache.find(uri_digest(uri))
    assert folder is not None
    path = Path(folder, member)
    path.parent.chmod(0o755)
    damage(path)
    with pytest.raises(IntegrityError) as caught:
        pantry.push(uri)
    assert message in str(caught.value)
    assert list(registry.layout.tags()) == []


def test_a_pack_in_the_folder_of_another_uri_is_not_pushed(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    folder = pantry.cache.find(uri_digest(uri))
    assert folder is not None
    other = CtxUri("ctx://sha256:" + "0" * 64)
    moved = Path(folder).with_name("0" * 64)
    os.rename(folder, moved)
    with pytest.raises(IntegrityError) as caught:
        pantry.push(other)
    assert (
        str(caught.value)
        == f"{moved}: pack of another contract: expected {other}, got {uri}; pull it anew, or make it again"
    )
    assert registry.calls == []
    assert pantry.cache.find(uri_digest(other)) is None  # set aside


@pytest.mark.parametrize("method", ["fetch_tag", "exists", "push", "tag"])
@pytest.mark.parametrize("error", [Unavailable, AccessDenied])
def test_a_push_that_fails_halfway_tags_nothing_and_the_next_push_succeeds(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, method: str, error: type[CtxPackError]
) -> None:
    def fail(_: object) -> None:
        raise error("refused", where="the registry")

    registry.on(method, fail)
    with pytest.raises(error, match="refused"):
        pantry.push(uri)
    assert list(registry.layout.tags()) == []
    wait_until_idle()
    registry.on(method, lambda _: None)
    assert pantry.push(uri).new


@each_stop
def test_after_a_stop_at_any_call_the_next_push_sends_nothing_that_it_could_know_to_be_there(
    pantry: Pantry,
    project: Project,
    registry: FaultyTarget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    leftovers: Callable[[], list[str]],
    error: BaseException,
    expected: type[BaseException],
) -> None:
    """The target complains of a layer that it had, and was not asked for.

    It does not after ABSENT_RUN that it lacked: layers are sent in parallel, so a stop can leave only a late one there.
    """
    make_layers_small(monkeypatch, 64 << 10)
    uri = Versions(project, 700 << 10).seed(pantry)
    push(context_of(pantry.cache, registry), uri)
    whole = image_of(registry, uri)
    calls = {"fetch_tag": 1, "exists": ABSENT_RUN, "push": len(whole.layers) + 2, "resolve_tag": 2, "tag": 1}
    assert registry.count("push") == calls["push"] > 8
    for method, number in [(method, number) for method, count in calls.items() for number in range(count)]:
        target = FaultyTarget(tmp_path / f"{method} {number}")
        shutil.rmtree(pantry.cache.side("tables"), ignore_errors=True)  # this registry has no earlier pack

        def stop() -> None:
            raise error

        target.after(method, number, stop)
        with pytest.raises((expected, type(error))):
            push(context_of(pantry.cache, target), uri)
        wait_until_idle()
        assert leftovers() == []
        tagged = (method, number) == ("resolve_tag", 1)  # the look after the tag
        assert list(target.layout.tags()) == [tag_of(uri)] * tagged
        push(context_of(pantry.cache, target), uri)
        assert image_of(target, uri).layers == whole.layers
        assert target.complaints == []
