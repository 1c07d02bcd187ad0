"""Contract files beyond the vectors: what is read of them, and what random ones resolve to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from contracts import TRANSFORM, contract, contract_files, environments, shuffled, write_project
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import (
    ContractInvalid,
    CtxUri,
    Digest,
    InvalidInput,
    Resolution,
    TreeEntry,
    digest_of,
    hash_tree,
    parse_canonical_contract,
    parse_contract_file,
    resolve,
    tree_digest,
    with_command,
)
from ctxpack_identity.contractfile import (
    CODE_PATTERNS,
    MAX_CONTRACT_FILE_BYTES,
    ContractFile,
    InputSource,
    OutputPlace,
    Roots,
    TransformSource,
    TreeSource,
)
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.rules import Each

D = Digest("sha256:" + "1" * 64)
URI = CtxUri(f"ctx://{D}")

randoms = st.randoms(use_true_random=False)


def test_the_seed_format_is_read_as_written() -> None:
    read = parse_contract_file(
        '{"inputs":[{"name":"raw_docs","path":"./raw_pdfs"}],"transforms":[{"tool":"vision-pro","tool_version":"1.2",'
        f'"code_hash":"{D}","params":{{"dpi":300}}}}],"outputs":[{{"path":"./processed_data"}}]}}'
    )
    assert read == ContractFile(
        inputs=(InputSource("raw_docs", source=TreeSource("./raw_pdfs")),),
        transforms=(TransformSource("vision-pro", "1.2", D, "undeclared", {"dpi": 300}),),
        outputs=(OutputPlace("processed_data", "./processed_data"),),
        salt="",
        labels={},
        command=None,
        variables={},
        platform={},
        each=None,
        schema="ctxpack/contract/v1",
    )


def test_every_member_of_a_contract_file_is_read() -> None:
    members = {"exclude": ["*.tmp", "!k"], "symlinks": "follow", "listing": False}
    source = TreeSource("x", ("*.tmp", "!k"), follow=True, listing=False)
    transform = {
        "tool": "t",
        "tool_version": "1",
        "code": [{"path": "x", **members, "gitignore": True}, {"path": "./y.py", "name": "z"}, {"path": "w/"}],
        "environment": {"path": "x", **members, "text": True},
        "params": {"a": [1]},
    }
    inputs = [
        {"name": "a", "path": "x", **members, "gitignore": True},
        {"name": "b", "digest": D},
        {"name": "c", "uri": URI, "listing": False},
        {"name": "d", "path": "d"},
    ]
    read = parse_contract_file(
        contract(
            inputs,
            transform,
            outputs=[{"path": ".", "name": "all", "exclude": ["*.tmp", "!k"], "symlinks": "follow"}],
            command=["python", "main.py", ""],
            variables={"A": "", "B": "b"},
            platform={"os": "auto", "gpu": "none"},
            each={"input": "d", "of": "entries", "by": "content", "output": "{stem}"},
            salt="s",
            labels={"k": "v"},
        )
    )
    code = (source._replace(gitignore=True, name="x"), TreeSource("./y.py", name="z"), TreeSource("w/", name="w"))
    assert read == ContractFile(
        inputs=(
            InputSource("a", source=source._replace(gitignore=True)),
            InputSource("b", digest=D),
            InputSource("c", uri=URI, listing=False),
            InputSource("d", source=TreeSource("d")),
        ),
        transforms=(
            TransformSource("t", "1", Roots(code, as_folder=True), Roots((source._replace(text=True),)), {"a": [1]}),
        ),
        outputs=(OutputPlace("all", ".", ("*.tmp", "!k"), follow=True),),
        salt="s",
        labels={"k": "v"},
        command=("python", "main.py", ""),
        variables={"A": "", "B": "b"},
        platform={"os": "auto", "gpu": "none"},
        each=Each("d", "entries", "content", "{stem}"),
        schema="ctxpack/map/v1",
    )


def test_variables_that_are_named_only_have_no_value_yet() -> None:
    assert parse_contract_file(contract(variables=["B", "A"])).variables == {"B": None, "A": None}


def test_outputs_keep_the_order_of_the_file() -> None:
    read = parse_contract_file(contract(outputs=[{"path": "b"}, {"path": "x/a/"}]))
    assert read.outputs == (OutputPlace("b", "b"), OutputPlace("a", "x/a/"))


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({}, OutputPlace("out", "x/out", excludes=(), follow=False)),
        ({"exclude": [], "symlinks": "refuse"}, OutputPlace("out", "x/out", excludes=(), follow=False)),
        ({"exclude": ["*.tmp", "!a"]}, OutputPlace("out", "x/out", excludes=("*.tmp", "!a"), follow=False)),
        ({"symlinks": "follow"}, OutputPlace("out", "x/out", excludes=(), follow=True)),
    ],
)
def test_what_of_an_output_a_pack_gets(members: dict[str, Any], place: OutputPlace) -> None:
    assert parse_contract_file(contract(outputs=[{"path": "x/out", **members}])).outputs == (place,)


def test_a_document_with_a_schema_is_read_as_a_file_with_digests_and_outputs_beside_it() -> None:
    value = {
        "command": "undeclared",
        "each": {"input": "a", "of": "files", "by": "path", "output": "{path}"},
        "inputs": {"a": {"digest": D}},
        "outputs": ["out"],
        "platform": {"os": "linux"},
        "salt": "s",
        "schema": "ctxpack/item/v1",
        "transforms": [{**TRANSFORM, "environment_hash": D, "params": {}}],
        "variables": {"API_KEY": "x"},
    }
    with pytest.raises(ContractInvalid, match="/command: expected the command of a map"):
        parse_contract_file(json.dumps(value))
    assert parse_contract_file(json.dumps({**value, "command": ["x"]})) == ContractFile(
        inputs=(InputSource("a", digest=D),),
        transforms=(TransformSource("t", "1", "opaque", D, {}),),
        outputs=(OutputPlace("out", "out"),),
        salt="s",
        labels={},
        command=("x",),
        variables={"API_KEY": "x"},
        platform={"os": "linux"},
        each=Each("a", "files", "path", "{path}"),
        schema="ctxpack/item/v1",
    )


@pytest.mark.parametrize("written", [str, bytes, lambda text: text.encode("utf-8")])
def test_text_and_its_bytes_are_read_alike(written: Callable[..., Any]) -> None:
    text = contract(salt="é")
    data = written(text) if written is not bytes else text.encode()
    assert parse_contract_file(data) == parse_contract_file(text)


def test_the_size_of_a_text_is_counted_in_bytes() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_contract_file("ü" * (MAX_CONTRACT_FILE_BYTES // 2 + 1))
    assert caught.value.code == "E_TOO_LARGE"


def test_a_file_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_contract_file(b"x" * (MAX_CONTRACT_FILE_BYTES + 1), where="c.json")
    assert str(caught.value) == (
        "c.json: too large for a contract file: expected at most 8388608 bytes; "
        "move long lists or params into a file, and make that an input"
    )
    assert caught.value.code == "E_TOO_LARGE"


# ---- a command given beside the file


def test_a_command_given_beside_the_file_is_the_contract_s() -> None:
    read = parse_contract_file(contract())
    assert with_command(read, ["a", "b"]) == read._replace(command=("a", "b"))
    assert with_command(with_command(read, ["a", "b"]), ("a", "b")).command == ("a", "b")


def test_another_command_than_the_contract_s_is_refused() -> None:
    read = parse_contract_file(contract(command=["python", "main.py"]))
    with pytest.raises(InvalidInput) as caught:
        with_command(read, ["python", "main.py", "--all"], where="c.json")
    assert str(caught.value) == (
        "c.json, /command: the contract has another command: expected python main.py, got python main.py --all; "
        "leave the command out, or change the one in the contract file"
    )
    assert caught.value.code == "E_COMMAND"


@pytest.mark.parametrize(
    ("command", "code", "at"),
    [([], "E_EMPTY", ""), ((), "E_EMPTY", ""), ([""], "E_EMPTY", "/0"), (["a", "\0"], "E_NUL", "/1")],
)
def test_a_given_command_has_the_same_rules(command: list[str], code: str, at: str) -> None:
    with pytest.raises(ContractInvalid) as caught:
        with_command(parse_contract_file(contract()), command)
    assert [fault[:2] for fault in caught.value.faults] == [(code, f"/command{at}")]


def test_a_given_command_of_a_map_must_not_run_names_of_files() -> None:
    each = {"input": "a", "output": "{path}"}
    read = parse_contract_file(contract([{"name": "a", "path": "a"}], each=each, outputs=[{"path": "out"}]))
    assert with_command(read, ["sh", "-c", 'x "$1"', "sh", "{item}"]).command
    with pytest.raises(ContractInvalid, match=r"/command/2: expected no \{item\}"):
        with_command(read, ["sh", "-c", "x {item}"])
    plain = parse_contract_file(contract())
    assert with_command(plain, ["sh", "-c", "x {item}"]).command == ("sh", "-c", "x {item}")


# ---- random contract files


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> str:
    base = tmp_path_factory.mktemp("project")
    write_project(base)
    return str(base)


def resolved(value: dict[str, Any], base: str, environ: dict[str, str]) -> Resolution:
    return resolve(parse_contract_file(json.dumps(value)), base, environ=environ)


@given(contract_files(), environments)
def test_a_contract_file_resolves_to_what_it_says(project: str, value: dict[str, Any], environ: dict[str, str]) -> None:
    resolution = resolved(value, project, environ)
    assert resolution.uri == f"ctx://{digest_of(resolution.canonical)}"
    assert parse_canonical_contract(resolution.canonical) == expected(value, project, environ)


def expected(value: dict[str, Any], base: str, environ: dict[str, str]) -> dict[str, Any]:
    """Return the contract of a contract file by the plainest reading of SPEC.md, section 8."""
    each = {"of": "files", "by": "path", **value["each"]} if "each" in value else {}
    variables = value.get("variables", {})
    platform = value.get("platform", {})
    machine = os.uname()
    if platform.get("os") == "auto":
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine, machine.machine)
        platform = {"os": machine.sysname.lower(), "arch": arch}
    return {
        "command": value.get("command", "undeclared"),
        "inputs": {given["name"]: {"digest": given.get("digest") or hashed(given, base)} for given in value["inputs"]},
        "outputs": sorted((name_of(output) for output in value.get("outputs", [])), key=str.encode),
        "platform": platform,
        "salt": value.get("salt", ""),
        "schema": "ctxpack/map/v1" if each else "ctxpack/contract/v1",
        "transforms": [
            {
                "code_hash": step.get("code_hash") or hashed(step["code"], base, code=True),
                "environment_hash": step.get("environment_hash")
                or (hashed(step["environment"], base) if "environment" in step else "undeclared"),
                "params": step.get("params", {}),
                "tool": step["tool"],
                "tool_version": step["tool_version"],
            }
            for step in value["transforms"]
        ],
        "variables": {name: environ[name] for name in variables} if isinstance(variables, list) else variables,
        **({"each": each} if each else {}),
    }


def name_of(named: dict[str, Any]) -> str:
    return str(named.get("name", os.path.basename(named["path"].rstrip("/"))))


def hashed(roots: Any, base: str, *, code: bool = False) -> Digest:
    if isinstance(roots, dict):
        tree, entries = found(roots, base, code=code)
        return tree_digest(entries) if tree == "folder" else hash_tree(os.path.join(base, roots["path"])).digest
    below = []
    for root in roots:
        tree, entries = found(root, base, code=code)
        name = name_of(root)
        below += [entry._replace(path=f"{name}/{entry.path}" if tree == "folder" else name) for entry in entries]
        below += [TreeEntry(f"{name}/", 0, "")] if not entries and not code else []
    return tree_digest(below)


def found(root: dict[str, Any], base: str, *, code: bool) -> tuple[str, list[TreeEntry]]:
    entries: list[TreeEntry] = []
    patterns = [*(CODE_PATTERNS if code else []), *root.get("exclude", [])]
    tree = hash_tree(os.path.join(base, root["path"]), excludes=compile_excludes(patterns), on_entry=entries.append)
    return tree.kind, [entry for entry in entries if not (code and entry.is_empty_folder)]


@given(contract_files(), environments)
def test_the_contract_given_as_a_file_has_its_own_uri(
    project: str, value: dict[str, Any], environ: dict[str, str]
) -> None:
    first = resolved(value, project, environ)
    again = resolved(parse_canonical_contract(first.canonical), "/nowhere", {})
    assert (again.canonical, again.uri) == (first.canonical, first.uri)


@given(contract_files(), environments, randoms, st.sampled_from([None, 0, 2]), st.booleans())
def test_no_order_that_means_nothing_changes_the_uri(
    project: str, value: dict[str, Any], environ: dict[str, str], random: Random, indent: int | None, ascii_only: bool
) -> None:
    other = shuffled(value, random)
    for members in ([other], other["transforms"]):
        for name in ("inputs", "outputs", "variables", "code", "environment"):
            for member in members:
                if isinstance(member.get(name), list):
                    random.shuffle(member[name])
    text = json.dumps(other, indent=indent, ensure_ascii=ascii_only)
    again = resolve(parse_contract_file(text), project, environ=environ)
    assert again.uri == resolved(value, project, environ).uri


@given(contract_files(), environments)
def test_labels_listings_and_the_places_and_selections_of_outputs_do_not_change_the_uri(
    project: str, value: dict[str, Any], environ: dict[str, str]
) -> None:
    outputs = [
        {"path": f"/elsewhere/{number}", "name": name_of(output), "exclude": ["a"], "symlinks": "follow"}
        for number, output in enumerate(value.get("outputs", []))
    ]
    listed = {"name": value["each"]["input"]} if "each" in value else {}
    inputs = [
        {**given, "listing": False} if "path" in given and given["name"] != listed.get("name") else given
        for given in value["inputs"]
    ]
    other = {**value, "labels": {"who": "me"}, "outputs": outputs, "inputs": inputs}
    assert resolved(other, project, environ).uri == resolved(value, project, environ).uri
