"""Contracts beyond the vectors: the text of faults, all faults at once, and reading a contract back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import (
    ContractInvalid,
    InvalidInput,
    canonical_contract,
    canonical_json,
    digest_of,
    parse_canonical_contract,
    parse_contract_file,
    resolve,
)
from ctxpack_identity.contract import MAX_CONTRACT_BYTES, InputSource, TransformSource, TreeSource
from ctxpack_identity.digest import Digest
from ctxpack_identity.faults import Fault

D = "sha256:" + "1" * 64
TRANSFORM = {"tool": "t", "tool_version": "1", "code_hash": "opaque"}
A_DIGEST = "sha256: and 64 lower-case hexadecimal digits"


def contract(inputs: list[Any] | None = None, transform: Any = None, **members: Any) -> str:
    whole = {"inputs": inputs or [], "transforms": [TRANSFORM if transform is None else transform], **members}
    return json.dumps(whole)


def test_the_seed_format_is_read_as_written() -> None:
    text = (
        '{"inputs":[{"name":"raw_docs","path":"./raw_pdfs"}],"transforms":[{"tool":"vision-pro","tool_version":"1.2",'
        f'"code_hash":"{D}","params":{{"dpi":300}}}}],"outputs":[{{"path":"./processed_data"}}]}}'
    )
    read = parse_contract_file(text)
    assert read.inputs == (InputSource("raw_docs", source=TreeSource("./raw_pdfs")),)
    assert read.transforms == (TransformSource("vision-pro", "1.2", D, "undeclared", {"dpi": 300}),)
    assert (read.outputs, read.salt, read.labels) == (("./processed_data",), "", {})


def test_every_member_of_a_contract_file_is_read() -> None:
    uri = f"ctx://{D}"
    transform = {
        "tool": "t",
        "tool_version": "1",
        "code": {"path": "src", "exclude": ["*.log"], "symlinks": "follow"},
        "environment": {"path": "uv.lock"},
    }
    inputs = [
        {"name": "a", "path": "x", "exclude": ["*.tmp", "!k"], "symlinks": "follow"},
        {"name": "b", "digest": D},
        {"name": "c", "uri": uri},
    ]
    read = parse_contract_file(contract(inputs, transform, salt="s", labels={"k": "v"}))
    assert read.inputs == (
        InputSource("a", source=TreeSource("x", ("*.tmp", "!k"), follow=True)),
        InputSource("b", digest=Digest(D)),
        InputSource("c", uri=uri),  # type: ignore[arg-type]
    )
    (transform_read,) = read.transforms
    assert transform_read.code == TreeSource("src", ("__pycache__/", ".git", "*.log"), follow=True)
    assert transform_read.environment == TreeSource("uv.lock")
    assert transform_read.params == {}
    assert (read.salt, read.labels, read.outputs) == ("s", {"k": "v"}, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "(whole document): expected an object, got an array"),
        ("{}", "/inputs: is missing; every contract needs it; /transforms: is missing; every contract needs it"),
        (contract(salt=None), "/salt: null is not a value here; leave the member out"),
        (contract(salt=1.5), "/salt: expected a string, got 1.5; quote it"),
        (contract(salt=True), "/salt: expected a string, got true"),
        (contract(input=[]), "/input: unknown member; known here: inputs, transforms, outputs, salt, labels"),
        (contract([None]), "/inputs/0: expected an object, got null"),
        (contract([{"name": "a"}]), "/inputs/0: exactly one of path, digest, uri is needed"),
        (
            contract([{"name": "a b", "path": "x"}]),
            "/inputs/0/name: 'a b' is not a name; "
            "use letters, digits, . _ and -, at most 128, the first a letter, digit or _",
        ),
        (
            contract([{"name": "a", "path": "x"}, {"name": "a", "path": "y"}]),
            "/inputs/1/name: inputs 0 and 1 are both called 'a'; give each its own name",
        ),
        (contract([{"name": "a", "path": ""}]), "/inputs/0/path: expected a string that is not empty"),
        (contract([{"name": "a", "path": "\0"}]), "/inputs/0/path: a path cannot hold a NUL character"),
        (contract([{"name": "a", "digest": "x"}]), f"/inputs/0/digest: expected {A_DIGEST}, got 'x'"),
        (
            contract([{"name": "a", "uri": "x"}]),
            f"/inputs/0/uri: not a ctx URI: expected ctx://{A_DIGEST}, got 'x'; "
            "`ctxpack id CONTRACT` prints it in full",
        ),
        (
            contract([{"name": "a", "digest": D, "exclude": []}]),
            '/inputs/0/exclude: only means something beside "path"; remove it',
        ),
        (
            contract([{"name": "a", "path": "x", "symlinks": True}]),
            '/inputs/0/symlinks: expected "follow" or "refuse", got true',
        ),
        (
            contract(transform={"tool": "t", "tool_version": "1"}),
            "/transforms/0: the transform says nothing of its code; "
            'give "code": {"path": …}, "code_hash": "sha256:…", or "code_hash": "opaque" for a hosted tool',
        ),
        (
            contract(transform=TRANSFORM | {"code": {"path": "x"}}),
            '/transforms/0/code_hash: "code" and "code_hash" are both given; keep one of the two',
        ),
        (
            contract(transform={"tool": "t", "code": {}}),
            "/transforms/0/tool_version: is missing; every transform needs it; "
            '/transforms/0/code/path: is missing; "code" needs it',
        ),
        (contract([{"path": "x"}]), "/inputs/0/name: is missing; every input needs it"),
        (contract(outputs=[{}]), "/outputs/0/path: is missing; every output needs it"),
        (
            contract(transform=TRANSFORM | {"code_hash": "sha256:…"}),
            f"/transforms/0/code_hash: expected {A_DIGEST}, or \"opaque\", got 'sha256:…'",
        ),
        (
            contract(transform=TRANSFORM | {"environment_hash": {}}),
            f'/transforms/0/environment_hash: expected {A_DIGEST}, or "undeclared", got an object',
        ),
        (
            json.dumps({"inputs": [], "transforms": []}),
            "/transforms: at least one transform is needed; say which tool makes the outputs",
        ),
        (
            contract(schema="ctxpack/contract/v2"),
            "/schema: expected 'ctxpack/contract/v1', got 'ctxpack/contract/v2'; "
            "a newer ctxpack may know it; a contract file has no schema member",
        ),
    ],
)
def test_a_fault_has_its_place_what_was_expected_and_the_value(text: str, message: str) -> None:
    with pytest.raises(ContractInvalid) as caught:
        parse_contract_file(text, where="contract.json")
    assert str(caught.value) == f"contract.json: {message}"


def test_all_faults_are_reported_and_the_first_gives_the_code() -> None:
    inputs = [{"name": "a", "path": 1}, {"name": "a", "digest": "x"}]
    with pytest.raises(ContractInvalid) as caught:
        parse_contract_file(contract(inputs, {"tool": ""}, salt=[]))
    assert [fault[:2] for fault in caught.value.faults] == [
        ("E_TYPE", "/inputs/0/path"),
        ("E_DIGEST", "/inputs/1/digest"),
        ("E_INPUT_NAME", "/inputs/1/name"),
        ("E_MISSING", "/transforms/0/tool_version"),
        ("E_CODE_MISSING", "/transforms/0"),
        ("E_EMPTY", "/transforms/0/tool"),
        ("E_TYPE", "/salt"),
    ]
    assert caught.value.code == "E_TYPE"
    assert all(isinstance(fault, Fault) and str(fault) in str(caught.value) for fault in caught.value.faults)


def test_ten_thousand_inputs_of_one_name_are_reported_quickly() -> None:
    with pytest.raises(ContractInvalid) as caught:
        parse_contract_file(contract([{"name": "a", "digest": D}] * 10_000))
    assert len(caught.value.faults) == 9_999


names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,10}", fullmatch=True)
digests = st.binary(max_size=3).map(digest_of)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
params = st.dictionaries(texts, st.integers(-5, 5) | texts | st.none() | st.lists(st.booleans()), max_size=3)
transforms = st.fixed_dictionaries(
    {
        "code_hash": digests | st.just("opaque"),
        "environment_hash": digests | st.just("undeclared"),
        "params": params,
        "tool": texts.filter(bool),
        "tool_version": texts.filter(bool),
    }
)


@given(st.dictionaries(names, digests, max_size=4), st.lists(transforms, min_size=1, max_size=3), texts)
def test_a_contract_reads_back_and_resolves_to_its_own_uri(
    inputs: dict[str, Digest], transforms: list[dict[str, Any]], salt: str
) -> None:
    data = canonical_contract(inputs, transforms, salt)
    value = parse_canonical_contract(data)
    assert canonical_json(value) == data
    assert {name: item["digest"] for name, item in value["inputs"].items()} == inputs
    assert (value["transforms"], value["salt"]) == (transforms, salt)
    again = resolve(parse_contract_file(json.dumps(value, indent=3)), "/nowhere")
    assert (again.canonical, again.uri) == (data, f"ctx://{digest_of(data)}")


@given(st.dictionaries(names, digests, min_size=1, max_size=2), st.data())
def test_a_contract_changed_in_one_byte_is_another_contract_or_none(inputs: dict[str, Digest], data: Any) -> None:
    canonical = canonical_contract(inputs, [{**TRANSFORM, "environment_hash": "undeclared", "params": {"a": 1}}], "")
    changed = bytearray(canonical)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        value = parse_canonical_contract(bytes(changed))
    except InvalidInput:
        return
    assert canonical_json(value) == changed != canonical


def test_a_contract_has_at_most_the_size_that_registries_accept() -> None:
    def of_size(size: int) -> bytes:
        empty = len(canonical_contract({}, [transform("")], ""))
        return canonical_contract({}, [transform("x" * (size - empty))], "")

    def transform(text: str) -> dict[str, Any]:
        return {**TRANSFORM, "environment_hash": "undeclared", "params": {"a": text}}

    largest = of_size(MAX_CONTRACT_BYTES)
    assert len(largest) == MAX_CONTRACT_BYTES
    parse_canonical_contract(largest)
    with pytest.raises(InvalidInput) as caught:
        of_size(MAX_CONTRACT_BYTES + 1)
    assert str(caught.value) == (
        "contract: contract is too large: expected at most 4194304 bytes, got 4194305; "
        "put large params or long lists of inputs into a file or folder, and make that an input"
    )
    with pytest.raises(InvalidInput) as caught:
        parse_canonical_contract(largest + b" ")
    assert caught.value.code == "E_TOO_LARGE"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data + b"\n", "config: not canonical JSON (RFC 8785)"),
        (lambda data: data.replace(b"v1", b"v2"), "config: /schema: expected 'ctxpack/contract/v1'"),
        (lambda data: data.replace(b'"salt":"",', b""), "config: /salt: is missing; every contract needs it"),
        (lambda data: data.replace(b"opaque", b"Opaque"), "config: /transforms/0/code_hash: expected sha256: and 64"),
    ],
)
def test_bytes_that_are_not_a_contract_are_refused(change: Any, message: str) -> None:
    data = canonical_contract({}, [{**TRANSFORM, "environment_hash": "undeclared", "params": {}}], "")
    with pytest.raises(InvalidInput) as caught:
        parse_canonical_contract(change(data), where="config")
    assert str(caught.value).startswith(message)


def test_values_built_in_python_are_checked_like_those_read_from_json() -> None:
    good: dict[str, Any] = {**TRANSFORM, "environment_hash": "undeclared", "params": {}}
    refused: list[tuple[dict[str, Digest], dict[str, Any], str]] = [
        ({"a": Digest("x")}, good, "E_DIGEST"),
        ({"a/b": Digest(D)}, good, "E_INPUT_NAME"),
        ({}, {**good, "params": {"a": b"x"}}, "E_TYPE"),
        ({}, {**good, "params": {"a": float("nan")}}, "E_NAN"),
        ({}, {**good, "params": None}, "E_NULL"),
        ({}, {**good, "extra": 1}, "E_UNKNOWN_FIELD"),
    ]
    for inputs, transform, code in refused:
        with pytest.raises(InvalidInput) as caught:
            canonical_contract(inputs, [transform], "")
        assert caught.value.code == code
