"""Hashing trees: one digest with every executor, entries in canonical order, bounded memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
from folders import write_folder
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import FolderDigest, Hashing, InvalidInput, Tree, TreeEntry, hash_tree, tree_digest
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing import deephash, workers
from ctxpack_identity.hashing.deephash import BATCH_BYTES, BATCH_FILES, PENDING_FILES
from ctxpack_identity.hashing.filehash import READ_SIZE
from ctxpack_identity.hashing.scan import Folder, scan
from ctxpack_identity.tree import file_digest

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..")
)
folders: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(names | st.sampled_from(["a", "a.b", "a0", "b"]), st.binary(max_size=9), max_size=6),
    lambda inner: st.dictionaries(
        names | st.sampled_from(["a", "a.b", "a0", "b"]), inner | st.binary(max_size=9), max_size=6
    ),
    max_leaves=20,
)


def expected_entries(root: Path, **options: Any) -> list[TreeEntry]:
    """Return the entries that scan finds, hashed one by one."""
    return [
        TreeEntry(found.path, 0, "")
        if found.is_empty_folder
        else TreeEntry(
            found.path,
            found.stat.st_size,
            hashlib.sha256(Path(found.location).read_bytes()).hexdigest(),
            bool(found.stat.st_mode & 0o100),
        )
        for found in scan(str(root), **options)
    ]


def assert_hashed(root: Path, **options: Any) -> Tree:
    """Hash root, and compare all results with those of the simplest implementation."""
    seen: list[TreeEntry] = []
    tree = hash_tree(str(root), on_entry=seen.append, **options)
    assert seen == expected_entries(root)
    in_order = FolderDigest()
    for entry in seen:
        in_order.add(entry)
    assert tree.digest == in_order.finish() == tree_digest(reversed(seen))
    assert tree.files == sum(not entry.is_empty_folder for entry in seen)
    assert tree.size == sum(entry.size for entry in seen)
    return tree


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sizes on both sides of each limit, folders of more than one batch, files and folders interleaved."""
    root = tmp_path_factory.mktemp("large")
    for size in (0, 1, READ_SIZE, READ_SIZE + 1, BATCH_BYTES, BATCH_BYTES + 1):
        (root / f"{size:09}").write_bytes(os.urandom(size))
    for folder in ("m", "m/inner", "small0100.d", "small9"):
        (root / folder).mkdir()
        for number in range(2 * BATCH_FILES + 10):
            (root / folder / f"{number:04}").write_bytes(b"%d" % number)
    for number in range(BATCH_FILES + 10):
        (root / f"small{number:04}").write_bytes(b"%d" % number)
        (root / f"small{number:04}e").mkdir()
    (root / "also" / "empty").mkdir(parents=True)
    return root


@given(folders, st.integers(1, 4), st.integers(1, 8))
def test_the_digest_does_not_depend_on_how_files_are_batched(
    tmp_path_factory: pytest.TempPathFactory,
    shuffling: Callable[[int], Executor],
    content: dict[str, Any],
    batch: int,
    pending: int,
) -> None:
    root = tmp_path_factory.mktemp("tree") / "top"
    write_folder(root, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deephash, "BATCH_FILES", batch)
        patch.setattr(deephash, "PENDING_FILES", pending)
        assert assert_hashed(root) == assert_hashed(root, hashing=Hashing(executor=shuffling(batch)))


def test_every_executor_gives_the_same_tree(large: Path, executor: Executor | None) -> None:
    assert_hashed(large, hashing=Hashing(executor=executor))


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_root_that_is_a_file_has_one_entry_without_a_path(
    tmp_path: Path, executor: Executor | None, mode: int
) -> None:
    (tmp_path / "name").write_bytes(b"abc")
    (tmp_path / "name").chmod(mode)
    seen: list[TreeEntry] = []
    tree = hash_tree(str(tmp_path / "name"), hashing=Hashing(executor=executor), on_entry=seen.append)
    assert seen == [TreeEntry("", 3, hashlib.sha256(b"abc").hexdigest(), mode == 0o755)]
    assert tree.digest == file_digest(seen[0].sha256, seen[0].size)


