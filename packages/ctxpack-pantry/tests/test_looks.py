"""Whether hashed files stayed the same files, by what stat(2) says; ctime alone is another matter."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_identity.contractfile import TreeSource
from ctxpack_identity.hashing.roots import HashedRoot
from ctxpack_identity.hashing.scan import Folder, StoreFolder
from ctxpack_pantry import Pantry
from ctxpack_pantry.looks import Difference, Looks

if TYPE_CHECKING:
    from pantry_project import Project


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run."""
    monkeypatch.setattr("ctxpack_identity.hashing.filesystem.is_local", lambda path: True)


@pytest.fixture
def look(pantry: Pantry, project: Project) -> Callable[..., Looks]:
    """Look at the files of the project as a contract's identification does."""
    (project.inputs / "deep").mkdir()
    (project.inputs / "deep" / "c.txt").write_text("gamma")
    project.write_contract(inputs=[{"name": "raw_docs", "path": "./raw_docs"}, {"name": "b", "path": "raw_docs/b.txt"}])

    def resolve(before: Looks | None = None) -> Looks:
        from ctxpack_pantry.identify import identify

        with pantry._context() as context:
            return identify(context, project.load(), before=before).looks

    return resolve


def differences(look: Callable[..., Looks], change: Callable[[], object]) -> dict[str, Difference]:
    before = look()
    change()
    return look(before).differences


def test_what_nobody_touched_is_the_same_each_time(look: Callable[..., Looks]) -> None:
    before = look()
    for _ in range(2):
        assert look(before).differences == {}
    assert before.differences == {}


def test_reading_changes_nothing(look: Callable[..., Looks], project: Project) -> None:
    assert differences(look, lambda: (project.inputs / "a.txt").read_text()) == {}


def back_by_copy(path: Path) -> None:
    copy = shutil.copy(path, path.with_name("copy"))
    path.write_text("other")
    path.write_bytes(Path(copy).read_bytes())
    os.unlink(copy)


def back_by_rename(path: Path) -> None:
    """With the same mtime, but another inode."""
    moved = path.parents[2] / "moved"
    path.rename(moved)
    shutil.copy2(moved, path)


@pytest.mark.parametrize("change", [back_by_copy, back_by_rename, os.utime])
def test_changed_and_changed_back_is_a_difference(
    look: Callable[..., Looks], project: Project, change: Callable[[Path], None]
) -> None:
    found = differences(look, lambda: change(project.inputs / "a.txt"))
    assert found == {"inputs/raw_docs": Difference("input raw_docs", "", False, ("a.txt",))}
    assert found["inputs/raw_docs"].where == "input raw_docs: a.txt"


def test_a_hard_link_touches(look: Callable[..., Looks], project: Project, tmp_path: Path) -> None:
    found = differences(look, lambda: os.link(project.inputs / "deep" / "c.txt", tmp_path / "backup"))
    assert found == {"inputs/raw_docs": Difference("input raw_docs", "deep/", True, ("c.txt",))}
    assert found["inputs/raw_docs"].where == "input raw_docs: deep/c.txt"


def test_each_root_has_its_own_difference(look: Callable[..., Looks], project: Project, tmp_path: Path) -> None:
    def change() -> None:
        os.link(project.inputs / "b.txt", tmp_path / "one")  # of two inputs
        os.utime(project.code)

    assert {name: one.touched for name, one in differences(look, change).items()} == {
        "inputs/raw_docs": True,
        "inputs/b": True,
        "code/0": False,
    }


@pytest.mark.parametrize("touched_first", [True, False])
def test_a_change_counts_more_than_a_touch(
    look: Callable[..., Looks], project: Project, tmp_path: Path, touched_first: bool
) -> None:
    """In whatever order the folders come."""
    names = ["a.txt", "deep/c.txt"][:: 1 if touched_first else -1]

    def change() -> None:
        os.link(project.inputs / names[0], tmp_path / "link")
        os.utime(project.inputs / names[1])

    [one] = [one for name, one in differences(look, change).items() if name == "inputs/raw_docs"]
    assert (one.touched, one.where) == (False, f"input raw_docs: {names[1]}")


