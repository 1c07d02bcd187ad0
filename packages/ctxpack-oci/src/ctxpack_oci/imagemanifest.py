"""The OCI image manifest: a config, its layers, and the type of the artifact (OCI image-spec, "Manifest")."""

from __future__ import annotations

import json
from collections import Counter
from typing import Literal, NoReturn

import msgspec

from ctxpack_identity.errors import IntegrityError
from ctxpack_oci.descriptor import MAX_BLOB_BYTES, REPAIR, Descriptor, check_bytes

__all__ = [
    "IMAGE_MANIFEST_MEDIA_TYPE",
    "INDEX_MEDIA_TYPE",
    "MANIFEST_KINDS",
    "MAX_IMAGE_MANIFEST_BYTES",
    "ImageManifest",
    "check_size",
    "encode_image_manifest",
    "is_manifest",
    "parse_image_manifest",
]

IMAGE_MANIFEST_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_MEDIA_TYPE = "application/vnd.oci.image.index.v1+json"
MAX_IMAGE_MANIFEST_BYTES = 4 * 1024 * 1024  # bytes; distribution and zot refuse more
_MAX_VALUES = 262_144  # members, elements and containers: a bound on what they become in memory

# Documents that a registry keeps under /manifests/, not /blobs/. Only the first is parsed here.
MANIFEST_KINDS = (
    IMAGE_MANIFEST_MEDIA_TYPE,
    INDEX_MEDIA_TYPE,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_REQUIRED = ("schemaVersion", "mediaType", "config", "layers")
_KNOWN = frozenset({*_REQUIRED, "artifactType", "annotations", "subject"})
# Another client can read a document with one of these as another kind of document (CVE-2021-41190).
_AMBIGUOUS = frozenset({"manifests", "fsLayers", "history", "signatures"})


class ImageManifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An image manifest. Read one with `parse_image_manifest` only, which checks the bytes too."""

    # A default_factory, because omit_defaults leaves a plain default out of the encoded document.
    schema_version: Literal[2] = msgspec.field(default_factory=lambda: 2)
    media_type: str = msgspec.field(default_factory=lambda: IMAGE_MANIFEST_MEDIA_TYPE)
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}


# At import, here and for every Struct that is decoded: two threads that are the first to decode one crash msgspec 0.22.
_decode = msgspec.json.Decoder(ImageManifest).decode


def is_manifest(media_type: str) -> bool:
    """Whether a registry keeps content of this type as a manifest, not as a blob."""
    return media_type in MANIFEST_KINDS


def check_size(descriptor: Descriptor, *, where: str) -> None:
    """Return if content of the size in descriptor may be read into memory.

    Raises: IntegrityError, above MAX_IMAGE_MANIFEST_BYTES for a manifest and MAX_BLOB_BYTES for a blob.
    """
    limit = MAX_IMAGE_MANIFEST_BYTES if is_manifest(descriptor.media_type) else MAX_BLOB_BYTES
    if descriptor.size > limit:
        raise IntegrityError(
            "too large", where=where, expected=f"at most {limit} bytes", got=str(descriptor.size), code="E_SIZE"
        )


def encode_image_manifest(manifest: ImageManifest) -> bytes:
    """Return manifest as compact JSON: the same bytes for equal manifests. `layers` is there even when empty."""
    return msgspec.json.encode(manifest, order="deterministic")


def parse_image_manifest(
    data: bytes, descriptor: Descriptor | None = None, *, where: str = "manifest"
) -> ImageManifest:
    """Return the image manifest in data, which must be the bytes that descriptor names if there is one.

    Raises: IntegrityError, naming the member, unless data is exactly one OCI image manifest: not an index, nor a
    document that two clients could read differently (repeated members, both `manifests` and `layers`, `Layers`).
    Other unknown members are ignored.
    """
    if len(data) > MAX_IMAGE_MANIFEST_BYTES:
        raise IntegrityError(
            "manifest is too large",
            where=where,
            expected=f"at most {MAX_IMAGE_MANIFEST_BYTES} bytes",
            got=str(len(data)),
        )
    if descriptor is not None:
        check_bytes(data, descriptor, where=where)
        _expect_media_type(descriptor.media_type, where=f"{where} descriptor")
    members = _members(data, where)
    _expect_unambiguous(members, where)
    _expect_media_type(members["mediaType"], where=f"{where} mediaType")
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"not an OCI image manifest: {error}", where=where, code="E_MANIFEST") from error


def _members(data: bytes, where: str) -> dict[str, object]:
    """The top-level members. Not by msgspec, which keeps the last of two equal names."""
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise IntegrityError("manifest holds too many values", where=where, code="E_MANIFEST")
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"not JSON: {error}", where=where, code="E_MANIFEST") from error
    if not isinstance(document, dict):
        raise IntegrityError(
            "not a manifest", where=where, expected="a JSON object", got=type(document).__name__, code="E_MANIFEST"
        )
    return document


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        [(repeated, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"member {repeated[:80]!r} is there twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _expect_unambiguous(members: dict[str, object], where: str) -> None:
    for name in members:
        # Some clients ignore the case of member names: for them, "Layers" is "layers".
        if name in _AMBIGUOUS or (name not in _KNOWN and name.lower() in {known.lower() for known in _KNOWN}):
            raise IntegrityError(
                "ambiguous manifest", where=f"{where} {name}", expected="no such member", code="E_MANIFEST"
            )
    for name in _REQUIRED:
        if name not in members:
            raise IntegrityError("missing member", where=f"{where} {name}", code="E_MANIFEST")


def _expect_media_type(media_type: object, *, where: str) -> None:
    if media_type != IMAGE_MANIFEST_MEDIA_TYPE:
        raise IntegrityError(
            "wrong media type",
            where=where,
            expected=IMAGE_MANIFEST_MEDIA_TYPE,
            got=str(media_type)[:120],
            fix=f"this tag or digest does not name a pack; {REPAIR}",
            code="E_MANIFEST",
        )
