"""The pack folder: reading from it, and making files and folders in it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest
from forged_pack import File, canonical, listing, manifest

from ctxpack_bundle import read_entries, read_pack_manifest
from ctxpack_bundle.folder import ParentFolders, open_member, unreadable_member
from ctxpack_identity import IntegrityError, LocalFailure, TreeEntry, digest_of, hex_of

REMEDY = "; pull it anew, or make it again"


def test_manifest_and_entries_are_read_from_the_folder(tmp_path: Path) -> None:
    files = [File("a", b"one"), File("empty/")]
    (tmp_path / "manifest.json").write_bytes(canonical(manifest(files)))
    (tmp_path / "files.jsonl").write_bytes(listing(files))
    assert read_pack_manifest(str(tmp_path)).outputs.files == 1
    assert list(read_entries(str(tmp_path))) == [
        TreeEntry("a", 3, hex_of(digest_of(b"one"))),
        TreeEntry("empty/", 0, ""),
    ]


def test_entries_of_an_input_are_read_by_the_path_of_the_listing(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/raw.jsonl").write_bytes(listing([File("x", b"")]))
    assert [entry.path for entry in read_entries(str(tmp_path), "inputs/raw.jsonl")] == ["x"]


def test_a_missing_file_is_an_integrity_error(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError) as caught:
        read_pack_manifest(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}/manifest.json: pack is damaged: No such file or directory{REMEDY}"
    with pytest.raises(IntegrityError) as caught:
        list(read_entries(str(tmp_path)))
    assert str(caught.value) == f"{tmp_path}/files.jsonl: pack is damaged: No such file or directory{REMEDY}"


def test_a_folder_in_place_of_a_file_is_an_integrity_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(IntegrityError, match="pack is damaged: Is a directory"):
        read_pack_manifest(str(tmp_path))


def test_a_member_is_a_regular_file_of_its_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    os.close(open_member(str(tmp_path), "a", 3))
    with pytest.raises(IntegrityError) as caught:
        open_member(str(tmp_path), "a", 4)
    assert str(caught.value) == f"{tmp_path}/a: not the file its listing names: expected 4 bytes, got 3 bytes{REMEDY}"
    os.close(open_member(str(tmp_path), "a", 3, executable=False))
    with pytest.raises(IntegrityError) as caught:
        open_member(str(tmp_path), "a", 3, executable=True)
    assert (caught.value.expected, caught.value.got) == ("3 bytes executable", "3 bytes not executable")
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(IntegrityError, match="pack is damaged: symbolic link"):
        open_member(str(tmp_path), "link", 3)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(IntegrityError, match="not the file its listing names"):
        open_member(str(tmp_path), "fifo", 0)


@pytest.mark.parametrize("refused", [errno.EMFILE, errno.EACCES, errno.ENOMEM, errno.ESTALE])
def test_what_this_machine_refuses_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int) -> None:
    """A damaged pack is set aside: that must not happen because too many files are open."""

    def fail(*arguments: object, **options: object) -> NoReturn:
        raise OSError(refused, os.strerror(refused))

    (tmp_path / "a").write_bytes(b"123")
    monkeypatch.setattr(os, "open", fail)
    monkeypatch.setattr("builtins.open", fail)
    for read in (
        lambda: open_member(str(tmp_path), "a", 3),
        lambda: read_pack_manifest(str(tmp_path)),
        lambda: list(read_entries(str(tmp_path))),
    ):
        with pytest.raises(LocalFailure, match=f"cannot be read: {os.strerror(refused)}"):
            read()


def test_a_block_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    error = unreadable_member("a", OSError(errno.EIO, "Input/output error"))
    assert str(error) == f"a: pack is damaged: Input/output error{REMEDY}"
    assert isinstance(error, IntegrityError)


def test_each_parent_folder_is_made_once(tmp_path: Path) -> None:
    parents = ParentFolders(str(tmp_path))
    for path in ("a", "b/c/d", "b/c/e/f", "b/g", "h/", "i/j/"):
        assert parents.make(path) == f"{tmp_path}/{path}"
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["b", "b/c", "b/c/e", "i"]


def test_a_parent_folder_that_exists_already_is_an_error(tmp_path: Path) -> None:
    """A file system that ignores case or normalisation reports the folder of the other name."""
    (tmp_path / "same").mkdir()
    with pytest.raises(FileExistsError):
        ParentFolders(str(tmp_path)).make("same/file")


def test_parent_folders_are_made_for_the_deepest_path(tmp_path: Path) -> None:
    deep = "d/" * 511 + "d"
    ParentFolders(str(tmp_path)).make(deep)
    assert (tmp_path / deep).parent.is_dir()
