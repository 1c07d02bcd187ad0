"""A pack of the cache is published in the registry; other outputs under its tag are a conflict."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pantry_context import context_of
from pantry_target import wait_until_idle

from ctxpack_identity import (
    AccessDenied,
    Conflict,
    CtxPackError,
    CtxUri,
    IntegrityError,
    NotFound,
    Unavailable,
    digest_of,
    uri_digest,
)
from ctxpack_oci import Descriptor, Layout
from ctxpack_pantry import Pantry
from ctxpack_pantry.artifact import tag_of
from ctxpack_pantry.lookup import locate
from ctxpack_pantry.push import ABSENT_RUN, PROBE, Presence, push

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget


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
        for part in (located.manifest.config, *located.chunks, located.descriptor):
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


def test_the_same_outputs_seeded_elsewhere_are_not_sent_again(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri, project: Project
) -> None:
    first = pantry.push(uri)
    elsewhere = open_pantry("elsewhere")
    elsewhere.seed([], str(project.contract))
    assert elsewhere.push(uri) == first._replace(sent=0, new=False)


def test_only_the_chunks_that_the_registry_lacks_are_sent(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, project: Project
) -> None:
    first = pantry.push(uri)
    project.write_contract(params={"other": True})
    other = pantry.push(pantry.seed([], str(project.contract)).uri)
    assert other.new
    assert 0 < other.sent < first.sent


def test_progress_counts_what_the_chunks_unpack_to(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    seen: list[tuple[str, int, int | None]] = []
    push(context_of(pantry.cache, registry, progress=lambda *step: seen.append(step)), uri)
    located = locate(registry, uri)
    assert located is not None
    sizes = [int(chunk.annotations["dev.ctxpack.chunk.bytes"]) for chunk in located.chunks]
    assert sorted(advanced for _, advanced, _ in seen) == sorted(sizes)
    assert {(stage, total is not None) for stage, _, total in seen} == {("push", True)}


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
        "this push overwrote nothing; the transform is not deterministic, or something it depends on is missing from "
        "the contract"
    )
    assert registry.layout.fetch_tag(tag_of(uri)) == before
    assert registry.count("push") == registry.count("tag") == 0


def test_other_outputs_pushed_during_a_push_are_a_conflict_and_stay(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, rival: Callable[[], object]
) -> None:
    registry.after("fetch_tag", 1, rival)  # between our first look and the second
    with pytest.raises(Conflict):
        pantry.push(uri)
    assert registry.count("tag") == 0
    assert pantry.inspect(uri, skip_cache=True).manifest.outputs_digest != pantry.inspect(uri).manifest.outputs_digest


def test_the_same_outputs_pushed_during_a_push_are_success(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri, project: Project
) -> None:
    peer = open_pantry("peer")
    peer.seed([], str(project.contract))
    registry.after("fetch_tag", 1, lambda: push(context_of(peer.cache, registry.layout), uri))
    pushed = pantry.push(uri)
    theirs = registry.layout.fetch_tag(tag_of(uri))
    assert theirs is not None
    assert pushed.image == theirs.descriptor.digest
    assert registry.count("tag") == 0


def test_other_outputs_tagged_after_ours_are_a_conflict(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, rival: Callable[[], object]
) -> None:
    """Both found no tag; the registry keeps the last one, and the first writer gets an error."""
    registry.after("fetch_tag", 2, rival)  # between our tag and our last look
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
        ("artifacts/joined", _flip, "artifacts/joined: file differs from its listing"),
        ("artifacts/joined", lambda path: path.unlink(), "artifacts/joined: pack is damaged: No such file"),
        ("artifacts/joined", lambda path: os.truncate(path, 3), "artifacts/joined: not the file its listing names"),
        ("files.jsonl", _flip, "files.jsonl"),
        ("inputs/raw_docs.jsonl", _flip, "inputs/raw_docs.jsonl: file differs from its listing"),
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
    os.rename(folder, Path(folder).with_name("0" * 64))
    with pytest.raises(IntegrityError) as caught:
        pantry.push(other)
    assert str(caught.value) == (
        f"{pantry.cache.find(uri_digest(other))}: pack of another contract: expected {other}, got {uri}; "
        f"remove the pack (ctxpack rm {other}), then pull or seed it again"
    )
    assert registry.calls == []


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


@pytest.fixture
def neighbour(pantry: Pantry, project: Project, uri: CtxUri) -> CtxUri:
    """The URI of another pack in the cache; most of its chunks are also chunks of the pushed pack of uri."""
    pantry.push(uri)
    project.write_contract(params={"version": 2})
    return pantry.seed([], str(project.contract)).uri


def test_chunks_of_a_pack_that_the_registry_has_are_neither_asked_for_nor_sent(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, neighbour: CtxUri
) -> None:
    served = locate(registry, uri)
    before = len(registry.calls)
    pantry.push(neighbour)
    found = locate(registry, neighbour)
    assert served is not None
    assert found is not None
    shared = {chunk.digest for chunk in served.chunks} & {chunk.digest for chunk in found.chunks}
    assert shared
    assert not [
        call for call in registry.calls[before:] if call.method in ("exists", "push") and call.subject in shared
    ]


def test_a_chunk_that_is_missing_although_an_image_manifest_names_it_is_sent_again(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, neighbour: CtxUri
) -> None:
    served = locate(registry, uri)
    assert served is not None
    for chunk in served.chunks[1:]:
        registry.blob(chunk.digest).unlink()
    pantry.push(neighbour)
    found = locate(registry, neighbour)
    assert found is not None
    for chunk in found.chunks:
        registry.fetch(chunk)


class Asked:
    """A target that has the chunks in held, and notes which chunks it is asked for."""

    def __init__(self, held: set[int]) -> None:
        self.held, self.asked = held, list[int]()

    def exists(self, descriptor: Descriptor) -> bool:
        self.asked.append(descriptor.size)
        return descriptor.size in self.held


def test_a_registry_is_asked_for_few_chunks_of_a_new_pack() -> None:
    target = Asked(set())
    presence = Presence(target)  # type: ignore[arg-type]  # asked for exists() alone
    assert not any(presence.of(chunk(number)) for number in range(400))
    assert len(target.asked) == ABSENT_RUN + (400 - ABSENT_RUN) // PROBE


def test_present_chunks_after_many_new_ones_are_noticed_again() -> None:
    held = {number for number in range(400) if not 100 <= number < 150}
    presence = Presence(Asked(held))  # type: ignore[arg-type]
    sent = [number for number in range(400) if not presence.of(chunk(number))]
    assert set(range(100, 150)) <= set(sent)
    assert len(sent) < 50 + PROBE


def test_known_chunks_are_never_asked_for() -> None:
    target = Asked(set())
    presence = Presence(target, frozenset(chunk(number).digest for number in range(50)))  # type: ignore[arg-type]
    assert [presence.of(chunk(number)) for number in range(52)] == [True] * 50 + [False] * 2
    assert target.asked == [50, 51]


def chunk(number: int) -> Descriptor:
    return Descriptor(media_type="application/x", digest=digest_of(str(number).encode()), size=number)
