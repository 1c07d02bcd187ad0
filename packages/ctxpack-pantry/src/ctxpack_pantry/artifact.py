"""A pack as an OCI artifact: media types, tags and descriptors. FORMAT.md of ctxpack-bundle, "On a registry".

The config blob is the canonical contract, so ``config.digest`` is the digest in the URI: a tag that names another
contract's pack is refused before any layer is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from ctxpack_bundle import FIRST_DATA_LAYER, MAX_LAYERS, PackManifest
from ctxpack_identity import CtxUri, Digest, IntegrityError, hex_of, uri_digest
from ctxpack_oci import Descriptor, ImageManifest, describe, encode_image_manifest
from ctxpack_pantry.annotations import annotations_of

__all__ = [
    "ANOTHER_CLIENT",
    "EMPTY",
    "EMPTY_DATA",
    "build_image_manifest",
    "check_shape",
    "describe_contract",
    "describe_layer",
    "describe_table",
    "not_the_pack",
    "tag_of",
]

ARTIFACT_TYPE = "application/vnd.ctxpack.pack.v1"
CONTRACT_MEDIA_TYPE = "application/vnd.ctxpack.contract.v1+json"
LAYER_MEDIA_TYPE = "application/vnd.ctxpack.layer.v1.tar+gzip"
TABLE_MEDIA_TYPE = "application/vnd.ctxpack.table.v1"
TITLE = "org.opencontainers.image.title"  # the name of the file that other tools make of a layer

EMPTY_DATA = b"{}"
EMPTY = describe(EMPTY_DATA, "application/vnd.oci.empty.v1+json")
"""The config of an artifact that has none (image-spec, "Guidance for an Empty Descriptor")."""

_TABLE = FIRST_DATA_LAYER - 1  # its index in `layers`

ANOTHER_CLIENT = (
    "another client wrote this tag; `ctxpack push --repair URI`, where the pack is cached, puts the pack there, and "
    "`ctxpack run --recompute` makes it"
)
"""The fix of an error: the tag names something that no ctxpack pushes under it."""


def tag_of(uri: CtxUri) -> str:
    """Return the tag of a pack: never ``sha256-<hex>``, which is the referrers fallback (distribution-spec)."""
    return f"ctx-{hex_of(uri_digest(uri))}"


def describe_contract(contract: bytes) -> Descriptor:
    """Return the descriptor of the config blob."""
    return describe(contract, CONTRACT_MEDIA_TYPE)


def describe_layer(digest: Digest, size: int) -> Descriptor:
    """Return the descriptor of a layer of chunks."""
    return Descriptor(media_type=LAYER_MEDIA_TYPE, digest=digest, size=size)


def describe_table(table: bytes) -> Descriptor:
    """Return the descriptor of a table, which is a layer."""
    return describe(table, TABLE_MEDIA_TYPE)


def build_image_manifest(pack: PackManifest, layers: Sequence[Descriptor]) -> bytes:
    """Return the image manifest of a pack. layers: that of the pack manifest, the table, and those of chunks."""
    titles = (f"{number:03}{'.table' if number == _TABLE else '.tar.gz'}" for number in range(len(layers)))
    # No data: a layer that is borrowed from another pack may have it.
    titled = (
        structs.replace(layer, annotations={TITLE: title}, data=b"")
        for layer, title in zip(layers, titles, strict=True)
    )
    return encode_image_manifest(
        ImageManifest(
            artifact_type=ARTIFACT_TYPE,
            config=describe_contract(pack.contract_bytes),
            layers=tuple(titled),
            annotations=annotations_of(pack),
        )
    )


def check_shape(manifest: ImageManifest, contract: Digest, *, where: str) -> None:
    """Check that manifest belongs to a pack of the contract with this digest. Raises: IntegrityError."""
    kinds = [layer.media_type for layer in manifest.layers]
    table = kinds.pop(_TABLE) if len(kinds) > _TABLE else "none"
    for member, expected, got in (
        ("artifactType", ARTIFACT_TYPE, manifest.artifact_type),
        ("config.mediaType", CONTRACT_MEDIA_TYPE, manifest.config.media_type),
        ("config.digest, the contract", contract, manifest.config.digest),
        (f"layers[{_TABLE}]", TABLE_MEDIA_TYPE, table),
        ("layers", LAYER_MEDIA_TYPE, ", ".join(sorted(set(kinds)))),
    ):
        if expected != got:
            raise not_the_pack(member, where, expected, got)
    if len(manifest.layers) > MAX_LAYERS:
        raise not_the_pack("layers", where, f"at most {MAX_LAYERS}", str(len(manifest.layers)))


def not_the_pack(member: str, where: str, expected: str, got: str) -> IntegrityError:
    """Return the error that says that an image manifest is not that of this contract's pack."""
    return IntegrityError(
        f"not this contract's pack: {member}",
        where=where,
        expected=expected,
        got=got,
        fix=ANOTHER_CLIENT,
        code="E_NOT_THE_PACK",
    )
