"""From outputs on disk to a pack's folder: every file copied and hashed in one pass."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from ctxpack_bundle.copying import Copier
from ctxpack_bundle.folder import ARTIFACTS, MANIFEST, ParentFolders, create_member
from ctxpack_bundle.listing import listing_line
from ctxpack_bundle.outputs import Totals
from ctxpack_bundle.packmanifest import FILES, Listing, PackManifest, Root, encode_pack_manifest
from ctxpack_identity import (
    DEFAULT_HASHING,
    Digest,
    FolderDigest,
    Hashing,
    InvalidInput,
    Progress,
    TreeEntry,
    digest_from_hex,
    digest_of,
    hash_tree,
    parse_canonical_contract,
    silent,
    uri_for,
)
from ctxpack_identity.hashing.filehash import open_regular, require_unchanged
from ctxpack_identity.hashing.scan import Found, scan
from ctxpack_identity.packpath import check_path

__all__ = ["InputListings", "assemble", "outputs_digest"]

_LISTING_BUFFER = 64 << 10  # bytes


class InputListings:
    """Writes ``inputs/<name>.jsonl`` into a pack's folder while the inputs are hashed."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.join(folder, "inputs")
        self._writers: dict[str, _ListingWriter] = {}

    def add(self, name: str, entry: TreeEntry) -> None:
        """Take the next entry of the input called name."""
        self._writer(name).add(entry)

    def finish(self, names: Iterable[str]) -> tuple[Listing, ...]:
        """Return the descriptors of these inputs' listings, in archive order; an empty input has an empty listing."""
        listings = (self._writer(name).finish(f"inputs/{name}.jsonl") for name in names)
        return tuple(sorted(listings, key=lambda listing: listing.path))

    def _writer(self, name: str) -> _ListingWriter:
        if name not in self._writers:
            os.makedirs(self._folder, exist_ok=True)
            self._writers[name] = _ListingWriter(os.path.join(self._folder, f"{name}.jsonl"))
        return self._writers[name]


def assemble(
    folder: str,
    outputs: Sequence[str],
    *,
    contract: bytes,
    inputs: tuple[Listing, ...] = (),
    provenance: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> PackManifest:
    """Make folder, which must exist, the pack of these outputs, and return its manifest.

    outputs: files and folders on disk, copied, never linked. contract: canonical bytes. inputs: what InputListings
    wrote into the same folder.
    Raises: InvalidInput for outputs that are missing, change while they are read, share a name, or hold what no pack
    may hold (links, devices, paths that check_path refuses); LocalFailure for unreadable ones; OSError when folder
    cannot be written.
    """
    roots = _locate(outputs)
    listing, totals = _ListingWriter(os.path.join(folder, FILES)), Totals()
    artifacts = os.path.join(folder, ARTIFACTS)
    os.mkdir(artifacts)
    parents = ParentFolders(artifacts)
    with Copier() as copier:
        for found in _scan_roots(roots):
            entry = _copy(found, parents, copier, progress)
            totals.add(entry)
            listing.add(entry)
    manifest = PackManifest(
        contract=parse_canonical_contract(contract),
        listings=(listing.finish(FILES), *inputs),
        outputs=totals.finish(tuple(Root(name=root.name, type=root.type) for root in roots)),
        provenance=provenance or {},
        schema="ctxpack/pack/v1",
        uri=uri_for(digest_of(contract)),
    )
    with open(os.path.join(folder, MANIFEST), "xb") as file:
        file.write(encode_pack_manifest(manifest))
    return manifest


def outputs_digest(outputs: Mapping[str, str], *, hashing: Hashing = DEFAULT_HASHING) -> Digest:
    """Return the tree digest that the pack of these outputs would have; nothing is written.

    outputs: the location of each on disk, by its base name in the pack.
    Raises: InvalidInput, LocalFailure as assemble does.
    """
    tree = FolderDigest()
    for root in sorted(_located(name, location) for name, location in outputs.items()):
        _hash_root(root, tree, nested=len(outputs) > 1, hashing=hashing)
    return tree.finish()


class _LocatedRoot(NamedTuple):
    """A root of a pack, and where it is on disk."""

    name: str
    type: Literal["file", "folder"]
    location: str


def _located(name: str, location: str) -> _LocatedRoot:
    check_path(name)
    return _LocatedRoot(name, "folder" if os.path.isdir(location) else "file", location)


def _locate(outputs: Sequence[str]) -> list[_LocatedRoot]:
    roots = sorted(_located(os.path.basename(os.path.abspath(output)), output) for output in outputs)
    for one, other in pairwise(roots):
        if one.name == other.name:
            raise InvalidInput(
                "two outputs have the same name", where=one.name, fix="rename one of them", code="E_OUTPUT_NAME"
            )
    return roots


class _PackPaths:
    """Which paths a root's files have below ``artifacts/``. nested: whether it is one of several roots."""

    def __init__(self, root: _LocatedRoot, *, nested: bool) -> None:
        self._root = root
        self._prefix = f"{root.name}/" if nested else ""
        self._empty = True

    def path(self, path: str) -> str:
        """Return the path in the pack of what has this path in the root."""
        self._empty = False
        return self._root.name if self._root.type == "file" else self._prefix + path

    def empty_folder(self) -> str:
        """Return the path of the root if it needs an entry as an empty folder: path() was never called; else ""."""
        return self._prefix if self._empty else ""


def _hash_root(root: _LocatedRoot, tree: FolderDigest, *, nested: bool, hashing: Hashing) -> None:
    """Add the files of root to tree, by their paths below ``artifacts/``."""
    paths = _PackPaths(root, nested=nested)
    hash_tree(
        root.location,
        hashing=hashing,
        on_entry=lambda entry: tree.add(entry._replace(path=paths.path(entry.path))),
    )
    if empty := paths.empty_folder():
        tree.add(TreeEntry(empty, 0, ""))


def _scan_roots(roots: list[_LocatedRoot]) -> Iterator[Found]:
    """Yield what the pack will hold, by paths below ``artifacts/``."""
    for root in roots:
        paths = _PackPaths(root, nested=len(roots) > 1)
        for found in scan(root.location):
            yield found._replace(path=paths.path(found.path))
        if empty := paths.empty_folder():
            yield Found(empty, os.path.join(root.location, ""), os.lstat(root.location))


def _copy(found: Found, parents: ParentFolders, copier: Copier, progress: Progress) -> TreeEntry:
    check_path(found.path)
    target = parents.make(found.path)
    if found.is_empty_folder:
        os.mkdir(target)
        return TreeEntry(found.path, 0, "")
    executable = bool(found.stat.st_mode & stat.S_IXUSR)
    source = open_regular(found.location)
    try:
        copy = create_member(target, executable=executable)
        try:
            sha256, size = copier.copy(
                source,
                copy,
                found.stat.st_size,
                where=found.location,
                on_bytes=lambda count: progress("seed", count, None),
            )
        finally:
            os.close(copy)
        require_unchanged(source, found.location, size, found.stat.st_mtime_ns)
    finally:
        os.close(source)
    return TreeEntry(found.path, size, sha256, executable)


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
        self._waiting += listing_line(entry)
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
