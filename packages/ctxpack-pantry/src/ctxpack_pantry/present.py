"""What is at an output's place already: files that are the same in the new outputs are linked there, not copied.

A link costs a tenth of a copy, and takes no room. Only files that nobody else has a link to are linked, where this
machine keeps the times of the file system, so that a change since they were hashed shows.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from ctxpack_bundle import listing_line
from ctxpack_bundle.listing import read_listing
from ctxpack_bundle.order import comes_first
from ctxpack_identity import CtxPackError, Hashing, TreeEntry, hash_tree
from ctxpack_identity.hashing.filesystem import TICK_NS, is_local
from ctxpack_pantry.replacing import Site

__all__ = ["Present"]


class Present:
    """What is at a site, as a context manager: its files are asked for in canonical order. seen: a look at it.

    Where there is no folder that can be hashed, nothing is linked.
    """

    def __init__(self, site: Site, seen: str, hashing: Hashing) -> None:
        self._site, self._seen, self._hashing = site, seen, hashing
        self._uid = os.geteuid()
        self._began = 0
        self._entries: Iterator[TreeEntry] = iter(())
        self._next: TreeEntry | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Present:
        folder = self._site.real
        if self._site.stays or not os.path.isdir(folder) or not is_local(folder):
            return self
        self._file = file = cast("BinaryIO", TemporaryFile())
        self._began = time.time_ns() - TICK_NS
        try:
            hash_tree(folder, hashing=self._hashing, on_entry=lambda entry: file.write(listing_line(entry)))
        except CtxPackError:  # links, devices: nothing that a pack holds
            return self
        self._site.expect_links(self._seen)
        file.seek(0)
        self._entries = read_listing(file, where=folder)
        self._next = next(self._entries, None)
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def link(self, path: str, entry: TreeEntry, target: str) -> bool:
        """Return whether the file at path, which must be the entry, is linked to target now."""
        while self._next is not None and comes_first(self._next.path, path):
            self._next = next(self._entries, None)
        if self._next is None or self._next != entry._replace(path=path):
            return False
        source = os.path.join(self._site.real, path)
        try:
            status = os.lstat(source)
            is_same = stat.S_ISREG(status.st_mode) and status.st_size == entry.size and status.st_ctime_ns < self._began
            if not (is_same and status.st_nlink == 1 and status.st_uid == self._uid):
                return False
            os.link(source, target, follow_symlinks=False)
        except OSError:  # a file system without links, or one that refuses this one
            return False
        return True
