"""From outputs on disk to a pack's folder: every file copied and hashed in one pass."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

from ctxpack_bundle.folder import ARTIFACTS, MANIFEST
from ctxpack_bundle.listing import listing_line
from ctxpack_bundle.manifest import FILES, Listing, Outputs, PackManifest, Root, encode_manifest
from ctxpack_bundle.paths import check_path
from ctxpack_identity import (
    CtxUri,
    Digest,
    Entry,
    FolderDigest,
    InvalidInput,
    Progress,
    parse_canonical_contract,
    silent,
)
from ctxpack_identity.filehash import hash_files, open_regular, require_unchanged
from ctxpack_identity.scan import Found, scan

__all__ = ["InputListings", "assemble", "outputs_digest"]

_COPY_SIZE = 1 << 20  # bytes


class InputListings:
    """Writes ``inputs/<name>.jsonl`` into a pack's folder while the inputs are hashed."""

    def __init__(self, folder: str) -> None:
        self._folder = os.path.join(folder, "inputs")
        self._writers: dict[str, _ListingWriter] = {}

    def add(self, name: str, entry: Entry) -> None:
        """Take the next entry of the input called name."""
        self._writer(name).add(entry)

    def finish(self, names: Iterable[str]) -> tuple[Listing, ...]:
        """Return the descriptors of these inputs' listings, in archive order; an empty input has an empty one."""
        return tuple(self._writer(name).finish(f"inputs/{name}.jsonl") for name in sorted(names))

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
    listing = _ListingWriter(os.path.join(folder, FILES))
    tree = FolderDigest()
    artifacts = os.path.join(folder, ARTIFACTS)
    os.mkdir(artifacts)
    files = empty = size = 0
    for found in _scan_roots(roots):
        entry = _copy(found, artifacts, progress)
        tree.add(entry)
        listing.add(entry)
        empty += entry.is_empty_folder
        files += not entry.is_empty_folder
        size += entry.size
    manifest = PackManifest(
        contract=parse_canonical_contract(contract),
        listings=(listing.finish(FILES), *inputs),
        outputs=Outputs(
            digest=tree.finish(),
            empty_folders=empty,
            files=files,
            roots=tuple(Root(name=name, type=kind) for name, kind, _ in roots),
            size=size,
        ),
        provenance=provenance or {},
        uri=uri,
    )
    with open(os.path.join(folder, MANIFEST), "xb") as file:
        file.write(encode_manifest(manifest))
    return manifest


def outputs_digest(outputs: Sequence[str], *, progress: Progress = silent) -> Digest:
    """Return the tree digest that the pack of these outputs would have; nothing is written.

    Raises: InvalidInput, LocalFailure as assemble does.
    """
    tree = FolderDigest()
    for found, sha256 in hash_files(_scan_roots(_roots(outputs)), progress=progress):
        tree.add(Entry(found.path, found.stat.st_size if sha256 else 0, sha256))
    return tree.finish()


_Root = tuple[str, Literal["file", "folder"], str]
"""(base name, what it is, where it is)"""


def _roots(outputs: Sequence[str]) -> list[_Root]:
    roots = sorted(_root(output) for output in outputs)
    for (name, *_), (other, *_) in pairwise(roots):
        if name == other:
            raise InvalidInput(
                "two outputs have the same name", where=name, fix="rename one of them", code="E_OUTPUT_NAME"
            )
    return roots


def _root(output: str) -> _Root:
    name = os.path.basename(os.path.abspath(output))
    return name, "folder" if os.path.isdir(output) else "file", output


def _scan_roots(roots: list[_Root]) -> Iterator[Found]:
    """Yield what the pack will hold, each path as it will be below ``artifacts/``."""
    for name, kind, location in roots:
        prefix = "" if kind == "file" or len(roots) == 1 else f"{name}/"
        empty = True
        for found in scan(location):
            empty = False
            yield found._replace(path=prefix + found.path)
        if prefix and empty:
            yield Found(prefix, location, os.lstat(location))


def _copy(found: Found, artifacts: str, progress: Progress) -> Entry:
    check_path(found.path)
    target = os.path.join(artifacts, found.path)
    if found.is_empty_folder:
        os.makedirs(target)
        return Entry(found.path, 0, "")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    executable = bool(found.stat.st_mode & stat.S_IXUSR)
    source = open_regular(found.location)
    try:
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755 if executable else 0o644)
        try:
            sha256, size = _copy_hashed(source, copy, progress)
        finally:
            os.close(copy)
        require_unchanged(source, found.location, size, found.stat.st_mtime_ns)
    finally:
        os.close(source)
    return Entry(found.path, size, sha256, executable)


def _copy_hashed(source: int, copy: int, progress: Progress) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while data := os.read(source, _COPY_SIZE):
        digest.update(data)
        size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(copy, view) :]
        progress("seed", len(data), None)
    return digest.hexdigest(), size


class _ListingWriter:
    """Writes one listing and knows its descriptor."""

    def __init__(self, location: str) -> None:
        self._file = open(location, "xb")  # noqa: SIM115 - closed by finish()
        self._hash = hashlib.sha256()
        self._size = 0

    def add(self, entry: Entry) -> None:
        line = listing_line(entry)
        self._file.write(line)
        self._hash.update(line)
        self._size += len(line)

    def finish(self, path: str) -> Listing:
        self._file.close()
        return Listing(digest=f"sha256:{self._hash.hexdigest()}", path=path, size=self._size)
