"""Inspections and lists of packs as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpack_cli.report import inspection_text, push_lines
from ctxpack_identity import CtxUri, Digest
from ctxpack_pantry import Pushed, Signed

HASH = "sha256:" + "0" * 64
HEADINGS = ["inputs", "transforms", "command", "outputs", "provenance (unsigned)", "claims", "image", "weak points"]
VERDICT = {
    "registry": "ghcr.io/team/packs",
    "image": HASH,
    "admitted": True,
    "mode": "accept-any",
    "scope": "",
    "threshold": 1,
    "reason": "nothing is required",
    "by": [],
    "claims": [],
    "skipped": [],
    "note": "",
}


def document(contract: dict[str, Any] | None = None, **provenance: Any) -> dict[str, Any]:
    return {
        "uri": "ctx://" + HASH,
        "found_in": "127.0.0.1:5000/packs",
        "contract": {
            "command": ["python", "ingest.py", "--title", "a b"],
            "inputs": {"raw_docs": {"digest": HASH}, "model": {"digest": HASH}},
            "outputs": ["index", "notes.txt"],
            "platform": {},
            "salt": "",
            "schema": "ctxpack/contract/v1",
            "transforms": [
                {
                    "tool": "vision-pro",
                    "tool_version": "1.2",
                    "code_hash": HASH,
                    "environment_hash": "undeclared",
                    "params": {"dpi": 300},
                }
            ],
            "variables": {},
        }
        | (contract or {}),
        "outputs": {
            "digest": HASH,
            "files": 2,
            "empty_folders": 0,
            "size": 2048,
            "roots": [{"name": "index", "type": "folder"}, {"name": "notes.txt", "type": "file"}],
        },
        "provenance": provenance,
        "verdict": VERDICT,
        "weak": [
            {
                "code": "undeclared",
                "what": "transform 0 (vision-pro): no environment declared, so a library upgrade goes unnoticed",
            }
        ],
        "image": {"digest": HASH, "layers": 3, "size": 1536},
    }


def test_every_part_of_an_inspection_is_shown() -> None:
    text = inspection_text(
        document(
            {"platform": {"os": "linux"}, "variables": {"MODEL": "large"}, "salt": "again"},
            created="2026-01-01T00:00:00Z",
            git={"commit": "abc", "dirty": True},
            inputs={"model": {"uri": "ctx://upstream"}},
            weak=[{"code": "opaque", "what": "shown elsewhere"}],
        )
    )
    assert (
        text
        == f"""\
ctx://{HASH}
found in   127.0.0.1:5000/packs

inputs
  raw_docs     {HASH}
  model        {HASH}  from ctx://upstream

transforms
  vision-pro 1.2
    code         {HASH}
    environment  undeclared
    params       {{"dpi": 300}}

command
  python ingest.py --title 'a b'
  variables    {{"MODEL": "large"}}
  platform     {{"os": "linux"}}
  salt         "again"

outputs
  index/, notes.txt  2 files, 2.00 KiB
  digest       {HASH}

provenance (unsigned)
  created      2026-01-01T00:00:00Z
  git          {{"commit": "abc", "dirty": true}}
  inputs       {{"model": {{"uri": "ctx://upstream"}}}}

claims
  nobody signed this pack
  admitted (accept-any by default): nothing is required

image
  digest       {HASH}
  transfer     1.50 KiB in 3 layers

