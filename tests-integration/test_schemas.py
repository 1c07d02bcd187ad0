"""The JSON Schemas of contracts say what the readers say, as far as JSON Schema can. (Of results: test_json.py.)"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator
from machine import Machine
from made_contracts import make_contract, with_faults

from ctxpack_identity import (
    ContractInvalid,
    InvalidInput,
    canonical_contract,
    digest_of,
    parse_canonical_contract,
    parse_contract_file,
    parse_json,
)
from ctxpack_identity.faults import Fault
from ctxpack_identity.items import item_contract
from ctxpack_identity.rules import Each
from ctxpack_pantry import schema, schema_names

ROOT = Path(__file__).resolve().parent.parent
FILES = {path.stem: path for path in ROOT.glob("packages/*/src/*/schemas/*.json")}
VECTORS = json.loads((ROOT / "packages/ctxpack-identity/vectors/contract.json").read_text(encoding="ascii"))
CANONICAL = {f"ctxpack/{name}/v1": Draft202012Validator(schema(name)) for name in ("contract", "map", "item")}
CONTRACT_FILE = Draft202012Validator(schema("contract-file"))

# A schema judges the value of a document, and these are faults of its text, or of its size as a whole.
OF_THE_TEXT = {
    "E_DEPTH",
    "E_DUP_KEY",
    "E_FLOAT_RANGE",
    "E_INT_RANGE",
    "E_JSON",
    "E_NAN",
    "E_NEGATIVE_ZERO",
    "E_NOT_CANONICAL",
    "E_SURROGATE",
    "E_TOO_LARGE",
}

TRANSFORM = {"tool": "t", "tool_version": "1", "code_hash": "opaque"}


def contract_file(**members: Any) -> dict[str, Any]:
    """Return a contract file with few members, and these in place of its own."""
    return {"inputs": [{"name": "a", "path": "x"}], "transforms": [TRANSFORM], **members}


class Inexpressible(NamedTuple):
    """A fault that no schema can refuse. words: of the reader. example: a document with no other fault."""

    code: str
    words: str
    why: str
    example: dict[str, Any]


A_NAME = "uniqueItems compares whole elements; no keyword compares their members, or parts of a path"
A_PLACE = "no keyword compares a text with names elsewhere"
B = "sha256:" + "b" * 64
EACH = {"input": "a", "output": "{path}"}
OUT = [{"path": "out"}]

CANNOT = [
    Inexpressible(
        "E_COMMAND",
        r"no \{item\} and no \{out\}",
        "no keyword says what may follow an element, wherever that is",
        contract_file(each=EACH, outputs=OUT, command=["sh", "-c", "cat {item}"]),
    ),
    Inexpressible("E_EACH", r"one of the inputs", A_PLACE, contract_file(each=EACH | {"input": "other"}, outputs=OUT)),
    Inexpressible(
        "E_EACH",
        r"an input by path",
        A_PLACE,
        contract_file(each=EACH, outputs=OUT, inputs=[{"name": "a", "digest": B}, {"name": "b", "path": "x"}]),
    ),
    Inexpressible(
        "E_EACH",
        r"a listing of the input",
        A_PLACE,
        contract_file(
            each=EACH,
            outputs=OUT,
            inputs=[{"name": "a", "path": "x", "listing": False}, {"name": "b", "path": "x"}],
        ),
    ),
    Inexpressible(
        "E_INPUT_NAME",
        r"another name than at",
        A_NAME,
        contract_file(inputs=[{"name": "a", "path": "x"}, {"name": "a", "path": "y"}]),
    ),
    Inexpressible(
        "E_OUTPUT_NAME",
        r"another name than at",
        A_NAME,
        contract_file(outputs=[{"path": "a/out"}, {"path": "b/out"}]),
    ),
    Inexpressible(
        "E_OUTPUT_NAME",
        r"got \"[^\"]*[^\x00-\x7f].*\.\.\.\"",
        "a schema counts characters, and the limit is in bytes of UTF-8",
        contract_file(outputs=[{"path": "ü" * 128}]),
    ),
    Inexpressible(
        "E_OUTPUT_NAME",
        r"names in byte order",
        "no keyword compares neighbours",
        {
            "command": "undeclared",
            "inputs": {},
            "outputs": ["b", "a"],
            "platform": {},
            "salt": "",
            "schema": "ctxpack/contract/v1",
            "transforms": [TRANSFORM | {"environment_hash": "undeclared", "params": {}}],
            "variables": {},
        },
    ),
    Inexpressible(
        "E_ROOT_NAME",
        r"another name than at",
        A_NAME,
        contract_file(transforms=[{"tool": "t", "tool_version": "1", "code": [{"path": "a/x"}, {"path": "b/x"}]}]),
    ),
]


def expressible(fault: Fault) -> bool:
    """Return whether JSON Schema can refuse a document for this fault of its value."""
    said = f"{fault.expected}, got {fault.got}"
    return not any(fault.code == one.code and re.search(one.words, said) for one in CANNOT)


def accepted(value: Any) -> bool:
    """Return whether the schema of contract files accepts value, or, if it has a member "schema", the one it names."""
    if isinstance(value, dict) and "schema" in value:
        named = value["schema"]
        return isinstance(named, str) and named in CANONICAL and CANONICAL[named].is_valid(value)
    return CONTRACT_FILE.is_valid(value)


def faults_of(text: str) -> tuple[Fault, ...]:
    """Return what the reader finds wrong with the value of a contract file. Raises: InvalidInput for its text."""
    try:
        parse_contract_file(text)
    except ContractInvalid as error:
        return error.faults
    return ()


def disagreement(value: Any) -> str:
    """Return in what the schemas and the reader of contract files disagree, "" if in nothing."""
    text = json.dumps(value)
    try:
        faults = faults_of(text)
    except InvalidInput as error:
        return "" if error.code in OF_THE_TEXT else f"{error.code}: {text}"
    if not faults:
        return "" if accepted(value) else f"the schema refuses what the reader accepts: {text}"
    wanted = [str(fault) for fault in faults if expressible(fault)]
    return f"the schema accepts what the reader refuses: {wanted[0]}: {text}" if wanted and accepted(value) else ""


def document(case: dict[str, Any]) -> Any:
    """Return the value of a case's document."""
    text = case["contract"]
    if "repeat" in case:
        text = text.replace(case["repeat"][0], case["repeat"][0] * case["repeat"][1])
    return parse_json(text)


