"""A pack as a folder: the members of the archive, unpacked. What seed assembles, push packs and pull unpacks.

::

    manifest.json          files.jsonl          inputs/<name>.jsonl          artifacts/…
                                                code/<i>.jsonl
                                                environment/<i>.jsonl
                                                environment/<i>.txt
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from ctxpack_bundle.listing import listing_lines, read_executables, read_listing
from ctxpack_bundle.packmanifest import FILES, MAX_PACK_MANIFEST_BYTES, PackManifest, parse_pack_manifest
from ctxpack_bundle.remedy import IN_CACHE
from ctxpack_identity import IntegrityError, LocalFailure, TreeEntry, digest_from_hex
from ctxpack_identity.hashing.filehash import unreadable

__all__ = [
    "ARTIFACTS",
    "MANIFEST",
    "SEALED",
    "ParentFolders",
    "content_differs",
    "create_member",
    "executable_paths",
    "open_member",
    "read_entries",
    "read_lines",
    "read_pack_manifest",
    "unreadable_member",
]

MANIFEST = "manifest.json"
ARTIFACTS = "artifacts"

# Errors of a file or folder that is not what it was, or whose blocks cannot be read; others are no damage, such as a
# process that may not open more files, or not this one.
_DAMAGE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EIO})

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not make us wait

SEALED = 0o555  # mode bits that a file of a pack may have; the same as in the cache, so that it has nothing to change


def read_pack_manifest(folder: str) -> PackManifest:
    """Return the manifest of the pack in folder.

    Raises: IntegrityError when it is missing or malformed; LocalFailure when it cannot be read.
    """
    path = os.path.join(folder, MANIFEST)
    try:
        with _opened(path) as file:
            # read() allocates what it is asked for
            size = min(os.fstat(file.fileno()).st_size, MAX_PACK_MANIFEST_BYTES)
            return parse_pack_manifest(file.read(size + 1), where=path)
    except OSError as error:
        raise unreadable_member(path, error) from error


def read_entries(folder: str, listing: str = FILES) -> Iterator[TreeEntry]:
    """Yield the entries of one listing of the pack in folder.

    Raises: IntegrityError as read_listing does, and when it is missing; LocalFailure when it cannot be read.
    """
    path = os.path.join(folder, listing)
    try:
        with _opened(path) as file:
            yield from read_listing(file, where=path)
    except OSError as error:
        raise unreadable_member(path, error) from error


def read_lines(folder: str, listing: str) -> Iterator[bytes]:
    """Yield the lines of one listing of the pack in folder, as listing_lines does.

    Raises: IntegrityError when it is missing; LocalFailure when it cannot be read.
    """
    path = os.path.join(folder, listing)
    try:
        with _opened(path) as file:
            yield from listing_lines(file)
    except OSError as error:
        raise unreadable_member(path, error) from error


def executable_paths(folder: str) -> set[str]:
    """Return the paths of the files among the outputs of the pack in folder that their owner may execute.

    Raises: as read_entries does.
    """
    path = os.path.join(folder, FILES)
    try:
        with _opened(path) as file:
            return {entry.path for entry in read_executables(file, where=path)}
    except OSError as error:
        raise unreadable_member(path, error) from error


def open_member(folder: str, path: str, size: int, *, executable: bool | None = None) -> int:
    """Return a descriptor open for reading on a member's file.

    executable: whether its owner may execute it; None if that does not matter.
    Raises: IntegrityError when it is missing, or not a regular file of this size (bytes) and mode; LocalFailure when it
    cannot be opened.
    """
    location = os.path.join(folder, path)
    try:
        fd = os.open(location, _READ)
    except OSError as error:
        raise unreadable_member(location, error) from error
    status = os.fstat(fd)
    is_executable = bool(status.st_mode & stat.S_IXUSR)
    if not stat.S_ISREG(status.st_mode) or status.st_size != size or executable not in (None, is_executable):
        os.close(fd)
        raise IntegrityError(
            "not the file its listing names",
            where=location,
            expected=_shown(size, executable),
            got=_shown(status.st_size, is_executable if executable is not None else None),
            fix=IN_CACHE,
        )
    return fd


def _opened(path: str) -> BinaryIO:
    """Return a file open for reading. Raises: IntegrityError when it is not a regular one; OSError."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _READ))  # noqa: SIM115  # the caller does
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise IntegrityError("not a regular file", where=path, fix=IN_CACHE)
    return file


def content_differs(location: str, expected: str, got: str) -> IntegrityError:
    """Return the error for a file of a pack in a cache. expected, got: SHA-256, 64 hexadecimal digits."""
    return IntegrityError(
        "content differs from its digest",
        where=location,
        expected=digest_from_hex(expected),
        got=digest_from_hex(got),
        fix=IN_CACHE,
    )


def unreadable_member(location: str, error: OSError) -> IntegrityError | LocalFailure:
    """Return the error for a file or folder of a pack that the system does not find, or does not let us read."""
    if error.errno not in _DAMAGE:
        return unreadable(location, error)
    reason = "symbolic link" if error.errno == errno.ELOOP else error.strerror
    return IntegrityError(f"pack is damaged: {reason}", where=location, fix=IN_CACHE)


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


def _shown(size: int, executable: bool | None) -> str:
    return f"{size} bytes" if executable is None else f"{size} bytes{' not' * (not executable)} executable"
