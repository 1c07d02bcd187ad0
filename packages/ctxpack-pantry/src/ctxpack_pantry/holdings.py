"""Holdings: pieces of a table that packs in the cache hold, so that a pull fetches only the others.

Which piece is where, the tables say that this cache knows. A piece that is read from a cached pack is checked by its
digest like one that was fetched.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import TypeVar

from ctxpack_bundle import PackStream, PieceIndex, Record, Table, manifest_part, read_pack_manifest
from ctxpack_cache import Cache
from ctxpack_identity import IntegrityError, InvalidInput, LocalFailure
from ctxpack_pantry.tables import KnownTable, Tables

__all__ = ["NOTHING_HELD", "Held", "Holdings"]

_RECENT = 16  # packs that are searched: each costs a read of its table, and of its listing if it holds a piece
_SAMPLE = 1024  # pieces of a table, evenly spread; a pack that has none of them is not searched

_Result = TypeVar("_Result")


class Holdings:
    """The pieces of the packs in cache, as far as they are known."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._tables = Tables(cache)

    def any(self) -> bool:
        """Return whether the pieces of any pack in the cache are known."""
        return any(self._folder(known) for known in self._tables.newest())

    def hold(self, wanted: Table) -> Held:
        """Return those of the wanted pieces that the newest packs have."""
        recent = list(self._recent())
        held = Held(wanted) if recent else NOTHING_HELD
        for known, folder in recent:
            pack = None if held.complete else known.read()
            if pack is not None:
                with suppress(IntegrityError):  # its manifest.json is damaged: nothing is held of it
                    held.add(folder, pack.table)
        return held

    def lend(self, wanted: Table, attempt: Callable[[Held], _Result]) -> _Result:
        """Return attempt(held). If a cached pack proves damaged or removed, call attempt again with nothing held."""
        with closing(self.hold(wanted)) as held:
            try:
                return attempt(held)
            except IntegrityError:
                if not held.failed:
                    raise
        return attempt(NOTHING_HELD)

    def _recent(self) -> Iterator[tuple[KnownTable, str]]:
        found = 0
        for known in self._tables.newest():
            folder = self._folder(known)
            if folder is not None:
                yield known, folder
                found += 1
                if found == _RECENT:
                    return

    def _folder(self, known: KnownTable) -> str | None:
        try:
            return self._cache.find(known.contract)
        except (InvalidInput, LocalFailure):
            return None


class Held:
    """Pieces that need not be fetched while their packs are in the cache. Threads may share it. Close it.

    failed: whether a piece could not be read as its table says.
    """

    def __init__(self, wanted: Table | None = None) -> None:
        self.failed = False
        self._index = None if wanted is None else PieceIndex(wanted)
        self._missing = size = 0 if wanted is None else len(wanted)
        self._folders: list[str] = []
        self._source = bytearray(size)  # number of the folder and 1; 0 for a piece that must be fetched
        self._offsets = array("Q", bytes(8 * size))  # in the stream of that pack
        self._streams: dict[int, PackStream] = {}
        self._open_streams = ExitStack()
        self._closed = False
        self._lock = threading.Lock()

    @property
    def complete(self) -> bool:
        """Whether no piece must be fetched."""
        return not self._missing

    @property
    def is_empty(self) -> bool:
        """Whether no piece is held."""
        return not self._folders

    def has(self, record: Record) -> bool:
        """Return whether the piece of a record of the wanted table is held."""
        return bool(self._folders) and self._source[self._find(record.sha256)] > 0

    def piece(self, record: Record) -> bytes:
        """Return the piece of record, which is held. Raises: IntegrityError when it is not there any more."""
        number = self._find(record.sha256)
        try:
            with self._lock:
                piece = self._stream(self._source[number] - 1).read(self._offsets[number], record.size)
        except (OSError, IntegrityError) as error:
            raise self._lost() from error
        if hashlib.sha256(piece).digest() != record.sha256:
            raise self._lost()
        return piece

    def close(self) -> None:
        """Close the packs. A thread that is late gets no piece, and opens none again."""
        with self._lock:
            self._closed = True
            self._open_streams.close()
            self._streams.clear()

    def add(self, folder: str, table: Table) -> None:
        """Hold the pieces of the cached pack in folder that are wanted. table: of that pack."""
        step = max(1, len(table) // _SAMPLE)
        if all(self._find(table.sha256(number)) < 0 for number in range(0, len(table), step)):
            return
        offset = len(manifest_part(read_pack_manifest(folder)))
        self._folders.append(folder)
        for record in table:
            number = self._find(record.sha256)
            if number >= 0 and not self._source[number]:
                self._source[number], self._offsets[number] = len(self._folders), offset
                self._missing -= 1
            offset += record.size

    def _find(self, sha256: bytes) -> int:
        return -1 if self._index is None else self._index.find(sha256)

    def _stream(self, source: int) -> PackStream:
        if self._closed:
            raise self._lost()
        if source not in self._streams:
            self._streams[source] = self._open_streams.enter_context(PackStream(self._folders[source]))
        return self._streams[source]

    def _lost(self) -> IntegrityError:
        self.failed = True
        return IntegrityError("a pack of the cache is damaged, or was removed", where="cache", fix="pull again")


NOTHING_HELD = Held()
