"""A store, opened by fsspec: listings, versions and contents of objects.

fsspec is an optional dependency, and imported only when a path is a URL. It keeps one file system object for each
thread, or one for all where that is safe: each task makes a Store of its own.
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

READ_SIZE = 1 << 20  # bytes of one request; the libraries of stores hold several copies

_LINK = "link"

# Environment variables that make one URL lead to another store.
_names_a_store = re.compile("ENDPOINT|EMULATOR|PROFILE|ACCOUNT|CONFIG_FILE|CONNECTION_STRING").search


class Listed(NamedTuple):
    """An object or folder. path: in the store; kind: "file", "directory", or what else the store has."""

    path: str
    kind: str
    size: int | None
    version: Version


class Store:
    """The store of a URL. Paths that methods take are relative to the URL, "" for the URL itself.

    Raises, in every method: InvalidInput for a URL that nothing opens, or that leads nowhere; AccessDenied,
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
        """Return a hash of class, options and environment: it differs between stores with the same URLs."""
        kind = type(self._files)
        environment = sorted((name, value) for name, value in os.environ.items() if _names_a_store(name))
        options = sorted(self._files.storage_options.items())
        parts = repr((kind.__module__, kind.__qualname__, options, environment))
        return hashlib.sha256(parts.encode(errors="surrogateescape")).hexdigest()

    def shown(self, path: str) -> str:
        """Return the URL of path, without secrets."""
        shown = shown_url(self.url)
        return f"{shown}/{path}" if path else shown

    def location(self, path: str) -> str:
        """Return the path in the store."""
        return f"{self._root}/{path}" if path else self._root

    def info(self, path: str) -> Listed:
        """Return what is at path now."""
        location = self.location(path)
        with translated(self.shown(path)):
            self._files.invalidate_cache(location)
            return _listed(self._files.info(location))

    def children(self, path: str) -> list[Listed]:
        """Return the children that the folder at path has now, in any order."""
        location = self.location(path)
        with translated(self.shown(path)):
            self._files.invalidate_cache(location)
            found = self._files.ls(location, detail=True)
            self._files.invalidate_cache(location)  # fsspec would keep every listing of a walk
            return [_listed(info) for info in found]

    def sha256(self, path: str, size: int, version: Version, on_bytes: OnBytes | None = None) -> str:
        """Return the SHA-256 (64 hexadecimal digits) of the object at path, which has this size (bytes) and version.

        on_bytes: called after each block. Memory: a few times READ_SIZE.
        Raises: InvalidInput when size or version differ, before or after reading.
        """
        hasher, length = hashlib.sha256(), 0
        try:
            for block in self.blocks(path):
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

    def blocks(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of the object at path, in order. Raises: InvalidInput also when nothing is there."""
        # With 0, HTTP and Hugging Face stream: their servers may not support ranges. The object is read once, in order:
        # a cache is of no use.
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
