"""Walk, measure, seal and remove folders of any depth.

Nothing here recurses or follows a symbolic link.
"""

from __future__ import annotations

import itertools
import os
import stat
from typing import TYPE_CHECKING

from ctxpack_cache.cachedpack import Size
from ctxpack_identity.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["measure_tree", "remove_tree", "seal_tree", "walk"]

_FILE = 0o444
_PROGRAM = 0o555
_FOLDER = 0o555


def walk(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield everything below folder, in no order. A folder comes before it is opened, so the caller may change it."""
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as listing:
            for entry in listing:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


def measure_tree(folder: str) -> Size:
    """Return the bytes and the number of the files below folder.

    Raises: OSError, FileNotFoundError when the folder is removed meanwhile.
    """
    total = files = 0
    for entry in walk(folder):
        if not entry.is_dir(follow_symlinks=False):
            total += entry.stat(follow_symlinks=False).st_size
            files += 1
    return Size(total, files)


def seal_tree(folder: str) -> None:
    """Make everything below folder read-only: files 0444, or 0555 where the owner may execute; folders 0555.

    The folder itself keeps its mode. Raises: InvalidInput for anything but files and folders; OSError.
    """
    for entry in walk(folder):
        mode = entry.stat(follow_symlinks=False).st_mode
        sealed = _sealed(mode, entry.path)
        if stat.S_IMODE(mode) != sealed:
            os.chmod(entry.path, sealed)


def _sealed(mode: int, path: str) -> int:
    if stat.S_ISDIR(mode):
        return _FOLDER
    if not stat.S_ISREG(mode):
        raise InvalidInput(
            "a pack holds only files and folders",
            where=path,
            got=f"file type {stat.filemode(mode)[0]!r}",
            fix="remove it from the pack",
            code="E_FILE_TYPE",
        )
    return _PROGRAM if mode & stat.S_IXUSR else _FILE


def remove_tree(folder: str) -> None:
    """Remove folder and everything below it, read-only or not.

    Every folder below the first level is first moved up to the first level, so that no path gets longer than the
    system allows and no descriptor stays open. After an interruption it can be called again.
    """
    names = itertools.count()
    unique = os.urandom(8).hex()  # no file of the pack, or of an earlier call, has this name
    os.chmod(folder, 0o700)
    pending = _remove_files(folder)
    while pending:
        inner = pending.pop()
        for deeper in _remove_files(inner):
            raised = os.path.join(folder, f"{unique}-{next(names)}")
            os.rename(deeper, raised)
            pending.append(raised)
        os.rmdir(inner)
    os.rmdir(folder)


def _remove_files(folder: str) -> list[str]:
    """Remove the files of folder; return its folders, made writable: a read-only folder cannot be moved."""
    folders = []
    with os.scandir(folder) as listing:
        entries = list(listing)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)
            folders.append(entry.path)
        else:
            os.unlink(entry.path)
    return folders
