"""The vectors of vectors/*.json hold, to the byte. They are data: no expected value is computed here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ctxpack_identity import (
    ContractInvalid,
    FolderDigest,
    InvalidInput,
    canonical_json,
    digest_of,
    parse_canonical_contract,
    parse_contract_file,
    parse_digest,
    parse_json,
    parse_uri,
    uri_digest,
    uri_for,
)
from ctxpack_identity.exclude import compile_excludes
from ctxpack_identity.items import check_places
from testmodules import load

Case = dict[str, Any]

VECTORS = Path(__file__).parents[1] / "vectors"
fill = load(VECTORS, "fill")


def cases(file: str, section: str) -> pytest.MarkDecorator:
    found: list[Case] = fill.load(file)[section]
    assert found, f"{file} has no {section}"
    return pytest.mark.parametrize("case", found, ids=[case["name"] for case in found])


def pointer_of(error: InvalidInput) -> str:
    return error.where.rpartition(", ")[2].replace("(whole document)", "")


@pytest.mark.parametrize("file", ["canonical-json", "contract", "digest", "exclude", "items", "tree", "uri"])
def test_a_file_is_ascii_and_its_case_names_are_unique(file: str) -> None:
    assert (VECTORS / f"{file}.json").read_bytes().isascii()
    for section, found in fill.load(f"{file}.json").items():
        if isinstance(found, list) and isinstance(found[0], dict):
            names = [case["name"] for case in found]
            assert sorted(names) == sorted(set(names)), section


@pytest.mark.parametrize(("file", "section"), fill.ANSWERS)
def test_every_case_has_its_answer_on_file(file: str, section: str) -> None:
    answers = {"digest", "items", "sha256", "uri"}
    assert [case["name"] for case in fill.load(file)[section] if not answers & case.keys()] == []


@cases("digest.json", "of_bytes")
def test_digest_of_bytes(case: Case) -> None:
    assert digest_of(bytes.fromhex(case["hex"])) == case["digest"]


@cases("digest.json", "valid")
def test_digest_is_read(case: Case) -> None:
    assert parse_digest(case["text"]) == case["text"]


@cases("digest.json", "must_fail")
def test_digest_is_refused(case: Case) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_digest(case["text"])
    assert caught.value.code == case["code"]


@cases("uri.json", "valid")
def test_uri_is_read(case: Case) -> None:
    uri = parse_uri(case["text"])
    assert uri == case["text"]
    assert uri_digest(uri) == case["digest"]
    assert uri_for(uri_digest(uri)) == uri


@cases("uri.json", "must_fail")
def test_uri_is_refused(case: Case) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_uri(case["text"])
    assert caught.value.code == case["code"]


@cases("canonical-json.json", "valid")
def test_json_has_these_canonical_bytes(case: Case) -> None:
    data = canonical_json(parse_json(fill.document(case)))
    assert digest_of(data) == f"sha256:{case['sha256']}"
    assert "repeat" in case or data == case["output"].encode()
    assert canonical_json(parse_json(data)) == data


@cases("canonical-json.json", "must_fail")
def test_json_is_refused(case: Case) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_json(fill.document(case), where="document")
    assert caught.value.code == case["code"]
    assert "pointer" not in case or pointer_of(caught.value) == case["pointer"]


@cases("tree.json", "valid")
def test_tree_has_this_digest(case: Case) -> None:
    expected = {key: case[key] for key in ("kind", "files", "bytes", "digest") if key in case}
    assert fill.answer_tree(case) == expected


@cases("tree.json", "must_fail")
def test_tree_is_refused(case: Case, tmp_path: Path) -> None:
    fill.make_nodes(case["nodes"], str(tmp_path))
    with pytest.raises(InvalidInput) as caught:
        fill.hash_nodes(case, str(tmp_path))
    assert caught.value.code == case["code"]
    assert "path" not in case or caught.value.where.rstrip("/") == str(tmp_path / case["path"])


@cases("tree.json", "listings")
def test_listing_has_this_digest(case: Case) -> None:
    folder = FolderDigest()
    for entry in fill.entries(case):
        folder.add(entry)
    assert folder.finish() == case["digest"]


@cases("tree.json", "listings_must_fail")
def test_listing_is_refused(case: Case) -> None:
    folder = FolderDigest()
    *before, last = fill.entries(case)
    for entry in before:
        folder.add(entry)
    with pytest.raises(InvalidInput) as caught:
        folder.add(last)
    assert caught.value.code == case["code"]


@cases("exclude.json", "cases")
def test_patterns_leave_out_these_paths(case: Case) -> None:
    leaves_out = compile_excludes(case["patterns"])
    paths = [*case["left_out"], *case["kept"]]
    assert [path for path in paths if leaves_out(path.removesuffix("/"), path.endswith("/"))] == case["left_out"]


@cases("contract.json", "valid")
def test_contract_has_this_uri(case: Case, tmp_path: Path) -> None:
    fill.make_nodes(case["nodes"], str(tmp_path))
    resolution = fill.resolved(case, str(tmp_path))
    canonical = case["canonical"].encode() if "repeat" not in case else resolution.canonical
    assert (resolution.canonical, resolution.uri) == (canonical, case["uri"])
    assert uri_for(digest_of(canonical)) == case["uri"]
    assert canonical_json(parse_canonical_contract(canonical)) == canonical


@cases("contract.json", "must_fail")
def test_contract_is_refused(case: Case) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_contract_file(fill.document(case, "contract"), where="contract.json")
    assert faults_of(caught.value) == {(code, at) for code, at in case["faults"]}


@cases("contract.json", "canonical_must_fail")
def test_canonical_contract_is_refused(case: Case) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_canonical_contract(fill.document(case, "contract"), where="config")
    assert faults_of(caught.value) == {(code, at) for code, at in case["faults"]}


@cases("contract.json", "resolve_must_fail")
def test_contract_does_not_resolve(case: Case, tmp_path: Path) -> None:
    fill.make_nodes(case["nodes"], str(tmp_path))
    parse_contract_file(fill.document(case, "contract"))
    with pytest.raises(InvalidInput) as caught:
        fill.resolved(case, str(tmp_path))
    assert caught.value.code == case["code"]


@cases("items.json", "valid")
def test_items_have_these_uris_and_outputs(case: Case) -> None:
    assert fill.answer_items(case) == {"items": case["items"]}


@cases("items.json", "must_fail")
def test_outputs_of_items_are_refused(case: Case) -> None:
    items = fill.items_of_case(case)
    with pytest.raises(InvalidInput) as caught:
        check_places(items)
    assert caught.value.code == case["code"]
    named = " and ".join(map(repr, case["items"]))
    assert caught.value.where == (f"items {named}" if len(case["items"]) > 1 else f"item {named}")


@pytest.mark.parametrize(("file", "member"), [("tree.json", "digest"), ("contract.json", "uri")])
def test_groups_that_are_equal_and_groups_that_differ(file: str, member: str) -> None:
    vectors = fill.load(file)
    name_of = {case["name"]: case[member] for case in vectors["valid"]}
    for group in vectors["equal"]:
        assert len({name_of[name] for name in group}) == 1, group
    for group in vectors["different"]:
        assert len({name_of[name] for name in group}) == len(group), group


def faults_of(error: InvalidInput) -> set[tuple[str, str | None]]:
    """Return each fault with its JSON pointer, None for a fault of the document as text."""
    if isinstance(error, ContractInvalid):
        return {(fault.code, fault.pointer) for fault in error.faults}
    at = re.fullmatch(r"[a-z.]+, ((?:/.*)?)", error.where)
    return {(error.code, at[1] if at else None)}
