"""Entries are checked against the outputs of the manifest: safe, in order, complete, and below the roots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from forged_pack import File, tree_digest

from ctxpack_bundle.outputs import Totals, checked_entries
from ctxpack_bundle.packmanifest import Outputs, Root
from ctxpack_identity import IntegrityError, TreeEntry, digest_of, hex_of

FOLDER = (Root(name="out", type="folder"),)

REMEDY = "; pull it anew; if the error stays, make it again"
TWICE = "path occurs twice, or both as a file and as a folder"


def entries(*files: File) -> list[TreeEntry]:
    return [
        TreeEntry(file.path, len(file.content), "" if file.path.endswith("/") else hex_of(digest_of(file.content)))
        for file in files
    ]


def announced(files: Sequence[File], roots: tuple[Root, ...] = FOLDER, /, **changes: Any) -> Outputs:
    totals: dict[str, Any] = {
        "digest": tree_digest(files),
        "empty_folders": sum(file.path.endswith("/") for file in files),
        "files": sum(not file.path.endswith("/") for file in files),
        "size": sum(len(file.content) for file in files),
    }
    return Outputs(roots=roots, **totals | changes)


FILES = [File("a", b"one"), File("b/c", b"three"), File("b/d/")]


def test_totals_are_those_of_the_entries() -> None:
    totals = Totals()
    for entry in entries(*FILES):
        totals.add(entry)
    assert totals.finish(FOLDER) == announced(FILES)


def test_the_announced_entries_are_yielded() -> None:
    assert list(checked_entries(entries(*FILES), announced(FILES), where="here")) == entries(*FILES)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"files": 3}, "(3 files, 8 bytes, 1 empty folders)"),
        ({"size": 9}, "(2 files, 9 bytes, 1 empty folders)"),
        ({"empty_folders": 0}, "(2 files, 8 bytes, 0 empty folders)"),
        ({"digest": digest_of(b"")}, f"{digest_of(b'')} (2 files"),
    ],
)
def test_other_totals_raise_an_error_after_the_last_entry(changes: dict[str, Any], shown: str) -> None:
    passed: list[TreeEntry] = []
    with pytest.raises(IntegrityError) as caught:
        passed.extend(checked_entries(entries(*FILES), announced(FILES, **changes), where="here"))
    assert passed == entries(*FILES)
    assert caught.value.what == "outputs are not those of the manifest"
    assert shown in caught.value.expected
    assert caught.value.got == f"{tree_digest(FILES)} (2 files, 8 bytes, 1 empty folders)"


def roots(*named: tuple[str, Literal["file", "folder"]]) -> tuple[Root, ...]:
    return tuple(Root(name=name, type=kind) for name, kind in named)


@pytest.mark.parametrize("right", [roots(("a", "file"), ("b", "folder")), roots(("any", "folder"))])
def test_each_entry_belongs_to_a_root(right: tuple[Root, ...]) -> None:
    assert len(list(checked_entries(entries(*FILES), announced(FILES, right), where="here"))) == 3


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (roots(), "a"),
        (roots(("a", "file")), "b/c"),
        (roots(("a", "folder"), ("b", "folder")), "a"),
        (roots(("a", "file"), ("b", "file")), "b/c"),
        (roots(("c", "file"), ("d", "file")), "a"),
    ],
)
def test_an_entry_below_no_root_is_refused_before_it_is_yielded(wrong: tuple[Root, ...], path: str) -> None:
    passed: list[TreeEntry] = []
    with pytest.raises(IntegrityError) as caught:
        passed.extend(checked_entries(entries(*FILES), announced(FILES, wrong), where="here"))
    assert path not in [entry.path for entry in passed]
    assert str(caught.value) == f"here: entry belongs to no output: got {path!r}{REMEDY}"


def test_a_root_without_entries_is_refused() -> None:
    promised = announced(FILES, roots(("a", "file"), ("b", "folder"), ("z", "file")))
    with pytest.raises(IntegrityError, match=r"outputs are not those of the manifest: .*, without z; pull"):
        list(checked_entries(entries(*FILES), promised, where="here"))


@pytest.mark.parametrize(
    ("unsafe", "fault"),
    [
        ([File("../x")], "here, '../x': unsafe listing: path is not relative and normal"),
        ([File("b"), File("a")], "here, 'a': unsafe listing: path is out of canonical order"),
        ([File("a"), File("a")], "here, 'a': unsafe listing: " + TWICE),
        ([File("a"), File("a/b")], "here, 'a/b': unsafe listing: " + TWICE),
        (
            [File("a/"), File("a/b")],
            "here, 'a/b': unsafe listing: " + TWICE,
        ),
    ],
)
def test_an_unsafe_entry_is_refused_before_it_is_yielded(unsafe: list[File], fault: str) -> None:
    passed: list[TreeEntry] = []
    with pytest.raises(IntegrityError) as caught:
        passed.extend(checked_entries(entries(*unsafe), announced(unsafe), where="here"))
    assert len(passed) == len(unsafe) - 1
    assert str(caught.value).startswith(fault)


def test_outputs_may_be_empty() -> None:
    assert list(checked_entries([], announced([]), where="here")) == []
