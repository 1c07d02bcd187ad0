"""The protocol of a place for packs, which a registry and an OCI image layout implement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

from ctxpack_identity.digest import Digest
from ctxpack_identity.errors import IntegrityError, InvalidInput
from ctxpack_oci.descriptor import Descriptor
from ctxpack_oci.imagemanifest import is_manifest

__all__ = ["TaggedManifest", "Target", "check_range", "check_tag", "expect_blob", "where_content", "where_tag"]

_is_tag = re.compile(r"\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z").match  # distribution-spec, "Pulling manifests"


class TaggedManifest(NamedTuple):
    """The manifest that a tag names. data: its bytes, which are what descriptor says."""

    descriptor: Descriptor
    data: bytes


class Target(Protocol):
    """Blobs, manifests and tags. The media type says whether content is a manifest or a blob.

    Every method may be called from several threads. Every method raises AccessDenied when the target wants other
    credentials, Unavailable when it does not answer in time, LocalFailure when this machine fails, and IntegrityError
    when the target breaks the protocol. False, NotFound and the None of `fetch_tag` mean that the target certainly
    lacks the content. An OSError of a file that the caller gives comes out unchanged.
    """

    @property
    def name(self) -> str:
        """The name in messages, for example ``127.0.0.1:5000/team/packs`` or ``oci:/srv/packs``."""
        ...

    @property
    def conditional_tags(self) -> bool:
        """Whether `tag_if` works here. Registries have no such thing (distribution-spec, "Pushing Manifests")."""
        ...

    def fetch_tag(self, tag: str) -> TaggedManifest | None:
        """Return the manifest that tag names now, with its bytes, or None when the target has no such tag. One request.

        Docker Hub counts a GET of a manifest against the user's quota, but not a HEAD. A pull needs the GET anyway.
        Raises: IntegrityError, when the tag is there but its manifest is missing, damaged or too large.
        """
        ...

    def resolve_tag(self, tag: str) -> Digest | None:
        """Return the digest that tag names now, or None when the target has no such tag. Its manifest is not read.

        So the answer is also known for a manifest that is missing, damaged or of no known kind.
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

    def fetch_range(self, descriptor: Descriptor, start: int, size: int) -> bytes | None:
        """Return size bytes of a blob from byte start on, NOT checked: the SHA-256 of a part is not known here.

        The caller must check what the bytes are. size: at least 1, and the range lies within the blob. One request.
        Some targets send only whole blobs. Then this returns the whole blob, with size and SHA-256 checked, if
        descriptor.size is at most MAX_WHOLE_BYTES (the caller tells by the length), and None otherwise: use
        `fetch_into`.
        Raises: NotFound, when the blob is gone; IntegrityError, when the target holds fewer than descriptor.size bytes
        or answers with another range, and for a range that is not within the blob.
        Source: RFC 9110, section 14; distribution-spec, "Pulling blobs".
        """
        ...

    def fetch_into(self, descriptor: Descriptor, file: BinaryIO) -> None:
        """Write the content, of any size, to file from its start, block by block; check size and SHA-256 at the end.

        file: seekable; what it held is lost. It never gets more than descriptor.size bytes, and it is flushed. After
        an error, do not use what it holds. After a broken connection, the next attempt starts at the first byte again.
        Raises: NotFound, when the content is gone; IntegrityError, when it differs; OSError, from file (a full disk).
        """
        ...

    def push(self, descriptor: Descriptor, content: bytes | BinaryIO) -> None:
        """Store content under its digest; a second time is no error. A registry itself checks the digest of a blob.

        content: bytes, at most MAX_BLOB_BYTES (for a manifest, MAX_IMAGE_MANIFEST_BYTES). For a blob also a seekable
        file, of any size, which is sent block by block from its start.
        A manifest is accepted only when the target has all that it names.
        Raises: IntegrityError, when content is not what descriptor names (another length: before anything is sent);
        OSError, from a file.
        """
        ...

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        """Let tag name a manifest that was pushed before. The tag may have named another manifest.

        Raises: NotFound, when that manifest is not there.
        """
        ...

    def tag_if(self, descriptor: Descriptor, tag: str, before: Digest | None) -> bool:
        """Let tag name a manifest that was pushed before, if it names before now; None: if there is no such tag.

        Return whether it did, decided in one step. Only where `conditional_tags` says that the target can.
        Raises: as tag does; TypeError where the target cannot.
        """
        ...

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor] | None:
        """Return the manifests whose `subject` is said to be subject, each once; None for more than MAX_REFERRERS.

        They are candidates: a registry's list and the index that stands in for it are anybody's word. The subject and
        the artifact type are what the manifest itself says. It may be missing.
        artifact_type: of what is looked for; of too many, those are left out that are said to have another one.
        Raises: IntegrityError (E_REFERRERS) for a list that cannot be read: never an empty list for one that is not
        known.
        """
        ...

    def attach(self, descriptor: Descriptor, data: bytes, tag: str = "") -> None:
        """Store an image manifest with a `subject`, as push does, so that `referrers` of its subject has it.

        tag: let this tag name it, too. That is in the same request, and before the list that a client must write.

        Several clients that attach to one subject at the same time may lose entries of each other where the registry
        does not keep the list itself; the manifest stays, and a tag of its own finds it.
        Raises: as push and tag do; an error with the code E_REFERRERS when the manifest is stored, and has its tag, but
        the list that a client must write is not: it cannot be read, the registry refuses it (IntegrityError), or others
        replace it all the time (Unavailable).
        """
        ...

    def delete(self, tag: str) -> Digest | None:
        """Delete tag and the manifest that it names, with other tags of it; return its digest, None without such a tag.

        Blobs stay until the target collects its garbage.
        Raises: AccessDenied, when the target does not allow it.
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


def check_range(descriptor: Descriptor, start: int, size: int, *, where: str) -> None:
    """Return if size bytes from start on, and at least one, lie within the blob. Raises: IntegrityError otherwise."""
    if start < 0 or size < 1 or start + size > descriptor.size:
        raise IntegrityError(
            "range is not within the blob",
            where=where,
            expected=f"at least one of its {descriptor.size} bytes",
            got=f"{size} bytes from byte {start} on",
            code="E_SIZE",
        )


def expect_blob(descriptor: Descriptor) -> None:
    """Return if descriptor is that of a blob. Raises: TypeError for a manifest, which is pushed as bytes."""
    if is_manifest(descriptor.media_type):
        raise TypeError("a manifest is pushed as bytes, not as a file")


def where_content(target: str, descriptor: Descriptor) -> str:
    """Return the name of content in messages. target: the name of the target."""
    kind = "manifest" if is_manifest(descriptor.media_type) else "blob"
    return f"{kind} {descriptor.digest[:19]} of {target}"


def where_tag(target: str, tag: str) -> str:
    """Return the name of a tag in messages. target: the name of the target."""
    return f"tag {tag} of {target}"
