"""A registry in a folder that notes all calls, complains about careless ones, and fails on request."""

from __future__ import annotations

import errno
import itertools
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pytest

from ctxpack_identity import Digest, LocalFailure, Unavailable
from ctxpack_oci import IMAGE_MANIFEST_MEDIA_TYPE, Descriptor, Layout, TaggedManifest, parse_image_manifest
from ctxpack_oci.disk import Disk
from ctxpack_pantry.artifact import LAYER_MEDIA_TYPE
from ctxpack_pantry.sending import ABSENT_RUN

each_stop = pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unavailable("no answer"), Unavailable),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), LocalFailure),
    ],
    ids=["no answer", "Ctrl-C", "full disk"],
)
"""A test for each error that can stop a transfer, and the error that its caller sees."""


class HastyDisk(Disk):
    """Does not wait for the disk, because no test cuts the power."""

    def sync(self, file: int) -> None:
        pass


class Call(NamedTuple):
    """One call as it arrived. subject: a tag or a digest."""

    method: str
    subject: str


Rule = Callable[[Call], object]
"""Called before a call is answered: it may raise, wait, or change what the registry holds."""


class FaultyTarget:
    """A Target over an OCI layout.

    It complains about layers sent although it has them, unless it was asked and had them not, or gave so many negative
    answers that a push asks no more. Like registry:2, it refuses an image manifest whose blobs it lacks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = Layout(folder, disk=HastyDisk())
        self.calls: list[Call] = []
        self.complaints: list[str] = []
        self._rules: dict[str, Rule] = {}
        self._absent: set[str] = set()  # layers that a push was told are not there, and has not sent yet
        self._negatives = 0  # answers in this push
        self._lock = threading.Lock()

    def on(self, method: str, rule: Rule) -> None:
        """Call rule before each call of method. It replaces an earlier rule."""
        self._rules[method] = rule

    def after(self, method: str, number: int, act: Callable[[], object]) -> None:
        """Call act once, before the call of method that follows number others."""
        calls = itertools.count()  # not count(): two calls that arrive at once would both see the later number
        self.on(method, lambda _: act() if next(calls) == number else None)

    def count(self, method: str) -> int:
        """Calls of method so far."""
        return sum(call.method == method for call in self.calls)

    @property
    def name(self) -> str:
        return "the registry"

    @property
    def conditional_tags(self) -> bool:
        return False

    def fetch_tag(self, tag: str) -> TaggedManifest | None:
        self._called("fetch_tag", tag)
        self._negatives = 0
        return self.layout.fetch_tag(tag)

    def resolve_tag(self, tag: str) -> Digest | None:
        self._called("resolve_tag", tag)
        return self.layout.resolve_tag(tag)

    def exists(self, descriptor: Descriptor) -> bool:
        self._called("exists", descriptor.digest)
        found = self.layout.exists(descriptor)
        if not found:
            self._absent.add(descriptor.digest)
            self._negatives += 1
        return found

    def fetch(self, descriptor: Descriptor) -> bytes:
        self._called("fetch", descriptor.digest)
        return self.layout.fetch(descriptor)

    def fetch_range(self, descriptor: Descriptor, start: int, size: int) -> bytes | None:
        self._called("fetch_range", descriptor.digest)
        return self.layout.fetch_range(descriptor, start, size)

    def fetch_into(self, descriptor: Descriptor, file: BinaryIO) -> None:
        self._called("fetch_into", descriptor.digest)
        self.layout.fetch_into(descriptor, file)

    def push(self, descriptor: Descriptor, content: bytes | BinaryIO) -> None:
        self._called("push", descriptor.digest)
        if descriptor.media_type == LAYER_MEDIA_TYPE and self.layout.exists(descriptor):
            needless = descriptor.digest not in self._absent and self._negatives < ABSENT_RUN
            if needless and not _holds_pack_manifest(content):  # which is too small to ask for
                self._complain(f"{descriptor.digest} was sent although it was there")
        self._absent.discard(descriptor.digest)
        if isinstance(content, bytes) and descriptor.media_type == IMAGE_MANIFEST_MEDIA_TYPE:
            manifest = parse_image_manifest(content, descriptor)
            for part in (manifest.config, *manifest.layers):
                if not self.layout.exists(part):
                    raise Unavailable(f"answered 400 (MANIFEST_BLOB_UNKNOWN: {part.digest})", where=self.name)
        self.layout.push(descriptor, content)

    def tag(self, descriptor: Descriptor, tag: str) -> None:
        self._called("tag", tag)
        self.layout.tag(descriptor, tag)

    def tag_if(self, descriptor: Descriptor, tag: str, before: Digest | None) -> bool:
        raise TypeError("a registry has no conditional tag")

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor] | None:
        self._called("referrers", subject)
        return self.layout.referrers(subject, artifact_type)

    def attach(self, descriptor: Descriptor, data: bytes, tag: str = "") -> None:
        self._called("attach", descriptor.digest)
        self.layout.attach(descriptor, data, tag)

    def delete(self, tag: str) -> Digest | None:
        self._called("delete", tag)
        return self.layout.delete(tag)

    def tags(self) -> Iterator[str]:
        self._called("tags", "")
        return self.layout.tags()

    def close(self) -> None:
        self._called("close", "")

    def blob(self, digest: str) -> Path:
        """Return the path of the content of digest."""
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def flip(self, digest: str, position: int, mask: int = 1) -> None:
        """Change one byte of stored content, in place."""
        path = self.blob(digest)
        data = bytearray(path.read_bytes())
        data[position] ^= mask
        path.unlink()  # it may be a link to another registry's
        path.write_bytes(data)

    def _called(self, method: str, subject: str) -> None:
        call = Call(method, subject)
        with self._lock:
            self.calls.append(call)
        rule = self._rules.get(method)
        if rule is not None:
            rule(call)

    def _complain(self, complaint: str) -> None:
        with self._lock:
            self.complaints.append(complaint)


def _holds_pack_manifest(content: bytes | BinaryIO) -> bool:
    """Return whether content is layer 0 of a pack."""
    return isinstance(content, bytes) and zlib.decompressobj(31).decompress(content, 14) == b"manifest.json\0"


def wait_until_idle() -> None:
    """Wait for the threads of a transfer that ended early; the transfer itself does not wait for them."""
    deadline = time.monotonic() + 10
    while working := [thread.name for thread in threading.enumerate() if thread.name.startswith("transfer")]:
        assert time.monotonic() < deadline, working
        time.sleep(0.001)
