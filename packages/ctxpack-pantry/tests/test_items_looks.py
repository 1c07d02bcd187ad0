"""Looks at what a map reads: any change is seen, also one that is undone, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pantry_context import context_of
from pantry_project import Project
from pantry_target import FaultyTarget

from ctxpack_cache import Cache
from ctxpack_identity import HashedRoot, Hashing
from ctxpack_pantry.contractfile import load_contract_file
from ctxpack_pantry.identify import identify
from ctxpack_pantry.items.looks import ItemLooks, Surroundings

Look = Callable[..., tuple[ItemLooks, str, list[HashedRoot]]]


@pytest.fixture
def look(project: Project, cache: Cache, registry: FaultyTarget) -> Look:
    """Hash the project as a map does; return looks at the items, at all else, and the roots of all else.

    exclude, symlinks: of the input.
    """
    (project.inputs / "deep/er").mkdir(parents=True)
    (project.inputs / "deep/er/c.txt").write_text("gamma")
    (project.inputs / "deep/d.tmp").write_text("delta")

    def look(**options: Any) -> tuple[ItemLooks, str, list[HashedRoot]]:
        project.write_contract(inputs=[{"name": "raw_docs", "path": "./raw_docs", **options}])
        items: list[ItemLooks] = []
        around = Surroundings()

        def on_folder(root: HashedRoot, folder: Any) -> None:
            if root.listing != "inputs/raw_docs":
                around.on_folder(root, folder)
                return
            if not items:
                items.append(ItemLooks(root))
            items[0].on_folder(folder)

        found = identify(context_of(cache, registry), load_contract_file(str(project.contract)), on_folder=on_folder)
        items[0].finish()
        return items[0], around.look, [root for root in found.hashed if root.listing != "inputs/raw_docs"]

    return look


ITEMS = ["a.txt", "b.txt", "deep", "deep/er", "deep/er/c.txt", "deep/d.tmp", "empty"]


def test_what_was_hashed_is_the_same(look: Look) -> None:
    items, _, _ = look()
    assert [name for name in ITEMS if not items.is_same(name)] == [
        "deep/er"
    ]  # of entries only direct children are items
    assert not items.is_same("nothing")


def write(path: Path) -> None:
    path.write_text("other")


def write_back(path: Path) -> None:
    before, status = path.read_text(), path.stat()
    path.write_text("x" * len(before))
    path.write_text(before)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path: Path) -> None:
    status = path.stat()
    path.with_name("copy").write_text(path.read_text())
    os.utime(path.with_name("copy"), ns=(status.st_atime_ns, status.st_mtime_ns))
    path.with_name("copy").rename(path)


def remove(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    path.rename(path.with_name("copy"))
    path.symlink_to("copy")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = [write, write_back, replace, remove, link, make_folder, make_fifo]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("path", ["a.txt", "deep/er/c.txt"])
def test_any_change_of_an_item_is_seen_and_of_no_other(
    look: Look, project: Project, change: Callable[[Path], None], path: str
) -> None:
    items, _, _ = look()
    change(project.inputs / path)
    assert not items.is_same(path)
    assert items.is_same("b.txt")
    assert items.is_same("deep") == (path == "a.txt")


@pytest.mark.parametrize("name", ["deep/new", "deep/er/new", "deep/new/"])
def test_what_comes_or_goes_in_a_folder_is_seen(look: Look, project: Project, name: str) -> None:
    items, _, _ = look()
    path = project.inputs / name
    path.mkdir() if name.endswith("/") else path.write_text("new")
    assert not items.is_same("deep")
    path.rmdir() if name.endswith("/") else path.unlink()
    assert items.is_same("deep")
    (project.inputs / "deep/d.tmp").unlink()
    assert not items.is_same("deep")
    (project.inputs / "empty/x").write_text("x")
    assert not items.is_same("empty")


def test_what_is_left_out_is_not_looked_at(look: Look, project: Project) -> None:
    items, _, _ = look(exclude=["*.tmp"])
    (project.inputs / "deep/d.tmp").unlink()
    (project.inputs / "deep/e.tmp").write_text("new")
    assert items.is_same("deep")


def test_links_are_followed_where_the_input_says_so(look: Look, project: Project, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("linked")
    (project.inputs / "link").symlink_to(tmp_path / "there")
    (project.inputs / "deep/link").symlink_to(tmp_path / "there")
    items, _, _ = look(symlinks="follow")
    assert items.is_same("link")
    assert items.is_same("deep")
    (tmp_path / "there").write_text("other")
    assert not items.is_same("link")
    assert not items.is_same("deep")


def test_a_look_at_the_others_is_the_same_until_they_are_touched(look: Look, project: Project) -> None:
    _, before, roots = look()
    assert Surroundings.now(roots, Hashing()) == before
    (project.inputs / "a.txt").write_text("the items do not count")
    _, again, _ = look()
    assert again == before
    write_back(project.code)
    assert Surroundings.now(roots, Hashing()) != before


def test_a_look_is_the_same_in_another_process(look: Look, project: Project) -> None:
    """It says nothing that depends on the seed of hash()."""
    assert look()[1] == look()[1]
    assert len(look()[1]) == 64
