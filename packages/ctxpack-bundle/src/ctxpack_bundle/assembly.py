"""From outputs on disk to a pack's folder: every file copied and hashed in one pass."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from ctxpack_bundle.copying import Copier
from ctxpack_bundle.folder import ARTIFACTS, MANIFEST, ParentFolders, create_member
from ctxpack_bundle.listing import MAX_LINE_BYTES, listing_line
from ctxpack_bundle.outputs import Totals
from ctxpack_bundle.packmanifest import (
    FILES,
    LISTING_PATTERN,
    Listing,
    PackManifest,
    Root,
    check_root_name,
    declared_outputs,
    encode_pack_manifest,
)
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
from ctxpack_identity.contract import MAX_TEXT_BYTES
from ctxpack_identity.hashing.filehash import open_regular, require_unchanged
from ctxpack_identity.hashing.scan import Found, scan
from ctxpack_identity.packpath import check_path

__all__ = ["RootListings", "assemble", "outputs_digest"]

_LISTING_BUFFER = 64 << 10  # bytes
_SHOWN = 500  # characters of names in a message

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

        Raises: InvalidInput for more than MAX_TEXT_BYTES, and for what is not UTF-8.
        """
        _check_text(data, root)
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
    outputs: Mapping[str, str],
    *,
    contract: bytes,
    listings: tuple[Listing, ...] = (),
    provenance: dict[str, Any] | None = None,
    progress: Progress = silent,
) -> PackManifest:
    """Make folder, which must exist, the pack of these outputs, and return its manifest.

    outputs: the location of each on disk, a file or folder, by its name in the pack; copied, never linked. contract:
    canonical bytes. listings: what RootListings wrote into the same folder.
    Raises: InvalidInput for a contract that is not canonical, names that are not those in the contract, outputs that
    are missing, change while they are read, or hold what no pack may hold (links, devices, paths that check_path
    refuses); LocalFailure for unreadable ones; OSError when folder cannot be written.
    """
    value = parse_canonical_contract(contract)
    roots = _locate(outputs, declared_outputs(value))
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
    with Copier() as copier:
        for found in _scan_roots(roots):
            entry = _copy(found, parents, copier, progress)
            totals.add(entry)
            listing.add(entry)
    manifest = msgspec.structs.replace(
        manifest,
        listings=(listing.finish(FILES), *listings),
        outputs=totals.finish(manifest.outputs.roots),
    )
    with open(os.path.join(folder, MANIFEST), "xb") as file:
        file.write(encode_pack_manifest(manifest))
    return manifest


def outputs_digest(outputs: Mapping[str, str], *, hashing: Hashing = DEFAULT_HASHING) -> Digest:
    """Return the tree digest that the pack of these outputs would have; nothing is written.

    outputs: the location of each on disk, by its name in the pack.
    Raises: InvalidInput, LocalFailure as assemble does for outputs.
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
    check_root_name(name)
    return _LocatedRoot(name, "folder" if os.path.isdir(location) else "file", location)


def _locate(outputs: Mapping[str, str], declared: list[str]) -> list[_LocatedRoot]:
    """Return the roots in order. declared: the names they must have; any, if there are none."""
    roots = sorted(_located(name, location) for name, location in outputs.items())
    missing, more = set(declared) - set(outputs), set(outputs) - set(declared)
    if declared and (missing or more):
        faults = [f"{what} {_shown(names)}" for what, names in (("missing", missing), ("too many", more)) if names]
        raise InvalidInput(
            f"outputs are not those that the contract names: {', '.join(faults)}",
            fix="give a file or folder for each of these names and for no other, or change the outputs in the contract",
            code="E_OUTPUT_NAME",
        )
    return roots


def _shown(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))[:_SHOWN]


def _check_text(data: bytes, root: str) -> None:
    """Raise InvalidInput unless a pack may hold data as the text of root."""
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidInput(
            "text is too long",
            where=root,
            expected=f"at most {MAX_TEXT_BYTES} bytes",
            got=str(len(data)),
            fix="leave its text out of the pack: its digest is in the contract anyway",
            code="E_TOO_LARGE",
        )
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "text is not UTF-8",
            where=root,
            got=f"byte {data[error.start]:#04x} at offset {error.start}",
            fix="save it as UTF-8, or leave its text out of the pack",
            code="E_TEXT",
        ) from error


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
        line = listing_line(entry)
        if len(line) > MAX_LINE_BYTES:
            where, fix = repr(entry.path)[:_SHOWN], "use shorter names, or leave it out"
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
