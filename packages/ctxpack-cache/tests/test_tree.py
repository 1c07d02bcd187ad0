"""Any tree can be sealed, measured and removed."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_cache.tree import measure_tree, remove_tree, seal_tree, walk

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)
files = st.tuples(st.binary(max_size=30), st.integers(0, 0o777))
trees = st.recursive(files, lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=12).filter(
    lambda tree: isinstance(tree, dict)
)
Tree = dict[str, "Tree | tuple[bytes, int]"]


def write(tree: Tree, folder: Path) -> None:
    folder.mkdir()
    for name, node in tree.items():
        if isinstance(node, dict):
            write(node, folder / name)
        else:
            data, mode = node
            (folder / name).write_bytes(data)
            (folder / name).chmod(mode)


@contextmanager
def written(tree: Tree) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "tree")
        write(tree, folder)
        yield folder
        if folder.exists():
            remove_tree(str(folder))


def sealed(node: Tree | tuple[bytes, int]) -> int:
    return 0o555 if isinstance(node, dict) or node[1] & stat.S_IXUSR else 0o444


def flatten(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Tree | tuple[bytes, int]]]:
    for name, node in tree.items():
        yield prefix + name, node
        if isinstance(node, dict):
            yield from flatten(node, prefix + name + "/")


@given(trees)
def test_seal_sets_the_mode_of_everything_inside_and_not_of_the_folder(tree: Tree) -> None:
    with written(tree) as folder:
        folder.chmod(0o750)
        seal_tree(str(folder))
        modes = {os.path.relpath(entry.path, folder): entry.stat().st_mode & 0o7777 for entry in walk(str(folder))}
        assert modes == {path: sealed(node) for path, node in flatten(tree)}
        assert folder.stat().st_mode & 0o7777 == 0o750


@given(trees)
def test_measure_returns_the_bytes_and_the_number_of_files(tree: Tree) -> None:
    data = [node[0] for _, node in flatten(tree) if not isinstance(node, dict)]
    with written(tree) as folder:
        assert measure_tree(str(folder)) == (sum(map(len, data)), len(data))


@given(trees, st.sampled_from([0, 0o100, 0o500, 0o555, 0o755]), st.booleans())
def test_remove_leaves_nothing_and_touches_nothing_outside(tree: Tree, mode: int, sealed_first: bool) -> None:
    with written(tree) as folder:
        folder.with_name("outside").touch()
        if sealed_first:
            seal_tree(str(folder))
        for path in sorted(folder.rglob("*/"), reverse=True):
            path.chmod(mode)
        folder.chmod(mode)
        remove_tree(str(folder))
        assert os.listdir(folder.parent) == ["outside"]


def test_remove_works_with_names_like_its_own(tmp_path: Path) -> None:
    """A removal that stopped halfway leaves such folders; the next one uses other names."""
    folder = tmp_path / "tree"
    for number in range(20):
        (folder / f"00-{number}" / f"00-{number}" / f"00-{number}").mkdir(parents=True)
    remove_tree(str(folder))
    assert os.listdir(tmp_path) == []


def test_seal_removes_setuid_setgid_and_sticky_bits(tmp_path: Path) -> None:
    (tmp_path / "program").touch()
    (tmp_path / "program").chmod(0o6755)
    seal_tree(str(tmp_path))
    assert (tmp_path / "program").stat().st_mode & 0o7777 == 0o555


@pytest.mark.parametrize(("kind", "make"), [("l", lambda path: path.symlink_to("x")), ("p", os.mkfifo)])
def test_seal_refuses_links_and_devices(tmp_path: Path, kind: str, make: object) -> None:
    assert callable(make)
    make(tmp_path / "odd")
    with pytest.raises(Exception, match=f"odd: a pack holds only files and folders: got file type '{kind}'"):
        seal_tree(str(tmp_path))
