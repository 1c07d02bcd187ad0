"""The digests of files that did not change: an index on disk, so that the second hash of a tree costs a walk.

A file is taken for unchanged when its device, inode, size, mtime and ctime are those it had when it was hashed, and
both times lay at least RACY_NS before its folder was looked up, which came before it was read. (A file written twice
within one tick of the file system's clock looks the same after both; git's racy-git.adoc.) No program can set a ctime,
so a change behind a restored mtime shows. What does not show is what no clock records: a program that goes on writing
through an old memory map, and a change beneath a mounted file system.

Only file systems whose numbers and times this machine's kernel keeps are believed: no network's, none that makes its
inode numbers up (FAT), none that comes as an image with the builder's times (squashfs).

An object of a store is taken for unchanged when its size and all that the store says of its version are what
they were, and that holds more than a time: an ETag, a generation. That is as certain as the store makes it.

The index is advice. It is sealed record by record; a record or file that is damaged is forgotten, never believed.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import re
import time
from collections.abc import Callable

from ctxpack_identity.hashing.scan import Folder
from ctxpack_identity.lighttyping import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3

__all__ = ["StatCache"]

RACY_NS = 2_000_000_000  # twice the coarsest clock of the file systems below: ext3, one second
WORTHWHILE = 64  # files; with fewer, hashing small ones costs less than opening the index
WORTHWHILE_BYTES = 1 << 20
PATIENCE = 0.5  # seconds to wait for another process that writes; then this one does without
UNWRITTEN_BYTES = 4 << 20  # held back, so that writing, which keeps others from it, takes milliseconds

_DIGEST = 64  # hexadecimal digits
_SEAL = 16  # bytes

_LOCAL = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "ntfs3", "overlay", "ramfs", "reiserfs"}
    | {"rootfs", "tmpfs", "xfs", "zfs"}
)

# SQLite's primary result codes that say nothing about the file's content: no permission, busy, locked, no memory, read
# only, interrupted, I/O error, disk full, cannot open, locking protocol, misuse, not authorised.
_NO_DAMAGE = frozenset({3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 21, 23})
_READONLY = 8


class _Record(NamedTuple):
    """What was hashed in one folder. rows: its files as _rows tells them, marshalled; digests: theirs in a row."""

    rows: bytes
    digests: str


class StatCache:
    """A KnownDigests kept in a file. Opened when there is enough to look up; closed, and complete, with close().

    rehash: look nothing up, so that everything is read again, and remembered anew.
    Any number of processes may use one file, but one thread at a time this object. Nothing here raises: where the
    index cannot be used, files are hashed.
    """

    def __init__(self, path: str, *, rehash: bool = False) -> None:
        self._path = path
        self._rehash = rehash
        self._seen_files = self._seen_bytes = 0
        self._index: sqlite3.Connection | None = None
        self._usable = True
        self._local: dict[int, bool] = {}
        self._looked_up_ns: dict[bytes, int] = {}
        self._unwritten: dict[bytes, _Record] = {}
        self._unwritten_bytes = 0

    def __enter__(self) -> StatCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def look_up(self, folder: Folder) -> list[str | None]:
        """Return the digest of each of the folder's files, or None where it is not known or not certain."""
        if not (self._is_worthwhile(folder) and self._usable and (folder.store or self._is_local(folder))):
            return [None] * len(folder.files)
        key = _key(folder)
        now = time.time_ns()
        record = None if self._rehash else self._unwritten.get(key) or self._read(key)
        digests = _matches(record, folder)
        if None in digests:
            self._looked_up_ns[key] = now
        return digests

    def remember(self, folder: Folder, digests: list[str]) -> None:
        """Keep the digests of those files that would not look the same had they changed since they were looked up."""
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
        """Make what was remembered last."""
        self._write()
        self._close_index()

    def _read(self, key: bytes) -> _Record | None:
        found = self._with_index(
            lambda index: index.execute("SELECT rows, digests, seal FROM folders WHERE folder = ?", (key,)).fetchone()
        )
        if found is None:
            return None
        rows, digests, seal = found
        if not isinstance(rows, bytes) or not isinstance(digests, str) or seal != _seal(key, rows, digests):
            return None
        return _Record(rows, digests)

    def _write(self) -> None:
        records = [(key, *record, _seal(key, *record)) for key, record in self._unwritten.items()]
        if records:
            self._with_index(lambda index: _insert(index, records))
        self._unwritten.clear()
        self._unwritten_bytes = 0

    def _with_index(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Return work(index), or None where that fails. It is not tried again then, and a damaged index is removed."""
        if not self._usable:
            return None
        try:
            import sqlite3  # 5 ms, which only work worth remembering pays
        except ImportError:  # some systems leave it out
            self._usable = False
            return None
        try:
            if self._index is None:
                self._index = _connect(self._path)
            return work(self._index)
        except (sqlite3.Error, OSError) as error:
            self._usable = False
            self._close_index()
            if isinstance(error, sqlite3.DatabaseError) and _is_damage(error, self._path):
                _remove(self._path)
        return None

    def _close_index(self) -> None:
        if self._index is not None:
            index, self._index = self._index, None
            index.close()

    def _is_worthwhile(self, folder: Folder) -> bool:
        self._seen_files += len(folder.files)
        self._seen_bytes += sum([status.st_size for _, status in folder.files])
        return self._seen_files >= WORTHWHILE or self._seen_bytes >= WORTHWHILE_BYTES or folder.store is not None

    def _is_local(self, folder: Folder) -> bool:
        """Whether all files, of which followed links may spread over several, are on local file systems."""
        for name, status in folder.files:
            if status.st_dev not in self._local:
                self._local[status.st_dev] = _file_system(os.path.realpath(folder.location + name)) in _LOCAL
            if not self._local[status.st_dev]:
                return False
        return True


def _matches(record: _Record | None, folder: Folder) -> list[str | None]:
    if record is None:
        return [None] * len(folder.files)
    now, digests = _rows(folder), record.digests
    if record.rows == marshal.dumps(now, 2):
        return [digests[start : start + _DIGEST] for start in range(0, len(digests), _DIGEST)]
    known = {row: digests[_DIGEST * place :][:_DIGEST] for place, row in enumerate(marshal.loads(record.rows))}
    return [known.get(row) for row in now]


def _connect(path: str) -> sqlite3.Connection:
    import sqlite3

    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    _create(path)
    index = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)  # one at a time, whichever it is
    try:
        index.execute("PRAGMA journal_mode = WAL")
        index.execute("PRAGMA synchronous = OFF")  # lost after a power cut at worst, and damage shows in the seals
        index.execute(
            "CREATE TABLE IF NOT EXISTS folders "
            "(folder BLOB PRIMARY KEY, rows BLOB, digests TEXT, seal BLOB) WITHOUT ROWID"
        )
    except BaseException:
        index.close()
        raise
    return index


def _create(path: str) -> None:
    """Make an empty file that nobody else may read: SQLite's own would tell everybody names and digests."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(fd)


def _insert(index: sqlite3.Connection, records: list[tuple[bytes, bytes, str, bytes]]) -> None:
    with index:  # one transaction
        index.executemany("INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?)", records)


def _is_damage(error: sqlite3.DatabaseError, path: str) -> bool:
    code = getattr(error, "sqlite_errorcode", None)  # none where Python itself could not decode a text
    if code == _READONLY:  # also said of a damaged header
        return os.access(path, os.W_OK) and os.access(os.path.dirname(os.path.abspath(path)), os.W_OK)
    return code is None or code & 0xFF not in _NO_DAMAGE


def _remove(path: str) -> None:
    for name in (path, f"{path}-wal", f"{path}-shm"):
        try:
            os.unlink(name)
        except OSError:  # gone, or not ours to remove
            continue


def _key(folder: Folder) -> bytes:
    return folder.store.key if folder.store else os.fsencode(os.path.abspath(folder.location))


def _rows(folder: Folder) -> list[Any]:
    """Return what must stay: of a file name, device, inode, size (bytes), mtime and ctime (ns); of an object name, size
    and version."""
    if folder.store is None:
        return [(name, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in folder.files]
    found = zip(folder.files, folder.store.versions, strict=True)
    return [(name, status.st_size, version) for (name, status), version in found]


def _are_certain(folder: Folder, looked_up: int) -> list[bool]:
    """Return for each file whether a change after looked_up (ns) must show."""
    if folder.store is not None:
        return folder.store.certain
    return [max(status.st_mtime_ns, status.st_ctime_ns) + RACY_NS <= looked_up for _, status in folder.files]


def _seal(key: bytes, rows: bytes, digests: str) -> bytes:
    return hashlib.blake2b(b"\0".join([key, rows, digests.encode()]), digest_size=_SEAL).digest()


def _file_system(path: str) -> str:
    """Return the type of the file system that holds path (proc(5), mountinfo), "" where the system does not say.

    By path, since btrfs reports devices for its subvolumes that no mount has.
    """
    best, kind = -1, ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                before, _, after = line.partition(" - ")
                point = re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), before.split(" ")[4])
                if len(point) >= best and f"{path}/".startswith(os.path.join(point, "")):
                    best, kind = len(point), after.split(" ")[0]
    except (OSError, IndexError):
        return ""
    return kind
