"""Outputs that change, come or go while they are copied make no pack; what changes nothing of them does."""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from folder_trees import Executable, read_folder, write_folder
from forged_pack import CONTRACT, canonical
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle import OutputTree, assemble, secondlook
from ctxpack_bundle.order import comes_first
from ctxpack_bundle.secondlook import FirstLook
from ctxpack_identity import InvalidInput
from ctxpack_identity.hashing import filesystem
from ctxpack_identity.hashing.scan import Found, scan

LONG_AGO = 1_000_000_000
CONTENT = {"a": b"one", "big": b"large", "empty": {}, "s": {"t": {"u": b"3"}}, "z": Executable(b"2")}

linux = pytest.mark.skipif(sys.platform != "linux", reason="no file system is known to be local")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = write_folder(CONTENT, tmp_path / "out")
    age(folder.rglob("*"))
    return folder


def age(paths: Iterable[Path]) -> None:
    for path in sorted(paths, reverse=True):
        os.utime(path, (LONG_AGO, LONG_AGO))


def seal(
    out: Path, meanwhile: Callable[[], object], *, at: str = "big", excludes: tuple[str, ...] = (), follow: bool = False
) -> Path:
    """Assemble out, do something before the file at a path is copied, and return the pack's folder."""
    folder = out.parent / "pack"
    folder.mkdir()

    def listen(found: Found) -> None:
        if found.path == at:
            meanwhile()

    tree = OutputTree(str(out), excludes, follow)
    assemble(str(folder), {"out": tree}, contract=canonical(CONTRACT), on_found=listen)
    return folder


def refused(out: Path, meanwhile: Callable[[], object], *, at: str = "big", **options: Any) -> str:
    """Return what of out is named by the error, relative to it."""
    with pytest.raises(InvalidInput) as caught:
        seal(out, meanwhile, at=at, **options)
    error = caught.value
    assert (error.code, error.what) == (
        "E_OUTPUT_CHANGED",
        "changed while it was copied, so nothing was seeded",
    )
    assert error.fix == "seed again when nothing writes to it"
    assert not (out.parent / "pack/manifest.json").exists()
    return os.path.relpath(error.where, out)


def rewrite(path: Path, data: bytes, *, keep_times: bool = False) -> None:
    status = path.stat()
    path.write_bytes(data)
    if keep_times:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def removed(path: Path) -> Path:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    return path


def made(path: Path) -> Path:
    path.mkdir()
    return path


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "longer": (lambda out: rewrite(out / "a", b"one more"), "a"),
    "as long": (lambda out: rewrite(out / "a", b"two"), "a"),
    "shorter": (lambda out: os.truncate(out / "a", 1), "a"),
    "mtime": (lambda out: os.utime(out / "a"), "a"),
    "mode": (lambda out: (out / "a").chmod(0o755), "a"),
    "gone": (lambda out: (out / "a").unlink(), "a"),
    "came": (lambda out: (out / "b").write_bytes(b""), "b"),
    "came before all": (lambda out: (out / "-").write_bytes(b""), "-"),
    "came after all": (lambda out: (out / "zz").write_bytes(b""), "zz"),
    "came into a folder": (lambda out: (out / "s/t/v").write_bytes(b""), "s/t/v"),
    "came into an empty folder": (lambda out: (out / "empty/x").write_bytes(b""), "empty/x"),
    "a folder came": (lambda out: (out / "new").mkdir(), "new"),
    "the last is gone": (lambda out: (out / "z").unlink(), "z"),
    "an empty folder is gone": (lambda out: (out / "empty").rmdir(), "empty"),
    "a folder is emptied": (lambda out: (out / "s/t/u").unlink(), "s/t/u"),
    "a folder is renamed": (lambda out: (out / "s").rename(out / "r"), "r/t/u"),
    "a file becomes a folder": (lambda out: removed(out / "a").mkdir(), "a"),
    "an empty folder becomes a file": (
        lambda out: removed(out / "empty").touch(),
        "empty",
    ),
    "a file becomes a link": (lambda out: removed(out / "a").symlink_to("big"), "a"),
    "a file becomes a FIFO": (lambda out: os.mkfifo(removed(out / "a")), "a"),
}


