"""What differs between two listings: files that were added, removed, changed or renamed.

Listings come in canonical order, so they are merged: what both have is not kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ctxpack_identity import TreeEntry

__all__ = ["ALL", "FEW", "FileChange", "FileChanges", "FileGroup", "Merge", "merge"]

FEW: Final = 20  # files of a kind that are shown unless more are asked for
ALL: Final = 100_000  # files of a kind that are shown at most: some 30 MB
MOST_SOUGHT: Final = 10_000  # files that were added, and that were removed, among which renames are looked for


class FileChange(NamedTuple):
    """One file, or one empty folder, whose path ends in ``/``. path, size (bytes): the new ones, if there is a new one.

    The path of a root that is a file is empty. old_path: of a renamed file; old_size: of a changed one; else None.
    """

    path: str
    size: int
    old_path: str | None = None
    old_size: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if value is not None}


class FileGroup(NamedTuple):
    """Files that changed in one way. number, size (bytes): of all of them; files: the first of them, by path."""

    number: int
    size: int
    files: tuple[FileChange, ...]

    def as_json(self) -> dict[str, Any]:
        return {"count": self.number, "size": self.size, "files": [file.as_json() for file in self.files]}


class FileChanges(NamedTuple):
    """The files that differ. A file is renamed when an equal one was removed; an empty file is equal to no other.

    sought: whether renames were looked for; with more than MOST_SOUGHT files they are not.
    """

    added: FileGroup
    removed: FileGroup
    changed: FileGroup
    renamed: FileGroup
    sought: bool

    @property
    def number(self) -> int:
        return self.added.number + self.removed.number + self.changed.number + self.renamed.number

    def as_json(self) -> dict[str, Any]:
        groups = {name: getattr(self, name).as_json() for name in ("added", "removed", "changed", "renamed")}
        return {**groups, "renames_sought": self.sought}


def merge(old: Iterable[TreeEntry], new: Iterable[TreeEntry], *, limit: int = FEW) -> FileChanges:
    """Return what differs between two listings, each in canonical order. limit: files of a kind that are shown."""
    merging = Merge(old, limit=limit)
    for entry in new:
        merging.add(entry)
    return merging.finish()


class Merge:
    """Compares a listing, old, with the entries that are added, both in canonical order. limit: see merge.

    Executable bits are no part of identity, and are not compared.
    """

    def __init__(self, old: Iterable[TreeEntry], *, limit: int = FEW) -> None:
        self._old, self._limit = iter(old), limit
        self._next = next(self._old, None)
        self._added, self._removed = _Kept(limit), _Kept(limit)
        self._changed: list[FileChange] = []
        self._changed_count = self._changed_size = 0

    def add(self, entry: TreeEntry) -> None:
        """Take the next entry of the new listing."""
        if self._next is not None and self._next.path != entry.path:
            self._skip_to(entry.path)
        old = self._next
        if old is None or old.path != entry.path:
            self._added.add(entry)
            return
        if (old.sha256, old.size) != (entry.sha256, entry.size):
            self._changed_count += 1
            self._changed_size += entry.size
            if len(self._changed) < self._limit:
                self._changed.append(FileChange(entry.path, entry.size, old_size=old.size))
        self._next = next(self._old, None)

    def finish(self) -> FileChanges:
        """Return what differs. Nothing can be added afterwards."""
        while self._next is not None:
            self._remove_next(self._next)
        sought = max(self._added.count, self._removed.count) <= MOST_SOUGHT
        renamed = self._renamed() if sought else []
        size = sum(change.size for change in renamed)
        return FileChanges(
            self._added.group(len(renamed), size),
            self._removed.group(len(renamed), size),
            FileGroup(self._changed_count, self._changed_size, tuple(self._changed)),
            FileGroup(len(renamed), size, tuple(renamed[: self._limit])),
            sought,
        )

    def _skip_to(self, path: str) -> None:
        """Take what comes before path, or is of another kind at path, from the old listing."""
        key = _key(path)
        while self._next is not None and self._next.path != path and _key(self._next.path) <= key:
            self._remove_next(self._next)

    def _remove_next(self, entry: TreeEntry) -> None:
        self._removed.add(entry)
        self._next = next(self._old, None)

    def _renamed(self) -> list[FileChange]:
        """Return the renamed files, and take them from those that were added and removed."""
        waiting: dict[tuple[str, int], deque[str]] = {}
        for entry in self._removed.entries:
            if entry.size:
                waiting.setdefault((entry.sha256, entry.size), deque()).append(entry.path)
        found, before, after = list[FileChange](), set[str](), set[str]()
        for entry in self._added.entries:
            paths = waiting.get((entry.sha256, entry.size))
            if paths:
                old_path = paths.popleft()
                found.append(FileChange(entry.path, entry.size, old_path=old_path))
                before.add(old_path)
                after.add(entry.path)
        self._removed.entries = [entry for entry in self._removed.entries if entry.path not in before]
        self._added.entries = [entry for entry in self._added.entries if entry.path not in after]
        return found


class _Kept:
    """Entries that one listing has more than the other: as many as are needed to find renames, or to be shown."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = self.size = 0
        self.entries: list[TreeEntry] = []

    def add(self, entry: TreeEntry) -> None:
        self.count += 1
        self.size += entry.size
        if self.count <= max(self._limit, MOST_SOUGHT):
            self.entries.append(entry)
        elif len(self.entries) > self._limit:
            del self.entries[self._limit :]

    def group(self, renamed: int, size: int) -> FileGroup:
        """Return what remains without so many renamed files of that size, bytes together."""
        files = tuple(FileChange(entry.path, entry.size) for entry in self.entries[: self._limit])
        return FileGroup(self.count - renamed, self.size - size, files)


def _key(path: str) -> str:
    """Return what sorts paths in canonical order: no name holds U+0000, and it comes before all that names hold."""
    return path.removesuffix("/").replace("/", "\0")
