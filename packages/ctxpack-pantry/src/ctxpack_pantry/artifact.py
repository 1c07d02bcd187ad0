"""A pack as an OCI artifact. FORMAT.md of ctxpack-bundle, "On a registry".

The config blob is the canonical contract, so ``config.digest`` is the digest in the URI: a tag that serves another
contract's pack is caught before any layer moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ctxpack_bundle import Chunk, PackManifest, inflate_chunk, pack_manifest_of
from ctxpack_identity import CtxUri, Digest, IntegrityError, NotFound, uri_digest
from ctxpack_oci import (
    Descriptor,
    ImageManifest,
    TaggedManifest,
    Target,
    describe,
    encode_image_manifest,
    parse_image_manifest,
)

__all__ = [
    "Artifact",
    "build_artifact",
    "chunk_descriptor",
    "content_size",
    "describe_contract",
    "find_artifact",
    "tag_of",
]

ARTIFACT_TYPE = "application/vnd.ctxpack.pack.v1"
CONTRACT_MEDIA_TYPE = "application/vnd.ctxpack.contract.v1+json"
CHUNK_MEDIA_TYPE = "application/vnd.ctxpack.chunk.v1.tar+gzip"
CONTENT_SIZE = "dev.ctxpack.chunk.bytes"


class Artifact(NamedTuple):
    """A pack found in a target. descriptor: of the OCI manifest; pack: what its first layer says it is."""

    descriptor: Descriptor
    manifest: ImageManifest
    pack: PackManifest

    @property
    def chunks(self) -> tuple[Descriptor, ...]:
        return self.manifest.layers

    @property
    def transfer_size(self) -> int:
        """Bytes of all chunks, as they travel."""
        return sum(chunk.size for chunk in self.chunks)


def tag_of(uri: CtxUri) -> str:
    """Return the tag of a pack: never ``sha256-<hex>``, which is the referrers fallback (distribution-spec)."""
    return f"ctx-{uri_digest(uri).removeprefix('sha256:')}"


def describe_contract(contract: bytes) -> Descriptor:
    """Return the descriptor of the config blob."""
    return describe(contract, CONTRACT_MEDIA_TYPE)


def chunk_descriptor(chunk: Chunk) -> Descriptor:
    """Return the descriptor of a layer."""
    return Descriptor(
        media_type=CHUNK_MEDIA_TYPE,
        digest=chunk.digest,
        size=len(chunk.data),
        annotations={CONTENT_SIZE: str(chunk.content_size)},
    )


def content_size(chunk: Descriptor, *, where: str) -> int:
    """Return how many bytes a chunk unpacks to. Raises: IntegrityError when its annotation does not say."""
    value = chunk.annotations.get(CONTENT_SIZE, "")
    if not (value.isascii() and value.isdigit() and len(value) < 12):
        raise IntegrityError(
            f"layer annotation {CONTENT_SIZE}", where=where, expected="a number of bytes", got=repr(value)[:60]
        )
    return int(value)


def build_artifact(contract: bytes, chunks: Sequence[Descriptor]) -> bytes:
    """Return the OCI manifest of a pack."""
    return encode_image_manifest(
        ImageManifest(artifact_type=ARTIFACT_TYPE, config=describe_contract(contract), layers=tuple(chunks))
    )


def find_artifact(target: Target, uri: CtxUri) -> Artifact | None:
    """Return the pack that target serves for uri, or None when it has none.

    Fetches the OCI manifest, the contract and the first chunk, nothing else.
    Raises: IntegrityError when what the tag names is not this contract's pack; AccessDenied, Unavailable when the
    answer is not known.
    """
    found = target.fetch_tag(tag_of(uri))
    return None if found is None else _read(target, found, uri)


def chunks_served(target: Target, uri: CtxUri) -> frozenset[Digest]:
    """Return the chunks of the pack that target serves for uri, none when it has none. One request.

    Target has them all: a registry takes no manifest whose blobs it lacks, and keeps what a manifest names.
    Raises: as find_artifact does.
    """
    found = target.fetch_tag(tag_of(uri))
    if found is None:
        return frozenset()
    manifest = parse_image_manifest(found.data, found.descriptor, where=f"{target.name}:{tag_of(uri)}")
    return frozenset(layer.digest for layer in manifest.layers)


def _read(target: Target, found: TaggedManifest, uri: CtxUri) -> Artifact:
    """Return the pack whose OCI manifest was found. Raises: as find_artifact does."""
    where = f"{target.name}:{tag_of(uri)}"
    manifest = parse_image_manifest(found.data, found.descriptor, where=where)
    _check_shape(manifest, uri_digest(uri), where)
    _fetch(target, manifest.config, where)
    first = manifest.layers[0]
    content = inflate_chunk(
        _fetch(target, first, where), content_size(first, where=where), where=f"{where}, first chunk"
    )
    pack = pack_manifest_of(content, where=f"{where}, first chunk")
    if pack.uri != uri:
        raise IntegrityError("pack of another contract", where=where, expected=uri, got=pack.uri)
    return Artifact(found.descriptor, manifest, pack)


def _fetch(target: Target, descriptor: Descriptor, where: str) -> bytes:
    """A part of what the tag names: that it is gone is damage, not a miss."""
    try:
        return target.fetch(descriptor)
    except NotFound as error:
        raise IntegrityError(
            f"{descriptor.digest} is missing", where=where, fix="push the pack again", code="E_INCOMPLETE"
        ) from error


def _check_shape(manifest: ImageManifest, contract: Digest, where: str) -> None:
    kinds = {layer.media_type for layer in manifest.layers}
    for what, expected, got in (
        ("artifactType", ARTIFACT_TYPE, manifest.artifact_type),
        ("config.mediaType", CONTRACT_MEDIA_TYPE, manifest.config.media_type),
        ("config.digest, the contract", contract, manifest.config.digest),
        ("layers", CHUNK_MEDIA_TYPE, ", ".join(sorted(kinds)) or "none"),
    ):
        if expected != got:
            raise IntegrityError(
                f"not this contract's pack: {what}", where=where, expected=expected, got=got, code="E_NOT_THE_PACK"
            )
