"""Locate, admit, open: the three steps in which a pack is looked up in a target. FORMAT.md, "On a registry".

Each step makes the value that the next one takes, so no chunk is fetched of a pack that was not admitted.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

from ctxpack_bundle import PackManifest, inflate_chunk, pack_manifest_of
from ctxpack_identity import CtxUri, Digest, IntegrityError, NotFound, uri_digest
from ctxpack_oci import Descriptor, ImageManifest, Target, parse_image_manifest
from ctxpack_pantry.admission import ask
from ctxpack_pantry.artifact import (
    ANOTHER_CLIENT,
    check_shape,
    content_size,
    describe_contract,
    not_the_pack,
    tag_of,
)
from ctxpack_pantry.context import Context

__all__ = [
    "Admitted",
    "Located",
    "OpenedPack",
    "admit",
    "find",
    "locate",
    "missing_chunk",
    "open_pack",
    "require_found",
]


class Located(NamedTuple):
    """The image manifest that a pack's tag names; its config is the contract. data: its bytes; where: for errors."""

    uri: CtxUri
    where: str
    descriptor: Descriptor
    data: bytes
    manifest: ImageManifest

    @property
    def image(self) -> Digest:
        """The digest of the image manifest."""
        return self.descriptor.digest

    @property
    def chunks(self) -> tuple[Descriptor, ...]:
        return self.manifest.layers

    @property
    def transfer_size(self) -> int:
        """Bytes of all chunks, compressed."""
        return sum(chunk.size for chunk in self.chunks)


Admitted = NewType("Admitted", Located)
"""A located pack that the policy admits."""


class OpenedPack(NamedTuple):
    """A pack whose first chunk was fetched. manifest: read from that chunk; first: the chunk's piece."""

    located: Admitted
    manifest: PackManifest
    first: bytes


def locate(target: Target, uri: CtxUri) -> Located | None:
    """Return the image manifest that the tag of uri names, or None when target has no such tag. One request.

    Raises: IntegrityError when it is not an image manifest of this contract's pack; AccessDenied, Unavailable when
    the answer is not known.
    """
    tagged = target.fetch_tag(tag_of(uri))
    if tagged is None:
        return None
    where = f"{target.name}:{tag_of(uri)}"
    manifest = parse_image_manifest(tagged.data, tagged.descriptor, where=where)
    check_shape(manifest, uri_digest(uri), where=where)
    return Located(uri, where, tagged.descriptor, tagged.data, manifest)


def admit(context: Context, located: Located) -> Admitted:
    """Return located once the policy admits it. Raises: PolicyRefused."""
    ask(context, located.uri, lambda: located.image)
    return Admitted(located)


def open_pack(target: Target, located: Admitted) -> OpenedPack:
    """Return the pack with its pack manifest, which is its first chunk. One request.

    Raises: IntegrityError when the first chunk is missing, damaged, or that of another contract's pack; AccessDenied,
    Unavailable.
    """
    where, chunk = f"{located.where}, first chunk", located.chunks[0]
    try:
        data = target.fetch(chunk)
    except NotFound as error:
        raise missing_chunk(f"{located.where}, {chunk.digest}") from error
    first = inflate_chunk(data, content_size(chunk, where=located.where), where=where)
    manifest = pack_manifest_of(first, where=where)
    if manifest.uri != located.uri:
        raise IntegrityError(
            "pack of another contract",
            where=located.where,
            expected=located.uri,
            got=manifest.uri,
            fix=ANOTHER_CLIENT,
        )
    config = describe_contract(manifest.contract_bytes)
    if located.manifest.config.size != config.size:
        size = located.manifest.config.size
        raise not_the_pack("config.size, the contract", located.where, f"{config.size} bytes", str(size))
    return OpenedPack(located, manifest, first)


def find(context: Context, uri: CtxUri) -> OpenedPack | None:
    """Return the pack that the registry has for uri, admitted and opened, or None when it has none. Two requests.

    Raises: as locate, admit and open_pack do.
    """
    located = locate(context.target, uri)
    return None if located is None else open_pack(context.target, admit(context, located))


def require_found(context: Context, uri: CtxUri) -> OpenedPack:
    """Return what find returns. Raises: NotFound when the registry has no such pack; as find does."""
    opened = find(context, uri)
    if opened is None:
        raise NotFound(
            f"no such pack: {uri}",
            where=context.target.name,
            fix="check the URI and the registry, or make the pack: ctxpack run, or ctxpack seed and ctxpack push",
        )
    return opened


def missing_chunk(where: str) -> IntegrityError:
    """Return the error that says that a chunk of an image manifest is missing: damage, not a miss."""
    return IntegrityError("a chunk is missing", where=where, fix="push the pack again", code="E_INCOMPLETE")
