"""Roots of code and environment: names, patterns, folders without files, listings and texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contracts import TRANSFORM
from folders import write_folder
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import (
    Digest,
    HashedRoot,
    Hashing,
    InvalidInput,
    Resolution,
    TreeEntry,
    hash_tree,
    parse_contract_file,
    resolve,
    tree_digest,
)
from ctxpack_identity.contractfile import CODE_PATTERNS, TreeSource
from ctxpack_identity.hashing.scan import Folder
from ctxpack_identity.packtext import MAX_TEXT_BYTES

Content = dict[str, Any]

names = st.text(
    st.sampled_from("ab.") | st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=4
).filter(lambda name: name not in (".", ".."))
contents: st.SearchStrategy[Content] = st.recursive(
    st.dictionaries(names, st.binary(max_size=3), max_size=3),
    lambda inner: st.dictionaries(names, inner | st.binary(max_size=3), max_size=3),
    max_leaves=6,
)


def resolved(base: Path, *, where: str = "contract", **members: Any) -> tuple[Resolution, dict[str, list[TreeEntry]]]:
    """Return the resolution of a contract with this transform, and what on_entry was called with, by listing."""
    step = {name: value for name, value in TRANSFORM.items() if not ("code" in members and name == "code_hash")}
    text = json.dumps({"inputs": [], "transforms": [{**step, **members}]})
    seen: dict[str, list[TreeEntry]] = {}
    resolution = resolve(
        parse_contract_file(text),
        str(base),
        where=where,
        on_entry=lambda listing, entry: seen.setdefault(listing, []).append(entry),
    )
    return resolution, seen


def step_of(resolution: Resolution) -> dict[str, Any]:
    step: dict[str, Any] = json.loads(resolution.canonical)["transforms"][0]
    return step


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A new folder for every example."""
    return lambda: tmp_path_factory.mktemp("roots")


@given(st.dictionaries(names, contents | st.binary(max_size=3), min_size=1, max_size=4), st.data())
def test_an_array_of_roots_is_the_folder_that_holds_them_by_name(
    place: Callable[[], Path], content: Content, data: st.DataObject
) -> None:
    base = place()
    write_folder(base / "all", content)
    write_folder(base / "moved", {str(number): item for number, item in enumerate(content.values())})
    roots = [{"path": f"all/{name}"} for name in content]
    moved = [{"path": f"moved/{number}", "name": name} for number, name in enumerate(content)]
    whole, listed = resolved(base, environment={"path": "all"})
    for given_roots in (roots, moved, data.draw(st.permutations(roots))):
        resolution, seen = resolved(base, environment=given_roots)
        assert resolution.uri == whole.uri
        assert seen == listed
    assert step_of(whole)["environment_hash"] == tree_digest(listed["environment/0"])


@given(st.dictionaries(names, contents | st.binary(max_size=3), min_size=1, max_size=4))
def test_code_is_what_git_would_keep_of_a_folder(place: Callable[[], Path], content: Content) -> None:
    base = place()
    write_folder(base / "code", {**content, "main": b"x"})
    kept: list[TreeEntry] = []
    hash_tree(str(base / "code"), files_only=True, on_entry=kept.append)
    assert all(not entry.is_empty_folder for entry in kept)
    patterns = [f"!{pattern}" for pattern in CODE_PATTERNS]  # all is code here
    resolution, seen = resolved(base, code={"path": "code", "exclude": patterns})
    assert seen == {"code/0": kept}
    assert step_of(resolution)["code_hash"] == tree_digest(kept)
    roots = [{"path": f"code/{name}", "exclude": patterns} for name in {**content, "main": b""}]
    assert resolved(base, code=roots)[0].uri == resolution.uri


@pytest.mark.parametrize("member", ["code", "environment"])
def test_listings_have_the_paths_below_the_names_of_roots(tmp_path: Path, member: str) -> None:
    write_folder(tmp_path / "src", {"b": {"c.py": b"c", "e": {}}, "a.py": b"a", "a.pyc": b""})
    write_folder(tmp_path / "empty", {})
    (tmp_path / "uv.lock").write_bytes(b"lock")
    roots = [{"path": "uv.lock", "name": "lock"}, {"path": "src"}, {"path": "empty"}]
    members: dict[str, Any] = {member: roots}
    _, seen = resolved(tmp_path, **members)
    paths = [(entry.path, entry.size) for entry in seen[f"{member}/0"]]
    if member == "code":
        assert paths == [("lock", 4), ("src/a.py", 1), ("src/b/c.py", 1)]
    else:
        assert paths == [
            ("empty/", 0),
            ("lock", 4),
            ("src/a.py", 1),
            ("src/a.pyc", 0),
            ("src/b/c.py", 1),
            ("src/b/e/", 0),
        ]


