"""The digests of files that did not change: an index on disk, so that the second hash of a tree costs a walk.

A file is taken for unchanged when its inode, size, mtime and ctime are those it had when it was hashed, and both times
lay at least RACY_NS before that. (A file written twice within one tick of the file system's clock looks the same after
both; git's racy-git.adoc.) Folders on network file systems are not kept: their numbers and clocks are not ours.

The index is advice. It is sealed record by record; a record or file that is damaged is forgotten, never believed.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import re
import time

from ctxpack_identity.lighttyping import TYPE_CHECKING, Any
from ctxpack_identity.scan import Folder

if TYPE_CHECKING:
    import sqlite3

__all__ = ["StatCache"]

RACY_NS = 2_000_000_000  # the coarsest clock of a local file system: FAT, two seconds
WORTHWHILE = 64  # files; with fewer, hashing small ones costs less than opening the index
WORTHWHILE_BYTES = 1 << 20
PATIENCE = 0.5  # seconds to wait for another process that writes; then this one does without

_DIGEST = 64  # hexadecimal digits
_SEAL = 16  # bytes

# File systems whose inode numbers and times are kept by this machine's kernel alone.
_LOCAL = frozenset(
    {"apfs", "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "nilfs2", "ntfs3"}
    | {"overlay", "ramfs", "reiserfs", "rootfs", "squashfs", "tmpfs", "udf", "vfat", "xfs", "zfs"}
)

_Row = tuple[str, int, int, int, int]
"""What a file must still be: name, inode, size in bytes, mtime and ctime in ns."""


class StatCache:
    """A KnownDigests kept in a file. Opened when there is enough to look up; closed with close().

    Any number of processes may use one file. Nothing here raises: where the index cannot be used, files are hashed.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen_files = self._seen_bytes = 0
        self._index: sqlite3.Connection | None = None
        self._usable = True
        self._local: dict[int, bool] = {}
        self._looked_up_ns: dict[str, int] = {}

    def look_up(self, folder: Folder) -> list[str | None]:
        """Return the digest of each of the folder's files, or None where it is not known or not certain."""
        unknown: list[str | None] = [None] * len(folder.files)
        self._seen_files += len(folder.files)
        self._seen_bytes += sum([status.st_size for _, status in folder.files])
        if not folder.files or (self._seen_files < WORTHWHILE and self._seen_bytes < WORTHWHILE_BYTES):
            return unknown
        if not self._is_local(folder):
            return unknown
        key = _key(folder)
        self._looked_up_ns[key] = time.time_ns()
        record = self._read(key)
        if record is None:
            return unknown
        rows, digests = record
        now = _rows(folder)
        if rows == marshal.dumps(now, 2):
            return [digests[start : start + _DIGEST] for start in range(0, len(digests), _DIGEST)]
        known = {row: digests[_DIGEST * place :][:_DIGEST] for place, row in enumerate(marshal.loads(rows))}
        return [known.get(row) for row in now]

    def remember(self, folder: Folder, digests: list[str]) -> None:
        """Keep the digests of those files that were old enough when the folder was looked up."""
        looked_up = self._looked_up_ns.pop(_key(folder), None)
        if looked_up is None:
            return
        certain = [
            (row, digest)
            for row, digest in zip(_rows(folder), digests, strict=True)
            if max(row[3], row[4]) + RACY_NS <= looked_up
        ]
        if certain:
            rows, kept = marshal.dumps([row for row, _ in certain], 2), "".join([digest for _, digest in certain])
            self._write(_key(folder), rows, kept)

    def close(self) -> None:
        """Make what was remembered last."""
        if self._index is not None:
            self._attempt(self._index.commit)
            self._attempt(self._index.close)
            self._index = None

    def _read(self, key: str) -> tuple[bytes, str] | None:
        index = self._open()
        if index is None:
            return None
        found = self._attempt(
            lambda: index.execute("SELECT rows, digests, seal FROM folders WHERE folder = ?", (key,)).fetchone()
        )
        if found is None:
            return None
        rows, digests, seal = found
        if not isinstance(rows, bytes) or not isinstance(digests, str) or seal != _seal(key, rows, digests):
            return None
        return rows, digests

    def _write(self, key: str, rows: bytes, digests: str) -> None:
        index = self._open()
        if index is not None:
            record = (key, rows, digests, _seal(key, rows, digests))
            self._attempt(lambda: index.execute("INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?)", record))

    def _open(self) -> sqlite3.Connection | None:
        if self._index is None and self._usable:
            self._index = self._attempt(lambda: _connect(self._path))
        return self._index

    def _attempt(self, work: Any) -> Any:
        """Return work(), or None when the index is damaged (then it is removed), busy, or cannot be written."""
        import sqlite3

        try:
            return work()
        except (sqlite3.OperationalError, OSError):  # locked, read-only, disk full
            self._usable = False
        except sqlite3.DatabaseError:
            self._usable = False
            for name in (self._path, f"{self._path}-wal", f"{self._path}-shm"):
                if os.path.exists(name):
                    os.unlink(name)
        return None

    def _is_local(self, folder: Folder) -> bool:
        device = folder.files[0][1].st_dev
        if device not in self._local:
            self._local[device] = _file_system(os.path.realpath(folder.location)) in _LOCAL
        return self._local[device]


def _connect(path: str) -> sqlite3.Connection:
    import sqlite3  # 5 ms, which only work worth remembering pays

    os.makedirs(os.path.dirname(path), exist_ok=True)
    index = sqlite3.connect(path, timeout=PATIENCE)
    index.execute("PRAGMA journal_mode = WAL")
    index.execute("PRAGMA synchronous = OFF")  # lost after a power cut at worst, and damage shows in the seals
    index.execute(
        "CREATE TABLE IF NOT EXISTS folders (folder TEXT PRIMARY KEY, rows BLOB, digests TEXT, seal BLOB) WITHOUT ROWID"
    )
    return index


def _key(folder: Folder) -> str:
    return f"{folder.files[0][1].st_dev}:{os.path.abspath(folder.location)}"


def _rows(folder: Folder) -> list[_Row]:
    return [(name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in folder.files]


def _seal(key: str, rows: bytes, digests: str) -> bytes:
    return hashlib.blake2b(b"\0".join([key.encode(), rows, digests.encode()]), digest_size=_SEAL).digest()


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
