"""Pieces that cached packs hold are not fetched again, and no damage to those packs makes a pull wrong."""

from __future__ import annotations

import gc
import itertools
import os
import random
import shutil
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from pantry_context import context_of
from pantry_image import Image, image_of
from pantry_project import Project
from pantry_target import FaultyTarget, wait_until_idle

from ctxpack_bundle import PackManifest, Record, encode_table, layering, read_pack_manifest
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, hash_tree, hex_of, uri_digest
from ctxpack_oci import ImageManifest, encode_image_manifest
from ctxpack_pantry import Pantry, Settings, holdings, parts
from ctxpack_pantry.artifact import describe_table
from ctxpack_pantry.fetch import Fetched, fetch
from ctxpack_pantry.holdings import Held, Holdings
from ctxpack_pantry.kinship import kin_of
from ctxpack_pantry.settings import Setting
from ctxpack_pantry.tables import Tables

MIB = 1 << 20
SIZE = 4 * MIB  # bytes of the large files of a pack


class Version(NamedTuple):
    """A pack in the registry. outputs: their tree digest."""

    uri: CtxUri
    outputs: str
    image: Image

    @property
    def size(self) -> int:
        return self.image.size

    def cost(self, *cached: Version) -> int:
        """Bytes that must be fetched where these packs are cached."""
        known = {record.sha256 for version in cached for record in version.image.table}
        missing = [n for n, record in enumerate(self.image.table) if record.sha256 not in known]
        return self.image.head + self.image.cost(missing)


@pytest.fixture(autouse=True)
def _small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of some MiB have a dozen layers, and no gap is fetched with what surrounds it."""
    monkeypatch.setattr(layering, "_LEAST", 256 << 10)
    monkeypatch.setattr(parts, "_GAP", 1)


Publish = Callable[[str], Version]


@pytest.fixture
def publish(open_pantry: Callable[..., Pantry], project: Project, registry: FaultyTarget) -> Publish:
    """Make a pack of project.out in another cache, and push it. label: makes it another pack than the earlier ones."""

    def make(label: str) -> Version:
        maker = open_pantry("maker")
        project.write_contract(params={"version": label})
        uri = maker.seed([], str(project.contract)).uri
        maker.push(uri)
        return Version(uri, hash_tree(str(project.out)).digest, image_of(registry, uri))

    return make


def fill(project: Project) -> None:
    """Write four files of noise and 60 small files."""
    noise = random.Random(7)
    for number in range(4):
        (project.out / f"large-{number}").write_bytes(noise.randbytes(SIZE // 4))
    for number in range(60):
        (project.out / f"small-{number:02}").write_bytes(noise.randbytes(700))


def change(project: Project) -> None:
    """Change a few bytes in one place, and two small files that are neighbours."""
    with open(project.out / "large-2", "r+b") as file:
        file.seek(SIZE // 8)
        file.write(b"changed" * 1000)
    for number in (20, 21):
        (project.out / f"small-{number}").write_bytes(b"another")


class Published(NamedTuple):
    """Versions in the registry in folder: two that differ in one place, and the second one again. out: its outputs."""

    folder: Path
    uris: tuple[CtxUri, CtxUri, CtxUri]
    outputs: tuple[str, str, str]
    out: Path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A registry that no test changes."""
    root = tmp_path_factory.mktemp("published")
    project, target = Project(root / "project"), FaultyTarget(root / "registry")
    pantry = Pantry(Settings(Setting("", ""), Setting(str(root / "cache"), "")), target=target)
    uris: list[CtxUri] = []
    outputs: list[str] = []
    fill(project)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layering, "_LEAST", 256 << 10)
        for label in "123":
            if label == "2":
                change(project)
            project.write_contract(params={"version": label})
            uris.append(pantry.seed([], str(project.contract)).uri)
            pantry.push(uris[-1])
            outputs.append(hash_tree(str(project.out)).digest)
    return Published(root / "registry", (uris[0], uris[1], uris[2]), (outputs[0], outputs[1], outputs[2]), project.out)


