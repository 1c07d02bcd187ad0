"""Remote: a function is called for one item where an executor runs it, perhaps on another machine.

What is there decides what travels. The item is read from its path where that holds what was hashed, and is sent else;
the result is written where it shall lie where the folder of the map is seen, and is sent back else.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ctxpack_bundle import scan_branch
from ctxpack_identity import CtxPackError, Digest, InvalidInput, TreeEntry, tree_digest
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.hashing.filehash import hash_file

__all__ = ["Answer", "Content", "Task", "make_there"]

_MOST = 256 << 20  # bytes of an item or result that travels


class Content(NamedTuple):
    """A file or folder: path, whether it is executable, and bytes of each file; of an empty folder a path with ``/``.

    A single file has the path "".
    """

    files: tuple[tuple[str, bool, bytes], ...]

    @classmethod
    def of(cls, location: str, name: str, *, excludes: Excludes | None = None, follow: bool = False) -> Content:
        """Return what is at a path. name: of that in the folder that excludes is about; follow: links are followed.

        Raises: InvalidInput for what cannot travel; LocalFailure; OSError.
        """
        files, size = [], 0
        for found in scan_branch(name, location, excludes=excludes, follow=follow):
            size += 0 if found.is_empty_folder else found.stat.st_size
            if size > _MOST:
                raise InvalidInput(
                    "too large to travel to, or from, a worker",
                    where=location,
                    expected=f"at most {_MOST} bytes",
                    fix="let the workers see the folders of the input and of the cache",
                    code="E_TOO_LARGE",
                )
            data = b"" if found.is_empty_folder else Path(found.location).read_bytes()
            inner = found.path[len(name) :]
            executable = bool(found.stat.st_mode & stat.S_IXUSR)
            files.append((inner if inner == "/" else inner.removeprefix("/"), executable, data))
        return cls(tuple(files))

    def write(self, location: str) -> None:
        """Make this file or folder at a path where nothing is. Raises: OSError."""
        for path, executable, data in self.files:
            place = os.path.join(location, path) if path else location
            if path.endswith("/"):
                os.makedirs(location if path == "/" else place)
                continue
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "xb") as file:
                file.write(data)
            if executable:
                os.chmod(place, 0o755)


class Task(NamedTuple):
    """One item. item, out: absolute paths. name: of the item in the folder that digest is of.

    marker: the path of a file that holds token, in the folder of the map. follow, follow_out: whether links in the
    item, and in the result, are followed. content: the item, once it is sent.
    """

    item: str
    out: str
    name: str
    digest: Digest
    marker: str
    token: str
    follow: bool = False
    follow_out: bool = False
    content: Content | None = None


class Answer(NamedTuple):
    """What came of a task. needs_item: nothing, since the item is not there. content: the result, if it travels."""

    needs_item: bool = False
    content: Content | None = None

    def write(self, out: str) -> None:
        """Put a result that travelled in its place."""
        if self.content is not None:
            self.content.write(out)


def make_there(function: Callable[[Path, Path], object], task: Task) -> Answer:
    """Call the function for an item, on the machine of an executor's worker."""
    if task.content is None and not _is_there(task):
        return Answer(needs_item=True)
    with tempfile.TemporaryDirectory(prefix="ctxpack-") as fresh:
        item, out = Path(task.item), Path(task.out)
        if task.content is not None:
            item = Path(fresh, "item", os.path.basename(task.item))
            item.parent.mkdir()
            task.content.write(str(item))
        if _is_shared(task):
            function(item, out)
            return Answer()
        out = Path(fresh, "out", os.path.basename(task.out))
        out.parent.mkdir()
        function(item, out)
        there = os.path.lexists(out)
        return Answer(content=Content.of(str(out), out.name, follow=task.follow_out) if there else None)


def _is_there(task: Task) -> bool:
    """Return whether the path of the item holds what was hashed."""
    try:
        return item_digest(task.item, task.name, follow=task.follow) == task.digest
    except (CtxPackError, OSError):
        return False


def item_digest(location: str, name: str, *, follow: bool) -> Digest:
    """Return the digest of the folder that holds the file or folder at location, by this path."""
    entries = []
    for found in scan_branch(name, location, excludes=None, follow=follow):
        if found.is_empty_folder:
            entries.append(TreeEntry(found.path, 0, ""))
        else:
            size, mtime = found.stat.st_size, found.stat.st_mtime_ns
            entries.append(TreeEntry(found.path, size, hash_file(found.location, size, mtime, follow=follow)))
    return tree_digest(entries)


def _is_shared(task: Task) -> bool:
    try:
        return Path(task.marker).read_text(encoding="utf-8") == task.token
    except OSError:
        return False