@pytest.mark.parametrize(("change", "where"), CHANGES.values(), ids=CHANGES)
def test_what_changes_comes_or_goes_is_named(out: Path, change: Callable[[Path], object], where: str) -> None:
    """All of it happens after the last file was found: what was copied long ago is looked at again."""
    assert refused(out, lambda: change(out), at="z").removesuffix("/") == where


@linux
@pytest.mark.parametrize("data", [b"two", b"one"], ids=["another content", "the same content"])
def test_a_file_that_is_replaced_by_rename_is_refused(out: Path, data: bytes) -> None:
    """Size, mtime and mode of both are the same."""
    (out.parent / "next").write_bytes(data)
    age([out.parent / "next"])
    assert refused(out, lambda: (out.parent / "next").rename(out / "a")) == "a"


@linux
def test_an_empty_folder_that_is_replaced_is_refused(out: Path) -> None:
    (out.parent / "next").mkdir()
    assert refused(out, lambda: (out.parent / "next").rename(out / "empty"), at="z") == "empty"


def seal_during(out: Path, meanwhile: Callable[[], object]) -> None:
    """Assemble out, and do something while its first large file is read."""
    pending = [meanwhile]

    def work(stage: str, advanced: int, total: int | None) -> None:
        if advanced == 1 << 20 and pending:
            pending.pop()()

    (out.parent / "pack").mkdir()
    tree = {"out": OutputTree(str(out))}
    assemble(str(out.parent / "pack"), tree, contract=canonical(CONTRACT), progress=work)


def test_generations_are_never_mixed(out: Path) -> None:
    """Each is complete, and replaces the one before by one rename while the large file between a and z is copied."""
    newer = write_folder({**CONTENT, "a": b"1ne", "z": Executable(b"4")}, out.parent / "newer")
    for folder in (out, newer):
        (folder / "big").write_bytes(bytes(2 << 20))
        age(folder.rglob("*"))
    if sys.platform != "linux":  # there the generations must differ in size or mtime
        os.utime(newer / "a")

    def swap() -> None:
        out.rename(out.parent / "older")
        newer.rename(out)

    with pytest.raises(InvalidInput) as caught:
        seal_during(out, swap)
    assert (caught.value.code, caught.value.where) == ("E_OUTPUT_CHANGED", f"{out}/a")


def test_outputs_that_are_gone_at_the_end_are_refused(out: Path) -> None:
    for name in ("z", "s"):
        (out / name).rename(out.parent / name)
    (out / "big").write_bytes(bytes(2 << 20))
    (out / "empty").rmdir()
    with pytest.raises(InvalidInput) as caught:
        seal_during(out, lambda: out.rename(out.parent / "elsewhere"))
    assert (caught.value.code, caught.value.where) == ("E_OUTPUT_CHANGED", str(out))


@linux
def test_a_content_whose_mtime_is_restored_is_refused(out: Path) -> None:
    assert refused(out, lambda: rewrite(out / "a", b"two", keep_times=True)) == "a"


