"""The pack folder: what is read from it, and what is made in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from forged_pack import File, canonical, listing, manifest

from ctxpack_bundle import read_entries, read_pack_manifest
from ctxpack_bundle.folder import ParentFolders, open_member
from ctxpack_identity import IntegrityError, TreeEntry, digest_of, hex_of

REMEDY = "; remove the pack (ctxpack rm) and pull or seed it again"


def test_the_manifest_and_the_entries_of_a_pack(tmp_path: Path) -> None:
    files = [File("a", b"one"), File("empty/")]
    (tmp_path / "manifest.json").write_bytes(canonical(manifest(files)))
    (tmp_path / "files.jsonl").write_bytes(listing(files))
    assert read_pack_manifest(str(tmp_path)).outputs.files == 1
    assert list(read_entries(str(tmp_path))) == [
        TreeEntry("a", 3, hex_of(digest_of(b"one"))),
        TreeEntry("empty/", 0, ""),
    ]


def test_entries_of_an_input(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/raw.jsonl").write_bytes(listing([File("x", b"")]))
    assert [entry.path for entry in read_entries(str(tmp_path), "inputs/raw.jsonl")] == ["x"]


def test_what_is_missing_is_damage(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError) as caught:
        read_pack_manifest(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}/manifest.json: pack is damaged: No such file or directory{REMEDY}"
    with pytest.raises(IntegrityError) as caught:
        list(read_entries(str(tmp_path)))
    assert str(caught.value) == f"{tmp_path}/files.jsonl: pack is damaged: No such file or directory{REMEDY}"


def test_a_folder_in_place_of_a_file_is_damage(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(IntegrityError, match="pack is damaged: Is a directory"):
        read_pack_manifest(str(tmp_path))


def test_a_member_is_a_regular_file_of_its_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    os.close(open_member(str(tmp_path), "a", 3))
    with pytest.raises(IntegrityError) as caught:
        open_member(str(tmp_path), "a", 4)
    assert str(caught.value) == f"{tmp_path}/a: not the file its listing names: expected 4 bytes, got 3{REMEDY}"
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(IntegrityError, match="pack is damaged: Too many levels of symbolic links"):
        open_member(str(tmp_path), "link", 3)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(IntegrityError, match="not the file its listing names"):
        open_member(str(tmp_path), "fifo", 0)


def test_parents_are_made_once_each(tmp_path: Path) -> None:
    parents = ParentFolders(str(tmp_path))
    for path in ("a", "b/c/d", "b/c/e/f", "b/g", "h/", "i/j/"):
        assert parents.make(path) == f"{tmp_path}/{path}"
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["b", "b/c", "b/c/e", "i"]


def test_parents_are_never_shared_with_a_name_that_only_looks_different(tmp_path: Path) -> None:
    """What a file system that ignores case or normalisation answers when the second name comes."""
    (tmp_path / "same").mkdir()
    with pytest.raises(FileExistsError):
        ParentFolders(str(tmp_path)).make("same/file")


def test_parents_as_deep_as_a_path_can_be(tmp_path: Path) -> None:
    deep = "d/" * 511 + "d"
    ParentFolders(str(tmp_path)).make(deep)
    assert (tmp_path / deep).parent.is_dir()
