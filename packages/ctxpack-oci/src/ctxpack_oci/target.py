"""Where packs are kept: the one shape that a registry and an OCI image layout share."""

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
    """A store of blobs and manifests with tags. Manifests and blobs are told apart by their media type.

    Any method may be called from several threads. All of them raise AccessDenied when the store wants other
    credentials, Unavailable when it did not answer in time, LocalFailure when this machine failed, and
    IntegrityError when it broke the protocol. "Not there" is only said when that is certain.
    """

    @property
    def name(self) -> str:
        """How messages call it, for example ``127.0.0.1:5000/team/packs`` or ``oci:/srv/packs``."""
        ...

    def fetch_tag(self, tag: str) -> TaggedManifest | None:
        """Return the manifest that tag names now, with one request; None when the store said that there is no such tag.

        Docker Hub counts a GET of a manifest against the user's quota, but not a HEAD. A pull needs the GET anyway.
        Raises: IntegrityError, when the tag is there but its manifest is missing, damaged or too large.
        """
        ...

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the store says that it holds this content; the bytes are not looked at."""
        ...

    def fetch(self, descriptor: Descriptor) -> bytes:
        """Return the content, with size and SHA-256 checked.

        Raises: NotFound, when the content is gone; IntegrityError, when it differs or is declared larger than
        MAX_BLOB_BYTES (or, for a manifest, MAX_IMAGE_MANIFEST_BYTES).
        """
        ...

    def push(self, descriptor: Descriptor, data: bytes) -> None:
        """Store data under its digest; doing it twice is fine. The digest of a blob is checked where it arrives.

        A manifest is taken only when the store has what it names.
        Raises: IntegrityError, when data is not what descriptor names.
        """
        ...

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Let tag name a manifest that was pushed before, whatever it named until now.

        Raises: NotFound, when that manifest is not there.
        """
        ...

    def tags(self) -> Iterator[str]:
        """Yield every tag once, in no particular order."""
        ...

    def close(self) -> None:
        """Give back connections. The target is not used again."""
        ...


def check_tag(tag: str) -> None:
    """Return if tag may be a tag.

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
    """Return what messages call the content that descriptor names in the target with this name."""
    kind = "manifest" if is_manifest(descriptor.media_type) else "blob"
    return f"{kind} {descriptor.digest[:19]} of {target}"


def where_tag(target: str, tag: str) -> str:
    """Return what messages call tag in the target with this name."""
    return f"tag {tag} of {target}"
