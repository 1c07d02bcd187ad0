"""Notes: small files in the cache about its packs. Advice only: a note may be missing, stale or wrong."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from ctxpack_identity.errors import LocalFailure
from ctxpack_identity.lighttyping import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctxpack_cache import Cache

__all__ = ["Notes"]


class Notes:
    """The notes of one kind. kind: a name of ASCII letters, which their folder in the cache has too."""

    def __init__(self, cache: Cache, kind: str) -> None:
        self._cache = cache
        self.folder = cache.side(kind)

    def write(self, name: str, data: bytes) -> None:
        """Write a note, whole or not at all; when the disk fails, nothing is written. name: a relative path."""
        self.write_all({name: data})

    def write_all(self, notes: Mapping[str, bytes]) -> None:
        """Write notes by name, each as write does."""
        if not notes:
            return
        with suppress(OSError, LocalFailure), self._cache.staging() as staging:
            for name, data in notes.items():
                path, temporary = os.path.join(self.folder, name), os.path.join(staging, "note")
                with open(temporary, "wb") as file:
                    file.write(data)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.replace(temporary, path)

    def read(self, name: str, limit: int) -> bytes:
        """Return a note; nothing when there is none, or when it has more than limit bytes."""
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                data = file.read(limit + 1)
        except OSError:
            return b""
        return data if len(data) <= limit else b""

    def age(self, name: str) -> float:
        """Return how many seconds ago a note was written; 0 when there is none."""
        try:
            return max(0.0, time.time() - os.stat(os.path.join(self.folder, name)).st_mtime)
        except OSError:
            return 0.0

    def names(self, below: str = "") -> list[str]:
        """Return the names of the notes in the folder below, in any order."""
        try:
            return os.listdir(os.path.join(self.folder, below))
        except OSError:
            return []

    def remove(self, name: str) -> None:
        """Remove a note, if there is one."""
        with suppress(OSError):
            os.unlink(os.path.join(self.folder, name))

    def remove_all(self, below: str) -> None:
        """Remove a folder of notes, if there is one."""
        for name in self.names(below):
            self.remove(f"{below}/{name}")
        with suppress(OSError):
            os.rmdir(os.path.join(self.folder, below))
