"""Locate, admit, open: a tag names the pack of its contract, or an error says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from pantry_context import context_of
from pantry_image import bare_pack, image_of, record_of, republish

from ctxpack_bundle import Record, make_chunk
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, IntegrityError, NotFound, digest_of, uri_digest
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, describe, parse_image_manifest
from ctxpack_pantry import Pantry
from ctxpack_pantry.artifact import (
    ANOTHER_CLIENT,
    build_image_manifest,
    describe_contract,
    describe_layer,
    describe_table,
    tag_of,
)
from ctxpack_pantry.lookup import OpenedPack, locate, open_pack, open_table, require_found

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
    """Locate, admit and open a pack in the registry."""
    return lambda uri: open_pack(registry, require_found(context_of(cache, registry), uri))


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


def test_layers_are_the_pack_manifest_the_table_and_runs_of_chunks(
    registry: FaultyTarget, uri: CtxUri, look_up: LookUp
) -> None:
    located = look_up(uri).located
    first, table, *others = located.layers
    assert {layer.media_type for layer in (first, *others)} == {"application/vnd.ctxpack.layer.v1.tar+gzip"}
    assert table.media_type == "application/vnd.ctxpack.table.v1"
    titles = [layer.annotations for layer in located.layers]
    assert titles == [{"org.opencontainers.image.title": name} for name in ("000.tar.gz", "001.table", "002.tar.gz")]
    assert located.transfer_size == sum(layer.size for layer in located.layers)
    assert list(open_table(registry, located)) == list(image_of(registry, uri).table)


def test_the_same_layers_make_the_same_image_manifest() -> None:
    first, last = (describe_layer(digest_of(chunk), len(chunk)) for chunk in (make_chunk(b"one"), make_chunk(b"two")))
    layers = [first, describe_table(b"CTXTABLE"), last]
    pack = bare_pack()
    assert build_image_manifest(pack, layers) == build_image_manifest(pack, tuple(layers))
    assert describe_contract(b"{}").size == 2


def test_layers_of_one_image_have_unique_titles() -> None:
    """Other tools name the files that they write after them, also for two layers of one content."""
    layer = describe_layer(digest_of(b"one"), 3)
    image = parse_image_manifest(build_image_manifest(bare_pack(), [layer] * 480))
    titles = [layer.annotations["org.opencontainers.image.title"] for layer in image.layers]
    assert len(set(titles)) == 480
    assert titles == sorted(titles)


def test_each_step_is_one_request(registry: FaultyTarget, uri: CtxUri, look_up: LookUp) -> None:
    before = len(registry.calls)
    located = look_up(uri).located
    open_table(registry, located)
    first, table, *_ = located.layers
    assert registry.calls[before:] == [
        ("fetch_tag", tag_of(uri)),
        ("fetch", first.digest),
        ("fetch", table.digest),
    ]


def test_no_tag_is_no_pack(cache: Cache, registry: FaultyTarget) -> None:
    nowhere = CtxUri("ctx://sha256:" + "0" * 64)
    assert locate(registry, nowhere) is None
    with pytest.raises(NotFound, match=f"the registry: no such pack: {nowhere}"):
        require_found(context_of(cache, registry), nowhere)


OTHER = "sha256:" + "0" * 64
ASK = f"; {ANOTHER_CLIENT}"


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
            "not this contract's pack: layers[1]: expected application/vnd.ctxpack.table.v1, got none",
        ),
        (
            lambda document: document["layers"].pop(1),
            "not this contract's pack: layers[1]: expected application/vnd.ctxpack.table.v1, "
            "got application/vnd.ctxpack.layer.v1.tar+gzip",
        ),
        (
            lambda document: document["layers"].pop(0),
            "not this contract's pack: layers[1]: expected application/vnd.ctxpack.table.v1, "
            "got application/vnd.ctxpack.layer.v1.tar+gzip",
        ),
        (
            lambda document: document["layers"].append(document["layers"][1]),
            "not this contract's pack: layers: expected application/vnd.ctxpack.layer.v1.tar+gzip, "
            "got application/vnd.ctxpack.layer.v1.tar+gzip, application/vnd.ctxpack.table.v1",
        ),
        (
            lambda document: document["layers"][-1].update(mediaType="application/x"),
            "not this contract's pack: layers: expected application/vnd.ctxpack.layer.v1.tar+gzip, "
            "got application/vnd.ctxpack.layer.v1.tar+gzip, application/x",
        ),
        (
            lambda document: document["layers"][0].update(mediaType="application/x"),
            "not this contract's pack: layers: expected application/vnd.ctxpack.layer.v1.tar+gzip, "
            "got application/vnd.ctxpack.layer.v1.tar+gzip, application/x",
        ),
        (
            lambda document: document["layers"].extend([document["layers"][2]] * 478),
            "not this contract's pack: layers: expected at most 480, got 481",
        ),
        (
            lambda document: document["layers"][0].update(digest=OTHER),
            f", layer 0, {OTHER}: a layer is missing; `ctxpack push --repair ctx://{{contract}}` heals it from a cache "
            "that has the pack; `ctxpack run --recompute` makes the pack anew",
        ),
        (
            lambda document: document["config"].update(size=1),
            "not this contract's pack: config.size, the contract: expected {size} bytes, got 1",
        ),
        (lambda document: document["layers"].reverse(), "first layer"),
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


def test_as_many_layers_as_the_format_allows_are_accepted(
    uri: CtxUri, look_up: LookUp, forge: Callable[[Callable[[dict[str, Any]], object]], None]
) -> None:
    forge(lambda document: document["layers"].extend([document["layers"][2]] * 477))
    assert len(look_up(uri).located.layers) == 480


def flip(number: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:number] + bytes([data[number] ^ 1]) + data[number + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: b"", "size of the table: expected 16 to 33554432 bytes, got 0"),
        (flip(0), "not a table of this version"),
        (flip(11), "not a table of this version"),
        (flip(15), "size of the table"),
        (lambda table: table[:-1], "size of the table"),
        (lambda table: table + b"0", "size of the table"),
    ],
    ids=["nothing", "magic", "version", "count", "cut short", "longer"],
)
def test_a_layer_that_is_no_table_is_refused(
    cache: Cache,
    registry: FaultyTarget,
    uri: CtxUri,
    change: Callable[[bytes], bytes],
    message: str,
) -> None:
    image = image_of(registry, uri)
    republish(registry, uri, image.layers[2:], change(image.layer(1)))
    located = require_found(context_of(cache, registry), uri)
    with pytest.raises(IntegrityError, match=message) as caught:
        open_table(registry, located)
    assert caught.value.code == "E_TABLE"
    assert caught.value.where == f"the registry:{tag_of(uri)}, table"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record._replace(size=0), "record 1: size of the piece: expected 1 to 1048576 bytes, got 0"),
        (
            lambda record: record._replace(size=(1 << 20) + 1),
            "record 1: size of the piece: expected 1 to 1048576 bytes, got 1048577",
        ),
        (
            lambda record: record._replace(chunk_size=0),
            "record 1: size of the chunk: expected 1 to 1114112 bytes, got 0",
        ),
        (
            lambda record: record._replace(chunk_size=1 << 24),
            "size of the chunk: expected 1 to 1114112 bytes, got 16777216",
        ),
        (lambda record: record._replace(layer=0), "record 1: layer: expected 2 to 2, got 0"),
        (lambda record: record._replace(layer=1), "record 1: layer: expected 2 to 2, got 1"),
        (lambda record: record._replace(layer=3), "record 1: layer: expected 2 to 2, got 3"),
        (lambda record: record._replace(offset=1 << 40), "record 1: end of the chunk: expected within"),
        (lambda record: record._replace(offset=record.offset - 1), "chunks of layer 2 overlap"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused_by_name(
    cache: Cache, registry: FaultyTarget, uri: CtxUri, change: Callable[[Record], Record], message: str
) -> None:
    image = image_of(registry, uri)
    first, second, *others = image.table
    republish(registry, uri, image.layers[2:], [first, change(second), *others])
    with pytest.raises(IntegrityError, match=message) as caught:
        open_table(registry, require_found(context_of(cache, registry), uri))
    assert caught.value.code == "E_TABLE"


def test_a_table_that_keeps_too_many_layers_in_use_is_refused(
    cache: Cache, registry: FaultyTarget, uri: CtxUri
) -> None:
    chunks = [make_chunk(b"%02d" % number) for number in range(17)]
    records = [record_of(b"%02d" % number, chunk, 2 + number, 0) for number, chunk in enumerate(chunks)]
    for layers in (16, 17):
        republish(registry, uri, chunks[:layers], records[:layers] * 2)
        located = require_found(context_of(cache, registry), uri)
        if layers == 16:
            assert len(open_table(registry, located)) == 32
        else:
            with pytest.raises(IntegrityError, match="too many layers in use at once: expected at most 16, got 17"):
                open_table(registry, located)


def test_a_table_that_is_missing_is_damage_and_not_a_miss(cache: Cache, registry: FaultyTarget, uri: CtxUri) -> None:
    located = require_found(context_of(cache, registry), uri)
    registry.blob(located.layers[1].digest).unlink()
    with pytest.raises(IntegrityError, match=f"layer 1, {located.layers[1].digest}: a layer is missing") as caught:
        open_table(registry, located)
    assert caught.value.code == "E_INCOMPLETE"


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


def test_a_first_layer_of_another_contract_with_the_right_config_is_refused(
    pantry: Pantry,
    project: Project,
    uri: CtxUri,
    look_up: LookUp,
    forge: Callable[[Callable[[dict[str, Any]], object]], None],
) -> None:
    project.write_contract(params={"other": True})
    other = pantry.seed([], str(project.contract)).uri
    pantry.push(other)
    first = look_up(other).located.layers[0]
    forge(lambda document: document["layers"][0].update(digest=first.digest, size=first.size))
    with pytest.raises(IntegrityError, match=f"pack of another contract: expected {uri}, got {other}{ASK}"):
        look_up(uri)
