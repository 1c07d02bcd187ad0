"""The protocol of a place for packs, which a registry and an OCI image layout implement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ctxpack_identity.errors import InvalidInput
from ctxpack_oci.descriptor import Descriptor
from ctxpack_oci.imagemanifest import is_manifest

__all__ = ["TaggedManifest", "Target", "check_tag", "where_content", "where_tag"]

_is_tag = re.compile(r"\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z").match  # distribution-spec, "Pulling manifests"


class TaggedManifest(NamedTuple):
    """The manifest that a tag names. data: its bytes, which are what descriptor says."""

    descriptor: Descriptor
    data: bytes


class Target(Protocol):
    """Blobs, manifests and tags. The media type says whether content is a manifest or a blob.

    Every method may be called from several threads. Every method raises AccessDenied when the target wants other
    credentials, Unavailable when it does not answer in time, LocalFailure when this machine fails, and IntegrityError
    when the target breaks the protocol. None, False and NotFound mean that the target certainly lacks the content.
    """

    @property
    def name(self) -> str:
        """The name in messages, for example ``127.0.0.1:5000/team/packs`` or ``oci:/srv/packs``."""
        ...

    def fetch_tag(self, tag: str) -> TaggedManifest | None:
        """Return the manifest that tag names now, with its bytes, or None when the target has no such tag. One request.

        Docker Hub counts a GET of a manifest against the user's quota, but not a HEAD. A pull needs the GET anyway.
        Raises: IntegrityError, when the tag is there but its manifest is missing, damaged or too large.
        """
        ...

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the target says that it holds this content; the bytes are not read."""
        ...

    def fetch(self, descriptor: Descriptor) -> bytes:
        """Return the content, with size and SHA-256 checked.

        Raises: NotFound, when the content is gone; IntegrityError, when it differs or is declared larger than
        MAX_BLOB_BYTES (or, for a manifest, MAX_IMAGE_MANIFEST_BYTES).
        """
        ...

    def push(self, descriptor: Descriptor, data: bytes) -> None:
        """Store data under its digest; a second time is no error. A registry itself checks the digest of a blob.

        A manifest is accepted only when the target has all that it names.
        Raises: IntegrityError, when data is not what descriptor names.
        """
        ...

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Let tag name a manifest that was pushed before. The tag may have named another manifest.

        Raises: NotFound, when that manifest is not there.
        """
        ...

    def tags(self) -> Iterator[str]:
        """Yield every tag once, in no particular order."""
        ...

    def close(self) -> None:
        """Close the connections. The target is not used again."""
        ...


def check_tag(tag: str) -> None:
    """Return if tag is a valid tag.

    Raises: InvalidInput otherwise, so that a tag is always safe in a URL.
    """
    if not _is_tag(tag):
        raise InvalidInput(
            "not a tag",
            where="tag",
            expected="1 to 128 letters, digits, '_', '.' or '-', not starting with '.' or '-'",
            got=repr(tag)[:160],
            code="E_TAG",
        )


def where_content(target: str, descriptor: Descriptor) -> str:
    """Return the name of content in messages. target: the name of the target."""
    kind = "manifest" if is_manifest(descriptor.media_type) else "blob"
    return f"{kind} {descriptor.digest[:19]} of {target}"


def where_tag(target: str, tag: str) -> str:
    """Return the name of a tag in messages. target: the name of the target."""
    return f"tag {tag} of {target}"