def test_children_and_threads_give_the_same_tree(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    mixed = assert_hashed(large)
    monkeypatch.setattr(workers, "ALONE", 0)
    assert assert_hashed(large / "m").files == 2 * (2 * BATCH_FILES + 10)
    monkeypatch.setattr(workers, "LARGE", 0)
    assert assert_hashed(large) == mixed


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_no_descriptor_thread_or_process_is_left(large: Path, kind: str) -> None:
    root = large if kind == "folder" else large / f"{BATCH_BYTES:09}"

    def counted() -> tuple[int, int, str]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return len(os.listdir("/proc/self/fd")), threading.active_count(), children

    def settled() -> bool:
        """Wait: a thread may still be hashing a file."""
        deadline = time.monotonic() + 20
        while counted() != before and time.monotonic() < deadline:
            time.sleep(0.01)
        return counted() == before

    before = counted()
    hash_tree(str(root))
    assert settled()

    def stop(entry: TreeEntry) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_tree(str(root), on_entry=stop)
    assert settled()


def test_a_file_that_changes_before_it_is_hashed_is_an_error(
    tmp_path: Path, changing_executor: Callable[[Callable[[], object]], Executor]
) -> None:
    write_folder(tmp_path / "top", {"a": b"x"})
    with pytest.raises(InvalidInput, match="a: changed while it was read"):
        hash_tree(
            str(tmp_path / "top"),
            hashing=Hashing(executor=changing_executor(lambda: (tmp_path / "top" / "a").write_bytes(b"yy"))),
        )


def test_followed_links_are_opened_by_every_executor(tmp_path: Path, shuffling: Callable[[int], Executor]) -> None:
    write_folder(tmp_path / "out", {"f": b"1", "d": {"g": b"2"}})
    write_folder(tmp_path / "in", {"copy": b"3"})
    (tmp_path / "in" / "file").symlink_to("../out/f")
    (tmp_path / "in" / "folder").symlink_to("../out/d")
    write_folder(tmp_path / "same", {"copy": b"3", "file": b"1", "folder": {"g": b"2"}})
    for executor in (None, shuffling(1)):
        followed = hash_tree(str(tmp_path / "in"), follow=True, hashing=Hashing(executor=executor))
        assert followed == hash_tree(str(tmp_path / "same"))


def test_excluded_files_are_neither_opened_nor_counted(tmp_path: Path) -> None:
    write_folder(tmp_path / "top", {"a": b"1", "b.tmp": b"2", "c": {"d.tmp": b"3"}})
    write_folder(tmp_path / "same", {"a": b"1", "c": {}})
    excluded = hash_tree(str(tmp_path / "top"), excludes=compile_excludes(["*.tmp"]))
    assert excluded == hash_tree(str(tmp_path / "same"))


def test_progress_counts_every_byte_once(large: Path, executor: Executor | None) -> None:
    seen: list[int] = []

    def progress(stage: str, advanced: int, total: int | None) -> None:
        assert stage == "hash"
        seen.append(advanced)
        totals.append(total)

    totals: list[int | None] = []
    tree = hash_tree(str(large), hashing=Hashing(executor=executor, progress=progress))
    assert sum(seen) == tree.size == totals[-1]
    assert set(totals) <= {None, tree.size}


def test_progress_is_called_while_a_large_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(20 * READ_SIZE + 7))
    seen: list[int] = []
    hash_tree(str(tmp_path), hashing=Hashing(progress=lambda stage, advanced, total: seen.append(advanced)))
    assert sum(seen) == 20 * READ_SIZE + 7
    assert max(seen) <= READ_SIZE


def test_a_bounded_number_of_batches_is_pending(tmp_path: Path, shuffling: Callable[[int], Any]) -> None:
    for number in range(2 * PENDING_FILES // 100):
        write_folder(tmp_path / f"{number:03}", {f"{file:02}": b"" for file in range(100)})
    executor = shuffling(0)

    def first(entry: TreeEntry) -> None:
        raise StopIteration

    with pytest.raises(StopIteration):
        hash_tree(str(tmp_path), on_entry=first, hashing=Hashing(executor=executor))
    assert 1 < executor.submitted <= PENDING_FILES // 100 + 1


def test_a_bounded_number_of_empty_folders_is_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deephash, "PENDING_FILES", 10)
    write_folder(tmp_path / "top", {f"{number:02}": {} for number in range(20)})
    last = tmp_path / "top" / "19"
    with pytest.raises(InvalidInput, match="19: no such file or folder"):
        hash_tree(str(tmp_path / "top"), on_entry=lambda entry: last.rmdir() if entry.path == "00/" else None)


class Known:
    """Digests known from before, given as a dict; notes the calls of remember."""

    def __init__(self, digests: dict[str, str]) -> None:
        self.digests = digests
        self.remembered: list[tuple[str, list[str]]] = []

    def look_up(self, folder: Folder) -> list[str | None]:
        return [self.digests.get(folder.path + name) for name, _ in folder.files]

    peek = look_up

    def remember(self, folder: Folder, digests: list[str]) -> None:
        self.remembered.append((folder.path, digests))


def test_only_files_without_a_known_digest_are_hashed(tmp_path: Path) -> None:
    write_folder(tmp_path / "top", {"a": b"1", "b": b"2", "c": b"3", "d": {"e": b"4"}, "f": {"g": b"5"}})
    one, two, three, four, five = (hashlib.sha256(b"%d" % number).hexdigest() for number in range(1, 6))
    known, seen = Known({"a": one, "c": three, "d/e": four}), []
    tree = hash_tree(
        str(tmp_path / "top"),
        hashing=Hashing(known=known, progress=lambda stage, advanced, total: seen.append(advanced)),
    )
    assert tree == hash_tree(str(tmp_path / "top"))
    assert known.remembered == [("", [one, two, three]), ("f/", [five])]
    assert sum(seen) == len("25")


