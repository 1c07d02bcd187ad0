"""An artifact becomes a pack in the cache: every byte checked before the pack is visible, or nothing at all."""

from __future__ import annotations

import errno
import json
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
from pantry_project import Project, contents
from pantry_target import MeddledTarget

from ctxpack_bundle import inflate_chunk, make_chunk
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, LocalFailure, NotFound, Unavailable, digest_of, silent, uri_digest
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
from ctxpack_pantry.artifact import Artifact, chunk_descriptor, find_artifact
from ctxpack_pantry.pull import pull
from ctxpack_pantry.settings import Setting

if TYPE_CHECKING:
    from ctxpack_oci import Target


class Shelf(NamedTuple):
    """A pack in a registry. outputs: what it holds."""

    layout: Layout
    uri: CtxUri
    artifact: Artifact
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A registry with one pack, which no test changes."""
    root = tmp_path_factory.mktemp("shelf")
    project = Project(root / "project")
    (project.out / "large").write_bytes(b"".join(digest_of(b"%d" % number).encode()[7:] for number in range(60_000)))
    place = Settings(Setting(f"oci:{root / 'registry'}", ""), Setting(str(root / "cache"), ""))
    pantry = Pantry(place)
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    artifact = pantry.inspect(uri, remote=True).artifact
    assert artifact is not None
    assert len(artifact.chunks) > 3
    return Shelf(Layout(root / "registry"), uri, artifact, contents(project.out))


@pytest.fixture
def target(shelf: Shelf, tmp_path: Path) -> MeddledTarget:
    """A copy of the registry to meddle with."""
    folder = tmp_path / "target"
    shutil.copytree(shelf.layout.name.removeprefix("oci:"), folder, copy_function=os.link)
    return MeddledTarget(folder)


def untouched(cache: Cache, leftovers: Callable[[], list[str]]) -> bool:
    return list(cache.entries()) == [] and leftovers() == []


def test_the_cache_holds_what_was_seeded(
    shelf: Shelf, cache: Cache, target: MeddledTarget, leftovers: Callable[[], list[str]]
) -> None:
    pulled = pull(cache, target, shelf.uri, progress=silent)
    assert contents(Path(pulled.path, "artifacts")) == shelf.outputs
    assert pulled == (shelf.uri, cache.find(uri_digest(shelf.uri)), shelf.artifact.pack, shelf.artifact.transfer_size)
    assert leftovers() == []


def test_what_the_cache_has_is_not_asked_for(shelf: Shelf, cache: Cache, target: MeddledTarget) -> None:
    first = pull(cache, target, shelf.uri, progress=silent)
    before = len(target.calls)
    assert pull(cache, target, shelf.uri, progress=silent) == first._replace(received=0)
    assert len(target.calls) == before


def test_progress_adds_up_to_the_total_that_is_known_from_the_start(
    shelf: Shelf, cache: Cache, target: MeddledTarget
) -> None:
    seen: list[tuple[str, int, int | None]] = []
    pull(cache, target, shelf.uri, progress=lambda *step: seen.append(step))
    assert {(stage, total) for stage, _, total in seen} == {("pull", shelf.artifact.transfer_size)}
    assert sum(advanced for _, advanced, _ in seen) == shelf.artifact.transfer_size


def test_a_pack_that_is_not_there_is_a_miss(
    cache: Cache, target: MeddledTarget, leftovers: Callable[[], list[str]]
) -> None:
    nowhere = CtxUri("ctx://sha256:" + "0" * 64)
    with pytest.raises(NotFound) as caught:
        pull(cache, target, nowhere, progress=silent)
    assert str(caught.value) == (
        f"the registry: no such pack: got {nowhere}; check the URI and the registry, or make the pack: ctxpack run, "
        "or ctxpack seed and ctxpack push"
    )
    assert untouched(cache, leftovers)


def parts(artifact: Artifact) -> dict[str, Descriptor]:
    chunks = {f"chunk {number}": chunk for number, chunk in enumerate(artifact.chunks)}
    return {"manifest": artifact.descriptor, "contract": artifact.manifest.config, **chunks}


@pytest.mark.parametrize("part", ["manifest", "contract", "chunk 0", "chunk 1", "chunk 2", "chunk 3"])
@pytest.mark.parametrize(
    "position", [0, 3, 10, 0.5, -8, -4, -1], ids=["magic", "flags", "body", "middle", "crc", "length", "last"]
)
def test_one_changed_byte_anywhere_is_refused_and_nothing_stays(
    shelf: Shelf,
    cache: Cache,
    target: MeddledTarget,
    leftovers: Callable[[], list[str]],
    part: str,
    position: float,
) -> None:
    descriptor = parts(shelf.artifact)[part]
    target.flip(descriptor.digest, position if isinstance(position, int) else int(position * descriptor.size))
    with pytest.raises(IntegrityError, match="digest differs"):
        pull(cache, target, shelf.uri, progress=silent)
    assert untouched(cache, leftovers)


@pytest.mark.parametrize("part", ["manifest", "contract", "chunk 0", "chunk 1", "chunk 3"])
def test_a_missing_part_is_damage_and_not_a_miss(
    shelf: Shelf, cache: Cache, target: MeddledTarget, leftovers: Callable[[], list[str]], part: str
) -> None:
    target.blob(parts(shelf.artifact)[part].digest).unlink()
    with pytest.raises(IntegrityError, match="missing") as caught:
        pull(cache, target, shelf.uri, progress=silent)
    assert caught.value.code == "E_INCOMPLETE"
    assert untouched(cache, leftovers)


class Forged(MeddledTarget):
    """The shelf's registry, where the tag names these chunks instead, with digests that are all in order."""

    def __init__(self, shelf: Shelf, chunks: list[Descriptor], *contents: bytes) -> None:
        super().__init__(Path(shelf.layout.name.removeprefix("oci:")))
        manifest = shelf.artifact.manifest
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
def test_a_liar_who_may_push_and_changes_a_byte_before_it_is_named_gets_nowhere(
    shelf: Shelf, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """With new digests for what he changed: refused, or (in a byte of gzip that means nothing) the very same pack."""
    root = tmp_path_factory.mktemp("liar")
    chunks = list(shelf.artifact.chunks)
    number = data.draw(st.integers(0, len(chunks) - 1))
    changed = bytearray(shelf.layout.fetch(chunks[number]))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    chunks[number] = describe(bytes(changed), chunks[number].media_type, annotations=chunks[number].annotations)
    cache = Cache(root)
    try:
        path = pull(cache, Forged(shelf, chunks, bytes(changed)), shelf.uri, progress=silent).path
    except IntegrityError:
        assert list(cache.entries()) == []
    else:
        assert contents(Path(path, "artifacts")) == shelf.outputs
        cache.remove(uri_digest(shelf.uri))
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
    shelf: Shelf,
    cache: Cache,
    leftovers: Callable[[], list[str]],
    change: Callable[[list[Descriptor]], list[Descriptor]],
    message: str,
) -> None:
    forged = Forged(shelf, change(list(shelf.artifact.chunks)))
    with pytest.raises(IntegrityError, match=message):
        pull(cache, forged, shelf.uri, progress=silent)
    assert untouched(cache, leftovers)


