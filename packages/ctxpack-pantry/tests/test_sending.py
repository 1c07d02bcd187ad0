"""The blobs of a pack are made while others are sent: each once, in flat memory, and nothing is left behind."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from pantry_context import context_of
from pantry_image import image_of
from pantry_project import Project
from pantry_target import FaultyTarget, each_stop, wait_until_idle
from pantry_versions import LAYER, Versions, assert_pulled, make_layers_small, usage_of

from ctxpack_bundle import read_pack_manifest, stream_size
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, LocalFailure, digest_of, uri_digest
from ctxpack_oci import Descriptor
from ctxpack_pantry import Pantry
from ctxpack_pantry.push import push
from ctxpack_pantry.sending import ABSENT_RUN, PROBE, Presence

MIB = 1 << 20


@pytest.fixture
def versions(project: Project, monkeypatch: pytest.MonkeyPatch) -> Versions:
    """1 MiB of outputs, which have some 8 layers."""
    make_layers_small(monkeypatch)
    return Versions(project, MIB)


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let layers be made in files."""
    monkeypatch.setattr("ctxpack_pantry.sending._IN_MEMORY", LAYER)


def folder_of(cache: Cache, uri: CtxUri) -> Path:
    folder = cache.find(uri_digest(uri))
    assert folder is not None
    return Path(folder)


def layers_in(target: FaultyTarget, uri: CtxUri) -> list[str]:
    """The digests of the layers of chunks."""
    return [layer.digest for layer in image_of(target, uri).layers[2:]]


def test_a_pack_that_borrows_nothing_has_no_dead_chunk_and_uses_one_layer_at_once(
    pantry: Pantry, registry: FaultyTarget, versions: Versions
) -> None:
    uri = versions.seed(pantry)
    pushed = pantry.push(uri)
    image = image_of(registry, uri)
    assert usage_of(image) == (len(image.layers), 0, 1)
    assert pushed.sent == image.size
    assert all(LAYER < image.sizes[number] <= 2 * LAYER for number in image.data_layers()[:-1])


def test_titles_say_the_order_of_the_layers(pantry: Pantry, registry: FaultyTarget, versions: Versions) -> None:
    """Other tools make files with these names, which no two layers share."""
    uri = versions.seed(pantry)
    pantry.push(uri)
    titles = [layer.annotations["org.opencontainers.image.title"] for layer in image_of(registry, uri).layers]
    assert titles[:3] == ["000.tar.gz", "001.table", "002.tar.gz"]
    assert titles == sorted(set(titles))


