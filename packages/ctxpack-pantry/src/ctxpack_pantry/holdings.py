"""Holdings: which chunks lie in packs that the cache has, so that a pull fetches only the others.

Beside the packs, a file for each that was pulled or pushed: ``chunks/<64 hex>``, which holds _MAGIC, the digest of
the pack's manifest.json, a record for each chunk (its digest, bytes it unpacks to), and SHA-256 of all that. Advice
only: a file may be missing, stale or wrong, and then chunks are fetched. What is taken from a pack is checked by
whoever unpacks it, like what is fetched.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from typing import NamedTuple, TypeVar

from ctxpack_bundle import PackManifest, PackStream, encode_pack_manifest
from ctxpack_cache import Cache
from ctxpack_identity import (
    CtxUri,
    Digest,
    IntegrityError,
    InvalidInput,
    LocalFailure,
    digest_of,
    parse_digest,
    uri_digest,
    uri_for,
)
from ctxpack_oci import Descriptor
from ctxpack_pantry.artifact import content_size

__all__ = ["Held", "Holdings"]

_SIDE = "chunks"
_MAGIC = b"ctxpack chunks 1\n"
_RECORD = struct.Struct(">32sI")
_SHA256 = 32  # bytes
_MAX_FILE = 4 << 20  # bytes; an OCI manifest of the largest size lists fewer chunks than that has room for
_RECENT = 16  # packs that are asked: each costs a read of its file, and of its listing if it has something

_Result = TypeVar("_Result")


class _Index(NamedTuple):
    """What a file says. manifest: digest of the pack's manifest.json; chunks: digest and content size, in order."""

    manifest: Digest
    chunks: tuple[tuple[Digest, int], ...]


class _Pack(NamedTuple):
    folder: str
    manifest: Digest


class _Place(NamedTuple):
    """A range of a pack's tar stream; bytes."""

    pack: _Pack
    offset: int
    size: int


class Holdings:
    """The chunks of the packs in cache, as far as they are known."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._folder = cache.side(_SIDE)

    def record(self, manifest: PackManifest, chunks: Sequence[Descriptor]) -> None:
        """Remember that the pack of manifest, which the cache has, consists of these chunks.

        A disk that says no is not worth failing for: then nothing is remembered.
        """
        sizes = tuple((chunk.digest, content_size(chunk, where=manifest.uri)) for chunk in chunks)
        data = _encode(_Index(digest_of(encode_pack_manifest(manifest)), sizes))
        name = uri_digest(manifest.uri).removeprefix("sha256:")
        with suppress(OSError, LocalFailure), self._cache.staging() as staging:
            temporary = os.path.join(staging, name)
            with open(temporary, "wb") as file:
                file.write(data)
            os.makedirs(self._folder, exist_ok=True)
            os.replace(temporary, os.path.join(self._folder, name))

    def recent(self) -> Iterator[CtxUri]:
        """Yield the newest packs whose chunks are known, newest first."""
        for path, _ in self._recent():
            yield uri_for(parse_digest(f"sha256:{os.path.basename(path)}"))

    def hold(self, wanted: Collection[Digest]) -> Held:
        """Return those of the wanted chunks that the newest packs have. Files of removed packs are dropped."""
        places: dict[Digest, _Place] = {}
        left = set(wanted)
        for path, folder in self._recent():
            index = _read(path)
            if index is None:
                continue
            pack, offset = _Pack(folder, index.manifest), 0
            for chunk, size in index.chunks:
                if chunk in left:
                    left.remove(chunk)
                    places[chunk] = _Place(pack, offset, size)
                offset += size
        return Held(places)

    def lend(self, chunks: Iterable[Descriptor], attempt: Callable[[Held], _Result]) -> _Result:
        """Return what attempt makes of those chunks that are held; what it does not find there it must fetch.

        When it raises IntegrityError, perhaps only a pack in the cache was damaged: it is called again, with nothing.
        """
        with closing(self.hold({chunk.digest for chunk in chunks})) as held:
            try:
                return attempt(held)
            except IntegrityError:
                if not held.used:
                    raise
        return attempt(Held({}))

    def _recent(self) -> Iterator[tuple[str, str]]:
        """Yield the newest files, newest first, each with the folder of its pack."""
        found: list[tuple[int, str, str]] = []
        for name in self._names():
            path = os.path.join(self._folder, name)
            with suppress(OSError, InvalidInput, LocalFailure):
                folder = self._cache.find(parse_digest(f"sha256:{name}"))
                if folder is None:
                    os.unlink(path)
                else:
                    found.append((os.lstat(path).st_mtime_ns, path, folder))
        for _, path, folder in sorted(found, reverse=True)[:_RECENT]:
            yield path, folder

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._folder)
        except OSError:
            return []


class Held:
    """Chunks that need not be fetched, as long as their packs stay. For any number of threads; close it.

    used: whether any content came from here.
    """

    def __init__(self, places: dict[Digest, _Place]) -> None:
        self.used = False
        self._places = places
        self._streams: dict[_Pack, PackStream | None] = {}
        self._open_streams = ExitStack()
        self._closed = False
        self._lock = threading.Lock()

    def content(self, chunk: Digest, size: int) -> bytes | None:
        """Return the size bytes that chunk unpacks to, not yet checked, or None when it must be fetched."""
        place = self._places.get(chunk)
        if place is None or place.size != size:
            return None
        with self._lock, suppress(OSError, IntegrityError):
            stream = None if self._closed else self._stream(place.pack)
            if stream is not None:
                content = stream.read(place.offset, size)
                self.used = True
                return content
        return None

    def close(self) -> None:
        """Close what is open; from now on every chunk must be fetched."""
        with self._lock:
            self._closed = True
            self._open_streams.close()

    def _stream(self, pack: _Pack) -> PackStream | None:
        """Return the stream of pack, or None if it is damaged, gone, or another one than the file speaks of."""
        if pack not in self._streams:
            self._streams[pack] = None
            stream = self._open_streams.enter_context(PackStream(pack.folder))
            if digest_of(encode_pack_manifest(stream.manifest)) == pack.manifest:
                self._streams[pack] = stream
        return self._streams[pack]


def _encode(index: _Index) -> bytes:
    records = [_RECORD.pack(_raw(digest), size) for digest, size in index.chunks]
    data = b"".join([_MAGIC, _raw(index.manifest), *records])
    return data + hashlib.sha256(data).digest()


def _read(path: str) -> _Index | None:
    """Return what the file at path says, or None unless it is whole."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError:
        return None
    body, seal = data[:-_SHA256], data[-_SHA256:]
    records = body[len(_MAGIC) + _SHA256 :]
    if hashlib.sha256(body).digest() != seal or not body.startswith(_MAGIC) or len(records) % _RECORD.size:
        return None
    manifest = _digest(body[len(_MAGIC) : len(_MAGIC) + _SHA256])
    return _Index(manifest, tuple((_digest(raw), size) for raw, size in _RECORD.iter_unpack(records)))


def _raw(digest: Digest) -> bytes:
    return bytes.fromhex(digest.removeprefix("sha256:"))


def _digest(raw: bytes) -> Digest:
    return Digest(f"sha256:{raw.hex()}")
