"""Resolution: the result of each way to give an input, code or environment, and the callbacks."""

from __future__ import annotations

import json
import os
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

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
    return resolve(parse_contract_file(json.dumps({"inputs": inputs, "transforms": [step]})), str(base), **options)


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
        "inputs": {},
        "salt": "",
        "schema": "ctxpack/contract/v1",
        "transforms": [
            {"code_hash": "opaque", "environment_hash": "undeclared", "params": {}, "tool": "t", "tool_version": "1"}
        ],
    }


def test_on_entry_gets_entries_of_inputs_and_none_of_code(project: Path) -> None:
    seen: list[tuple[str, TreeEntry]] = []
    inputs = [{"name": "b", "path": "raw"}, {"name": "a", "path": "uv.lock"}, {"name": "c", "digest": D}]
    resolved(project, inputs, {"code": {"path": "src"}}, on_entry=lambda name, entry: seen.append((name, entry)))
    assert [(name, entry.path, entry.size) for name, entry in seen] == [("b", "a.txt", 1), ("a", "uv.lock", 4)]


def test_progress_and_junk_cover_inputs_code_and_environment(project: Path) -> None:
    (project / "raw" / ".DS_Store").write_text("jj")
    (project / "src" / "Thumbs.db").write_text("jjj")
    seen: list[int] = []
    resolution = resolved(
        project,
        [{"name": "raw", "path": "raw"}],
        {"code": {"path": "src"}, "environment": {"path": "uv.lock"}},
        hashing=Hashing(progress=lambda stage, advanced, total: seen.append(advanced)),
    )
    assert sum(seen) == len("a" + "jj" + "run" + "jjj" + "lock")
    assert resolution.junk == (os.path.join(project, "raw", ".DS_Store"), os.path.join(project, "src", "Thumbs.db"))


def test_every_executor_gives_the_same_uri(project: Path, executor: Executor | None) -> None:
    inputs = [{"name": "raw", "path": "raw"}]
    code = {"code": {"path": "src"}}
    assert (
        resolved(project, inputs, code, hashing=Hashing(executor=executor)).uri == resolved(project, inputs, code).uri
    )


@pytest.mark.parametrize("member", ["input", "code", "environment"])
def test_a_missing_path_is_in_the_error(project: Path, member: str) -> None:
    inputs = [{"name": "raw", "path": "nowhere"}] if member == "input" else []
    step: dict[str, Any] = {"code_hash": "opaque"} if member != "code" else {"code": {"path": "nowhere"}}
    step |= {"environment": {"path": "nowhere"}} if member == "environment" else {}
    with pytest.raises(InvalidInput) as caught:
        resolved(project, inputs, step)
    assert str(caught.value) == f"{project}/nowhere: no such file or folder; check the path"
