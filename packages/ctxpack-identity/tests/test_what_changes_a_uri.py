"""A URI stays the same when something changes that does not matter, and changes with everything that does."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from folders import write_folder
from hypothesis import assume, given
from hypothesis import strategies as st

from ctxpack_identity import CtxUri, Hashing, parse_contract_file, resolve

Folder = dict[str, Any]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=6).filter(
    lambda name: name not in (".", "..")
)
folders: st.SearchStrategy[Folder] = st.recursive(
    st.dictionaries(names, st.binary(max_size=10), max_size=3),
    lambda inner: st.dictionaries(names, inner | st.binary(max_size=10), max_size=3),
    max_leaves=6,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e3, 1e3).filter(bool) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
steps = st.fixed_dictionaries(
    {
        "tool": texts.filter(bool),
        "tool_version": texts.filter(bool),
        "params": st.dictionaries(texts, json_values, max_size=3),
        "code_hash": st.binary(max_size=2).map(lambda data: f"sha256:{hashlib.sha256(data).hexdigest()}"),
    }
)
randoms = st.randoms(use_true_random=False)


def everything_in(folder: Path) -> Iterator[Path]:
    yield folder
    for above, below, files in os.walk(folder):
        yield from (Path(above, name) for name in [*below, *files])


def contract(one: str, other: str, step: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "one", "path": one}, {"name": "other", "path": other}], "transforms": [step], **members}


def uri(base: Path, value: dict[str, Any], **options: Any) -> CtxUri:
    return resolve(parse_contract_file(json.dumps(value)), str(base), **options).uri


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A new empty folder for every example."""
    return lambda: tmp_path_factory.mktemp("project")


# What never changes it


@given(folders, folders, steps, randoms, st.sampled_from([None, 0, 2]), st.booleans())
def test_member_order_input_order_white_space_and_escapes_do_not_matter(
    place: Callable[[], Path], one: Folder, other: Folder, step: dict[str, Any], random: Any, indent: int, ascii_: bool
) -> None:
    base = place()
    write_folder(base / "one", one)
    write_folder(base / "other", other)
    value = contract("one", "./other", step, labels={"a": "b"})
    again = _shuffled(value, random)
    random.shuffle(again["inputs"])
    text = json.dumps(again, indent=indent, ensure_ascii=ascii_)
    assert resolve(parse_contract_file(text), str(base)).uri == uri(base, value)


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        members = [(name, _shuffled(item, random)) for name, item in value.items()]
        random.shuffle(members)
        return dict(members)
    return [_shuffled(item, random) for item in value] if isinstance(value, list) else value


@given(folders, folders, steps, randoms)
def test_place_times_owners_permissions_and_the_order_of_writing_do_not_matter(
    place: Callable[[], Path], one: Folder, other: Folder, step: dict[str, Any], random: Any
) -> None:
    here, there = place(), place() / "deeper" / "ü"
    write_folder(here / "one", one)
    write_folder(here / "other", other)
    before = uri(here, contract("one", "other", step))
    write_folder(there / "b", other, reverse=True)
    write_folder(there / "a", one, reverse=True)
    for path in everything_in(there):
        os.utime(path, (random.randrange(2**31), random.randrange(2**31)))
        path.chmod(0o755 if path.is_dir() else random.choice([0o600, 0o644, 0o755]))
        if os.geteuid() == 0:
            os.chown(path, random.randrange(1000, 2000), random.randrange(1000, 2000))
    moved = contract("a", str(there / "b"), step, outputs=[{"path": "elsewhere"}], labels={"who": "me"})
    assert uri(there, moved) == before


@given(folders, steps, st.integers(0, 99))
def test_the_executor_and_the_order_of_hashing_do_not_matter(
    place: Callable[[], Path],
    shuffling: Callable[[int], Executor],
    one: Folder,
    step: dict[str, Any],
    seed: int,
) -> None:
    base = place()
    write_folder(base / "one", one)
    value = contract("one", "one", step)
    before = uri(base, value)
    assert uri(base, value, hashing=Hashing(executor=shuffling(seed))) == before
    for threads in (1, 4):
        with ThreadPoolExecutor(threads) as pool:
            assert uri(base, value, hashing=Hashing(executor=pool)) == before


STEP = {"tool": "t", "tool_version": "1", "code_hash": "opaque", "params": {"b": [1, {"x": None}], "a": "ü"}}


