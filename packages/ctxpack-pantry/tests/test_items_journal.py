"""The journal of a map: which lines count, whatever was written before, and what is removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_cache import Cache
from ctxpack_identity import digest_of
from ctxpack_pantry.items.journal import Finished, Journal

COMMON = digest_of(b"common")
LOOKS = [f"{number:064x}" for number in range(3)]


class Line(NamedTuple):
    """A line of a journal: a look, an item, or garbage."""

    look: str = ""
    item: int = -1
    garbage: bytes = b""


lines = st.lists(
    st.sampled_from(LOOKS).map(lambda look: Line(look=look))
    | st.integers(0, 255).map(lambda item: Line(item=item))
    | st.binary(max_size=20).map(lambda data: Line(garbage=data.replace(b"\n", b""))),
    max_size=20,
)


def journal_in(folder: Path) -> Journal:
    return Journal(Cache(folder / "cache"), str(folder / "state"), COMMON)


def file_of(folder: Path) -> Path:
    [path] = (folder / "state/items").iterdir()
    return path


def items(journal: Journal, look: str) -> list[int]:
    return [found.number for found in journal.read(look)]


@given(lines, st.sampled_from(LOOKS))
def test_an_item_counts_between_two_looks_that_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, written: list[Line], now: str
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = journal_in(folder)
    journal.begin(LOOKS[0])
    for line in written:
        if line.look:
            journal.look(line.look)
        elif line.item >= 0:
            journal.add(bytes([line.item]) * 32, line.item, bytes(32))
        else:
            with file_of(folder).open("ab") as file:
                file.write(line.garbage + b"\n")
    journal.close()
    seen = [Line(look=LOOKS[0]), *written, Line(look=now)]
    expected = []
    for place, line in enumerate(seen):
        if line.item >= 0:
            before = next(one.look for one in reversed(seen[:place]) if one.look)
            after = next(one.look for one in seen[place:] if one.look)
            expected += [line.item] if before == after else []
    assert items(journal_in(folder), now) == expected


@pytest.fixture
def begun(tmp_path: Path) -> Journal:
    journal = journal_in(tmp_path)
    journal.begin(LOOKS[0])
    journal.add(b"i" * 32, 7, b"r" * 32)
    return journal


def test_what_is_read_is_what_was_written(begun: Journal, tmp_path: Path) -> None:
    again = journal_in(tmp_path)
    assert again.exists
    assert [*again.read(LOOKS[0])] == [Finished(b"i" * 32, b"r" * 32, begun.session, 7)]
    assert again.place(begun.session, 7) == begun.place(begun.session, 7)
    assert again.place(begun.session, 7).startswith(os.path.join(begun.folder, begun.session, ""))
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", range(1, 20))
def test_a_line_that_was_cut_is_skipped_and_the_next_one_is_whole(begun: Journal, tmp_path: Path, size: int) -> None:
    begun.close()
    file = file_of(tmp_path)
    file.write_bytes(file.read_bytes()[:-size])
    again = journal_in(tmp_path)
    again.begin(LOOKS[0])
    again.add(b"j" * 32, 8, b"r" * 32)
    whole = [7] if size == 1 else []
    assert items(journal_in(tmp_path), LOOKS[0]) == [*whole, 8]


@pytest.mark.parametrize(
    "line",
    [
        '{"at":["xyz",1],"item":"I","result":"R"}',
        '{"at":["../../..",1],"item":"I","result":"R"}',
        '{"at":["00000000",-1],"item":"I","result":"R"}',
        '{"at":["00000000",true],"item":"I","result":"R"}',
        '{"at":["00000000",1.0],"item":"I","result":"R"}',
        '{"at":["00000000","1"],"item":"I","result":"R"}',
        '{"at":["00000000",1,2],"item":"I","result":"R"}',
        '{"at":"ab","item":"I","result":"R"}',
        '{"at":["00000000",1],"item":"I"}',
        '{"at":["00000000",1],"item":"I","result":1}',
        '{"at":["00000000",1],"item":"I","result":"r"}',
        '{"at":["0000000\\n",1],"item":"I","result":"R"}',
        '["look"]',
        '"look"',
        "1",
        "null",
        "[" * 100_000,
        '{"look":1}',
        '{"look":"x"}',
    ],
)
def test_what_is_no_line_of_a_journal_is_skipped(begun: Journal, tmp_path: Path, line: str) -> None:
    begun.close()
    with file_of(tmp_path).open("a") as file:
        file.write(line.replace('"I"', f'"{"a" * 64}"').replace('"R"', f'"{"b" * 64}"') + "\n")
    assert items(journal_in(tmp_path), LOOKS[0]) == [7]


def test_a_cache_elsewhere_or_other_work_has_a_journal_of_its_own(begun: Journal, tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    assert not Journal(Cache(tmp_path / "other"), state, COMMON).exists
    assert not Journal(Cache(tmp_path / "cache"), state, digest_of(b"other")).exists
    (tmp_path / "link").symlink_to("cache")
    assert Journal(Cache(tmp_path / "link"), state, COMMON).exists


def test_without_a_state_folder_nothing_outlives_the_process(tmp_path: Path) -> None:
    journal = Journal(Cache(tmp_path / "cache"), "", COMMON)
    journal.begin(LOOKS[0])
    journal.add(b"i" * 32, 7, b"r" * 32)
    assert not journal.exists
    assert items(journal, LOOKS[0]) == []
    journal.remove()


def test_tidy_keeps_the_sessions_that_are_in_use_and_remove_keeps_nothing(begun: Journal, tmp_path: Path) -> None:
    other = journal_in(tmp_path)
    other.begin(LOOKS[0])
    assert sorted(os.listdir(begun.folder)) == sorted([begun.session, other.session])
    other.tidy({begun.session})
    assert os.listdir(begun.folder) == [begun.session]
    begun.remove()
    assert not os.path.exists(begun.folder)
    assert not begun.exists
    begun.remove()
