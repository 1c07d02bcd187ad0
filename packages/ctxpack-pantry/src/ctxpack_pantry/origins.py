"""Origins: the image manifest with which a cached pack came from a repository, or was pushed to it.

One note for each pack and repository, ``origins/<64 hex of the URI>/<64 hex>``, named after the SHA-256 of the
repository's name: the digest of the pack's manifest.json, " settled" if a push found that the tag stayed, a line feed,
and the image manifest as the repository has it. A note about another manifest.json than the cached one is stale, and
ignored.
"""

from __future__ import annotations

import os

from ctxpack_identity.digest import digest_of, hex_of
from ctxpack_identity.lighttyping import TYPE_CHECKING
from ctxpack_identity.uri import CtxUri, uri_digest
from ctxpack_pantry.notes import Notes
from ctxpack_pantry.settings import LONGEST_SETTLE

if TYPE_CHECKING:
    from ctxpack_cache import Cache
    from ctxpack_identity import Digest

__all__ = ["Origins", "pack_digest"]

_KIND = "origins"
_SETTLED = " settled"
_MAX_NOTE = (4 << 20) + 128  # bytes: an image manifest of the largest size, and the digest before it


class Origins:
    """The origins of the packs in cache, as far as they are known."""

    def __init__(self, cache: Cache) -> None:
        self._notes = Notes(cache, _KIND)

    def record(
        self, uri: CtxUri, repository: str, pack_manifest: Digest, image_manifest: bytes, *, settled: bool = False
    ) -> None:
        """Note that repository has the pack under this image manifest. pack_manifest: digest of manifest.json."""
        head = f"{pack_manifest}{_SETTLED if settled else ''}\n"
        self._notes.write(_name(uri, repository), head.encode() + image_manifest)

    def is_settled(self, uri: CtxUri, repository: str) -> bool:
        """Return whether the tag of uri had its settle time in repository, after what is noted was there."""
        name = _name(uri, repository)
        head, _, _ = self._notes.read(name, _MAX_NOTE).partition(b"\n")
        return head.endswith(_SETTLED.encode()) or self._notes.age(name) > LONGEST_SETTLE

    def image(self, uri: CtxUri, repository: str, folder: str) -> Digest | None:
        """Return the digest of the image manifest of the cached pack in folder, or None when it is not known."""
        image_manifest = self.image_manifest(uri, repository, folder)
        return None if image_manifest is None else digest_of(image_manifest)

    def image_manifest(self, uri: CtxUri, repository: str, folder: str) -> bytes | None:
        """Return the image manifest of the cached pack in folder, or None when it is not known."""
        head, separator, image_manifest = self._notes.read(_name(uri, repository), _MAX_NOTE).partition(b"\n")
        pack_manifest = head.removesuffix(_SETTLED.encode())
        same = pack_manifest.decode(errors="replace") == pack_digest(folder)
        return image_manifest if separator and same else None

    def images(self, uri: CtxUri, folder: str) -> list[Digest]:
        """Return the digests of all image manifests that the cached pack in folder is known to have, anywhere."""
        cached = pack_digest(folder)
        found = set()
        below = hex_of(uri_digest(uri))
        for name in self._notes.names(below):
            head, separator, image_manifest = self._notes.read(f"{below}/{name}", _MAX_NOTE).partition(b"\n")
            if separator and head.removesuffix(_SETTLED.encode()).decode(errors="replace") == cached:
                found.add(digest_of(image_manifest))
        return sorted(found)

    def forget(self, uri: CtxUri) -> None:
        """Remove the notes about the pack of uri."""
        self._notes.remove_all(hex_of(uri_digest(uri)))


def _name(uri: CtxUri, repository: str) -> str:
    return f"{hex_of(uri_digest(uri))}/{hex_of(digest_of(repository.encode(errors='surrogateescape')))}"


def pack_digest(folder: str) -> Digest | None:
    """Return the digest of the manifest.json of the cached pack in folder; None when it cannot be read."""
    try:
        with open(os.path.join(folder, "manifest.json"), "rb") as file:
            return digest_of(file.read())
    except OSError:
        return None
