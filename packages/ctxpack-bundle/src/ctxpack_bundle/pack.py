"""From a pack's folder to its chunks. The tar stream is made on the fly, in order, in flat memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from ctxpack_bundle.chunk import cut
from ctxpack_bundle.folder import ARTIFACTS, MANIFEST, open_member, read_entries, read_manifest
from ctxpack_bundle.manifest import PackManifest
from ctxpack_bundle.tar import END, file_header, folder_header, padding
from ctxpack_identity import IntegrityError

__all__ = ["pack", "stream_size"]


class _Content(NamedTuple):
    """A file's bytes, to be read when their turn comes. sha256: 64 hexadecimal digits."""

    path: str
    size: int
    sha256: str


_Part = bytes | _Content


def pack(folder: str) -> Iterator[bytes]:
    """Yield the pack in folder as the pieces that become its chunks; together they are its tar stream.

    The first piece is ``manifest.json`` alone; the listings end a piece too. Every file is hashed on its way.
    Raises: IntegrityError for a file that differs from its listing, or that is gone: the folder is damaged.
    """
    manifest = read_manifest(folder)
    total = stream_size(manifest)
    yield b"".join(part for part in _manifest(folder) if isinstance(part, bytes))
    yield from cut(_Stream(folder, _listings(manifest)), total)
    yield from cut(_Stream(folder, _artifacts(folder)), total)


def stream_size(manifest: PackManifest) -> int:
    """Return about how many bytes the tar stream has; headers of long names are not counted."""
    outputs = manifest.outputs
    return outputs.size + 1024 * (outputs.files + outputs.empty_folders) + sum(item.size for item in manifest.listings)


def _manifest(folder: str) -> Iterator[bytes]:
    with open(os.path.join(folder, MANIFEST), "rb") as file:
        data = file.read()
    yield from (file_header(MANIFEST, len(data)), data, padding(len(data)))


def _listings(manifest: PackManifest) -> Iterator[_Part]:
    for listing in manifest.listings:
        yield file_header(listing.path, listing.size)
        yield _Content(listing.path, listing.size, listing.digest.removeprefix("sha256:"))
        yield padding(listing.size)


def _artifacts(folder: str) -> Iterator[_Part]:
    yield folder_header(f"{ARTIFACTS}/")
    for entry in read_entries(folder):
        name = f"{ARTIFACTS}/{entry.path}"
        if entry.is_empty_folder:
            yield folder_header(name)
        else:
            yield file_header(name, entry.size, executable=entry.executable)
            yield _Content(name, entry.size, entry.sha256)
            yield padding(entry.size)
    yield END


class _Stream:
    """The parts as one readable stream, files read straight into the caller's buffer and hashed there."""

    def __init__(self, folder: str, parts: Iterator[_Part]) -> None:
        self._folder, self._parts = folder, parts
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


class _OpenContent:
    """A file of the folder, read once; its last byte is handed out only if all of them were the right ones."""

    def __init__(self, folder: str, content: _Content) -> None:
        self._fd = open_member(folder, content.path, content.size)
        self._location = os.path.join(folder, content.path)
        self._content, self._left = content, content.size
        self._hash = hashlib.sha256()

    def readinto(self, buffer: memoryview) -> int:
        view = buffer[: self._left]
        count = os.readv(self._fd, [view]) if self._left else 0
        self._hash.update(view[:count])
        self._left -= count
        if self._left == 0 or count == 0:
            self._finish()
        return count

    def _finish(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._left or self._hash.hexdigest() != self._content.sha256:
            raise IntegrityError(
                "file differs from its listing",
                where=self._location,
                expected=f"sha256:{self._content.sha256}",
                got=f"sha256:{self._hash.hexdigest()}",
                fix="remove the pack (ctxpack rm) and pull or seed it again",
            )

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
