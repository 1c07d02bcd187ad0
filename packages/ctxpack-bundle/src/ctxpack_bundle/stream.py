"""The tar stream of a pack, readable at any offset. It is made from the pack's folder: no packed copy is kept."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from typing import Final

from ctxpack_bundle.folder import open_member, read_pack_manifest
from ctxpack_bundle.listing import read_listing
from ctxpack_bundle.members import Part, Parts, entry_size, head_parts, last_parts, length_of
from ctxpack_bundle.outputs import checked_entries
from ctxpack_bundle.packmanifest import FILES, PackManifest
from ctxpack_bundle.remedy import IN_CACHE
from ctxpack_bundle.tar import END
from ctxpack_identity import IntegrityError

__all__ = ["PackStream"]

_STRIDE: Final = 64  # entries between two marks: 16 bytes of memory for each 64 files


class PackStream:
    """Reads any range of the bytes that pack() yields for folder. Reading in ascending order is fastest.

    The constructor reads the listing, and checks it as pack() does. Contents are not hashed: the caller has to do that.
    manifest: of the pack; size: of the whole stream, bytes. Close it: it holds the listing open. One thread at a time.
    Raises: IntegrityError for a folder that is damaged or gone; OSError when the disk fails.
    """

    manifest: PackManifest
    size: int

    def __init__(self, folder: str) -> None:
        self.manifest = read_pack_manifest(folder)
        self._folder = folder
        self._where = os.path.join(folder, FILES)
        self._head: list[Part] = [*head_parts(self.manifest)]
        self._starts, self._lines = array("Q", [0]), array("Q", [0])  # of each mark: offset in stream, in listing
        self._listing = os.fdopen(open_member(folder, FILES, self.manifest.listings[0].size), "rb")
        try:
            self.size = self._survey()
        except BaseException:
            self.close()
            raise
        self._go_to(0)

    def close(self) -> None:
        """Close the listing. Nothing can be read after that."""
        self._listing.close()

    def __enter__(self) -> PackStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def read(self, offset: int, size: int) -> bytes:
        """Return size bytes from offset on.

        Raises: IntegrityError when the stream has no such range, or a file in it is missing or has another size.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            got = f"{size} bytes at {offset}"
            raise IntegrityError("no such range", where=self._folder, expected=f"within {self.size} bytes", got=got)
        taken: list[bytes] = []
        while size:
            self._seek(offset)
            data = self._take(offset - self._begin, size)
            taken.append(data)
            offset += len(data)
            size -= len(data)
        return b"".join(taken)

    def _survey(self) -> int:
        """Check the listing and set the marks; return the size of the stream."""
        position = sum(map(length_of, self._head))
        entries = read_listing(self._listing, where=self._where)
        for number, entry in enumerate(checked_entries(entries, self.manifest.outputs, where=self._where), 1):
            position += entry_size(entry)
            if number % _STRIDE == 0:
                self._starts.append(position)
                self._lines.append(self._listing.tell())
        return position + len(END)

    def _go_to(self, mark: int) -> None:
        self._parts = self._parts_from(mark)
        self._begin = self._starts[mark]
        self._part: Part = b""

    def _parts_from(self, mark: int) -> Parts:
        if mark == 0:
            yield from self._head
        self._listing.seek(self._lines[mark])
        yield from last_parts(read_listing(self._listing, where=self._where))

    def _seek(self, offset: int) -> None:
        """Make the part that holds offset the current one."""
        mark = bisect_right(self._starts, offset) - 1
        if offset < self._begin or self._starts[mark] > self._begin:
            self._go_to(mark)
        while offset >= self._begin + length_of(self._part):
            self._begin += length_of(self._part)
            part = next(self._parts, None)
            if part is None:
                raise IntegrityError("listing changed while it was read", where=self._where, fix=IN_CACHE)
            self._part = part

    def _take(self, start: int, most: int) -> bytes:
        """Return at least 1 and at most most bytes of the current part, from start on."""
        part = self._part
        if isinstance(part, bytes):
            return part[start : start + most]
        fd = open_member(self._folder, part.path, part.size)
        try:
            data = os.pread(fd, min(most, part.size - start), start)
        finally:
            os.close(fd)
        if not data:
            raise IntegrityError("file became shorter", where=os.path.join(self._folder, part.path), fix=IN_CACHE)
        return data
