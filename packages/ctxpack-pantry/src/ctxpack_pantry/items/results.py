"""The digest of an item's result: the SHA-256 of the lines that a listing would have of it (FORMAT.md, "Listings").

A path in such a line is what comes after the path of the result, a slash at its start: so a result has one digest
wherever it lies. Modes count: a pack keeps them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from stat import S_IXUSR
from typing import NamedTuple

from ctxpack_bundle import listing_line, scan_branch
from ctxpack_identity import TreeEntry
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.hashing.filehash import hash_file
from ctxpack_identity.packpath import check_path

__all__ = ["NOTHING", "ResultDigests", "Sealing", "hash_result", "path_key"]

NOTHING = hashlib.sha256().digest()


class Sealing(NamedTuple):
    """Which part of an output is sealed. excludes: the rule of its patterns; follow: links are followed."""

    excludes: Excludes | None = None
    follow: bool = False


def hash_result(output: str, location: str, sealing: Sealing) -> bytes:
    """Return the digest of the file or folder at location, the result that shall lie at output.

    Raises: InvalidInput when it changes meanwhile, and for what no pack may hold: links, devices, some paths.
    """
    sha256 = hashlib.sha256()
    for found in scan_branch(output, location, excludes=sealing.excludes, follow=sealing.follow):
        check_path(found.path)
        path = found.path[len(output) :]
        if found.is_empty_folder:
            sha256.update(listing_line(TreeEntry(path, 0, "")))
        else:
            status = found.stat
            digest = hash_file(found.location, status.st_size, status.st_mtime_ns, follow=sealing.follow)
            sha256.update(listing_line(TreeEntry(path, status.st_size, digest, bool(status.st_mode & S_IXUSR))))
    return sha256.digest()


class ResultDigests:
    """The digests of results from the entries of a listing that holds them, in canonical order.

    outputs: yields the path of each result, and a number, in canonical order too. on_result: called with the number of
    each result and its digest, NOTHING if the listing has nothing at its path.
    """

    def __init__(self, outputs: Iterable[tuple[str, int]], on_result: Callable[[int, bytes], object]) -> None:
        self._outputs, self._on_result = iter(outputs), on_result
        self._key = self._output = ""
        self._number = -1
        self._sha256 = hashlib.sha256()
        self._next()

    def add(self, entry: TreeEntry) -> bool:
        """Take the next entry of the listing; return whether it is part of a result."""
        if entry.path == self._output:  # most results are one file
            self._sha256.update(listing_line(TreeEntry("", entry.size, entry.sha256, entry.executable)))
            self._finish()
            return True
        key = path_key(entry.path)
        while self._number >= 0 and not key.startswith(self._key):
            if key < self._key:
                return False  # between two results
            self._finish()
        if self._number < 0:
            return False
        self._sha256.update(listing_line(entry._replace(path=entry.path[len(self._output) :])))
        return True

    def finish(self) -> None:
        """Say that the listing has ended."""
        while self._number >= 0:
            self._finish()

    def _finish(self) -> None:
        self._on_result(self._number, self._sha256.digest())
        self._next()

    def _next(self) -> None:
        self._output, self._number = next(self._outputs, ("", -1))
        self._key = path_key(self._output)
        self._sha256 = hashlib.sha256()


def path_key(path: str) -> str:
    """Return a text that sorts as paths do, segment by segment; that of a folder is the start of what it holds."""
    return path.removesuffix("/").replace("/", "\0") + "\0"
