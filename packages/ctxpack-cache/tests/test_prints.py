"""A pack that changed since it was published, or last read, is not as published; a damaged one is set aside."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxpack_cache import Cache
from ctxpack_cache.tree import seal_tree
from ctxpack_identity.digest import Digest, digest_of, hex_of
from ctxpack_identity.errors import InvalidInput, NotFound
from ctxpack_identity.hashing import filesystem

KEY = digest_of(b"a contract")
OTHER = digest_of(b"another contract")
NOBODY = 65534

Fill = Callable[[str], None]
Contents = Callable[[str], dict[str, str]]
Spawn = Callable[[Callable[[], object]], Any]
Leftovers = Callable[[Path], list[str]]


def publish(cache: Cache, fill: Fill, key: Digest = KEY) -> Path:
    with cache.staging() as folder:
        fill(folder)
        return Path(cache.publish(key, folder))


def kept(cache: Cache, key: Digest = KEY) -> Path:
    return Path(cache.root, "v1", "prints", hex_of(key))


def flip_a_bit(file: Path) -> None:
    """Change the content and nothing that a program can set: neither size, mtime nor mode."""
    before = file.stat()
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    file.chmod(stat.S_IMODE(before.st_mode))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # a coarse clock has to move first
        file.chmod(stat.S_IMODE(before.st_mode))


@pytest.fixture(params=["local", "network"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A test runs as on a local and as on a network file system."""
    monkeypatch.setattr(filesystem, "is_local", lambda path: request.param == "local")
    return str(request.param)


def test_a_published_pack_is_as_published_and_has_a_print(
    cache: Cache, tmp_path: Path, fill: Fill, kind: str, leftovers: Leftovers
) -> None:
    assert not cache.is_as_published(KEY)
    publish(cache, fill)
    assert cache.is_as_published(KEY)
    assert not cache.is_as_published(OTHER)
    assert re.fullmatch(rf"{kind} [0-9a-f]{{64}}\n", kept(cache).read_text())
    assert leftovers(tmp_path / "cache") == []


def test_a_pack_that_changes_as_soon_as_others_see_it_is_not_as_published(cache: Cache, fill: Fill, run: Spawn) -> None:
    """The print is that of the sealed folder, not of what lies at its name after the rename."""

    def work() -> tuple[bool, bool]:
        seen: list[str] = []

        def hook(event: str, arguments: Any) -> None:
            if event == "os.chmod" and f"packs/{hex_of(KEY)}" in str(arguments[0]) and not seen:
                seen.append("the pack was renamed, and is about to become read-only")
                os.utime(os.path.join(arguments[0], "manifest.json"), (1, 1))

        sys.addaudithook(hook)
        publish(cache, fill)
        return bool(seen), cache.is_as_published(KEY)

    assert run(work) == (0, "(True, False)")


def test_neither_its_place_nor_the_mode_of_its_folder_changes_a_pack(
    cache: Cache, tmp_path: Path, fill: Fill, kind: str
) -> None:
    publish(cache, fill).chmod(0o755)
    (tmp_path / "cache").rename(tmp_path / "moved")
    assert Cache(tmp_path / "moved").is_as_published(KEY)


@pytest.mark.parametrize(
    "damage",
    [
        lambda pack: os.utime(pack / "manifest.json", (1, 1)),
        lambda pack: ((pack / "artifacts").chmod(0o755), (pack / "artifacts" / "program").unlink()),
        lambda pack: (pack.chmod(0o755), (pack / "new").touch()),
        lambda pack: (pack.parent.chmod(0o755), pack.rename(pack.with_name("gone"))),
        lambda pack: (pack.rename(pack.with_name("gone")), pack.mkdir()),
        lambda pack: (pack.rename(pack.with_name("gone")), pack.symlink_to("gone")),
    ],
    ids=["touched", "a file is gone", "a new file", "gone", "empty", "a link"],
)
def test_a_pack_that_changed_is_not_as_published(
    cache: Cache, fill: Fill, kind: str, damage: Callable[[Path], object]
) -> None:
    damage(publish(cache, fill))
    assert not cache.is_as_published(KEY)


