"""Walk a file or folder in canonical order, and refuse what has no portable identity."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from operator import itemgetter

from ctxpack_identity.errors import InvalidInput, LocalFailure
from ctxpack_identity.exclude import Excludes
from ctxpack_identity.hashing.filehash import unreadable
from ctxpack_identity.lighttyping import NamedTuple

__all__ = [
    "Folder",
    "Found",
    "StoreFolder",
    "Walk",
    "checked_name",
    "not_found_or_unreadable",
    "root_status",
    "scan",
    "walk",
]

_name = itemgetter(0)

_SHOWN = 100  # characters of each end of a path that is too long

_FORMAT = 0o170000  # stat.S_IFMT
_REGULAR, _DIRECTORY = 0o100000, 0o040000  # stat.S_IFREG, stat.S_IFDIR


class Found(NamedTuple):
    """A regular file, or a folder that holds nothing (its path ends in ``/``).

    path: relative to the scanned root, POSIX. location: what to open. stat: of the file, or of the target of a
    followed link.
    """

    path: str
    location: str
    stat: os.stat_result

    @property
    def is_empty_folder(self) -> bool:
        return self.path.endswith("/")


class StoreFolder(NamedTuple):
    """What a folder of a store has in addition. key: identifies store and folder, without secrets.

    versions: for each file, values of the store that change with the content: (name, value), sorted. certain: for each
    file, whether a changed content always has another version.
    """

    key: bytes
    versions: list[tuple[tuple[str, str], ...]]
    certain: list[bool]


class Folder(NamedTuple):
    """One folder. path: relative to the root, with a final ``/``, "" for the root. location: with a final ``/``.

    files, folders: names with the result of stat(2), each in canonical order; files of a store have size and kind only.
    """

    path: str
    location: str
    files: list[tuple[str, os.stat_result]]
    folders: list[tuple[str, os.stat_result]]
    store: StoreFolder | None = None


def scan(root: str, *, excludes: Excludes | None = None, follow: bool = False) -> Iterator[Found]:
    """Yield every file and every empty folder below root, in canonical order: depth first, names by UTF-8 bytes.

    A root that is a file is yielded under its own name; an empty root yields nothing. A folder whose whole content is
    left out by excludes is an empty folder.
    Raises: as walk and root_status do.
    """
    status = root_status(root, follow=follow)
    if stat.S_ISREG(status.st_mode):
        yield Found(checked_name(os.path.basename(os.path.abspath(root)), root), root, status)
        return
    unfinished: list[tuple[Folder, Iterator[tuple[str, os.stat_result]]]] = []
    for folder in walk(root, excludes=excludes, follow=follow):
        if folder is not None:
            unfinished.append((folder, iter(sorted(folder.files + folder.folders, key=_name))))
            if folder.path and not (folder.files or folder.folders):
                yield Found(folder.path, folder.location, root_status(folder.location, follow=follow))
        else:
            unfinished.pop()
        if unfinished:
            yield from _files_before_folder(*unfinished[-1])


def _files_before_folder(folder: Folder, children: Iterator[tuple[str, os.stat_result]]) -> Iterator[Found]:
    for name, status in children:
        if status.st_mode & _FORMAT == _DIRECTORY:
            return
        yield Found(folder.path + name, folder.location + name, status)


def walk(root: str, *, excludes: Excludes | None = None, follow: bool = False) -> Iterator[Folder | None]:
    """Yield every folder from root downwards, in canonical order, and None at the end of each.

    Memory: the folders on the current path. follow: read what symbolic links point at, instead of
    refusing them.
    Raises: InvalidInput for a missing root, a symbolic link (unless follow) or a cycle of them, a device, FIFO or
    socket, a name that is not UTF-8, and a path that is too long for the system; LocalFailure for what cannot be read.
    Each names the path.
    """
    return iter(Walk(root, excludes=excludes, follow=follow))


class Walk:
    """What walk returns, to be iterated once; and at any moment, another walk over what is still to come."""

    def __init__(self, root: str, *, excludes: Excludes | None = None, follow: bool = False) -> None:
        self._root, self._excludes, self._follow = root, excludes, follow
        self._pending: list[tuple[Folder, Iterator[tuple[str, os.stat_result]]]] = []
        self._ancestors: list[tuple[int, int]] = []
        self._above: dict[int, set[tuple[int, int]]] = {}  # depth -> what holds the root, or a followed link's target

    def __iter__(self) -> Iterator[Folder | None]:
        status = root_status(self._root, follow=self._follow)
        top = _folder("", os.path.join(self._root, ""), self._excludes, self._follow)
        self._ancestors.append((status.st_dev, status.st_ino))
        self._pending.append((top, iter(top.folders)))
        yield top
        yield from self._below()

    def ahead(self) -> Iterator[Folder | None]:
        """Yield what the iteration, which has begun, has not yielded yet. Raises: as walk does."""
        from copy import copy  # of iterators; only work that takes long is looked at ahead

        other = Walk(self._root, excludes=self._excludes, follow=self._follow)
        other._pending = [(folder, copy(rest)) for folder, rest in self._pending]
        other._ancestors, other._above = [*self._ancestors], {**self._above}
        return other._below()

    def _below(self) -> Iterator[Folder | None]:
        pending, ancestors, above = self._pending, self._ancestors, self._above
        excludes, follow = self._excludes, self._follow
        while pending:
            parent, rest = pending[-1]
            child = next(rest, None)
            if child is None:
                pending.pop()
                ancestors.pop()
                above.pop(len(pending), None)
                yield None
                continue
            name, status = child
            identity = (status.st_dev, status.st_ino)
            if identity in ancestors:
                raise _cycle(parent.location + name)
            if follow and os.path.islink(parent.location + name):
                above.setdefault(0, _holders(pending[0][0].location))
                if any(identity in holders for holders in above.values()):
                    raise _cycle(parent.location + name)
                above[len(pending)] = _holders(f"{parent.location}{name}/")
            folder = _folder(f"{parent.path}{name}/", f"{parent.location}{name}/", excludes, follow)
            ancestors.append(identity)
            pending.append((folder, iter(folder.folders)))
            yield folder


def root_status(root: str, *, follow: bool = False) -> os.stat_result:
    """Return stat(2) of root, a regular file or a folder. Raises: InvalidInput, LocalFailure as walk does."""
    _require_utf8_names()
    try:
        status = os.stat(root) if follow else _status_of_name(root)
    except OSError as error:
        raise not_found_or_unreadable(root, error) from error
    kind = status.st_mode & _FORMAT
    if kind not in (_REGULAR, _DIRECTORY):
        raise _symlink(root) if stat.S_ISLNK(kind) else _special(root)
    return status


def _status_of_name(root: str) -> os.stat_result:
    """Return lstat(2) of root, also of a link to a folder whose path ends in ``/``, which lstat follows."""
    if root.endswith("/"):
        status = os.lstat(root.rstrip("/") or "/")
        if stat.S_ISLNK(status.st_mode):
            return status
    return os.lstat(root)  # "file/" is no folder


def _folder(path: str, location: str, excludes: Excludes | None, follow: bool) -> Folder:
    try:
        with os.scandir(location) as entries:
            if excludes is None:
                found = [(entry.name, entry.stat(follow_symlinks=follow)) for entry in entries]
            else:
                found = [
                    (entry.name, entry.stat(follow_symlinks=follow))
                    for entry in entries
                    if not excludes(path + entry.name, _is_folder(entry, follow))
                ]
    except OSError as error:
        raise not_found_or_unreadable(error.filename or location, error) from error
    found.sort(key=_name)
    files, folders = [], []
    for child in found:
        name, kind = child[0], child[1].st_mode & _FORMAT
        if not name.isascii():
            checked_name(name, location + name)
        if kind == _REGULAR:
            files.append(child)
        elif kind == _DIRECTORY:
            folders.append(child)
        else:
            raise _symlink(location + name) if stat.S_ISLNK(kind) else _special(location + name)
    return Folder(path, location, files, folders)


def _holders(location: str) -> set[tuple[int, int]]:
    """Return device and inode of every folder that is reached from this one by going up."""
    holders = set()
    folder = os.path.realpath(location)
    while folder != "/":
        folder = os.path.dirname(folder)
        try:
            status = os.stat(folder)
        except OSError as error:
            raise not_found_or_unreadable(folder, error) from error
        holders.add((status.st_dev, status.st_ino))
    return holders


def _is_folder(entry: os.DirEntry[str], follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _require_utf8_names() -> None:
    """File names are bytes: if Python does not decode them as UTF-8, the tree digest would differ."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise LocalFailure(
            "Python does not read file names as UTF-8 here",
            got=encoding,
            fix="set PYTHONUTF8=1",
            code="E_NAME_ENCODING",
        )


def checked_name(name: str, location: str) -> str:
    """Return name. Raises: InvalidInput unless it is UTF-8; location: its path, for the message."""
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
        fix='replace it by what it points at; inputs, code and outputs may say "symlinks": "follow" in the contract',
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


def not_found_or_unreadable(location: str, error: OSError) -> InvalidInput | LocalFailure:
    """Return the error for a file or folder that the system does not find, or does not let us read."""
    shown = os.fsencode(location.rstrip("/") or "/").decode(errors="backslashreplace")
    if error.errno == errno.ELOOP:
        return _cycle(shown)
    if error.errno == errno.ENAMETOOLONG:
        return _too_long(shown)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InvalidInput("no such file or folder", where=shown, fix="check the path", code="E_INPUT_MISSING")
    return unreadable(shown, error)


def _too_long(location: str) -> InvalidInput:
    shown = f"{location[:_SHOWN]}…{location[-_SHOWN:]}" if len(location) > 2 * _SHOWN else location
    return InvalidInput(
        "path or name too long for this system", where=shown, fix="shorten it, or exclude it", code="E_PATH"
    )
