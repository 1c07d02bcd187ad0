"""manifest.json: each manifest has one form, and a document in any other form is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from forged_pack import CONTRACT, File, canonical, manifest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle import encode_pack_manifest, parse_pack_manifest
from ctxpack_identity import IntegrityError, InvalidInput, canonical_json, digest_of

FILES = [File("b.txt", b"text"), File("empty/")]
LISTED = [
    "code/0.jsonl",
    "code/10.jsonl",
    "code/2.jsonl",
    "code/999999.jsonl",
    "environment/0.jsonl",
    "environment/0.txt",
    "environment/10.txt",
    "environment/2.jsonl",
    "inputs/a-b.jsonl",
    "inputs/a.jsonl",
    "inputs/a.txt.jsonl",
]
GOOD = manifest(
    FILES,
    listed=dict.fromkeys(LISTED, b""),
    provenance={"who": "me", "nested": [1, 0.5, None, {"ü": True}]},
)
DIGEST = digest_of(b"")


def test_the_manifest_of_the_format_is_read() -> None:
    read = parse_pack_manifest(canonical(GOOD))
    assert read.outputs.files == 1
    assert read.outputs.empty_folders == 1
    assert read.outputs_digest == GOOD["outputs"]["digest"]
    assert [listing.path for listing in read.listings] == ["files.jsonl", *LISTED]
    assert [listing.path for listing in read.listings if listing.is_text] == [
        "environment/0.txt",
        "environment/10.txt",
    ]
    assert read.provenance == GOOD["provenance"]
    assert read.contract_bytes == canonical(CONTRACT)
    assert read.uri == "ctx://" + digest_of(read.contract_bytes)


def test_encoding_a_parsed_manifest_gives_the_same_bytes() -> None:
    assert encode_pack_manifest(parse_pack_manifest(canonical(GOOD))) == canonical(GOOD)


def test_provenance_holds_only_what_json_holds() -> None:
    read = parse_pack_manifest(canonical(GOOD))
    for value in (float("nan"), 2**53 + 1, "\ud800", {1: 2}):
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
    "integer that no double holds": (TEXT.replace("0.5", str(2**53 + 1)).encode(), "no canonical form"),
    "lone surrogate": (TEXT.replace('"me"', '"\\ud800"').encode(), "lone surrogate"),
    "nested 65 deep": (TEXT.replace("0.5", "[" * 65 + "]" * 65).encode(), "nested too deep"),
    "nested 100,000 deep": (b"[" * 100_000, "nested too deep"),
    "nested a million deep": (b"[" * 1_000_000, "too many values"),
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
    "size of 2^53": (put("listings", 0, "size", value=2**53), "Expected `int`, got `float`"),
    "2^53 files": (put("outputs", "files", value=2**53), "Expected `int`, got `float`"),
    "digest in upper case": (put("outputs", "digest", value=DIGEST.upper()), "matching regex"),
    "digest without algorithm": (put("outputs", "digest", value=DIGEST[7:]), "matching regex"),
    "digest with a line feed": (put("outputs", "digest", value=DIGEST + "\n"), "matching regex"),
    "digest of another algorithm": (put("listings", 0, "digest", value="md5:" + "0" * 32), "matching regex"),
    "kind of root": (put(*ROOTS, 0, "type", value="symlink"), "Invalid enum value 'symlink'"),
    "contract is an array": (put("contract", value=[]), "Expected `object`, got `array`"),
    "contract is a text": (put("contract", value="ctxpack/contract/v1"), "Expected `object`, got `str`"),
    "contract is null": (put("contract", value=None), "Expected `object`, got `null`"),
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
    "inputs/x.txt",
    "files.txt",
    "code/0.txt",
    "code/0",
    "code/.jsonl",
    "code/00.jsonl",
    "code/01.jsonl",
    "code/-1.jsonl",
    "code/+1.jsonl",
    "code/1.0.jsonl",
    "code/x.jsonl",
    "code/0x1.jsonl",
    "code/1000000.jsonl",
    "code/1/2.jsonl",
    "code/../0.jsonl",
    "code/\u0663.jsonl",
    "code/0.jsonl\n",
    "Code/0.jsonl",
    "code0.jsonl",
    "environment/00.txt",
    "environment/1000000.txt",
    "environment/0.TXT",
    "environment/0.txt\n",
    "environment/0.txt.jsonl",
    "environment/0.jsonl.txt",
    "environments/0.jsonl",
]


@pytest.mark.parametrize("path", HOSTILE_LISTINGS)
def test_the_path_of_a_listing_says_which_root_it_lists(path: str) -> None:
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
        ["files.jsonl", "inputs/a.jsonl", "code/0.jsonl"],
        ["files.jsonl", "code/2.jsonl", "code/10.jsonl"],
        ["files.jsonl", "code/0.jsonl", "code/0.jsonl"],
        ["files.jsonl", "environment/0.txt", "environment/0.jsonl"],
        ["files.jsonl", "environment/0.jsonl", "code/0.jsonl"],
        ["code/0.jsonl", "files.jsonl"],
    ],
)
def test_listings_are_in_order_and_each_occurs_once(paths: list[str]) -> None:
    listings = [{"digest": DIGEST, "path": path, "size": 0} for path in paths]
    with pytest.raises(IntegrityError) as caught:
        parse_pack_manifest(put("listings", value=listings))
    assert str(caught.value) == (
        f"manifest.json: listings are not in order: expected files.jsonl, then the others by path, got {paths}"
        "; the pack is damaged, or needs a newer ctxpack"
    )


def text_of(size: int) -> bytes:
    paths = ("files.jsonl", "environment/0.txt")
    return put("listings", value=[{"digest": DIGEST, "path": path, "size": size} for path in paths])


def test_a_text_has_at_most_1_mib_and_a_listing_any_size() -> None:
    assert parse_pack_manifest(text_of(1 << 20)).listings[1].size == 1 << 20
    with pytest.raises(IntegrityError) as caught:
        parse_pack_manifest(text_of((1 << 20) + 1))
    assert str(caught.value) == (
        "manifest.json, environment/0.txt: text is too long: expected at most 1048576 bytes, got 1048577"
        "; the pack is damaged, or needs a newer ctxpack"
    )


def packed(contract: Any, *names: str) -> bytes:
    """A manifest whose contract is this value, and whose roots have these names."""
    return canonical(manifest(FILES, contract=contract, roots=[(name, "file") for name in names]))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES, max_size=5), st.text(max_size=20))
def test_a_contract_is_any_object_with_a_text_schema(members: dict[str, Any], schema: str) -> None:
    """Only resolving judges the rest of it, so that packs of contracts to come can be carried."""
    contract = members | {"schema": schema}
    contract.pop("outputs", None)
    uri = "ctx://" + digest_of(canonical_json(contract))
    read = parse_pack_manifest(canonical_json(manifest(FILES, contract=contract, uri=uri)))
    assert (read.contract, read.uri, encode_pack_manifest(read)) == (contract, uri, encode_pack_manifest(read))


@pytest.mark.parametrize("contract", [{}, {"schema": None}, {"schema": 1}, {"schema": ["x"]}, {"Schema": "x"}])
def test_a_contract_without_a_text_schema_is_refused(contract: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_pack_manifest(packed(contract))
    assert str(caught.value) == (
        "manifest.json: contract has no schema: expected a text; the pack is damaged, or needs a newer ctxpack"
    )


def test_a_contract_has_at_most_4_mib() -> None:
    empty = {"schema": "x", "text": ""}
    room = (4 << 20) - len(canonical(empty))
    assert parse_pack_manifest(packed(empty | {"text": "x" * room})).contract["schema"] == "x"
    with pytest.raises(IntegrityError, match="contract is too large: expected at most 4194304 bytes, got 4194305"):
        parse_pack_manifest(packed(empty | {"text": "x" * (room + 1)}))


def nested(levels: int) -> Any:
    return {"schema": "x", "value": [] if levels == 2 else [nested_array(levels - 2)]}


def nested_array(levels: int) -> list[Any]:
    return [nested_array(levels - 1)] if levels > 1 else []


def test_the_limits_hold_for_the_manifest_with_its_contract() -> None:
    """The manifest is one level itself, and has members and elements of its own."""
    parse_pack_manifest(packed(nested(63)))
    with pytest.raises(IntegrityError, match="nested too deep: expected at most 64 levels"):
        parse_pack_manifest(packed(nested(64)))
    parse_pack_manifest(packed({"schema": "x", "n" * 4096: 1}))
    with pytest.raises(IntegrityError, match="name is too long: expected at most 4096 bytes, got 4097"):
        parse_pack_manifest(packed({"schema": "x", "n" * 4097: 1}))
    own = 6 + 5 + 1 + 3 + 2  # of the manifest, its outputs, its only listing (an element), and the contract
    parse_pack_manifest(packed({"schema": "x", "many": [0] * (262_144 - own)}))
    with pytest.raises(IntegrityError, match="too many values: expected at most 262144 members and elements"):
        parse_pack_manifest(packed({"schema": "x", "many": [0] * (262_145 - own)}))


def with_outputs(outputs: Any, *names: str) -> bytes:
    return packed(CONTRACT | {"outputs": outputs}, *names)


NAMES = st.sets(st.text("ab é\uffee\U0001f4e6", min_size=1, max_size=2), max_size=4)


@given(NAMES, NAMES)
def test_the_roots_are_the_outputs_that_the_contract_names(declared: set[str], names: set[str]) -> None:
    document = with_outputs(sorted(declared), *sorted(names))
    if not declared or declared == names:
        assert [root.name for root in parse_pack_manifest(document).outputs.roots] == sorted(names)
        return
    with pytest.raises(IntegrityError) as caught:
        parse_pack_manifest(document)
    assert caught.value.what == "outputs are not those that the contract names"
    assert (caught.value.expected, caught.value.got) == (str(sorted(declared)), str(sorted(names)))


@pytest.mark.parametrize("outputs", [[], None, {}, "a", ["a", 1], [["a"]], [None], 7])
def test_a_contract_that_names_no_outputs_allows_any(outputs: Any) -> None:
    for names in ([], ["a"], ["a", "b"]):
        assert parse_pack_manifest(with_outputs(outputs, *names)).contract["outputs"] == outputs


@pytest.mark.parametrize("outputs", [["b", "a"], ["a", "b", "b"], ["a"], ["a", "b", "c"], ["a", "B"], ["a", "../b"]])
def test_roots_other_than_the_outputs_of_the_contract_are_refused(outputs: list[str]) -> None:
    with pytest.raises(IntegrityError, match="outputs are not those that the contract names"):
        parse_pack_manifest(with_outputs(outputs, "a", "b"))


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
        with_outputs(["x" * 1_000_000], "a"),
        put("schema", value="x" * 1_000_000),
        put("x" * 1_000_000, value=1),
        put("listings", value=[{"digest": DIGEST, "path": "inputs/x.jsonl", "size": 0}] * 10_000),
        put("contract", value={"schema": ["x" * 1_000_000]}),
        TEXT.replace('"who"', '"' + "x" * 1_000_000 + '":NaN,"who"').encode(),
    ):
        with pytest.raises(IntegrityError) as caught:
            parse_pack_manifest(data)
        assert len(str(caught.value)) < 1000


def test_a_manifest_that_readers_would_refuse_is_not_written() -> None:
    read = parse_pack_manifest(canonical(GOOD))
    room = (16 << 20) - len(canonical(GOOD | {"provenance": {"x": ""}}))
    largest = msgspec.structs.replace(read, provenance={"x": "x" * room})
    assert len(encode_pack_manifest(largest)) == 16 << 20
    with pytest.raises(InvalidInput) as caught:
        encode_pack_manifest(msgspec.structs.replace(read, provenance={"x": "x" * (room + 1)}))
    assert str(caught.value) == (
        "manifest.json: manifest is too large: expected at most 16777216 bytes, got 16777217"
        "; shorten what it says of the command and the labels"
    )


def test_an_announced_size_allocates_nothing() -> None:
    data = put("outputs", "size", value=2**53 - 1)
    parse_pack_manifest(data)
    tracemalloc.start()
    try:
        assert parse_pack_manifest(data).outputs.size == 2**53 - 1
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
