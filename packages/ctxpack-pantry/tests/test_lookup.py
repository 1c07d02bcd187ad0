"""Locate, admit, open: a tag names the pack of its contract, or an error says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from pantry_context import context_of

from ctxpack_bundle import make_chunk
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, uri_digest
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, describe
from ctxpack_pantry import Pantry
from ctxpack_pantry.artifact import build_image_manifest, chunk_descriptor, content_size, describe_contract, tag_of
from ctxpack_pantry.lookup import OpenedPack, find, locate

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """The URI of a pack in the registry."""
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    return uri


@pytest.fixture
def forge(registry: FaultyTarget, uri: CtxUri) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Change the image manifest of the pack and let the tag name the result, as anybody with push access can do."""

    def change(by: Callable[[dict[str, Any]], object]) -> None:
        tagged = registry.layout.fetch_tag(tag_of(uri))
        assert tagged is not None
        document = json.loads(tagged.data)
        by(document)
        data = json.dumps(document).encode()
        forged = describe(data, IMAGE_MANIFEST_MEDIA_TYPE)
        registry.blob(forged.digest).write_bytes(data)
        registry.layout.tag(forged, tag_of(uri))

    return change


@pytest.fixture
def look_up(cache: Cache, registry: FaultyTarget) -> Callable[[CtxUri], OpenedPack]:
    """Find a pack in the registry."""

    def look(uri: CtxUri) -> OpenedPack:
        opened = find(context_of(cache, registry), uri)
        assert opened is not None
        return opened

    return look


LookUp = Callable[[CtxUri], OpenedPack]


def test_the_tag_is_never_one_that_registries_take_for_a_referrers_fallback() -> None:
    uri = CtxUri("ctx://sha256:" + "ab" * 32)
    assert tag_of(uri) == "ctx-" + "ab" * 32


def test_the_digest_of_the_config_is_that_in_the_uri(
    registry: FaultyTarget, uri: CtxUri, pantry: Pantry, look_up: LookUp
) -> None:
    opened = look_up(uri)
    image_manifest = opened.located.manifest
    assert image_manifest.config.digest == uri_digest(uri)
    assert image_manifest.config.media_type == "application/vnd.ctxpack.contract.v1+json"
    assert registry.fetch(image_manifest.config) == opened.manifest.contract_bytes
    assert image_manifest.artifact_type == "application/vnd.ctxpack.pack.v1"
    assert opened.manifest == pantry.inspect(uri).manifest


def test_layers_are_chunks_that_give_the_size_of_their_piece(uri: CtxUri, look_up: LookUp) -> None:
    located = look_up(uri).located
    assert {chunk.media_type for chunk in located.chunks} == {"application/vnd.ctxpack.chunk.v1.tar+gzip"}
    assert all(set(chunk.annotations) == {"dev.ctxpack.chunk.bytes"} for chunk in located.chunks)
    assert located.transfer_size == sum(chunk.size for chunk in located.chunks)
    chunk = make_chunk(b"words " * 100)
    assert content_size(chunk_descriptor(chunk), where="here") == 600


def test_the_same_chunks_make_the_same_image_manifest() -> None:
    chunks = [chunk_descriptor(make_chunk(b"one")), chunk_descriptor(make_chunk(b"two"))]
    assert build_image_manifest(b"{}", chunks) == build_image_manifest(b"{}", tuple(chunks))
    assert describe_contract(b"{}").size == 2


def test_locating_is_one_request_and_opening_is_another(registry: FaultyTarget, uri: CtxUri, look_up: LookUp) -> None:
    before = len(registry.calls)
    opened = look_up(uri)
    assert registry.calls[before:] == [("fetch_tag", tag_of(uri)), ("fetch", opened.located.chunks[0].digest)]


def test_no_tag_is_no_pack(cache: Cache, registry: FaultyTarget) -> None:
    nowhere = CtxUri("ctx://sha256:" + "0" * 64)
    assert locate(registry, nowhere) is None
    assert find(context_of(cache, registry), nowhere) is None