def test_other_content_under_true_listings_is_refused(
    shelf: Shelf, cache: Cache, leftovers: Callable[[], list[str]]
) -> None:
    chunks = list(shelf.artifact.chunks)
    other = make_chunk(inflated(shelf.layout, chunks[2]).replace(b"alphabeta", b"alphaBETA"))
    chunks[2] = chunk_descriptor(other)
    with pytest.raises(IntegrityError, match="artifacts/joined: content differs from its digest"):
        pull(cache, Forged(shelf, chunks, other.data), shelf.uri, progress=silent)
    assert untouched(cache, leftovers)


def test_a_registry_whose_first_chunk_is_another_the_second_time_is_refused(
    shelf: Shelf, cache: Cache, target: MeddledTarget, leftovers: Callable[[], list[str]]
) -> None:
    """Only a target that breaks its promise can do that; then what was inspected is not what was unpacked."""
    first = shelf.artifact.chunks[0]
    content = inflated(target, first)
    created = json.loads(content[512:].rstrip(b"\0"))["provenance"]["created"].encode()
    other = make_chunk(content.replace(created, b"2001-01-01T00:00:00Z"))

    class TwoFaced(MeddledTarget):
        def fetch(self, descriptor: Descriptor) -> bytes:
            data = super().fetch(descriptor)
            again = sum(call == ("fetch", first.digest) for call in self.calls) > 1
            return other.data if descriptor.digest == first.digest and again else data

    with pytest.raises(IntegrityError, match="first chunk changed between two fetches"):
        pull(cache, TwoFaced(target.folder), shelf.uri, progress=silent)
    assert untouched(cache, leftovers)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unavailable("no answer"), Unavailable),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), LocalFailure),
    ],
    ids=["no answer", "Ctrl-C", "full disk"],
)
def test_stopped_at_any_fetch_it_leaves_nothing_and_the_next_one_succeeds(
    shelf: Shelf,
    cache: Cache,
    target: MeddledTarget,
    leftovers: Callable[[], list[str]],
    error: BaseException,
    expected: type[BaseException],
) -> None:
    def stop() -> None:
        raise error

    looking = 0 if expected is not LocalFailure else 2  # no disk is written to while we look
    for number in range(looking, 2 + len(shelf.artifact.chunks)):
        target.after("fetch", number, stop)
        with pytest.raises(expected):
            pull(cache, target, shelf.uri, progress=silent)
        assert untouched(cache, leftovers), number
    target.on("fetch", lambda _: None)
    assert contents(Path(pull(cache, target, shelf.uri, progress=silent).path, "artifacts")) == shelf.outputs


