"""Resolution: the result of each way to give an input, code or environment; variables, platform, and the callbacks."""

from __future__ import annotations

import json
import os
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
from contracts import contract

from ctxpack_identity import (
    CtxUri,
    Digest,
    Hashing,
    InvalidInput,
    NotFound,
    Resolution,
    ResolvedInput,
    TreeEntry,
    digest_of,
    hash_tree,
    parse_contract_file,
    resolve,
)

D = Digest("sha256:" + "1" * 64)
URI = CtxUri("ctx://sha256:" + "2" * 64)


def resolved(base: Path, inputs: list[Any], transform: dict[str, Any] | None = None, **options: Any) -> Resolution:
    step = {"tool": "t", "tool_version": "1", **(transform or {"code_hash": "opaque"})}
    text = contract(inputs, step, **options.pop("members", {}))
    return resolve(parse_contract_file(text), str(base), **options)


def transform_of(resolution: Resolution) -> dict[str, Any]:
    step: dict[str, Any] = json.loads(resolution.canonical)["transforms"][0]
    return step


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("a")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "run.py").write_text("run")
    (tmp_path / "uv.lock").write_text("lock")
    return tmp_path


def test_the_uri_is_the_digest_of_the_canonical_bytes(project: Path) -> None:
    resolution = resolved(project, [{"name": "raw", "path": "raw"}])
    assert resolution.uri == f"ctx://{digest_of(resolution.canonical)}"


def test_a_path_a_digest_and_a_uri_of_the_same_content_are_one_input(project: Path) -> None:
    tree = hash_tree(str(project / "raw"))
    by_path = resolved(project, [{"name": "raw", "path": "./raw"}])
    by_digest = resolved(project, [{"name": "raw", "digest": tree.digest}])
    by_uri = resolved(project, [{"name": "raw", "uri": URI}], pack_outputs={URI: tree.digest}.__getitem__)
    by_absolute_path = resolved(Path("/nowhere"), [{"name": "raw", "path": str(project / "raw")}])
    assert by_path.uri == by_digest.uri == by_uri.uri == by_absolute_path.uri
    assert by_path.inputs == (ResolvedInput("raw", tree.digest, tree=tree),)
    assert by_digest.inputs == (ResolvedInput("raw", tree.digest),)
    assert by_uri.inputs == (ResolvedInput("raw", tree.digest, uri=URI),)


