"""A store, opened by fsspec: what it lists, what it says of an object's version, and the object's bytes.

fsspec is an optional dependency, and imported only when a path is a URL. It keeps one file system object for each
thread, or one for all where that is safe, so every function here asks it anew.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator

from ctxpack_identity.errors import InvalidInput, LocalFailure
from ctxpack_identity.hashing.urls.failure import INSTALL, changed, translated
from ctxpack_identity.hashing.urls.version import Version, is_same, shown_version, version_of
from ctxpack_identity.lighttyping import Any, NamedTuple
from ctxpack_identity.progress import OnBytes
from ctxpack_identity.scheme import scheme_fault, scheme_of, shown_url

__all__ = ["Listed", "Store"]

READ_SIZE = 1 << 20  # bytes, and one request each; libraries of stores hold them several times over

_LINK = "link"

# Variables by which libraries of stores find another store under the same URL.
_names_a_store = re.compile("ENDPOINT|EMULATOR|PROFILE|ACCOUNT|CONFIG_FILE|CONNECTION_STRING").search


class Listed(NamedTuple):
    """An object or folder. path: in the store; kind: "file", "directory", or what else the store has."""

    path: str
    kind: str
    size: int | None
    version: Version


class Store:
    """What a URL leads to. path, below: relative to it, "" for itself.

    Raises, here and below: InvalidInput for a URL that nothing opens, or that leads nowhere; AccessDenied,
    Unavailable; LocalFailure where a library is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        fault = scheme_fault(url)
        if fault:
            raise InvalidInput(fault, where=shown_url(url), code="E_SCHEME")
        try:
            import fsspec
        except ImportError as error:
            raise LocalFailure(
                "fsspec, which opens URLs, is not installed", where=shown_url(url), fix=INSTALL, code="E_SCHEME"
            ) from error
        scheme = scheme_of(url)
        with translated(shown_url(url)):
            try:
                fsspec.get_filesystem_class(scheme)
            except ValueError as error:
                raise InvalidInput(
                    f"nothing opens {scheme}:// URLs",
                    where=shown_url(url),
                    fix=f"check the scheme; a folder of that name is ./{scheme}:",
                    code="E_SCHEME",
                ) from error
            self._files, root = fsspec.core.url_to_fs(url)
        self._root: str = root.rstrip("/")

    def identity(self) -> str:
        """Return what tells this store from others that have the same URLs: class, options and environment, hashed."""
        kind = type(self._files)
        around = sorted((name, value) for name, value in os.environ.items() if _names_a_store(name))
        options = sorted(self._files.storage_options.items())
        told = repr((kind.__module__, kind.__qualname__, options, around))
        return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()

    def shown(self, path: str) -> str:
        """Return the URL of path, fit to be shown."""
        shown = shown_url(self.url)
        return f"{shown}/{path}" if path else shown

    def location(self, path: str) -> str:
        """Return where the store has it."""
        return f"{self._root}/{path}" if path else self._root

    def info(self, path: str) -> Listed:
        """Return what the store says of path now."""
        location = self.location(path)
        with translated(self.shown(path)):
            self._files.invalidate_cache(location)
            return _listed(self._files.info(location))

    def children(self, path: str) -> list[Listed]:
        """Return what the folder at path holds now, in any order."""
        location = self.location(path)
        with translated(self.shown(path)):
            self._files.invalidate_cache(location)
            found = self._files.ls(location, detail=True)
            self._files.invalidate_cache(location)  # or it would keep every listing of a walk
            return [_listed(info) for info in found]

    def sha256(self, path: str, size: int, version: Version, on_bytes: OnBytes | None = None) -> str:
        """Return the SHA-256 (64 hexadecimal digits) of the object at path, which has this size (bytes) and version.

        on_bytes: told of bytes as they are read. Memory: a few times READ_SIZE.
        Raises: InvalidInput when either is another one, before or after.
        """
        hasher, length = hashlib.sha256(), 0
        try:
            for block in self._blocks(path):
                hasher.update(block)
                length += len(block)
                if on_bytes is not None:
                    on_bytes(len(block))
                if length > size:
                    break
            after = self.info(path)
        except InvalidInput as error:
            if error.code != "E_INPUT_MISSING":
                raise
            raise changed(self.shown(path)) from error  # it was there when it was listed
        for got in (length, after.size):
            if got != size:
                raise changed(self.shown(path), expected=f"{size} bytes", got=str(got))
        if not is_same(version, after.version):
            raise changed(self.shown(path), expected=shown_version(version), got=shown_version(after.version))
        return hasher.hexdigest()

    def _blocks(self, path: str) -> Iterator[bytes]:
        # 0 has HTTP and Hugging Face stream: their servers need not know how to send a part. What is read once, in
        # order, need not be cached.
        block_size = 0 if scheme_of(self.url) in ("http", "https", "hf") else READ_SIZE
        with (
            translated(self.shown(path)),
            self._files.open(self.location(path), "rb", block_size=block_size, cache_type="none") as stream,
        ):
            while block := stream.read(READ_SIZE):
                yield block


def _listed(info: dict[str, Any]) -> Listed:
    size = info.get("size")
    kind = _LINK if info.get("islink") else str(info.get("type"))
    return Listed(str(info["name"]), kind, size if isinstance(size, int) else None, version_of(info))
