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
from contracts import shuffled
from folders import write_folder
from hypothesis import assume, given, settings
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
    again = shuffled(value, random)
    random.shuffle(again["inputs"])
    text = json.dumps(again, indent=indent, ensure_ascii=ascii_)
    assert resolve(parse_contract_file(text), str(base)).uri == uri(base, value)


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
    moved = contract("a", str(there / "b"), step, labels={"who": "me"})
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


FILES: Folder = {
    "raw": {"a.txt": b"a"},
    "src": {"run.py": b"run", "lib": {"lib.py": b"lib"}},
    "uv.lock": b"lock",
}
WHOLE: dict[str, Any] = {
    "inputs": [{"name": "raw", "path": "raw"}],
    "transforms": [
        {
            "tool": "t",
            "tool_version": "1",
            "code": {"path": "src"},
            "environment": {"path": "uv.lock"},
            "params": {"n": 1},
        }
    ],
    "outputs": [{"path": "out"}, {"path": "report.json"}],
    "command": ["python", "src/run.py", "--all"],
    "variables": ["MODEL"],
    "platform": {"os": "linux", "arch": "amd64"},
}
MAP: dict[str, Any] = {**WHOLE, "outputs": [{"path": "out"}], "each": {"input": "raw", "output": "{path}.json"}}
ENVIRON = {"MODEL": "small", "HOME": "/home/me"}


