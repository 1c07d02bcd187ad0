"""Whether a pack's folder is what its manifest says: every byte is read, and there is nothing else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from ctxpack_bundle.folder import (
    ARTIFACTS,
    MANIFEST,
    content_differs,
    open_member,
    read_entries,
    read_pack_manifest,
    unreadable_member,
)
from ctxpack_bundle.order import comes_first
from ctxpack_bundle.outputs import checked_entries
from ctxpack_bundle.packmanifest import FILES, Listing, PackManifest, encode_pack_manifest
from ctxpack_bundle.remedy import IN_CACHE
from ctxpack_identity import (
    IntegrityError,
    InvalidInput,
    LocalFailure,
    Progress,
    TreeEntry,
    hash_tree,
    hex_of,
    silent,
)
from ctxpack_identity.hashing.outlook import Outlook

__all__ = ["folder_size", "verify_listing", "verify_pack"]


def folder_size(manifest: PackManifest) -> int:
    """Return how many bytes the files of a pack's folder have together, the manifest's own among them."""
    return manifest.outputs.size + sum(document.size for document in _documents(manifest))


def verify_pack(folder: str, *, progress: Progress = silent) -> PackManifest:
    """Return the manifest of the pack in folder, after every file of it was read and compared.

    progress: called while bytes are hashed, with the stage "hash" and the folder_size as total.
    Raises: IntegrityError for the first thing that is wrong: a manifest, listing or text that is damaged, a file or
    folder that differs from its listing, is missing or is in none, outputs that are not the manifest's; LocalFailure
    when something cannot be read.
    """
    manifest = read_pack_manifest(folder)
    for listing in manifest.listings:
        verify_listing(folder, listing)
        if listing.path != FILES and not listing.is_text:  # the lines of FILES are read later
            for _ in read_entries(folder, listing.path):
                pass
    members = _members(folder, manifest)
    try:
        hash_tree(
            folder,
            on_entry=lambda found: _require_same(folder, next(members, None), found),
            outlook=Outlook("hash", progress, total=folder_size(manifest)),
        )
    except InvalidInput as error:  # a link or a device, say
        raise IntegrityError(f"pack is damaged: {error.what}", where=error.where, fix=IN_CACHE) from error
    except LocalFailure as error:
        if isinstance(error.__cause__, OSError):
            raise unreadable_member(error.where, error.__cause__) from error
        raise
    _require_same(folder, next(members, None), None)
    return manifest


def verify_listing(folder: str, listing: Listing) -> None:
    """Compare a listing or text of the pack in folder with its digest.

    Raises: IntegrityError when it is another one, or missing; LocalFailure when it cannot be read.
    """
    location = os.path.join(folder, listing.path)
    with open(open_member(folder, listing.path, listing.size), "rb") as file:
        try:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise unreadable_member(location, error) from error
        if sha256 != hex_of(listing.digest):
            raise content_differs(location, hex_of(listing.digest), sha256)


def _members(folder: str, manifest: PackManifest) -> Iterator[TreeEntry]:
    """Yield all that the folder must have, as entries of the folder, in canonical order."""
    empty = True
    for entry in checked_entries(read_entries(folder), manifest.outputs, where=os.path.join(folder, FILES)):
        yield entry._replace(path=f"{ARTIFACTS}/{entry.path}")
        empty = False
    if empty:
        yield TreeEntry(f"{ARTIFACTS}/", 0, "")
    yield from _documents(manifest)  # all of them come after ARTIFACTS


def _documents(manifest: PackManifest) -> list[TreeEntry]:
    """Return all that the folder must have besides outputs, in canonical order."""
    data = encode_pack_manifest(manifest)
    found = [TreeEntry(listing.path, listing.size, hex_of(listing.digest)) for listing in manifest.listings]
    found.append(TreeEntry(MANIFEST, len(data), hashlib.sha256(data).hexdigest()))
    return sorted(found, key=lambda entry: entry.path.split("/"))


def _require_same(folder: str, expected: TreeEntry | None, found: TreeEntry | None) -> None:
    """Raise IntegrityError unless what is found at a place of the folder is what must be there."""
    if expected == found:
        return
    if expected is not None and found is not None and _name(expected) == _name(found):
        raise _differs(os.path.join(folder, _name(expected)), expected, found)
    if found is not None and (expected is None or comes_first(found.path, expected.path)):
        raise IntegrityError("not a part of the pack", where=os.path.join(folder, _name(found)), fix=IN_CACHE)
    if expected is not None:
        location = os.path.join(folder, _name(expected))
        raise IntegrityError("pack is damaged: it is missing", where=location, fix=IN_CACHE)


def _name(entry: TreeEntry) -> str:
    return entry.path.removesuffix("/")


def _differs(location: str, expected: TreeEntry, found: TreeEntry) -> IntegrityError:
    if found.sha256 != expected.sha256 and not (found.is_empty_folder or expected.is_empty_folder):
        return content_differs(location, expected.sha256, found.sha256)
    return IntegrityError(
        "not the file its listing names",
        where=location,
        expected=_kind(expected),
        got=_kind(found),
        fix=IN_CACHE,
    )


def _kind(entry: TreeEntry) -> str:
    if entry.is_empty_folder:
        return "an empty folder"
    return "an executable file" if entry.executable else "a file that is not executable"