def test_the_listing_of_a_single_file_has_one_entry_without_path(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_bytes(b"lock")
    (tmp_path / "run").write_bytes(b"run")
    (tmp_path / "run").chmod(0o755)
    _, seen = resolved(tmp_path, code={"path": "run"}, environment={"path": "uv.lock"})
    assert seen == {
        "code/0": [TreeEntry("", 3, hashlib.sha256(b"run").hexdigest(), executable=True)],
        "environment/0": [TreeEntry("", 4, hashlib.sha256(b"lock").hexdigest())],
    }


def test_no_listing_is_made_of_an_array_of_which_one_root_says_so(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", {"x": b""})
    write_folder(tmp_path / "b", {"y": b""})
    resolution, seen = resolved(
        tmp_path, code=[{"path": "a"}, {"path": "b", "listing": False}], environment=[{"path": "a"}, {"path": "b"}]
    )
    assert seen.keys() == resolution.listings == {"environment/0"}


def test_every_root_says_what_it_is_and_where(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", {"x": b""})
    write_folder(tmp_path / "b", {"y": b""})
    code, exclude = [{"path": "b", "exclude": ["z"]}, {"path": str(tmp_path / "a")}], ("z",)
    resolution, _ = resolved(tmp_path, code=code, environment={"path": "./a"})
    first, second, third = resolution.hashed
    assert first[:3] == ("code/0", TreeSource("b", exclude, name="b"), f"{tmp_path}/b")
    assert first.excludes is not None
    assert [first.excludes(path, False) for path in ("z", "a.pyc", "y")] == [True, True, False]
    assert (second.location, second.what) == (f"{tmp_path}/a", "code of transform 0")
    assert third == HashedRoot("environment/0", TreeSource("./a"), f"{tmp_path}/./a", None)
    assert (third.what, third.is_url, third.is_code, first.is_code) == (
        "environment of transform 0",
        False,
        False,
        True,
    )
    assert HashedRoot("inputs/raw", TreeSource("s3://b"), "s3://b", None).what == "input raw"
    assert HashedRoot("inputs/raw", TreeSource("s3://b"), "s3://b", None).is_url


def test_on_folder_gets_each_root_with_each_of_its_folders(tmp_path: Path) -> None:
    write_folder(tmp_path / "src", {"a.py": b"", "a.pyc": b"", "b": {"c.py": b""}, "__pycache__": {"x": b""}})
    (tmp_path / "uv.lock").write_bytes(b"")
    text = {**TRANSFORM, "code": [{"path": "src"}, {"path": "uv.lock"}], "environment": {"path": "uv.lock"}}
    del text["code_hash"]
    inputs = [{"name": "i", "path": "src"}]
    seen: list[tuple[str, str, list[str]]] = []

    def note(root: HashedRoot, folder: Folder) -> None:
        seen.append((root.listing, folder.path, [name for name, _ in folder.files]))

    resolve(parse_contract_file(json.dumps({"inputs": inputs, "transforms": [text]})), str(tmp_path), on_folder=note)
    assert seen == [
        ("inputs/i", "", ["a.py", "a.pyc"]),
        ("inputs/i", "__pycache__/", ["x"]),
        ("inputs/i", "b/", ["c.py"]),
        ("code/0", "", ["a.py"]),
        ("code/0", "b/", ["c.py"]),
        ("code/0", "", ["uv.lock"]),
        ("environment/0", "", ["uv.lock"]),
    ]


def test_code_without_a_file_names_its_roots(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", {"__pycache__": {"x": b""}})
    write_folder(tmp_path / "b", {"c": {}})
    with pytest.raises(InvalidInput) as caught:
        resolved(tmp_path, code=[{"path": "a"}, {"path": "b"}])
    assert str(caught.value) == (
        f'{tmp_path}/a, {tmp_path}/b: code without any file; name what runs, or say "code_hash": "opaque"'
    )


# ---- texts


@pytest.mark.parametrize("data", [b"", b"lock\n", "ü\0\r\n".encode(), b"x" * MAX_TEXT_BYTES])
def test_the_text_of_a_lock_file_is_kept(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "uv.lock").write_bytes(data)
    resolution, _ = resolved(tmp_path, environment={"path": "uv.lock", "text": True})
    assert resolution.texts == {"environment/0": data}
    assert resolved(tmp_path, environment={"path": "uv.lock"})[0].texts == {}


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ({"x": b""}, "E_TEXT", '"text" is for a single file: got a folder; remove it'),
        (
            b"a\xff",
            "E_TEXT",
            '"text" is for a file of UTF-8: got byte 0xff at offset 1; save it as UTF-8, or remove "text"',
        ),
        (
            b"x" * (MAX_TEXT_BYTES + 1),
            "E_TOO_LARGE",
            "too large for a text that a pack holds: expected at most 1048576 bytes; "
            'remove "text": the digest is in the contract anyway',
        ),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: Any, code: str, message: str) -> None:
    write_folder(tmp_path / "top", {"lock": content})
    with pytest.raises(InvalidInput) as caught:
        resolved(tmp_path, environment={"path": "top/lock", "text": True})
    assert (caught.value.code, str(caught.value)) == (code, f"{tmp_path}/top/lock: {message}")


class Stale:
    """Says of every file that its content is still what it was."""

    def __init__(self, data: bytes) -> None:
        self._digest = hashlib.sha256(data).hexdigest()

    def look_up(self, folder: Folder) -> list[str | None]:
        return [self._digest for _ in folder.files]

    peek = look_up

    def remember(self, folder: Folder, digests: list[str]) -> None:
        raise AssertionError("nothing is hashed")


def test_a_text_that_is_not_what_was_hashed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_bytes(b"new")
    environment = {"path": "uv.lock", "text": True}
    text = json.dumps({"inputs": [], "transforms": [{**TRANSFORM, "environment": environment}]})
    with pytest.raises(InvalidInput, match=r"uv\.lock: changed while it was read") as caught:
        resolve(parse_contract_file(text), str(tmp_path), hashing=Hashing(known=Stale(b"old")))
    assert caught.value.code == "E_INPUT_CHANGED"
    resolution = resolve(parse_contract_file(text), str(tmp_path), hashing=Hashing(known=Stale(b"new")))
    assert resolution.texts == {"environment/0": b"new"}


# ---- files of patterns


def test_files_of_patterns_count_from_the_contract_s_folder_down_for_roots_that_ask(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "above" / "project",
        {
            ".gitignore": b"*.log\n",
            "src": {".gitignore": b"!keep.log\n", "a.py": b"", "b.log": b"", "keep.log": b"", "c.tmp": b""},
        },
    )
    (tmp_path / "above" / ".gitignore").write_bytes(b"*.tmp\n")
    base = tmp_path / "above" / "project"
    _, seen = resolved(
        base, code=[{"path": "src", "gitignore": True}, {"path": "src", "name": "all"}], environment={"path": "src"}
    )
    all_of_it = [".gitignore", "a.py", "b.log", "c.tmp", "keep.log"]
    asked = [".gitignore", "a.py", "c.tmp", "keep.log"]
    assert [entry.path for entry in seen["code/0"]] == [f"all/{name}" for name in all_of_it] + [
        f"src/{name}" for name in asked
    ]
    assert [entry.path for entry in seen["environment/0"]] == all_of_it


def test_an_output_that_gitignore_leaves_out_does_not_change_the_uri(tmp_path: Path) -> None:
    write_folder(tmp_path / "project", {".gitignore": b"/out/\n", "run.py": b"run"})
    text = json.dumps(
        {
            "inputs": [{"name": "all", "path": ".", "gitignore": True}],
            "transforms": [{"tool": "t", "tool_version": "1", "code": {"path": ".", "gitignore": True}}],
            "outputs": [{"path": "out"}],
        }
    )
    base = tmp_path / "project"
    before = resolve(parse_contract_file(text), str(base)).uri
    write_folder(base / "out", {"result": b"x"})
    assert resolve(parse_contract_file(text), str(base)).uri == before
    (base / ".gitignore").write_bytes(b"")
    with pytest.raises(InvalidInput, match="the output lies in what is hashed"):
        resolve(parse_contract_file(text), str(base))


def test_a_digest_is_passed_on(tmp_path: Path) -> None:
    digest = Digest("sha256:" + "1" * 64)
    resolution, seen = resolved(tmp_path, code_hash=digest, environment_hash=digest)
    assert (step_of(resolution)["code_hash"], step_of(resolution)["environment_hash"]) == (digest, digest)
    assert (resolution.hashed, resolution.listings, seen) == ((), set(), {})