weak points
  transform 0 (vision-pro): no environment declared, so a library upgrade goes unnoticed"""
    )


def test_an_empty_part_has_no_heading() -> None:
    bare = document({"inputs": {}}) | {"weak": [], "image": None}
    text = inspection_text(bare)
    for heading in ("inputs", "provenance", "image", "weak points"):
        assert heading not in text


def claim(name: str, key: str, *, counts: bool = True, **members: str) -> dict[str, Any]:
    cosign = f"cosign verify --key {name or key * 16}.pub"
    return {
        "key_id": key * 64,
        "name": name,
        "owner": f"owner-of-{name}" if name else "",
        "kind": "run",
        "counts": counts,
        "why": "" if counts else "you do not trust this key",
        "pem": "",
        "cosign": cosign,
        **members,
    }


def claims_shown(*claims: dict[str, Any], **verdict: Any) -> list[str]:
    lines = inspection_text(document() | {"verdict": VERDICT | {"claims": list(claims)} | verdict}).splitlines()
    start = lines.index("claims") + 1
    return [line.removeprefix("  ") for line in lines[start : lines.index("", start)]]


def test_each_claim_is_shown_with_why_it_counts_and_how_to_check_those_that_do() -> None:
    shown = claims_shown(
        claim("ci", "a"),
        claim("nightly", "b", kind="rebuild"),
        claim("", "c", counts=False),
        mode="signed",
        threshold=2,
        scope="ghcr.io/team",
        skipped=["x: too large\x1b"],
        reason="signed by ci, nightly",
    )
    assert shown == [
        f"ci                run, counts; key {'a' * 16}, owner owner-of-ci",
        f"nightly           rebuild, counts; key {'b' * 16}, owner owner-of-nightly",
        f"{'c' * 16}  run, does not count: you do not trust this key",
        "skipped: x: too large\\u001b",
        "admitted (signed, 2 owners of ghcr.io/team): signed by ci, nightly",
        "ctxpack trust show ci --pem >ci.pub",
        "cosign verify --key ci.pub",
        "ctxpack trust show nightly --pem >nightly.pub",
        "cosign verify --key nightly.pub",
        f"with the key that --json shows in {'c' * 16}.pub: cosign verify --key {'c' * 16}.pub",
    ]


def test_no_command_says_yes_of_what_does_not_count_though_its_signer_is_known() -> None:
    claims = [claim("ci", "c", counts=False, kind="seed"), claim("b", "b", counts=False), claim("", "a", kind="vouch")]
    shown = claims_shown(*claims, admitted=False)
    assert shown[3:] == ["not admitted (accept-any by default): nothing is required"]


def test_what_is_not_known_is_said() -> None:
    assert claims_shown(note="nothing is known")[0] == "nothing is known"
    assert claims_shown(by=["own"])[0] == "nobody signed this pack, which you made"


EACH = {"input": "raw_docs", "of": "files", "by": "path", "output": "{path}.json"}


@pytest.mark.parametrize(
    ("contract", "rows"),
    [
        ({}, ["python ingest.py --title 'a b'"]),
        ({"command": "undeclared"}, ["undeclared"]),
        (
            {"schema": "ctxpack/map/v1", "each": EACH, "command": ["sh", "-c", 'cat "$1"', "sh", "{item}"]},
            [
                "sh -c 'cat \"$1\"' sh '{item}'",
                'each         {"by": "path", "input": "raw_docs", "of": "files", "output": "{path}.json"}',
                "schema       ctxpack/map/v1",
            ],
        ),
        ({"schema": "other/v2", "command": ["a", 1]}, ['["a", 1]', "schema       other/v2"]),
        ({"schema": "other/v2", "command": {"run": None}}, ['{"run": null}', "schema       other/v2"]),
        ({"schema": "other/v2", "command": None}, ["schema       other/v2"]),
    ],
)
def test_the_command_is_shown_with_what_it_depends_on(contract: dict[str, Any], rows: list[str]) -> None:
    lines = inspection_text(document(contract)).split("\n")
    start = lines.index("command")
    assert lines[start + 1 : lines.index("", start)] == [f"  {row}" for row in rows]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
MEMBERS = st.sampled_from([*document()["contract"], "each", "tool", "tool_version", "code_hash", "params", "digest"])


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["created", "inputs", "git"]) | st.text(), JSON, max_size=3))
def test_no_provenance_controls_the_terminal_or_the_layout(provenance: dict[str, Any]) -> None:
    text = inspection_text(document() | {"provenance": provenance})
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    usual = len(inspection_text(document()).split("\n"))
    shown = len(provenance.keys() - {"weak"})
    assert len(lines) == usual + (shown + 2 if shown else 0)


@settings(max_examples=60)
@given(st.dictionaries(MEMBERS | st.text(), JSON | st.lists(st.dictionaries(MEMBERS | st.text(), JSON))))
def test_a_contract_of_any_shape_is_shown(contract: dict[str, Any]) -> None:
    """A pack may hold a contract of a schema that is not known here."""
    lines = inspection_text(document() | {"contract": contract}).split("\n")
    assert all(line.isprintable() for line in lines)
    headings = [line for line in lines[3:] if line and not line.startswith("  ")]
    assert headings == [heading for heading in HEADINGS if heading in headings]
    assert {"outputs", "image", "weak points"} <= set(headings)


@settings(max_examples=50)
@given(st.lists(st.fixed_dictionaries({"code": st.text(), "what": st.text()}), min_size=1))
def test_each_weak_point_is_one_line(weak: list[dict[str, str]]) -> None:
    lines = inspection_text(document() | {"weak": weak}).split("\n")
    assert len(lines) == lines.index("weak points") + 1 + len(weak)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("inputs", [{"model": "a string"}, {"model": {"uri": None}}, ["model"], "model", 5, None])
def test_an_input_source_of_another_shape_is_not_shown(inputs: object) -> None:
    assert f"  model        {HASH}\n" in inspection_text(document(inputs=inputs))


@pytest.mark.parametrize(
    ("kind", "new", "line"),
    [
        ("run", True, "signed by aaaaaaaaaaaaaaaa, as run here"),
        ("rebuild", False, "signed before by aaaaaaaaaaaaaaaa, as made again here"),
        ("seed", True, "signed by aaaaaaaaaaaaaaaa, as seeded here, which counts towards no threshold"),
        ("vouch", True, "signed by aaaaaaaaaaaaaaaa, as vouched for, which counts towards no threshold"),
    ],
)
def test_a_push_that_signs_says_by_whom_and_whether_it_counts(kind: str, new: bool, line: str) -> None:
    uri, image = CtxUri("ctx://sha256:" + "0" * 64), Digest("sha256:" + "1" * 64)
    signed = Signed(uri, "the registry", image, "a" * 64, kind, "claim", new)
    pushed = Pushed(uri, "the registry", image, 0, False, image, None, signed)
    assert [*push_lines(pushed, is_default=False)] == ["the registry had it already; nothing was sent", line]
    assert [*push_lines(pushed._replace(signed=None), is_default=False)] == [
        "the registry had it already; nothing was sent"
    ]
