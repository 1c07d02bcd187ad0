"""Checks of a repository after a push: the layers of its tag are there, and hold every file; and who signed it."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import struct
import tarfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from bench.compare import expect
from bench.measure import NotDone
from bench.workloads import Workload
from loopback import open_url
from registry2 import RegistryServer

__all__ = ["claims", "expect_pushed", "image", "layers"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
BLOCK = 1 << 20  # bytes

CLAIM = "claim-"
BESIDE = ("ctx-kin-", CLAIM, "sha256-")  # tags that name no pack: of kin, of a claim, of a list of referrers

# A table of CtxPack: records of piece SHA-256, piece size, chunk size, layer, offset (FORMAT.md of ctxpack-bundle).
TABLE_HEAD = 16  # bytes
RECORD = struct.Struct(">32x4xIHHI")


def expect_pushed(registry: RegistryServer, repository: str, workload: Workload, *, closely: bool) -> None:
    """Raises: NotDone unless all layers of the only tag of a repository are there.

    closely: the layers must also be a tar archive, gzipped or not, with every file of the workload.
    """
    found = layers(registry, repository)
    for path in found:
        expect(path.is_file(), "a layer", f"none at {path}")
    if closely:
        want = Counter((path.name, path.stat().st_size) for path in workload.folder.rglob("*") if path.is_file())
        missing = want - Counter(_members(found))
        expect(not missing, "every file in the layers", f"{len(missing)} missing, such as {[*missing][:1]}")


def layers(registry: RegistryServer, repository: str) -> list[Path]:
    """Return the files that hold the layers of the only pack in a repository. Raises: NotDone if there is none."""
    return _layers(registry, image(registry, repository))


def image(registry: RegistryServer, repository: str) -> bytes:
    """Return the image manifest of the only pack in a repository. Raises: NotDone if there is none."""
    [tag] = [tag for tag in _tags(registry, repository) if not tag.startswith(BESIDE)]
    return _manifest(registry, repository, tag)


def claims(registry: RegistryServer, repository: str) -> list[bytes]:
    """Return the bundles of all claims that lie under tags in a repository. Raises: NotDone if one is missing."""
    manifests = [_manifest(registry, repository, tag) for tag in _tags(registry, repository) if tag.startswith(CLAIM)]
    return [path.read_bytes() for manifest in manifests for path in _layers(registry, manifest)]


def _tags(registry: RegistryServer, repository: str) -> list[str]:
    found: list[str] = json.loads(_get(f"http://{registry.address}/v2/{repository}/tags/list"))["tags"]
    return found


def _manifest(registry: RegistryServer, repository: str, tag: str) -> bytes:
    return _get(f"http://{registry.address}/v2/{repository}/manifests/{tag}")


def _layers(registry: RegistryServer, manifest: bytes) -> list[Path]:
    blobs = registry.storage / "docker" / "registry" / "v2" / "blobs" / "sha256"
    digests = [layer["digest"].removeprefix("sha256:") for layer in json.loads(manifest)["layers"]]
    return [blobs / digest[:2] / digest / "data" for digest in digests]


def _members(blobs: list[Path]) -> Iterator[tuple[str, int]]:
    with io.BufferedReader(_Joined(_stream(blobs))) as joined:
        zipped = joined.peek(2)[:2] == b"\x1f\x8b"
        plain = cast(BinaryIO, gzip.GzipFile(fileobj=joined) if zipped else joined)
        with tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 20) as archive:
            for member in archive:
                if member.isfile():
                    yield Path(member.name).name, member.size


def _stream(blobs: list[Path]) -> Iterator[bytes]:
    """Yield the blocks of a layer or, for a pack of CtxPack, of its chunks in the order of its table."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")).fileno() for path in blobs]
        places = [(0, 0, os.fstat(files[0]).st_size)]
        if len(files) > 1:
            table = os.pread(files[1], os.fstat(files[1]).st_size, 0)
            expect(table.startswith(b"CTXTABLE"), "a table in layer 1", table[:8])
            places += [
                (layer, high << 32 | low, size) for size, layer, high, low in RECORD.iter_unpack(table[TABLE_HEAD:])
            ]
        for layer, offset, size in places:
            for start in range(offset, offset + size, BLOCK):
                yield os.pread(files[layer], min(BLOCK, offset + size - start), start)


def _get(url: str) -> bytes:
    try:
        with open_url(urllib.request.Request(url, headers={"Accept": MANIFEST}), timeout=60) as answer:
            return answer.read()
    except OSError as error:
        raise NotDone(f"{url}: {error}") from error


class _Joined(io.RawIOBase):
    """The concatenation of blocks."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._blocks, b"")
        part = self._rest[: len(buffer)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)
