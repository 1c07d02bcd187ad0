"""Outputs and what is hashed: one is refused exactly where making it would change the digest."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from folders import write_folder
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, hash_tree
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.hashing.outside import HashedPlace, OutputLocations, is_hashed
from ctxpack_identity.hashing.scan import Folder as Found

Folder = dict[str, Any]

names = st.sampled_from(["a", "b", "out"])
folders: st.SearchStrategy[Folder] = st.recursive(
    st.dictionaries(names, st.just(b"x"), max_size=2),
    lambda inner: st.dictionaries(names, inner | st.just(b"x"), max_size=3),
    max_leaves=5,
)
patterns = st.lists(
    st.sampled_from(["out", "out/", "/out", "/a/", "/a/out", "a/???", "!out", "!out/", "!/a", "b", "?", "**/b/out/"]),
    max_size=3,
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A new folder's path for every example."""
    return lambda: tmp_path_factory.mktemp("place") / "top"


def digest_after(root: Path, content: Folder, path: str, made: Any, excludes: Any, *, code: bool) -> str:
    """Return the digest of a copy of content in which the output was made anew: a file, or a folder with a file."""
    write_folder(root, content)
    into = root / path
    into.parent.mkdir(parents=True, exist_ok=True)
    if made == "file":
        into.write_bytes(b"made")
    else:
        write_folder(into, {"result": b"made"})
    return hash_tree(str(root), excludes=excludes, files_only=code).digest


@given(folders, patterns, paths, st.booleans())
def test_an_output_that_is_not_there_yet_is_hashed_if_making_it_as_file_and_as_folder_changes_the_digest(
    place: Callable[[], Path], content: Folder, patterns: list[str], path: str, code: bool
) -> None:
    root = place()
    write_folder(root, content)
    below = content
    for name in path.split("/"):
        if not isinstance(below, dict):
            return  # below a file nothing can be made
        below = below.get(name, {})
    if os.path.lexists(root / path):
        return
    excludes = compile_excludes(patterns)
    before = hash_tree(str(root), excludes=excludes, files_only=code).digest
    changed = [digest_after(place(), content, path, made, excludes, code=code) != before for made in ("file", "folder")]
    hashed = HashedPlace("input", str(root), excludes, files_only=code)
    assert is_hashed(str(root / path), hashed) == all(changed)


