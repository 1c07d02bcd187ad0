"""Faults: each with its code, place, what was expected, what came, and what to do; all of them in one error."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from contracts import TRANSFORM, contract
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity import ContractInvalid, parse_contract_file
from ctxpack_identity.faults import MOST_FAULTS, Fault, did_you_mean, shown

D = "sha256:" + "1" * 64
A_DIGEST = "sha256: and 64 lower-case hexadecimal digits"
IN_CONTRACT = "one of inputs, transforms, outputs, command, variables, platform, each, salt, labels"
IN_TRANSFORM = "one of tool, tool_version, code, code_hash, environment, environment_hash, params"
IN_INPUT = "one of name, path, digest, uri, exclude, symlinks, gitignore, listing"
RAW = [{"name": "raw", "path": "raw"}]
OUT = [{"path": "out"}]
EACH = {"input": "raw", "output": "{path}"}


def transform(**members: Any) -> str:
    return contract(transform={**TRANSFORM, **members})


def code(value: Any) -> str:
    return contract(transform={"tool": "t", "tool_version": "1", "code": value})


def map_contract(**members: Any) -> str:
    return contract(members.pop("inputs", RAW), **{"each": EACH, "outputs": OUT, "command": ["x"], **members})


def faults_of(text: str) -> tuple[Fault, ...]:
    with pytest.raises(ContractInvalid) as caught:
        parse_contract_file(text, where="contract.json")
    assert caught.value.code == caught.value.faults[0].code
    assert str(caught.value).startswith("contract.json: ")
    return caught.value.faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", ("E_TYPE", "", "an object", "an array", "make it an object")),
        (contract(salt=None), ("E_NULL", "/salt", "a value", "null", "leave the member out")),
        (contract(salt=1.5), ("E_TYPE", "/salt", "a text", "1.5", "write it in quotes")),
        (contract(salt=True), ("E_TYPE", "/salt", "a text", "true", "make it a text")),
        (contract([None]), ("E_TYPE", "/inputs/0", "an object", "null", "make it an object")),
        (contract(outputs={}), ("E_TYPE", "/outputs", "an array", "an object", "make it an array")),
        (
            contract([{"name": "a"}]),
            ("E_ONE_OF", "/inputs/0", "exactly one of path, digest, uri", "none of them", "add one of them"),
        ),
        (
            contract([{"name": "a", "path": "x", "digest": D}]),
            ("E_ONE_OF", "/inputs/0", "exactly one of path, digest, uri", "path, digest", "keep one of them"),
        ),
        (
            contract([{"name": "a b", "path": "x"}]),
            (
                "E_INPUT_NAME",
                "/inputs/0/name",
                "1 to 128 letters, digits, . _ and -, the first a letter, digit or _",
                '"a b"',
                "rename the input",
            ),
        ),
        (
            contract([{"name": "a", "path": "x"}, {"name": "a", "path": "y"}]),
            (
                "E_INPUT_NAME",
                "/inputs/1/name",
                "another name than at /inputs/0/name",
                '"a"',
                "give each a name of its own",
            ),
        ),
        (contract([{"path": "x"}]), ("E_MISSING", "/inputs/0/name", '"name" in every input', "nothing", "add it")),
        (
            contract([{"name": "a", "path": ""}]),
            ("E_EMPTY", "/inputs/0/path", "a text that is not empty", '""', "fill it in"),
        ),
        (
            contract([{"name": "a", "path": "\0"}]),
            ("E_PATH", "/inputs/0/path", "a path without U+0000", '"\0"', "correct the path"),
        ),
        (
            contract([{"name": "a", "digest": "x"}]),
            ("E_DIGEST", "/inputs/0/digest", A_DIGEST, '"x"', "correct the digest"),
        ),
        (
            contract([{"name": "a", "uri": ["x"]}]),
            ("E_BAD_URI", "/inputs/0/uri", f"ctx://{A_DIGEST}", "an array", "`ctxpack id CONTRACT` prints it in full"),
        ),
        (
            contract([{"name": "a", "digest": D, "exclude": []}]),
            ("E_UNKNOWN_FIELD", "/inputs/0/exclude", '"exclude" beside "path" only', "it", "remove it"),
        ),
        (
            contract([{"name": "a", "path": "x", "listing": "no"}]),
            ("E_TYPE", "/inputs/0/listing", "true or false", '"no"', "make it true or false"),
        ),
        (
            contract([{"name": "a", "path": "x", "symlinks": True}]),
            ("E_TYPE", "/inputs/0/symlinks", '"refuse" or "follow"', "true", ""),
        ),
        (
            contract([{"name": "a", "path": "file:///x"}]),
            (
                "E_SCHEME",
                "/inputs/0/path",
                "a path, or the URL of a store",
                '"file:///x"',
                "this is a path on this machine; give the path itself, without the scheme",
            ),
        ),
        (
            contract([{"name": "a", "path": "s3://b", "symlinks": "follow"}]),
            ("E_UNKNOWN_FIELD", "/inputs/0/symlinks", "a path on this machine", "a URL", "remove it"),
        ),
        (
            contract(outputs=[{"path": "x", "symlinks": True}]),
            ("E_TYPE", "/outputs/0/symlinks", '"refuse" or "follow"', "true", ""),
        ),
        (
            contract(outputs=[{"path": "x", "exclude": "*.tmp"}]),
            ("E_TYPE", "/outputs/0/exclude", "an array", '"*.tmp"', "make it an array"),
        ),
        (
            contract(outputs=[{"path": "x", "exclude": ["a", ""]}]),
            ("E_EMPTY", "/outputs/0/exclude/1", "a text that is not empty", '""', "fill it in"),
        ),
        (
            contract(transform={"tool": "t", "tool_version": "1"}),
            (
                "E_CODE_MISSING",
                "/transforms/0",
                '"code": {"path": …}, or "code_hash": a digest or "opaque"',
                "neither",
                '"opaque" is for code that cannot be hashed',
            ),
        ),
        (
            transform(code={"path": "x"}),
            (
                "E_UNKNOWN_FIELD",
                "/transforms/0/code_hash",
                '"code" or "code_hash", not both',
                "both",
                "keep one of the two",
            ),
        ),
        (
            code("src"),
            ("E_TYPE", "/transforms/0/code", "an object, or an array of objects", '"src"', 'write {"path": "src"}'),
        ),
        (code([]), ("E_EMPTY", "/transforms/0/code", "at least one root", "an empty array", "name what is hashed")),
        (
            code([{"path": "."}]),
            (
                "E_ROOT_NAME",
                "/transforms/0/code/0",
                "a name of one segment for this root",
                '"."',
                'add "name", or correct it',
            ),
        ),
        (
            code([{"path": "a/x"}, {"path": "x"}]),
            (
                "E_ROOT_NAME",
                "/transforms/0/code/1",
                "another name than at /transforms/0/code/0",
                '"x"',
                "give each a name of its own",
            ),
        ),
        (
            transform(code_hash="sha256:…"),
            ("E_DIGEST", "/transforms/0/code_hash", f'{A_DIGEST}, or "opaque"', '"sha256:…"', "correct the digest"),
        ),
        (
            transform(environment_hash={}),
            (
                "E_DIGEST",
                "/transforms/0/environment_hash",
                f'{A_DIGEST}, or "undeclared"',
                "an object",
                "correct the digest",
            ),
        ),
        (
            '{"inputs": [], "transforms": []}',
            ("E_EMPTY", "/transforms", "at least one transform", "an empty array", "say which tool is used"),
        ),
        (
            contract(command="python main.py"),
            (
                "E_TYPE",
                "/command",
                'an array of texts, or "undeclared"',
                '"python main.py"',
                'write each argument as a text of its own: ["python", "main.py"], or ["sh", "-c", "…"] for a shell',
            ),
        ),
        (
            contract(command=[]),
            ("E_EMPTY", "/command", "a program and its arguments", "an empty array", "name the program"),
        ),
        (
            contract(command=["a\0"]),
            ("E_NUL", "/command/0", "a text without U+0000", '"a\0"', "remove the character"),
        ),
        (
            contract(outputs=[{"path": "."}]),
            (
                "E_OUTPUT_NAME",
                "/outputs/0",
                "a name for the output, one segment of a path",
                '"."',
                'add "name", or correct it',
            ),
        ),
        (
            contract(outputs=[{"path": "out"}, {"path": "x", "name": "out"}]),
            ("E_OUTPUT_NAME", "/outputs/1", "another name than at /outputs/0", '"out"', "give each a name of its own"),
        ),
        (
            contract(outputs=[{"path": "s3://b/out"}]),
            ("E_SCHEME", "/outputs/0/path", "a path on this machine", '"s3://b/out"', "outputs lie in no store"),
        ),
        (
            contract(variables="MODEL"),
            (
                "E_TYPE",
                "/variables",
                "an array of names, or an object of texts",
                '"MODEL"',
                'write ["NAME"] or {"NAME": "value"}',
            ),
        ),
        (
            contract(variables=["A-B"]),
            (
                "E_VARIABLE",
                "/variables/0",
                "the name of a variable: letters, digits and _, the first no digit",
                '"A-B"',
                "correct the name",
            ),
        ),
        (
            contract(variables={"CTXPACK_X": ""}),
            (
                "E_VARIABLE",
                "/variables/CTXPACK_X",
                "a name without CTXPACK_ at its start",
                '"CTXPACK_X"',
                "ctxpack sets these",
            ),
        ),
        (
            contract(variables=["hf_token"]),
            (
                "E_SECRET",
                "/variables/0",
                "a variable whose value may be read by others",
                '"hf_token"',
                "remove it: all who can pull could read its value, and the command gets it all the same",
            ),
        ),
        (
            contract(variables=["A", "A"]),
            ("E_VARIABLE", "/variables/1", "each name once", '"A"', "remove one of the two"),
        ),
        (
            contract(platform={"gpu": "auto"}),
            ("E_PLATFORM", "/platform/gpu", 'a text; "auto" is for os and arch', '"auto"', "write what is meant"),
        ),
        (
            map_contract(each={**EACH, "input": "Raw"}),
            ("E_EACH", "/each/input", "one of the inputs: raw", '"Raw"', "name the input that the map goes over"),
        ),
        (
            map_contract(each={**EACH, "output": "{path}.{name}"}),
            (
                "E_TEMPLATE",
                "/each/output",
                "a template with {path}, {dir}, {stem}, {suffix}; {{ and }} for braces",
                '"{name}"',
                "for example {dir}{stem}.json",
            ),
        ),
        (
            map_contract(outputs=[]),
            ("E_EACH", "/outputs", "one output, a folder", "0 outputs", "a map has exactly one"),
        ),
        (
            map_contract(inputs=[{"name": "raw", "digest": D}]),
            ("E_EACH", "/inputs/0", "an input by path or uri", "one by digest", "give its path"),
        ),
        (
            map_contract(inputs=[{**RAW[0], "listing": False}]),
            (
                "E_EACH",
                "/inputs/0/listing",
                "a listing of the input that the map goes over",
                "false",
                "remove it",
            ),
        ),
        (
            map_contract(command=["sh", "-c", "x {item}"]),
            (
                "E_COMMAND",
                "/command/2",
                "no {item} and no {out} in the argument after -c",
                '"x {item}"',
                'names of files would be run as code; write "sh", "-c", "… \\"$1\\" …", "sh", "{item}"',
            ),
        ),
        (
            contract(schema="ctxpack/contract/v2"),
            (
                "E_SCHEMA",
                "/schema",
                "one of ctxpack/contract/v1, ctxpack/map/v1, ctxpack/item/v1",
                '"ctxpack/contract/v2"',
                "a newer ctxpack may know it; a contract file has no schema member",
            ),
        ),
    ],
)
def test_a_fault_has_its_place_what_was_expected_what_came_and_what_to_do(
    text: str, fault: tuple[str, str, str, str, str]
) -> None:
    assert faults_of(text) == (Fault(*fault),)


@pytest.mark.parametrize(
    ("text", "at", "expected", "fix"),
    [
        (contract(input=[]), "/input", IN_CONTRACT, 'did you mean "inputs"?'),
        (contract(comand=["x"]), "/comand", IN_CONTRACT, 'did you mean "command"?'),
        (contract(Salt=""), "/Salt", IN_CONTRACT, 'did you mean "salt"?'),
        (contract(run=["x"]), "/run", IN_CONTRACT, 'did you mean "command"?'),
        (contract(cmd="x"), "/cmd", IN_CONTRACT, 'did you mean "command"?'),
        (contract(env={}), "/env", IN_CONTRACT, 'did you mean "variables"?'),
        (contract(xyz=1), "/xyz", IN_CONTRACT, "remove it"),
        (contract(params={}), "/params", IN_CONTRACT, "it belongs into a transform"),
        (contract(code={}), "/code", IN_CONTRACT, "it belongs into a transform"),
        (contract(tool="t"), "/tool", IN_CONTRACT, "it belongs into a transform"),
        (
            transform(command=[]),
            "/transforms/0/command",
            IN_TRANSFORM,
            "it belongs into the contract itself, beside inputs",
        ),
        (
            transform(outputs=[]),
            "/transforms/0/outputs",
            IN_TRANSFORM,
            "it belongs into the contract itself, beside inputs",
        ),
        (transform(version="1"), "/transforms/0/version", IN_TRANSFORM, 'did you mean "tool_version"?'),
        (transform(parameters={}), "/transforms/0/parameters", IN_TRANSFORM, 'did you mean "params"?'),
        (transform(args={}), "/transforms/0/args", IN_TRANSFORM, 'did you mean "params"?'),
        (transform(lockfile={}), "/transforms/0/lockfile", IN_TRANSFORM, 'did you mean "environment"?'),
        (transform(code_hahs="x"), "/transforms/0/code_hahs", IN_TRANSFORM, 'did you mean "code_hash"?'),
        (contract([{**RAW[0], "ignore": []}]), "/inputs/0/ignore", IN_INPUT, 'did you mean "exclude"?'),
        (contract([{**RAW[0], "url": "s3://b"}]), "/inputs/0/url", IN_INPUT, 'did you mean "path"?'),
        (contract([{**RAW[0], "git-ignore": True}]), "/inputs/0/git-ignore", IN_INPUT, 'did you mean "gitignore"?'),
        (
            code({"path": "x", "name": "y"}),
            "/transforms/0/code/name",
            "one of path, exclude, symlinks, listing, gitignore",
            "remove it",
        ),
        (
            transform(environment={"path": "x", "gitignore": True}),
            "/transforms/0/environment/gitignore",
            "one of path, exclude, symlinks, listing, text",
            "remove it",
        ),
        (
            contract(outputs=[{"path": "x", "nmae": "y"}]),
            "/outputs/0/nmae",
            "one of path, name, exclude, symlinks",
            'did you mean "name"?',
        ),
        (
            contract(outputs=[{"path": "x", "ignore": []}]),
            "/outputs/0/ignore",
            "one of path, name, exclude, symlinks",
            'did you mean "exclude"?',
        ),
        (map_contract(each={**EACH, "jobs": 1}), "/each/jobs", "one of input, output, of, by", "remove it"),
    ],
)
def test_an_unknown_member_is_told_where_it_belongs_or_what_was_meant(
    text: str, at: str, expected: str, fix: str
) -> None:
    name = at.rpartition("/")[2]
    assert faults_of(text) == (Fault("E_UNKNOWN_FIELD", at, expected, f'"{name}"', fix),)


@pytest.mark.parametrize(
    ("text", "at", "fix"),
    [
        (contract([{**RAW[0], "symlinks": "Follow"}]), "/inputs/0/symlinks", 'did you mean "follow"?'),
        (contract([{**RAW[0], "symlinks": "keep"}]), "/inputs/0/symlinks", ""),
        (contract(outputs=[{"path": "x", "symlinks": "Follow"}]), "/outputs/0/symlinks", 'did you mean "follow"?'),
        (map_contract(each={**EACH, "of": "file"}), "/each/of", 'did you mean "files"?'),
        (map_contract(each={**EACH, "by": "contents"}), "/each/by", 'did you mean "content"?'),
    ],
)
def test_a_word_that_is_not_one_of_those_allowed_is_told_which_was_meant(text: str, at: str, fix: str) -> None:
    (fault,) = faults_of(text)
    assert (fault.code, fault.pointer, fault.fix) == ("E_TYPE", at, fix)


@pytest.mark.parametrize(
    ("name", "known", "question"),
    [
        ("salz", ["salt"], 'did you mean "salt"?'),
        ("ENV", ["variables"], 'did you mean "variables"?'),
        ("env", ["salt"], ""),
        ("", ["salt"], ""),
        (None, ["salt"], ""),
        (["salt"], ["salt"], ""),
        ("x" * 1_000_000, ["salt"], ""),
    ],
)
def test_did_you_mean_asks_only_where_a_known_word_is_near(name: object, known: list[str], question: str) -> None:
    assert did_you_mean(name, known) == question


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "an object"),
        ([1], "an array"),
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (1.5, "1.5"),
        ("é", '"é"'),
        ("x" * 100, f'"{"x" * 100}"'),
        ("x" * 101, f'"{"x" * 97}..."'),
    ],
)
def test_a_value_is_shown_in_the_words_of_json_and_cut_where_it_is_long(value: object, text: str) -> None:
    assert shown(value) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_name_that_nobody_expected_is_one_printable_line_in_the_message(name: str) -> None:
    members: dict[str, Any] = {f"x {name}": 1}
    text = contract(**members)
    (fault,) = faults_of(text)
    assert fault.pointer == "/x " + name.replace("~", "~0").replace("/", "~1")
    with pytest.raises(ContractInvalid) as caught:
        parse_contract_file(text)
    assert str(caught.value).isprintable()


def test_all_faults_are_reported_and_the_first_gives_the_code() -> None:
    inputs = [{"name": "a", "path": 1}, {"name": "a", "digest": "x"}]
    text = contract(inputs, {"tool": ""}, salt=[], command=[], outputs=[{"path": "/"}], variables=["KEY"])
    faults = faults_of(text)
    assert [fault[:2] for fault in faults] == [
        ("E_TYPE", "/inputs/0/path"),
        ("E_DIGEST", "/inputs/1/digest"),
        ("E_INPUT_NAME", "/inputs/1/name"),
        ("E_MISSING", "/transforms/0/tool_version"),
        ("E_CODE_MISSING", "/transforms/0"),
        ("E_EMPTY", "/transforms/0/tool"),
        ("E_OUTPUT_NAME", "/outputs/0"),
        ("E_TYPE", "/salt"),
        ("E_EMPTY", "/command"),
        ("E_SECRET", "/variables/0"),
    ]
    with pytest.raises(ContractInvalid) as caught:
        parse_contract_file(text, where="contract.json")
    assert str(caught.value) == "contract.json: " + "; ".join(map(str, faults))


def test_the_text_of_a_fault_has_all_but_its_code() -> None:
    assert str(Fault("E_X", "/a", "one", "two", "do this")) == "/a: expected one, got two; do this"
    assert str(Fault("E_X", "", "one", "two", "")) == "(whole document): expected one, got two"


@pytest.mark.parametrize(
    ("faults", "kept", "more"), [(MOST_FAULTS, MOST_FAULTS, 0), (MOST_FAULTS + 1, 100, 1), (9_999, 100, 9_899)]
)
def test_the_first_hundred_faults_are_kept_and_the_others_counted(faults: int, kept: int, more: int) -> None:
    with pytest.raises(ContractInvalid) as caught:
        parse_contract_file(contract([{"name": "a", "digest": D}] * (faults + 1)))
    error = caught.value
    assert [fault.pointer for fault in error.faults] == [f"/inputs/{number}/name" for number in range(1, kept + 1)]
    assert error.more == more
    assert str(error).endswith(f"; and {more} more faults" if more else f"; {error.faults[-1]}")


def test_how_many_faults_are_left_out_is_known_in_another_process_too() -> None:
    error = pickle.loads(pickle.dumps(ContractInvalid("c.json", [Fault("E_X", "/a", "one", "two", "")], more=7)))
    assert (error.more, error.code) == (7, "E_X")
    assert str(error) == "c.json: /a: expected one, got two; and 7 more faults"


def test_words_are_not_guessed_for_faults_that_nobody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def guess(name: object, known: object) -> str:
        asked.append(name)
        return ""

    monkeypatch.setattr("ctxpack_identity.faults.did_you_mean", guess)
    unknown: dict[str, Any] = {f"x{number}": 1 for number in range(1000)}
    assert len(faults_of(contract(**unknown))) == MOST_FAULTS
    assert len(asked) == MOST_FAULTS + 1
