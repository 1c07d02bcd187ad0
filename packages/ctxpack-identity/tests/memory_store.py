"""A strict store in memory, opened by fsspec: with ETags or without, and with a function called before each answer."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any

from fsspec.spec import AbstractFileSystem


class MemoryStore:
    """objects: by path. entries: additional entries of a listing, by the path of the folder.

    asked: each request: "info", "list", "open" or "read", and the path. sizes: bytes of each block that was read.
    before_answer: called with each request.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.entries: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[tuple[str, str]] = []
        self.sizes: list[int] = []
        self.etag: Callable[[bytes], str] = lambda data: f'"{hashlib.md5(data).hexdigest()}"'
        self.before_answer: Callable[[str, str], object] = lambda what, path: None

    def ask(self, what: str, path: str) -> None:
        self.asked.append((what, path))
        self.before_answer(what, path)

    def read(self) -> list[str]:
        """Return the paths of the objects that were opened, sorted."""
        return sorted(path for what, path in self.asked if what == "open")


STORES: dict[str, MemoryStore] = {}
"""By endpoint; "" is the default."""


class MemoryStoreFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The file system of ``store://`` URLs. endpoint: which store."""

    protocol = "store"

    def __init__(self, endpoint: str = "", **options: Any) -> None:
        super().__init__(endpoint=endpoint, **options)
        self.endpoint = endpoint

    @property
    def store(self) -> MemoryStore:
        return STORES[self.endpoint]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        self.store.ask("info", path)
        if path in self.store.objects:
            return self._object(path)
        if path in self.store.entries or any(name.startswith(f"{path}/") for name in self.store.objects):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[dict[str, Any]]:
        assert detail
        path = self._strip_protocol(path)
        self.store.ask("list", path)
        below = [name.removeprefix(f"{path}/") for name in self.store.objects if name.startswith(f"{path}/")]
        folders = {name.split("/")[0] for name in below if "/" in name}
        found = [{"name": f"{path}/{name}", "size": 0, "type": "directory"} for name in folders]
        found += [self._object(f"{path}/{name}") for name in below if "/" not in name]
        if not found and path not in self.store.entries:
            raise FileNotFoundError(path)
        return found + self.store.entries.get(path, [])

    def _open(self, path: str, mode: str = "rb", **options: Any) -> io.BytesIO:
        assert mode == "rb"
        self.store.ask("open", path)
        if path not in self.store.objects:
            raise FileNotFoundError(path)
        return _Stream(self.store, path)

    def _object(self, path: str) -> dict[str, Any]:
        data = self.store.objects[path]
        info = {"name": path, "size": len(data), "type": "file"}
        return info | ({"ETag": self.store.etag(data)} if self.store.etag(data) else {})


class _Stream(io.BytesIO):
    def __init__(self, store: MemoryStore, path: str) -> None:
        super().__init__(store.objects[path])
        self._store, self._path = store, path

    def read(self, size: int | None = -1) -> bytes:
        self._store.ask("read", self._path)
        assert size is not None
        assert size > 0, "a whole object at once"
        data = super().read(size)
        self._store.sizes.append(len(data))
        return data
