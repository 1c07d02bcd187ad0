"""Walk a file or folder in canonical order, refusing whatever has no portable identity."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator

from ctxpack_identity.errors import InvalidInput, LocalFailure
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.lighttyping import NamedTuple

__all__ = ["Found", "scan"]


class Found(NamedTuple):
    """A regular file, or a folder that holds nothing (its path ends in ``/``).

    path: relative to the scanned root, POSIX. location: what to open. stat: of the file itself, links followed
    only when asked for.
    """

    path: str
    location: str
    stat: os.stat_result

    @property
    def is_empty_folder(self) -> bool:
        return self.path.endswith("/")


def scan(root: str, *, excludes: Excludes | None = None, follow: bool = False) -> Iterator[Found]:
    """Yield every file and every empty folder below root, in canonical order: depth first, names by UTF-8 bytes.

    A root that is a file yields itself, under its own name; an empty root yields nothing. A folder whose whole
    content is left out by excludes is an empty folder. Memory: the names of the folders on the current path.

    follow: read what symbolic links point at, instead of refusing them.
    Raises: InvalidInput for a missing root, a symbolic link (unless follow) or a cycle of them, a device, FIFO or
    socket, and a name that is not UTF-8; LocalFailure for what may not be read. Each names the path.
    """
    _require_utf8_names()
    status = _status(root, follow)
    if stat.S_ISREG(status.st_mode):
        yield Found(_checked_name(os.path.basename(os.path.abspath(root)), root), root, status)
        return
    if not stat.S_ISDIR(status.st_mode):
        raise _special(root)
    ancestors = [(status.st_dev, status.st_ino)]
    pending = [iter(_children(root, "", excludes, follow))]
    while pending:
        child = next(pending[-1], None)
        if child is None:
            pending.pop()
            ancestors.pop()
        elif not stat.S_ISDIR(child.stat.st_mode):
            yield child
        else:
            identity = (child.stat.st_dev, child.stat.st_ino)
            if identity in ancestors:
                raise _cycle(child.location)
            children = _children(child.location, child.path + "/", excludes, follow)
            if children:
                ancestors.append(identity)
                pending.append(iter(children))
            else:
                yield Found(child.path + "/", child.location + "/", child.stat)


def _children(folder: str, prefix: str, excludes: Excludes | None, follow: bool) -> list[Found]:
    try:
        with os.scandir(folder) as entries:
            found = [child for entry in entries if (child := _child(entry, prefix, excludes, follow))]
    except OSError as error:
        raise _unreadable(folder, error) from error
    found.sort()
    return found


def _child(entry: os.DirEntry[str], prefix: str, excludes: Excludes | None, follow: bool) -> Found | None:
    path = prefix + entry.name
    if excludes is not None and excludes(path, _is_folder(entry, follow)):
        return None
    _checked_name(entry.name, entry.path)
    if entry.is_symlink() and not follow:
        raise _symlink(entry.path)
    try:
        status = entry.stat(follow_symlinks=follow)
    except OSError as error:
        raise _unreadable(entry.path, error) from error
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise _special(entry.path)
    return Found(path, entry.path, status)


def _is_folder(entry: os.DirEntry[str], follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _require_utf8_names() -> None:
    """A name is bytes on disk; decoded by another rule it would be another name, and the tree another tree."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise LocalFailure(
            "Python does not read file names as UTF-8 here",
            got=encoding,
            fix="set PYTHONUTF8=1",
            code="E_NAME_ENCODING",
        )


def _status(root: str, follow: bool) -> os.stat_result:
    try:
        status = os.stat(root) if follow else os.lstat(root)
    except OSError as error:
        raise _unreadable(root, error) from error
    if not follow and os.path.islink(root.rstrip("/")):  # lstat follows "link/"
        raise _symlink(root)
    return status


def _checked_name(name: str, location: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(location)
        raise InvalidInput(
            "file name is not UTF-8", where=repr(shown), expected="UTF-8", fix="rename it", code="E_NAME_ENCODING"
        ) from error
    return name


def _symlink(location: str) -> InvalidInput:
    return InvalidInput(
        "symbolic link",
        where=location,
        expected="regular files and folders",
        fix='replace it by what it points at; inputs and code may say "symlinks": "follow" in the contract',
        code="E_SYMLINK",
    )


def _special(location: str) -> InvalidInput:
    return InvalidInput(
        "device, FIFO or socket",
        where=location,
        expected="regular files and folders",
        fix="remove or exclude it",
        code="E_SPECIAL_FILE",
    )


def _cycle(location: str) -> InvalidInput:
    return InvalidInput("symbolic links form a cycle", where=location, fix="remove or exclude one", code="E_SYMLINK")


def _unreadable(location: str, error: OSError) -> InvalidInput | LocalFailure:
    shown = os.fsencode(location).decode(errors="backslashreplace")
    if error.errno == errno.ELOOP:
        return _cycle(shown)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InvalidInput("no such file or folder", where=shown, fix="check the path", code="E_INPUT_MISSING")
    return LocalFailure(f"cannot be read: {error.strerror}", where=shown, code="E_INPUT_UNREADABLE")
