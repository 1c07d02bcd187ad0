"""A fingerprint stays the same while nothing changed, and differs after any single change."""

from __future__ import annotations

import os
import resource
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_cache.fingerprint import fingerprint, fingerprints
from ctxpack_cache.tree import remove_tree, walk

Run = Callable[[Callable[[], object]], Any]


class File(NamedTuple):
    data: bytes
    mode: int


class Link(NamedTuple):
    target: str


class Pipe(NamedTuple):
    pass


Tree = dict[bytes, "Tree | File | Link | Pipe"]

_any_name = st.binary(min_size=1, max_size=8) if sys.platform == "linux" else st.text("abc", min_size=1).map(str.encode)
names = _any_name.filter(lambda name: name not in (b".", b"..") and not {0, 47} & {*name})
leaves = st.one_of(
    st.builds(File, st.binary(max_size=8), st.sampled_from([0o644, 0o755, 0o444])),
    st.builds(Link, st.sampled_from(["gone", ".", "..", "/"])),
    st.builds(Pipe),
)
trees = st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=10).filter(
    lambda tree: isinstance(tree, dict)
)


def write(node: Any, path: bytes) -> None:
    match node:
        case File(data, mode):
            with open(path, "wb") as file:
                file.write(data)
            os.chmod(path, mode)
        case Link(target):
            os.symlink(os.fsencode(target), path)
        case Pipe():
            os.mkfifo(path)
        case _:
            os.mkdir(path)
            for name, inner in node.items():
                write(inner, path + b"/" + name)


@contextmanager
def written(tree: Tree) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        top = os.path.join(scratch, "top")
        write(tree, os.fsencode(top))
        yield top
        if os.path.exists(top):
            remove_tree(top)


def both(path: str) -> tuple[str, str]:
    found = fingerprints(path)
    assert found == (fingerprint(path, local=True), fingerprint(path, local=False))
    return found


@given(trees)
def test_it_stays_when_nothing_changes_but_the_place_of_the_folder_and_who_may_write_to_folders(tree: Tree) -> None:
    with written(tree) as top:
        before = both(top)
        assert both(top) == both(top + "/") == before
        elsewhere = os.path.join(os.path.dirname(top), "another parent", "another name")
        os.mkdir(os.path.dirname(elsewhere))
        os.rename(top, elsewhere)
        assert both(elsewhere) == before
        for folder in [elsewhere, *(entry.path for entry in walk(elsewhere) if entry.is_dir(follow_symlinks=False))]:
            os.chmod(folder, 0o555)
            os.utime(folder, (1, 1))
        assert both(elsewhere) == before
        remove_tree(elsewhere)


def same_size_same_mtime(path: bytes) -> None:
    """Write other bytes, as a program that hides it; again, until the clock of the file system has moved."""
    before = os.stat(path)
    while os.stat(path).st_ctime_ns == before.st_ctime_ns:
        with open(path, "r+b") as file:
            file.write(b"\xff" * before.st_size)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_mtime(path: bytes) -> None:
    status = os.stat(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


def longer(path: bytes) -> None:
    with open(path, "ab") as file:
        file.write(b"x")


def other_bit(bit: int, path: bytes) -> None:
    os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) ^ bit)


def replaced(path: bytes) -> None:
    """Put another file with the same bytes and times there."""
    status = os.stat(path)
    copy = path + b"~"
    with open(path, "rb") as file:
        write(File(file.read(), status.st_mode & 0o777), copy)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(copy, path)


