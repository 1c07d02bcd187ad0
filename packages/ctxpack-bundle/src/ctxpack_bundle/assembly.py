"""From outputs on disk to a pack's folder: every file copied and hashed in one pass."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from ctxpack_bundle.copying import Copier
from ctxpack_bundle.folder import ARTIFACTS, MANIFEST, ParentFolders, create_member
from ctxpack_bundle.listing import listing_line
from ctxpack_bundle.outputs import Totals
from ctxpack_bundle.packmanifest import FILES, Listing, PackManifest, Root, encode_pack_manifest
from ctxpack_bundle.paths import check_path
from ctxpack_identity import (
    DEFAULT_HASHING,
    CtxUri,
    Digest,
    FolderDigest,
    Hashing,
    InvalidInput,
    Progress,
    TreeEntry,
    hash_tree,
    parse_canonical_contract,
    silent,
)
from ctxpack_identity.hashing.filehash import open_regular, require_unchanged
from ctxpack_identity.hashing.scan import Found, scan

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
        """Return the descriptors of these inputs' listings, in archive order; an empty input has an empty one."""
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
    uri: CtxUri,
    contract: bytes,
    inputs: tuple[Listing, ...] = (),
    provenance: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> PackManifest:
    """Make folder, which must exist, the pack of these outputs, and return its manifest.

    outputs: files and folders on disk, copied, never linked. contract: canonical bytes. inputs: what InputListings
    wrote into the same folder.
    Raises: InvalidInput for outputs that are missing, change while they are read, share a name, or hold what no pack
    may hold (links, devices, paths beyond paths.check_path); LocalFailure for unreadable ones; OSError when folder
    cannot be written.
    """
    roots = _roots(outputs)
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
        outputs=totals.finish(tuple(Root(name=name, type=kind) for name, kind, _ in roots)),
        provenance=provenance or {},
        schema="ctxpack/pack/v1",
        uri=uri,
    )
    with open(os.path.join(folder, MANIFEST), "xb") as file:
        file.write(encode_pack_manifest(manifest))
    return manifest


def outputs_digest(
    outputs: Mapping[str, str],
    *,
    hashing: Hashing = DEFAULT_HASHING,
) -> Digest:
    """Return the tree digest that the pack of these outputs would have; nothing is written.

    outputs: where each stands, by the base name it has in the pack.
    Raises: InvalidInput, LocalFailure as assemble does.
    """
    tree = FolderDigest()
    for root in sorted(_root(name, location) for name, location in outputs.items()):
        _hash_root(root, tree, nested=len(outputs) > 1, hashing=hashing)
    return tree.finish()


def _hash_root(root: _Root, tree: FolderDigest, *, nested: bool, hashing: Hashing) -> None:
    """Add what stands at a root to tree, each path as it would be below ``artifacts/``."""
    name, kind, location = root
    prefix = f"{name}/" if nested else ""
    empty = True

    def add(entry: TreeEntry) -> None:
        nonlocal empty
        empty = False
        tree.add(entry._replace(path=name if kind == "file" else prefix + entry.path))

    hash_tree(location, hashing=hashing, on_entry=add)
    if empty and nested:
        tree.add(TreeEntry(prefix, 0, ""))


_Root = tuple[str, Literal["file", "folder"], str]
"""(base name, what it is, where it is)"""


def _roots(outputs: Sequence[str]) -> list[_Root]:
    roots = sorted(_root(os.path.basename(os.path.abspath(output)), output) for output in outputs)
    for (name, *_), (other, *_) in pairwise(roots):
        if name == other:
            raise InvalidInput(
                "two outputs have the same name", where=name, fix="rename one of them", code="E_OUTPUT_NAME"
            )
    return roots


def _root(name: str, location: str) -> _Root:
    check_path(name)
    return name, "folder" if os.path.isdir(location) else "file", location


def _scan_roots(roots: list[_Root]) -> Iterator[Found]:
    """Yield what the pack will hold, each path as it will be below ``artifacts/``."""
    for name, kind, location in roots:
        prefix = "" if len(roots) == 1 else f"{name}/"
        empty = True
        for found in scan(location):
            empty = False
            yield found._replace(path=name if kind == "file" else prefix + found.path)
        if empty and prefix:
            yield Found(prefix, os.path.join(location, ""), os.lstat(location))


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
    """Writes one listing and knows its descriptor.

    No file stays open between calls: work that stops halfway leaks nothing, and many listings can grow at once.
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
        return Listing(digest=f"sha256:{self._hash.hexdigest()}", path=path, size=self._size)

    def _flush(self) -> None:
        with open(self._location, "ab") as file:
            file.write(self._waiting)
        self._hash.update(self._waiting)
        self._size += len(self._waiting)
        self._waiting.clear()
