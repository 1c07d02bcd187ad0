"""A pack as an OCI artifact: what is served under its tag is it, or is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from ctxpack_bundle import make_chunk
from ctxpack_identity import CtxUri, IntegrityError, uri_digest
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, describe
from ctxpack_pantry import Pantry
from ctxpack_pantry.artifact import (
    Located,
    build_artifact,
    chunk_descriptor,
    content_size,
    describe_contract,
    locate,
    tag_of,
)

if TYPE_CHECKING:
    from pantry_project import Project
    from pantry_target import FaultyTarget


@pytest.fixture
def uri(pantry: Pantry, project: Project) -> CtxUri:
    """Of a pack in the registry."""
    uri = pantry.seed([], str(project.contract)).uri
    pantry.push(uri)
    return uri


@pytest.fixture
def forge(registry: FaultyTarget, uri: CtxUri) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Change the OCI manifest of the pack and let the tag name the result, as whoever may push can do."""

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


def found(registry: FaultyTarget, uri: CtxUri) -> Located:
    artifact = locate(registry, uri)
    assert artifact is not None
    return artifact


def test_the_tag_is_never_one_that_registries_take_for_a_referrers_fallback() -> None:
    uri = CtxUri("ctx://sha256:" + "ab" * 32)
    assert tag_of(uri) == "ctx-" + "ab" * 32


def test_the_digest_of_the_config_is_that_in_the_uri(registry: FaultyTarget, uri: CtxUri, pantry: Pantry) -> None:
    artifact = found(registry, uri)
    assert artifact.manifest.config.digest == uri_digest(uri)
    assert artifact.manifest.config.media_type == "application/vnd.ctxpack.contract.v1+json"
    assert registry.fetch(artifact.manifest.config) == artifact.pack.contract_bytes
    assert artifact.manifest.artifact_type == "application/vnd.ctxpack.pack.v1"
    assert artifact.pack == pantry.inspect(uri).manifest


def test_layers_are_chunks_that_say_what_they_unpack_to(registry: FaultyTarget, uri: CtxUri) -> None:
    artifact = found(registry, uri)
    assert {chunk.media_type for chunk in artifact.chunks} == {"application/vnd.ctxpack.chunk.v1.tar+gzip"}
    assert all(set(chunk.annotations) == {"dev.ctxpack.chunk.bytes"} for chunk in artifact.chunks)
    assert artifact.transfer_size == sum(chunk.size for chunk in artifact.chunks)
    chunk = make_chunk(b"words " * 100)
    assert content_size(chunk_descriptor(chunk), where="here") == 600


def test_the_same_chunks_make_the_same_manifest() -> None:
    chunks = [chunk_descriptor(make_chunk(b"one")), chunk_descriptor(make_chunk(b"two"))]
    assert build_artifact(b"{}", chunks) == build_artifact(b"{}", tuple(chunks))
    assert describe_contract(b"{}").size == 2


def test_looking_fetches_the_manifest_the_contract_and_the_first_chunk(registry: FaultyTarget, uri: CtxUri) -> None:
    before = registry.count("fetch")
    artifact = found(registry, uri)
    assert registry.calls[before:] == [
        ("fetch_tag", tag_of(uri)),
        ("fetch", uri_digest(uri)),
        ("fetch", artifact.chunks[0].digest),
    ]


def test_no_tag_is_no_pack(registry: FaultyTarget) -> None:
    assert locate(registry, CtxUri("ctx://sha256:" + "0" * 64)) is None


OTHER = "sha256:" + "0" * 64


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
            f"{OTHER} is missing; push the pack again",
        ),
        (lambda document: document["config"].update(size=1), "size differs: expected 1 bytes"),
        (lambda document: document["layers"].reverse(), "first chunk, manifest.json: archive differs from its listing"),
    ],
)
def test_what_is_not_this_contracts_pack_is_refused_by_name(
    registry: FaultyTarget,
    uri: CtxUri,
    forge: Callable[[Callable[[dict[str, Any]], object]], None],
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    forge(change)
    with pytest.raises(IntegrityError) as caught:
        locate(registry, uri)
    assert message.format(contract=uri_digest(uri)) in str(caught.value)
    if "not this contract's pack" in message:
        assert (caught.value.where, caught.value.code) == (f"the registry:{tag_of(uri)}", "E_NOT_THE_PACK")


@pytest.mark.parametrize("said", [None, "", "-1", "1.5", "٣", "0x10", "1" * 12, "many"])
def test_a_chunk_that_does_not_say_its_size_is_refused(
    registry: FaultyTarget,
    uri: CtxUri,
    forge: Callable[[Callable[[dict[str, Any]], object]], None],
    said: str | None,
) -> None:
    annotations = {} if said is None else {"dev.ctxpack.chunk.bytes": said}
    forge(lambda document: document["layers"][0].update(annotations=annotations))
    with pytest.raises(IntegrityError) as caught:
        locate(registry, uri)
    assert "layer annotation dev.ctxpack.chunk.bytes: expected a number of bytes, got" in str(caught.value)


def test_the_contract_is_fetched_and_checked_although_the_first_chunk_repeats_it(
    registry: FaultyTarget, uri: CtxUri
) -> None:
    registry.flip(uri_digest(uri), 5)
    with pytest.raises(IntegrityError, match="digest differs"):
        locate(registry, uri)


def test_a_config_that_is_gone_is_damage_and_not_a_miss(registry: FaultyTarget, uri: CtxUri) -> None:
    registry.blob(uri_digest(uri)).unlink()
    with pytest.raises(IntegrityError, match="is missing; push the pack again") as caught:
        locate(registry, uri)
    assert caught.value.code == "E_INCOMPLETE"


def test_a_first_chunk_of_another_contract_under_a_true_config_is_refused(
    pantry: Pantry,
    project: Project,
    registry: FaultyTarget,
    uri: CtxUri,
    forge: Callable[[Callable[[dict[str, Any]], object]], None],
) -> None:
    project.write_contract(params={"other": True})
    other = pantry.seed([], str(project.contract)).uri
    pantry.push(other)
    stranger: Descriptor = found(registry, other).chunks[0]
    layer = {
        "mediaType": stranger.media_type,
        "digest": stranger.digest,
        "size": stranger.size,
        "annotations": stranger.annotations,
    }
    forge(lambda document: document["layers"].__setitem__(0, layer))
    with pytest.raises(IntegrityError, match=f"pack of another contract: expected {uri}, got {other}"):
        locate(registry, uri)