@linux
def test_a_file_that_changes_while_it_is_read_again_is_refused(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(location: str, size: int, mtime_ns: int, *, follow: bool) -> str:
        raise InvalidInput("changed while it was read", where=location, code="E_INPUT_CHANGED")

    monkeypatch.setattr(secondlook, "hash_file", read)
    assert refused(out, lambda: os.link(out / "a", out.parent / "backup")) == "a"


HARMLESS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda out: None,
    "a hard link made by a backup": lambda out: os.link(out / "a", out.parent / "backup"),
    "a rewrite of the same content and mtime": lambda out: rewrite(out / "a", b"one", keep_times=True),
    "a read": lambda out: (out / "a").read_bytes(),
    "the times of an empty folder": lambda out: os.utime(out / "empty"),
    "the times of a folder": lambda out: os.utime(out / "s"),
    "what comes and goes": lambda out: os.rmdir(made(out / "empty/x")),
    "the output is moved away and back": lambda out: out.rename(out.parent / "moved").rename(out),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_changes_no_output_is_accepted(out: Path, change: Callable[[Path], object]) -> None:
    assert read_folder(seal(out, lambda: change(out), at="z") / "artifacts") == CONTENT


def test_what_patterns_leave_out_may_change(out: Path) -> None:
    (out / "log").write_bytes(b"begin")

    def write() -> None:
        (out / "log").write_bytes(b"begin and end")
        (out / "empty/log").write_bytes(b"new")
        (out / "s/log").write_bytes(b"new")

    assert read_folder(seal(out, write, at="z", excludes=("log",)) / "artifacts") == CONTENT


def test_a_followed_link_that_points_elsewhere_is_refused(out: Path) -> None:
    (out.parent / "other").write_bytes(b"one!")
    (out / "link").symlink_to("a")

    def turn() -> None:
        (out / "link").unlink()
        (out / "link").symlink_to("../other")

    assert refused(out, turn, at="z", follow=True) == "link"


def test_where_a_file_system_is_not_local_inode_and_ctime_do_not_count(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may change without a reason there; the size and the mtime still count."""
    monkeypatch.setattr(filesystem, "is_local", lambda path: False)
    (out.parent / "next").write_bytes(b"one")
    (out.parent / "next").chmod(0o644)
    age([out.parent / "next"])

    def read(*arguments: object, **options: object) -> str:
        raise AssertionError("nothing is read again")

    monkeypatch.setattr(secondlook, "hash_file", read)
    pack = seal(out, lambda: (out.parent / "next").rename(out / "a"))
    assert read_folder(pack / "artifacts") == CONTENT
    pack.rename(out.parent / "first")
    assert refused(out, lambda: os.utime(out / "a")) == "a"


def test_a_file_system_is_asked_about_once_for_each_device(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def is_local(path: str) -> bool:
        asked.append(path)
        return False

    monkeypatch.setattr(filesystem, "is_local", is_local)
    seal(out, lambda: None)
    assert asked == [str(out / "a")]


@linux
def test_only_files_written_just_now_are_read_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second write within one tick of the clock would not show in their times."""
    hashed: list[str] = []

    def hash_file(location: str, *arguments: object, **options: object) -> str:
        hashed.append(location)
        return "another"

    monkeypatch.setattr(secondlook, "hash_file", hash_file)
    clock = max(path.lstat().st_ctime_ns for path in out.rglob("*"))
    monkeypatch.setattr("time.time_ns", lambda: clock + 1_000_000_000)
    assert read_folder(seal(out, lambda: None) / "artifacts") == CONTENT
    assert hashed == []
    (out.parent / "pack").rename(out.parent / "first")
    monkeypatch.setattr("time.time_ns", lambda: clock)
    assert refused(out, lambda: None) == "a"
    assert hashed == [f"{out}/a"]


def test_each_file_takes_16_bytes(out: Path) -> None:
    look = FirstLook()
    for found in scan(str(out)):
        look.note(found)
    kept = [value for value in vars(look).values() if isinstance(value, array)]
    assert sum(len(values) * values.itemsize for values in kept) == 16 * 5


_PATHS = st.lists(st.sampled_from(["a", "b", "a-", "aa"]), min_size=1, max_size=3).map("/".join)


@given(_PATHS, _PATHS)
def test_of_two_paths_one_comes_first_as_in_a_walk(one: str, other: str) -> None:
    assert comes_first(one, other) == (one.split("/") < other.split("/"))
    assert comes_first(f"{one}/", f"{one}/{other}") is False
    assert comes_first(f"{one}/{other}", f"{one}/") is True
