"""What made a pack and what it holds, without fetching its outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_identity import CtxUri, IntegrityError, NotFound, digest_of, uri_digest
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
