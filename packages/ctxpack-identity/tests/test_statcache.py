"""The index of unchanged files: it saves work, notices every change, and never changes a digest."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ctxpack_identity import Hashing, Tree, hash_tree, parse_contract_file, resolve
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing import digestindex, filesystem, statcache
from ctxpack_identity.hashing.scan import Folder
from ctxpack_identity.hashing.statcache import RACY_NS, WORTHWHILE, WORTHWHILE_BYTES, StatCache

_opened: list[str] | None = None


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str):
        _opened.append(arguments[0])


sys.addaudithook(_note_open)  # cannot be removed; it has an effect only while _opened is a list


class Clock:
    """Replaces the module ``time``; some seconds ahead, so that the files of a test are old."""

    def __init__(self, ahead: float) -> None:
        self._ahead_ns = int(ahead * 1e9)

    def time_ns(self) -> int:
        return time.time_ns() + self._ahead_ns


@pytest.fixture(autouse=True)
def old_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local file system, old files, and no minimum number of files for the index."""
    monkeypatch.setattr(filesystem, "_file_system", lambda path: "ext4")
    monkeypatch.setattr(statcache, "time", Clock(10))
    monkeypatch.setattr(statcache, "WORTHWHILE", 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("", "d", "d/e"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(5):
            (root / folder / f"f{number}").write_bytes(b"%d %s" % (number, folder.encode()))
    return root


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "index.db"


def hashed(root: Path, index: Path, executor: Executor | None = None, **options: Any) -> Tree:
    """Hash root with the index, and require the result without the index."""
    known = StatCache(str(index))
    try:
        tree = hash_tree(str(root), **options, hashing=Hashing(executor, known))
    finally:
        known.close()
    assert tree == hash_tree(str(root), **options)
    return tree


def opened(root: Path, index: Path, **options: Any) -> list[str]:
    """Return the files, relative to root, that are read to hash it with the index."""
    global _opened
    known = StatCache(str(index))
    _opened = []
    try:
        hash_tree(str(root), **options, hashing=Hashing(known=known))
    finally:
        read, _opened = _opened, None
        known.close()
    hashed(root, index, **options)
    return sorted(os.path.relpath(path, root) for path in read if path.startswith(f"{root}/"))


EVERY = sorted(f"{folder}f{number}" for folder in ("", "d/", "d/e/") for number in range(5))


def test_unchanged_files_are_not_opened(root: Path, index: Path) -> None:
    assert opened(root, index) == EVERY
    assert opened(root, index) == []
    assert opened(root / "d", index) == []
    assert opened(root / "d" / "f1", index) == []


def test_resolving_again_opens_nothing_and_gives_the_same(root: Path, index: Path) -> None:
    global _opened
    contract = parse_contract_file(
        json.dumps(
            {
                "inputs": [{"name": "i", "path": "d"}, {"name": "again", "path": "d"}],
                "transforms": [
                    {"tool": "t", "tool_version": "1", "code": {"path": "."}, "environment": {"path": "f0"}}
                ],
            }
        )
    )
    expected = resolve(contract, str(root))._replace(hashed=())  # these hold rules, which are equal to nothing
    for expect in (EVERY, []):
        known = StatCache(str(index))
        _opened = []
        try:
            assert resolve(contract, str(root), hashing=Hashing(known=known))._replace(hashed=()) == expected
        finally:
            read, _opened = _opened, None
            known.close()
        paths = [os.path.relpath(path, root) for path in read if path.startswith(f"{root}/")]
        assert sorted(paths) == expect, "each file once, though the contract names some three times"


def test_few_small_files_cost_less_than_an_index(
    root: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statcache, "WORTHWHILE", WORTHWHILE)
    hashed(root, index)
    assert not index.exists()
    (root / "z").write_bytes(bytes(WORTHWHILE_BYTES))
    assert opened(root, index) == [*EVERY, "z"]
    assert "z" not in opened(root, index)


def restore(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewrite(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    restore(path, before)


def replace(path: Path) -> None:
    before, other = path.stat(), path.with_name("other")
    other.write_bytes(b"x" * before.st_size)
    restore(other, before)
    other.replace(path)


def exchange(path: Path) -> None:
    spare, other = path.with_name("spare"), path.with_name("f2")
    restore(other, path.stat())
    path.rename(spare)
    other.rename(path)
    spare.rename(other)


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def append(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes() + b"x")
    restore(path, before)


def truncate(path: Path) -> None:
    before = path.stat()
    os.truncate(path, 1)
    restore(path, before)


def remove(path: Path) -> None:
    path.unlink()


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [rewrite, replace, exchange, rename, append, truncate, remove, become_a_folder])
def test_every_change_is_noticed(root: Path, index: Path, change: Callable[[Path], None]) -> None:
    before = hashed(root, index)
    change(root / "d" / "f1")
    assert hashed(root, index).digest != before.digest
    assert opened(root, index) == []


@pytest.mark.parametrize(
    "touch",
    [Path.touch, lambda path: path.chmod(0o755), lambda path: os.link(path, f"{path}0")],
    ids=["touch", "chmod", "link"],
)
def test_only_files_that_may_have_changed_are_read_again(
    root: Path, index: Path, touch: Callable[[Path], object]
) -> None:
    hashed(root, index)
    touch(root / "d" / "f1")
    assert set(opened(root, index)) - {"d/f10"} == {"d/f1"}
    assert opened(root, index) == []


def test_hard_links_are_files_of_their_own(root: Path, index: Path) -> None:
    os.link(root / "f1", root / "link")
    assert len(opened(root, index)) == len(EVERY) + 1
    assert opened(root, index) == []
    rewrite(root / "link")
    assert opened(root, index) == ["f1", "link"]


def test_a_file_written_a_moment_ago_is_not_remembered(
    root: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statcache, "time", Clock(0))
    assert opened(root, index) == EVERY
    assert opened(root, index) == EVERY


@pytest.mark.parametrize("newest", ["mtime", "ctime"])
@pytest.mark.parametrize(("age", "kept"), [(RACY_NS, True), (RACY_NS - 1, False), (-1, False)])
def test_mtime_and_ctime_must_both_be_old_enough(
    index: Path, monkeypatch: pytest.MonkeyPatch, newest: str, age: int, kept: bool
) -> None:
    now = 10**18
    monkeypatch.setattr(statcache, "time", SimpleNamespace(time_ns=lambda: now))
    folder = folder_of("/anywhere/", **{"mtime_ns": 1, "ctime_ns": 1, f"{newest}_ns": now - age})
    assert remembered(index, folder) == kept


def folder_of(location: str, *devices: int, mtime_ns: int = 1, ctime_ns: int = 1) -> Folder:
    """Return a folder as a walk finds it, with one file on each device."""
    files: list[Any] = [
        (
            f"f{number}",
            SimpleNamespace(st_dev=device, st_ino=7, st_size=1, st_mtime_ns=mtime_ns, st_ctime_ns=ctime_ns),
        )
        for number, device in enumerate(devices or (1,))
    ]
    return Folder("", location, files, [])


def remembered(index: Path, folder: Folder, then: Folder | None = None) -> bool:
    """Whether all digests of a folder are known after they were remembered. then: the folder when it is found again."""
    digests = [hashlib.sha256(name.encode()).hexdigest() for name, _ in folder.files]
    for _ in range(2):
        known = StatCache(str(index))
        known.look_up(folder)
        known.remember(folder, digests)
        known.close()
    known = StatCache(str(index))
    found = known.look_up(then or folder)
    known.close()
    assert found in (digests, [None] * len(digests))
    return found == digests


def test_the_same_numbers_on_another_device_are_another_file(index: Path) -> None:
    assert remembered(index, folder_of("/data/", 1, 1), folder_of("/data/", 1, 1))
    assert remembered(index, folder_of("/data/", 1, 2), folder_of("/data/", 1, 2)), "with followed links"
    assert not remembered(index, folder_of("/data/", 1, 1), folder_of("/data/", 3, 3))
    assert not remembered(index, folder_of("/data/", 1, 1), folder_of("/elsewhere/", 1, 1))


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "vfat", "squashfs", ""])
def test_network_and_image_file_systems_are_not_trusted(
    root: Path, index: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(filesystem, "_file_system", lambda path: kind)
    assert opened(root, index) == opened(root, index) == EVERY
    assert not index.exists()


def test_a_folder_with_one_file_on_a_network_file_system_is_read(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_file_system", lambda path: "nfs4" if path.endswith("f1") else "ext4")
    assert remembered(index, folder_of("/data/", 1, 1))
    assert not remembered(index, folder_of("/data/", 1, 2))
    assert not remembered(index, folder_of("/data/", 1, 2, 1))


def test_a_followed_link_is_read_again_when_its_target_changes(root: Path, index: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to(tmp_path / "one")
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
        os.utime(tmp_path / name, ns=(1, 1))
    one = hashed(root, index, follow=True)
    assert opened(root, index, follow=True) == []
    (root / "link").unlink()
    (root / "link").symlink_to(tmp_path / "two")
    assert hashed(root, index, follow=True).digest != one.digest
    rewrite(tmp_path / "two")
    assert opened(root, index, follow=True) == ["link"]


def test_each_list_of_excludes_finds_the_digests_of_its_files(root: Path, index: Path) -> None:
    fewer = compile_excludes(["f1", "f2"])
    assert opened(root, index, excludes=fewer) == [name for name in EVERY if name[-1] not in "12"]
    assert opened(root, index) == [name for name in EVERY if name[-1] in "12"]
    assert opened(root, index, excludes=fewer) == opened(root, index) == []


def test_a_moved_folder_and_its_replacement_are_read_again(root: Path, index: Path, tmp_path: Path) -> None:
    hashed(root, index)
    root.rename(tmp_path / "moved")
    assert opened(tmp_path / "moved", index) == EVERY
    shutil.copytree(tmp_path / "moved", root)
    rewrite(root / "f1")
    assert opened(root, index) == EVERY


def test_a_file_that_changes_between_stat_and_read_is_read_again(
    root: Path, index: Path, changing_executor: Callable[[Callable[[], object]], Executor]
) -> None:
    hashed(root, index, executor=changing_executor(lambda: rewrite(root / "f1")))
    assert "f1" in opened(root, index)


def test_a_path_that_is_not_utf8_is_remembered(index: Path, root: Path, tmp_path: Path) -> None:
    not_utf8 = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    root.rename(not_utf8)
    assert opened(not_utf8, index) == EVERY
    assert opened(not_utf8, index) == []


def test_the_index_is_private_and_may_have_a_relative_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hashed(root, Path("index.db"))
    assert opened(root, Path("index.db")) == []
    assert (tmp_path / "index.db").stat().st_mode & 0o777 == 0o600


# Damage of the index


def damage_at(offset: int, bits: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:offset] + bytes([data[offset] ^ bits]) + data[offset + 1 :]


def assert_used_again(root: Path, index: Path) -> None:
    """The digest is right (hashed asserts that), and after two runs the index is in use again."""
    for _ in range(2):
        hashed(root, index)
    assert opened(root, index) == []


def test_a_flipped_bit_in_the_index_never_changes_a_digest(root: Path, index: Path) -> None:
    hashed(root, index)
    sound = index.read_bytes()
    chance = random.Random(1)
    offsets = [*range(100), *(chance.randrange(100, len(sound)) for _ in range(300))]
    for offset in offsets:
        index.write_bytes(damage_at(offset, 1 << chance.randrange(8))(sound))
        for _ in range(3):
            hashed(root, index)
        assert opened(root, index) == [], f"not in use again: bit flipped at {offset}"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"not an index at all" * 100,
        lambda data: data[: len(data) // 2],
        lambda data: data[:100],
        lambda data: data[:4096] + bytes(len(data) - 4096),
        lambda data: data.replace(b"digests", b"dlgests"),
        lambda data: data.replace(b"folders", b"fodlers"),
    ],
    ids=["empty", "other", "half", "header", "zeros", "column", "table"],
)
def test_a_damaged_index_is_rebuilt(root: Path, index: Path, damage: Callable[[bytes], bytes]) -> None:
    hashed(root, index)
    index.write_bytes(damage(index.read_bytes()))
    assert_used_again(root, index)


@pytest.mark.parametrize(
    "update",
    [
        "UPDATE folders SET digests = replace(digests, substr(digests, 1, 64), substr(digests, 65, 64))",
        "UPDATE folders SET digests = substr(digests, 65)",
        "UPDATE folders SET digests = NULL",
        "UPDATE folders SET digests = CAST(x'ff' AS TEXT)",
        "UPDATE folders SET rows = (SELECT max(rows) FROM folders)",
        "UPDATE folders SET rows = 'text'",
        "UPDATE folders SET seal = x'00'",
        "UPDATE folders SET seal = NULL",
        "UPDATE folders SET (rows, digests, seal) = (SELECT rows, digests, seal FROM folders LIMIT 1)",
    ],
)
def test_a_record_with_a_wrong_seal_is_ignored(root: Path, index: Path, update: str) -> None:
    hashed(root, index)
    connection = sqlite3.connect(index)
    with connection:
        connection.execute(update)
    connection.close()
    assert_used_again(root, index)


def test_without_a_usable_index_files_are_hashed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in ("file/index.db", "folder", "", "n" * 300):
        hashed(root, tmp_path / path)


@pytest.mark.parametrize("exists", [True, False])
def test_a_read_only_index_is_not_changed(
    root: Path, index: Path, as_nobody: Callable[[Path, Callable[[], Any]], Any], exists: bool
) -> None:
    root.parent.chmod(0o755)
    index.parent.mkdir(mode=0o755)
    if exists:
        hashed(root, index)
        index.chmod(0o444)
    index.parent.chmod(0o555)
    before = index.read_bytes() if exists else None
    tree = as_nobody(root.parent, lambda: hashed(Path("root"), Path("cache/index.db")))
    assert tree == hash_tree(str(root))
    assert (index.read_bytes() if exists else None) == before


class Patient(sqlite3.Connection):
    """Counts how often a lock was waited for in vain."""

    waits = 0

    def execute(self, *given: Any) -> sqlite3.Cursor:
        return self._counted(super().execute, *given)

    def executemany(self, *given: Any) -> sqlite3.Cursor:
        return self._counted(super().executemany, *given)

    def _counted(self, act: Callable[..., sqlite3.Cursor], *given: Any) -> sqlite3.Cursor:
        try:
            return act(*given)
        except sqlite3.OperationalError as error:
            Patient.waits += "locked" in str(error)
            raise


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_locked_index_is_waited_for_only_once(root: Path, index: Path, lock: str, mode: str) -> None:
    hashed(root, index)
    (root / "new").touch()
    other = sqlite3.connect(index, isolation_level=None)
    try:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute(f"BEGIN {lock}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Patient))
            Patient.waits = 0
            hashed(root, index)
        assert Patient.waits == 1
        other.execute("ROLLBACK")
    finally:
        other.close()
    hashed(root, index)
    assert opened(root, index) == []


def test_a_long_hash_does_not_lock_the_index(
    root: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digestindex, "PATIENCE", 60.0)
    shutil.copytree(root, tmp_path / "other")
    slow = StatCache(str(index))
    hash_tree(str(root), hashing=Hashing(known=slow))
    begin = time.monotonic()
    hashed(tmp_path / "other", index)
    assert time.monotonic() - begin < digestindex.PATIENCE
    slow.close()
    assert opened(root, index) == opened(tmp_path / "other", index) == []


def test_digests_are_written_before_close_when_there_are_many(
    root: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statcache, "UNWRITTEN_BYTES", 1)
    known = StatCache(str(index))
    hash_tree(str(root), hashing=Hashing(known=known))
    assert opened(root, index) == []  # before close
    known.close()


RUN = """
import sys, time
from types import SimpleNamespace
from ctxpack_identity import Hashing, hash_tree
from ctxpack_identity.hashing import filesystem, statcache
filesystem.is_local = lambda path: True
statcache.time = SimpleNamespace(time_ns=lambda: time.time_ns() + 10**10)
statcache.WORTHWHILE = 1
statcache.UNWRITTEN_BYTES = 1
for _ in range(10):
    known = statcache.StatCache(sys.argv[1])
    for root in sys.argv[2:]:
        print(hash_tree(root, hashing=Hashing(known=known)).digest)
    known.close()
"""


def test_any_number_of_processes_may_use_it_at_once(root: Path, index: Path, tmp_path: Path) -> None:
    roots = [root]
    for number in range(6):
        roots.append(tmp_path / f"copy{number}")
        shutil.copytree(root, roots[-1])
        (roots[-1] / "f1").write_bytes(b"%d" % number)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(index), *map(str, roots[number::2])], stdout=subprocess.PIPE, text=True
        )
        for number in (0, 1, 0)
    ]
    for number, process in zip((0, 1, 0), processes, strict=True):
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert output.split() == [hash_tree(str(root)).digest for root in roots[number::2]] * 10
    for each in roots:
        assert opened(each, index) == []


def test_several_threads_may_use_a_cache_one_after_the_other(root: Path, index: Path) -> None:
    known, trees = StatCache(str(index)), []
    hash_tree(str(root / "d"), hashing=Hashing(known=known))
    thread = threading.Thread(target=lambda: trees.append(hash_tree(str(root), hashing=Hashing(known=known))))
    thread.start()
    thread.join()
    known.close()
    assert trees == [hash_tree(str(root))]
    assert opened(root, index) == []


def test_without_sqlite_files_are_hashed(root: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    monkeypatch.delitem(sys.modules, "ctxpack_identity.hashing.digestindex")
    assert opened(root, index) == opened(root, index) == EVERY


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
