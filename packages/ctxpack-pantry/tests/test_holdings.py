"""Chunks that cached packs hold are not fetched again, and no damage to those packs makes a pull wrong."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from pantry_context import context_of

from ctxpack_bundle import read_pack_manifest
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, hash_tree, uri_digest
from ctxpack_oci import Descriptor
from ctxpack_pantry import Pantry
from ctxpack_pantry.artifact import content_size
from ctxpack_pantry.fetch import Fetched, fetch
from ctxpack_pantry.holdings import Holdings
from ctxpack_pantry.lookup import locate

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget

MIB = 1 << 20


class Version(NamedTuple):
    """A pack in the registry. outputs: their tree digest; chunks: its layers."""

    uri: CtxUri
    outputs: str
    chunks: tuple[Descriptor, ...]

    @property
    def size(self) -> int:
        return sum(chunk.size for chunk in self.chunks)


Publish = Callable[[str], Version]


@pytest.fixture
def publish(open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget) -> Publish:
    """Make a pack of project.out in another cache, and push it. label: makes it another pack than the earlier ones."""

    def make(label: str) -> Version:
        maker = open_pantry("maker")
        project.write_contract(params={"version": label})
        uri = maker.seed([], str(project.contract)).uri
        maker.push(uri)
        located = locate(registry, uri)
        assert located is not None
        return Version(uri, hash_tree(str(project.out)).digest, located.chunks)

    return make


def fill(project: Project, size: int) -> None:
    """Write four files of noise, size bytes together, and 300 small files."""
    noise = random.Random(7)
    for number in range(4):
        (project.out / f"large-{number}").write_bytes(noise.randbytes(size // 4))
    for number in range(300):
        (project.out / f"small-{number:03}").write_bytes(noise.randbytes(700))


def change(project: Project) -> None:
    """Change a few bytes in one place, and two small files that are neighbours."""
    with open(project.out / "large-2", "r+b") as file:
        file.seek(4 * MIB)
        file.write(b"changed" * 1000)
    for number in (100, 101):
        (project.out / f"small-{number}").write_bytes(b"another")


@pytest.fixture
def versions(project: Project, publish: Publish) -> tuple[Version, Version]:
    """Two packs that differ in one place."""
    fill(project, 32 * MIB)
    before = publish("1")
    change(project)
    return before, publish("2")


def fetched(cache: Cache, registry: FaultyTarget, version: Version) -> Fetched:
    """Fetch a pack, and check that its outputs are those of version."""
    pulled = fetch(context_of(cache, registry), version.uri)
    assert hash_tree(os.path.join(pulled.folder, "artifacts")).digest == version.outputs
    return pulled


def note(cache: Cache, version: Version) -> Path:
    return Path(cache.side("chunks"), uri_digest(version.uri).removeprefix("sha256:"))


def sizes(chunks: Iterable[Descriptor]) -> list[int]:
    return [content_size(chunk, where="test") for chunk in chunks]


def test_a_small_change_costs_a_small_transfer(
    project: Project, publish: Publish, cache: Cache, registry: FaultyTarget
) -> None:
    fill(project, 64 * MIB)
    before = publish("1")
    change(project)
    after = publish("2")
    assert fetched(cache, registry, before).received == before.size
    calls = len(registry.calls)
    steps: list[int] = []
    pulled = fetch(context_of(cache, registry, progress=lambda _, step, __: steps.append(step)), after.uri)
    assert hash_tree(os.path.join(pulled.folder, "artifacts")).digest == after.outputs
    assert 0 < pulled.received <= 0.15 * after.size
    assert sum(steps) == after.size, "progress counts held chunks too"
    known = {chunk.digest for chunk in before.chunks}
    asked = {call.subject for call in registry.calls[calls:] if call.method == "fetch"}
    assert asked.isdisjoint(known)
    assert pulled.received == sum(chunk.size for chunk in after.chunks if chunk.digest not in known)


def test_chunks_of_a_pack_pushed_from_this_cache_are_not_fetched(
    project: Project, publish: Publish, pantry: Pantry, cache: Cache, registry: FaultyTarget
) -> None:
    fill(project, 16 * MIB)
    project.write_contract(params={"version": "mine"})
    pantry.push(pantry.seed([], str(project.contract)).uri)
    change(project)
    after = publish("2")
    assert fetched(cache, registry, after).received < after.size


def test_chunks_are_found_in_several_packs(
    project: Project, publish: Publish, cache: Cache, registry: FaultyTarget
) -> None:
    fill(project, 32 * MIB)
    first = publish("1")
    (project.out / "large-0").write_bytes(random.Random(8).randbytes(8 * MIB))
    second = publish("2")
    change(project)
    both = publish("3")
    for version in (first, second):
        fetched(cache, registry, version)
    cached = {chunk.digest for version in (first, second) for chunk in version.chunks}
    missing = sum(chunk.size for chunk in both.chunks if chunk.digest not in cached)
    assert fetched(cache, registry, both).received == missing


def large(cache: Cache, version: Version, number: int) -> Path:
    folder = cache.find(uri_digest(version.uri))
    assert folder is not None
    path = Path(folder, "artifacts", f"large-{number}")
    path.chmod(0o644)
    path.parent.chmod(0o755)
    return path


def test_a_damaged_cached_pack_does_not_make_a_pull_wrong(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], leftovers: Callable[[], list[str]]
) -> None:
    """Unpacking finds other bytes of the same size; then everything is fetched, and progress counts it once."""
    before, after = versions
    fetched(cache, registry, before)
    path = large(cache, before, 3)
    path.write_bytes(bytes(path.stat().st_size))
    steps: list[int] = []
    pulled = fetch(context_of(cache, registry, progress=lambda _, step, __: steps.append(step)), after.uri)
    assert hash_tree(os.path.join(pulled.folder, "artifacts")).digest == after.outputs
    assert pulled.received >= after.size
    assert sum(steps) == after.size
    assert leftovers() == []


def test_a_missing_file_of_a_cached_pack_costs_only_its_chunks(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    large(cache, before, 0).unlink()
    received = fetched(cache, registry, after).received
    assert 8 * MIB - 512 * 1024 < received < after.size


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_pull_succeeds_when_a_pack_is_removed_meanwhile(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], number: int
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    registry.after("fetch", number, lambda: cache.remove(uri_digest(before.uri)))
    assert fetched(cache, registry, after).received <= after.size
    assert cache.find(uri_digest(before.uri)) is None


def test_a_chunk_of_a_pack_that_was_removed_must_be_fetched(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before = versions[0]
    fetched(cache, registry, before)
    chunk = before.chunks[2]
    held = Holdings(cache).hold({chunk.digest})
    cache.remove(uri_digest(before.uri))
    assert held.piece(chunk.digest, *sizes([chunk])) is None
    assert not held.used
    held.close()


def test_the_note_of_a_removed_pack_is_removed(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    assert note(cache, before).exists()
    cache.remove(uri_digest(before.uri))
    assert fetched(cache, registry, after).received == after.size
    assert os.listdir(cache.side("chunks")) == [note(cache, after).name]


def flipped(data: bytes) -> bytes:
    return data[:60] + bytes([data[60] ^ 1]) + data[61:]


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], lambda data: data[:40], flipped, lambda data: data * 20_000],
    ids=["empty", "last byte", "cut short", "one bit", "endless"],
)
def test_a_damaged_note_is_ignored(
    cache: Cache,
    registry: FaultyTarget,
    versions: tuple[Version, Version],
    damage: Callable[[bytes], bytes],
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    path = note(cache, before)
    path.write_bytes(damage(path.read_bytes()))
    (path.parent / "a folder").mkdir()
    assert fetched(cache, registry, after).received == after.size


def test_a_note_about_another_pack_is_ignored(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], publish: Publish
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    fetched(cache, registry, after)
    note(cache, before).write_bytes(note(cache, after).read_bytes())
    note(cache, after).unlink()
    third = publish("3")
    assert fetched(cache, registry, third).received == third.size


def test_a_wrong_note_with_a_right_checksum_costs_a_second_attempt(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before, after = versions
    manifest = read_pack_manifest(fetched(cache, registry, before).folder)
    first, *others = before.chunks
    Holdings(cache).record(manifest, [first, *reversed(others)])
    assert fetched(cache, registry, after).received >= after.size


def test_a_pull_from_a_damaged_registry_fails_although_chunks_are_held(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], leftovers: Callable[[], list[str]]
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    known = {chunk.digest for chunk in before.chunks}
    new = [chunk for chunk in after.chunks if chunk.digest not in known]
    registry.flip(new[-1].digest, new[-1].size // 2)
    with pytest.raises(IntegrityError, match="digest differs"):
        fetched(cache, registry, after)
    assert cache.find(uri_digest(after.uri)) is None
    assert leftovers() == []


def test_a_pull_succeeds_when_no_note_can_be_written(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], leftovers: Callable[[], list[str]]
) -> None:
    Path(cache.side("chunks")).parent.mkdir(parents=True)
    Path(cache.side("chunks")).write_text("not a folder")
    for version in versions:
        assert fetched(cache, registry, version).received == version.size
    assert leftovers() == []


@pytest.mark.parametrize(("newer", "asked"), [(15, True), (16, False)])
def test_only_the_newest_notes_are_read(
    tmp_path: Path, cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], newer: int, asked: bool
) -> None:
    before = versions[0]
    fetched(cache, registry, before)
    os.utime(note(cache, before), (1, 1))
    for number in range(newer):
        name = f"{number:064x}"
        (tmp_path / "cache/v1/packs" / name).mkdir()
        Path(cache.side("chunks"), name).write_bytes(b"")
    chunk = before.chunks[2]
    held = Holdings(cache).hold({chunk.digest})
    assert (held.piece(chunk.digest, *sizes([chunk])) is not None) is asked
    held.close()


def test_several_pulls_at_once_take_chunks_from_one_pack(
    tmp_path: Path,
    registry: FaultyTarget,
    versions: tuple[Version, Version],
    publish: Publish,
    leftovers: Callable[[], list[str]],
) -> None:
    before, after = versions
    third = publish("3")
    fetched(Cache(tmp_path / "cache"), registry, before)
    done: dict[CtxUri, int] = {}

    def work(version: Version) -> None:
        received = fetched(Cache(tmp_path / "cache"), registry, version).received
        done[version.uri] = done.get(version.uri, 0) + received

    threads = [threading.Thread(target=work, args=(version,)) for version in (after, third, after, third)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done.keys() == {after.uri, third.uri}
    assert all(0 < received < after.size / 2 for received in done.values())
    assert leftovers() == []


def test_a_pull_returns_the_bytes_that_it_fetched(pantry: Pantry, versions: tuple[Version, Version]) -> None:
    before, after = versions
    assert pantry.pull(before.uri).received == before.size
    assert 0 < pantry.pull(after.uri).received < after.size
    assert pantry.pull(after.uri).received == 0