def test_the_same_outputs_have_the_same_layers_from_another_cache(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    versions: Versions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = versions.seed(pantry)
    pantry.push(uri)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    elsewhere, other = open_pantry("elsewhere"), FaultyTarget(tmp_path / "other")
    versions.seed_again(elsewhere)
    push(context_of(elsewhere.cache, other), uri)
    assert layers_in(other, uri) == layers_in(registry, uri)
    assert image_of(other, uri).layers[0] != image_of(registry, uri).layers[0]


def test_layers_end_where_they_ended_before_a_change(
    pantry: Pantry, open_pantry: Callable[..., Pantry], registry: FaultyTarget, versions: Versions
) -> None:
    """So a push from a cache that knows no earlier pack finds most layers, with bytes inserted at the start, too."""
    versions.add(3 * MIB)
    first = versions.seed(pantry)
    pantry.push(first)
    versions.files["00"] = random.Random(0).randbytes(LAYER // 2) + versions.files["00"]
    elsewhere = open_pantry("elsewhere")
    second = versions.seed(elsewhere)
    pushed = elsewhere.push(second)
    before, after = set(layers_in(registry, first)), set(layers_in(registry, second))
    assert len(before & after) > len(before) // 2
    assert pushed.sent < image_of(registry, second).size // 2


def test_layers_with_the_same_content_are_sent_once(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    registry: FaultyTarget,
    versions: Versions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ctxpack_bundle.packing._LARGE", MIB // 2)  # each file is cut by itself
    versions.add(3 * MIB, files=1, name="one")
    versions.files = dict.fromkeys(("a", "b"), versions.files["one00"])
    uri = versions.seed(pantry)
    pushed = pantry.push(uri)
    layers = layers_in(registry, uri)
    assert len(set(layers)) < len(layers)
    sent = [call.subject for call in registry.calls if call.method == "push"]
    assert len(set(sent)) == len(sent)
    assert pushed.sent == sum({layer.digest: layer.size for layer in image_of(registry, uri).layers}.values())
    assert_pulled(open_pantry("elsewhere"), uri, versions)


@pytest.mark.usefixtures("in_files")
def test_layers_made_in_files_are_those_made_in_memory(
    pantry: Pantry, registry: FaultyTarget, versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = versions.seed(pantry)
    pantry.push(uri)
    monkeypatch.setattr("ctxpack_pantry.sending._IN_MEMORY", 2 * LAYER)
    in_memory = FaultyTarget(tmp_path / "in memory")
    push(context_of(pantry.cache, in_memory), uri)
    assert image_of(registry, uri).manifest == image_of(in_memory, uri).manifest


@pytest.mark.usefixtures("in_files")
def test_files_of_layers_have_no_names(
    pantry: Pantry, registry: FaultyTarget, versions: Versions, cache: Cache, leftovers: Callable[[], list[str]]
) -> None:
    """So nothing is left of them when the process is killed."""
    uri = versions.seed(pantry)
    staging = Path(cache.root, "v1", "staging")
    seen: list[list[str]] = []
    registry.on("push", lambda _: seen.append([path.name for path in staging.glob("*/*")]))
    pantry.push(uri)
    assert len(seen) > 8
    assert not any(seen)
    assert leftovers() == []


@pytest.mark.usefixtures("in_files")
@each_stop
def test_files_of_layers_are_closed_after_a_stop(
    pantry: Pantry,
    registry: FaultyTarget,
    versions: Versions,
    leftovers: Callable[[], list[str]],
    error: BaseException,
    expected: type[BaseException],
) -> None:
    """A file that is not closed is a warning, and warnings are errors here."""
    uri = versions.seed(pantry)

    def stop() -> None:
        raise error

    registry.after("push", 2, stop)
    with pytest.raises(expected):
        pantry.push(uri)
    wait_until_idle()
    assert leftovers() == []
    registry.on("push", lambda _: None)
    assert pantry.push(uri).new


@pytest.mark.usefixtures("in_files")
def test_a_disk_that_is_full_while_a_layer_is_written_is_a_local_failure(
    pantry: Pantry,
    registry: FaultyTarget,
    versions: Versions,
    leftovers: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = versions.seed(pantry)
    with monkeypatch.context() as patch:
        patch.setattr("ctxpack_pantry.sending.TemporaryFile", lambda dir: open("/dev/full", "w+b"))  # noqa: SIM115
        with pytest.raises(LocalFailure, match="cannot fill the staging folder: no space left on the disk"):
            pantry.push(uri)
    wait_until_idle()
    assert list(registry.layout.tags()) == []
    assert registry.count("tag") == 0
    assert leftovers() == []
    assert pantry.push(uri).new


def steps_of(cache: Cache, target: FaultyTarget, uri: CtxUri) -> list[int]:
    """Push, and return the bytes of each step of progress, after checking them."""
    steps: list[int] = []
    expected = stream_size(read_pack_manifest(str(folder_of(cache, uri))))

    def note(stage: str, advanced: int, total: int | None) -> None:
        assert total == expected
        if stage != "compare":
            assert stage == "push"
            steps.append(advanced)

    push(context_of(cache, target, progress=note), uri)
    assert all(step > 0 for step in steps)
    assert sum(steps) == expected
    return steps


def test_progress_adds_up_to_the_stream(
    pantry: Pantry, registry: FaultyTarget, cache: Cache, versions: Versions
) -> None:
    fresh = steps_of(cache, registry, versions.seed(pantry))
    assert max(fresh) < MIB // 8
    versions.change(2)
    borrowed = steps_of(cache, registry, versions.seed(pantry))
    assert borrowed[0] > MIB // 2  # what is borrowed is done at once


def test_progress_of_a_small_pack_stays_within_its_total(
    pantry: Pantry, registry: FaultyTarget, cache: Cache, project: Project
) -> None:
    for path in project.out.rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(512))
    steps_of(cache, registry, pantry.seed([], str(project.contract)).uri)


class Sink:
    """A target that takes everything, and keeps nothing but digests."""

    name = "nowhere"
    conditional_tags = True

    def __init__(self) -> None:
        self.taken = set[str]()

    def tag_if(self, *_: object) -> bool:
        return True

    def fetch_tag(self, tag: str) -> None:
        return None

    def exists(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.taken

    def push(self, descriptor: Descriptor, content: bytes | BinaryIO) -> None:
        self.taken.add(descriptor.digest)


def test_memory_of_a_push_is_bounded(pantry: Pantry, project: Project) -> None:
    versions = Versions(project, 64 * MIB, files=4)
    uri = versions.seed(pantry)
    versions.files.clear()
    tracemalloc.start()
    try:
        push(context_of(pantry.cache, Sink()), uri)  # type: ignore[arg-type]  # nothing is fetched
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 * MIB


class Asked:
    """A target that has the layers in held, and notes which layers it is asked for."""

    def __init__(self, held: set[int]) -> None:
        self.held, self.asked = held, list[int]()

    def exists(self, descriptor: Descriptor) -> bool:
        self.asked.append(descriptor.size)
        return descriptor.size in self.held


def test_a_registry_is_asked_for_few_layers_of_a_new_pack() -> None:
    target = Asked(set())
    presence = Presence(target)  # type: ignore[arg-type]  # asked for exists() alone
    assert not any(presence.of(layer(number)) for number in range(400))
    assert len(target.asked) == ABSENT_RUN + (400 - ABSENT_RUN) // PROBE


def test_present_layers_after_many_new_ones_are_noticed_again() -> None:
    held = {number for number in range(400) if not 100 <= number < 150}
    presence = Presence(Asked(held))  # type: ignore[arg-type]
    sent = [number for number in range(400) if not presence.of(layer(number))]
    assert set(range(100, 150)) <= set(sent)
    assert len(sent) < 50 + PROBE


def test_questions_that_are_not_answered_yet_stop_no_other_question() -> None:
    """After a push that was cut, many layers are asked for at once, and all of them are there."""

    class Slow(Asked):
        def exists(self, descriptor: Descriptor) -> bool:
            if descriptor.size:
                assert presence.of(layer(descriptor.size - 1))
            return super().exists(descriptor)

    presence = Presence(Slow(set(range(2 * PROBE))))  # type: ignore[arg-type]
    assert presence.of(layer(2 * PROBE - 1))


def layer(number: int) -> Descriptor:
    return Descriptor(media_type="application/x", digest=digest_of(str(number).encode()), size=number)