def test_an_input_by_uri_needs_pack_outputs(project: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolved(project, [{"name": "raw", "uri": URI}], where="c.json")
    assert str(caught.value) == (
        f"c.json, input 'raw': an input given by URI needs a place to look packs up: got {URI}; "
        'give its "digest" or "path", or resolve with pack_outputs'
    )


def test_results_and_errors_of_pack_outputs_are_passed_on(project: Path) -> None:
    def nowhere(uri: CtxUri) -> Digest:
        raise NotFound("no such pack", where=uri)

    with pytest.raises(NotFound, match="no such pack"):
        resolved(project, [{"name": "raw", "uri": URI}], pack_outputs=nowhere)
    with pytest.raises(InvalidInput, match="/inputs/raw/digest: expected sha256: and 64"):
        resolved(project, [{"name": "raw", "uri": URI}], pack_outputs=lambda uri: Digest("latest"))


def test_code_and_environment_are_hashed_like_inputs(project: Path) -> None:
    step = transform_of(resolved(project, [], {"code": {"path": "src"}, "environment": {"path": "uv.lock"}}))
    assert step["code_hash"] == hash_tree(str(project / "src")).digest
    assert step["environment_hash"] == hash_tree(str(project / "uv.lock")).digest


def test_running_or_tracking_code_does_not_change_it(project: Path) -> None:
    before = resolved(project, [], {"code": {"path": "src"}})
    (project / "src" / "__pycache__").mkdir()
    (project / "src" / "__pycache__" / "run.cpython-311.pyc").write_text("x")
    (project / "src" / ".git").mkdir()
    (project / "src" / ".git" / "HEAD").write_text("ref")
    assert resolved(project, [], {"code": {"path": "src"}}).uri == before.uri
    (project / "src" / ".gitignore").write_text("x")
    assert resolved(project, [], {"code": {"path": "src"}}).uri != before.uri


def test_a_worktree_s_git_file_does_not_change_code(project: Path) -> None:
    before = resolved(project, [], {"code": {"path": "src"}})
    (project / "src" / ".git").write_text("gitdir: /somewhere/on/this/machine\n")
    assert resolved(project, [], {"code": {"path": "src"}}).uri == before.uri


def test_defaults_are_written_out(project: Path) -> None:
    resolution = resolved(project, [])
    assert json.loads(resolution.canonical) == {
        "command": "undeclared",
        "inputs": {},
        "outputs": [],
        "platform": {},
        "salt": "",
        "schema": "ctxpack/contract/v1",
        "transforms": [
            {"code_hash": "opaque", "environment_hash": "undeclared", "params": {}, "tool": "t", "tool_version": "1"}
        ],
        "variables": {},
    }


def test_on_entry_gets_the_entries_of_inputs_code_and_environment_by_listing(project: Path) -> None:
    seen: list[tuple[str, TreeEntry]] = []
    inputs = [{"name": "b", "path": "raw"}, {"name": "a", "path": "uv.lock"}, {"name": "c", "digest": D}]
    transform = {"code": {"path": "src"}, "environment": {"path": "uv.lock"}}
    resolution = resolved(project, inputs, transform, on_entry=lambda name, entry: seen.append((name, entry)))
    assert [(name, entry.path, entry.size) for name, entry in seen] == [
        ("inputs/b", "a.txt", 1),
        ("inputs/a", "", 4),
        ("code/0", "run.py", 3),
        ("environment/0", "", 4),
    ]
    assert resolution.listings == {"inputs/b", "inputs/a", "code/0", "environment/0"}


def test_no_listing_is_made_where_the_contract_file_says_so(project: Path) -> None:
    seen: list[str] = []
    inputs = [{"name": "b", "path": "raw", "listing": False}, {"name": "a", "path": "uv.lock"}]
    transform = {"code": {"path": "src", "listing": False}, "environment": {"path": "uv.lock"}}
    resolution = resolved(project, inputs, transform, on_entry=lambda name, entry: seen.append(name))
    assert set(seen) == resolution.listings == {"inputs/a", "environment/0"}


def test_whether_an_input_by_uri_is_listed_is_passed_on(project: Path) -> None:
    for listed in (True, False):
        inputs = [{"name": "raw", "uri": URI, "listing": listed}]
        resolution = resolved(project, inputs, pack_outputs=lambda uri: D)
        assert resolution.inputs == (ResolvedInput("raw", D, uri=URI, listed=listed),)
        assert (resolution.hashed, resolution.listings) == ((), set())


def test_progress_covers_inputs_code_and_environment(project: Path) -> None:
    seen: list[int] = []
    resolved(
        project,
        [{"name": "raw", "path": "raw"}],
        {"code": {"path": "src"}, "environment": [{"path": "uv.lock"}, {"path": "raw"}]},
        hashing=Hashing(progress=lambda stage, advanced, total: seen.append(advanced)),
    )
    assert sum(seen) == len("a" + "run" + "lock" + "a")


# ---- variables and platform


def test_a_named_variable_has_the_value_of_the_environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "of this process")
    members = {"variables": ["MODEL"]}
    by_name = resolved(project, [], members=members)
    given = resolved(project, [], members=members, environ={"MODEL": "given", "OTHER": "x"})
    assert json.loads(by_name.canonical)["variables"] == {"MODEL": "of this process"}
    assert json.loads(given.canonical)["variables"] == {"MODEL": "given"}
    written = resolved(project, [], members={"variables": {"MODEL": "given"}}, environ={})
    assert written.uri == given.uri


def test_a_named_variable_that_is_not_set_is_in_the_error(project: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        resolved(project, [], members={"variables": ["SET", "MODEL"]}, environ={"SET": ""}, where="c.json")
    assert str(caught.value) == (
        "c.json, /variables: the environment variable MODEL is not set; "
        'set it, or give its value: "variables": {"MODEL": "…"}'
    )
    assert caught.value.code == "E_UNSET"


def test_a_variable_whose_value_is_not_text_is_in_the_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"MODEL", b"\xff")
    with pytest.raises(InvalidInput) as caught:
        resolved(project, [], members={"variables": ["MODEL"]}, where="c.json")
    assert str(caught.value) == (
        "c.json, /variables: the value of the environment variable MODEL is not UTF-8; change the value"
    )
    assert caught.value.code == "E_VARIABLE"


