"""manifest.json: each manifest has one form, and a document in any other form is refused."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from forged_pack import CONTRACT, File, canonical, manifest

from ctxpack_bundle import encode_pack_manifest, parse_pack_manifest
from ctxpack_identity import IntegrityError, InvalidInput, digest_of

FILES = [File("b.txt", b"text"), File("empty/")]
GOOD = manifest(FILES, inputs={"a-b": b"", "a": b""}, provenance={"who": "me", "nested": [1, 0.5, None, {"ü": True}]})
DIGEST = digest_of(b"")


def test_the_manifest_of_the_format_is_read() -> None:
    read = parse_pack_manifest(canonical(GOOD))
    assert read.outputs.files == 1
    assert read.outputs.empty_folders == 1
    assert read.outputs_digest == GOOD["outputs"]["digest"]
    assert [listing.path for listing in read.listings] == ["files.jsonl", "inputs/a-b.jsonl", "inputs/a.jsonl"]
    assert read.provenance == GOOD["provenance"]
    assert read.contract_bytes == canonical(CONTRACT)
    assert read.uri == "ctx://" + digest_of(read.contract_bytes)


def test_encoding_a_parsed_manifest_gives_the_same_bytes() -> None:
    assert encode_pack_manifest(parse_pack_manifest(canonical(GOOD))) == canonical(GOOD)


def test_provenance_holds_only_what_json_holds() -> None:
    read = parse_pack_manifest(canonical(GOOD))
    for value in (float("nan"), 2**53, "\ud800", {1: 2}):
        provenance = {"value": value}
        wrong = msgspec.structs.replace(read, provenance=provenance)
        with pytest.raises(InvalidInput, match=r"^manifest.json, /provenance/value"):
            encode_pack_manifest(wrong)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = deepcopy(GOOD)
    change(value)
    return canonical(value)


def put(*path: str | int, value: Any) -> bytes:
    """GOOD with another value at path."""

    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return changed(change)


TEXT = canonical(GOOD).decode()
ROOTS = ("outputs", "roots")

NOT_THIS_FORM = {
    "nothing": (b"", "not JSON"),
    "not JSON": (b"{", "not JSON"),
    "not UTF-8": (b'{"a":"\xff"}', "not UTF-8"),
    "array": (b"[]", "Expected `object`"),
    "empty object": (b"{}", "Object missing required field"),
    "line feed at the end": (canonical(GOOD) + b"\n", "not canonical JSON (RFC 8785)"),
    "blanks": (canonical(GOOD).replace(b":", b": ", 1), "not canonical JSON (RFC 8785)"),
    "byte order mark": (b"\xef\xbb\xbf" + canonical(GOOD), "starts with a byte order mark"),
    "two documents": (canonical(GOOD) * 2, "not JSON: Extra data"),
    "members out of order": (
        b'{"uri":' + canonical(GOOD["uri"]) + b"," + TEXT[1:].split(',"uri"')[0].encode() + b"}",
        "not canonical JSON (RFC 8785)",
    ),
    "duplicate member": (TEXT.replace('"uri":', f'"uri":"{GOOD["uri"]}","uri":').encode(), "name appears twice"),
    "duplicate member inside": (TEXT.replace('"size":4', '"size":4,"size":4').encode(), "name appears twice"),
    "NaN": (TEXT.replace("0.5", "NaN").encode(), "no canonical form"),
    "infinity": (TEXT.replace("0.5", "1e999").encode(), "no canonical form"),
    "needless exponent": (TEXT.replace("0.5", "5e-1").encode(), "not canonical JSON (RFC 8785)"),
    "integer beyond 2^53 - 1": (TEXT.replace("0.5", str(2**53)).encode(), "no canonical form"),
    "lone surrogate": (TEXT.replace('"me"', '"\\ud800"').encode(), "lone surrogate"),
    "nested 65 deep": (TEXT.replace("0.5", "[" * 65 + "]" * 65).encode(), "nested too deep"),
    "nested a million deep": (b"[" * 1_000_000, "nested too deep"),
    "unknown member": (put("extra", value=1), "Object contains unknown field `extra`"),
    "unknown member of outputs": (put("outputs", "extra", value=1), "Object contains unknown field `extra`"),
    "unknown member of a listing": (put("listings", 0, "extra", value=1), "Object contains unknown field `extra`"),
    "unknown member of a root": (put(*ROOTS, 0, "extra", value=1), "Object contains unknown field `extra`"),
    "no schema": (changed(lambda value: value.pop("schema")), "Object missing required field `schema`"),
    "another schema": (put("schema", value="ctxpack/pack/v2"), "Invalid enum value 'ctxpack/pack/v2'"),
    "null for a member": (put("provenance", value=None), "Expected `object`, got `null`"),
    "provenance is a text": (put("provenance", value="me"), "Expected `object`, got `str`"),
    "number as text": (put("outputs", "files", value="1"), "Expected `int`, got `str`"),
    "bool as number": (put("outputs", "files", value=True), "Expected `int`, got `bool`"),
    "negative number of files": (put("outputs", "files", value=-1), "Expected `int` >= 0"),
    "negative size": (put("outputs", "size", value=-1), "Expected `int` >= 0"),
    "fraction of a byte": (put("outputs", "size", value=0.5), "Expected `int`, got `float`"),
    "negative size of a listing": (put("listings", 0, "size", value=-1), "Expected `int` >= 0"),
    "size of 2^62": (put("listings", 0, "size", value=2**62), "no canonical form"),
    "digest in upper case": (put("outputs", "digest", value=DIGEST.upper()), "matching regex"),
    "digest without algorithm": (put("outputs", "digest", value=DIGEST[7:]), "matching regex"),
    "digest with a line feed": (put("outputs", "digest", value=DIGEST + "\n"), "matching regex"),
    "digest of another algorithm": (put("listings", 0, "digest", value="md5:" + "0" * 32), "matching regex"),
    "kind of root": (put(*ROOTS, 0, "type", value="symlink"), "Invalid enum value 'symlink'"),
    "contract of no schema": (put("contract", value={}), "/contract"),
    "contract with a null": (put("contract", "salt", value=None), "/contract"),
}


@pytest.mark.parametrize(("data", "fault"), NOT_THIS_FORM.values(), ids=NOT_THIS_FORM)
def test_a_document_in_any_other_form_is_refused(data: bytes, fault: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_pack_manifest(data, where="the pack")
    assert str(caught.value).startswith("the pack: ")
    assert fault in str(caught.value)
    assert str(caught.value).isprintable()


HOSTILE_LISTINGS = [
    "",
    "files.json",
    "FILES.jsonl",
    "Files.jsonl",
    "files.jsonl\n",
    "./files.jsonl",
    "/files.jsonl",
    "../files.jsonl",
    "manifest.json",
    "artifacts/x.jsonl",
    "inputs/x",
    "inputs/.jsonl",
    "inputs/.x.jsonl",
    "inputs/-x.jsonl",
    "inputs/../x.jsonl",
    "inputs/a/b.jsonl",
    "inputs//x.jsonl",
    "inputs\\x.jsonl",
    "Inputs/x.jsonl",
    "inputs/x.jsonl\n",
    "inputs/ü.jsonl",
    "inputs/" + "x" * 129 + ".jsonl",
]


@pytest.mark.parametrize("path", HOSTILE_LISTINGS)
def test_the_path_of_a_listing_is_files_jsonl_or_in_inputs(path: str) -> None:
    for index in (0, 1):
        with pytest.raises(IntegrityError, match=r"matching regex .* - at `\$\.listings"):
            parse_pack_manifest(put("listings", index, "path", value=path))


@pytest.mark.parametrize(
    "paths",
    [
        [],
        ["inputs/a.jsonl"],
        ["inputs/a.jsonl", "files.jsonl"],
        ["files.jsonl", "files.jsonl"],
        ["files.jsonl", "inputs/a.jsonl", "inputs/a.jsonl"],
        ["files.jsonl", "inputs/b.jsonl", "inputs/a.jsonl"],
        ["files.jsonl", "inputs/a.jsonl", "inputs/a-b.jsonl"],
        ["files.jsonl", "inputs/a.jsonl", "files.jsonl"],
    ],
)
def test_listings_are_in_order_and_each_occurs_once(paths: list[str]) -> None:
    listings = [{"digest": DIGEST, "path": path, "size": 0} for path in paths]
    with pytest.raises(IntegrityError) as caught:
        parse_pack_manifest(put("listings", value=listings))
    assert str(caught.value) == (
        f"manifest.json: listings are not in order: expected files.jsonl, then inputs, got {paths}"
        "; the pack is damaged, or needs a newer ctxpack"
    )


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ([""], "path is not relative and normal"),
        (["."], "path is not relative and normal"),
        ([".."], "path is not relative and normal"),
        (["/etc"], "path is not relative and normal"),
        (["../x"], "path is not relative and normal"),
        (["a/b"], "name of an output holds a slash"),
        (["a/"], "name of an output holds a slash"),
        (["a\\b"], "name holds a backslash or a control character"),
        (["a\x1b"], "name holds a backslash or a control character"),
        (["n" * 256], "name is longer than 255 bytes"),
        (["b", "a"], "outputs are not in order: got after 'b'"),
        (["a", "a"], "outputs are not in order: got after 'a'"),
    ],
)
def test_names_of_roots_are_safe_segments_in_order(names: list[str], fault: str) -> None:
    """Outputs are placed by these names."""
    with pytest.raises(IntegrityError) as caught:
        parse_pack_manifest(put(*ROOTS, value=[{"name": name, "type": "file"} for name in names]))
    assert fault in str(caught.value)


def test_the_uri_is_that_of_the_contract() -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_pack_manifest(put("contract", "salt", value="other"))
    assert caught.value.what == "contract is not the URI's"
    assert caught.value.expected == GOOD["uri"]
    assert caught.value.got.startswith("ctx://sha256:")
    for uri in ("", "ctx://sha256:../../x", GOOD["uri"][:-1], GOOD["uri"].upper(), GOOD["uri"] + "\n"):
        with pytest.raises(IntegrityError, match="contract is not the URI's"):
            parse_pack_manifest(put("uri", value=uri))


def test_a_manifest_has_at_most_16_mib() -> None:
    room = (16 << 20) - len(put("provenance", value={"x": ""}))
    assert parse_pack_manifest(put("provenance", value={"x": "x" * room})).provenance
    with pytest.raises(IntegrityError, match="manifest is too large: expected at most 16777216 bytes, got 16777217"):
        parse_pack_manifest(put("provenance", value={"x": "x" * (room + 1)}))


def test_an_error_message_has_less_than_1000_characters() -> None:
    for data in (
        put("schema", value="x" * 1_000_000),
        put("x" * 1_000_000, value=1),
        put("listings", value=[{"digest": DIGEST, "path": "inputs/x.jsonl", "size": 0}] * 10_000),
        TEXT.replace('"who"', '"' + "x" * 1_000_000 + '":NaN,"who"').encode(),
    ):
        with pytest.raises(IntegrityError) as caught:
            parse_pack_manifest(data)
        assert len(str(caught.value)) < 1000


def test_an_announced_size_allocates_nothing() -> None:
    data = put("outputs", "size", value=2**53 - 1)
    parse_pack_manifest(data)
    tracemalloc.start()
    try:
        assert parse_pack_manifest(data).outputs.size == 2**53 - 1
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_manifest_with_too_many_values_is_refused_before_it_is_parsed() -> None:
    data = b'{"provenance":{"a":[' + b"[]," * (5 << 20) + b"[]]}}"
    before = time.process_time()
    with pytest.raises(IntegrityError, match="manifest holds too many values"):
        parse_pack_manifest(data)
    assert time.process_time() - before < 1
