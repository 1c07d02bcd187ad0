"""The golden vectors. A changed vector is a changed format, not a repaired test."""

from __future__ import annotations

import gzip
import hashlib
import json
from io import BytesIO
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from ctxpack_bundle import (
    FIRST_DATA_LAYER,
    OutputTree,
    Record,
    RootListings,
    assemble,
    encode_table,
    inflate_chunk,
    inflate_first,
    make_chunk,
    pack,
    pack_manifest_of,
    parse_pack_manifest,
    parse_table,
    read_chunk,
    read_entries,
    unpack,
)
from ctxpack_bundle.listing import listing_line, read_listing
from ctxpack_bundle.tar import file_header, folder_header
from ctxpack_identity import (
    Digest,
    IntegrityError,
    InvalidInput,
    TreeEntry,
    canonical_json,
    digest_of,
    hex_of,
    parse_json,
    tree_digest,
)
from ctxpack_identity.packpath import check_path
from ctxpack_identity.tree import file_digest

VECTORS = Path(__file__).parent.with_name("vectors")


def vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def cases(name: str, kind: str = "") -> list[Any]:
    read = vectors(name)
    return [pytest.param(case, id=case["what"]) for case in (read[kind] if kind else read)]


@pytest.mark.parametrize("case", cases("headers.json"))
def test_headers(case: Any) -> None:
    if case["name"].endswith("/"):
        header = folder_header(case["name"])
    else:
        header = file_header(case["name"], case["size"], executable=case["executable"])
    assert header.hex() == case["header"]


@pytest.mark.parametrize("path", vectors("paths.json")["valid"])
def test_paths(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("path", vectors("paths.json")["invalid"])
def test_paths_that_must_fail(path: str) -> None:
    with pytest.raises(InvalidInput):
        check_path(path)


def test_no_invalid_vector_is_also_a_valid_one() -> None:
    """A typing error in an invalid vector could make it valid."""
    for name, member, given in (
        ("manifests.json", "manifest", "repeat"),
        ("listings.json", "line", ""),
        ("chunks.json", "member", "size"),
        ("tables.json", "table", "layers"),
    ):
        valid, invalid = (
            [(case[member], str(case.get(given))) for case in vectors(name)[kind]] for kind in ("valid", "invalid")
        )
        assert len(set(invalid)) == len(invalid)
        assert set(invalid).isdisjoint(valid)


def test_the_order_of_paths() -> None:
    ordered = [TreeEntry(path, 0, "0" * 64) for path in vectors("paths.json")["ordered"]]
    assert all(one.path.split("/") < other.path.split("/") for one, other in pairwise(ordered))
    assert tree_digest(ordered) == tree_digest(reversed(ordered))


@pytest.mark.parametrize("case", cases("listings.json", "valid"))
def test_lines(case: Any) -> None:
    entry = TreeEntry(case["path"], case.get("size", 0), case.get("sha256", ""), case.get("executable", False))
    line = case["line"].encode()
    assert listing_line(entry) == line
    assert list(read_listing(BytesIO(line), where="files.jsonl")) == [entry]


@pytest.mark.parametrize("case", cases("listings.json", "invalid"))
def test_lines_that_must_fail(case: Any) -> None:
    with pytest.raises(IntegrityError):
        list(read_listing(BytesIO(case["line"].encode()), where="files.jsonl"))


def document(case: Any) -> bytes:
    """A manifest. repeat: every occurrence of a part is repeated so many times."""
    part, times = case.get("repeat", ("", 1))
    text: str = case["manifest"].replace(part, part * times) if part else case["manifest"]
    return text.encode()


@pytest.mark.parametrize("case", cases("manifests.json", "valid"))
def test_manifests(case: Any) -> None:
    data = document(case)
    assert canonical_json(parse_json(data)) == data
    parse_pack_manifest(data)


@pytest.mark.parametrize("case", cases("manifests.json", "invalid"))
def test_manifests_that_must_fail(case: Any) -> None:
    with pytest.raises(IntegrityError):
        parse_pack_manifest(document(case))


def test_a_stored_chunk_to_the_byte() -> None:
    case = vectors("chunks.json")["stored"]
    piece = b""
    for number in count():
        if len(piece) >= case["size"]:
            break
        piece += hashlib.sha256(str(number).encode()).digest()
    piece = piece[: case["size"]]
    assert digest_of(piece) == case["piece"]
    chunk = make_chunk(piece)
    assert (digest_of(chunk), len(chunk)) == (case["member"], case["member_size"])


@pytest.mark.parametrize("case", cases("chunks.json", "valid"))
def test_chunks(case: Any) -> None:
    content = bytes.fromhex(case["content"])
    assert inflate_chunk(bytes.fromhex(case["member"]), len(content), where="chunk") == content


@pytest.mark.parametrize("case", cases("chunks.json", "invalid"))
def test_chunks_that_must_fail(case: Any) -> None:
    with pytest.raises(IntegrityError):
        inflate_chunk(bytes.fromhex(case["member"]), case["size"], where="chunk")


@pytest.mark.parametrize("case", cases("tables.json", "valid"))
def test_tables(case: Any) -> None:
    data = bytes.fromhex(case["table"])
    records = [
        Record(
            sha256=bytes.fromhex(hex_of(record["piece"])),
            size=record["size"],
            chunk_size=record["chunk_size"],
            layer=record["layer"],
            offset=record["offset"],
        )
        for record in case["records"]
    ]
    assert list(parse_table(data, case["layers"], where="layer 1")) == records
    assert encode_table(records) == data


@pytest.mark.parametrize("case", cases("tables.json", "invalid"))
def test_tables_that_must_fail(case: Any) -> None:
    with pytest.raises(IntegrityError):
        parse_table(bytes.fromhex(case["table"]), case["layers"], where="layer 1")


PACK = vectors("pack.json")
IMAGE = vectors("image.json")


def write_outputs(folder: Path) -> None:
    for output in PACK["outputs"]:
        path = folder / output["path"]
        if output["path"].endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes.fromhex(output["content"]))
            path.chmod(0o755 if output["executable"] else 0o644)