def test_other_processes_and_their_hash_seeds_do_not_matter(place: Callable[[], Path]) -> None:
    base = place()
    write_folder(base / "one", {f"{n}": b"%d" % n for n in range(600)})
    value = contract("one", "one", STEP)
    before = uri(base, value)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert uri(base, value, hashing=Hashing(executor=processes)) == before
    code = (
        "import sys; from ctxpack_identity import parse_contract_file, resolve; "
        "print(resolve(parse_contract_file(sys.argv[1]), sys.argv[2]).uri)"
    )
    for seed in ("0", "1", "2"):
        command = [sys.executable, "-c", code, json.dumps(value), str(base)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == before


# What always changes it


@given(folders, folders)
def test_two_folders_have_one_uri_only_if_they_hold_the_same(
    place: Callable[[], Path], one: Folder, other: Folder
) -> None:
    base = place()
    write_folder(base / "one", one)
    write_folder(base / "other", other)
    same = uri(base, contract("one", "one", STEP)) == uri(base, contract("one", "other", STEP))
    assert same == (one == other)


def flip_a_byte(content: Folder, random: Any) -> None:
    folder, name = random.choice(list(_files(content)))
    assume(folder[name])
    changed = bytearray(folder[name])
    changed[random.randrange(len(changed))] ^= random.randrange(1, 256)
    folder[name] = bytes(changed)


def add_a_byte(content: Folder, random: Any) -> None:
    folder, name = random.choice(list(_files(content)))
    folder[name] += b"\n"


def rename(content: Folder, random: Any) -> None:
    folder, name = random.choice([*_files(content), *_folders(content)])
    folder[name + "x" if name + "x" not in folder else name + "xxxxxxx"] = folder.pop(name)


def nest_deeper(content: Folder, random: Any) -> None:
    folder, name = random.choice([*_files(content), *_folders(content)])
    folder[name] = {name: folder[name]}


def remove(content: Folder, random: Any) -> None:
    folder, name = random.choice([*_files(content), *_folders(content)])
    del folder[name]


def add_an_empty_folder(content: Folder, random: Any) -> None:
    assume("new" not in content)
    content["new"] = {}


def make_a_file_a_folder(content: Folder, random: Any) -> None:
    folder, name = random.choice(list(_files(content)))
    folder[name] = {}


def _files(content: Folder) -> Iterator[tuple[Folder, str]]:
    for name, item in content.items():
        if isinstance(item, dict):
            yield from _files(item)
        else:
            yield content, name


def _folders(content: Folder) -> Iterator[tuple[Folder, str]]:
    for name, item in content.items():
        if isinstance(item, dict):
            yield content, name
            yield from _folders(item)


@pytest.mark.parametrize(
    "change",
    [flip_a_byte, add_a_byte, rename, nest_deeper, remove, add_an_empty_folder, make_a_file_a_folder],
)
@given(content=folders, random=randoms)
def test_every_change_of_the_data_matters(
    place: Callable[[], Path], change: Callable[[Folder, Any], None], content: Folder, random: Any
) -> None:
    assume(next(_files(content), None))
    base = place()
    write_folder(base / "before", content)
    change(content, random)
    write_folder(base / "after", content)
    assert uri(base, contract("before", "before", STEP)) != uri(base, contract("before", "after", STEP))


@given(steps, steps)
def test_two_transforms_have_one_uri_only_if_they_are_equal(
    place: Callable[[], Path], one: dict[str, Any], other: dict[str, Any]
) -> None:
    base = place()
    value, another = ({"inputs": [], "transforms": [step]} for step in (one, other))
    assert (uri(base, value) == uri(base, another)) == (_typed(one) == _typed(other))


@given(steps, st.sampled_from(["tool", "tool_version", "code_hash", "environment_hash", "params", "salt"]))
def test_every_change_of_the_contract_matters(place: Callable[[], Path], step: dict[str, Any], member: str) -> None:
    base = place()
    changed, salt = dict(step), ""
    if member == "salt":
        salt = "2"
    elif member == "params":
        changed["params"] = {**step["params"], "new": None}
    elif member.endswith("_hash"):
        changed[member] = "sha256:" + "5" * 64
    else:
        changed[member] += "0"
    value = {"inputs": [], "transforms": [step]}
    assert uri(base, value) != uri(base, {"inputs": [], "transforms": [changed], "salt": salt})
    assert uri(base, value) != uri(base, {"inputs": [], "transforms": [step, step]})


def _typed(value: Any) -> Any:
    """Tell True from 1, which are equal in Python but not in JSON."""
    if isinstance(value, dict):
        return {name: _typed(item) for name, item in value.items()}
    return [_typed(item) for item in value] if isinstance(value, list) else (isinstance(value, bool), value)