def test_two_that_pull_at_once_share_the_work(
    shelf: Shelf, tmp_path: Path, target: MeddledTarget, leftovers: Callable[[], list[str]]
) -> None:
    target.on("fetch", lambda _: time.sleep(0.02))
    waited: list[str] = []
    received: list[int] = []

    def work() -> None:
        cache = Cache(tmp_path / "cache")
        done = pull(cache, target, shelf.uri, progress=silent, on_wait=lambda: waited.append("once"))
        received.append(done.received)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(received) == [0, shelf.artifact.transfer_size]
    assert waited == ["once"]
    assert target.count("fetch") == 2 + len(shelf.artifact.chunks)  # contract and first chunk, then all
    assert leftovers() == []


def test_when_the_one_at_work_fails_the_other_takes_over(
    shelf: Shelf, tmp_path: Path, target: MeddledTarget, leftovers: Callable[[], list[str]]
) -> None:
    waiting = threading.Event()
    outcomes: list[str] = []

    def fail_once() -> None:
        assert waiting.wait(10)
        raise Unavailable("no answer")

    def work() -> None:
        try:
            pull(Cache(tmp_path / "cache"), target, shelf.uri, progress=silent, on_wait=waiting.set)
            outcomes.append("pulled")
        except Unavailable:
            outcomes.append("failed")

    target.after("fetch", 3, fail_once)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["failed", "pulled"]
    assert leftovers() == []


def test_no_transfer_goes_on_after_a_failure(shelf: Shelf, cache: Cache, target: MeddledTarget) -> None:
    target.flip(shelf.artifact.chunks[1].digest, 12)
    with pytest.raises(IntegrityError) as caught:
        pull(cache, target, shelf.uri, progress=silent)
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("transfer") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert caught.value.code == "E_DIGEST"  # although the error, and with it every frame, is still held


def test_a_look_at_a_registry_that_does_not_answer_is_not_a_miss(
    cache: Cache, target: MeddledTarget, leftovers: Callable[[], list[str]]
) -> None:
    def silence(_: object) -> None:
        raise Unavailable("no answer")

    target.on("fetch_tag", silence)
    with pytest.raises(Unavailable):
        pull(cache, target, CtxUri("ctx://sha256:" + "0" * 64), progress=silent)
    assert untouched(cache, leftovers)


def test_find_artifact_agrees_with_the_shelf(shelf: Shelf, target: MeddledTarget) -> None:
    assert find_artifact(target, shelf.uri) == shelf.artifact
