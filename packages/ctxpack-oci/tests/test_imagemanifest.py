"""Which bytes are an image manifest."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_identity.errors import IntegrityError
from ctxpack_oci import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    Descriptor,
    ImageManifest,
    describe,
    embedded,
    encode_image_manifest,
    imagemanifest,
    parse_image_manifest,
)
from ctxpack_oci.imagemanifest import INDEX_MEDIA_TYPE, MAX_IMAGE_MANIFEST_BYTES, check_size, is_manifest

CONFIG = describe(b"{}", "application/vnd.ctxpack.contract.v1+json")
LAYER = describe(b"chunk", "application/vnd.ctxpack.chunk.v1.tar+gzip", annotations={"dev.ctxpack.chunk.bytes": "9"})
MANIFEST = ImageManifest(artifact_type="application/vnd.ctxpack.pack.v1", config=CONFIG, layers=(LAYER,))

GOLDEN = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
    b'"artifactType":"application/vnd.ctxpack.pack.v1",'
    b'"config":{"mediaType":"application/vnd.ctxpack.contract.v1+json",'
    b'"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},'
    b'"layers":[{"mediaType":"application/vnd.ctxpack.chunk.v1.tar+gzip",'
    b'"digest":"sha256:6c87f68371b28954707ebb92afee7ccffb74c6f71ec8fea8a98cf6104289585b","size":5,'
    b'"annotations":{"dev.ctxpack.chunk.bytes":"9"}}]}'
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
media_types = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
notes = st.dictionaries(text, text, max_size=4)
descriptors = st.builds(
    Descriptor,
    media_type=media_types,
    digest=st.binary(min_size=32, max_size=32).map(lambda raw: "sha256:" + raw.hex()),
    size=st.integers(0, 2**62),
    annotations=notes,
    artifact_type=text,
)
manifests = st.builds(
    ImageManifest,
    artifact_type=text,
    config=descriptors,
    layers=st.lists(descriptors, max_size=4).map(tuple),
    subject=st.none() | descriptors,
    annotations=notes,
)


def changed(**members: Any) -> bytes:
    document = json.loads(GOLDEN) | members
    return json.dumps({name: value for name, value in document.items() if value is not ...}).encode()


def test_the_encoded_form_is_fixed() -> None:
    assert encode_image_manifest(MANIFEST) == GOLDEN
    assert parse_image_manifest(GOLDEN) == MANIFEST


def test_the_order_of_annotations_does_not_change_the_encoded_form() -> None:
    one = msgspec.structs.replace(MANIFEST, annotations={"a": "1", "b": "2"})
    other = msgspec.structs.replace(MANIFEST, annotations={"b": "2", "a": "1"})
    assert encode_image_manifest(one) == encode_image_manifest(other)


@given(manifests)
def test_parse_is_the_inverse_of_encode(manifest: ImageManifest) -> None:
    data = encode_image_manifest(manifest)
    assert parse_image_manifest(data, describe(data, IMAGE_MANIFEST_MEDIA_TYPE)) == manifest


@given(descriptors)
def test_a_descriptor_is_decoded_as_it_was_encoded(descriptor: Descriptor) -> None:
    assert msgspec.json.decode(msgspec.json.encode(descriptor), type=Descriptor) == descriptor


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | text, st.lists).map(msgspec.json.encode))
def test_arbitrary_bytes_only_raise_our_error(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        parse_image_manifest(data)


@given(st.integers(0, len(GOLDEN) - 1), st.integers(0, 255))
def test_one_changed_byte_raises_no_other_exception(at: int, byte: int) -> None:
    data = GOLDEN[:at] + bytes([byte]) + GOLDEN[at + 1 :]
    with contextlib.suppress(IntegrityError):
        parse_image_manifest(data)
    if data != GOLDEN:
        with pytest.raises(IntegrityError, match="digest differs"):
            parse_image_manifest(data, describe(GOLDEN, IMAGE_MANIFEST_MEDIA_TYPE))


@pytest.mark.parametrize("missing", ["schemaVersion", "mediaType", "config", "layers"])
def test_a_missing_member_is_named(missing: str) -> None:
    with pytest.raises(IntegrityError, match=f"^manifest {missing}: missing member"):
        parse_image_manifest(changed(**{missing: ...}))


@pytest.mark.parametrize("name", ["manifests", "fsLayers", "history", "signatures", "Layers", "MEDIATYPE", "Config"])
def test_an_ambiguous_member_is_named(name: str) -> None:
    with pytest.raises(IntegrityError, match=f"^manifest {name}: ambiguous manifest"):
        parse_image_manifest(changed(**{name: []}))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(schemaVersion=1), r"`\$.schemaVersion`"),
        (changed(schemaVersion="2"), r"`\$.schemaVersion`"),
        (changed(config=None), r"`\$.config`"),
        (changed(layers=[{"mediaType": "a/b", "size": 1}]), r"missing required field `digest` - at `\$.layers\[0\]`"),
        (changed(layers={}), r"`\$.layers`"),
        (changed(annotations={"a": 1}), r"`\$.annotations\[...\]`"),
        (changed(config={"mediaType": "a", "digest": "sha256:" + "A" * 64, "size": 1}), r"`\$.config.digest`"),
        (changed(config={"mediaType": "a", "digest": "sha512:" + "a" * 128, "size": 1}), r"`\$.config.digest`"),
        (changed(config={"mediaType": "a", "digest": CONFIG.digest, "size": -1}), r"`\$.config.size`"),
        (changed(config={"mediaType": "a", "digest": CONFIG.digest, "size": 1.5}), r"`\$.config.size`"),
        (
            changed(mediaType=INDEX_MEDIA_TYPE),
            r"mediaType: wrong media type: expected .*manifest.v1\+json, got .*index",
        ),
        (GOLDEN[:-1] + b',"layers":[]}', "member 'layers' is there twice"),
        (GOLDEN.replace(b'"size":2', b'"size":2,"size":3'), "member 'size' is there twice"),
        (GOLDEN + b"{}", "not JSON: Extra data"),
        (b"\xef\xbb\xbf" + GOLDEN, "not JSON"),
        (GOLDEN.decode().encode("utf-16"), "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (changed(extra="@").replace(b'"@"', b"[" * 200_000 + b"]" * 200_000), "not JSON"),
        (changed(annotations="@").replace(b'"@"', b'{"a":"\\ud800"}'), "not an OCI image manifest"),
        (changed(extra="@").replace(b'"@"', b"NaN"), "NaN is no JSON number"),
        (b"null", "expected a JSON object, got NoneType"),
        (b" " * (MAX_IMAGE_MANIFEST_BYTES + 1), "manifest is too large: expected at most 4194304 bytes"),
    ],
)
def test_what_is_not_a_manifest(data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        parse_image_manifest(data)


class Name(str):
    """A text that counts comparisons."""

    __hash__ = str.__hash__
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return super().__eq__(other)


def test_a_repeated_member_is_found_without_comparing_all_with_all() -> None:
    pairs: list[tuple[str, object]] = [(Name(number), None) for number in (*range(1000), 999)]
    with pytest.raises(ValueError, match=r"^member '999' is there twice$"):
        imagemanifest._without_repeats(pairs)
    assert 0 < Name.compared < 10 * len(pairs)


def test_unknown_members_and_urls_are_ignored() -> None:
    layer = json.loads(msgspec.json.encode(LAYER)) | {"urls": ["http://evil.example/"]}
    assert parse_image_manifest(changed(layers=[layer], extra=[1], annotations={})) == MANIFEST


def test_embedded_data_that_is_not_what_the_descriptor_says_is_none() -> None:
    layer = json.loads(msgspec.json.encode(LAYER)) | {"data": "AAAA"}
    [parsed] = parse_image_manifest(changed(layers=[layer])).layers
    assert embedded(parsed) is None
    assert msgspec.structs.replace(parsed, data=b"") == LAYER


def test_bytes_are_compared_with_their_descriptor() -> None:
    with pytest.raises(IntegrityError, match="tag x: size differs: expected 5 bytes, got"):
        parse_image_manifest(GOLDEN, describe(b"other", IMAGE_MANIFEST_MEDIA_TYPE), where="tag x")
    with pytest.raises(IntegrityError, match=r"descriptor: wrong media type: expected .*manifest.v1\+json, got a/b"):
        parse_image_manifest(GOLDEN, describe(GOLDEN, "a/b"))


def test_the_size_limit_depends_on_the_media_type() -> None:
    assert is_manifest(INDEX_MEDIA_TYPE)
    assert not is_manifest("application/json")
    check_size(msgspec.structs.replace(LAYER, size=32 * 2**20), where="x")
    with pytest.raises(IntegrityError, match=r"^x: too large: expected at most 33554432 bytes, got 33554433$"):
        check_size(msgspec.structs.replace(LAYER, size=32 * 2**20 + 1), where="x")
