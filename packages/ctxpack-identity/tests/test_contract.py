"""Canonical contracts beyond the vectors: written and read back, and the bytes and values that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from contracts import TRANSFORM
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import (
    ContractInvalid,
    Digest,
    InvalidInput,
    canonical_contract,
    canonical_json,
    digest_of,
    parse_canonical_contract,
    parse_contract_file,
    resolve,
)
from ctxpack_identity.contract import CONTRACT_SCHEMA, ITEM_SCHEMA, MAP_SCHEMA, MAX_CONTRACT_BYTES
from ctxpack_identity.items import item_contract
from ctxpack_identity.packpath import check_path
from ctxpack_identity.rules import Each

D = Digest("sha256:" + "1" * 64)
STEP: dict[str, Any] = {**TRANSFORM, "environment_hash": "undeclared", "params": {}}
EACH = Each("a", "files", "path", "{path}.json")


def is_segment(name: str) -> bool:
    try:
        check_path(name)
    except InvalidInput:
        return False
    return "/" not in name


names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,10}", fullmatch=True)
digests = st.binary(max_size=3).map(digest_of)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
arguments = texts.filter(lambda text: "\0" not in text)
params = st.dictionaries(texts, st.integers(-5, 5) | texts | st.none() | st.lists(st.booleans()), max_size=3)
steps = st.fixed_dictionaries(
    {
        "code_hash": digests | st.just("opaque"),
        "environment_hash": digests | st.just("undeclared"),
        "params": params,
        "tool": texts.filter(bool),
        "tool_version": texts.filter(bool),
    }
)
outputs = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab\ufb33\U0001f600"), max_size=4)
members = st.fixed_dictionaries(
    {},
    optional={
        "outputs": st.lists(outputs.filter(is_segment), unique=True, max_size=4),
        "command": st.none() | st.builds(lambda a, b: [a, *b], arguments.filter(bool), st.lists(arguments, max_size=3)),
        "variables": st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True), arguments),
        "platform": st.dictionaries(texts, texts.filter(lambda text: text != "auto"), max_size=3),
        "salt": texts,
    },
)


@given(st.dictionaries(names, digests, max_size=4), st.lists(steps, min_size=1, max_size=3), members)
def test_a_contract_reads_back_and_resolves_to_its_own_uri(
    inputs: dict[str, Digest], steps: list[dict[str, Any]], members: dict[str, Any]
) -> None:
    data = canonical_contract(inputs, steps, **members)
    value = parse_canonical_contract(data)
    assert value == {
        "command": "undeclared" if members.get("command") is None else members["command"],
        "inputs": {name: {"digest": digest} for name, digest in inputs.items()},
        "outputs": sorted(members.get("outputs", []), key=str.encode),
        "platform": members.get("platform", {}),
        "salt": members.get("salt", ""),
        "schema": CONTRACT_SCHEMA,
        "transforms": steps,
        "variables": members.get("variables", {}),
    }
    again = resolve(parse_contract_file(json.dumps(value, indent=3)), "/nowhere", environ={})
    assert (again.canonical, again.uri) == (data, f"ctx://{digest_of(data)}")


@pytest.mark.parametrize(
    ("each", "schema", "written"),
    [
        (None, "", CONTRACT_SCHEMA),
        (None, CONTRACT_SCHEMA, CONTRACT_SCHEMA),
        (EACH, "", MAP_SCHEMA),
        (EACH, MAP_SCHEMA, MAP_SCHEMA),
        (EACH, ITEM_SCHEMA, ITEM_SCHEMA),
    ],
)
def test_the_lowest_schema_is_written_that_can_express_a_contract(each: Each | None, schema: str, written: str) -> None:
    data = canonical_contract({"a": D}, [STEP], command=["x"], outputs=["out"], each=each, schema=schema)
    value = parse_canonical_contract(data)
    assert value["schema"] == written
    assert value.get("each") == (each and each._asdict())
    assert resolve(parse_contract_file(data), "/nowhere").canonical == data


@given(st.data(), st.sampled_from([None, EACH]))
def test_a_contract_changed_in_one_byte_is_another_contract_or_none(data: Any, each: Each | None) -> None:
    canonical = canonical_contract(
        {"a": D},
        [{**STEP, "params": {"a": 1}}],
        outputs=["o"],
        command=["c"],
        variables={"V": "v"},
        platform={"p": "q"},
        each=each,
    )
    changed = bytearray(canonical)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        value = parse_canonical_contract(bytes(changed))
    except InvalidInput:
        return
    assert canonical_json(value) == changed != canonical


def test_a_contract_has_at_most_the_size_that_registries_accept() -> None:
    def of_size(size: int) -> bytes:
        empty = len(canonical_contract({}, [{**STEP, "params": {"a": ""}}]))
        return canonical_contract({}, [{**STEP, "params": {"a": "x" * (size - empty)}}])

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


def test_a_map_contract_has_one_byte_less_so_that_the_contracts_of_its_items_have_room() -> None:
    def of_size(size: int, schema: str) -> bytes:
        def with_text(text: str) -> bytes:
            step = {**STEP, "params": {"a": text}}
            return canonical_contract({"a": D}, [step], command=["x"], outputs=["out"], each=EACH, schema=schema)

        return with_text("x" * (size - len(with_text(""))))

    largest = of_size(MAX_CONTRACT_BYTES - 1, MAP_SCHEMA)
    assert len(largest) == MAX_CONTRACT_BYTES - 1
    item = item_contract(parse_canonical_contract(largest), D)
    assert item == of_size(MAX_CONTRACT_BYTES, ITEM_SCHEMA)
    parse_canonical_contract(item)
    too_large = (
        "contract: contract is too large: expected at most 4194303 bytes, got 4194304; "
        "put large params or long lists of inputs into a file or folder, and make that an input"
    )
    with pytest.raises(InvalidInput) as caught:
        of_size(MAX_CONTRACT_BYTES, MAP_SCHEMA)
    assert str(caught.value) == too_large
    with pytest.raises(InvalidInput) as caught:
        parse_canonical_contract(largest.replace(b"xxx", b"xxxx", 1))
    assert str(caught.value) == too_large
    with pytest.raises(InvalidInput) as caught:
        of_size(MAX_CONTRACT_BYTES + 1, ITEM_SCHEMA)
    assert caught.value.code == "E_TOO_LARGE"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data + b"\n",
            "config: not canonical JSON (RFC 8785); use the bytes that `ctxpack id --canonical`",
        ),
        (
            lambda data: data.replace(b"v1", b"v2"),
            "config: /schema: expected one of ctxpack/contract/v1, ctxpack/map/v1",
        ),
        (lambda data: data.replace(b'"salt":"",', b""), 'config: /salt: expected "salt" in every canonical contract'),
        (lambda data: data.replace(b"opaque", b"Opaque"), "config: /transforms/0/code_hash: expected sha256: and 64"),
    ],
)
def test_bytes_that_are_not_a_contract_are_refused(change: Callable[[bytes], bytes], message: str) -> None:
    data = canonical_contract({}, [STEP])
    assert change(data) != data
    with pytest.raises(InvalidInput) as caught:
        parse_canonical_contract(change(data), where="config")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("inputs", "step", "members", "code"),
    [
        ({"a": "x"}, {}, {}, "E_DIGEST"),
        ({"a/b": D}, {}, {}, "E_INPUT_NAME"),
        ({}, {"params": {"a": b"x"}}, {}, "E_TYPE"),
        ({}, {"params": {"a": float("nan")}}, {}, "E_NAN"),
        ({}, {"params": None}, {}, "E_NULL"),
        ({}, {"extra": 1}, {}, "E_UNKNOWN_FIELD"),
        ({}, {}, {"outputs": ["a", "a"]}, "E_OUTPUT_NAME"),
        ({}, {}, {"outputs": ["\udc80"]}, "E_OUTPUT_NAME"),
        ({}, {}, {"command": []}, "E_EMPTY"),
        ({}, {}, {"command": ()}, "E_EMPTY"),
        ({}, {}, {"command": ["a\0"]}, "E_NUL"),
        ({}, {}, {"command": ["\udc80"]}, "E_SURROGATE"),
        ({}, {}, {"variables": {"A-B": ""}}, "E_VARIABLE"),
        ({}, {}, {"platform": {"os": "auto"}}, "E_PLATFORM"),
        ({}, {}, {"each": EACH}, "E_MISSING"),
        ({"a": D}, {}, {"each": EACH, "command": ["x"]}, "E_EACH"),
        ({"a": D}, {}, {"each": EACH, "schema": CONTRACT_SCHEMA}, "E_UNKNOWN_FIELD"),
        ({}, {}, {"schema": "ctxpack/contract/v2"}, "E_SCHEMA"),
    ],
)
def test_values_built_in_python_are_checked_like_those_read_from_json(
    inputs: dict[str, Digest], step: dict[str, Any], members: dict[str, Any], code: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        canonical_contract(inputs, [{**STEP, **step}], **members)
    assert caught.value.code == code


def test_all_faults_are_in_one_error_which_names_the_document() -> None:
    with pytest.raises(ContractInvalid) as caught:
        canonical_contract({"a b": Digest("x")}, [{}], outputs=["/"], salt="s", where="made here")
    assert caught.value.where == "made here"
    assert [fault[:2] for fault in caught.value.faults] == [
        ("E_INPUT_NAME", "/inputs/a b"),
        ("E_DIGEST", "/inputs/a b/digest"),
        ("E_OUTPUT_NAME", "/outputs/0"),
        ("E_MISSING", "/transforms/0/code_hash"),
        ("E_MISSING", "/transforms/0/environment_hash"),
        ("E_MISSING", "/transforms/0/params"),
        ("E_MISSING", "/transforms/0/tool"),
        ("E_MISSING", "/transforms/0/tool_version"),
    ]