@pytest.mark.parametrize(
    "change",
    [
        lambda inputs: (inputs / "came").write_text(""),
        lambda inputs: (inputs / "a.txt").unlink(),
        lambda inputs: (inputs / "a.txt").rename(inputs / "z.txt"),
        lambda inputs: shutil.copytree(inputs / "deep", inputs / "another"),
        lambda inputs: shutil.move(inputs / "a.txt", inputs / "deep"),
    ],
    ids=["came", "went", "renamed", "a folder came", "moved"],
)
def test_what_came_or_went_is_a_difference(
    look: Callable[..., Looks], project: Project, change: Callable[[Path], object]
) -> None:
    [one] = differences(look, lambda: change(project.inputs)).values()
    assert (one.what, one.touched) == ("input raw_docs", False)


def folder(path: Path, names: list[str], *, at: str = "") -> Folder:
    return Folder(at, f"{path}/", [(name, os.stat(path / name)) for name in names], [])


ROOT = HashedRoot("inputs/far", TreeSource("far"), "far", None)


def compared(before: list[Folder], after: list[Folder]) -> dict[str, Difference]:
    first = Looks()
    for one in before:
        first.on_folder(ROOT, one)
    second = Looks(first)
    for one in after:
        second.on_folder(ROOT, one)
    return second.differences


def test_off_this_machine_inode_and_ctime_do_not_count_but_size_and_mtime_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctxpack_identity.hashing.filesystem.is_local", lambda path: False)
    path = tmp_path / "x"
    path.mkdir()
    (path / "a").write_text("alpha")
    before = folder(path, ["a"])
    shutil.copy2(path / "a", path / "b")
    os.replace(path / "b", path / "a")
    assert compared([before], [folder(path, ["a"])]) == {}
    (path / "a").write_text("alphas")
    [one] = compared([before], [folder(path, ["a"])]).values()
    assert not one.touched


def test_each_file_system_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(path: str) -> bool:
        asked.append(path)
        return True

    monkeypatch.setattr("ctxpack_identity.hashing.filesystem.is_local", ask)
    (tmp_path / "a").write_text("alpha")
    looks = Looks()
    for at in ("", "one/", "two/"):
        looks.on_folder(ROOT, folder(tmp_path, ["a"], at=at))
    assert asked == [f"{tmp_path}/a"]


def stored(path: Path, names: list[str], versions: list[str]) -> Folder:
    store = StoreFolder(b"key", [(("etag", version),) for version in versions], [True] * len(versions))
    return folder(path, names)._replace(store=store)


def test_in_a_store_size_and_version_count(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    before = stored(tmp_path, ["a", "b"], ["1", "2"])
    os.utime(tmp_path / "a")
    assert compared([before], [stored(tmp_path, ["a", "b"], ["1", "2"])]) == {}
    assert compared([before], [stored(tmp_path, ["a", "b"], ["1", "3"])]) == {
        "inputs/far": Difference("input far", "", False, ())
    }
    (tmp_path / "a").write_text("longer")
    assert compared([before], [stored(tmp_path, ["a", "b"], ["1", "2"])]) != {}
    assert compared([before], [stored(tmp_path, ["a"], ["1"])]) != {}


@pytest.mark.parametrize("order", [1, -1])
def test_folders_are_compared_with_those_of_the_same_place(tmp_path: Path, order: int) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    folders = [folder(tmp_path, ["a"], at="one/"), folder(tmp_path, ["b"], at="two/")]
    assert (compared(folders, folders[::order]) == {}) is (order == 1)


def test_a_name_that_is_no_utf_8_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.mkdir()
    (path / os.fsdecode(b"\xff")).write_text("")
    before = folder(path, os.listdir(path))
    os.utime(path / os.fsdecode(b"\xff"))
    [one] = compared([before], [folder(path, os.listdir(path))]).values()
    assert one.where == r"input far: \xff"


def test_of_many_that_changed_at_once_three_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.stat(tmp_path)
    files = [(f"{number}", status) for number in range(5)]
    before = [Folder("", "x/", files, [])]
    [one] = compared(before, [Folder("", "x/", files[:-1], [])]).values()
    assert one.files == ("0", "1", "2")
