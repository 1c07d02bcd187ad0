"""Holdings: which chunks are in packs that the cache has, so that a pull fetches only the others.

One note for each pack that was pulled or pushed, ``chunks/<64 hex of the URI>``: _MAGIC, the digest of the pack's
manifest.json, a record for each chunk (its digest, size of its piece), and the SHA-256 of all that. Advice only: where
a note is missing, stale or wrong, chunks are fetched. A piece that is taken from a pack is checked by the code that
unpacks it, like a piece that was fetched.
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
    digest_from_hex,
    digest_of,
    hex_of,
    parse_digest,
    uri_digest,
    uri_for,
)
from ctxpack_oci import Descriptor
from ctxpack_pantry.artifact import content_size
from ctxpack_pantry.notes import Notes

__all__ = ["NOTHING_HELD", "Held", "Holdings"]

_KIND = "chunks"
_MAGIC = b"ctxpack chunks 1\n"
_RECORD = struct.Struct(">32sI")
_SHA256 = 32  # bytes
_MAX_NOTE = 4 << 20  # bytes; an image manifest of the largest size lists fewer chunks than fit into it
_RECENT = 16  # packs that are searched: each costs a read of its note, and of its listing if it holds a chunk

_Result = TypeVar("_Result")


class _Index(NamedTuple):
    """A note's content. manifest: digest of the pack's manifest.json; chunks: digest and size of piece, in order."""

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
        self._notes = Notes(cache, _KIND)

    def record(self, manifest: PackManifest, chunks: Sequence[Descriptor]) -> None:
        """Note that the pack of manifest, which the cache has, consists of these chunks."""
        sizes = tuple((chunk.digest, content_size(chunk, where=manifest.uri)) for chunk in chunks)
        index = _Index(digest_of(encode_pack_manifest(manifest)), sizes)
        self._notes.write(hex_of(uri_digest(manifest.uri)), _encode(index))

    def recent(self) -> Iterator[CtxUri]:
        """Yield the newest packs whose chunks are known, newest first."""
        for name, _ in self._recent():
            yield uri_for(digest_from_hex(name))

    def hold(self, wanted: Collection[Digest]) -> Held:
        """Return those of the wanted chunks that the newest packs have. Notes of removed packs are dropped."""
        places: dict[Digest, _Place] = {}
        left = set(wanted)
        for name, folder in self._recent():
            index = _decode(self._notes.read(name, _MAX_NOTE))
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
        """Return attempt(held). If a cached pack proves damaged, call attempt once more with nothing held."""
        with closing(self.hold({chunk.digest for chunk in chunks})) as held:
            try:
                return attempt(held)
            except IntegrityError:
                if not held.used:
                    raise
        return attempt(NOTHING_HELD)

    def _recent(self) -> Iterator[tuple[str, str]]:
        """Yield the names of the newest notes, newest first, each with the folder of its pack."""
        found: list[tuple[int, str, str]] = []
        for name in self._notes.names():
            with suppress(OSError, InvalidInput, LocalFailure):
                folder = self._cache.find(parse_digest(f"sha256:{name}"))
                if folder is None:
                    self._notes.remove(name)
                else:
                    found.append((os.lstat(os.path.join(self._notes.folder, name)).st_mtime_ns, name, folder))
        for _, name, folder in sorted(found, reverse=True)[:_RECENT]:
            yield name, folder


class Held:
    """Chunks that need not be fetched while their packs are in the cache. Threads may share it. Close it.

    used: whether a piece was read from one of the packs.
    """

    def __init__(self, places: dict[Digest, _Place]) -> None:
        self.used = False
        self._places = places
        self._streams: dict[_Pack, PackStream | None] = {}
        self._open_streams = ExitStack()
        self._closed = False
        self._lock = threading.Lock()

    def piece(self, chunk: Digest, size: int) -> bytes | None:
        """Return the piece of chunk (size bytes), not checked yet, or None when the chunk must be fetched."""
        place = self._places.get(chunk)
        if place is None or place.size != size:
            return None
        with self._lock, suppress(OSError, IntegrityError):
            stream = None if self._closed else self._stream(place.pack)
            if stream is not None:
                piece = stream.read(place.offset, size)
                self.used = True
                return piece
        return None

    def close(self) -> None:
        """Close the packs; from now on every chunk must be fetched."""
        with self._lock:
            self._closed = True
            self._open_streams.close()

    def _stream(self, pack: _Pack) -> PackStream | None:
        """Return the stream of pack, or None if the pack is damaged, removed, or not the one that the note is about."""
        if pack not in self._streams:
            self._streams[pack] = None
            stream = self._open_streams.enter_context(PackStream(pack.folder))
            if digest_of(encode_pack_manifest(stream.manifest)) == pack.manifest:
                self._streams[pack] = stream
        return self._streams[pack]


NOTHING_HELD = Held({})


def _encode(index: _Index) -> bytes:
    records = [_RECORD.pack(_raw(digest), size) for digest, size in index.chunks]
    data = b"".join([_MAGIC, _raw(index.manifest), *records])
    return data + hashlib.sha256(data).digest()


def _decode(data: bytes) -> _Index | None:
    """Return the content of a note, or None when the note is damaged."""
    body, checksum = data[:-_SHA256], data[-_SHA256:]
    records = body[len(_MAGIC) + _SHA256 :]
    if hashlib.sha256(body).digest() != checksum or not body.startswith(_MAGIC) or len(records) % _RECORD.size:
        return None
    manifest = _digest(body[len(_MAGIC) : len(_MAGIC) + _SHA256])
    return _Index(manifest, tuple((_digest(raw), size) for raw, size in _RECORD.iter_unpack(records)))


def _raw(digest: Digest) -> bytes:
    return bytes.fromhex(hex_of(digest))


def _digest(raw: bytes) -> Digest:
    return digest_from_hex(raw.hex())
