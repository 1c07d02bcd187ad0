"""When a pack was last handed out: noted in passing, never needed, and gone with the pack."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxpack_cache import Cache
from ctxpack_identity.digest import Digest, digest_of, hex_of

KEY = digest_of(b"a contract")
OTHER = digest_of(b"another contract")
LONG_AGO, LATER = 1_000_000_000.0, 4_000_000_000.0  # before and after every test

Fill = Callable[[str], None]


@pytest.fixture
def published(cache: Cache, fill: Fill) -> Cache:
    """The cache with the pack of KEY."""
    with cache.staging() as folder:
        fill(folder)
        cache.publish(KEY, folder)
    return cache


def note_of(cache: Cache, key: Digest = KEY) -> Path:
    return Path(cache.root, "v1", "used", hex_of(key))


def used(cache: Cache) -> float:
    [pack] = cache.packs()
    return pack.used


def test_a_pack_that_was_just_published_is_used(published: Cache) -> None:
    assert note_of(published).stat().st_size == 0
    [pack] = published.packs()
    assert pack.used >= pack.published


def test_a_use_is_noted_as_the_time_of_an_empty_file(published: Cache) -> None:
    os.utime(note_of(published), (LATER, LATER))
    assert used(published) == LATER
    published.note_use(KEY)
    [pack] = published.packs()
    assert pack.published <= pack.used < LATER
    assert note_of(published).read_bytes() == b""


def test_without_a_note_a_pack_was_used_when_it_was_published(published: Cache) -> None:
    note_of(published).unlink()
    [pack] = published.packs()
    assert pack.used == pack.published
    published.note_use(KEY)
    assert note_of(published).exists()


def test_a_note_from_before_the_pack_was_there_does_not_count(published: Cache) -> None:
    """The note of an earlier pack of this contract may be left after a kill."""
    os.utime(note_of(published), (LONG_AGO, LONG_AGO))
    [pack] = published.packs()
    assert pack.used == pack.published


def test_a_pack_that_is_not_there_gets_no_note(published: Cache) -> None:
    published.note_use(OTHER)
    assert os.listdir(note_of(published).parent) == [hex_of(KEY)]


def test_a_note_in_a_cache_without_anything_makes_nothing(cache: Cache, tmp_path: Path) -> None:
    cache.note_use(KEY)
    assert os.listdir(tmp_path) == []


def test_a_removed_pack_leaves_no_note(published: Cache) -> None:
    assert published.remove(KEY)
    assert os.listdir(note_of(published).parent) == []


def test_a_note_of_a_pack_that_is_gone_already_is_removed_with_it(published: Cache) -> None:
    os.rename(published.find(KEY) or "", Path(published.root, "gone"))
    assert published.remove(KEY) is False
    assert not note_of(published).exists()


def test_a_damaged_pack_that_is_set_aside_keeps_its_note(published: Cache) -> None:
    published.set_aside(KEY)
    assert note_of(published).exists()
    assert published.remove(KEY)
    assert not note_of(published).exists()


@pytest.mark.parametrize("in_the_way", ["used", "used/note"])
def test_what_is_in_the_way_of_a_note_is_no_failure(published: Cache, in_the_way: str) -> None:
    note = note_of(published)
    note.unlink()
    if in_the_way == "used":
        note.parent.rmdir()
        note.parent.write_text("a file")
    else:
        note.mkdir()
    published.note_use(KEY)
    [pack] = published.packs()
    assert pack.used >= pack.published


def test_a_note_never_changes_what_a_link_in_its_place_names(published: Cache, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("the user's")
    os.utime(elsewhere, (LONG_AGO, LONG_AGO))
    note_of(published).unlink()
    note_of(published).symlink_to(elsewhere)
    published.note_use(KEY)
    assert elsewhere.stat().st_mtime == LONG_AGO
