"""A pack as a folder: the members of the archive, unpacked. What seed assembles, push packs and pull unpacks.

::

    manifest.json          files.jsonl          inputs/<name>.jsonl          artifacts/…
                                                code/<i>.jsonl
                                                environment/<i>.jsonl
                                                environment/<i>.txt
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ctxpack_bundle.listing import read_listing
from ctxpack_bundle.packmanifest import FILES, MAX_PACK_MANIFEST_BYTES, PackManifest, parse_pack_manifest
from ctxpack_bundle.remedy import IN_CACHE
from ctxpack_identity import IntegrityError, TreeEntry

__all__ = [
    "ARTIFACTS",
    "MANIFEST",
    "SEALED",
    "ParentFolders",
    "create_member",
    "open_member",
    "read_entries",
    "read_pack_manifest",
]

MANIFEST = "manifest.json"
ARTIFACTS = "artifacts"

SEALED = 0o555  # mode bits that a file of a pack may have; the same as in the cache, so that it has nothing to change


def read_pack_manifest(folder: str) -> PackManifest:
    """Return the manifest of the pack in folder. Raises: IntegrityError when it is missing or malformed."""
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, "rb") as file:
            # read() allocates what it is asked for
            size = min(os.fstat(file.fileno()).st_size, MAX_PACK_MANIFEST_BYTES)
            return parse_pack_manifest(file.read(size + 1), where=path)
    except OSError as error:
        raise _damaged(path, error) from error


def read_entries(folder: str, listing: str = FILES) -> Iterator[TreeEntry]:
    """Yield the entries of one listing of the pack in folder. Raises: IntegrityError as read_listing does."""
    path = os.path.join(folder, listing)
    try:
        with open(path, "rb") as file:
            yield from read_listing(file, where=path)
    except OSError as error:
        raise _damaged(path, error) from error


def open_member(folder: str, path: str, size: int) -> int:
    """Return a descriptor open for reading on a member's file.

    Raises: IntegrityError when it is not a regular file of this size (bytes).
    """
    location = os.path.join(folder, path)
    try:
        fd = os.open(location, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _damaged(location, error) from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        os.close(fd)
        raise IntegrityError(
            "not the file its listing names",
            where=location,
            expected=f"{size} bytes",
            got=str(status.st_size),
            fix=IN_CACHE,
        )
    return fd


def create_member(location: str, *, executable: bool = False, modes: int = SEALED) -> int:
    """Return a descriptor open for reading and writing on a new file.

    modes: bits that the mode of the file may have. Raises: OSError; FileExistsError when something is there.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(location, flags, (0o777 if executable else 0o666) & modes)


class ParentFolders:
    """Makes the parent folders of paths that come in canonical order, each folder once.

    A folder that exists already is an error (FileExistsError): on a file system that ignores case, names that differ
    in case must not share a folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._last, self._names = "", list[str]()

    def make(self, path: str) -> str:
        """Make the parent folders of path, relative POSIX, and return its location."""
        parent = path.removesuffix("/").rpartition("/")[0]
        if parent != self._last:
            names = parent.split("/") if parent else []
            known = 0
            for one, other in zip(names, self._names, strict=False):
                if one != other:
                    break
                known += 1
            for depth in range(known, len(names)):
                os.mkdir(os.path.join(self._folder, *names[: depth + 1]))
            self._last, self._names = parent, names
        return os.path.join(self._folder, path)


def _damaged(location: str, error: OSError) -> IntegrityError:
    return IntegrityError(
        f"pack is damaged: {error.strerror}",
        where=location,
        fix=IN_CACHE,
    )
