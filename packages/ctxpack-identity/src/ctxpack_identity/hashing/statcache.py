"""Digests of files that did not change, kept on disk: the second hash of a tree costs a walk.

A file counts as unchanged when its device, inode, size, mtime and ctime are those it had when it was hashed, and both
times were at least RACY_NS before look_up, which comes before the file is read. (A file written twice within one tick
of the file system's clock looks the same after both; git's racy-git.adoc.) No program can set a ctime, so a change with
a restored mtime shows. Changes that no clock records do not show: a program that writes through an old memory map, and
a change beneath a mounted file system.

A file system is trusted only if it is local, as `filesystem` has it.

An object of a store counts as unchanged when size and version are the same, and the version is more than a time: an
ETag, a generation. That is as certain as the store makes it.
"""

from __future__ import annotations

import marshal
import os
import time

from ctxpack_identity.hashing.filesystem import LocalDevices
from ctxpack_identity.hashing.scan import Folder
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ctxpack_identity.hashing.digestindex import DigestIndex

__all__ = ["StatCache"]

RACY_NS = 2_000_000_000  # twice the coarsest clock of a local file system: ext3, one second
WORTHWHILE = 64  # files; with fewer, hashing small ones costs less than opening the index
WORTHWHILE_BYTES = 1 << 20
UNWRITTEN_BYTES = 4 << 20  # kept in memory before a write, which locks the index for milliseconds

_DIGEST = 64  # hexadecimal digits


class _Record(NamedTuple):
    """What was hashed in one folder. rows: its files as _rows returns them, marshalled; digests: theirs, joined."""

    rows: bytes
    digests: str


class StatCache:
    """A KnownDigests kept in a file, the index. It is opened when there is enough to look up, complete after close().

    rehash: find nothing, so that every file is read and remembered again.
    Any number of processes may use one file, but only one thread at a time this object. Nothing here raises: where the
    index cannot be used, files are hashed.
    """

    def __init__(self, path: str, *, rehash: bool = False) -> None:
        self._path = path
        self._rehash = rehash
        self._seen_files = self._seen_bytes = 0
        self._index: DigestIndex | None = None
        self._has_sqlite = True
        self._local = LocalDevices()
        self._looked_up_ns: dict[bytes, int] = {}
        self._unwritten: dict[bytes, _Record] = {}
        self._unwritten_bytes = 0

    def __enter__(self) -> StatCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def look_up(self, folder: Folder) -> list[str | None]:
        """Return the digest of each of the folder's files, or None where it is not known or not certain."""
        index = self._index_for(folder) if self._is_worthwhile(folder) else None
        if index is None:
            return [None] * len(folder.files)
        now = time.time_ns()
        digests = self._found(index, folder)
        if None in digests:
            self._looked_up_ns[_key(folder)] = now
        return digests

    def peek(self, folder: Folder) -> list[str | None]:
        """Return what look_up would find, however few files there are; for a folder that may be looked up later."""
        index = self._index_for(folder)
        return self._found(index, folder) if index is not None else [None] * len(folder.files)

    def remember(self, folder: Folder, digests: list[str]) -> None:
        """Keep the digests of those files whose change after look_up must show."""
        key = _key(folder)
        looked_up = self._looked_up_ns.pop(key, None)
        if looked_up is None:
            return
        found = zip(_rows(folder), digests, _are_certain(folder, looked_up), strict=True)
        known = [(row, digest) for row, digest, certain in found if certain]
        if known:
            record = _Record(marshal.dumps([row for row, _ in known], 2), "".join([digest for _, digest in known]))
            self._unwritten[key] = record
            self._unwritten_bytes += len(key) + len(record.rows) + len(record.digests)
            if self._unwritten_bytes >= UNWRITTEN_BYTES:
                self._write()

    def close(self) -> None:
        """Write what was remembered, and close the index."""
        self._write()
        if self._index is not None:
            self._index.close()

    def _write(self) -> None:
        index = self._opened() if self._unwritten else None
        if index is not None:
            index.write(self._unwritten)
        self._unwritten.clear()
        self._unwritten_bytes = 0

    def _index_for(self, folder: Folder) -> DigestIndex | None:
        return self._opened() if folder.store or self._is_local(folder) else None

    def _found(self, index: DigestIndex, folder: Folder) -> list[str | None]:
        key = _key(folder)
        return _matches(None if self._rehash else self._unwritten.get(key) or index.read(key), folder)

    def _opened(self) -> DigestIndex | None:
        """Return the index, None where it cannot be used."""
        if self._index is None and self._has_sqlite:
            try:
                from ctxpack_identity.hashing.digestindex import DigestIndex  # 5 ms, which few files are not worth
            except ImportError:  # some systems leave SQLite out
                self._has_sqlite = False
                return None
            self._index = DigestIndex(self._path)
        return self._index if self._index is not None and self._index.usable else None

    def _is_worthwhile(self, folder: Folder) -> bool:
        self._seen_files += len(folder.files)
        self._seen_bytes += sum([status.st_size for _, status in folder.files])
        return self._seen_files >= WORTHWHILE or self._seen_bytes >= WORTHWHILE_BYTES or folder.store is not None

    def _is_local(self, folder: Folder) -> bool:
        """Whether all files are on local file systems; followed links may lead to several."""
        return all(self._local.holds(folder.location + name, status) for name, status in folder.files)


def _matches(record: tuple[bytes, str] | None, folder: Folder) -> list[str | None]:
    if record is None:
        return [None] * len(folder.files)
    now, (rows, digests) = _rows(folder), record
    if rows == marshal.dumps(now, 2):
        return [digests[start : start + _DIGEST] for start in range(0, len(digests), _DIGEST)]
    known = {row: digests[_DIGEST * place :][:_DIGEST] for place, row in enumerate(marshal.loads(rows))}
    return [known.get(row) for row in now]


def _key(folder: Folder) -> bytes:
    return folder.store.key if folder.store else os.fsencode(os.path.abspath(folder.location))


def _rows(folder: Folder) -> list[Any]:
    """Return what must not change: name, device, inode, size (bytes), mtime and ctime (ns) of each file; name, size and
    version of each object."""
    if folder.store is None:
        return [(name, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in folder.files]
    found = zip(folder.files, folder.store.versions, strict=True)
    return [(name, status.st_size, version) for (name, status), version in found]


def _are_certain(folder: Folder, looked_up: int) -> list[bool]:
    """Return for each file whether a change after looked_up (ns) must show."""
    if folder.store is not None:
        return folder.store.certain
    return [max(status.st_mtime_ns, status.st_ctime_ns) + RACY_NS <= looked_up for _, status in folder.files]
