"""The descriptor of a blob or manifest: media type, digest, size (OCI image-spec, "Content Descriptors")."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ctxpack_identity.digest import DIGEST_PATTERN, Digest, digest_of
from ctxpack_identity.errors import IntegrityError

__all__ = [
    "DAMAGED",
    "MAX_BLOB_BYTES",
    "MAX_WHOLE_BYTES",
    "REPAIR",
    "Descriptor",
    "check_bytes",
    "check_digest",
    "check_length",
    "describe",
    "embedded",
]

# What to do about content that is missing, or about bytes that were fetched.
REPAIR = "`ctxpack push --repair URI` heals it from a cache that has the pack"
DAMAGED = f"try again; if the error stays, the registry holds damaged data: {REPAIR}"
MAX_BLOB_BYTES = 32 * 1024 * 1024  # bytes; of a blob that is whole in memory: a table has at most 32 MiB
MAX_WHOLE_BYTES = 8 * 1024 * 1024  # bytes; a blob up to this size is read when a part was wanted and the whole came


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A typed, sized, content-addressed reference. size: bytes as stored and sent.

    data: the content itself, or b"" when it is not embedded. Only `embedded` says whether it is what digest names.
    The member `urls` of the specification is ignored.
    """

    media_type: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    digest: Annotated[Digest, msgspec.Meta(pattern=DIGEST_PATTERN)]
    size: Annotated[int, msgspec.Meta(ge=0)]
    annotations: dict[str, str] = {}
    artifact_type: str = ""
    data: bytes = b""  # base64 in JSON


def describe(data: bytes, media_type: str, *, annotations: dict[str, str] | None = None) -> Descriptor:
    """Return the descriptor of data.

    >>> describe(b"{}", "application/json").digest
    'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
    """
    return Descriptor(
        media_type=media_type, digest=digest_of(data), size=len(data), annotations=dict(annotations or {})
    )


def embedded(descriptor: Descriptor) -> bytes | None:
    """Return the content that descriptor brings with it, None unless size and SHA-256 are right: then it is fetched.

    >>> embedded(msgspec.structs.replace(describe(b"{}", "application/json"), data=b"{}"))
    b'{}'
    """
    right = len(descriptor.data) == descriptor.size and digest_of(descriptor.data) == descriptor.digest
    return descriptor.data if right else None


def check_bytes(data: bytes, descriptor: Descriptor, *, where: str, fix: str = "") -> None:
    """Return if data is what descriptor names.

    fix: what to do otherwise. Raises: IntegrityError, when the size or the SHA-256 differs.
    """
    check_length(len(data), descriptor, where=where, fix=fix)
    check_digest(digest_of(data), descriptor.digest, where=where, fix=fix)


def check_digest(found: Digest, digest: Digest, *, where: str, fix: str = "") -> None:
    """Return if found, the SHA-256 of what came, is digest. Raises: IntegrityError otherwise."""
    if found != digest:
        raise IntegrityError("digest differs", where=where, expected=digest, got=found, fix=fix, code="E_DIGEST")


def check_length(length: int, descriptor: Descriptor, *, where: str, fix: str = "") -> None:
    """Return if length, in bytes, is the size in descriptor. Raises: IntegrityError otherwise."""
    if length != descriptor.size:
        raise IntegrityError(
            "size differs", where=where, expected=f"{descriptor.size} bytes", got=str(length), fix=fix, code="E_SIZE"
        )