@given(folders, patterns, st.booleans(), st.data())
def test_an_output_that_is_there_is_hashed_if_removing_it_changes_the_digest(
    place: Callable[[], Path], content: Folder, patterns: list[str], code: bool, data: st.DataObject
) -> None:
    root = place()
    write_folder(root, content)
    excludes = compile_excludes(patterns)
    before = hash_tree(str(root), excludes=excludes, files_only=code).digest
    there = sorted(str(path) for path in root.rglob("*") if path.is_file())
    if not there:
        return
    path = data.draw(st.sampled_from(there))
    hashed = is_hashed(path, HashedPlace("input", str(root), excludes, files_only=code))
    os.remove(path)
    assert hashed == (hash_tree(str(root), excludes=excludes, files_only=code).digest != before)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with raw, which is hashed, and links in and beside it."""
    write_folder(tmp_path / "project", {"raw": {"a": b"x", "sub": {"b": b"y"}}, "other": {"c": b"z"}})
    (tmp_path / "project" / "to-raw").symlink_to("raw")
    (tmp_path / "project" / "to-sub").symlink_to("raw/sub")
    (tmp_path / "project" / "to-new").symlink_to("raw/new")
    (tmp_path / "project" / "raw" / "to-other").symlink_to("../other")
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("path", "hashed"),
    [
        ("raw", True),
        ("raw/", True),
        ("raw/.", True),
        ("raw/a", True),
        ("raw/new", True),
        ("raw/new/er", True),
        ("other/../raw/new", True),
        ("to-raw", True),
        ("to-raw/new", True),
        ("to-sub", True),
        ("to-sub/../new", True),  # in raw, though the text of it is not
        ("to-new", True),
        ("to-new/", True),
        ("raw/to-other", True),  # the link itself is part of raw
        ("raw/to-other/", True),
        ("to-sub/../to-other", True),
        (".", False),
        ("..", False),
        ("new", False),
        ("rawer", False),
        ("raw2/new", False),
        ("other/new", False),
        ("raw/..", False),
        ("raw/../new", False),
        ("raw/to-other/new", False),  # raw does not hold it, unless links are followed
    ],
)
def test_links_are_resolved_and_a_link_counts_where_it_lies(project: Path, path: str, hashed: bool) -> None:
    assert is_hashed(f"{project}/{path}", HashedPlace("input", f"{project}/raw", None)) == hashed
    assert is_hashed(f"{project}/{path}", HashedPlace("input", f"{project}/to-raw/", None)) == hashed


def test_paths_may_be_relative_to_where_the_process_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    place = HashedPlace("input", "raw", None)
    assert is_hashed("raw/new", place)
    assert is_hashed("to-new", place)
    assert not is_hashed("new", place)
    assert is_hashed("new", HashedPlace("input", ".", None))
    assert is_hashed("/x", HashedPlace("input", "/", None))


def test_a_file_that_is_hashed_is_in_the_way_whatever_its_patterns(project: Path) -> None:
    everything = compile_excludes(["*"])
    assert is_hashed(f"{project}/raw/a", HashedPlace("input", f"{project}/raw/a", everything))
    assert not is_hashed(f"{project}/raw/a", HashedPlace("input", f"{project}/raw", everything))


def test_a_new_folder_on_the_way_is_hashed_unless_it_is_left_out_or_only_files_count(project: Path) -> None:
    path, raw, but_out = f"{project}/raw/new/out", f"{project}/raw", compile_excludes(["out"])
    assert is_hashed(path, HashedPlace("input", raw, but_out))
    assert not is_hashed(path, HashedPlace("input", raw, but_out, files_only=True))
    assert not is_hashed(path, HashedPlace("input", raw, compile_excludes(["/new/"])))
    (project / "raw" / "new").mkdir()
    assert not is_hashed(path, HashedPlace("input", raw, but_out))


def test_the_first_output_that_is_hashed_is_in_the_error(project: Path) -> None:
    other, raw = (HashedPlace(f"input {name}", f"{project}/{name}", None) for name in ("other", "raw"))
    outputs = OutputLocations([(name, f"{project}/{path}") for name, path in (("one", "one"), ("two", "raw/two"))])
    outputs.require_outside(other)
    with pytest.raises(InvalidInput) as caught:
        outputs.require_outside(raw)
    assert caught.value.code == "E_OUTPUT_INSIDE"
    assert str(caught.value) == (
        f"output 'two' at {project}/raw/two: the output lies in what is hashed, so making it would change the URI: "
        f"expected a place outside input raw, {project}/raw; "
        'move the output, or leave it out there: "exclude" of input raw'
    )
    OutputLocations([]).require_outside(raw)


@pytest.mark.parametrize(
    ("link", "output", "refused"),
    [
        ("../other", "other", True),
        ("../other", "other/new", True),
        ("../other", "other/new/er", True),
        ("../other", "other/c", True),
        ("../other/c", "other/c", True),
        ("../other/c", "other/new", False),
        ("../other", "new", False),
        ("../other", "others", False),
        ("a", "new", False),
    ],
)
def test_an_output_behind_a_link_that_is_followed_is_hashed(
    project: Path, link: str, output: str, refused: bool
) -> None:
    os.remove(project / "raw" / "to-other")
    (project / "raw" / "sub" / "l").symlink_to(f"../{link}")
    raw, outputs = HashedPlace("input raw", f"{project}/raw", None), OutputLocations([("o", f"{project}/{output}")])
    outputs.require_outside(raw)
    found = []

    def look(folder: Found) -> None:
        try:
            outputs.require_not_linked(raw, folder)
        except InvalidInput as error:
            found.append(error.code)

    hash_tree(f"{project}/raw", follow=True, on_folder=look)
    assert set(found) == ({"E_OUTPUT_INSIDE"} if refused else set())


def test_a_hard_link_to_an_output_is_a_file_of_its_own(project: Path) -> None:
    os.remove(project / "raw" / "to-other")
    os.link(project / "other" / "c", project / "raw" / "hard")
    raw, outputs = HashedPlace("input raw", f"{project}/raw", None), OutputLocations([("o", f"{project}/other/c")])
    hash_tree(f"{project}/raw", follow=True, on_folder=lambda folder: outputs.require_not_linked(raw, folder))


def test_an_output_beside_a_file_that_is_hashed_is_not_in_it(project: Path) -> None:
    (project / "link").symlink_to("other/c")
    outputs = OutputLocations([("o", f"{project}/other/new")])
    for root in (f"{project}/other/c", f"{project}/link"):
        look = partial(outputs.require_not_linked, HashedPlace("input one", root, None))
        hash_tree(root, follow=True, on_folder=look)
