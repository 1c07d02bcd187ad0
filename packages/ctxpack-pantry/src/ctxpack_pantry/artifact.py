"""A pack as an OCI artifact: media types, tags and descriptors. FORMAT.md of ctxpack-bundle, "On a registry".

The config blob is the canonical contract, so ``config.digest`` is the digest in the URI: a tag that names another
contract's pack is refused before any layer is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence

from ctxpack_bundle import Chunk
from ctxpack_identity import CtxUri, Digest, IntegrityError, hex_of, uri_digest
from ctxpack_oci import Descriptor, ImageManifest, describe, encode_image_manifest

__all__ = [
    "ANOTHER_CLIENT",
    "build_image_manifest",
    "check_shape",
    "chunk_descriptor",
    "content_size",
    "describe_contract",
    "not_the_pack",
    "tag_of",
]

ARTIFACT_TYPE = "application/vnd.ctxpack.pack.v1"
CONTRACT_MEDIA_TYPE = "application/vnd.ctxpack.contract.v1+json"
CHUNK_MEDIA_TYPE = "application/vnd.ctxpack.chunk.v1.tar+gzip"
CONTENT_SIZE = "dev.ctxpack.chunk.bytes"

ANOTHER_CLIENT = "another client wrote this tag; ask the people who can push to this repository"
"""The fix of an error: the tag names something that no ctxpack pushes under it."""


def tag_of(uri: CtxUri) -> str:
    """Return the tag of a pack: never ``sha256-<hex>``, which is the referrers fallback (distribution-spec)."""
    return f"ctx-{hex_of(uri_digest(uri))}"


def describe_contract(contract: bytes) -> Descriptor:
    """Return the descriptor of the config blob."""
    return describe(contract, CONTRACT_MEDIA_TYPE)


def chunk_descriptor(chunk: Chunk) -> Descriptor:
    """Return the descriptor of a chunk, which is a layer."""
    return Descriptor(
        media_type=CHUNK_MEDIA_TYPE,
        digest=chunk.digest,
        size=len(chunk.data),
        annotations={CONTENT_SIZE: str(chunk.content_size)},
    )


def content_size(chunk: Descriptor, *, where: str) -> int:
    """Return the size (bytes) of a chunk's piece. Raises: IntegrityError when the annotation does not give it."""
    value = chunk.annotations.get(CONTENT_SIZE, "")
    if not (value.isascii() and value.isdigit() and len(value) < 12):
        raise IntegrityError(
            f"layer annotation {CONTENT_SIZE}",
            where=where,
            expected="a number of bytes",
            got=repr(value)[:60],
            fix="the image manifest is damaged or was made by another tool",
        )
    return int(value)


def build_image_manifest(contract: bytes, chunks: Sequence[Descriptor]) -> bytes:
    """Return the image manifest of a pack."""
    return encode_image_manifest(
        ImageManifest(artifact_type=ARTIFACT_TYPE, config=describe_contract(contract), layers=tuple(chunks))
    )


def check_shape(manifest: ImageManifest, contract: Digest, *, where: str) -> None:
    """Check that manifest belongs to a pack of the contract with this digest. Raises: IntegrityError."""
    kinds = {layer.media_type for layer in manifest.layers}
    for member, expected, got in (
        ("artifactType", ARTIFACT_TYPE, manifest.artifact_type),
        ("config.mediaType", CONTRACT_MEDIA_TYPE, manifest.config.media_type),
        ("config.digest, the contract", contract, manifest.config.digest),
        ("layers", CHUNK_MEDIA_TYPE, ", ".join(sorted(kinds)) or "none"),
    ):
        if expected != got:
            raise not_the_pack(member, where, expected, got)


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
