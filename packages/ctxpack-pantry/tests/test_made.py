"""The record of what is one's own: only what was added counts, and only where nobody else can have written."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpack_identity import CtxUri, Digest, digest_of, uri_for
from ctxpack_pantry.made import MADE_KINDS, Made

URI = uri_for(digest_of(b"contract"))
PACK = digest_of(b"manifest.json")
_HEX = PACK.removeprefix("sha256:")
_NOBODY = 65534


def path_of(state: Path, uri: CtxUri = URI) -> Path:
    """Return the file of a URI."""
    name = uri.removeprefix("ctx://sha256:")
    return state / "made" / name[:2] / name


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a user, which does not exist yet."""
    return tmp_path / "home" / ".local" / "state" / "ctxpack"


@pytest.fixture
def made(state: Path) -> Made:
    """The record of that user, with one pack."""
    made = Made(str(state))
    assert made.add(URI, PACK, "run")
    return made


def test_what_was_added_is_found_by_another_process_with_its_kind(state: Path, made: Made) -> None:
    assert Made(str(state)).kind_of(URI, PACK) == "run"
    assert made.kind_of(URI, digest_of(b"other")) is None
    assert made.kind_of(uri_for(digest_of(b"other")), PACK) is None


def test_without_a_state_folder_nothing_is_remembered() -> None:
    made = Made("")
    assert not made.add(URI, PACK, "run")
    assert made.kind_of(URI, PACK) is None


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_only_the_user_can_read_the_record_whatever_the_umask_is(state: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        assert Made(str(state)).add(URI, PACK, "seed")
    finally:
        os.umask(before)
    file = path_of(state)
    assert file.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in (state, state / "made", file.parent)} == {0o700}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(MADE_KINDS)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_own_is_what_was_added_with_the_strongest_kind(
    tmp_path_factory: pytest.TempPathFactory, added: list[tuple[int, int, str]]
) -> None:
    made = Made(str(tmp_path_factory.mktemp("state")))
    uris = [uri_for(digest_of(b"%d" % number)) for number in range(3)]
    packs = [digest_of(b"pack %d" % number) for number in range(3)]
    strongest: dict[tuple[CtxUri, Digest], str] = {}
    for uri, pack, kind in added:
        at = uris[uri], packs[pack]
        assert made.add(*at, kind)
        strongest[at] = max(kind, strongest.get(at, kind), key=MADE_KINDS.index)
    assert {(uri, pack): made.kind_of(uri, pack) for uri in uris for pack in packs} == {
        (uri, pack): strongest.get((uri, pack)) for uri in uris for pack in packs
    }


@given(st.binary(max_size=400), st.integers(0, 80))
@settings(max_examples=200, deadline=None)
def test_no_rubbish_and_no_half_line_makes_a_pack_ones_own(
    tmp_path_factory: pytest.TempPathFactory, rubbish: bytes, cut: int
) -> None:
    state = tmp_path_factory.mktemp("state")
    made = Made(str(state))
    assert made.add(URI, digest_of(b"other"), "seed")
    line = f"\n{_HEX} rebuild\n".encode()[:cut]
    path_of(state).write_bytes(rubbish + line)
    assert made.kind_of(URI, PACK) == ("rebuild" if cut >= len(f"\n{_HEX} rebuild\n") else None)
    # A later line counts, whatever is before it.
    assert made.add(URI, PACK, "run")
    assert made.kind_of(URI, PACK) == "run"


