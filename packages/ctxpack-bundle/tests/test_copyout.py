"""What is copied out of a pack's folder is what the listing says, or nothing that looks whole."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from folder_trees import Executable, Folder, folder_trees, read_folder, write_folder
from hypothesis import given
from made_pack import make_pack_in

from ctxpack_bundle import copy_out, copying, read_entries
from ctxpack_identity import CtxPackError, IntegrityError, LocalFailure, TreeEntry

MakePack = Callable[..., Path]
MIB = 1 << 20
REMEDY = "; pull it anew, or make it again"
CONTENT = {"a": b"1", "bin": {"run": Executable(b"#!")}, "empty": {}, "large": b"x" * (2 * MIB), "void": b""}


def entries_below(pack: Path, prefix: str = "") -> list[TreeEntry]:
    return [entry for entry in read_entries(str(pack)) if entry.path.startswith(prefix)]


@pytest.fixture
def pack(tmp_path: Path, make_pack: MakePack) -> Path:
    return make_pack(write_folder(CONTENT, tmp_path / "outputs"))


@given(folder_trees())
def test_a_copy_of_everything_is_what_was_packed(tmp_path_factory: pytest.TempPathFactory, content: Folder) -> None:
    here = tmp_path_factory.mktemp("copy")
    pack = make_pack_in(here / "pack", [write_folder(content, here / "outputs")])
    copy_out(str(pack), read_entries(str(pack)), str(here / "copy"))
    assert read_folder(here / "copy") == content


@pytest.mark.parametrize(
    ("prefix", "content"),
    [
        ("folder/", {"a": b"1", "deep": {"b": b"2"}}),
        ("folder/deep/", {"b": b"2"}),
        ("file", b"3"),
        ("run", Executable(b"#!")),
        ("none/", {}),
        ("nothing/", {}),
        ("", {"file": b"3", "folder": {"a": b"1", "deep": {"b": b"2"}}, "none": {}, "run": Executable(b"#!")}),
    ],
)
def test_one_output_is_copied_without_its_prefix(
    tmp_path: Path, make_pack: MakePack, prefix: str, content: Folder | bytes
) -> None:
    outputs = {"folder": {"a": b"1", "deep": {"b": b"2"}}, "file": b"3", "run": Executable(b"#!"), "none": {}}
    source = write_folder(outputs, tmp_path / "o")
    pack = make_pack(*(source / name for name in outputs))
    (tmp_path / "there").mkdir()
    copy_out(str(pack), entries_below(pack, prefix), str(tmp_path / "there/copy"), prefix=prefix)
    assert read_folder(tmp_path / "there") == {"copy": content}


def test_some_entries_make_the_folders_they_need(tmp_path: Path, pack: Path) -> None:
    some = [entry for entry in read_entries(str(pack)) if entry.path in ("bin/run", "void")]
    copy_out(str(pack), some, str(tmp_path / "copy"))
    assert read_folder(tmp_path / "copy") == {"bin": {"run": Executable(b"#!")}, "void": b""}


def test_only_what_has_the_prefix_can_be_copied(tmp_path: Path, pack: Path) -> None:
    with pytest.raises(ValueError, match="'a' does not begin with 'bin/'"):
        copy_out(str(pack), read_entries(str(pack)), str(tmp_path / "copy"), prefix="bin/")


def test_modes_are_those_that_the_umask_allows(tmp_path: Path, pack: Path) -> None:
    before = os.umask(0o027)
    try:
        copy_out(str(pack), read_entries(str(pack)), str(tmp_path / "copy"))
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / "copy" / name).stat().st_mode) for name in ("a", "bin", "bin/run", "large")}
    assert modes == {"a": 0o640, "bin": 0o750, "bin/run": 0o750, "large": 0o640}


def test_progress_is_reported_in_bytes(tmp_path: Path, pack: Path) -> None:
    reported: list[tuple[str, int, int | None]] = []
    progress = lambda *step: reported.append(step)  # noqa: E731
    copy_out(str(pack), read_entries(str(pack)), str(tmp_path / "copy"), progress=progress, total=9 * MIB)
    assert {(stage, total) for stage, _, total in reported} == {("place", 9 * MIB)}
    assert sum(count for _, count, _ in reported) == 2 * MIB + 3


def refused(pack: Path, destination: Path) -> CtxPackError:
    with pytest.raises(CtxPackError) as caught:
        copy_out(str(pack), read_entries(str(pack)), str(destination))
    assert [thread.name for thread in threading.enumerate() if thread.name == "hash"] == []
    return caught.value


def flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with open(path, "r+b") as file:
        file.write(data)


def removed(path: Path) -> Path:
    path.unlink()
    return path


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a flipped bit": ("a", flip, "content differs from its digest: expected sha256:"),
    "a flipped bit of a large file": ("large", flip, "content differs from its digest: expected sha256:"),
    "a lost file": ("a", lambda path: path.unlink(), "pack is damaged: No such file or directory"),
    "a lost folder": ("bin/run", lambda path: path.parent.rename(path.parent.with_name("nib")), "No such file"),
    "a shorter file": (
        "large",
        lambda path: os.truncate(path, MIB),
        "not the file its listing names: expected 2097152",
    ),
    "a longer file": ("a", lambda path: os.truncate(path, 2), "not the file its listing names"),
    "no longer executable": ("bin/run", lambda path: path.chmod(0o444), "expected 2 bytes executable, got 2 bytes not"),
    "now executable": ("a", lambda path: path.chmod(0o555), "expected 1 bytes not executable, got 1 bytes executable"),
    "a link": ("a", lambda path: removed(path).symlink_to("void"), "pack is damaged: symbolic link"),
    "a folder": ("a", lambda path: removed(path).mkdir(), "not the file its listing names"),
    "a FIFO": ("a", lambda path: os.mkfifo(removed(path)), "not the file its listing names"),
}


@pytest.mark.parametrize(("name", "damage", "fault"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_an_error_that_names_it(
    tmp_path: Path, pack: Path, name: str, damage: Callable[[Path], object], fault: str
) -> None:
    damage(pack / "artifacts" / name)
    error = refused(pack, tmp_path / "copy")
    assert isinstance(error, IntegrityError)
    assert error.where == f"{pack}/artifacts/{name}"
    assert fault in str(error)
    assert str(error).endswith(REMEDY)


def test_a_file_that_changes_while_it_is_copied_is_an_error(tmp_path: Path, make_pack: MakePack) -> None:
    (tmp_path / "f").write_bytes(bytes(3 * MIB) + b"end")
    pack = make_pack(tmp_path / "f")
    (pack / "artifacts/f").chmod(0o644)

    reports: list[int] = []

    def write(stage: str, advanced: int, total: int | None) -> None:
        reports.append(advanced)
        if len(reports) == 1:
            flip(pack / "artifacts/f", -1)

    with pytest.raises(IntegrityError, match="content differs from its digest"):
        copy_out(str(pack), read_entries(str(pack)), str(tmp_path / "copy"), progress=write)


@pytest.mark.parametrize(("reason", "kind"), [(errno.EIO, IntegrityError), (errno.ESTALE, LocalFailure)])
@pytest.mark.parametrize("name", ["a", "large"])
def test_a_disk_that_cannot_read_is_damage_and_a_server_that_is_gone_is_not(
    tmp_path: Path, pack: Path, monkeypatch: pytest.MonkeyPatch, reason: int, kind: type[CtxPackError], name: str
) -> None:
    def read(*arguments: object) -> bytes:
        raise OSError(reason, os.strerror(reason))

    [entry] = entries_below(pack, name)
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        patch.setattr(os, "readv", read)
        with pytest.raises(CtxPackError) as caught:
            copy_out(str(pack), [entry], str(tmp_path / "copy"), prefix=name)
    assert type(caught.value) is kind
    assert caught.value.where == f"{pack}/artifacts/{name}"


@pytest.mark.parametrize("prefix", ["", "a"], ids=["folder", "file"])
def test_what_is_there_already_is_never_overwritten(tmp_path: Path, pack: Path, prefix: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("none")
    for destination in (tmp_path / "folder", tmp_path / "link"):
        with pytest.raises(FileExistsError):
            copy_out(str(pack), entries_below(pack, prefix), str(destination), prefix=prefix)


def test_a_destination_that_cannot_be_written_is_an_oserror(tmp_path: Path, pack: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copy_out(str(pack), read_entries(str(pack)), str(tmp_path / "none/copy"))


def test_holes_stay_holes(tmp_path: Path, make_pack: MakePack) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.write(b"x")
        file.truncate(64 * MIB)
    pack = make_pack(tmp_path / "sparse")
    copy_out(str(pack), entries_below(pack), str(tmp_path / "copy"), prefix="sparse")
    for path in (pack / "artifacts/sparse", tmp_path / "copy"):
        assert path.stat().st_blocks * 512 <= 64 << 10
        assert path.stat().st_size == 64 * MIB


def test_the_copy_is_no_link(tmp_path: Path, pack: Path) -> None:
    copy_out(str(pack), read_entries(str(pack)), str(tmp_path / "copy"))
    (tmp_path / "copy/a").write_bytes(b"mine")
    assert (pack / "artifacts/a").read_bytes() == b"1"


DEEP = """
import os, resource, sys
from ctxpack_bundle import copy_out, read_entries, verify_pack
verify_pack("pack")  # loads all modules
resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
sys.setrecursionlimit(100)
verify_pack("pack")
copy_out("pack", read_entries("pack"), "copy")
sys.setrecursionlimit(1000)
print(sum(len(files) for _, _, files in os.walk("copy")))
"""


def test_a_deep_pack_needs_few_descriptors_and_no_recursion(tmp_path: Path, environment: Mapping[str, str]) -> None:
    folder = tmp_path / "outputs"
    folder.mkdir()
    deepest = folder / "/".join(["d"] * 300)
    deepest.mkdir(parents=True)
    (deepest / "file").write_bytes(b"1")
    (folder / "e").write_bytes(b"2")
    make_pack_in(tmp_path / "pack", [folder])
    script = [sys.executable, "-c", DEEP]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)


@pytest.mark.parametrize("failing", range(3))
def test_a_full_disk_leaves_no_descriptor_open(
    tmp_path: Path, pack: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """A write of each small file is made to fail in turn."""
    written: list[int] = []

    def write(fd: int, data: bytes) -> None:
        if len(written) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(os.write(fd, data))

    monkeypatch.setattr(copying, "write_all", write)
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match="No space left"):
        copy_out(str(pack), read_entries(str(pack)), str(tmp_path / "copy"))
    assert len(os.listdir("/dev/fd")) == before
