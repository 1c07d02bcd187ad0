"""Checks after a kill, a lost connection or tampering: every pack that is visible is whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from plain_target import PlainTarget, tag_of

from ctxpack_identity import hash_tree

__all__ = ["Artifact", "audit_artifact", "audit_cache", "digest_of", "leftovers", "unfinished"]


class Artifact(NamedTuple):
    """A pack on a target. manifest: the image manifest, as JSON; layers: their bytes.

    stream: the chunks, in order; pieces: what they unpack to.
    """

    manifest: dict[str, Any]
    layers: list[bytes]
    stream: bytes
    pieces: list[bytes]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def audit_cache(cache: Path) -> list[str]:
    """Return the URIs of the packs in a cache. Raises: AssertionError unless each of them is whole."""
    folders = sorted((cache / "v1" / "packs").glob("*"))
    for folder in folders:
        _audit_pack(folder)
    return [f"ctx://sha256:{folder.name}" for folder in folders]


def unfinished(cache: Path) -> list[str]:
    """Return the names of the unfinished packs in a cache."""
    return sorted(path.name for path in cache.glob("v1/staging/*"))


def leftovers(cache: Path) -> list[str]:
    """Return the names of the unfinished packs and of the lock files in a cache."""
    return unfinished(cache) + sorted(path.name for path in cache.glob("v1/locks/*"))


def audit_artifact(target: PlainTarget, uri: str) -> Artifact | None:
    """Return the pack that has the tag of uri, or None. Raises: AssertionError unless it is whole."""
    data = target.manifest(tag_of(uri))
    if data is None:
        return None
    manifest = json.loads(data)
    assert manifest["config"]["digest"] == uri.removeprefix("ctx://")
    blobs = [(part, target.blob(part["digest"])) for part in (manifest["config"], *manifest["layers"])]
    for part, blob in blobs:
        assert (part["digest"], part["size"]) == (digest_of(blob), len(blob))
    layers = [blob for _, blob in blobs[1:]]
    chunks = list(_chunks(layers))
    stream = b"".join(chunks)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(stream))) as archive:
        assert archive.next() is not None
        assert sum(member.isfile() for member in archive if member.name.startswith("artifacts/")) > 0
    return Artifact(manifest, layers, stream, [gzip.decompress(chunk) for chunk in chunks])


def _chunks(layers: list[bytes]) -> Iterator[bytes]:
    """Yield the chunks as the table says, each checked. Not by CtxPack's own reader."""
    yield layers[0]
    magic, version, count = struct.unpack_from(">8sII", layers[1])
    assert (magic, version, len(layers[1])) == (b"CTXTABLE", 1, 16 + 48 * count)
    for sha256, piece_size, size, layer, high, low in struct.iter_unpack(">32sIIHHI", layers[1][16:]):
        offset = high << 32 | low
        chunk = layers[layer][offset : offset + size]
        piece = gzip.decompress(chunk)
        assert (len(chunk), len(piece), hashlib.sha256(piece).digest()) == (size, piece_size, sha256)
        yield chunk


def _audit_pack(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["uri"] == f"ctx://sha256:{folder.name}"
    for listing in manifest["listings"]:
        data = (folder / listing["path"]).read_bytes()
        assert (digest_of(data), len(data)) == (listing["digest"], listing["size"]), listing["path"]
    lines = [json.loads(line) for line in (folder / "files.jsonl").read_bytes().splitlines()]
    files = {line["path"]: line["sha256"] for line in lines if "sha256" in line}
    artifacts = folder / "artifacts"
    found = {path.relative_to(artifacts).as_posix(): path for path in artifacts.rglob("*") if path.is_file()}
    assert files == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}
    assert manifest["outputs"]["files"] == len(files)
    # No second implementation of the tree digest here: it has vectors of its own.
    assert hash_tree(os.fspath(artifacts)).digest == manifest["outputs"]["digest"]
    writable = [path for path in folder.rglob("*") if path.stat().st_mode & 0o222]
    assert writable == []
