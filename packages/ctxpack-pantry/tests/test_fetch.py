"""A pack of the registry becomes a pack of the cache: every byte is checked, or no pack is visible."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pantry_context import context_of
from pantry_project import Project, contents
from pantry_target import FaultyTarget, each_stop, wait_until_idle

from ctxpack_bundle import inflate_chunk, make_chunk
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, LocalFailure, NotFound, Unavailable, digest_of, uri_digest
from ctxpack_oci import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    Descriptor,
    ImageManifest,
    Layout,
    TaggedManifest,
    describe,
    encode_image_manifest,
)
from ctxpack_pantry import Pantry, Settings
from ctxpack_pantry.artifact import chunk_descriptor
from ctxpack_pantry.fetch import fetch
from ctxpack_pantry.lookup import Located
from ctxpack_pantry.settings import Setting

if TYPE_CHECKING:
    from ctxpack_oci import Target


class PushedPack(NamedTuple):
    """A pack in a registry. outputs: what it holds."""

    layout: Layout
    uri: CtxUri
    located: Located
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> PushedPack:
    """A registry with one pack, which no test changes."""
    root = tmp_path_factory.mktemp("pushed")
    project = Project(root / "project")
    (project.out / "large").write_bytes(b"".join(digest_of(b"%d" % number).encode()[7:] for number in range(60_000)))
    place = Settings(Setting(f"oci:{root / 'registry'}", ""), Setting(str(root / "cache"), ""))
    pantry = Pantry(place)
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    located = pantry.inspect(uri, skip_cache=True).located
    assert located is not None
    assert len(located.chunks) > 3
    return PushedPack(Layout(root / "registry"), uri, located, contents(project.out))


@pytest.fixture
def target(pushed: PushedPack, tmp_path: Path) -> FaultyTarget:
    """A copy of the registry, which a test may change."""
    folder = tmp_path / "target"
    shutil.copytree(pushed.layout.name.removeprefix("oci:"), folder, copy_function=os.link)
    return FaultyTarget(folder)


def untouched(cache: Cache, leftovers: Callable[[], list[str]]) -> bool:
    return list(cache.packs()) == [] and leftovers() == []


def test_the_cache_holds_what_was_seeded(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, leftovers: Callable[[], list[str]]
) -> None:
    pulled = fetch(context_of(cache, target), pushed.uri)
    assert contents(Path(pulled.folder, "artifacts")) == pushed.outputs
    assert pulled == (cache.find(uri_digest(pushed.uri)), pushed.located.transfer_size)
    assert leftovers() == []


def test_a_cached_pack_costs_no_request(pushed: PushedPack, cache: Cache, target: FaultyTarget) -> None:
    first = fetch(context_of(cache, target), pushed.uri)
    before = len(target.calls)
    assert fetch(context_of(cache, target), pushed.uri) == first._replace(received=0)
    assert len(target.calls) == before


def test_progress_adds_up_to_the_total_that_is_known_from_the_start(
    pushed: PushedPack, cache: Cache, target: FaultyTarget
) -> None:
    seen: list[tuple[str, int, int | None]] = []
    fetch(context_of(cache, target, progress=lambda *step: seen.append(step)), pushed.uri)
    assert {(stage, total) for stage, _, total in seen} == {("pull", pushed.located.transfer_size)}
    assert sum(advanced for _, advanced, _ in seen) == pushed.located.transfer_size


def test_a_pack_that_the_registry_does_not_have_is_a_miss(
    cache: Cache, target: FaultyTarget, leftovers: Callable[[], list[str]]
) -> None:
    nowhere = CtxUri("ctx://sha256:" + "0" * 64)
    with pytest.raises(NotFound) as caught:
        fetch(context_of(cache, target), nowhere)
    assert str(caught.value) == (
        f"the registry: no such pack: {nowhere}; check the URI and the registry, or make the pack: ctxpack run, "
        "or ctxpack seed and ctxpack push"
    )
    assert untouched(cache, leftovers)


def parts(located: Located) -> dict[str, Descriptor]:
    chunks = {f"chunk {number}": chunk for number, chunk in enumerate(located.chunks)}
    return {"image manifest": located.descriptor, **chunks}


@pytest.mark.parametrize("part", ["image manifest", "chunk 0", "chunk 1", "chunk 2", "chunk 3"])
@pytest.mark.parametrize(
    "position", [0, 3, 10, 0.5, -8, -4, -1], ids=["magic", "flags", "body", "middle", "crc", "length", "last"]
)
def test_one_changed_byte_anywhere_is_refused_and_nothing_stays(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    leftovers: Callable[[], list[str]],
    part: str,
    position: float,
) -> None:
    descriptor = parts(pushed.located)[part]
    target.flip(descriptor.digest, position if isinstance(position, int) else int(position * descriptor.size))
    with pytest.raises(IntegrityError, match="digest differs"):
        fetch(context_of(cache, target), pushed.uri)
    assert untouched(cache, leftovers)


@pytest.mark.parametrize("part", ["image manifest", "chunk 0", "chunk 1", "chunk 3"])
def test_a_missing_part_is_damage_and_not_a_miss(
    pushed: PushedPack, cache: Cache, target: FaultyTarget, leftovers: Callable[[], list[str]], part: str
) -> None:
    target.blob(parts(pushed.located)[part].digest).unlink()
    with pytest.raises(IntegrityError, match="missing") as caught:
        fetch(context_of(cache, target), pushed.uri)
    assert caught.value.code == "E_INCOMPLETE"
    assert untouched(cache, leftovers)


class Forged(FaultyTarget):
    """The registry of pushed, whose tag names an image manifest of these chunks; every digest is right."""

    def __init__(self, pushed: PushedPack, chunks: list[Descriptor], *contents: bytes) -> None:
        super().__init__(Path(pushed.layout.name.removeprefix("oci:")))
        manifest = pushed.located.manifest
        data = encode_image_manifest(
            ImageManifest(artifact_type=manifest.artifact_type, config=manifest.config, layers=tuple(chunks))
        )
        self._tagged = TaggedManifest(describe(data, IMAGE_MANIFEST_MEDIA_TYPE), data)
        self._contents = {digest_of(content): content for content in contents}

    def fetch_tag(self, tag: str) -> TaggedManifest:
        return self._tagged

    def fetch(self, descriptor: Descriptor) -> bytes:
        return self._contents.get(descriptor.digest) or super().fetch(descriptor)


def inflated(target: Target, chunk: Descriptor) -> bytes:
    return inflate_chunk(target.fetch(chunk), int(chunk.annotations["dev.ctxpack.chunk.bytes"]), where="test")


@settings(max_examples=60)
@given(st.data())
def test_a_byte_changed_before_the_digest_was_computed_is_refused_or_harmless(
    pushed: PushedPack, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every digest is right: the pack is refused, or (when the byte means nothing in gzip) its outputs are the same."""
    root = tmp_path_factory.mktemp("changed")
    chunks = list(pushed.located.chunks)
    number = data.draw(st.integers(0, len(chunks) - 1))
    changed = bytearray(pushed.layout.fetch(chunks[number]))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    chunks[number] = describe(bytes(changed), chunks[number].media_type, annotations=chunks[number].annotations)
    cache = Cache(root)
    try:
        path = fetch(context_of(cache, Forged(pushed, chunks, bytes(changed))), pushed.uri).folder
    except IntegrityError:
        assert list(cache.packs()) == []
    else:
        assert contents(Path(path, "artifacts")) == pushed.outputs
        cache.remove(uri_digest(pushed.uri))
    assert [*(root / "v1/staging").iterdir(), *(root / "v1/locks").iterdir()] == []
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda chunks: chunks[:-1], "pack ends too early"),
        (lambda chunks: [*chunks, chunks[-1]], "bytes after the end"),
        (lambda chunks: [chunks[0], *reversed(chunks[1:])], "archive differs from its listing"),
        (lambda chunks: [chunks[0], *chunks], "archive differs from its listing"),
    ],
    ids=["cut short", "repeated last", "swapped", "repeated first"],
)
def test_chunks_left_out_repeated_or_swapped_are_refused(
    pushed: PushedPack,
    cache: Cache,
    leftovers: Callable[[], list[str]],
    change: Callable[[list[Descriptor]], list[Descriptor]],
    message: str,
) -> None:
    forged = Forged(pushed, change(list(pushed.located.chunks)))
    with pytest.raises(IntegrityError, match=message):
        fetch(context_of(cache, forged), pushed.uri)
    assert untouched(cache, leftovers)


