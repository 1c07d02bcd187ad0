"""A fingerprint of a file, a folder or a link by stat(2) alone: whether anything there changed, without reading it.

What counts, where the kernel of this machine keeps the numbers: size, mtime, ctime, inode and mode of each file; name
and mode of each folder; the target of each link; the kind of anything else. No program can set a ctime, so a change
with a restored mtime shows. On a network file system: size and mtime of each file, the target of each link, the kind of
the rest. Inode and ctime may change there when nothing did, and modes are what the mount says.

What does not count: the times and the inode of a folder, and who may write to it. Renaming a folder and making it
read-only change these, and every change below a folder shows in another way. The device: a restart may renumber it.

What does not show: a second change within one tick of the file system's clock (mostly 4 ms, on some systems 1 s) that
keeps the size, a write through an old memory map, and damage of the disk itself.
"""

from __future__ import annotations

import hashlib
import marshal
import os

__all__ = ["fingerprint", "fingerprints"]

_FORMAT = 0o170000  # stat.S_IFMT
_REGULAR, _FOLDER, _LINK = 0o100000, 0o040000, 0o120000  # stat.S_IFREG, S_IFDIR, S_IFLNK
_WRITE = 0o222

_STEP = 1000  # bytes of a path that one call gets; PATH_MAX is 1024 on macOS, 4096 on Linux; a name has at most 255

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_Row = tuple[bytes | int, ...]


def fingerprint(path: str, *, local: bool) -> str:
    """Return 64 hexadecimal digits, the same as long as nothing at path or below it changed. Follows no link.

    local: whether this machine's kernel keeps the numbers (is_local of ctxpack_identity). A folder keeps its
    fingerprint when it is renamed; a file gets another one, with its ctime.
    Memory: 300 bytes for each file of one folder, and the paths of the folders still to visit.
    Raises: OSError, FileNotFoundError when path is gone, or something below it goes meanwhile.
    """
    [found] = _fingerprints(path, (local,))
    return found


def fingerprints(path: str) -> tuple[str, str]:
    """Return both fingerprints, local and not, from one walk. Memory: 600 bytes for each file of one folder.

    Raises: as fingerprint does.
    """
    local, network = _fingerprints(path, (True, False))
    return local, network


def _fingerprints(path: str, kinds: tuple[bool, ...]) -> list[str]:
    top = os.fsencode(path).rstrip(b"/") or b"/"  # the system follows "link/"
    status = os.lstat(top)
    link = (b"", os.readlink(top)) if status.st_mode & _FORMAT == _LINK else None
    found = [hashlib.sha256(marshal.dumps(link or _row(b"", status, local), 2)) for local in kinds]
    pending = [top] if status.st_mode & _FORMAT == _FOLDER else []
    while pending:
        folder = pending.pop()
        rows, names = _read(folder, kinds)
        # Each folder's rows say which folders are inside, so the order of the visits is known from what was hashed.
        for sha256, of_kind in zip(found, rows, strict=True):
            sha256.update(marshal.dumps(of_kind, 2))
        pending += [b"%b/%b" % (folder, name) for name in names]
    return [sha256.hexdigest() for sha256 in found]


def _read(folder: bytes, kinds: tuple[bool, ...]) -> tuple[list[list[_Row]], list[bytes]]:
    """Return the rows of all that is in folder, for each kind, and the names of the folders; all sorted."""
    rows: list[list[_Row]] = [[] for _ in kinds]
    names = []
    descriptor = _opened(folder)
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name, status = os.fsencode(entry.name), entry.stat(follow_symlinks=False)
                kind = status.st_mode & _FORMAT
                link = (name, os.readlink(name, dir_fd=descriptor)) if kind == _LINK else None
                for of_kind, local in zip(rows, kinds, strict=True):
                    of_kind.append(link or _row(name, status, local))
                if kind == _FOLDER:
                    names.append(name)
    finally:
        os.close(descriptor)
    return [sorted(of_kind) for of_kind in rows], sorted(names)


def _row(name: bytes, status: os.stat_result, local: bool) -> _Row:
    """Return what must not change of anything but a link, of which that is name and target.

    Rows of two kinds differ in length, or in the bits of the kind.
    """
    mode = status.st_mode
    kind = mode & _FORMAT
    if kind == _REGULAR:
        if local:
            return (name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, mode)
        return (name, status.st_size, status.st_mtime_ns)
    return (name, mode & ~_WRITE if local and kind == _FOLDER else kind)


def _opened(folder: bytes) -> int:
    """Return a descriptor of folder, whose path may be longer than the system allows: it is opened in steps."""
    descriptor = None
    while len(folder) > _STEP:
        cut = folder.rindex(b"/", 1, _STEP)
        descriptor = _step(folder[:cut], descriptor)
        folder = folder[cut + 1 :]
    return _step(folder, descriptor)


def _step(folder: bytes, above: int | None) -> int:
    try:
        return os.open(folder, _FLAGS, dir_fd=above)
    finally:
        if above is not None:
            os.close(above)
