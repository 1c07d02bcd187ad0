"""What made a pack and what it holds, without fetching its outputs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_identity import CtxUri, IntegrityError, InvalidInput, NotFound, digest_of, uri_digest
from ctxpack_pantry import Pantry
from ctxpack_pantry.lookup import locate

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack in the cache and in the registry."""
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    return uri


def test_a_cached_pack_is_inspected_without_asking_the_registry(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri
) -> None:
    before = len(registry.calls)
    inspection = pantry.inspect(uri)
    assert inspection.found_in == pantry.cache.find(uri_digest(uri))
    assert inspection.located is None
    assert len(registry.calls) == before


def test_a_pack_of_the_registry_is_inspected_without_fetching_its_outputs(
    open_pantry: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri, tmp_path: Path
) -> None:
    before = registry.count("fetch")
    inspection = open_pantry("elsewhere").inspect(uri)
    assert inspection.found_in == "the registry"
    assert inspection.located is not None
    assert registry.count("fetch") == before + 1  # the first layer
    assert not (tmp_path / "elsewhere").exists()


def test_skip_cache_asks_the_registry_even_if_the_cache_has_it(pantry: Pantry, uri: CtxUri) -> None:
    here, there = pantry.inspect(uri), pantry.inspect(uri, skip_cache=True)
    assert there.found_in == "the registry"
    assert there.manifest == here.manifest


def test_a_pack_that_is_nowhere_is_a_miss(pantry: Pantry) -> None:
    with pytest.raises(NotFound, match="the registry: no such pack: ctx://sha256:0000"):
        pantry.inspect(CtxUri("ctx://sha256:" + "0" * 64))


def test_a_damaged_first_layer_is_an_integrity_error(
    open_pantry: Callable[..., Pantry], registry: FaultyTarget, uri: CtxUri
) -> None:
    located = locate(registry, uri)
    assert located is not None
    registry.flip(located.layers[0].digest, 0)
    with pytest.raises(IntegrityError, match="digest differs"):
        open_pantry("elsewhere").inspect(uri)


def test_an_inspection_is_one_json_document_with_a_schema(pantry: Pantry, project: Project, uri: CtxUri) -> None:
    document = pantry.inspect(uri, skip_cache=True).as_json()
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == "ctxpack/inspection/v1"
    assert document["uri"] == uri
    assert document["contract"]["inputs"] == {
        "raw_docs": {"digest": pantry.resolve(str(project.contract)).inputs[0].digest}
    }
    assert document["outputs"] == {
        "digest": pantry.inspect(uri).manifest.outputs_digest,
        "files": 3,
        "empty_folders": 1,
        "size": len("alphabeta" + "the user's own" + "#!/bin/sh\n"),
        "roots": [{"name": "out", "type": "folder"}],
    }
    assert set(document["provenance"]) == {"created", "creator", "versions"}
    assert document["verdict"]["image"] == document["image"]["digest"]
    assert pantry.inspect(uri).as_json()["verdict"]["reason"] == "made here, by you"
    located = pantry.inspect(uri, skip_cache=True).located
    assert located is not None
    assert document["image"] == {
        "digest": located.image,
        "layers": 3,
        "size": sum(layer.size for layer in located.layers),
    }
    assert "image" not in pantry.inspect(uri).as_json()


LOCKED = {"environment_hash": digest_of(b"uv.lock")}
HASHED = {"code_hash": digest_of(b"code")}


@pytest.mark.parametrize(
    ("transforms", "weak"),
    [
        ([LOCKED | HASHED], []),
        ([HASHED], ["transform 0 (t): no environment declared, so a library upgrade goes unnoticed"]),
        ([LOCKED | {"code_hash": "opaque"}], ["transform 0 (t): code is opaque, so a change of it goes unnoticed"]),
        (
            [LOCKED | HASHED, {"code_hash": "opaque"}],
            [
                "transform 1 (t): code is opaque, so a change of it goes unnoticed",
                "transform 1 (t): no environment declared, so a library upgrade goes unnoticed",
            ],
        ),
    ],
    ids=["none", "environment", "code", "second transform"],
)
def test_what_a_contract_leaves_open_is_named(
    pantry: Pantry, project: Project, transforms: list[dict[str, str]], weak: list[str]
) -> None:
    project.command = ["true"]
    project.write_contract(transforms=[{"tool": "t", "tool_version": "1"} | transform for transform in transforms])
    inspection = pantry.inspect(pantry.seed([], str(project.contract)).uri)
    assert [point.what for point in inspection.weak] == weak
    assert inspection.as_json()["weak"] == [point._asdict() for point in inspection.weak]


