"""Placing over what is there already: files that stay the same are linked, and everything else is as if copied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pantry_project import Project, contents

from ctxpack_identity import InvalidInput, uri_digest
from ctxpack_pantry import Pantry, present

names = st.sampled_from(["a", "b", "a.b", "d/a", "d/e/f", "d.x", "e/"])
folders = st.dictionaries(names, st.sampled_from(["", "1", "2", "*3"]), max_size=6)


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir()
    for name, text in files.items():
        place = folder / name
        if name.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        if text.startswith("*"):
            place.chmod(0o755)


def inodes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def _ticked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old although they were written just now."""
    monkeypatch.setattr(present, "TICK_NS", -(10**12))


def placed(pantry: Pantry, project: Project, before: dict[str, str], after: dict[str, str], place: Path) -> None:
    """Place a pack of before, then one of after, at the same place."""
    for version, files in enumerate((before, after)):
        source = project.root.parent / f"source-{place.name}-{version}"
        write(source, files)
        project.write_contract(params={"version": version, "of": place.name})
        uri = pantry.seed({"out": str(source)}, str(project.contract)).uri
        pantry.pull(uri, str(place))
        assert contents(place) == contents(source)


@given(before=folders, after=folders)
def test_the_result_is_the_pack_and_same_files_keep_their_inode(
    tmp_path_factory: pytest.TempPathFactory, before: dict[str, str], after: dict[str, str]
) -> None:
    root = tmp_path_factory.mktemp("present")
    (root / "p").mkdir()
    project = Project(root / "p")
    place = root / "placed"
    with Pantry(project.settings) as pantry:
        placed(pantry, project, before, before, place)
        first = inodes(place)
        placed(pantry, project, before | {"z": "z"}, after, root / "other")
        again = root / "source-again"
        write(again, after)
        project.write_contract(params={"version": 3})
        pantry.pull(pantry.seed({"out": str(again)}, str(project.contract)).uri, str(place))
    assert contents(place) == contents(again)
    same = {name for name in before.keys() & after.keys() if not name.endswith("/") and before[name] == after[name]}
    for name in same & first.keys():
        assert inodes(place)[name] == first[name]
    assert all(path.stat().st_nlink == 1 for path in place.rglob("*") if path.is_file())


def test_a_file_with_another_link_is_copied(pantry: Pantry, project: Project, tmp_path: Path) -> None:
    place = tmp_path / "placed"
    placed(pantry, project, {"a": "1", "b": "1"}, {"a": "1", "b": "1"}, place)
    os.link(place / "a", tmp_path / "backup")
    before = inodes(place)
    write(tmp_path / "new", {"a": "1", "b": "1", "c": "1"})
    project.write_contract(params={"version": 9})
    pantry.pull(pantry.seed({"out": str(tmp_path / "new")}, str(project.contract)).uri, str(place))
    after = inodes(place)
    assert (after["a"] == before["a"], after["b"] == before["b"]) == (False, True)
    assert (tmp_path / "backup").read_text() == "1"


def test_what_changes_while_it_is_linked_stays(
    pantry: Pantry, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "placed"
    placed(pantry, project, {"a": "1", "b": "1"}, {"a": "1", "b": "1"}, place)
    write(tmp_path / "new", {"a": "1", "b": "1", "c": "1"})
    project.write_contract(params={"version": 9})
    uri = pantry.seed({"out": str(tmp_path / "new")}, str(project.contract)).uri
    link = os.link

    def change(source: str, target: str, **options: bool) -> None:
        link(source, target, **options)
        if source.endswith("/b"):
            (place / "b").write_text("mine")

    monkeypatch.setattr("ctxpack_pantry.present.os.link", change)
    with pytest.raises(InvalidInput) as caught:
        pantry.pull(uri, str(place))
    assert caught.value.code == "E_OCCUPIED"
    assert contents(place) == {"a": "1", "b": "mine"}
    assert pantry.cache.find(uri_digest(uri))


def test_a_file_that_was_touched_since_it_was_hashed_is_copied(
    pantry: Pantry, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "placed"
    monkeypatch.setattr(present, "TICK_NS", 10**12)
    placed(pantry, project, {"a": "1"}, {"a": "1", "b": "2"}, place)
    assert (place / "a").stat().st_nlink == 1
