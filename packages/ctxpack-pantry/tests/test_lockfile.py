"""The lock file of a project: what is accepted, what is written, and where it lies."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import InvalidInput, LocalFailure, canonical_json, digest_from_hex, uri_for
from ctxpack_pantry import lockfile
from ctxpack_pantry.lockfile import LOCK_FILE, MAX_BYTES, Pin, find_lock_file, read_pins, write_pin

DIGEST = digest_from_hex("1" * 64)
PIN = Pin(uri_for(digest_from_hex("2" * 64)), DIGEST)
OTHER = Pin(uri_for(digest_from_hex("3" * 64)), DIGEST)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / LOCK_FILE)


def document(**names: object) -> dict[str, Any]:
    return {"names": names, "schema": "ctxpack/lock/v1"}


def as_json(pin: Pin) -> dict[str, str]:
    return {"outputs": pin.outputs, "uri": pin.uri}


def test_a_lock_file_is_canonical_json_and_nothing_else(path: str) -> None:
    assert write_pin(path, "rag-index", PIN) is None
    assert Path(path).read_text() == (
        f'{{"names":{{"rag-index":{{"outputs":"{PIN.outputs}","uri":"{PIN.uri}"}}}},"schema":"ctxpack/lock/v1"}}'
    )
    assert read_pins(path) == {"rag-index": PIN}


def test_a_pin_is_moved_and_the_others_stay(path: str) -> None:
    write_pin(path, "b", PIN)
    write_pin(path, "a", PIN)
    assert write_pin(path, "b", OTHER) == PIN
    assert read_pins(path) == {"a": PIN, "b": OTHER}
    assert Path(path).read_bytes() == canonical_json(document(a=as_json(PIN), b=as_json(OTHER)))
    assert os.listdir(os.path.dirname(path)).count(LOCK_FILE) == 1


def test_an_equal_pin_changes_nothing(path: str) -> None:
    write_pin(path, "a", PIN)
    before = os.stat(path)
    assert write_pin(path, "a", PIN) == PIN
    assert os.stat(path) == before


@given(
    st.dictionaries(
        st.from_regex(r"[g-z][A-Za-z0-9_-]{0,122}", fullmatch=True),
        st.builds(
            lambda uri, outputs: Pin(uri_for(digest_from_hex(uri)), digest_from_hex(outputs)),
            *[st.from_regex(r"[0-9a-f]{64}", fullmatch=True)] * 2,
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, pins: dict[str, Pin]) -> None:
    path = str(tmp_path_factory.mktemp("project") / LOCK_FILE)
    for name, pin in pins.items():
        write_pin(path, name, pin)
    assert read_pins(path) == pins


@pytest.mark.parametrize("text", ["{0}", "\n {0}\n"])
def test_what_an_editor_or_a_merge_made_of_it_is_read_and_written_anew(path: str, text: str) -> None:
    Path(path).write_text(text.format(json.dumps(document(a=as_json(PIN)), indent=2)))
    assert read_pins(path) == {"a": PIN}
    write_pin(path, "b", PIN)
    assert Path(path).read_bytes() == canonical_json(document(a=as_json(PIN), b=as_json(PIN)))


def test_without_a_lock_file_nothing_is_pinned(path: str) -> None:
    assert read_pins(path) == {}


@pytest.mark.parametrize(
    ("content", "at"),
    [
        ([], ""),
        (None, ""),
        ({}, ""),
        ({"names": {}}, ""),
        ({"schema": "ctxpack/lock/v1"}, ""),
        (document() | {"more": 1}, "/more"),
        (document() | {"a/b": 1}, "/a~1b"),
        (document() | {"schema": "ctxpack/lock/v2"}, "/schema"),
        (document() | {"schema": 1}, "/schema"),
        (document() | {"names": []}, "/names"),
        (document(a=1), "/names/a"),
        (document(a={}), "/names/a"),
        (document(a={"uri": PIN.uri}), "/names/a"),
        (document(a={"outputs": DIGEST}), "/names/a"),
        (document(a=as_json(PIN) | {"registry": "ghcr.io/a/b"}), "/names/a/registry"),
        (document(a=as_json(PIN) | {"uri": DIGEST}), "/names/a/uri"),
        (document(a=as_json(PIN) | {"uri": PIN.uri[:-1]}), "/names/a/uri"),
        (document(a=as_json(PIN) | {"uri": None}), "/names/a/uri"),
        (document(a=as_json(PIN) | {"uri": {}}), "/names/a/uri"),
        (document(a=as_json(PIN) | {"outputs": DIGEST.upper()}), "/names/a/outputs"),
        (document(a=as_json(PIN) | {"outputs": ""}), "/names/a/outputs"),
        (document(a=as_json(PIN) | {"outputs": 7}), "/names/a/outputs"),
        ({"names": {"a/b": as_json(PIN)}, "schema": "ctxpack/lock/v1"}, "/names/a~1b"),
        ({"names": {"": as_json(PIN)}, "schema": "ctxpack/lock/v1"}, "/names/"),
        ({"names": {"deadbeef": as_json(PIN)}, "schema": "ctxpack/lock/v1"}, "/names/deadbeef"),
        ({"names": {"\x1b[31m": as_json(PIN)}, "schema": "ctxpack/lock/v1"}, "/names/\x1b[31m"),
    ],
)
def test_anything_else_is_refused_where_it_is(path: str, content: object, at: str) -> None:
    Path(path).write_text(json.dumps(content))
    with pytest.raises(InvalidInput) as caught:
        read_pins(path)
    assert caught.value.code == "E_LOCK_FILE"
    assert caught.value.where == (f"{path}, {at}" if at else path)
    assert caught.value.fix == "correct it, or remove it; `ctxpack pull NAME --lock` writes it anew"
    assert str(caught.value).isprintable()
    with pytest.raises(InvalidInput):
        write_pin(path, "a", PIN)
    assert json.loads(Path(path).read_text()) == content


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "not JSON"),
        (b"<<<<<<< ours\n", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"names":{},"names":{},"schema":"ctxpack/lock/v1"}', "name appears twice in one object"),
        (b"[" * 100_000, "nested too deep"),
        (b" " * (MAX_BYTES + 1), "this version reads"),
    ],
    ids=["empty", "conflict markers", "not UTF-8", "a name twice", "deep", "large"],
)
def test_what_is_no_document_is_refused(path: str, data: bytes, what: str) -> None:
    Path(path).write_bytes(data)
    with pytest.raises(InvalidInput, match=what) as caught:
        read_pins(path)
    assert caught.value.code == "E_LOCK_FILE"
    assert caught.value.where.startswith(path)


def test_what_is_no_file_is_refused_and_never_waited_for(path: str) -> None:
    says = (
        f"{re.escape(path)}: no lock file that this version reads: expected a file, got a folder, a device, or a link"
    )
    os.mkfifo(path)
    with pytest.raises(InvalidInput, match=says):
        read_pins(path)
    os.unlink(path)
    os.mkdir(path)
    with pytest.raises(InvalidInput, match=says):
        read_pins(path)
    os.rmdir(path)
    os.symlink("nowhere", path)
    with pytest.raises(InvalidInput, match=says):
        read_pins(path)


def test_a_link_is_replaced_and_what_it_leads_to_stays(path: str, tmp_path: Path) -> None:
    theirs = tmp_path / "elsewhere.json"
    theirs.write_text(json.dumps(document(a=as_json(OTHER))))
    before = theirs.read_bytes()
    os.symlink(theirs, path)
    write_pin(path, "b", PIN)
    assert theirs.read_bytes() == before
    assert not os.path.islink(path)
    assert read_pins(path) == {"a": OTHER, "b": PIN}


def test_a_write_that_fails_leaves_the_file_as_it_was(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pin(path, "a", PIN)
    before = Path(path).read_bytes()

    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lockfile, "write_all", full)
    with pytest.raises(LocalFailure, match=r"the lock file cannot be written: no space left on the disk"):
        write_pin(path, "b", PIN)
    assert Path(path).read_bytes() == before
    assert [name for name in os.listdir(os.path.dirname(path)) if "lock" in name] == [LOCK_FILE]


def test_a_name_that_no_tag_has_is_not_written(path: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a name"):
        write_pin(path, "contract.json", PIN)
    assert not os.path.exists(path)


def test_pins_that_are_written_at_once_are_all_kept(path: str) -> None:
    names = [f"name-{number}" for number in range(12)]
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda name: write_pin(path, name, PIN), names))
    assert sorted(read_pins(path)) == sorted(names)


def test_it_lies_in_the_current_folder_where_there_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    assert find_lock_file(str(tmp_path / "a/b")) == str(tmp_path / "a/b" / LOCK_FILE)


def test_it_lies_beside_the_nearest_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "ctxpack.toml").touch()
    monkeypatch.chdir(tmp_path / "a/b")
    assert find_lock_file() == str(tmp_path / LOCK_FILE)
    (tmp_path / "a/ctxpack.toml").touch()
    assert find_lock_file() == str(tmp_path / "a" / LOCK_FILE)


def test_the_nearest_one_is_read_and_written_but_none_above_the_project(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / LOCK_FILE).touch()
    assert find_lock_file(str(tmp_path / "a/b")) == str(tmp_path / LOCK_FILE)
    (tmp_path / "a/ctxpack.toml").touch()
    assert find_lock_file(str(tmp_path / "a/b")) == str(tmp_path / "a" / LOCK_FILE)
    (tmp_path / "a/b" / LOCK_FILE).touch()
    assert find_lock_file(str(tmp_path / "a/b")) == str(tmp_path / "a/b" / LOCK_FILE)