@pytest.mark.parametrize(
    ("system", "machine", "words"),
    [
        ("linux", "x86_64", {"os": "linux", "arch": "amd64"}),
        ("linux", "aarch64", {"os": "linux", "arch": "arm64"}),
        ("darwin", "arm64", {"os": "darwin", "arch": "arm64"}),
        ("linux", "riscv64", {"os": "linux", "arch": "riscv64"}),
    ],
)
def test_auto_is_this_machine_in_the_words_of_oci(
    project: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, words: dict[str, str]
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("", "", "", "", machine)))
    auto = resolved(project, [], members={"platform": {"os": "auto", "arch": "auto", "gpu": "x"}})
    assert json.loads(auto.canonical)["platform"] == {**words, "gpu": "x"}
    assert resolved(project, [], members={"platform": {**words, "gpu": "x"}}).uri == auto.uri


# ---- outputs and maps


def test_places_of_outputs_that_are_given_are_checked_like_those_of_the_file(project: Path) -> None:
    members = {"outputs": [{"path": "out"}]}
    inputs = [{"name": "raw", "path": "raw"}]
    before = resolved(project, inputs, members=members)
    elsewhere = resolved(project, inputs, members=members, outputs={"out": str(project / "else")})
    assert elsewhere.uri == before.uri
    with pytest.raises(InvalidInput, match=r"output 'out' at .*/raw/x: the output lies in what is hashed"):
        resolved(project, inputs, members=members, outputs={"out": str(project / "raw" / "x")})
    with pytest.raises(InvalidInput, match="the output lies in what is hashed"):
        resolved(project, inputs, members={"outputs": [{"path": "raw/out"}]}, outputs={"out": str(project / "else")})


def test_outputs_are_checked_before_anything_is_hashed(project: Path) -> None:
    inputs = [{"name": "raw", "path": "raw"}, {"name": "gone", "path": "nowhere"}]
    with pytest.raises(InvalidInput, match="the output lies in what is hashed"):
        resolved(project, inputs, members={"outputs": [{"path": "raw/out"}]})


def test_a_map_needs_a_folder_and_a_command(project: Path) -> None:
    members = {"outputs": [{"path": "out"}], "command": ["x"], "each": {"input": "raw", "output": "{path}"}}
    assert (
        b'"schema":"ctxpack/map/v1"' in resolved(project, [{"name": "raw", "path": "raw"}], members=members).canonical
    )
    with pytest.raises(InvalidInput) as caught:
        resolved(project, [{"name": "raw", "path": "uv.lock"}], members=members, where="c.json")
    assert caught.value.code == "E_EACH"
    assert str(caught.value) == (
        "c.json, /each/input: a map goes over a folder, and this input is a file: got raw; "
        "name the folder that holds the file"
    )
    with pytest.raises(InvalidInput, match=r'c\.json: /command: expected the command of a map, got "undeclared"'):
        resolved(
            project, [{"name": "raw", "path": "raw"}], members={**members, "command": "undeclared"}, where="c.json"
        )


def test_every_executor_gives_the_same_uri(project: Path, executor: Executor | None) -> None:
    inputs = [{"name": "raw", "path": "raw"}]
    code = {"code": {"path": "src"}}
    assert (
        resolved(project, inputs, code, hashing=Hashing(executor=executor)).uri == resolved(project, inputs, code).uri
    )


@pytest.mark.parametrize("length", [300, 5000])
def test_a_path_that_is_too_long_is_the_contract_s_fault(project: Path, length: int) -> None:
    path = "n" * 300 if length == 300 else "/".join(["n"] * length)
    with pytest.raises(InvalidInput) as caught:
        resolved(project, [{"name": "raw", "path": path}])
    assert caught.value.code == "E_PATH"


@pytest.mark.parametrize("member", ["input", "code", "environment"])
def test_a_missing_path_is_in_the_error(project: Path, member: str) -> None:
    inputs = [{"name": "raw", "path": "nowhere"}] if member == "input" else []
    step: dict[str, Any] = {"code_hash": "opaque"} if member != "code" else {"code": {"path": "nowhere"}}
    step |= {"environment": {"path": "nowhere"}} if member == "environment" else {}
    with pytest.raises(InvalidInput) as caught:
        resolved(project, inputs, step)
    assert str(caught.value) == f"{project}/nowhere: no such file or folder; check the path"
