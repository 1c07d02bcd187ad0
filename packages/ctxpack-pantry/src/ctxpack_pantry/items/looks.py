"""Looks at what a map reads, by stat(2): at each item right after its command, and at everything else now and then.

Size, mtime, ctime and inode of each file; on file systems that are not local only size and mtime; in a store size and
version.
"""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from ctxpack_identity import HashedRoot, Hashing, InvalidInput, LocalFailure, hash_tree
from ctxpack_identity.hashing.filesystem import LocalDevices
from ctxpack_identity.hashing.scan import Folder, scan

__all__ = ["ItemLooks", "Surroundings"]

_EMPTY_FOLDER = 0  # its look: it has neither content nor size


class ItemLooks:
    """What was hashed of the input that a map goes over, as it looked: 24 bytes for each file and each empty folder.

    root: the input. on_folder takes all its folders; after finish, threads may ask is_same.
    """

    def __init__(self, root: HashedRoot) -> None:
        self._root = root
        self._local = LocalDevices()
        self._keys, self._looks = array("q"), array("q")
        self._tops = array("q")  # the first segment of each path, for the number of files below it

    def on_folder(self, folder: Folder) -> None:
        """Take a folder of the input."""
        for name, status in folder.files:
            self._add(folder.path + name, self._look(folder.location + name, status))
        if folder.path and not (folder.files or folder.folders):
            self._add(folder.path, _EMPTY_FOLDER)

    def finish(self) -> None:
        """Say that the input has no more folders."""
        order = sorted(range(len(self._keys)), key=self._keys.__getitem__)
        self._keys = array("q", [self._keys[place] for place in order])
        self._looks = array("q", [self._looks[place] for place in order])
        self._tops = array("q", sorted(self._tops))

    def is_same(self, path: str) -> bool:
        """Return whether the file or folder at path, an item, is exactly what was hashed."""
        location = os.path.join(self._root.location, path)
        excludes, follow = self._root.excludes, self._root.source.follow
        try:
            status = os.stat(location, follow_symlinks=follow)
            if stat.S_ISREG(status.st_mode):
                return self._has(path, self._look(location, status))
            count = 0

            def below(inner: str, is_folder: bool) -> bool:
                return excludes is not None and excludes(f"{path}/{inner}", is_folder)

            for one in scan(location, excludes=None if excludes is None else below, follow=follow):
                look = _EMPTY_FOLDER if one.is_empty_folder else self._look(one.location, one.stat)
                if not self._has(f"{path}/{one.path}", look):
                    return False
                count += 1
            return count == self._count(path) if count else self._has(f"{path}/", _EMPTY_FOLDER)
        except (OSError, InvalidInput, LocalFailure):
            return False

    def _add(self, path: str, look: int) -> None:
        self._keys.append(hash(path))
        self._looks.append(look)
        self._tops.append(hash(path.partition("/")[0]))

    def _look(self, location: str, status: os.stat_result) -> int:
        return hash((status.st_size, status.st_mtime_ns, *_local_part(self._local, location, status)))

    def _has(self, path: str, look: int) -> bool:
        key = hash(path)
        place = bisect_left(self._keys, key)
        return place < len(self._keys) and self._keys[place] == key and self._looks[place] == look

    def _count(self, top: str) -> int:
        return bisect_right(self._tops, hash(top)) - bisect_left(self._tops, hash(top))


class Surroundings:
    """What all items share: the other inputs, code and environment. on_folder takes the folders of one look at them.

    look: the digest of what they look like, 64 hexadecimal digits, the same in any process.
    """

    def __init__(self) -> None:
        self._roots: dict[tuple[str, str], hashlib._Hash] = {}
        self._local = LocalDevices()

    @classmethod
    def now(cls, roots: Iterable[HashedRoot], hashing: Hashing) -> str:
        """Return a look at these roots. Raises: as hash_tree does."""
        found = cls()
        for root in roots:
            hash_tree(
                root.location,
                excludes=root.excludes,
                follow=root.source.follow,
                files_only=root.files_only,
                hashing=hashing,
                on_folder=lambda folder, root=root: found.on_folder(root, folder),  # type: ignore[misc]
            )
        return found.look

    def on_folder(self, root: HashedRoot, folder: Folder) -> None:
        """Take a folder of a root."""
        sha256 = self._roots.setdefault((root.listing, root.source.name), hashlib.sha256())
        if folder.store is not None:
            seen: list[object] = [(name, status.st_size) for name, status in folder.files]
            seen += folder.store.versions
        else:
            seen = [
                (name, s.st_size, s.st_mtime_ns, *_local_part(self._local, folder.location + name, s))
                for name, s in folder.files
            ]
        sha256.update(repr((folder.path, seen)).encode(errors="surrogateescape"))

    @property
    def look(self) -> str:
        found = sorted((name, sha256.hexdigest()) for name, sha256 in self._roots.items())
        return hashlib.sha256(repr(found).encode(errors="surrogateescape")).hexdigest()


def _local_part(local: LocalDevices, location: str, status: os.stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_ctime_ns) if local.holds(location, status) else ()
