"""Identity against a second implementation, identity.mjs, on the JavaScript engine of this machine.

RFC 8785 is defined by what ECMAScript writes, so these tests ask an ECMAScript engine. Without node they fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node import WITHOUT_POINTER, Ask, Faults, faults_of, node, unrelated

from ctxpack_identity import canonical_json, digest_of, parse_json
from testmodules import load

Case = dict[str, Any]

HERE = Path(__file__).parent
VECTORS = HERE.parent / "packages" / "ctxpack-identity" / "vectors"
fill = load(VECTORS, "fill")


def cases(file: str, section: str) -> pytest.MarkDecorator:
    found: list[Case] = fill.load(file)[section]
    return pytest.mark.parametrize("case", found, ids=[case["name"] for case in found])


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with node() as asked:
        yield asked


# Every double that has a canonical form, and integers: those beyond 2^53 that are printed as they are written.
numbers = (
    st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: str(x) != "-0.0")
    | st.floats(-1e-3, 1e-3).filter(lambda x: x != 0)
    | st.floats(2.0**53, 1e24)
    | st.floats(2.0**53, 1e24).map(lambda x: -int(Decimal(repr(x))))
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
    [(code, pointer)] = ask("json", document=fill.document(case).hex())["faults"]
    assert code == case["code"]
    assert "pointer" not in case or pointer == case["pointer"]


@cases("digest.json", "of_bytes")
def test_digest_of_bytes(ask: Ask, case: Case) -> None:
    assert ask("digest_of_bytes", hex=case["hex"]) == {"digest": case["digest"]}


@cases("digest.json", "valid")
def test_digest(ask: Ask, case: Case) -> None:
    assert ask("digest", text=case["text"]) == {"text": case["text"]}


@cases("digest.json", "must_fail")
def test_digest_is_refused(ask: Ask, case: Case) -> None:
    assert codes(ask("digest", text=case["text"])) == {case["code"]}


@cases("uri.json", "valid")
def test_uri(ask: Ask, case: Case) -> None:
    assert ask("uri", text=case["text"]) == {"digest": case["digest"]}


@cases("uri.json", "must_fail")
def test_uri_is_refused(ask: Ask, case: Case) -> None:
    assert codes(ask("uri", text=case["text"])) == {case["code"]}


@cases("tree.json", "valid")
def test_tree(ask: Ask, case: Case) -> None:
    assert ask("tree", **case) == {"digest": case["digest"]}


@cases("tree.json", "must_fail")
def test_tree_is_refused(ask: Ask, case: Case) -> None:
    assert codes(ask("tree", **case)) == {case["code"]}


@cases("tree.json", "listings")
def test_listing(ask: Ask, case: Case) -> None:
    assert ask("listing", entries=case["entries"]) == {"digest": case["digest"]}


@cases("tree.json", "listings_must_fail")
def test_listing_is_refused(ask: Ask, case: Case) -> None:
    assert codes(ask("listing", entries=case["entries"])) == {case["code"]}


@cases("exclude.json", "cases")
def test_patterns(ask: Ask, case: Case) -> None:
    answer = ask("exclude", patterns=case["patterns"], paths=[*case["left_out"], *case["kept"]])
    assert answer == {"left_out": case["left_out"]}


@cases("contract.json", "valid")
def test_contract(ask: Ask, case: Case) -> None:
    answer = ask("contract", **{**case, "document": fill.document(case, "contract").hex()})
    assert answer["uri"] == case["uri"]
    assert "canonical" not in case or answer["canonical"] == case["canonical"]
    assert ask("canonical_contract", document=answer["canonical"].encode().hex()) == {}


@cases("contract.json", "must_fail")
def test_contract_file_is_refused(ask: Ask, case: Case) -> None:
    answer = ask("contract_file", document=fill.document(case, "contract").hex())
    assert unrelated(faults_of(answer), expected(case)) == set()


@cases("contract.json", "canonical_must_fail")
def test_canonical_contract_is_refused(ask: Ask, case: Case) -> None:
    answer = ask("canonical_contract", document=fill.document(case, "contract").hex())
    assert unrelated(faults_of(answer), expected(case)) == set()


@cases("contract.json", "resolve_must_fail")
def test_contract_does_not_resolve(ask: Ask, case: Case) -> None:
    answer = ask("contract", **{**case, "document": fill.document(case, "contract").hex()})
    assert codes(answer) == {case["code"]}


@cases("items.json", "valid")
def test_items(ask: Ask, case: Case) -> None:
    assert ask("items", contract=case["contract"], entries=case["entries"]) == {"items": case["items"]}


@cases("items.json", "must_fail")
def test_items_whose_outputs_are_refused(ask: Ask, case: Case) -> None:
    answer = ask("items", contract=case["contract"], entries=case["entries"])
    assert faults_of(answer) == {(case["code"], item) for item in case["items"]}


def codes(answer: Case) -> set[str]:
    return {code for code, _ in faults_of(answer)}


def expected(case: Case) -> Faults:
    return {(code, None if code in WITHOUT_POINTER else pointer) for code, pointer in case["faults"]}
