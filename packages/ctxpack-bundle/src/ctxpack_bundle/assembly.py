"""From outputs on disk to a pack's folder: every file copied and hashed in one pass."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ctxpack_bundle.copying import Copier
from ctxpack_bundle.copyqueue import CopyProcesses, CopyQueue
from ctxpack_bundle.folder import ARTIFACTS, MANIFEST, ParentFolders
from ctxpack_bundle.listing import MAX_LINE_BYTES, listing_line
from ctxpack_bundle.outputs import Totals
from ctxpack_bundle.outputtree import SHOWN, LocatedRoot, OutputTree, find_outputs, locate
from ctxpack_bundle.packmanifest import FILES, LISTING_PATTERN, Listing, PackManifest, Root, encode_pack_manifest
from ctxpack_bundle.secondlook import FirstLook
from ctxpack_identity import (
    InvalidInput,
    Progress,
    TreeEntry,
    digest_from_hex,
    digest_of,
    parse_canonical_contract,
    silent,
    uri_for,
)
from ctxpack_identity.contractview import output_names
from ctxpack_identity.hashing.outlook import Outlook
from ctxpack_identity.hashing.scan import Found
from ctxpack_identity.packpath import check_path
from ctxpack_identity.packtext import check_text

__all__ = ["RootListings", "assemble"]

_LISTING_BUFFER = 64 << 10  # bytes

_is_listing = re.compile(LISTING_PATTERN).match


class RootListings:
    """Writes the listings of inputs, code and environments into a pack's folder while they are hashed.

    root: ``inputs/<name>``, ``code/<i>`` or ``environment/<i>``, ``<i>`` being the index of the transform.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._writers: dict[str, _ListingWriter] = {}
        self._texts: list[Listing] = []

    def add(self, root: str, entry: TreeEntry) -> None:
        """Take the next entry of a root; if the root is a file, its only entry, whose path is empty."""
        self._writer(root).add(entry)

    def add_text(self, root: str, data: bytes) -> None:
        """Write the text of an environment that is one file, a lock file for example. Call it once for each.

        Raises: InvalidInput as check_text does.
        """
        check_text(data, where=root)
        path = f"{root}.txt"
        with open(self._place(path), "xb") as file:
            file.write(data)
        self._texts.append(Listing(digest=digest_of(data), path=path, size=len(data)))

    def finish(self, roots: Iterable[str]) -> tuple[Listing, ...]:
        """Return the descriptors of the listings of these roots, and of all texts, in archive order.

        The listing of a root without entries, an empty folder, is empty.
        """
        listings = [self._writer(root).finish(f"{root}.jsonl") for root in roots]
        return tuple(sorted(listings + self._texts, key=lambda listing: listing.path))

    def _writer(self, root: str) -> _ListingWriter:
        if root not in self._writers:
            self._writers[root] = _ListingWriter(self._place(f"{root}.jsonl"))
        return self._writers[root]

    def _place(self, path: str) -> str:
        """Return where the listing or text with this path lies; make the folder around it."""
        if not _is_listing(path):
            raise ValueError(f"no pack has a listing {path!r}")
        location = os.path.join(self._folder, path)
        os.makedirs(os.path.dirname(location), exist_ok=True)
        return location


def assemble(
    folder: str,
    outputs: Mapping[str, OutputTree],
    *,
    contract: bytes,
    listings: tuple[Listing, ...] = (),
    provenance: dict[str, Any] | None = None,
    progress: Progress = silent,
    on_found: Callable[[Found], object] | None = None,
    on_entry: Callable[[TreeEntry], object] | None = None,
    processes: CopyProcesses | None = None,
) -> PackManifest:
    """Make folder, which must exist, the pack of these outputs, and return its manifest.

    outputs: by their names in the pack; copied, never linked. contract: canonical bytes. listings: what RootListings
    wrote into the same folder. on_found: called with each file and each empty folder before it is copied. on_entry:
    called with each, in canonical order, after it was copied. processes: that help to copy.
    Raises: InvalidInput for a contract that is not canonical, names that are not those in the contract, outputs that
    are missing, that change, come or go until all are copied, or hold what no pack may hold (links that are not
    followed, devices, paths that check_path refuses); LocalFailure for unreadable ones; OSError when folder cannot be
    written.
    """
    value = parse_canonical_contract(contract)
    roots = locate(outputs, output_names(value))
    manifest = PackManifest(
        contract=value,
        listings=listings,
        outputs=Totals().finish(tuple(Root(name=root.name, type=root.type) for root in roots)),
        provenance=provenance or {},
        schema="ctxpack/pack/v1",
        uri=uri_for(digest_of(contract)),
    )
    encode_pack_manifest(manifest)  # what no manifest can hold is refused before anything is copied
    listing, totals = _ListingWriter(os.path.join(folder, FILES)), Totals()
    artifacts = os.path.join(folder, ARTIFACTS)
    os.mkdir(artifacts)
    parents = ParentFolders(artifacts)
    first_look = FirstLook()
    outlook, begun = Outlook("seed", progress), 0
    outlook.enter(lambda: _sizes(roots, begun))

    def report(count: int) -> None:
        outlook.report(count)
        outlook.tick()

    def take(entry: TreeEntry) -> None:
        totals.add(entry)
        listing.add(entry)
        if on_entry is not None:
            on_entry(entry)

    with Copier() as copier:
        queue = CopyQueue(copier, processes.children if processes is not None else (), report, take)
        for root, found in find_outputs(roots):
            begun += 1
            outlook.begin(_size(found))
            first_look.note(found)
            if on_found is not None:
                on_found(found)
            check_path(found.path)
            queue.add(found, parents.make(found.path), follow=root.follow)
        queue.finish()
    outlook.leave()
    outlook.finish()
    manifest = msgspec.structs.replace(
        manifest,
        listings=(listing.finish(FILES), *listings),
        outputs=totals.finish(manifest.outputs.roots),
    )
    first_look.require_same(folder, roots)
    with open(os.path.join(folder, MANIFEST), "xb") as file:
        file.write(encode_pack_manifest(manifest))
    return manifest


def _sizes(roots: list[LocatedRoot], begun: int) -> Iterator[int]:
    """Yield the bytes of each file and each empty folder of roots, but 0 for so many of the first."""
    for number, (_, found) in enumerate(find_outputs(roots)):
        yield _size(found) if number >= begun else 0


def _size(found: Found) -> int:
    return 0 if found.is_empty_folder else found.stat.st_size


class _ListingWriter:
    """Writes one listing, and computes its descriptor.

    No file stays open between calls: an error halfway leaks nothing, and many listings can grow at once.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._waiting = bytearray()
        self._hash = hashlib.sha256()
        self._size = 0
        open(location, "xb").close()

    def add(self, entry: TreeEntry) -> None:
        line = listing_line(entry)
        if len(line) > MAX_LINE_BYTES:
            where, fix = repr(entry.path)[:SHOWN], "use shorter names, or leave it out"
            raise InvalidInput("path is too long for a listing", where=where, fix=fix, code="E_PATH")
        self._waiting += line
        if len(self._waiting) >= _LISTING_BUFFER:
            self._flush()

    def finish(self, path: str) -> Listing:
        self._flush()
        return Listing(digest=digest_from_hex(self._hash.hexdigest()), path=path, size=self._size)

    def _flush(self) -> None:
        with open(self._location, "ab") as file:
            file.write(self._waiting)
        self._hash.update(self._waiting)
        self._size += len(self._waiting)
        self._waiting.clear()