def test_a_bit_flipped_by_a_program_that_hides_it_shows_on_local_file_systems(
    cache: Cache, fill: Fill, kind: str
) -> None:
    flip_a_bit(publish(cache, fill) / "artifacts" / "deep" / "text")
    assert cache.is_as_published(KEY) is (kind == "network")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.unlink(),
        lambda file: (file.unlink(), file.mkdir()),
        lambda file: file.write_text(""),
        lambda file: file.write_text(file.read_text()[:30]),
        lambda file: file.write_text(file.read_text().removeprefix("local")),
        lambda file: file.write_text(file.read_text().replace("local", "network")),
        lambda file: file.write_text(file.read_text().replace("local", "fast")),
        lambda file: file.write_text(file.read_text() + "more"),
        lambda file: file.write_bytes(bytes(range(256))),
    ],
    ids=["gone", "a folder", "empty", "torn", "no kind", "other kind", "unknown kind", "more", "no text"],
)
def test_a_print_that_is_missing_or_wrong_is_made_anew_by_confirm(
    cache: Cache, fill: Fill, spoil: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "is_local", lambda path: True)
    publish(cache, fill)
    spoil(kept(cache))
    assert not cache.is_as_published(KEY)
    cache.confirm(KEY, cache.fingerprint_of(KEY))
    assert cache.is_as_published(KEY) is not kept(cache).is_dir()


@pytest.mark.parametrize("how", ["another user's", "group-writable", "writable by all", "a link", "a pipe"])
def test_a_print_that_somebody_else_could_have_written_does_not_count(
    cache: Cache, tmp_path: Path, fill: Fill, how: str
) -> None:
    publish(cache, fill)
    assert cache.is_as_published(KEY)
    path = kept(cache)
    if how == "another user's":
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        os.chown(path, NOBODY, NOBODY)
    elif how == "a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif how == "a pipe":
        path.unlink()
        os.mkfifo(path, 0o644)
    else:
        path.chmod(0o664 if how == "group-writable" else 0o646)
    assert not cache.is_as_published(KEY)
    cache.confirm(KEY, cache.fingerprint_of(KEY))
    assert cache.is_as_published(KEY)


def test_a_print_is_for_no_group_whatever_the_umask(cache: Cache, fill: Fill) -> None:
    before = os.umask(0o002)
    try:
        publish(cache, fill)
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept(cache).stat().st_mode) == 0o644
    assert cache.is_as_published(KEY)


def test_a_pack_that_was_read_is_confirmed_although_it_was_touched(
    cache: Cache, tmp_path: Path, fill: Fill, kind: str, leftovers: Leftovers
) -> None:
    os.utime(publish(cache, fill) / "manifest.json", (1, 1))
    before = cache.fingerprint_of(KEY)
    cache.confirm(KEY, before)
    assert cache.is_as_published(KEY)
    assert leftovers(tmp_path / "cache") == []
    made = kept(cache).stat().st_ino
    cache.confirm(KEY, before)
    assert kept(cache).stat().st_ino == made, "written although nothing changed"


def test_a_pack_that_changed_while_it_was_read_is_not_confirmed(cache: Cache, fill: Fill, kind: str) -> None:
    file = publish(cache, fill) / "manifest.json"
    before = cache.fingerprint_of(KEY)
    os.utime(file, (1, 1))
    cache.confirm(KEY, before)
    assert not cache.is_as_published(KEY)


def test_a_pack_that_was_replaced_while_it_was_read_is_not_confirmed(cache: Cache, fill: Fill, kind: str) -> None:
    publish(cache, fill)
    before = cache.fingerprint_of(KEY)
    cache.remove(KEY)

    def fill_otherwise(folder: str) -> None:
        fill(folder)
        os.utime(os.path.join(folder, "manifest.json"), (1, 1))

    publish(cache, fill_otherwise)
    assert cache.is_as_published(KEY)
    cache.confirm(KEY, before)
    assert not cache.is_as_published(KEY)