MEASURE = """
import re, resource, sys
from ctxpack_identity import hash_tree
def peak():
    return int(re.search(r"VmHWM:\\s*([0-9]+) kB", open("/proc/self/status").read())[1])
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
hash_tree(sys.argv[1] + "/00")  # loads all modules that it takes
before = peak()
tree = hash_tree(sys.argv[1])
print(tree.files, peak() - before)
"""


@pytest.mark.parametrize("shape", ["files", "empty folders"])
def test_memory_and_descriptors_are_bounded(tmp_path: Path, shape: str) -> None:
    files = 25_000 if shape == "files" else 0
    for number in range(50):
        folder = tmp_path / f"{number:02}"
        folder.mkdir()
        for inner in range(500 if files else 200):
            if files:
                os.close(os.open(folder / f"{inner:03}", os.O_CREAT))
            else:
                (folder / f"{inner:03}").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), "32"], capture_output=True, text=True, check=True
    )
    found, grown = map(int, done.stdout.split())
    assert found == files
    assert grown < 6 << 10  # KiB; a list of 25,000 paths would take 2 MiB more than what it takes for 1,000 files


# ---- folders without files, and each folder reported


def without_empty_folders(content: dict[str, Any]) -> dict[str, Any]:
    """Return content as git would keep it."""
    kept = {name: without_empty_folders(item) if isinstance(item, dict) else item for name, item in content.items()}
    return {name: item for name, item in kept.items() if item != {}}


@given(folders, st.integers(1, 4))
def test_with_files_only_folders_without_a_file_are_not_there(
    tmp_path_factory: pytest.TempPathFactory, shuffling: Callable[[int], Executor], content: dict[str, Any], batch: int
) -> None:
    base = tmp_path_factory.mktemp("tree")
    write_folder(base / "top", content)
    write_folder(base / "kept", without_empty_folders(content))
    seen: list[TreeEntry] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deephash, "PENDING_FILES", batch)
        for executor in (None, shuffling(batch)):
            seen.clear()
            tree = hash_tree(
                str(base / "top"), files_only=True, on_entry=seen.append, hashing=Hashing(executor=executor)
            )
            assert tree == hash_tree(str(base / "kept"))
            assert seen == [entry for entry in expected_entries(base / "top") if not entry.is_empty_folder]


def test_with_files_only_what_patterns_empty_is_not_there(tmp_path: Path) -> None:
    write_folder(tmp_path / "top", {"a": {"x.pyc": b"", "b": {"y.pyc": b""}}, "c": {"z": b"", "d.pyc": b""}})
    write_folder(tmp_path / "kept", {"c": {"z": b""}})
    excludes = compile_excludes(["*.pyc"])
    assert hash_tree(str(tmp_path / "top"), excludes=excludes, files_only=True) == hash_tree(str(tmp_path / "kept"))


@pytest.mark.parametrize("files_only", [False, True])
def test_a_root_without_a_file_is_an_empty_folder(tmp_path: Path, files_only: bool) -> None:
    write_folder(tmp_path / "top", {"a": {"b": {}}} if files_only else {})
    write_folder(tmp_path / "empty", {})
    tree = hash_tree(str(tmp_path / "top"), files_only=files_only)
    assert (tree, tree.files) == (hash_tree(str(tmp_path / "empty")), 0)


@given(folders, st.booleans(), st.integers(1, 4))
def test_on_folder_gets_every_folder_in_order_with_its_files(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], files_only: bool, batch: int
) -> None:
    root = tmp_path_factory.mktemp("tree") / "top"
    write_folder(root, content)
    seen: list[tuple[str, list[str], list[str]]] = []

    def note(folder: Folder) -> None:
        seen.append((folder.path, [name for name, _ in folder.files], [name for name, _ in folder.folders]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deephash, "PENDING_FILES", batch)
        hash_tree(str(root), files_only=files_only, on_folder=note)
    assert seen == list(folders_of("", content))


def folders_of(path: str, content: dict[str, Any]) -> Iterator[tuple[str, list[str], list[str]]]:
    files = sorted(name for name, item in content.items() if not isinstance(item, dict))
    below = sorted(name for name, item in content.items() if isinstance(item, dict))
    yield path, files, below
    for name in below:
        yield from folders_of(f"{path}{name}/", content[name])


def test_on_folder_gets_one_that_holds_just_the_root_when_that_is_a_file(tmp_path: Path) -> None:
    write_folder(tmp_path / "top", {"a": b"x", "b": b"y"})
    seen: list[Folder] = []
    hash_tree(str(tmp_path / "top" / "a"), on_folder=seen.append)
    ((path, location, files, folders, store),) = seen
    assert (path, location, [name for name, _ in files], folders, store) == ("", f"{tmp_path}/top/", ["a"], [], None)
