"""The descriptor of a blob or manifest: media type, digest, size (OCI image-spec, "Content Descriptors")."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ctxpack_identity.digest import DIGEST_PATTERN, Digest, digest_of
from ctxpack_identity.errors import IntegrityError

__all__ = ["DAMAGED", "MAX_BLOB_BYTES", "Descriptor", "check_bytes", "check_digest", "check_length", "describe"]

DAMAGED = "try again; if the error stays, the registry holds damaged data"  # what to do about bytes that were fetched
MAX_BLOB_BYTES = 64 * 1024 * 1024  # bytes; a blob is whole in memory, and the largest chunk has about 17 MiB


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A typed, sized, content-addressed reference. size: bytes as stored and sent.

    The members `urls` and `data` of the specification are ignored.
    """

    media_type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    digest: Annotated[Digest, msgspec.Meta(pattern=DIGEST_PATTERN)]
    size: Annotated[int, msgspec.Meta(ge=0)]
    annotations: dict[str, str] = {}
    artifact_type: str = ""


def describe(data: bytes, media_type: str, *, annotations: dict[str, str] | None = None) -> Descriptor:
    """Return the descriptor of data.

    >>> describe(b"{}", "application/json").digest
    'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """
    return Descriptor(
        media_type=media_type, digest=digest_of(data), size=len(data), annotations=dict(annotations or {})
    )


def check_bytes(data: bytes, descriptor: Descriptor, *, where: str, fix: str = "") -> None:
    """Return if data is what descriptor names.

    fix: what to do otherwise. Raises: IntegrityError, when the size or the SHA-256 differs.
    """
    check_length(data, descriptor, where=where, fix=fix)
    check_digest(data, descriptor.digest, where=where, fix=fix)


def check_digest(data: bytes, digest: Digest, *, where: str, fix: str = "") -> None:
    """Return if digest is the SHA-256 of data. Raises: IntegrityError otherwise."""
    found = digest_of(data)
    if found != digest:
        raise IntegrityError("digest differs", where=where, expected=digest, got=found, fix=fix, code="E_DIGEST")


def check_length(data: bytes, descriptor: Descriptor, *, where: str, fix: str = "") -> None:
    """Return if data has the size in descriptor. Raises: IntegrityError otherwise."""
    if len(data) != descriptor.size:
        raise IntegrityError(
            "size differs", where=where, expected=f"{descriptor.size} bytes", got=str(len(data)), fix=fix, code="E_SIZE"
        )