def test_a_pack_that_was_removed_while_it_was_read_leaves_no_print(cache: Cache, fill: Fill) -> None:
    publish(cache, fill)
    before = cache.fingerprint_of(KEY)
    cache.remove(KEY)
    cache.confirm(KEY, before)
    assert os.listdir(kept(cache).parent) == []
    with pytest.raises(NotFound, match="the pack was removed from the cache"):
        cache.fingerprint_of(KEY)


def test_a_pack_set_aside_is_a_miss_and_can_be_published_again(
    cache: Cache, tmp_path: Path, fill: Fill, contents: Contents, leftovers: Leftovers
) -> None:
    whole = contents(str(publish(cache, fill)))
    moved = cache.set_aside(KEY)
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/cache/v1/damaged/{hex_of(KEY)}-[0-9a-f]{{8}}", moved)
    assert contents(moved) == whole
    assert cache.find(KEY) is None
    assert list(cache.packs()) == []
    assert not kept(cache).exists()
    with pytest.raises(NotFound, match=f"{hex_of(KEY)}: the pack was removed from the cache"):
        cache.set_aside(KEY)
    publish(cache, fill)
    assert cache.is_as_published(KEY)
    assert os.path.isdir(moved)
    assert leftovers(tmp_path / "cache") == []


def test_of_each_key_one_pack_is_kept_aside(cache: Cache, tmp_path: Path, fill: Fill, leftovers: Leftovers) -> None:
    publish(cache, fill, OTHER)
    moved = {cache.set_aside(OTHER)}
    for _ in range(3):
        publish(cache, fill)
        last = cache.set_aside(KEY)
    moved.add(last)
    damaged = tmp_path / "cache" / "v1" / "damaged"
    assert {str(path) for path in damaged.iterdir()} == moved
    assert leftovers(tmp_path / "cache") == []


def test_of_several_processes_that_set_a_pack_aside_one_does(
    cache: Cache, tmp_path: Path, fill: Fill, spawn: Spawn
) -> None:
    publish(cache, fill)
    outcomes = [child.outcome() for child in [spawn(lambda: cache.set_aside(KEY)) for _ in range(4)]]
    (moved,) = (tmp_path / "cache" / "v1" / "damaged").iterdir()
    assert [outcome.output for outcome in outcomes if outcome.status == 0] == [str(moved)]
    assert all("NotFound" in outcome.output for outcome in outcomes if outcome.status != 0)


@pytest.mark.parametrize("again", [True, False])
def test_remove_takes_print_and_what_was_set_aside_along(
    cache: Cache, tmp_path: Path, fill: Fill, leftovers: Leftovers, again: bool
) -> None:
    publish(cache, fill, OTHER)
    publish(cache, fill)
    cache.set_aside(KEY)
    if again:
        publish(cache, fill)
    assert cache.remove(KEY) is True
    assert cache.remove(KEY) is False
    assert os.listdir(tmp_path / "cache" / "v1" / "damaged") == []
    assert os.listdir(tmp_path / "cache" / "v1" / "prints") == [hex_of(OTHER)]
    assert cache.is_as_published(OTHER)
    assert leftovers(tmp_path / "cache") == []


def test_a_print_without_a_pack_goes_with_the_next_remove(cache: Cache, fill: Fill) -> None:
    publish(cache, fill)
    text = kept(cache).read_text()
    cache.remove(KEY)
    kept(cache).write_text(text)
    assert not cache.is_as_published(KEY)
    assert cache.remove(KEY) is False
    assert not kept(cache).exists()


def test_the_pack_of_the_faster_process_keeps_its_print(cache: Cache, fill: Fill) -> None:
    with cache.staging() as slower:
        Path(slower, "manifest.json").write_text("other outputs")
        publish(cache, fill)
        seal_tree(slower)
        cache.publish(KEY, slower)
    assert cache.is_as_published(KEY)


def test_a_key_that_is_no_digest_never_becomes_a_path(cache: Cache, tmp_path: Path) -> None:
    bad = Digest("sha256:../../../x")
    calls: list[Callable[[], object]] = [
        lambda: cache.is_as_published(bad),
        lambda: cache.fingerprint_of(bad),
        lambda: cache.confirm(bad, "local"),
        lambda: cache.set_aside(bad),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="cache key: not a digest"):
            call()
    assert os.listdir(tmp_path) == []
