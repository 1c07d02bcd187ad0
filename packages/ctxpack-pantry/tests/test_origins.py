"""The image manifest of a cached pack is known for each repository, and only for the pack that the cache has."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, digest_of, uri_digest
from ctxpack_pantry import Pantry
from ctxpack_pantry.lookup import locate
from ctxpack_pantry.origins import Origins

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack in the cache that was not pushed."""
    return pantry.seed([], str(project.contract)).uri


@pytest.fixture
def folder(cache: Cache, uri: CtxUri) -> str:
    """The folder of that pack."""
    found = cache.find(uri_digest(uri))
    assert found is not None
    return found


def test_an_image_manifest_is_found_only_for_the_repository_of_its_note(cache: Cache, uri: CtxUri, folder: str) -> None:
    origins = Origins(cache)
    origins.record(uri, "one", digest_of(Path(folder, "manifest.json").read_bytes()), b'{"line": "\n"}')
    assert origins.image_manifest(uri, "one", folder) == b'{"line": "\n"}'
    assert origins.image(uri, "one", folder) == digest_of(b'{"line": "\n"}')
    assert origins.image_manifest(uri, "other", folder) is None


def test_a_push_and_a_pull_record_the_image_manifest_of_the_registry(
    pantry: Pantry, registry: FaultyTarget, uri: CtxUri, folder: str
) -> None:
    assert Origins(pantry.cache).image_manifest(uri, registry.name, folder) is None
    pantry.push(uri)
    located = locate(registry, uri)
    assert located is not None
    assert Origins(pantry.cache).image_manifest(uri, registry.name, folder) == located.data
    pantry.remove(uri)
    pantry.pull(uri)
    assert Origins(pantry.cache).image_manifest(uri, registry.name, folder) == located.data


def test_an_image_manifest_of_another_pack_manifest_is_ignored(cache: Cache, uri: CtxUri, folder: str) -> None:
    Origins(cache).record(uri, "one", digest_of(b"other outputs"), b"{}")
    assert Origins(cache).image_manifest(uri, "one", folder) is None


@pytest.mark.parametrize("note", [b"", b"{}", b"\xff\xfe\n{}", b"x" * (5 << 20)])
def test_a_damaged_note_is_ignored(cache: Cache, uri: CtxUri, folder: str, note: bytes) -> None:
    Origins(cache).record(uri, "one", digest_of(Path(folder, "manifest.json").read_bytes()), b"{}")
    [path] = Path(cache.side("origins")).glob("*/*")
    path.write_bytes(note)
    assert Origins(cache).image_manifest(uri, "one", folder) is None


def test_a_removed_pack_is_forgotten(pantry: Pantry, cache: Cache, uri: CtxUri) -> None:
    pantry.push(uri)
    assert os.listdir(cache.side("origins"))
    pantry.remove(uri)
    assert os.listdir(cache.side("origins")) == []


def test_a_second_push_costs_one_request(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    """The registry has the image manifest that this cache sent, so no layer is fetched."""
    pantry.push(uri)
    before = len(registry.calls)
    assert not pantry.push(uri).new
    assert [call.method for call in registry.calls[before:]] == ["fetch_tag"]


def test_the_image_manifest_of_another_pack_with_the_same_outputs_is_not_recorded(
    pantry: Pantry,
    open_pantry: Callable[..., Pantry],
    project: Project,
    registry: FaultyTarget,
    uri: CtxUri,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its provenance, and the modes of its files, may be others."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    other = open_pantry("other")
    other.seed([], str(project.contract))
    other.push(uri)
    assert not pantry.push(uri).new
    assert Origins(pantry.cache).image_manifest(uri, registry.name, folder) is None


def test_a_second_push_without_the_note_opens_the_pack(pantry: Pantry, registry: FaultyTarget, uri: CtxUri) -> None:
    pantry.push(uri)
    Origins(pantry.cache).forget(uri)
    before = len(registry.calls)
    assert not pantry.push(uri).new
    assert [call.method for call in registry.calls[before:]] == ["fetch_tag", "fetch", "resolve_tag"]