def test_a_whole_pack_is_written_to_the_byte(tmp_path: Path) -> None:
    contract = canonical_json(PACK["contract"])
    (tmp_path / "pack").mkdir()
    write_outputs(tmp_path / "out")
    listings = RootListings(str(tmp_path / "pack"))
    for root, files in PACK["listings"].items():
        for file in files:
            content = file["content"].encode()
            sha256 = hex_of(digest_of(content))
            listings.add(root, TreeEntry(file.get("path", ""), len(content), sha256, file["executable"]))
    for root, text in PACK["texts"].items():
        listings.add_text(root, text.encode())
    assemble(
        str(tmp_path / "pack"),
        {root["name"]: OutputTree(str(tmp_path / "out" / root["name"])) for root in PACK["roots"]},
        contract=contract,
        listings=listings.finish(PACK["listings"]),
        provenance=PACK["provenance"],
    )
    pieces = list(pack(str(tmp_path / "pack")))
    assert (tmp_path / "pack/manifest.json").read_text(encoding="utf-8") == PACK["manifest"]
    assert (tmp_path / "pack/files.jsonl").read_text(encoding="utf-8") == PACK["files.jsonl"]
    assert b"".join(pieces) == (VECTORS / "pack.tar").read_bytes()
    assert len(pieces[0]) == PACK["stream"]["first_piece"]


def test_a_whole_pack_is_read(tmp_path: Path) -> None:
    data = (VECTORS / "pack.tar").read_bytes()
    assert (digest_of(data), len(data)) == (PACK["stream"]["digest"], PACK["stream"]["size"])
    first = data[: PACK["stream"]["first_piece"]]
    manifest = unpack([data], str(tmp_path), where="pack.tar")
    assert manifest == pack_manifest_of(first, where="first piece")
    assert manifest.outputs.digest == PACK["tree_digest"]
    assert tree_digest(read_entries(str(tmp_path))) == PACK["tree_digest"]
    for output in PACK["outputs"]:
        path = tmp_path / "artifacts" / output["path"]
        if output["path"].endswith("/"):
            assert list(path.iterdir()) == []
        else:
            assert path.read_bytes().hex() == output["content"]
            assert bool(path.stat().st_mode & 0o100) == output["executable"]


def test_the_listings_and_texts_of_a_whole_pack_are_those_of_its_contract(tmp_path: Path) -> None:
    """As FORMAT.md, "Listings", tells a reader that relies on them."""
    manifest = unpack([(VECTORS / "pack.tar").read_bytes()], str(tmp_path), where="pack.tar")
    contract = manifest.contract
    digests = {f"inputs/{name}": item["digest"] for name, item in contract["inputs"].items()}
    for index, transform in enumerate(contract["transforms"]):
        digests |= {f"code/{index}": transform["code_hash"], f"environment/{index}": transform["environment_hash"]}
    for listing in manifest.listings[1:]:
        root = listing.path.rpartition(".")[0]
        if listing.is_text:
            found = file_digest(hex_of(listing.digest), listing.size)
        else:
            found = digest_of_root(list(read_entries(str(tmp_path), listing.path)))
        assert found == digests[root]
    paths = [listing.path for listing in manifest.listings]
    assert paths == [
        "files.jsonl",
        "code/0.jsonl",
        "code/1.jsonl",
        "environment/0.jsonl",
        "environment/0.txt",
        "inputs/raw-2.jsonl",
        "inputs/raw.jsonl",
        "inputs/table.jsonl",
    ]


def digest_of_root(entries: list[TreeEntry]) -> Digest:
    if entries and not entries[0].path:
        [entry] = entries
        return file_digest(entry.sha256, entry.size)
    return tree_digest(entries)


def test_a_whole_pack_is_read_from_the_layers_of_an_image() -> None:
    layers = [bytes.fromhex(layer["content"]) for layer in IMAGE["layers"]]
    assert [digest_of(layer) for layer in layers] == [layer["digest"] for layer in IMAGE["layers"]]
    table = parse_table(layers[1], [len(layer) for layer in layers], where="layer 1")
    pieces = [inflate_first(layers[0], where="layer 0")]
    for record in table:
        chunk = layers[record.layer][record.offset : record.stop]
        pieces.append(read_chunk(chunk, record, where=f"layer {record.layer}"))
    assert [len(piece) for piece in pieces] == IMAGE["pieces"]
    assert b"".join(pieces) == (VECTORS / "pack.tar").read_bytes()
    assert digest_of(b"".join(pieces)) == IMAGE["stream"] == PACK["stream"]["digest"]


def test_the_image_has_what_only_a_pack_that_borrows_has() -> None:
    layers = [bytes.fromhex(layer["content"]) for layer in IMAGE["layers"]]
    table = parse_table(layers[1], [len(layer) for layer in layers], where="layer 1")
    borrowed, own = ([record for record in table if record.layer == layer] for layer in (2, 3))
    assert len(layers) == FIRST_DATA_LAYER + 2
    assert sorted(borrowed, key=lambda record: record.offset) != borrowed
    assert len(set(borrowed)) < len(borrowed)
    assert sum(record.chunk_size for record in set(borrowed)) < len(layers[2])
    assert sum(record.chunk_size for record in own) == len(layers[3])
    for layer in layers[FIRST_DATA_LAYER:]:
        assert gzip.decompress(layer), "a layer is itself a gzip file"