def removed(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(os.fsdecode(path))
    else:
        os.unlink(path)


def renamed(path: bytes) -> None:
    os.rename(path, path + b"~")


def become(node: object, path: bytes) -> None:
    removed(path)
    write(node, path)


def with_another(node: object, path: bytes) -> None:
    write(node, path + b"/a name of more than 8 bytes")


def changes(node: Any, path: bytes) -> Iterator[tuple[Callable[[bytes], None], bytes, bool]]:
    """Yield what can be changed: a function, its path, whether it shows on network file systems too."""
    match node:
        case File(_, _):
            yield from [(change, path, True) for change in (other_mtime, longer, partial(become, {}))]
            yield from [(change, path, False) for change in (same_size_same_mtime, replaced, partial(other_bit, 0o100))]
        case Link(target):
            yield partial(become, Link(target + "x")), path, True
            yield partial(become, File(os.fsencode(target), 0o777)), path, True
        case Pipe():
            yield partial(become, File(b"", 0o644)), path, True
        case _:
            new: tuple[object, ...] = (File(b"", 0o644), Link("x"), Pipe(), {})
            yield from [(partial(with_another, inner), path, True) for inner in new]
            yield partial(other_bit, 0o001), path, False
            for name, inner in node.items():
                below = path + b"/" + name
                yield from ((change, below, True) for change in (removed, renamed))
                yield from changes(inner, below)


@given(trees, st.data())
def test_it_differs_after_any_single_change(tree: Tree, data: st.DataObject) -> None:
    with written(tree) as top:
        possible = list(changes(tree, os.fsencode(top)))
        change, path, shows_everywhere = possible[data.draw(st.integers(0, len(possible) - 1))]
        local, network = both(top)
        change(path)
        assert fingerprint(top, local=True) != local
        assert (fingerprint(top, local=False) != network) is shows_everywhere


def test_files_that_only_moved_between_folders_differ(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in ("a", "b"):
        (top / name).mkdir(parents=True)
    (top / "a" / "file").touch()
    before = both(str(top))
    (top / "a" / "file").rename(top / "b" / "file")
    assert not set(both(str(top))) & set(before)


def test_the_order_in_which_the_system_lists_a_folder_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdef":
        (tmp_path / f"folder {name}").mkdir()
        (tmp_path / f"folder {name}" / "file").touch()
        (tmp_path / name).touch()
    before = both(str(tmp_path))
    scandir = os.scandir

    @contextmanager
    def shuffled(place: int) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(place) as entries:
            yield iter(sorted(entries, key=lambda entry: entry.name[::-1], reverse=True))

    monkeypatch.setattr(os, "scandir", shuffled)
    assert both(str(tmp_path)) == before


@pytest.mark.parametrize("final", ["", "/"])
def test_a_path_that_is_a_link_is_not_followed(tmp_path: Path, final: str) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder")
    before = both(f"{link}{final}")
    (tmp_path / "folder" / "file").touch()
    assert both(f"{link}{final}") == before
    (tmp_path / "folder" / "file").unlink()
    (tmp_path / "folder").rmdir()
    assert both(f"{link}{final}") == before
    link.unlink()
    link.symlink_to("elsewhere")
    assert not set(both(f"{link}{final}")) & set(before)


@pytest.mark.parametrize("change", [same_size_same_mtime, replaced, longer, other_mtime])
def test_a_path_may_be_a_file(tmp_path: Path, change: Callable[[bytes], None]) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"text")
    before = fingerprint(str(file), local=True)
    assert fingerprint(str(file), local=True) == before
    change(os.fsencode(file))
    assert fingerprint(str(file), local=True) != before


def test_writing_into_a_pipe_is_no_change(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = both(str(tmp_path))
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)
    os.write(descriptor, b"text")
    assert both(str(tmp_path)) == before
    os.close(descriptor)


def test_no_file_is_opened(tmp_path: Path, run: Run) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder/file"):
        (tmp_path / name).write_text("text")

    def work() -> list[str]:
        opened: list[str] = []

        def hook(event: str, arguments: Any) -> None:
            if event == "open":
                opened.append(os.path.relpath(os.fsdecode(arguments[0]), tmp_path))

        sys.addaudithook(hook)
        fingerprint(str(tmp_path), local=True)
        return opened

    assert run(work) == (0, "['.', 'folder']")


def test_what_is_gone_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fingerprint(str(tmp_path / "gone"), local=True)


def test_what_goes_before_its_turn_raises(tmp_path: Path, run: Run) -> None:
    (tmp_path / "folder").mkdir()

    def work() -> None:
        def hook(event: str, arguments: Any) -> None:
            if event == "open" and os.fsdecode(arguments[0]).endswith("folder"):
                os.rmdir(tmp_path / "folder")

        sys.addaudithook(hook)
        fingerprint(str(tmp_path), local=True)

    assert run(work).output.startswith("FileNotFoundError")


def test_neither_the_length_of_a_path_nor_the_number_of_descriptors_limits_the_depth(tmp_path: Path, run: Run) -> None:
    top = tmp_path / "top"
    top.mkdir()
    name = "n" * 200

    def work() -> str:
        os.chdir(top)
        for _ in range(300):
            os.mkdir(name)
            os.chdir(name)
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        before = both(str(top))
        os.symlink("target", "link")
        after = both(str(top))
        return f"{len(set(before + after))} {both(str(top)) == after}"

    outcome = run(work)
    remove_tree(str(top))
    assert outcome == (0, "4 True")