def changed(value: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Return a contract file with other members; those of the transform by "transform", those of each by "each"."""
    step = {**value["transforms"][0], **members.pop("transform", {})}
    each = {"each": {**value["each"], **members.pop("each", {})}} if "each" in value else {}
    return {**value, "transforms": [{name: item for name, item in step.items() if item is not None}], **each, **members}


@pytest.mark.parametrize(
    "other",
    [
        changed(WHOLE, outputs=[{"path": "out"}, {"path": "deep/er/report.json"}]),
        changed(WHOLE, outputs=[{"path": "/data/x", "name": "report.json"}, {"path": "../out/"}]),
        changed(WHOLE, outputs=list(reversed(WHOLE["outputs"]))),
        changed(WHOLE, outputs=[{"path": "out", "exclude": ["*"]}, {"path": "report.json", "symlinks": "follow"}]),
        changed(WHOLE, inputs=[{"name": "raw", "path": "./raw/", "listing": False}]),
        changed(WHOLE, inputs=[{"name": "raw", "path": "raw", "exclude": ["nothing"], "symlinks": "follow"}]),
        changed(WHOLE, transform={"code": {"path": "src", "listing": False, "exclude": ["*.log"]}}),
        changed(WHOLE, transform={"environment": {"path": "uv.lock", "text": True, "listing": False}}),
        changed(WHOLE, labels={"owner": "me"}),
        changed(WHOLE, variables={"MODEL": "small"}),
        changed(WHOLE, salt=""),
    ],
)
def test_places_of_outputs_notes_and_what_only_a_pack_tells_do_not_matter(
    place: Callable[[], Path], other: dict[str, Any]
) -> None:
    base = place()
    write_folder(base / "project", FILES)
    before = uri(base / "project", WHOLE, environ=ENVIRON)
    assert uri(base / "project", other, environ=ENVIRON) == before


def test_variables_that_are_not_named_do_not_matter(place: Callable[[], Path]) -> None:
    base = place() / "project"
    write_folder(base, FILES)
    assert uri(base, WHOLE, environ=ENVIRON) == uri(base, WHOLE, environ={"MODEL": "small", "LANG": "C"})


def test_where_the_process_runs_does_not_matter(place: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    base = place() / "project"
    write_folder(base, FILES)
    before = uri(base, WHOLE, environ=ENVIRON)
    monkeypatch.chdir(base / "src")
    assert uri(base, WHOLE, environ=ENVIRON) == uri(Path(".."), WHOLE, environ=ENVIRON) == before
    monkeypatch.chdir("/")
    assert uri(base, WHOLE, environ=ENVIRON) == before


DROPPINGS: list[Folder] = [
    {"__pycache__": {"run.cpython-311.pyc": b"x"}},
    {"old.pyc": b"x"},
    {".git": {"HEAD": b"ref: refs/heads/main"}},
    {".git": b"gitdir: /home/me/project/.git/worktrees/x"},
    {".pytest_cache": {"v": {"x": b""}}, ".mypy_cache": {"x": b""}, ".ruff_cache": {"x": b""}},
    {"x.egg-info": {"PKG-INFO": b"x"}, ".ipynb_checkpoints": {"x": b""}, ".venv": {"bin": {"python": b""}}},
    {"ctxpack.lock": b"{}"},
    {"run.py~": b"x", ".run.py.swp": b"x", ".swp": b"x", ".run.py.kate-swp": b"x", ".#run.py": b"x", "#run.py#": b"x"},
    {"empty": {}, "nested": {"empty": {"folders": {}}}},
    {"deleted_package": {"__pycache__": {"x.pyc": b"x"}, "sub": {"__pycache__": {}}}},
]


@pytest.mark.parametrize("dropped", DROPPINGS)
@pytest.mark.parametrize("where", ["", "lib"])
def test_what_tools_drop_into_code_does_not_matter(place: Callable[[], Path], dropped: Folder, where: str) -> None:
    base = place()
    array = changed(WHOLE, transform={"code": [{"path": "src"}, {"path": "uv.lock"}]})
    write_folder(base / "before", FILES)
    into = {**FILES["src"], **dropped} if not where else {**FILES["src"], "lib": {**FILES["src"]["lib"], **dropped}}
    write_folder(base / "after", {**FILES, "src": into})
    for value in (WHOLE, array):
        assert uri(base / "after", value, environ=ENVIRON) == uri(base / "before", value, environ=ENVIRON)
    as_input = changed(WHOLE, inputs=[{"name": "raw", "path": "src"}])
    as_environment = changed(WHOLE, transform={"environment": {"path": "src"}})
    for value in (as_input, as_environment):
        assert uri(base / "after", value, environ=ENVIRON) != uri(base / "before", value, environ=ENVIRON)


def test_the_name_of_a_clone_s_folder_does_not_matter(place: Callable[[], Path]) -> None:
    base = place()
    value = changed(WHOLE, transform={"code": [{"path": ".", "name": "project"}]}, outputs=[])
    write_folder(base / "project", {**FILES, ".git": {"HEAD": b"ref"}})
    write_folder(base / "project-2", FILES)
    assert uri(base / "project", value, environ=ENVIRON) == uri(base / "project-2", value, environ=ENVIRON)


def test_a_second_run_has_the_same_uri(place: Callable[[], Path]) -> None:
    base = place() / "project"
    write_folder(base, FILES)
    value = changed(WHOLE, transform={"code": {"path": ".", "exclude": ["/out/", "/report.json"]}})
    before = uri(base, value, environ=ENVIRON)
    write_folder(base / "out", {"result": b"x"})
    (base / "report.json").write_bytes(b"{}")
    (base / "src" / "__pycache__").mkdir()
    assert uri(base, value, environ=ENVIRON) == before


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
@settings(max_examples=40)
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


@pytest.mark.parametrize(
    "other",
    [
        changed(WHOLE, command=["python", "src/run.py"]),
        changed(WHOLE, command=["python", "src/run.py", "--some"]),
        changed(WHOLE, command=["python", "src/run.py --all"]),
        changed(WHOLE, command=["python", "--all", "src/run.py"]),
        changed(WHOLE, command="undeclared"),
        changed(WHOLE, variables={"MODEL": "large"}),
        changed(WHOLE, variables={"MODEL": ""}),
        changed(WHOLE, variables={"MODE": "small"}),
        changed(WHOLE, variables=[]),
        changed(WHOLE, variables=["MODEL", "HOME"]),
        changed(WHOLE, platform={"os": "linux", "arch": "arm64"}),
        changed(WHOLE, platform={"os": "linux"}),
        changed(WHOLE, platform={"os": "linux", "arch": "amd64", "gpu": "H100"}),
        changed(WHOLE, platform={}),
        changed(WHOLE, outputs=[{"path": "out"}, {"path": "report.csv"}]),
        changed(WHOLE, outputs=[{"path": "out"}]),
        changed(WHOLE, outputs=[]),
        changed(WHOLE, outputs=[{"path": "out", "name": "Out"}, {"path": "report.json"}]),
        changed(WHOLE, inputs=[{"name": "Raw", "path": "raw"}]),
        changed(WHOLE, inputs=[{"name": "raw", "path": "raw"}, {"name": "more", "path": "raw"}]),
        changed(WHOLE, transform={"code": {"path": "src/lib"}}),
        changed(WHOLE, transform={"code": [{"path": "src"}]}),
        changed(WHOLE, transform={"code": [{"path": "src", "name": "lib"}]}),
        changed(WHOLE, transform={"code": [{"path": "src"}, {"path": "uv.lock"}]}),
        changed(WHOLE, transform={"code": {"path": "src", "exclude": ["lib"]}}),
        changed(WHOLE, transform={"environment": [{"path": "uv.lock"}]}),
        changed(WHOLE, transform={"environment": None}),
        changed(WHOLE, salt="2"),
        MAP,
    ],
)
def test_every_other_member_matters(place: Callable[[], Path], other: dict[str, Any]) -> None:
    base = place() / "project"
    write_folder(base, FILES)
    assert uri(base, other, environ=ENVIRON) != uri(base, WHOLE, environ=ENVIRON)


@pytest.mark.parametrize(
    "other",
    [
        changed(MAP, each={"of": "entries"}),
        changed(MAP, each={"by": "content"}),
        changed(MAP, each={"output": "{path}.txt"}),
        changed(MAP, command=["python", "src/run.py", "{item}"]),
        {name: item for name, item in MAP.items() if name != "each"},
    ],
)
def test_every_member_of_a_map_matters(place: Callable[[], Path], other: dict[str, Any]) -> None:
    base = place() / "project"
    write_folder(base, FILES)
    assert uri(base, other, environ=ENVIRON) != uri(base, MAP, environ=ENVIRON)
    defaults = changed(MAP, each={"of": "files", "by": "path"})
    assert uri(base, defaults, environ=ENVIRON) == uri(base, MAP, environ=ENVIRON)


def test_the_value_of_a_named_variable_matters(place: Callable[[], Path]) -> None:
    base = place() / "project"
    write_folder(base, FILES)
    assert uri(base, WHOLE, environ={"MODEL": "large"}) != uri(base, WHOLE, environ=ENVIRON)


@pytest.mark.parametrize(
    "files",
    [
        {**FILES, "src": {**FILES["src"], "run.py": b"ran"}},
        {**FILES, "src": {**FILES["src"], "lib": {"lib.py": b"lib", "new.py": b""}}},
        {**FILES, "src": {**FILES["src"], ".env": b"MODEL=x"}},
        {**FILES, "src": {**FILES["src"], "build": {"x": b""}}},
        {**FILES, "src": {"run.py": b"run", "lib": {}}},
        {**FILES, "uv.lock": b"lock\n"},
        {**FILES, "raw": {"a.txt": b"a", "empty": {}}},
    ],
)
def test_every_file_of_code_environment_and_inputs_matters(place: Callable[[], Path], files: Folder) -> None:
    base = place()
    write_folder(base / "one", FILES)
    write_folder(base / "other", files)
    assert uri(base / "one", WHOLE, environ=ENVIRON) != uri(base / "other", WHOLE, environ=ENVIRON)


def _typed(value: Any) -> Any:
    """Tell True from 1, which are equal in Python but not in JSON."""
    if isinstance(value, dict):
        return {name: _typed(item) for name, item in value.items()}
    return [_typed(item) for item in value] if isinstance(value, list) else (isinstance(value, bool), value)
