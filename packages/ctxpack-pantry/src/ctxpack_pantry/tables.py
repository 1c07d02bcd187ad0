"""Tables: of packs that this cache pushed, or pulled whole and verified, by repository and image manifest.

One note for each, ``tables/<64 hex of the repository's name>/<64 hex of the kin>/<64 hex of the image manifest>-<64 hex
of the URI>``: the size of the image manifest, " whole" if this cache sent each layer, or fetched and verified it, a
line feed, the image manifest, the table. A note outlives its pack: its layers can still be borrowed. What is not what
the digests say is ignored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from ctxpack_bundle import FIRST_DATA_LAYER, PackManifest, Table
from ctxpack_cache import Cache
from ctxpack_identity import CtxUri, Digest, IntegrityError, digest_from_hex, digest_of, hex_of, uri_digest
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, ImageManifest, describe, parse_image_manifest
from ctxpack_pantry.kinship import kin_of
from ctxpack_pantry.notes import Notes
from ctxpack_pantry.origins import Origins

__all__ = ["Base", "KnownTable", "Tables", "remember"]

_KIND = "tables"
_MAX_NOTE = (4 << 20) + (32 << 20) + 16  # bytes: an image manifest and a table of the largest size
_KEPT = 16  # notes of one kin and repository
_WHOLE = b" whole"


def remember(
    cache: Cache,
    repository: str,
    manifest: PackManifest,
    image_manifest: bytes,
    table: bytes,
    *,
    settled: bool = False,
    whole: bool = False,
) -> None:
    """Note what repository has of the pack of manifest, which the cache pushed, or pulled and verified.

    settled: whether its tag had its settle time. whole: whether this cache sent each layer, or fetched and verified it,
    so that a signer need not read it again.
    """
    pack_manifest = manifest.digest
    Origins(cache).record(manifest.uri, repository, pack_manifest, image_manifest, settled=settled)
    Tables(cache).record(manifest.uri, repository, kin_of(manifest.contract), image_manifest, table, whole=whole)


class Base(NamedTuple):
    """A pack whose layers can be borrowed. image: the descriptor of its image manifest.

    whole: whether this cache sent each of them, or fetched and verified it.
    """

    image: Descriptor
    manifest: ImageManifest
    table: Table
    whole: bool = False


class KnownTable(NamedTuple):
    """A table of a pack in a repository. image: digest of the image manifest; contract: the digest in the pack's URI.

    path: of the note.
    """

    image: Digest
    contract: Digest
    path: str

    def read(self) -> Base | None:
        """Return what the note says, or None when it is gone or damaged."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(_MAX_NOTE)
        except OSError:
            return None
        head, _, rest = data.partition(b"\n")
        size = head.removesuffix(_WHOLE)
        length = int(size) if size.isdigit() and len(size) < 9 else 0
        document, table = rest[:length], rest[length:]
        del data, rest
        with suppress(IntegrityError):
            manifest = parse_image_manifest(document)
            named = [layer.digest for layer in manifest.layers[FIRST_DATA_LAYER - 1 : FIRST_DATA_LAYER]]
            if digest_of(document) == self.image and named == [digest_of(table)]:
                return Base(describe(document, IMAGE_MANIFEST_MEDIA_TYPE), manifest, Table(table), head != size)
        return None


class Tables:
    """The tables that cache knows."""

    def __init__(self, cache: Cache) -> None:
        self._notes = Notes(cache, _KIND)

    def record(
        self, uri: CtxUri, repository: str, kin: str, image_manifest: bytes, table: bytes, *, whole: bool = False
    ) -> None:
        """Note the table of a pack that repository has under this image manifest. kin: see kin_of. whole: see Base."""
        folder = f"{_name(repository)}/{kin}"
        whole = whole or self.is_whole(uri, repository, kin, digest_of(image_manifest))
        name = _note(folder, uri, digest_of(image_manifest))
        self._notes.write(name, b"%d%s\n" % (len(image_manifest), _WHOLE * whole) + image_manifest + table)
        for old in self._newest([folder])[_KEPT:]:
            with suppress(OSError):
                os.unlink(old.path)

    def of_kin(self, repository: str, kin: str) -> list[KnownTable]:
        """Return the tables of packs of this kin in repository, newest first."""
        return self._newest([f"{_name(repository)}/{kin}"])

    def is_whole(self, uri: CtxUri, repository: str, kin: str, image: Digest) -> bool:
        """Return whether this cache sent each layer of an image manifest, or fetched and verified it."""
        path = os.path.join(self._notes.folder, _note(f"{_name(repository)}/{kin}", uri, image))
        known = KnownTable(image, uri_digest(uri), path).read()
        return known is not None and known.whole

    def newest(self) -> list[KnownTable]:
        """Return all tables, newest first."""
        return self._newest(
            f"{repository}/{kin}" for repository in self._notes.names() for kin in self._notes.names(repository)
        )

    def _newest(self, folders: Iterator[str] | list[str]) -> list[KnownTable]:
        found: list[tuple[int, str, KnownTable]] = []
        for folder in folders:
            for name in self._notes.names(folder):
                image, _, contract = name.partition("-")
                path = os.path.join(self._notes.folder, folder, name)
                with suppress(OSError):
                    known = KnownTable(digest_from_hex(image), digest_from_hex(contract), path)
                    found.append((os.lstat(path).st_mtime_ns, name, known))
        return [known for _, _, known in sorted(found, reverse=True)]


def _note(folder: str, uri: CtxUri, image: Digest) -> str:
    return f"{folder}/{hex_of(image)}-{hex_of(uri_digest(uri))}"


def _name(repository: str) -> str:
    return hex_of(digest_of(repository.encode(errors="surrogateescape")))