def test_content_that_differs_from_its_listing_is_refused(
    pushed: PushedPack, cache: Cache, leftovers: Callable[[], list[str]]
) -> None:
    chunks = list(pushed.located.chunks)
    other = make_chunk(inflated(pushed.layout, chunks[2]).replace(b"alphabeta", b"alphaBETA"))
    chunks[2] = chunk_descriptor(other)
    with pytest.raises(IntegrityError, match="artifacts/joined: content differs from its digest"):
        fetch(context_of(cache, Forged(pushed, chunks, other.data)), pushed.uri)
    assert untouched(cache, leftovers)


def test_each_chunk_is_fetched_once_and_the_contract_never(
    pushed: PushedPack, cache: Cache, target: FaultyTarget
) -> None:
    fetch(context_of(cache, target), pushed.uri)
    assert target.count("fetch_tag") == 1
    fetched = sorted(call.subject for call in target.calls if call.method == "fetch")
    assert fetched == sorted(chunk.digest for chunk in pushed.located.chunks)


@each_stop
def test_a_pull_stopped_at_any_chunk_leaves_nothing_and_the_next_one_succeeds(
    pushed: PushedPack,
    cache: Cache,
    target: FaultyTarget,
    leftovers: Callable[[], list[str]],
    error: BaseException,
    expected: type[BaseException],
) -> None:
    def stop() -> None:
        raise error

    earliest = 0 if expected is not LocalFailure else 1  # nothing is written before the pack is opened
    for number in range(earliest, len(pushed.located.chunks)):
        target.after("fetch", number, stop)
        with pytest.raises(expected):
            fetch(context_of(cache, target), pushed.uri)
        assert untouched(cache, leftovers), number
    target.on("fetch", lambda _: None)
    assert contents(Path(fetch(context_of(cache, target), pushed.uri).folder, "artifacts")) == pushed.outputs


