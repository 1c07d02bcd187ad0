"""The journal of a map: one line for each finished item, in the user's state folder, so that a killed map goes on.

``items/<32 hex>.jsonl`` there: of a cache, and of what the contracts of the items share. Canonical JSON lines::

    {"look":"<64 hex>"}                                         a look at what the items share
    {"at":[session, number],"item":"<64 hex>","result":"<64 hex>"}   item: of its URI; session: 8 hexadecimal digits

An item counts if the look after it is that before it: then nothing changed while it was made. After the last lines
comes the look of who reads them. The results lie in the cache, ``v1/items/<32 hex>/<session>/<thousands>/<number>/``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from ctxpack_cache import Cache
from ctxpack_identity import Digest, digest_of, hex_of
from ctxpack_identity.disk import local_failure
from ctxpack_pantry.state import make_state_folder

__all__ = ["Finished", "Journal"]

_DIGITS = 32
_SIDE = "items"
_FOLDER = 1000  # results in one folder, so that it can be removed in little memory
_ELSEWHERE = "set XDG_STATE_HOME, and CTXPACK_CACHE"

_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch
_is_session = re.compile(r"[0-9a-f]{8}").fullmatch


class Finished(NamedTuple):
    """An item that is finished. item: SHA-256 of its contract; result: digest of its result. place: its folder."""

    item: bytes
    result: bytes
    session: str
    number: int


class Journal:
    """The journal of the maps in cache whose items share this digest. The caller holds a lock of it.

    state: the user's state folder, "" where there is none: then nothing outlives this process.
    folder: where results lie; session: the name of this process's folder there.
    Raises: LocalFailure when the disk fails.
    """

    def __init__(self, cache: Cache, state: str, common: Digest) -> None:
        root = os.fsencode(os.path.realpath(cache.root))
        name = hex_of(digest_of(root + b"\0" + common.encode()))[:_DIGITS]
        self.folder = os.path.join(cache.side(_SIDE), name)
        self.session = os.urandom(4).hex()
        self._path = os.path.join(state, _SIDE, f"{name}.jsonl") if state else ""
        self._file: int | None = None

    @property
    def exists(self) -> bool:
        """Whether an earlier process left one."""
        return bool(self._path) and os.path.exists(self._path)

    def read(self, look: str) -> Iterator[Finished]:
        """Yield the items that count, oldest first. look: at what the items share, now."""
        segment: list[Finished] = []
        before = ""
        for found in self._lines():
            if isinstance(found, str):
                if found == before:
                    yield from segment
                before, segment = found, []
            else:
                segment.append(found)
        if look == before:
            yield from segment

    def begin(self, look: str) -> None:
        """Make the folder of this session, and write the first look."""
        try:
            os.makedirs(os.path.join(self.folder, self.session))
            if self._path:
                make_state_folder(os.path.dirname(os.path.dirname(self._path)), _SIDE)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                self._write("\n")  # ends a line that a kill or a full disk cut
        except OSError as error:
            raise local_failure(error, "cannot be written", self._path or self.folder, elsewhere=_ELSEWHERE) from error
        self.look(look)

    def look(self, look: str) -> None:
        """Write a look at what the items share."""
        self._write(f'{{"look":"{look}"}}\n')

    def add(self, item: bytes, number: int, result: bytes) -> None:
        """Write that an item is finished; its folder in this session has this number."""
        self._write(f'{{"at":["{self.session}",{number}],"item":"{item.hex()}","result":"{result.hex()}"}}\n')

    def place(self, session: str, number: int) -> str:
        """Return the folder of a result."""
        return os.path.join(self.folder, session, str(number // _FOLDER), str(number))

    def tidy(self, sessions: set[str]) -> None:
        """Remove the folders of all sessions but these."""
        for name in _names(self.folder):
            if name not in sessions:
                shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Remove the journal and all results: a pack has them."""
        self.close()
        if self._path and os.path.lexists(self._path):
            os.unlink(self._path)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        try:
            os.write(self._file, line.encode())
        except OSError as error:
            raise local_failure(error, "cannot be written", self._path, elsewhere=_ELSEWHERE) from error

    def _lines(self) -> Iterator[str | Finished]:
        """Yield looks and items. A line that is none, such as one that a kill cut, is skipped."""
        if not self.exists:
            return
        try:
            with open(self._path, "rb") as file:
                for line in file:
                    found = _parsed(line)
                    if found is not None:
                        yield found
        except OSError as error:
            raise local_failure(error, "cannot be read", self._path, elsewhere=_ELSEWHERE) from error


def _parsed(line: bytes) -> str | Finished | None:
    try:
        value = json.loads(line)
        if "look" in value:
            return value["look"] if _is_sha256(value["look"]) else None
        session, number = value["at"]
        texts = value["item"], value["result"]
        if all(map(_is_sha256, texts)) and _is_session(session) and type(number) is int and number >= 0:
            return Finished(bytes.fromhex(texts[0]), bytes.fromhex(texts[1]), session, number)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return None


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
