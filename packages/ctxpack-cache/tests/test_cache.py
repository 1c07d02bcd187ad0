"""What each method does, and how it refuses wrong arguments."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ctxpack_cache
from ctxpack_cache import Cache, CachedPack, Size
from ctxpack_identity.digest import Digest, digest_of, hex_of
from ctxpack_identity.errors import InvalidInput, LocalFailure, NotFound

KEY = digest_of(b"a contract")
OTHER = digest_of(b"another contract")

Fill = Callable[[str], None]


def publish(cache: Cache, key: Digest, fill: Fill) -> str:
    with cache.staging() as folder:
        fill(folder)
        return cache.publish(key, folder)


def modes(folder: str) -> dict[str, str]:
    found = [Path(folder), *Path(folder).rglob("*")]
    return {str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode)) for path in found}


def test_the_public_names_are_these() -> None:
    assert sorted(ctxpack_cache.__all__) == ["Cache", "CachedPack", "Size"]


def test_a_cache_without_packs_is_read_without_writing(cache: Cache, tmp_path: Path) -> None:
    assert cache.find(KEY) is None
    assert list(cache.packs()) == []
    assert cache.remove(KEY) is False
    assert cache.sweep() == 0
    assert os.listdir(tmp_path) == []


def test_a_published_pack_is_found_where_the_layout_says(cache: Cache, tmp_path: Path, fill: Fill) -> None:
    path = publish(cache, KEY, fill)
    assert path == cache.find(KEY) == str(tmp_path / "cache" / "v1" / "packs" / hex_of(KEY))
    assert cache.find(OTHER) is None
    assert sorted(os.listdir(tmp_path / "cache")) == ["CACHEDIR.TAG", "v1"]
    assert sorted(os.listdir(tmp_path / "cache" / "v1")) == ["locks", "packs", "prints", "staging", "used"]


def test_the_folder_is_tagged_for_backup_programs_once(cache: Cache, tmp_path: Path) -> None:
    tag = tmp_path / "cache" / "CACHEDIR.TAG"
    with cache.staging():
        assert tag.read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    tag.write_text("text of the user")
    with cache.staging():
        assert tag.read_text() == "text of the user"


def test_a_published_pack_is_read_only_and_programs_stay_executable(cache: Cache, fill: Fill) -> None:
    assert modes(publish(cache, KEY, fill)) == {
        ".": "0o555",
        "artifacts": "0o555",
        "artifacts/deep": "0o555",
        "artifacts/deep/empty": "0o555",
        "artifacts/deep/text": "0o444",
        "artifacts/program": "0o555",
        "manifest.json": "0o444",
    }


def test_the_first_publication_of_a_key_wins(
    cache: Cache, tmp_path: Path, fill: Fill, leftovers: Callable[[Path], list[str]]
) -> None:
    first = publish(cache, KEY, fill)
    with cache.staging() as folder:
        Path(folder, "manifest.json").write_text("second")
        second = cache.publish(KEY, folder)
    assert second == first
    assert Path(second, "manifest.json").read_text() == "{}"
    assert leftovers(tmp_path / "cache") == []


def test_packs_are_listed_by_key_with_the_time_of_publication(cache: Cache, tmp_path: Path, fill: Fill) -> None:
    before = time.time()
    paths = {key: publish(cache, key, fill) for key in (KEY, OTHER)}
    folder = tmp_path / "cache" / "v1" / "packs"
    (folder / "README").mkdir()
    (folder / ("A" * 64)).mkdir()
    (folder / ("0" * 64)).write_text("no folder")
    (folder / ("1" * 64)).symlink_to(paths[KEY])
    packs = list(cache.packs())
    assert [(pack.key, pack.path) for pack in packs] == sorted(paths.items())
    assert all(before - 1 < pack.published < time.time() + 1 for pack in packs)


def test_only_a_folder_is_a_hit(cache: Cache, tmp_path: Path, fill: Fill) -> None:
    path = Path(publish(cache, OTHER, fill))
    path.with_name(hex_of(KEY)).symlink_to(path)
    assert cache.find(KEY) is None


def test_a_side_folder_is_next_to_the_packs_and_never_changed(cache: Cache, tmp_path: Path, fill: Fill) -> None:
    side = cache.side("notes")
    assert side == str(tmp_path / "cache/v1/notes")
    assert not Path(side).exists()
    os.makedirs(side)
    publish(cache, KEY, fill)
    with cache.staging() as staging:
        Path(staging, "note").write_text("text")
        os.rename(os.path.join(staging, "note"), os.path.join(side, "note"))
    assert [pack.key for pack in cache.packs()] == [KEY]
    assert cache.remove(KEY)
    assert Path(side, "note").read_text() == "text"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a-b", "\u00e9", "packs", "staging", "locks", "prints", "used", "damaged"]
)
def test_a_wrong_name_for_a_side_folder_is_refused(cache: Cache, name: str) -> None:
    with pytest.raises(
        InvalidInput,
        match="side folder: expected ASCII letters and digits, but not packs, staging, locks, prints, used or damaged",
    ):
        cache.side(name)


def test_size_counts_files_and_their_bytes(cache: Cache, fill: Fill) -> None:
    publish(cache, KEY, fill)
    (pack,) = cache.packs()
    assert cache.size_of(pack) == Size(bytes=len("{}" + "words" + "#!/bin/sh\n"), files=3)


def test_the_size_of_a_removed_pack_is_not_found(cache: Cache, tmp_path: Path) -> None:
    gone = CachedPack(KEY, str(tmp_path / "gone"), 0.0, 0.0)
    with pytest.raises(NotFound) as caught:
        cache.size_of(gone)
    assert str(caught.value) == f"{tmp_path}/gone: the pack was removed from the cache"


def test_remove_returns_whether_the_pack_was_there(
    cache: Cache, tmp_path: Path, fill: Fill, leftovers: Callable[[Path], list[str]]
) -> None:
    publish(cache, KEY, fill)
    publish(cache, OTHER, fill)
    assert cache.remove(KEY) is True
    assert cache.remove(KEY) is False
    assert [pack.key for pack in cache.packs()] == [OTHER]
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize(
    "key", ["", "sha256:", "sha256:../../../x", "sha256:" + "A" * 64, "0" * 64, "sha512:" + "0" * 64]
)
def test_a_key_that_is_not_a_digest_never_becomes_a_path(cache: Cache, tmp_path: Path, key: str) -> None:
    bad = Digest(key)
    calls: list[Callable[[], object]] = [
        lambda: cache.find(bad),
        lambda: cache.lock(bad),
        lambda: cache.remove(bad),
        lambda: cache.publish(bad, str(tmp_path)),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="cache key: not a digest"):
            call()
    assert os.listdir(tmp_path) == []


def test_only_a_staging_folder_of_this_cache_is_published(cache: Cache, tmp_path: Path, fill: Fill) -> None:
    other = tmp_path / "my-work"
    other.mkdir()
    fill(str(other))
    before = modes(str(other))
    with pytest.raises(InvalidInput) as caught:
        cache.publish(KEY, str(other))
    assert str(caught.value) == f"{other}: not a staging folder of this cache; use staging()"
    assert modes(str(other)) == before


def test_a_pack_with_a_link_is_refused_and_the_linked_file_unchanged(cache: Cache, tmp_path: Path, fill: Fill) -> None:
    linked = tmp_path / "linked"
    linked.write_text("text")
    linked.chmod(0o640)
    with cache.staging() as folder:
        fill(folder)
        link = Path(folder, "artifacts", "link")
        link.symlink_to(linked)
        with pytest.raises(InvalidInput) as caught:
            cache.publish(KEY, folder)
    assert str(caught.value) == (
        f"{link}: a pack holds only files and folders: got file type 'l'; remove it from the pack"
    )
    assert cache.find(KEY) is None
    assert stat.S_IMODE(linked.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text("a file"), lambda path: path.symlink_to("..")], ids=["file", "link"]
)
def test_a_file_or_link_at_the_path_of_a_pack_is_a_miss_and_gives_way(
    cache: Cache, tmp_path: Path, fill: Fill, make: Callable[[Path], object]
) -> None:
    with cache.staging():
        pass
    place = tmp_path / "cache" / "v1" / "packs" / hex_of(KEY)
    make(place)
    assert cache.find(KEY) is None
    assert cache.remove(KEY) is False
    assert not os.path.lexists(place)
    make(place)
    assert publish(cache, KEY, fill) == str(place)
    assert place.is_dir()
    assert not place.is_symlink()


def test_a_root_that_is_a_file_is_a_miss_and_cannot_be_filled(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    assert cache.find(KEY) is None
    with pytest.raises(LocalFailure, match="cannot make the cache: Not a directory; check the disk"):
        cache.staging()


@pytest.mark.parametrize("purpose", ["", "../x", "a/b", "a b", "é"])
def test_a_lock_purpose_with_other_characters_is_refused(cache: Cache, purpose: str) -> None:
    with pytest.raises(InvalidInput, match="not a lock purpose: expected ASCII letters and digits"):
        cache.lock(KEY, purpose)


def test_the_keys_are_those_of_published_packs_and_of_such_that_were_set_aside(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.keys() == []
    keys = [digest_of(bytes([number])) for number in range(3)]
    for key in keys:
        with cache.staging() as staging:
            Path(staging, "file").write_text("x")
            cache.publish(key, staging)
    cache.set_aside(keys[1])
    (tmp_path / "cache/v1/packs/other").mkdir()
    assert cache.keys() == sorted(keys)
    for key in keys:
        assert cache.remove(key)
    assert cache.keys() == []