def listed(pantry: Pantry, uri: CtxUri, **given: Any) -> list[str]:
    with pantry.list_files(uri, **given) as files:
        return [f"{entry.path} {entry.size}" for entry in files]


OUTPUTS = ["deep/empty/ 0", "joined 9", "manifest.json 14", "tool 10"]
INPUTS = ["a.txt 5", "b.txt 4", "empty/ 0"]


def test_the_files_of_the_outputs_are_listed_from_cache_and_registry(
    pantry: Pantry, open_pantry: Callable[..., Pantry], uri: CtxUri
) -> None:
    assert listed(pantry, uri) == OUTPUTS
    assert listed(pantry, uri, skip_cache=True) == listed(open_pantry("elsewhere"), uri) == OUTPUTS


def test_the_files_of_an_input_are_listed_from_cache_and_registry(
    pantry: Pantry, open_pantry: Callable[..., Pantry], uri: CtxUri
) -> None:
    assert listed(pantry, uri, input="raw_docs") == INPUTS
    assert listed(open_pantry("elsewhere"), uri, input="raw_docs") == INPUTS


def test_a_list_of_files_is_a_document(pantry: Pantry, uri: CtxUri) -> None:
    with pantry.list_files(uri) as files:
        document = files.as_json()
    entries = document.pop("entries")
    assert document == {
        "schema": "ctxpack/files/v1",
        "uri": uri,
        "found_in": pantry.cache.find(uri_digest(uri)),
        "input": None,
    }
    assert entries[0] == {"path": "deep/empty/", "size": 0, "digest": None, "executable": False}
    assert entries[3] == {"path": "tool", "size": 10, "digest": digest_of(b"#!/bin/sh\n"), "executable": True}
    with pantry.list_files(uri, input="raw_docs") as files:
        assert files.as_json()["input"] == "raw_docs"


def test_an_input_that_is_one_file_has_no_path(pantry: Pantry, project: Project) -> None:
    project.write_contract(inputs=[{"name": "doc", "path": "./raw_docs/a.txt"}])
    assert listed(pantry, pantry.seed([], str(project.contract)).uri, input="doc") == [" 5"]


@pytest.mark.parametrize("name", ["docs", "", "../raw_docs", "raw_docs/", "raw_docs.jsonl"])
def test_a_name_that_is_no_input_is_refused_with_the_names(pantry: Pantry, uri: CtxUri, name: str) -> None:
    with pytest.raises(InvalidInput, match="the pack has no such input: expected one of raw_docs, got ") as caught:
        listed(pantry, uri, input=name)
    assert caught.value.code == "E_USAGE"


def test_a_pack_that_does_not_list_an_input_says_so(
    pantry: Pantry, open_pantry: Callable[..., Pantry], project: Project
) -> None:
    project.write_contract(
        inputs=[{"name": "a", "digest": digest_of(b"x")}, {"name": "b", "path": "./raw_docs", "listing": False}]
    )
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    for name in "ab":
        for place in (pantry, open_pantry("elsewhere")):
            with pytest.raises(NotFound, match=f"the pack does not list the files of its input {name}"):
                listed(place, uri, input=name)


def test_only_the_chunks_of_the_listing_are_fetched(
    open_pantry: Callable[..., Pantry], pantry: Pantry, project: Project, registry: FaultyTarget
) -> None:
    (project.out / "joined").write_bytes(random.Random("large").randbytes(3_000_000))
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    before = registry.count("fetch")
    assert listed(open_pantry("elsewhere"), uri, input="raw_docs") == INPUTS
    assert registry.count("fetch") <= before + 2  # the first layer and the table; the listing is a range


def test_a_listing_that_lies_is_damage_before_its_last_entry(pantry: Pantry, uri: CtxUri) -> None:
    listing = Path(pantry.cache.find(uri_digest(uri)) or "", "inputs", "raw_docs.jsonl")
    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes().replace(b"a.txt", b"c.txt"))
    with pytest.raises(IntegrityError), pantry.list_files(uri, input="raw_docs") as files:
        list(files)