def of_the_text(case: dict[str, Any]) -> bool:
    """Return whether a case is refused for its text."""
    codes = {code for code, _ in case["faults"]}
    assert codes <= OF_THE_TEXT or not codes & OF_THE_TEXT
    return codes <= OF_THE_TEXT


def named(section: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", VECTORS[section], ids=[case["name"] for case in VECTORS[section]])


# The schemas themselves


def test_every_schema_file_has_its_name_and_every_name_its_file() -> None:
    assert sorted(schema_names()) == sorted(FILES)
    assert len(schema_names()) == 29


KEYWORDS = {
    "$comment",
    "$defs",
    "$id",
    "$ref",
    "$schema",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
}
KEYWORDS |= {
    "default",
    "dependentRequired",
    "dependentSchemas",
    "description",
    "else",
    "enum",
    "if",
    "items",
    "maxItems",
}
KEYWORDS |= {"maxLength", "maximum", "minItems", "minLength", "minProperties", "minimum", "not", "oneOf", "pattern"}
KEYWORDS |= {"prefixItems", "properties", "propertyNames", "required", "then", "title", "type", "uniqueItems"}
OF_SCHEMAS = ("$defs", "dependentSchemas", "properties")  # their members are schemas, by names of ours


def parts(one: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all schemas in it."""
    if isinstance(one, list):
        for inner in one:
            yield from parts(inner)
    elif isinstance(one, dict):
        yield one
        for keyword, value in one.items():
            if keyword in OF_SCHEMAS:
                yield from parts(list(value.values()))
            elif keyword not in ("const", "default", "enum", "required", "dependentRequired"):
                yield from parts(value)


@pytest.mark.parametrize("name", schema_names())
def test_every_schema_is_one_of_draft_2020_12(name: str) -> None:
    found = schema(name)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["$id"] == f"https://ctxpack.dev/schema/{name}/v1"
    assert found["title"]
    assert found["description"]
    Draft202012Validator.check_schema(found)
    for part in parts(found):
        assert set(part) <= KEYWORDS  # a misspelt keyword says nothing, and is no fault of a schema
        re.compile(part.get("pattern", ""))
        assert part.get("$ref", "#/$defs/").startswith("#/$defs/")
        assert part.get("$ref", "").removeprefix("#/$defs/") in {"", *found.get("$defs", {})}
    used = {part["$ref"].removeprefix("#/$defs/") for part in parts(found) if "$ref" in part}
    assert used == set(found.get("$defs", {}))


@pytest.mark.parametrize("name", schema_names())
def test_every_object_whose_members_are_ours_is_closed(name: str) -> None:
    """But for a contract in a result, which may have any schema."""
    for part in parts(schema(name)):
        if part.get("type") == "object" and "properties" in part and part["properties"].keys() != {"schema"}:
            assert part["additionalProperties"] is not True
            assert "additionalProperties" in part
        for member, inner in part.get("properties", {}).items() if "type" in part else ():
            assert inner is False or {"description", "$ref", "const", "enum", "pattern", "type", "items"} & set(
                inner
            ), member


def test_what_several_schemas_define_is_the_same_in_each() -> None:
    """Each schema is whole, so that one file is enough to check a document."""
    defined: dict[str, list[Any]] = {}
    for name in schema_names():
        for word, one in schema(name).get("$defs", {}).items():
            if (name, word) not in (
                ("contract-file", "variable_name"),
                ("contract-file", "transform"),
            ):  # stricter there
                defined.setdefault(word, []).append(one)
    assert len(defined["digest"]) > 5
    assert [word for word, found in defined.items() if any(one != found[0] for one in found)] == []


def test_the_schemas_of_the_canonical_contracts_differ_only_in_what_a_map_has() -> None:
    contract, mapped, item = schema("contract"), schema("map"), schema("item")
    for one in (contract, mapped, item):
        del one["$id"], one["title"], one["description"], one["$comment"], one["properties"]["schema"]
    assert mapped == item
    assert mapped["properties"].keys() - contract["properties"].keys() == {"each"}
    same = ("platform", "salt", "transforms", "variables")
    assert {name: mapped["properties"][name] for name in same} == {name: contract["properties"][name] for name in same}


def test_the_command_prints_the_file(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for name, path in FILES.items():
        assert machine.run("schema", name).stdout == path.read_text(encoding="ascii")


# Contract files and contracts


@named("valid")
def test_what_the_vectors_accept_is_accepted(case: dict[str, Any]) -> None:
    assert accepted(document(case))
    if "canonical" in case:
        canonical = json.loads(case["canonical"])
        assert CANONICAL[canonical["schema"]].is_valid(canonical)


@named("must_fail")
def test_contract_files_that_the_vectors_refuse_are_refused(case: dict[str, Any]) -> None:
    if not of_the_text(case):
        value = document(case)
        faults = faults_of(json.dumps(value))
        assert sorted((fault.code, fault.pointer) for fault in faults) == sorted(map(tuple, case["faults"]))
        assert disagreement(value) == ""


@named("canonical_must_fail")
def test_contracts_that_the_vectors_refuse_are_refused(case: dict[str, Any]) -> None:
    if not of_the_text(case):
        value = document(case)
        if isinstance(value, dict) and "schema" in value:
            assert disagreement(value) == ""
        else:
            assert not any(one.is_valid(value) for one in CANONICAL.values())


@pytest.mark.parametrize("one", CANNOT, ids=lambda one: f"{one.code}: {one.words}")
def test_what_a_schema_cannot_express_is_refused_by_the_reader_only(one: Inexpressible) -> None:
    [fault] = faults_of(json.dumps(one.example))
    assert fault.code == one.code
    assert not expressible(fault)
    assert accepted(one.example), f"it can be expressed after all: {one.why}"


@named("resolve_must_fail")
def test_a_schema_does_not_judge_what_depends_on_files(case: dict[str, Any]) -> None:
    assert accepted(document(case))


TRANSFORMS = [
    {
        "tool": "a",
        "tool_version": "1",
        "code_hash": "opaque",
        "environment_hash": "undeclared",
        "params": {"a": [None]},
    },
    {"tool": "b", "tool_version": "2", "code_hash": digest_of(b""), "environment_hash": digest_of(b""), "params": {}},
]


def contracts(of: str = "files", by: str = "path") -> list[dict[str, Any]]:
    """Return a canonical contract of each schema."""
    inputs = {"docs": digest_of(b""), "model": digest_of(b"m")}
    common: dict[str, Any] = {
        "platform": {"os": "linux"},
        "variables": {"MODEL": ""},
        "command": ["sh", "-c", "x", "{item}"],
    }
    plain = canonical_contract(inputs, TRANSFORMS, outputs=["b", "a"], **common)
    each = Each("docs", of, by, "{dir}{{{stem}}}.json")
    mapped = canonical_contract(inputs, TRANSFORMS, outputs=["a"], each=each, **common)
    item = item_contract(json.loads(mapped), digest_of(b"i"))
    return [parse_canonical_contract(data) for data in (plain, mapped, item)]


def test_a_contract_of_each_schema_is_accepted_by_its_own_only() -> None:
    for contract in contracts():
        assert [name for name, one in CANONICAL.items() if one.is_valid(contract)] == [contract["schema"]]
        assert not CONTRACT_FILE.is_valid(contract)


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_schema_and_reader_agree_on_contract_files_with_random_faults(start: int) -> None:
    for seed in range(start, start + 100):
        chance = random.Random(seed)
        value = make_contract(chance).value
        for changed in (value, *(with_faults(chance, value, times) for times in (1, 1, 2))):
            assert disagreement(changed) == ""


@pytest.mark.parametrize("index", range(3))
def test_schema_and_reader_agree_on_contracts_with_random_faults(index: int) -> None:
    chance = random.Random(index)
    contract = contracts()[index]
    agreed = 0
    for _ in range(400):
        value = with_faults(chance, contract, chance.choice([1, 1, 2]))
        if isinstance(value, dict) and value.get("schema") == contract["schema"]:
            assert disagreement(value) == ""
            agreed += 1
    assert agreed > 300


CODE = [{"path": "src", "exclude": ["x"], "symlinks": "refuse", "gitignore": True, "listing": True, "name": "n"}]
LOCK = [{"path": "uv.lock", "exclude": ["x"], "symlinks": "refuse", "listing": True, "name": "n"}]
ALONE = ({name: value for name, value in root.items() if name != "name"} for [root] in (CODE, LOCK))
SRC, UV = ALONE
BARE = {"tool": "t", "tool_version": "1"}

# Together they have every member of contract files and contracts.
WHOLE = {
    "plain": contract_file(
        inputs=[
            {"name": "a", **SRC},
            {"name": "b", "digest": B},
            {"name": "c", "uri": f"ctx://{B}", "listing": False},
            {"name": "d", "path": "s3://bucket/key", "exclude": ["x"], "listing": True},
        ],
        outputs=[{"path": "out/a", "name": "b", "exclude": ["x"], "symlinks": "refuse"}, {"path": "c/"}],
        command=["sh", "-c", ""],
        variables={"A": "x", "B": ""},
        platform={"os": "auto", "arch": "auto", "gpu": ""},
        salt="s",
        labels={"": ""},
    ),
    "map": contract_file(
        each=EACH | {"of": "entries", "by": "content"}, outputs=OUT, variables=["A", "B"], command="undeclared"
    ),
    "roots": contract_file(transforms=[{**BARE, "code": CODE, "environment": LOCK, "params": {"a": None}}]),
    "one root": contract_file(transforms=[{**BARE, "code": SRC, "environment": {**UV, "text": True}}]),
    "hashes": contract_file(transforms=[{**BARE, "code_hash": B, "environment_hash": B}]),
    **dict(zip(("contract", "map contract", "item contract"), contracts(), strict=True)),
    **dict(zip(("other map contract", "other item contract"), contracts("entries", "content")[1:], strict=True)),
}
WRONG: list[Any] = [
    None,
    True,
    1,
    0.5,
    "",
    ".",
    "a",
    "A/\n",
    "auto",
    "undeclared",
    "opaque",
    "\0",
    "{",
    B,
    f"{B}\n",
    [],
    [[]],
    {},
]
WRONG += [
    {"": 1},
    {"a": "auto"},
    {"-": ""},
    {"CTXPACK_A": ""},
    {"x_key": ""},
    {"a": "\0"},
    ["\0"],
    ["", "a"],
    ["a", "\0"],
    ["a", "a"],
]


def changed_at_each_place(value: Any) -> Iterator[Any]:
    """Yield what value becomes when one of its parts is removed, renamed or replaced, or gets a member more."""
    yield from WRONG
    if isinstance(value, dict):
        yield value | {"other": 1}
        for name, inner in value.items():
            yield {other: kept for other, kept in value.items() if other != name}
            yield {(f"{name}!" if other == name else other): kept for other, kept in value.items()}
            yield from (value | {name: changed} for changed in changed_at_each_place(inner))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield value[:index] + value[index + 1 :]
            yield from ([*value[:index], changed, *value[index + 1 :]] for changed in changed_at_each_place(inner))


@pytest.mark.parametrize("name", WHOLE)
def test_schema_and_reader_agree_on_a_fault_at_each_place(name: str) -> None:
    assert (faults_of(json.dumps(WHOLE[name])), accepted(WHOLE[name])) == ((), True)
    assert [found for value in changed_at_each_place(WHOLE[name]) if (found := disagreement(value))] == []


@pytest.mark.parametrize(
    "value",
    [
        contract_file(inputs=[{"name": "a", "path": "x"}] * 2),
        contract_file(outputs=OUT * 2),
        contract_file(variables=["A", "A"]),
        contract_file(transforms=[{**BARE, "code": CODE * 2}]),
        contract_file(transforms=[{**BARE, "code_hash": B, "environment": LOCK * 2}]),
        contracts()[0] | {"outputs": ["a", "a"]},
    ],
)
def test_elements_that_are_there_twice_are_refused(value: Any) -> None:
    assert faults_of(json.dumps(value))
    assert not accepted(value)


PATHS = {
    "a/b": True,
    "./s3://x": True,
    "s3://bucket/key": True,
    "s3://bucket\n": True,
    "s3://\n": True,
    "a\n": True,
    "": False,
    "a\0": False,
    "a\0\n": False,
    "file:///x": False,
    "FILE://x": False,
    "Local://x": False,
    "ctx://sha256:0": False,
    "s3://": False,
    "s3:///": False,
    "zip://a::s3://b": False,
}


@pytest.mark.parametrize("path", PATHS)
def test_which_paths_an_input_may_have(path: str) -> None:
    value = contract_file(inputs=[{"name": "a", "path": path}])
    assert (accepted(value), faults_of(json.dumps(value)) == ()) == (PATHS[path],) * 2


@pytest.mark.parametrize("member", ["symlinks", "gitignore", "text"])
@pytest.mark.parametrize("path", ["s3://bucket/key", "key"])
def test_which_members_may_stand_beside_a_url(path: str, member: str) -> None:
    root = {"path": path, member: "follow" if member == "symlinks" else True}
    for value in (
        contract_file(inputs=[{"name": "a", **root}]),
        contract_file(transforms=[{**BARE, "code": root}]),
        contract_file(transforms=[{**BARE, "code": [root | {"name": "a"}]}]),
        contract_file(transforms=[{**BARE, "code_hash": B, "environment": root}]),
        contract_file(transforms=[{**BARE, "code_hash": B, "environment": [root | {"name": "a"}]}]),
    ):
        assert disagreement(value) == ""
        assert path == "key" or not accepted(value)


NAMED = ["a", "a/", "a/b//", "/a", "...", "ü", "x" * 255]
NOT_NAMED = [".", "..", "/", "a/..", "a/../", "a\n", "..\n", "a\\b", "a\x7f", "x" * 256, "s3://a"]


@pytest.mark.parametrize("path", [*NAMED, *NOT_NAMED])
@pytest.mark.parametrize("name", [None, "", "a", ".", "..", "...", ".\n", "a/b", "a\0", "a\n", "x" * 256])
def test_which_names_outputs_and_roots_may_have(path: str, name: str | None) -> None:
    one = {"path": path} | ({} if name is None else {"name": name})
    for value in (
        contract_file(outputs=[one]),
        contract_file(transforms=[{**BARE, "code": [one]}]),
        contract_file(transforms=[{**BARE, "code_hash": B, "environment": [one]}]),
    ):
        assert accepted(value) == (faults_of(json.dumps(value)) == ())
