"""Notes are written whole or not at all, and no failure of the disk is an error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxpack_cache import Cache
from ctxpack_pantry.notes import Notes


@pytest.fixture
def notes(cache: Cache) -> Notes:
    return Notes(cache, "kind")


def test_a_note_is_read_unless_it_is_longer_than_the_limit(notes: Notes) -> None:
    notes.write("one", b"12345")
    assert [notes.read("one", limit) for limit in (4, 5, 6)] == [b"", b"12345", b"12345"]
    assert notes.read("other", 5) == b""


def test_names_are_those_of_one_folder(notes: Notes) -> None:
    assert notes.names() == notes.names("below") == []
    for name in ("one", "below/two", "below/three"):
        notes.write(name, b"")
    assert sorted(notes.names()) == ["below", "one"]
    assert sorted(notes.names("below")) == ["three", "two"]


def test_a_disk_that_fails_leaves_the_earlier_note(
    notes: Notes, leftovers: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: str, destination: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    notes.write("one", b"earlier")
    with monkeypatch.context() as patch:
        patch.setattr("ctxpack_pantry.notes.os.replace", fail)
        notes.write("one", b"later")
        notes.write("other", b"later")
    assert (notes.read("one", 10), notes.names()) == (b"earlier", ["one"])
    assert leftovers() == []


def test_a_cache_that_cannot_be_made_has_no_notes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notes = Notes(Cache(tmp_path / "file"), "kind")
    notes.write("one", b"note")
    notes.remove("one")
    assert (notes.read("one", 10), notes.names()) == (b"", [])


def test_a_folder_of_notes_is_removed_with_its_notes_only(notes: Notes) -> None:
    for name in ("here/one", "here/two", "there/one"):
        notes.write(name, b"")
    notes.remove_all("here")
    notes.remove_all("nowhere")
    assert os.listdir(notes.folder) == ["there"]
    assert notes.names("there") == ["one"]
