"""Identity against a second implementation, identity.mjs, on the JavaScript engine of this machine.

RFC 8785 is defined by what ECMAScript writes, so these tests ask an ECMAScript engine. Without node they fail.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxpack_identity import canonical_json, digest_of, parse_json
from testmodules import load

Case = dict[str, Any]
Ask = Callable[..., Case]

HERE = Path(__file__).parent
VECTORS = HERE.parent / "packages" / "ctxpack-identity" / "vectors"
fill = load(VECTORS, "fill")


def cases(file: str, section: str) -> pytest.MarkDecorator:
    found: list[Case] = fill.load(file)[section]
    return pytest.mark.parametrize("case", found, ids=[case["name"] for case in found])


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Send node a question, and return its answer."""
    with subprocess.Popen(
        ["node", str(HERE / "identity.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        questions, answers = node.stdin, node.stdout

        def question(ask: str, **members: Any) -> Case:
            questions.write(json.dumps({"ask": ask, **members}) + "\n")
            questions.flush()
            line = answers.readline()
            assert line, "node stopped; its message is on standard error"
            answer: Case = json.loads(line)
            return answer

        yield question


# Every double that has a canonical form, and the integers around the limits.
numbers = (
    st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda x: not (x == 0 and str(x) == "-0.0") and not (x.is_integer() and abs(x) >= 2**53)
    )
    | st.floats(-1e-3, 1e-3).filter(lambda x: x != 0)
)
# More of the rare characters whose order differs between UTF-8 and UTF-16.
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("a\n\x1f\uff0a\U0001f600\U0010ffff"))
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


@given(value=values, indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans())
@settings(max_examples=500)
def test_node_writes_the_same_canonical_json(ask: Ask, value: Any, indent: int | None, ascii_only: bool) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert ask("json", document=written.encode().hex()) == {"output": canonical_json(value).decode()}


@given(st.lists(numbers, min_size=10, max_size=30))
def test_node_writes_the_same_numbers(ask: Ask, value: list[float]) -> None:
    assert ask("json", document=json.dumps(value).encode().hex()) == {"output": canonical_json(value).decode()}


@cases("canonical-json.json", "valid")
def test_json(ask: Ask, case: Case) -> None:
    output = ask("json", document=fill.document(case).hex())["output"]
    assert digest_of(output.encode()) == f"sha256:{case['sha256']}"
    assert parse_json(output) == parse_json(fill.document(case))


@cases("canonical-json.json", "must_fail")
def test_json_is_refused(ask: Ask, case: Case) -> None:
    answer = ask("json", document=fill.document(case).hex())
    assert answer["code"] == case["code"]
    assert "pointer" not in case or answer["pointer"] == case["pointer"]


@cases("digest.json", "of_bytes")
def test_digest_of_bytes(ask: Ask, case: Case) -> None:
    assert ask("digest_of_bytes", hex=case["hex"]) == {"digest": case["digest"]}


@cases("digest.json", "valid")
def test_digest(ask: Ask, case: Case) -> None:
    assert ask("digest", text=case["text"]) == {"text": case["text"]}


@cases("digest.json", "must_fail")
def test_digest_is_refused(ask: Ask, case: Case) -> None:
    assert ask("digest", text=case["text"])["code"] == case["code"]


@cases("uri.json", "valid")
def test_uri(ask: Ask, case: Case) -> None:
    assert ask("uri", text=case["text"]) == {"digest": case["digest"]}


@cases("uri.json", "must_fail")
def test_uri_is_refused(ask: Ask, case: Case) -> None:
    assert ask("uri", text=case["text"])["code"] == case["code"]


@cases("tree.json", "valid")
def test_tree(ask: Ask, case: Case) -> None:
    assert ask("tree", **case) == {"digest": case["digest"]}


@cases("tree.json", "must_fail")
def test_tree_is_refused(ask: Ask, case: Case) -> None:
    assert ask("tree", **case)["code"] == case["code"]


@cases("tree.json", "listings")
def test_listing(ask: Ask, case: Case) -> None:
    assert ask("listing", entries=case["entries"]) == {"digest": case["digest"]}


@cases("exclude.json", "cases")
def test_patterns(ask: Ask, case: Case) -> None:
    answer = ask("exclude", patterns=case["patterns"], paths=[*case["left_out"], *case["kept"]])
    assert answer == {"left_out": case["left_out"]}


@cases("contract.json", "valid")
def test_contract(ask: Ask, case: Case) -> None:
    answer = ask(
        "contract", document=fill.document(case, "contract").hex(), nodes=case["nodes"], packs=case.get("packs")
    )
    assert answer == {"canonical": case["canonical"], "uri": case["uri"]}


@cases("contract.json", "resolve_must_fail")
def test_contract_does_not_resolve(ask: Ask, case: Case) -> None:
    answer = ask("contract", document=fill.document(case, "contract").hex(), nodes=case["nodes"])
    assert answer["code"] == case["code"]
