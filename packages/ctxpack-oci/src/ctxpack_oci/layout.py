"""An OCI image layout in a folder (OCI image-spec, "Image Layout"), as a Target.

Blobs are written first, then ``oci-layout``, then ``index.json``: wherever a writer stops, a reader finds the old state
or the new one. All tags are in ``index.json``, which is replaced under an exclusive lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ctxpack_identity.digest import Digest, hex_of, parse_digest
from ctxpack_identity.disk import translated
from ctxpack_identity.errors import IntegrityError, InvalidInput, NotFound
from ctxpack_oci.content import BLOCK_BYTES, Incoming, Outgoing, callers_errors
from ctxpack_oci.descriptor import DAMAGED, REPAIR, Descriptor, check_bytes, check_length
from ctxpack_oci.disk import Disk, publish
from ctxpack_oci.imagemanifest import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    INDEX_MEDIA_TYPE,
    ImageManifest,
    check_size,
    is_manifest,
    parse_image_manifest,
)
from ctxpack_oci.referrers import (
    at_most,
    candidates_in,
    fallback_tag,
    names_subject,
    parse_referrer,
)
from ctxpack_oci.target import TaggedManifest, check_range, check_tag, expect_blob, where_content, where_tag

__all__ = ["Layout"]

REF_NAME = "org.opencontainers.image.ref.name"  # the annotation that makes an entry of index.json a tag
VERSION = "1.0.0"  # of the layout, fixed by the specification
MAX_INDEX_BYTES = 256 * 1024 * 1024  # bytes, about a million tags
STAGING = "ingest"
LOCK = "index.json.lock"
ABANDONED = 24 * 3600.0  # seconds; an older draft in staging belongs to a dead process


class Layout:
    """A Target in a folder, which the first push creates. Safe for use from several threads and processes."""

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        self._folder = folder
        self._disk = disk or Disk()
        self._prepared = False

    @property
    def name(self) -> str:
        return f"oci:{self._folder}"

    @property
    def conditional_tags(self) -> bool:
        return True

    def fetch_tag(self, tag: str) -> TaggedManifest | None:
        check_tag(tag)
        found = [entry for entry in self._entries(self._read_index()) if _tag_of(entry) == tag]
        if not found:
            return None
        where = where_tag(self.name, tag)
        if len(found) > 1:
            raise IntegrityError("the tag is in index.json more than once", where=where, fix=REPAIR, code="E_LAYOUT")
        descriptor = _without_tag(_descriptor(found[0], where))
        try:
            return TaggedManifest(descriptor, self.fetch(descriptor))
        except NotFound as error:
            raise IntegrityError(
                f"{descriptor.digest} is missing", where=where, fix=REPAIR, code="E_INCOMPLETE"
            ) from error

    def resolve_tag(self, tag: str) -> Digest | None:
        check_tag(tag)
        return self._named_by(self._read_index(), tag)

    def exists(self, descriptor: Descriptor) -> bool:
        with _translated(where_content(self.name, descriptor)):
            try:
                found = self._blob(descriptor).stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            # A blob that a failing disk cut short counts as missing: then it is pushed again.
            return stat.S_ISREG(found.st_mode) and found.st_size == descriptor.size

    def fetch(self, descriptor: Descriptor) -> bytes:
        where = where_content(self.name, descriptor)
        check_size(descriptor, where=where)
        with self._opened(descriptor, where) as blob:
            data = os.pread(blob, descriptor.size, 0)
        check_bytes(data, descriptor, where=where, fix=DAMAGED)
        return data

    def fetch_range(self, descriptor: Descriptor, start: int, size: int) -> bytes:
        where = where_content(self.name, descriptor)
        check_range(descriptor, start, size, where=where)
        with self._opened(descriptor, where) as blob:
            data = os.pread(blob, size, start)
        if len(data) != size:
            check_length(start + len(data), descriptor, where=where, fix=DAMAGED)
        return data

    def fetch_into(self, descriptor: Descriptor, file: BinaryIO) -> None:
        where = where_content(self.name, descriptor)
        with callers_errors(), self._opened(descriptor, where) as blob:
            sink = Incoming(descriptor, file, where=where, fix=DAMAGED)
            left = descriptor.size
            while block := os.read(blob, min(BLOCK_BYTES, left)):
                sink.write(block)
                left -= len(block)
            sink.finish()

    def push(self, descriptor: Descriptor, content: bytes | BinaryIO) -> None:
        where = where_content(self.name, descriptor)
        if isinstance(content, bytes):
            check_size(descriptor, where=where)
            check_bytes(content, descriptor, where=where)
            if descriptor.media_type == IMAGE_MANIFEST_MEDIA_TYPE:
                self._require_parts(parse_image_manifest(content, where=where), where)
            self._publish(descriptor, (content,), where)
        else:
            expect_blob(descriptor)
            with callers_errors():
                blocks = Outgoing(descriptor, content, where=where).checked_blocks()
                self._publish(descriptor, blocks, where)

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        self._set_tag(descriptor, tag, lambda named: True)

    def tag_if(self, descriptor: Descriptor, tag: str, before: Digest | None) -> bool:
        return self._set_tag(descriptor, tag, lambda named: named == before)

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor] | None:
        return at_most(self._referring(subject), artifact_type)

    def attach(self, descriptor: Descriptor, data: bytes, tag: str = "") -> None:
        if tag:
            check_tag(tag)
        where = where_content(self.name, descriptor)
        _, entry = parse_referrer(descriptor, data, where=where)
        entry = msgspec.structs.replace(entry, annotations={})  # one of them could be REF_NAME
        self.push(descriptor, data)
        with _translated(where):
            self._disk.sync_folder(self._blobs)  # see _set_tag
            with self._locked():
                self._require(descriptor)
                self._replace_index(_with_entry(self._read_index(), entry))
        if tag:
            self.tag(descriptor, tag)

    def delete(self, tag: str) -> Digest | None:
        check_tag(tag)
        with _translated(where_tag(self.name, tag)):
            if self._read_index() is None:
                return None
            self._prepare()
            with self._locked():
                index = self._read_index()
                named = self._named_by(index, tag)
                if index is None or named is None:
                    return None
                rest = [entry for entry in self._entries(index) if entry.get("digest") != named]
                self._replace_index({**index, "manifests": [entry for entry in rest if _tag_of(entry) != tag]})
                with contextlib.suppress(FileNotFoundError):
                    (self._blobs / hex_of(named)).unlink()
                return named

    def tags(self) -> Iterator[str]:
        names = (_tag_of(entry) for entry in self._entries(self._read_index()))
        yield from dict.fromkeys(name for name in names if name)

    def close(self) -> None:
        pass

    def _set_tag(self, descriptor: Descriptor, tag: str, may: Callable[[Digest | None], bool]) -> bool:
        """Let tag name descriptor if may agrees; return whether it did. may: asked what tag names, under the lock."""
        check_tag(tag)
        self._require(descriptor)
        with _translated(where_tag(self.name, tag)):
            self._prepare()
            self._disk.sync_folder(self._blobs)  # after a crash, a tag must not be there without the files it needs
            with self._locked():
                self._sweep()
                self._require(descriptor)  # it may have been deleted meanwhile
                index = self._read_index()
                if not may(self._named_by(index, tag)):
                    return False
                self._replace_index(_with_tag(index, descriptor, tag))
                return True

    def _referring(self, subject: Digest) -> Iterator[Descriptor]:
        """Each manifest of index.json that names subject, and what an index says that another client tagged for it."""
        for entry in self._entries(self._read_index()):
            if (descriptor := _readable(entry)) is None:
                continue
            # One that is missing or damaged does not name subject; that is no reason to find none of the others.
            with contextlib.suppress(NotFound, IntegrityError):
                if names_subject(self.fetch(descriptor), subject):
                    yield descriptor
        tag = fallback_tag(subject)
        if (found := self.fetch_tag(tag)) is not None:
            where = where_tag(self.name, tag)
            yield from candidates_in(found.data, media_type=found.descriptor.media_type, where=where)

    def _require(self, manifest: Descriptor) -> None:
        if not self.exists(manifest):
            raise NotFound(
                "manifest is not there", where=where_content(self.name, manifest), fix="run ctxpack push again"
            )

    def _named_by(self, index: dict[str, Any] | None, tag: str) -> Digest | None:
        """Return the digest that tag names in index. Raises: IntegrityError for a malformed one; it is not repaired."""
        found = [entry for entry in self._entries(index) if _tag_of(entry) == tag]
        return _descriptor(found[-1], where_tag(self.name, tag)).digest if found else None

    def _publish(self, descriptor: Descriptor, blocks: Iterable[bytes], where: str) -> None:
        with _translated(where):
            self._prepare()
            publish(blocks, self._blob(descriptor), staging=self._folder / STAGING, mode=0o444, disk=self._disk)

    def _require_parts(self, manifest: ImageManifest, where: str) -> None:
        """Raise NotFound unless every blob of manifest is here. Registries do the same (MANIFEST_BLOB_UNKNOWN)."""
        for part in (manifest.config, *manifest.layers):
            if not self.exists(part):
                raise NotFound(f"{part.digest} is not there", where=where, fix="run ctxpack push again")

    @property
    def _blobs(self) -> Path:
        return self._folder / "blobs" / "sha256"

    def _blob(self, descriptor: Descriptor) -> Path:
        return self._blobs / parse_digest(descriptor.digest).removeprefix("sha256:")

    def _read_index(self) -> dict[str, Any] | None:
        """The content of index.json, or None when there is no layout, or a layout without a finished push."""
        marker = self._read_document("oci-layout", 4096)
        index = self._read_document("index.json", MAX_INDEX_BYTES)
        if marker is None and index is not None:
            raise _damaged("no oci-layout file beside index.json", self.name)
        if marker is not None and marker.get("imageLayoutVersion") != VERSION:
            where, got = f"{self._folder / 'oci-layout'} imageLayoutVersion", str(marker.get("imageLayoutVersion"))[:80]
            raise _damaged("unknown version", where, expected=VERSION, got=got)
        return index

    def _read_document(self, name: str, limit: int) -> dict[str, Any] | None:
        path = self._folder / name
        with _translated(str(path)):
            opened = self._open(path, str(path))
            if opened is None:
                return None
            with open(opened, "rb") as file:
                data = file.read(min(limit, os.fstat(file.fileno()).st_size) + 1)
        try:
            if len(data) <= limit:
                return msgspec.json.decode(data, type=dict[str, Any])
            fault = f"more than {limit} bytes"
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            fault = str(error)
        raise _damaged(f"malformed: {fault}", str(path))

    @contextlib.contextmanager
    def _opened(self, descriptor: Descriptor, where: str) -> Iterator[int]:
        """The open file with the content, a regular one of the size in descriptor."""
        with _translated(where):
            blob = self._open(self._blob(descriptor), where)
            if blob is None:
                raise NotFound("is not there", where=where)
            try:
                found = os.fstat(blob)
                if not stat.S_ISREG(found.st_mode):
                    raise IntegrityError("not a regular file", where=where, fix=DAMAGED, code="E_SIZE")
                check_length(found.st_size, descriptor, where=where, fix=DAMAGED)
                yield blob
            finally:
                os.close(blob)

    def _open(self, path: Path, where: str) -> int | None:
        """The open file, or None when there is no such file."""
        try:
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # O_NONBLOCK: opening a FIFO would wait for a writer
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise InvalidInput(
                "not a folder", where=where, fix="name the folder of an OCI image layout", code="E_LOCATION"
            ) from error

    def _entries(self, index: dict[str, Any] | None) -> list[dict[str, Any]]:
        entries = [] if index is None else index.get("manifests")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            where = f"{self._folder / 'index.json'} manifests"
            raise _damaged("malformed", where, expected="a list of descriptors")
        return entries

    def _prepare(self) -> None:
        """Create the missing folders and the marker of the layout; refuse a folder with other content."""
        if self._prepared:
            return
        marker = self._folder / "oci-layout"
        if not marker.exists():
            if self._folder.is_dir():
                self._expect_ours()
            self._blobs.mkdir(parents=True, exist_ok=True)
            (self._folder / STAGING).mkdir(exist_ok=True)
            data = msgspec.json.encode({"imageLayoutVersion": VERSION})
            publish((data,), marker, staging=self._folder / STAGING, mode=0o666, disk=self._disk)
            self._disk.sync_folder(self._folder)
        self._blobs.mkdir(parents=True, exist_ok=True)
        (self._folder / STAGING).mkdir(exist_ok=True)
        self._prepared = True

    def _expect_ours(self) -> None:
        others = {entry.name for entry in self._folder.iterdir()} - {"blobs", STAGING, LOCK, "oci-layout"}
        if others:
            raise InvalidInput(
                "folder holds other files and is no OCI image layout",
                where=self.name,
                got=min(others)[:80],
                fix="name a new or empty folder",
                code="E_LAYOUT",
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Not on index.json itself: after a replacement, that lock would be on the old file.
        lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _replace_index(self, index: dict[str, Any]) -> None:
        data = msgspec.json.encode(index)
        target = self._folder / "index.json"
        publish((data,), target, staging=self._folder / STAGING, mode=0o666, disk=self._disk)
        self._disk.sync_folder(self._folder)

    def _sweep(self) -> None:
        """Remove the drafts of killed processes."""
        for draft in (self._folder / STAGING).iterdir():
            with contextlib.suppress(OSError):
                if time.time() - draft.stat().st_mtime > ABANDONED:
                    draft.unlink()


def _damaged(what: str, where: str, *, expected: str = "", got: str = "") -> IntegrityError:
    fix = "this folder is no intact OCI image layout; name another folder"
    return IntegrityError(what, where=where, expected=expected, got=got, fix=fix, code="E_LAYOUT")


def _with_entry(index: dict[str, Any] | None, entry: Descriptor) -> dict[str, Any]:
    """A copy of index that has entry, without a tag if it was not there."""
    index = index or _empty_index()
    if any(other.get("digest") == entry.digest for other in index["manifests"]):
        return index
    return {**index, "manifests": [*index["manifests"], msgspec.to_builtins(entry)]}


def _empty_index() -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": []}


def _with_tag(index: dict[str, Any] | None, descriptor: Descriptor, tag: str) -> dict[str, Any]:
    """A copy of index in which tag names descriptor. Entries and members of other tools are kept."""
    index = index or _empty_index()
    entry = msgspec.to_builtins(descriptor)
    entry["annotations"] = {**descriptor.annotations, REF_NAME: tag}
    others = [other for other in index["manifests"] if _tag_of(other) != tag]
    return {**index, "manifests": [*others, entry]}


def _tag_of(entry: dict[str, Any]) -> str:
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else ""


def _descriptor(entry: dict[str, Any], where: str) -> Descriptor:
    try:
        return msgspec.convert(entry, Descriptor)
    except msgspec.ValidationError as error:
        raise _damaged(f"malformed entry of index.json: {error}", where) from error


def _readable(entry: dict[str, Any]) -> Descriptor | None:
    """The descriptor in an entry of index.json, None unless it names a manifest that may be read."""
    try:
        descriptor = _without_tag(msgspec.convert(entry, Descriptor))
    except msgspec.ValidationError:
        return None
    return descriptor if is_manifest(descriptor.media_type) else None


def _without_tag(descriptor: Descriptor) -> Descriptor:
    annotations = {name: value for name, value in descriptor.annotations.items() if name != REF_NAME}
    return msgspec.structs.replace(descriptor, annotations=annotations)


def _translated(where: str) -> translated:
    return translated("cannot use the layout", where, elsewhere="name another folder")
