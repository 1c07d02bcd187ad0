"""Repairing: what a target lost or damaged of a pack is sent again, so that the image manifest keeps its digest.

A registry may believe that it has a blob, and not store it again. Then only other blobs help: see `Sending`, padding.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
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
from ctxpack_pantry.kin import kin_of
from ctxpack_pantry.tables import Tables
from ctxpack_pantry.transfer import in_order

__all__ = ["Soundness", "restore"]


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
    image: Digest,
    manifest: ImageManifest,
    folder: str,
    pack: PackManifest,
    *,
    tables: Tables,
    sound: Soundness,
    staging: str,
) -> int | None:
    """Send again what target lacks of an image manifest; return how many bytes, or None when that did not heal it.

    It does not, when what the image manifest names cannot be made again from the cached pack in folder, or when the
    target does not store it. image: its digest. tables: may know its table. staging: a folder, for layers.
    Raises: IntegrityError when the cached pack is damaged; as Target.push and Target.fetch do.
    """
    sent = 0
    lacking = sound.lacking(manifest)
    if not lacking:
        return 0
    table = _table(target, image, manifest, pack, tables, sound)
    for blob in lacking:
        with TemporaryFile(dir=staging) as made:
            file = cast("BinaryIO", made)
            if not _remake(blob, manifest, folder, pack, table, file):
                return None
            target.push(blob, file)
        sent += blob.size
    sound.look_again()
    return None if sound.lacking_layers(manifest) else sent


def _table(
    target: Target, image: Digest, manifest: ImageManifest, pack: PackManifest, tables: Tables, sound: Soundness
) -> Table | None:
    """Return the table of an image manifest, from target or from the cache; None when it is not known."""
    layer = manifest.layers[FIRST_DATA_LAYER - 1]
    if sound.of(layer):
        with suppress(IntegrityError):  # another client's
            return parse_table(target.fetch(layer), [layer.size for layer in manifest.layers], where=target.name)
    for known in tables.of_kin(target.name, kin_of(pack.contract)):
        base = known.read() if known.image == image else None
        if base is not None:
            return base.table
    return None


def _remake(
    blob: Descriptor, manifest: ImageManifest, folder: str, pack: PackManifest, table: Table | None, file: BinaryIO
) -> bool:
    """Write the content of blob to file; return whether that was possible."""
    sha256 = hashlib.sha256()
    for part in _content(blob, manifest, folder, pack, table):
        if part is None:
            return False
        file.write(part)
        sha256.update(part)
    return digest_from_hex(sha256.hexdigest()) == blob.digest


def _content(
    blob: Descriptor, manifest: ImageManifest, folder: str, pack: PackManifest, table: Table | None
) -> Iterator[bytes | None]:
    """Yield the content of blob, as far as it can be made again; None where it cannot."""
    number = next((number for number, layer in enumerate(manifest.layers) if layer.digest == blob.digest), -1)
    if number < 0:
        yield pack.contract_bytes
    elif number == 0:
        yield next((chunk for chunk in both_chunks(manifest_part(pack)) if digest_of(chunk) == blob.digest), None)
    elif table is None:
        yield None
    elif number < FIRST_DATA_LAYER:
        yield table.data
    else:
        yield from _chunks(number, blob.size, folder, pack, table)


def _chunks(layer: int, size: int, folder: str, pack: PackManifest, table: Table) -> Iterator[bytes | None]:
    """Yield the chunks of a layer of size bytes; None where it holds something else, or where they differ."""
    first = len(manifest_part(pack))
    starts = table.offsets()
    places = sorted({record.offset: number for number, record in enumerate(table) if record.layer == layer}.items())
    ends = [offset for offset, _ in places[1:]] + [size]
    at = 0
    with PackStream(folder) as stream:
        if first + starts[-1] != stream.size:
            yield None
            return
        for (offset, number), end in zip(places, ends, strict=True):
            record = table[number]
            if not at and offset:  # empty members, if it was repaired before
                yield make_chunk(b"") * (offset // len(make_chunk(b"")))
                at = offset
            if offset != at or record.stop != end:
                yield None
                return
            yield _chunk(stream.read(first + starts[number], record.size), record)
            at = end


def _chunk(piece: bytes, record: Record) -> bytes | None:
    """Return the chunk of a record; None if its piece is another one, or if it was made in another way."""
    if hashlib.sha256(piece).digest() != record.sha256:
        return None
    return next((chunk for chunk in both_chunks(piece) if len(chunk) == record.chunk_size), None)