def test_two_pulls_at_once_share_the_work(
    pushed: PushedPack, tmp_path: Path, target: FaultyTarget, leftovers: Callable[[], list[str]]
) -> None:
    target.on("fetch", lambda _: time.sleep(0.02))
    waited: list[str] = []
    received: list[int] = []

    def work() -> None:
        cache = Cache(tmp_path / "cache")
        done = fetch(context_of(cache, target, notice=waited.append), pushed.uri)
        received.append(done.received)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(received) == [0, pushed.located.transfer_size]
    assert waited == ["another process fetches this pack; waiting"]
    assert target.count("fetch") == len(pushed.located.chunks)
    assert leftovers() == []


def test_a_second_pull_takes_over_when_the_first_fails(
    pushed: PushedPack, tmp_path: Path, target: FaultyTarget, leftovers: Callable[[], list[str]]
) -> None:
    waiting = threading.Event()
    outcomes: list[str] = []

    def fail_once() -> None:
        assert waiting.wait(10)
        raise Unavailable("no answer")

    def work() -> None:
        try:
            context = context_of(Cache(tmp_path / "cache"), target, notice=lambda notice: waiting.set())
            fetch(context, pushed.uri)
            outcomes.append("pulled")
        except Unavailable:
            outcomes.append("failed")

    target.after("fetch", 1, fail_once)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["failed", "pulled"]
    assert leftovers() == []


def test_no_transfer_goes_on_after_a_failure(pushed: PushedPack, cache: Cache, target: FaultyTarget) -> None:
    target.flip(pushed.located.chunks[1].digest, 12)
    with pytest.raises(IntegrityError) as caught:
        fetch(context_of(cache, target), pushed.uri)
    wait_until_idle()
    assert caught.value.code == "E_DIGEST"  # the error still keeps every frame alive


def test_a_registry_that_does_not_answer_is_not_a_miss(
    cache: Cache, target: FaultyTarget, leftovers: Callable[[], list[str]]
) -> None:
    def fail(_: object) -> None:
        raise Unavailable("no answer")

    target.on("fetch_tag", fail)
    with pytest.raises(Unavailable):
        fetch(context_of(cache, target), CtxUri("ctx://sha256:" + "0" * 64))
    assert untouched(cache, leftovers)
