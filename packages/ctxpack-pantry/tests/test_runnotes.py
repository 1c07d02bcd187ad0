"""Notes of runs are advice: what is no note counts as none."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxpack_cache import Cache
from ctxpack_pantry.runnotes import RunNote, RunNotes

NOTE = RunNote("ctx://x", ours=True, left="a look", made=True, began=1 << 62, aside="/a/.b.old", held=True)

texts = st.binary(max_size=20).map(os.fsdecode)


def place_of(cache: Cache, real: str) -> Path:
    return Path(cache.side("runs"), hashlib.sha256(os.fsencode(real)).hexdigest())


@given(real=texts, uri=texts, left=texts, aside=texts, flags=st.tuples(*[st.booleans()] * 3), began=st.integers())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_note_is_read_as_it_was_written(
    cache: Cache, real: str, uri: str, left: str, aside: str, flags: tuple[bool, bool, bool], began: int
) -> None:
    """Paths that are no UTF-8 among them."""
    ours, made, held = flags
    note = RunNote(uri, ours=ours, left=left, made=made, began=began, aside=aside, held=held)
    notes = RunNotes(cache)
    notes.write(real, note)
    assert notes.read(real) == note
    assert place_of(cache, real).is_file()


def test_each_path_has_its_own_note_which_can_be_replaced_and_removed(cache: Cache) -> None:
    notes = RunNotes(cache)
    assert notes.read("/a") is None
    notes.write("/a", NOTE)
    assert notes.read("/b") is None
    notes.replace("/a", NOTE._replace(held=False))
    notes.write("/b", NOTE)
    assert (notes.read("/a"), notes.read("/b")) == (NOTE._replace(held=False), NOTE)
    for _ in range(2):
        notes.replace("/a", None)
        assert (notes.read("/a"), notes.read("/b")) == (None, NOTE)


def test_each_place_is_known_with_its_note(cache: Cache) -> None:
    notes = RunNotes(cache)
    assert list(notes.places()) == []
    notes.write("/a", NOTE)
    notes.write(os.fsdecode(b"/\xff"), NOTE._replace(uri="ctx://y"))
    place_of(cache, "/without").write_bytes(json.dumps(NOTE._asdict()).encode())  # as earlier versions wrote it
    place_of(cache, "/moved").write_bytes(place_of(cache, "/a").read_bytes())  # the name is another path's
    place_of(cache, "/none").write_bytes(b"{}")
    assert sorted(notes.places()) == [
        ("", NOTE),
        ("", NOTE),
        ("/a", NOTE),
        (os.fsdecode(b"/\xff"), NOTE._replace(uri="ctx://y")),
    ]
    assert notes.read("/without") == NOTE


def like(**changes: object) -> bytes:
    return json.dumps({**NOTE._asdict(), **changes}).encode()


WITHOUT_URI = {name: value for name, value in NOTE._asdict().items() if name != "uri"}


NO_NOTES = [
    b"",
    b"{",
    b"\xff",
    b"\0" * 100,
    b"null",
    b"[]",
    b'["ctx://x"]',
    b'"text"',
    b"1",
    b"{}",
    b"[" * 60_000,
    like()[:-1],
    like() + b"x",
    like(more=1),
    like(path=1),
    like(uri=None),
    like(ours=1),
    like(ours="true"),
    like(left=None),
    like(left=["a look"]),
    like(made=None),
    like(began=True),
    like(began=1.5),
    like(aside=1),
    like(held={}),
    json.dumps(WITHOUT_URI).encode(),
    like(left="x" * (64 << 10)),
]


@pytest.mark.parametrize("number", range(len(NO_NOTES)))
def test_what_is_no_note_counts_as_none(cache: Cache, number: int) -> None:
    notes = RunNotes(cache)
    notes.write("/a", NOTE)
    place_of(cache, "/a").write_bytes(NO_NOTES[number])
    assert notes.read("/a") is None
    notes.write("/a", NOTE)
    assert notes.read("/a") == NOTE


def test_a_folder_or_a_link_in_place_of_a_note_counts_as_none(cache: Cache, tmp_path: Path) -> None:
    notes = RunNotes(cache)
    place_of(cache, "/a").mkdir(parents=True)
    place_of(cache, "/b").symlink_to("nowhere")
    assert notes.read("/a") is notes.read("/b") is None
    notes.replace("/a", None)


def test_a_note_that_cannot_be_written_is_none(cache: Cache) -> None:
    os.makedirs(os.path.dirname(cache.side("runs")))
    Path(cache.side("runs")).write_text("in the way")
    notes = RunNotes(cache)
    notes.write("/a", NOTE)
    assert notes.read("/a") is None
