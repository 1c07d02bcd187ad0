"""Repairing: what a target lost or damaged of a pack is sent again, so that the image manifest keeps its digest.

A registry may believe that it has a blob, and not store it again. Then only other blobs help: see `Sending`, padding.
"""

from __future__ import annotations

import hashlib
import io
import threading
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from ctxpack_bundle import (
    FIRST_DATA_LAYER,
    PackManifest,
    PackStream,
    Record,
    Table,
    both_chunks,
    make_chunk,
    manifest_part,
    parse_table,
)
from ctxpack_identity import Digest, IntegrityError, NotFound, Progress, digest_from_hex, digest_of
from ctxpack_oci import Descriptor, ImageManifest, Target
from ctxpack_pantry.kinship import kin_of
from ctxpack_pantry.lookup import Located
from ctxpack_pantry.tables import Tables
from ctxpack_pantry.transfer import in_order

__all__ = ["Soundness", "restore"]

_EMPTY = make_chunk(b"")


class Soundness:
    """Which blobs target has, whole: each is read once, and hashed. Safe for use from several threads."""

    def __init__(self, target: Target, progress: Progress) -> None:
        self._target, self._progress = target, progress
        self._known: dict[Digest, bool] = {}
        self._total = 0  # bytes that were asked for in `lacking`
        self._lock = threading.Lock()

    def of(self, blob: Descriptor) -> bool:
        """Return whether blob is there and is what its digest says. Raises: AccessDenied, Unavailable."""
        with self._lock:
            known = self._known.get(blob.digest)
        if known is None:
            try:
                self._target.fetch_into(blob, cast("BinaryIO", _Nowhere()))
                known = True
            except (NotFound, IntegrityError):
                known = False
            self._progress("check", blob.size, self._total or None)
            with self._lock:
                self._known[blob.digest] = known
        return known

    def look_again(self) -> None:
        """Forget what was missing or damaged: it may have been sent meanwhile."""
        with self._lock:
            self._known = {digest: True for digest, is_sound in self._known.items() if is_sound}

    def lacking_layers(self, manifest: ImageManifest) -> list[Descriptor]:
        """Return the layers of manifest that are missing or damaged, each once: what a pull needs."""
        return [blob for blob in self.lacking(manifest) if blob.digest != manifest.config.digest]

    def lacking(self, manifest: ImageManifest) -> list[Descriptor]:
        """Return the blobs of manifest that are missing or damaged, each once."""
        blobs = list({blob.digest: blob for blob in (manifest.config, *manifest.layers)}.values())
        self._total += sum(blob.size for blob in blobs if blob.digest not in self._known)
        with closing(in_order(self.of, blobs)) as answers:
            return [blob for blob, is_sound in zip(blobs, answers, strict=True) if not is_sound]


class _Nowhere(io.RawIOBase):
    """A file that forgets what is written to it."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset

    def truncate(self, size: int | None = None) -> int:
        return 0

    def write(self, data: object) -> int:
        return memoryview(data).nbytes  # type: ignore[arg-type]


def restore(
    target: Target,
    located: Located,
    folder: str,
    pack: PackManifest,
    *,
    tables: Tables,
    sound: Soundness,
    staging: str,
) -> int | None:
    """Send again what target lacks of a pack; return how many bytes, or None when that did not heal it.

    It does not, when what the image manifest names cannot be made again from the cached pack in folder, or when the
    target does not store it. tables: may know the table. staging: a folder, for layers.
    Raises: IntegrityError when the cached pack is damaged; as Target.push and Target.fetch do.
    """
    sent = 0
    lacking = sound.lacking(located.manifest)
    if not lacking:
        return 0
    table = _table(target, located, pack, tables, sound)
    with PackStream(folder) as stream:
        remade = _Remade(located.manifest, {blob.digest for blob in lacking}, pack, table, stream)
        for blob in lacking:
            with TemporaryFile(dir=staging) as made:
                file = cast("BinaryIO", made)
                if not remade.write(blob, file):
                    return None
                target.push(blob, file)
            sent += blob.size
    sound.look_again()
    return None if sound.lacking_layers(located.manifest) else sent


def _table(target: Target, located: Located, pack: PackManifest, tables: Tables, sound: Soundness) -> Table | None:
    """Return the table of an image manifest, from target or from the cache; None when it is not known."""
    layer = located.layers[FIRST_DATA_LAYER - 1]
    if sound.of(layer):
        with suppress(IntegrityError):  # another client's
            return parse_table(target.fetch(layer), [layer.size for layer in located.layers], where=located.where)
    for known in tables.of_kin(target.name, kin_of(pack.contract)):
        base = known.read() if known.image == located.image else None
        if base is not None:
            return base.table
    return None


class _Remade:
    """Blobs of manifest, as far as they can be made again from a cached pack. wanted: the digests of those asked for.

    stream: of the cached pack. Where something cannot be made again, None takes its place.
    """

    def __init__(
        self, manifest: ImageManifest, wanted: set[Digest], pack: PackManifest, table: Table | None, stream: PackStream
    ) -> None:
        self._pack, self._table, self._stream = pack, table, stream
        self._first = len(manifest_part(pack))
        self._starts = array("Q") if table is None else table.offsets()
        self._numbers = {layer.digest: number for number, layer in enumerate(manifest.layers) if layer.digest in wanted}
        self._records = {number: array("I") for number in self._numbers.values()}  # of each layer
        for number, record in enumerate(table or ()):
            if record.layer in self._records:
                self._records[record.layer].append(number)

    def write(self, blob: Descriptor, file: BinaryIO) -> bool:
        """Write the content of blob to file; return whether that was possible."""
        sha256 = hashlib.sha256()
        for part in self._content(blob):
            if part is None:
                return False
            file.write(part)
            sha256.update(part)
        return digest_from_hex(sha256.hexdigest()) == blob.digest

    def _content(self, blob: Descriptor) -> Iterator[bytes | None]:
        number = self._numbers.get(blob.digest)
        if number is None:
            yield self._pack.contract_bytes
        elif number == 0:
            chunks = both_chunks(manifest_part(self._pack))
            yield next((chunk for chunk in chunks if digest_of(chunk) == blob.digest), None)
        elif self._table is None or self._first + self._starts[-1] != self._stream.size:
            yield None  # the latter: the table of other outputs
        elif number < FIRST_DATA_LAYER:
            yield self._table.data
        else:
            yield from self._chunks(self._table, self._records[number], blob.size)

    def _chunks(self, table: Table, numbers: Iterable[int], size: int) -> Iterator[bytes | None]:
        """Yield the chunks of a layer of size bytes, whose records have these numbers."""
        at = 0
        for offset, number in sorted({table[number].offset: number for number in numbers}.items()):
            if not at and offset:  # empty members, if it was repaired before
                at = offset
                yield _EMPTY * (offset // len(_EMPTY))
            if offset != at:
                yield None
            record = table[number]
            yield _chunk(self._stream.read(self._first + self._starts[number], record.size), record)
            at = record.stop
        if at != size:
            yield None


def _chunk(piece: bytes, record: Record) -> bytes | None:
    """Return the chunk of a record; None if its piece is another one, or if it was made in another way."""
    if hashlib.sha256(piece).digest() != record.sha256:
        return None
    return next((chunk for chunk in both_chunks(piece) if len(chunk) == record.chunk_size), None)
