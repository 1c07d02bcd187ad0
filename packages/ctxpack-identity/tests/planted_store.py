"""A remote store in memory, strict and obedient: with ETags or without, and with whatever a test lets happen to it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

from fsspec.spec import AbstractFileSystem


class Shelf:
    """What the store holds, by path, and what it was asked. entries: of a listing, besides, for each folder's path.

    meddle: called with what is asked ("info", "list", "open", "read") and the path, before the answer.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.entries: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[tuple[str, str]] = []
        self.sizes: list[int] = []
        self.etag: Callable[[bytes], str] = lambda data: f'"{hashlib.md5(data).hexdigest()}"'
        self.meddle: Callable[[str, str], object] = lambda what, path: None

    def ask(self, what: str, path: str) -> None:
        self.asked.append((what, path))
        self.meddle(what, path)

    def read(self) -> list[str]:
        """The paths of the objects that were opened, sorted."""
        return sorted(path for what, path in self.asked if what == "open")


SHELVES: dict[str, Shelf] = {}
"""By endpoint, "" for the one used where none is named."""


class ShelfFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """What fsspec opens ``shelf://`` with. endpoint: which shelf."""

    protocol = "shelf"

    def __init__(self, endpoint: str = "", **options: Any) -> None:
        super().__init__(endpoint=endpoint, **options)
        self.endpoint = endpoint

    @property
    def shelf(self) -> Shelf:
        return SHELVES[self.endpoint]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        self.shelf.ask("info", path)
        if path in self.shelf.objects:
            return self._object(path)
        if path in self.shelf.entries or any(name.startswith(f"{path}/") for name in self.shelf.objects):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[dict[str, Any]]:
        assert detail
        path = self._strip_protocol(path)
        self.shelf.ask("list", path)
        below = [name.removeprefix(f"{path}/") for name in self.shelf.objects if name.startswith(f"{path}/")]
        folders = {name.split("/")[0] for name in below if "/" in name}
        found = [{"name": f"{path}/{name}", "size": 0, "type": "directory"} for name in folders]
        found += [self._object(f"{path}/{name}") for name in below if "/" not in name]
        if not found and path not in self.shelf.entries:
            raise FileNotFoundError(path)
        return found + self.shelf.entries.get(path, [])

    def _open(self, path: str, mode: str = "rb", **options: Any) -> io.BytesIO:
        assert mode == "rb"
        self.shelf.ask("open", path)
        if path not in self.shelf.objects:
            raise FileNotFoundError(path)
        return _Stream(self.shelf, path)

    def _object(self, path: str) -> dict[str, Any]:
        data = self.shelf.objects[path]
        info = {"name": path, "size": len(data), "type": "file"}
        return info | ({"ETag": self.shelf.etag(data)} if self.shelf.etag(data) else {})


class _Stream(io.BytesIO):
    def __init__(self, shelf: Shelf, path: str) -> None:
        super().__init__(shelf.objects[path])
        self._shelf, self._path = shelf, path

    def read(self, size: int | None = -1) -> bytes:
        self._shelf.ask("read", self._path)
        assert size is not None
        assert size > 0, "a whole object at once"
        data = super().read(size)
        self._shelf.sizes.append(len(data))
        return data