@pytest.mark.parametrize("kind", ["", "vouch", "RUN", "run\n"])
def test_another_kind_is_a_mistake_of_the_caller(state: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        Made(str(state)).add(URI, PACK, kind)
    assert not state.exists()


@pytest.mark.parametrize(
    "line", [f"{_HEX} vouch", f"{_HEX}  run", f" {_HEX} run", f"{_HEX.upper()} run", f"{_HEX} run\r"]
)
def test_a_line_of_another_form_does_not_count(state: Path, made: Made, line: str) -> None:
    path_of(state).write_text(f"{line}\n", newline="")
    assert made.kind_of(URI, PACK) is None


@pytest.mark.parametrize("part", ["state", "made", "two", "file"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_nothing_counts_where_others_may_write(state: Path, made: Made, part: str, mode: int) -> None:
    file = path_of(state)
    place = {"state": state, "made": state / "made", "two": file.parent, "file": file}[part]
    place.chmod(place.stat().st_mode & 0o777 | mode)
    assert made.kind_of(URI, PACK) is None
    assert not made.add(URI, PACK, "run")


@pytest.mark.parametrize("part", ["state", "made", "two", "file"])
def test_nothing_counts_behind_a_symbolic_link(state: Path, made: Made, part: str, tmp_path: Path) -> None:
    file = path_of(state)
    place = {"state": state, "made": state / "made", "two": file.parent, "file": file}[part]
    data = file.read_bytes()
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    assert made.kind_of(URI, PACK) is None
    assert not made.add(URI, digest_of(b"other"), "run")
    assert file.read_bytes() == data


def test_a_link_above_the_state_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "disk")
    made = Made(str(tmp_path / "state" / "ctxpack"))
    assert made.add(URI, PACK, "run")
    assert made.kind_of(URI, PACK) == "run"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("part", ["state", "made", "two", "file"])
def test_nothing_counts_that_another_user_owns(state: Path, made: Made, part: str) -> None:
    file = path_of(state)
    place = {"state": state, "made": state / "made", "two": file.parent, "file": file}[part]
    os.chown(place, _NOBODY, _NOBODY)
    assert made.kind_of(URI, PACK) is None
    assert not made.add(URI, PACK, "run")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_does_not_count_and_is_not_waited_for(state: Path, made: Made, make: object) -> None:
    path_of(state).unlink()
    assert callable(make)
    make(path_of(state))
    assert made.kind_of(URI, PACK) is None
    assert not made.add(URI, PACK, "run")


def test_a_folder_of_an_earlier_version_that_the_group_may_write_is_closed_to_it_first(state: Path) -> None:
    state.mkdir(parents=True)
    state.chmod(0o775)
    made = Made(str(state))
    assert made.add(URI, PACK, "run")
    assert made.kind_of(URI, PACK) == "run"
    assert state.stat().st_mode & 0o777 == 0o755


def test_the_newest_lines_of_a_huge_file_count(state: Path, made: Made) -> None:
    lines = b"".join(b"\n%s run\n" % digest_of(b"%d" % number)[7:].encode() for number in range(6000))
    path_of(state).write_bytes(lines)
    assert made.kind_of(URI, digest_of(b"5999")) == "run"
    assert made.kind_of(URI, digest_of(b"0")) is None
    assert made.add(URI, PACK, "seed")
    assert made.kind_of(URI, PACK) == "seed"


def test_a_record_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not Made(str(tmp_path / "file" / "ctxpack")).add(URI, PACK, "run")


def test_many_at_once_lose_nothing(state: Path) -> None:
    packs = [digest_of(b"%d" % number) for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda pack: Made(str(state)).add(URI, pack, "run"), packs))
    assert {Made(str(state)).kind_of(URI, pack) for pack in packs} == {"run"}


def test_two_processes_lose_nothing(state: Path) -> None:
    script = (
        "import sys; from ctxpack_identity import digest_of; from ctxpack_pantry.made import Made\n"
        "for number in range(200):\n"
        "    pack = digest_of(b'%s %d' % (sys.argv[3].encode(), number))\n"
        "    assert Made(sys.argv[1]).add(sys.argv[2], pack, 'run')"
    )
    line = [sys.executable, "-c", script, str(state), URI]
    children = [subprocess.Popen([*line, name]) for name in ("one", "two")]
    assert [child.wait(60) for child in children] == [0, 0]
    made = Made(str(state))
    names = [b"%s %d" % (name, number) for name in (b"one", b"two") for number in range(200)]
    assert {made.kind_of(URI, digest_of(name)) for name in names} == {"run"}


def test_the_record_is_light_to_load() -> None:
    script = (
        "import sys, ctxpack_pantry, ctxpack_identity.uri; before = set(sys.modules)\n"
        "import ctxpack_pantry.made; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "ctxpack_pantry.made\n"
