"""Checks of a repository after a push: the layers of its tag are there, and hold every file."""

from __future__ import annotations

import gzip
import io
import json
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

__all__ = ["expect_pushed", "layers"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


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
    """Return the files that hold the layers of the only tag of a repository. Raises: NotDone if there is no tag."""
    base = f"http://{registry.address}/v2/{repository}"
    [tag] = json.loads(_get(f"{base}/tags/list"))["tags"]
    manifest = json.loads(_get(f"{base}/manifests/{tag}"))
    blobs = registry.storage / "docker" / "registry" / "v2" / "blobs" / "sha256"
    digests = [layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
    return [blobs / digest[:2] / digest / "data" for digest in digests]


def _members(files: list[Path]) -> Iterator[tuple[str, int]]:
    with io.BufferedReader(_Joined(files)) as joined:
        zipped = joined.peek(2)[:2] == b"\x1f\x8b"
        plain = cast(BinaryIO, gzip.GzipFile(fileobj=joined) if zipped else joined)
        with tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 20) as archive:
            for member in archive:
                if member.isfile():
                    yield Path(member.name).name, member.size


def _get(url: str) -> bytes:
    try:
        with open_url(urllib.request.Request(url, headers={"Accept": MANIFEST}), timeout=60) as answer:
            return answer.read()
    except OSError as error:
        raise NotDone(f"{url}: {error}") from error


class _Joined(io.RawIOBase):
    """The concatenation of files."""

    def __init__(self, files: list[Path]) -> None:
        self._files = iter(files)
        self._open: BinaryIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            if self._open is None:
                path = next(self._files, None)
                if path is None:
                    return 0
                self._open = path.open("rb")
            count = self._open.readinto(buffer)  # type: ignore[attr-defined]
            if count:
                return int(count)
            self._open.close()
            self._open = None