OTHER = "sha256:" + "0" * 64
ASK = "; another client wrote this tag; ask the people who can push to this repository"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda document: document.update(artifactType="application/x"),
            "not this contract's pack: artifactType: expected application/vnd.ctxpack.pack.v1, got application/x",
        ),
        (
            lambda document: document["config"].update(mediaType="application/x"),
            "not this contract's pack: config.mediaType: expected application/vnd.ctxpack.contract.v1+json, "
            "got application/x",
        ),
        (
            lambda document: document["config"].update(digest=OTHER),
            f"not this contract's pack: config.digest, the contract: expected {{contract}}, got {OTHER}",
        ),
        (
            lambda document: document["layers"].clear(),
            "not this contract's pack: layers: expected application/vnd.ctxpack.chunk.v1.tar+gzip, got none",
        ),
        (
            lambda document: document["layers"][-1].update(mediaType="application/x"),
            "not this contract's pack: layers: expected application/vnd.ctxpack.chunk.v1.tar+gzip, "
            "got application/vnd.ctxpack.chunk.v1.tar+gzip, application/x",
        ),
        (
            lambda document: document["layers"][0].update(digest=OTHER),
            f", {OTHER}: a chunk is missing; push the pack again",
        ),
        (
            lambda document: document["config"].update(size=1),
            "not this contract's pack: config.size, the contract: expected {size} bytes, got 1",
        ),
        (lambda document: document["layers"].reverse(), "first chunk, manifest.json: archive differs from its listing"),
    ],
)
def test_a_tag_of_anything_but_this_contracts_pack_is_refused_by_name(
    pantry: Pantry,
    uri: CtxUri,
    look_up: LookUp,
    forge: Callable[[Callable[[dict[str, Any]], object]], None],
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    size = len(pantry.inspect(uri).manifest.contract_bytes)
    forge(change)
    with pytest.raises(IntegrityError) as caught:
        look_up(uri)
    assert message.format(contract=uri_digest(uri), size=size) in str(caught.value)
    if "not this contract's pack" in message:
        assert (caught.value.where, caught.value.code) == (f"the registry:{tag_of(uri)}", "E_NOT_THE_PACK")
        assert str(caught.value).endswith(ASK)


@pytest.mark.parametrize("announced", [None, "", "-1", "1.5", "٣", "0x10", "1" * 12, "many"])
def test_a_chunk_without_a_valid_size_is_refused(
    uri: CtxUri,
    look_up: LookUp,
    forge: Callable[[Callable[[dict[str, Any]], object]], None],
    announced: str | None,
) -> None:
    annotations = {} if announced is None else {"dev.ctxpack.chunk.bytes": announced}
    forge(lambda document: document["layers"][0].update(annotations=annotations))
    with pytest.raises(IntegrityError) as caught:
        look_up(uri)
    assert "layer annotation dev.ctxpack.chunk.bytes: expected a number of bytes, got" in str(caught.value)
    assert str(caught.value).endswith("; the image manifest is damaged or was made by another tool")


def test_the_config_blob_is_not_needed_because_the_pack_manifest_repeats_the_contract(
    registry: FaultyTarget, uri: CtxUri, look_up: LookUp
) -> None:
    registry.blob(uri_digest(uri)).unlink()
    assert look_up(uri).manifest.uri == uri


def test_an_image_manifest_that_is_gone_is_damage_and_not_a_miss(
    registry: FaultyTarget, uri: CtxUri, look_up: LookUp
) -> None:
    registry.blob(look_up(uri).located.image).unlink()
    with pytest.raises(IntegrityError, match="missing") as caught:
        look_up(uri)
    assert caught.value.code == "E_INCOMPLETE"


def test_a_first_chunk_of_another_contract_with_the_right_config_is_refused(
    pantry: Pantry,
    project: Project,
    uri: CtxUri,
    look_up: LookUp,
    forge: Callable[[Callable[[dict[str, Any]], object]], None],
) -> None:
    project.write_contract(params={"other": True})
    other = pantry.seed([], str(project.contract)).uri
    pantry.push(other)
    first: Descriptor = look_up(other).located.chunks[0]
    layer = {
        "mediaType": first.media_type,
        "digest": first.digest,
        "size": first.size,
        "annotations": first.annotations,
    }
    forge(lambda document: document["layers"].__setitem__(0, layer))
    with pytest.raises(IntegrityError, match=f"pack of another contract: expected {uri}, got {other}{ASK}"):
        look_up(uri)
