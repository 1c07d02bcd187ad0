"""The file in which StatCache keeps digests: an SQLite database with one sealed record for each folder.

A record or file that is damaged is forgotten, never believed.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping

from ctxpack_identity.lighttyping import Any

__all__ = ["DigestIndex"]

PATIENCE = 0.5  # seconds to wait for another process that writes; after that, this process does without the index

_SEAL = 16  # bytes

# SQLite's primary result codes that say nothing about the file's content: no permission, busy, locked, no memory, read
# only, interrupted, I/O error, disk full, cannot open, locking protocol, misuse, not authorised.
_NO_DAMAGE = frozenset({3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 21, 23})
_READONLY = 8


class DigestIndex:
    """For the key of each folder, a record: rows (its files, marshalled), and digests (their SHA-256, joined).

    The file is made, and opened, by the first use. Nothing here raises: after the first failure, usable is False,
    nothing is found and nothing is kept. A damaged file is removed.
    """

    def __init__(self, path: str) -> None:
        self.usable = True
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def read(self, key: bytes) -> tuple[bytes, str] | None:
        """Return the record of a folder; None where there is none, or its seal is wrong."""
        found = self._try(
            lambda index: index.execute("SELECT rows, digests, seal FROM folders WHERE folder = ?", (key,)).fetchone()
        )
        if found is None:
            return None
        rows, digests, seal = found
        if not isinstance(rows, bytes) or not isinstance(digests, str) or seal != _seal(key, rows, digests):
            return None
        return rows, digests

    def write(self, records: Mapping[bytes, tuple[bytes, str]]) -> None:
        """Add records, or replace those of the same folders, in one transaction."""
        rows = [(key, *record, _seal(key, *record)) for key, record in records.items()]
        self._try(lambda index: _insert(index, rows))

    def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _try(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Return work(connection), or None where that fails."""
        if not self.usable:
            return None
        try:
            if self._connection is None:
                self._connection = _connect(self._path)
            return work(self._connection)
        except (sqlite3.Error, OSError) as error:
            self.usable = False
            self.close()
            if isinstance(error, sqlite3.DatabaseError) and _is_damage(error, self._path):
                _remove(self._path)
        return None


def _connect(path: str) -> sqlite3.Connection:
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    _create(path)
    index = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)  # several threads, but one at a time
    try:
        index.execute("PRAGMA journal_mode = WAL")
        index.execute("PRAGMA synchronous = OFF")  # a power cut may lose or damage records; the seals show damage
        index.execute(
            "CREATE TABLE IF NOT EXISTS folders "
            "(folder BLOB PRIMARY KEY, rows BLOB, digests TEXT, seal BLOB) WITHOUT ROWID"
        )
    except BaseException:
        index.close()
        raise
    return index


def _create(path: str) -> None:
    """Make an empty file that only this user may read: one that SQLite makes shows names and digests to everybody."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(fd)


def _insert(index: sqlite3.Connection, rows: list[tuple[bytes, bytes, str, bytes]]) -> None:
    with index:  # one transaction
        index.executemany("INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?)", rows)


def _is_damage(error: sqlite3.DatabaseError, path: str) -> bool:
    code = getattr(error, "sqlite_errorcode", None)  # absent when Python itself could not decode a text
    if code == _READONLY:  # SQLite also reports it for a damaged header
        return os.access(path, os.W_OK) and os.access(os.path.dirname(os.path.abspath(path)), os.W_OK)
    return code is None or code & 0xFF not in _NO_DAMAGE


def _remove(path: str) -> None:
    for name in (path, f"{path}-wal", f"{path}-shm"):
        try:
            os.unlink(name)
        except OSError:  # already gone, or not ours to remove
            continue


def _seal(key: bytes, rows: bytes, digests: str) -> bytes:
    return hashlib.blake2b(b"\0".join([key, rows, digests.encode()]), digest_size=_SEAL).digest()
