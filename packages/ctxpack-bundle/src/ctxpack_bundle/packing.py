"""From a pack's folder to the pieces of its tar stream, made on the fly, in order, in flat memory."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter

from ctxpack_bundle.cutting import FINER, LEAST_AVERAGE, MOST_AVERAGE, cut
from ctxpack_bundle.folder import content_differs, open_member, read_entries, read_pack_manifest
from ctxpack_bundle.members import (
    ARTIFACTS_HEADER,
    Content,
    Member,
    Parts,
    entry_parts,
    length_of,
    listing_parts,
    manifest_part,
)
from ctxpack_bundle.outputs import checked_entries
from ctxpack_bundle.packmanifest import FILES, PackManifest
from ctxpack_bundle.table import TABLE_RECORDS, Table
from ctxpack_bundle.tar import END

__all__ = ["average_like", "average_of", "pack", "stream_size"]

_SMALL = 128 << 10  # bytes of a file that is read in one go
_LARGE = 16 << 20  # bytes of a file that begins and ends a piece: changed neighbours do not change its pieces
_GATHERED = 512 << 10  # bytes of small parts that become one part


def pack(folder: str, average: int | None = None) -> Generator[bytes, None, None]:
    """Yield the pack in folder as the pieces that become its chunks; together they are its tar stream.

    The first piece is ``manifest.json`` alone. A piece ends after the listings, and before and after each large file.
    Every file is hashed as it is read. average: bytes of a piece, about; by default average_of(manifest).
    Raises: IntegrityError for a file that differs from its listing, or that is gone, and for listings that are not
    the manifest's: the folder is damaged. OSError when the disk fails.
    Close the iterator when you leave it early: it holds a file open.
    """
    manifest = read_pack_manifest(folder)
    average = average or average_of(manifest)
    yield manifest_part(manifest)
    yield from _cut(folder, (listing_parts(listing) for listing in manifest.listings), average // FINER)
    with closing(_artifacts(folder, manifest)) as numbered:
        for _, section in groupby(numbered, itemgetter(0)):
            yield from _cut(folder, (member for _, member in section), average)


def average_of(manifest: PackManifest) -> int:
    """Return how many bytes a piece of the pack should have: the least average whose table is not too large.

    Averages double, so that two versions of a pack mostly have the same.
    """
    listings = sum(listing.size for listing in manifest.listings)
    outputs = stream_size(manifest) - listings
    average = LEAST_AVERAGE
    while average < MOST_AVERAGE and FINER * listings // average + outputs // average > TABLE_RECORDS:
        average *= 2
    return average


def average_like(base: Table, average: int) -> int:
    """Return the average of the pieces in base, for a pack that would have this one, unless it is off by four times.

    The cuts of another average are other cuts, so nothing could be borrowed.
    """
    theirs = LEAST_AVERAGE
    while theirs < MOST_AVERAGE and base.average > 3 * theirs // 2:  # FastCDC gives up to a quarter more than asked for
        theirs *= 2
    return theirs if average < 4 * theirs and theirs < 4 * average else average


def stream_size(manifest: PackManifest) -> int:
    """Return about how many bytes the tar stream has; headers of long names are not counted."""
    outputs = manifest.outputs
    return outputs.size + 1024 * (outputs.files + outputs.empty_folders) + sum(item.size for item in manifest.listings)


def _cut(folder: str, members: Iterator[Member], average: int) -> Iterator[bytes]:
    with closing(_MemberReader(folder, members)) as stream:
        yield from cut(stream, average)


def _artifacts(folder: str, manifest: PackManifest) -> Generator[tuple[int, Member], None, None]:
    """Yield the rest of the stream, each member with the number of its section. Each section is cut on its own."""
    section, before = 0, None
    yield section, (ARTIFACTS_HEADER,)
    where = os.path.join(folder, FILES)
    for entry in checked_entries(read_entries(folder), manifest.outputs, where=where):
        if before is not None and max(before, entry.size) >= _LARGE:
            section += 1
        before = entry.size
        yield section, entry_parts(entry)
    yield section, (END,)


def _read_small(folder: str, content: Content) -> bytes:
    fd = open_member(folder, content.path, content.size)
    try:
        data = os.read(fd, content.size + 1)
    finally:
        os.close(fd)
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != content.sha256:
        raise content_differs(os.path.join(folder, content.path), content.sha256, sha256)
    return data


class _MemberReader:
    """Reads members as one stream: large files straight into the caller's buffer, and hashed there.

    starts: offsets at which a member begins, of those that were read.
    """

    def __init__(self, folder: str, members: Iterator[Member]) -> None:
        self.starts: deque[int] = deque()
        self._folder, self._parts = folder, self._gathered(members)
        self._ready = memoryview(b"")
        self._file: _OpenContent | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        while True:
            if self._ready:
                count = min(len(buffer), len(self._ready))
                buffer[:count], self._ready = self._ready[:count], self._ready[count:]
                return count
            if self._file is not None:
                count = self._file.readinto(buffer)
                if count:
                    return count
                self._file = None
            part = next(self._parts, None)
            if part is None:
                return 0
            if isinstance(part, bytes):
                self._ready = memoryview(part)
            else:
                self._file = _OpenContent(self._folder, part)

    def close(self) -> None:
        """Close the file that is being read."""
        self._parts.close()
        if self._file is not None:
            self._file.close()

    def _gathered(self, members: Iterator[Member]) -> Parts:
        """Yield the same bytes in fewer parts: many small files are read into one part."""
        gathered: list[bytes] = []
        offset = size = 0
        for member in members:
            self.starts.append(offset)
            for part in member:
                offset += length_of(part)
                if isinstance(part, Content) and part.size > _SMALL:
                    yield b"".join(gathered)
                    yield part
                    gathered, size = [], 0
                    continue
                gathered.append(part if isinstance(part, bytes) else _read_small(self._folder, part))
                size += len(gathered[-1])
                if size >= _GATHERED:
                    yield b"".join(gathered)
                    gathered, size = [], 0
        yield b"".join(gathered)


class _OpenContent:
    """Reads a file of the folder once. The read that reaches its end fails unless the digest is right."""

    def __init__(self, folder: str, content: Content) -> None:
        self._fd = open_member(folder, content.path, content.size)
        self._folder, self._content, self._left = folder, content, content.size
        self._hash = hashlib.sha256()

    def readinto(self, buffer: memoryview) -> int:
        view = buffer[: self._left]
        count = os.readv(self._fd, [view]) if self._left else 0
        self._hash.update(view[:count])
        self._left -= count
        if self._left == 0 or count == 0:
            self._finish()
        return count

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _finish(self) -> None:
        self.close()
        sha256 = self._hash.hexdigest()
        if self._left or sha256 != self._content.sha256:
            location = os.path.join(self._folder, self._content.path)
            raise content_differs(location, self._content.sha256, sha256)
