"""From a tar stream to a pack's folder, trusting nothing but digests.

The reader never interprets an archive: the manifest says which listings follow, the listing which files follow, and
this format allows each of them exactly one header. The reader makes that header and compares bytes. Links, devices, odd
names, extra members, sparse files and everything else that a tar can hold differ from it, and so are refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Final

from ctxpack_bundle.folder import ARTIFACTS, MANIFEST, SEALED, ParentFolders, create_member, read_entries
from ctxpack_bundle.holes import LEAST_HOLE, with_holes, write_block
from ctxpack_bundle.outputs import checked_entries
from ctxpack_bundle.packmanifest import FILES, MAX_PACK_MANIFEST_BYTES, Listing, PackManifest, parse_pack_manifest
from ctxpack_bundle.remedy import IN_REGISTRY
from ctxpack_bundle.sidehash import WORTHWHILE, SideHash
from ctxpack_bundle.tar import BLOCK, END, file_header, folder_header, padding
from ctxpack_identity import IntegrityError, TreeEntry, digest_from_hex, hex_of
from ctxpack_identity.disk import write_all

__all__ = ["pack_manifest_of", "unpack", "unpack_entries", "unpack_listing"]

_SIZE_FIELD: Final = slice(124, 136)


def pack_manifest_of(first: bytes, *, where: str) -> PackManifest:
    """Return the manifest from the first piece of a pack, which must hold nothing else.

    Raises: IntegrityError as parse_pack_manifest does, or when the piece is not the manifest's member alone.
    """
    stream = _PieceReader([first], where)
    manifest = parse_pack_manifest(_manifest_bytes(stream), where=f"{where}, {MANIFEST}")
    stream.expect_end()
    return manifest


def unpack(pieces: Iterable[bytes], folder: str, *, where: str) -> PackManifest:
    """Write a pack into folder, which must exist and be empty. pieces: of its tar stream, in order.

    When it returns, every file and listing was written and had the digest given for it, and the tree digest of the
    outputs is the manifest's.
    Raises: IntegrityError at the first byte that differs from the expected one; OSError when folder cannot be written.
    """
    stream = _PieceReader(pieces, where)
    data = _manifest_bytes(stream)
    manifest = parse_pack_manifest(data, where=f"{where}, {MANIFEST}")
    _write(os.path.join(folder, MANIFEST), data)
    parents = ParentFolders(folder)
    for listing in manifest.listings:
        _unpack_listing(stream, parents.make(listing.path), listing)
    stream.expect(folder_header(f"{ARTIFACTS}/"), f"{ARTIFACTS}/")
    artifacts = os.path.join(folder, ARTIFACTS)
    os.mkdir(artifacts)
    entries = checked_entries(read_entries(folder), manifest.outputs, where=f"{where}, {FILES}")
    _unpack_entries(stream, artifacts, entries, SEALED)
    stream.expect(END, "the end of the archive")
    stream.expect_end()
    return manifest


def unpack_listing(pieces: Iterable[bytes | memoryview], folder: str, listing: Listing, *, where: str) -> None:
    """Write a listing into folder, from pieces that are its member and nothing else. Raises: as unpack does.

    The folder around a listing is made, unless it is there already.
    """
    stream = _PieceReader(pieces, where)
    location = os.path.join(folder, listing.path)
    os.makedirs(os.path.dirname(location), exist_ok=True)
    _unpack_listing(stream, location, listing)
    stream.expect_end()


def unpack_entries(
    pieces: Iterable[bytes | memoryview], folder: str, entries: Iterable[TreeEntry], *, modes: int, where: str
) -> None:
    """Write entries of the outputs into folder, from pieces that are their members and nothing else.

    entries: known to be safe, in canonical order. modes: bits that the modes of the files may have.
    Raises: as unpack does.
    """
    stream = _PieceReader(pieces, where)
    _unpack_entries(stream, folder, entries, modes)
    stream.expect_end()


def _manifest_bytes(stream: _PieceReader) -> bytes:
    header = bytes(stream.take(BLOCK, MANIFEST))
    try:
        size = int(header[_SIZE_FIELD].rstrip(b"\0"), 8)
    except ValueError:
        size = -1
    if not 0 < size <= MAX_PACK_MANIFEST_BYTES or header != file_header(MANIFEST, size):
        raise stream.differs(MANIFEST)
    data = bytes(stream.take(size, MANIFEST))
    stream.expect(padding(size), MANIFEST)
    return data


def _unpack_listing(stream: _PieceReader, location: str, listing: Listing) -> None:
    entry = TreeEntry(listing.path, listing.size, hex_of(listing.digest))
    with SideHash() as side_hash:
        _unpack_file(stream, location, listing.path, entry, SEALED, side_hash)


def _unpack_entries(stream: _PieceReader, folder: str, entries: Iterable[TreeEntry], modes: int) -> None:
    parents = ParentFolders(folder)
    with SideHash() as side_hash:
        for entry in entries:
            name = f"{ARTIFACTS}/{entry.path}"
            location = parents.make(entry.path)
            if entry.is_empty_folder:
                stream.expect(folder_header(name), name)
                os.mkdir(location)
            else:
                _unpack_file(stream, location, name, entry, modes, side_hash)


def _unpack_file(
    stream: _PieceReader, location: str, name: str, entry: TreeEntry, modes: int, side_hash: SideHash
) -> None:
    stream.expect(file_header(name, entry.size, executable=entry.executable), name)
    fd = create_member(location, executable=entry.executable, modes=modes)
    try:
        sha256 = _copy(stream, fd, name, entry.size, side_hash)
    finally:
        os.close(fd)
    if sha256 != entry.sha256:
        raise IntegrityError(
            "content differs from its digest",
            where=f"{stream.where}, {name}",
            expected=digest_from_hex(entry.sha256),
            got=digest_from_hex(sha256),
            fix=IN_REGISTRY,
        )
    stream.expect(padding(entry.size), name)


def _copy(stream: _PieceReader, fd: int, name: str, size: int, side_hash: SideHash) -> str:
    """Write the next size bytes to fd; return their SHA-256."""
    if size > WORTHWHILE:
        return side_hash.write(with_holes(stream.slices(size, name)), fd)[0]
    content = stream.take(size, name)
    if size < LEAST_HOLE:
        write_all(fd, content)
    else:
        for block in with_holes([memoryview(content)]):
            write_block(fd, block)
        os.ftruncate(fd, size)
    return hashlib.sha256(content).hexdigest()


def _write(location: str, data: bytes) -> None:
    fd = create_member(location)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


class _PieceReader:
    """Reads the pieces as one stream, and exactly as far as something is expected."""

    def __init__(self, pieces: Iterable[bytes | memoryview], where: str) -> None:
        self.where = where
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def slices(self, size: int, name: str) -> Iterator[memoryview]:
        """Yield the next size bytes, as slices of the pieces that hold them."""
        while size:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    raise IntegrityError(
                        "pack ends too early",
                        where=f"{self.where}, {name}",
                        got=f"{size} bytes less",
                        fix=IN_REGISTRY,
                    )
                self._rest = memoryview(piece)
            data, self._rest = self._rest[:size], self._rest[size:]
            size -= len(data)
            yield data

    def take(self, size: int, name: str) -> bytes | memoryview:
        """Return the next size bytes at once, without a copy if one piece holds them all."""
        if len(self._rest) < size:
            return b"".join(self.slices(size, name))
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def expect(self, data: bytes, name: str) -> None:
        """Read past data. Raises: IntegrityError when the stream holds something else."""
        if data and self.take(len(data), name) != data:
            raise self.differs(name)

    def expect_end(self) -> None:
        """Raise IntegrityError when anything is left."""
        if self._rest or any(self._pieces):
            raise IntegrityError("bytes after the end", where=self.where, fix=IN_REGISTRY)

    def differs(self, name: str) -> IntegrityError:
        return IntegrityError(
            "archive differs from its listing",
            where=f"{self.where}, {name}",
            expected="the one header format v1 allows",
            fix=IN_REGISTRY,
        )
