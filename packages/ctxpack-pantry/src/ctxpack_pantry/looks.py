"""Looks: whether files that were hashed twice were the same files in between, not only the same content."""

from __future__ import annotations

import os
from array import array

from ctxpack_identity.hashing.filesystem import LocalDevices
from ctxpack_identity.hashing.scan import Folder
from ctxpack_identity.lighttyping import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ctxpack_identity import HashedRoot

__all__ = ["Difference", "Looks"]

_SHOWN = 3  # names in one message


class Difference(NamedTuple):
    """A folder whose files are not those of the look before. touched: their content and mtime are, but not their ctime.

    files: the names of those with the latest ctime, as a hint.
    """

    what: str
    folder: str
    touched: bool
    files: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.what}: {', '.join(self.folder + name for name in self.files) or self.folder or 'its folder'}"


class Looks:
    """What stat(2) said of every file that was hashed: 16 bytes for each folder.

    Size, mtime and inode, and apart from them ctime, which the hard links of a backup change as well; on file systems
    that are not local, size and mtime; in a store, size and version.
    before: the looks to compare with. differences: from them, at most one for each root.
    """

    def __init__(self, before: Looks | None = None) -> None:
        self._before = before
        self._roots: dict[str, tuple[array[int], array[int]]] = {}
        self._local = LocalDevices()
        self.differences: dict[str, Difference] = {}

    def on_folder(self, root: HashedRoot, folder: Folder) -> None:
        """Look at one folder of a root. See resolve."""
        found = self._roots.setdefault(root.listing, (array("q"), array("q")))
        number = len(found[0])
        if folder.store is not None:
            sizes = [status.st_size for _, status in folder.files]
            found[0].append(hash((folder.path, tuple(sizes), tuple(folder.store.versions))))
            found[1].append(0)
        else:
            local = all(self._local.holds(folder.location + name, s) for name, s in folder.files)
            seen = [(name, s.st_size, s.st_mtime_ns, local and s.st_ino) for name, s in folder.files]
            found[0].append(hash((folder.path, tuple(seen))))
            found[1].append(hash(tuple([s.st_ctime_ns for _, s in folder.files])) if local else 0)
        if self._before is not None:
            self._compare(root, folder, number, self._before)

    def _compare(self, root: HashedRoot, folder: Folder, number: int, before: Looks) -> None:
        was, now = before._roots.get(root.listing), self._roots[root.listing]
        same = was is not None and number < len(was[0]) and was[0][number] == now[0][number]
        if was is not None and same and was[1][number] == now[1][number]:
            return
        noted = self.differences.get(root.listing)
        if noted is None or (noted.touched and not same):
            self.differences[root.listing] = Difference(root.what, folder.path, same, _latest(folder))


def _latest(folder: Folder) -> tuple[str, ...]:
    """Return the names of the files with the latest ctime."""
    if folder.store is not None or not folder.files:
        return ()
    latest = max(status.st_ctime_ns for _, status in folder.files)
    names = [name for name, status in folder.files if status.st_ctime_ns == latest]
    return tuple(os.fsencode(name).decode(errors="backslashreplace") for name in names[:_SHOWN])
