"""The members of a pack's tar stream: headers and padding as bytes, contents by name. FORMAT.md, "Members"."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import NamedTuple

from ctxpack_bundle.folder import ARTIFACTS, MANIFEST
from ctxpack_bundle.packmanifest import Listing, PackManifest, encode_pack_manifest
from ctxpack_bundle.tar import END, file_header, folder_header, padding
from ctxpack_identity import TreeEntry, hex_of

__all__ = [
    "ARTIFACTS_HEADER",
    "Content",
    "Member",
    "Part",
    "Parts",
    "entry_parts",
    "entry_size",
    "head_parts",
    "last_parts",
    "length_of",
    "listing_parts",
    "listing_size",
    "manifest_part",
]

ARTIFACTS_HEADER = folder_header(f"{ARTIFACTS}/")


class Content(NamedTuple):
    """The bytes of a file, not read yet. sha256: 64 hexadecimal digits."""

    path: str
    size: int
    sha256: str


Part = bytes | Content
Member = tuple[Part, ...]
Parts = Generator[Part, None, None]


def length_of(part: Part) -> int:
    """Return the length of a part, in bytes."""
    return part.size if isinstance(part, Content) else len(part)


def manifest_part(manifest: PackManifest) -> bytes:
    """Return the first member."""
    data = encode_pack_manifest(manifest)  # what the file holds: read_pack_manifest accepts nothing but canonical JSON
    return file_header(MANIFEST, len(data)) + data + padding(len(data))


def listing_parts(listing: Listing) -> Member:
    """Return the member of a listing."""
    return _file_parts(listing.path, listing.size, hex_of(listing.digest))


def listing_size(listing: Listing) -> int:
    """Return the length of the member of a listing, in bytes."""
    return sum(map(length_of, listing_parts(listing)))


def head_parts(manifest: PackManifest) -> Parts:
    """Yield all that comes before the members of the outputs."""
    yield manifest_part(manifest)
    for listing in manifest.listings:
        yield from listing_parts(listing)
    yield ARTIFACTS_HEADER


def entry_parts(entry: TreeEntry) -> Member:
    """Return the member of one entry of the outputs."""
    name = f"{ARTIFACTS}/{entry.path}"
    if entry.is_empty_folder:
        return (folder_header(name),)
    return _file_parts(name, entry.size, entry.sha256, executable=entry.executable)


def entry_size(entry: TreeEntry) -> int:
    """Return the length of the member of an entry, in bytes."""
    return sum(map(length_of, entry_parts(entry)))


def last_parts(entries: Iterable[TreeEntry]) -> Parts:
    """Yield the members of the last entries of the outputs, and the end of the stream."""
    for entry in entries:
        yield from entry_parts(entry)
    yield END


def _file_parts(name: str, size: int, sha256: str, *, executable: bool = False) -> Member:
    return file_header(name, size, executable=executable), Content(name, size, sha256), padding(size)