@pytest.fixture
def all_versions(published: Published, registry: FaultyTarget) -> list[Version]:
    """Copies of all, in registry."""
    shutil.copytree(published.folder, registry.folder, copy_function=os.link, dirs_exist_ok=True)
    return [
        Version(uri, outputs, image_of(registry, uri))
        for uri, outputs in zip(published.uris, published.outputs, strict=True)
    ]


@pytest.fixture
def versions(all_versions: list[Version]) -> tuple[Version, Version]:
    """Two packs that differ in one place."""
    return all_versions[0], all_versions[1]


def fetched(cache: Cache, registry: FaultyTarget, version: Version) -> Fetched:
    """Fetch a pack, and check that its outputs are those of version."""
    pulled = fetch(context_of(cache, registry), version.uri)
    assert hash_tree(os.path.join(pulled.folder, "artifacts")).digest == version.outputs
    return pulled


def note(cache: Cache, version: Version) -> Path:
    """Return the path of the note of the pack's table, which there is once."""
    name = f"{hex_of(version.image.descriptor.digest)}-{hex_of(uri_digest(version.uri))}"
    [path] = Path(cache.side("tables")).rglob(name)
    return path


def test_a_small_change_costs_a_small_transfer(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before, after = versions
    assert fetched(cache, registry, before).received == before.size
    seen: list[tuple[int, int | None]] = []
    pulled = fetch(context_of(cache, registry, progress=lambda _, *step: seen.append(step)), after.uri)
    assert hash_tree(os.path.join(pulled.folder, "artifacts")).digest == after.outputs
    assert 0 < pulled.received == after.cost(before) <= 0.1 * after.size
    assert sum(step for step, _ in seen) == seen[-1][1] == pulled.received, "progress counts what is fetched"


def test_a_pack_whose_layers_are_partly_borrowed_costs_a_fresh_cache_all_of_them(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before, after = versions
    borrowed = {layer.digest for layer in before.image.layers[2:]} & {layer.digest for layer in after.image.layers[2:]}
    assert len(borrowed) > 3
    pulled = fetched(cache, registry, after)
    assert after.cost() <= pulled.received <= after.size
    assert fetched(cache, registry, before).received == before.cost(after)


@pytest.mark.parametrize("cached", [False, True], ids=["empty cache", "first version cached"])
def test_some_outputs_of_a_pack_with_borrowed_layers_are_picked(
    open_pantry: Callable[..., Pantry],
    published: Published,
    versions: tuple[Version, Version],
    tmp_path: Path,
    cached: bool,
) -> None:
    before, after = versions
    pantry = open_pantry("user")
    if cached:
        pantry.pull(before.uri)
    there = tmp_path / "there"
    picked = pantry.pull(after.uri, str(there), include=["large-2", "small-2*"])
    names = ["large-2", *(f"small-{number}" for number in range(20, 30))]
    assert sorted(path.name for path in there.iterdir()) == names
    assert all((there / name).read_bytes() == (published.out / name).read_bytes() for name in names)
    assert picked.received < after.size / (10 if cached else 2)


def test_pieces_of_a_pack_pushed_from_this_cache_are_not_fetched(
    project: Project, publish: Publish, pantry: Pantry, cache: Cache, registry: FaultyTarget
) -> None:
    fill(project)
    project.write_contract(params={"version": "mine"})
    pantry.push(pantry.seed([], str(project.contract)).uri)
    change(project)
    after = publish("2")
    assert fetched(cache, registry, after).received < after.size


def test_pieces_are_found_in_several_packs(
    project: Project, publish: Publish, cache: Cache, registry: FaultyTarget
) -> None:
    fill(project)
    first = publish("1")
    (project.out / "large-0").write_bytes(random.Random(8).randbytes(SIZE // 4))
    second = publish("2")
    change(project)
    both = publish("3")
    for version in (first, second):
        fetched(cache, registry, version)
    assert both.cost(first, second) < both.cost(first)
    assert fetched(cache, registry, both).received == both.cost(first, second)


def open_files() -> int:
    """How many files this process has open, once no transfer goes on."""
    wait_until_idle()
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def large(cache: Cache, version: Version, number: int) -> Path:
    folder = cache.find(uri_digest(version.uri))
    assert folder is not None
    path = Path(folder, "artifacts", f"large-{number}")
    path.chmod(0o644)
    path.parent.chmod(0o755)
    return path


def remove_file(path: Path) -> None:
    path.unlink()


def blank_file(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def cut_file(path: Path) -> None:
    os.truncate(path, 1000)


def remove_listing(path: Path) -> None:
    folder = path.parent.parent
    folder.chmod(0o755)
    (folder / "files.jsonl").unlink()


def damage_manifest(path: Path) -> None:
    manifest = path.parent.parent / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_bytes(b"{}")


@pytest.mark.parametrize("damage", [remove_file, blank_file, cut_file, remove_listing])
def test_a_damaged_cached_pack_does_not_make_a_pull_wrong(
    cache: Cache,
    registry: FaultyTarget,
    versions: tuple[Version, Version],
    leftovers: Callable[[], list[str]],
    damage: Callable[[Path], None],
) -> None:
    """Then everything is fetched, and progress counts every byte that came."""
    before, after = versions
    fetched(cache, registry, before)
    damage(large(cache, before, 3))
    seen: list[tuple[int, int | None]] = []
    opened = open_files()
    pulled = fetch(context_of(cache, registry, progress=lambda _, *step: seen.append(step)), after.uri)
    assert hash_tree(os.path.join(pulled.folder, "artifacts")).digest == after.outputs
    assert after.cost() <= pulled.received <= after.size + after.cost(before)
    assert sum(step for step, _ in seen) == seen[-1][1] == pulled.received
    assert leftovers() == []
    assert open_files() == opened


def test_nothing_is_held_of_a_cached_pack_whose_manifest_is_damaged(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    damage_manifest(large(cache, before, 3))
    assert fetched(cache, registry, after).received == after.cost()


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("method", ["fetch", "fetch_range"])
def test_a_pull_succeeds_when_a_pack_is_removed_meanwhile(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], method: str, number: int
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    opened = open_files()
    removed: list[bool] = []
    registry.after(method, number, lambda: removed.append(cache.remove(uri_digest(before.uri)) is None))
    assert fetched(cache, registry, after).received <= after.size + after.cost(before)
    assert len(removed) == (number < registry.count(method))
    assert open_files() == opened


@pytest.mark.parametrize("number", [0, 1, 10, 35])
def test_a_pull_succeeds_when_a_pack_is_damaged_before_any_of_its_pieces_is_read(
    cache: Cache,
    registry: FaultyTarget,
    versions: tuple[Version, Version],
    leftovers: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    read, pieces, opened = Held.piece, itertools.count(), open_files()

    def piece(held: Held, record: Record) -> bytes:
        if next(pieces) == number:
            for place in range(4):
                blank_file(large(cache, before, place))
        return read(held, record)

    monkeypatch.setattr(Held, "piece", piece)
    received = fetched(cache, registry, after).received
    assert next(pieces) > number
    assert received > after.cost(before)
    assert leftovers() == []
    assert open_files() == opened


def test_a_piece_of_a_pack_that_was_removed_must_be_fetched(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before = versions[0]
    fetched(cache, registry, before)
    record = before.image.table[9]
    with closing(Holdings(cache).hold(before.image.table)) as held:
        assert held.has(record)
        assert held.complete
        cache.remove(uri_digest(before.uri))
        with pytest.raises(IntegrityError, match="a pack of the cache is damaged, or was removed"):
            held.piece(record)
        assert held.failed


def test_every_held_piece_is_what_its_record_says(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    known = {record.sha256 for record in before.image.table}
    opened = open_files()
    with closing(Holdings(cache).hold(after.image.table)) as held:
        for number, record in enumerate(after.image.table):
            assert held.has(record) == (record.sha256 in known)
            assert not held.has(record) or held.piece(record) == after.image.piece(number)
        assert not held.complete
    assert open_files() == opened


def test_a_pack_that_is_closed_is_not_opened_again(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    """A thread that is late must not leave a file open."""
    before = versions[0]
    fetched(cache, registry, before)
    opened = open_files()
    held = Holdings(cache).hold(before.image.table)
    held.piece(before.image.table[9])
    held.close()
    with pytest.raises(IntegrityError):
        held.piece(before.image.table[9])
    assert open_files() == opened


def test_the_table_of_a_removed_pack_holds_nothing(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    """But it stays: its layers can still be borrowed."""
    before, after = versions
    fetched(cache, registry, before)
    assert Holdings(cache).any()
    cache.remove(uri_digest(before.uri))
    assert not Holdings(cache).any()
    assert fetched(cache, registry, after).received <= after.size
    assert note(cache, before).exists()


def flipped(data: bytes) -> bytes:
    return data[:60] + bytes([data[60] ^ 1]) + data[61:]


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], lambda data: data[:40], flipped, lambda data: data * 2000],
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
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        (folder / "a folder").mkdir()
        (folder / "a file").write_text("-")
    assert fetched(cache, registry, after).received == after.cost()


def test_a_note_about_another_pack_is_ignored(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], all_versions: list[Version]
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    fetched(cache, registry, after)
    note(cache, before).write_bytes(note(cache, after).read_bytes())
    note(cache, after).unlink()
    third = all_versions[2]
    assert fetched(cache, registry, third).received == third.cost()


def forge_note(cache: Cache, version: Version, manifest: PackManifest, table: bytes) -> None:
    """Note this table of a pack, with an image manifest that names it."""
    image = version.image.manifest
    first, _, *others = image.layers
    forged = ImageManifest(
        artifact_type=image.artifact_type, config=image.config, layers=(first, describe_table(table), *others)
    )
    note(cache, version).unlink()
    Tables(cache).record(version.uri, "the registry", kin_of(manifest.contract), encode_image_manifest(forged), table)


def test_a_wrong_note_with_right_digests_costs_a_second_attempt(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before, after = versions
    manifest = read_pack_manifest(fetched(cache, registry, before).folder)
    forge_note(cache, before, manifest, encode_table(reversed(before.image.table)))
    assert fetched(cache, registry, after).received >= after.cost()


def test_a_note_of_an_image_without_a_table_is_ignored(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version]
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    image = before.image.manifest
    data = encode_image_manifest(ImageManifest(artifact_type="", config=image.config, layers=image.layers[:1]))
    old = note(cache, before)
    Tables(cache).record(before.uri, "the registry", old.parent.name, data, b"")
    old.unlink()
    assert fetched(cache, registry, after).received == after.cost()


def test_a_pull_from_a_damaged_registry_fails_although_chunks_are_held(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], leftovers: Callable[[], list[str]]
) -> None:
    before, after = versions
    fetched(cache, registry, before)
    known = {record.sha256 for record in before.image.table}
    record = next(record for record in after.image.table if record.sha256 not in known)
    layer = after.image.layers[record.layer]
    registry.flip(layer.digest, record.offset + record.chunk_size // 2)
    with pytest.raises(IntegrityError, match=rf"digest differs|layer {record.layer}, {layer.digest}, at"):
        fetched(cache, registry, after)
    assert cache.find(uri_digest(after.uri)) is None
    assert leftovers() == []


def test_a_pull_succeeds_when_no_note_can_be_written(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], leftovers: Callable[[], list[str]]
) -> None:
    Path(cache.side("tables")).parent.mkdir(parents=True)
    Path(cache.side("tables")).write_text("not a folder")
    for version in versions:
        assert fetched(cache, registry, version).received == version.size
    assert leftovers() == []


def test_only_the_newest_packs_are_searched(
    cache: Cache, registry: FaultyTarget, versions: tuple[Version, Version], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packs that are not cached any more do not count."""
    before, after = versions
    fetched(cache, registry, before)
    fetched(cache, registry, after)
    os.utime(note(cache, before), (1, 1))
    monkeypatch.setattr(holdings, "_RECENT", 1)
    for newest in (after, before):
        known = {record.sha256 for record in newest.image.table}
        with closing(Holdings(cache).hold(before.image.table)) as held:
            assert all(held.has(record) == (record.sha256 in known) for record in before.image.table)
        cache.remove(uri_digest(newest.uri))


def test_several_pulls_at_once_take_pieces_from_one_pack(
    tmp_path: Path,
    registry: FaultyTarget,
    versions: tuple[Version, Version],
    all_versions: list[Version],
    leftovers: Callable[[], list[str]],
) -> None:
    before, after = versions
    third = all_versions[2]
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
