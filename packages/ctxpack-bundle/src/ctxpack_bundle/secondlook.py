"""A second look at outputs, after they were copied: what changed, came or went meanwhile would make a mixed pack."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

from ctxpack_bundle.folder import read_entries
from ctxpack_bundle.order import comes_first
from ctxpack_bundle.outputtree import LocatedRoot, find_outputs, location_of
from ctxpack_identity import InvalidInput, TreeEntry
from ctxpack_identity.hashing.filehash import hash_file
from ctxpack_identity.hashing.filesystem import TICK_NS, LocalDevices
from ctxpack_identity.hashing.scan import Found

__all__ = ["FirstLook", "output_changed"]

_UNCERTAIN: Final = -1  # in place of a ctime


class FirstLook:
    """What outputs were before they were copied: 16 bytes for each file and each empty folder.

    Of a file, inode, size, mtime and mode count, and its content if the ctime is another one: a backup that makes a
    hard link changes only the ctime, and a program that restores an mtime cannot restore a ctime. A file that was
    written just before it was found is read again as well, since a second write within one tick of the clock does not
    show.
    Of an empty folder inode and mode count: what comes or goes in it is found by name, unless a pattern leaves it out.
    Where a file system is not local, inode and ctime do not count.
    """

    def __init__(self) -> None:
        self._states, self._ctimes = array("q"), array("q")
        self._local = LocalDevices()

    def note(self, found: Found) -> None:
        """Take the next file or empty folder, in canonical order, before it is copied."""
        state, ctime = self._look(found)
        self._states.append(state)
        self._ctimes.append(ctime if ctime < time.time_ns() - TICK_NS else _UNCERTAIN)

    def require_same(self, folder: str, roots: list[LocatedRoot]) -> None:
        """Look again. folder: has the listing of what was noted, in the same order.

        Raises: InvalidInput for the first file or folder that changed, came or went; LocalFailure for what cannot be
        read.
        """
        pairs = zip_longest(read_entries(folder), _find_again(roots))
        for number, (entry, now) in enumerate(pairs):
            if entry is None or now is None or entry.path != now[1].path:
                raise output_changed(_first_location(entry, now[1] if now else None, roots))
            root, found = now
            state, ctime = self._look(found)
            if state != self._states[number]:
                raise output_changed(found.location)
            if ctime != self._ctimes[number] and not found.is_empty_folder:
                _require_content(root, found, entry)

    def _look(self, found: Found) -> tuple[int, int]:
        """Return a hash of what must not change, and the ctime (ns), which may; 0 where it does not count."""
        status = found.stat
        local = self._local.holds(found.location, status)
        inode = (status.st_dev, status.st_ino) if local else ()
        if found.is_empty_folder:
            return hash((*inode, status.st_mode)), 0
        state = hash((*inode, status.st_size, status.st_mtime_ns, status.st_mode))
        return state, status.st_ctime_ns if local else 0


def output_changed(location: str) -> InvalidInput:
    """Return the error for an output that is not what it was when it was found."""
    return InvalidInput(
        "changed while it was copied, so nothing was seeded",
        where=location,
        fix="seed again when nothing writes to it",
        code="E_OUTPUT_CHANGED",
    )


def _find_again(roots: list[LocatedRoot]) -> Iterator[tuple[LocatedRoot, Found]]:
    try:
        yield from find_outputs(roots)
    except InvalidInput as error:  # it is gone, say, or a link: that was refused at the first look
        raise output_changed(error.where) from error


def _first_location(entry: TreeEntry | None, found: Found | None, roots: list[LocatedRoot]) -> str:
    """Return where the one of them is, or was, that the other walk lacks."""
    if found is not None and (entry is None or comes_first(found.path, entry.path)):
        return found.location
    return location_of(entry.path, roots) if entry is not None else ""


def _require_content(root: LocatedRoot, found: Found, entry: TreeEntry) -> None:
    status = found.stat
    try:
        sha256 = hash_file(found.location, status.st_size, status.st_mtime_ns, follow=root.follow)
    except InvalidInput as error:
        raise output_changed(error.where) from error
    if sha256 != entry.sha256:
        raise output_changed(found.location)
