"""The chunks of a pack, concatenated, are a plain .tar.gz, which GNU tar and Python's tarfile read alike."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from folder_trees import Executable, Folder, folder_trees, read_folder, write_folder
from hypothesis import given, settings
from made_pack import make_pack_in

from ctxpack_bundle import make_chunk, pack

CONTENT: Folder = {
    "a": b"text",
    "bin": {"run": Executable(b"#!/bin/sh\n")},
    "d" * 200: {"e" * 200: b"long"},
    "empty": {},
    "manifest.json": b"the user's own",
    "noise": bytes(range(256)) * 20_000,
    "void": b"",
    "ü 日本 \U0001f4e6": {"ü": {}},
}


def archived(folder: Path) -> Path:
    archive = folder.with_name("pack.tar.gz")
    archive.write_bytes(b"".join(make_chunk(piece) for piece in pack(str(folder))))
    return archive


@pytest.fixture
def folder(tmp_path: Path, make_pack: Callable[..., Path]) -> Path:
    return make_pack(write_folder(CONTENT, tmp_path / "out"))


def gnu_tar(*arguments: str | Path) -> str:
    tar = shutil.which("tar")
    assert tar, "these tests need the command tar"
    done = subprocess.run([tar, *arguments], capture_output=True, env={"LC_ALL": "C.UTF-8", "TZ": "UTC"})
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_gnu_tar_unpacks_the_same(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "by-tar").mkdir()
    gnu_tar("-xzf", archived(folder), "-C", tmp_path / "by-tar")
    assert read_folder(tmp_path / "by-tar") == read_folder(folder)


def test_gnu_tar_lists_every_member_in_order(folder: Path) -> None:
    listed = gnu_tar(
        "-tvzf", archived(folder), "--quoting-style=literal", "--numeric-owner", "--full-time"
    ).splitlines()
    assert listed[0].split()[:2] == ["-rw-r--r--", "0/0"]
    assert all("1970-01-01 00:00:00" in line and " 0/0 " in line for line in listed)
    names = [line.split("00:00:00 ", 1)[1] for line in listed]
    assert names == [
        "manifest.json",
        "files.jsonl",
        "artifacts/",
        "artifacts/a",
        "artifacts/bin/run",
        f"artifacts/{'d' * 200}/{'e' * 200}",
        "artifacts/empty/",
        "artifacts/manifest.json",
        "artifacts/noise",
        "artifacts/void",
        "artifacts/ü 日本 \U0001f4e6/ü/",
    ]
    assert [line.split()[0] for line in listed[3:7]] == ["-rw-r--r--", "-rwxr-xr-x", "-rw-r--r--", "drwxr-xr-x"]


def test_gnu_tar_finds_no_difference_to_the_unpacked_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "by-tar").mkdir()
    gnu_tar("-xzf", archived(folder), "-C", tmp_path / "by-tar")
    assert gnu_tar("-dzf", archived(folder), "-C", tmp_path / "by-tar") == ""


def by_tarfile(archive: Path) -> dict[str, tuple[int, bool, bytes]]:
    """Return for each name: mode, whether it is a folder, and content."""
    found: dict[str, tuple[int, bool, bytes]] = {}
    with tarfile.open(archive, "r:gz", errorlevel=2) as members:
        for member in members:
            assert member.isreg() or member.isdir()
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert member.name not in found
            content = members.extractfile(member)
            found[member.name] = (member.mode, member.isdir(), content.read() if content else b"")
    return found


def expected(folder: Path) -> dict[str, tuple[int, bool, bytes]]:
    found = {"artifacts": (0o755, True, b"")}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            mode = 0o755 if name.startswith("artifacts/") and path.stat().st_mode & 0o100 else 0o644
            found[name] = (mode, False, path.read_bytes())
        elif name.startswith("artifacts/") and not any(path.iterdir()):
            found[name] = (0o755, True, b"")
    return found


def test_tarfile_sees_the_same(folder: Path) -> None:
    assert by_tarfile(archived(folder)) == expected(folder)


@given(folder_trees())
@settings(max_examples=30)
def test_tarfile_sees_the_same_of_any_folder(content: Folder) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        write_folder(content, here / "out")
        make_pack_in(here / "pack", [here / "out"])
        assert by_tarfile(archived(here / "pack")) == expected(here / "pack")
