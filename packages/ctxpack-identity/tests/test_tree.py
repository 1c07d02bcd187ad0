"""Tree digests: three ways to one digest, the documents they are of, and errors for paths that make no tree."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
from folders import write_folder
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import (
    FolderDigest,
    Hashing,
    InvalidInput,
    TreeEntry,
    canonical_json,
    digest_of,
    hash_tree,
    tree_digest,
)
from ctxpack_identity.tree import TREE_SCHEMA, file_digest, tree_of_one

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
folders: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(names, st.binary(max_size=20), max_size=4),
    lambda inner: st.dictionaries(names, inner | st.binary(max_size=20), max_size=4),
    max_leaves=12,
)


def entries(content: dict[str, Any], prefix: str = "") -> list[TreeEntry]:
    found: list[TreeEntry] = []
    for name, item in content.items():
        if isinstance(item, bytes):
            found.append(TreeEntry(prefix + name, len(item), hashlib.sha256(item).hexdigest()))
        else:
            found += entries(item, f"{prefix}{name}/") or [TreeEntry(f"{prefix}{name}/", 0, "")]
    return found


def document(content: dict[str, Any]) -> bytes:
    """Return the folder document, written as SPEC.md defines it."""
    listed = []
    for name in sorted(content, key=str.encode):
        item = content[name]
        data = item if isinstance(item, bytes) else document(item)
        kind = "file" if isinstance(item, bytes) else "folder"
        listed.append({"digest": digest_of(data), "name": name, "size": len(data), "type": kind})
    return canonical_json({"entries": listed, "schema": TREE_SCHEMA, "type": "folder"})


@given(st.lists(names, min_size=1, max_size=5).map("/".join), st.binary(max_size=20))
def test_a_folder_with_just_one_file_has_a_shorter_way_to_its_digest(path: str, content: bytes) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    assert tree_of_one(path, sha256, len(content)) == tree_digest([TreeEntry(path, len(content), sha256)])


@given(folders, st.randoms(use_true_random=False))
def test_disk_listing_and_documents_give_one_digest(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], random: Any
) -> None:
    root = tmp_path_factory.mktemp("tree") / "root"
    write_folder(root, content)
    expected = digest_of(document(content))
    seen: list[TreeEntry] = []
    tree = hash_tree(str(root), on_entry=seen.append)
    assert tree.digest == expected
    assert tree.kind == "folder"
    assert (tree.files, tree.size) == (sum(not e.is_empty_folder for e in seen), sum(e.size for e in seen))
    in_order = FolderDigest()
    for entry in seen:
        in_order.add(entry)
    assert in_order.finish() == expected
    shuffled = entries(content)
    random.shuffle(shuffled)
    assert tree_digest(shuffled) == expected


@given(st.binary(max_size=50))
def test_a_file_has_the_digest_of_its_document(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("tree") / "file"
    path.write_bytes(content)
    expected = digest_of(
        canonical_json({"digest": digest_of(content), "schema": TREE_SCHEMA, "size": len(content), "type": "file"})
    )
    assert hash_tree(str(path)) == (expected, "file", 1, len(content))
    assert file_digest(hashlib.sha256(content).hexdigest(), len(content)) == expected


def test_a_folder_of_one_file_that_vanishes_is_not_a_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_folder(root, {"a": b"x"})
    expected = hash_tree(str(root)).digest

    def vanish(entry: TreeEntry) -> None:
        (root / "a").unlink()
        root.rmdir()

    tree = hash_tree(str(root), on_entry=vanish)
    assert (tree.kind, tree.digest) == ("folder", expected)


def test_every_executor_gives_the_same_tree(tmp_path: Path, executor: Executor | None) -> None:
    content = {f"{n:03}": {"a": b"%d" % n, "b": b"x" * n * 100} for n in range(300)} | {"large": b"y" * (3 << 20)}
    write_folder(tmp_path / "root", content)
    assert hash_tree(str(tmp_path / "root"), hashing=Hashing(executor=executor)).digest == digest_of(document(content))


def test_the_executable_bit_is_in_entries_but_not_in_the_digest(tmp_path: Path) -> None:
    write_folder(tmp_path / "root", {"a": b"x", "e": {}})
    seen: list[TreeEntry] = []
    before = hash_tree(str(tmp_path / "root"), on_entry=seen.append)
    (tmp_path / "root" / "a").chmod(0o755)
    after = hash_tree(str(tmp_path / "root"), on_entry=seen.append)
    assert before == after
    assert [(entry.path, entry.executable) for entry in seen] == [
        ("a", False),
        ("e/", False),
        ("a", True),
        ("e/", False),
    ]


TWICE = "path occurs twice, or both as a file and as a folder: got 'a' after 'a'"


@pytest.mark.parametrize(
    ("before", "path", "message"),
    [
        ("", "../x", "'../x': not a relative, normal POSIX path"),
        ("", "/x", "'/x': not a relative, normal POSIX path"),
        ("", "x//y", "'x//y': not a relative, normal POSIX path"),
        ("", "x/./y", "'x/./y': not a relative, normal POSIX path"),
        ("", "", "'': not a relative, normal POSIX path"),
        ("", "x\0", "'x\\x00': not a relative, normal POSIX path"),
        ("b", "a", "'a': path is out of canonical order: got 'a' after 'b'"),
        ("a.b", "a/b", "'a/b': path is out of canonical order: got 'a' after 'a.b'"),
        ("b/c", "a/b", "'a/b': path is out of canonical order: got 'a' after 'b'"),
        ("a", "a", f"'a': {TWICE}"),
        ("a", "a/b", f"'a/b': {TWICE}"),
        ("a/", "a/b", f"'a/b': {TWICE}"),
        ("a/b", "a", f"'a': {TWICE}"),
        ("", "\udcff", "'\\udcff': path is not Unicode text"),
    ],
)
def test_a_path_that_is_not_relative_and_normal_is_refused(before: str, path: str, message: str) -> None:
    folder = FolderDigest()
    if before:
        folder.add(TreeEntry(before, 0, "" if before.endswith("/") else "0" * 64))
    with pytest.raises(InvalidInput) as caught:
        folder.add(TreeEntry(path, 0, "0" * 64))
    assert str(caught.value) == message


def test_a_value_that_is_not_a_sha256_cannot_change_the_document() -> None:
    with pytest.raises(InvalidInput) as caught:
        tree_digest([TreeEntry("a", 1, '","name":"b')])
    assert str(caught.value) == "'a': not a SHA-256: expected 64 lower-case hexadecimal digits, got '\",\"name\":\"b'"


def test_tree_digest_refuses_entries_that_are_not_a_tree() -> None:
    for clash in (["a", "a"], ["a/b", "a"], ["a/", "a/b"], ["a/", "a"]):
        with pytest.raises(InvalidInput) as caught:
            tree_digest([TreeEntry(path, 0, "" if path.endswith("/") else "0" * 64) for path in clash])
        assert caught.value.code == "E_PATH_ORDER"


def test_the_digest_of_a_hundred_thousand_entries_takes_no_memory() -> None:
    digest = "0" * 64
    folder = FolderDigest()
    tracemalloc.start()
    for outer in range(100):
        for inner in range(1000):
            folder.add(TreeEntry(f"{outer:02}/{inner:03}", 1, digest))
    folder.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 10  # bytes


def test_folders_five_hundred_deep_have_a_digest(tmp_path: Path) -> None:
    deepest = tmp_path.joinpath(*["d"] * 500)
    deepest.mkdir(parents=True)
    (deepest / "f").write_bytes(b"x")
    expected = tree_digest([TreeEntry("d/" * 500 + "f", 1, hashlib.sha256(b"x").hexdigest())])
    assert hash_tree(str(tmp_path)).digest == expected


def test_hard_links_are_files_of_their_own(tmp_path: Path) -> None:
    write_folder(tmp_path / "copies", {"a": b"x", "b": b"x"})
    write_folder(tmp_path / "links", {"a": b"x"})
    os.link(tmp_path / "links" / "a", tmp_path / "links" / "b")
    assert hash_tree(str(tmp_path / "links")) == hash_tree(str(tmp_path / "copies"))
