"""Blobs of any size: ranges, and files instead of bytes. The same rules for a registry and a layout."""

from __future__ import annotations

import errno
import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_double import RegistryDouble

from ctxpack_identity.errors import IntegrityError, NotFound
from ctxpack_oci import (
    IMAGE_MANIFEST_MEDIA_TYPE,
    MAX_BLOB_BYTES,
    Descriptor,
    ImageManifest,
    Layout,
    Target,
    describe,
    encode_image_manifest,
)
from ctxpack_oci.content import BLOCK_BYTES

BLOB = bytes(range(251)) * 2000  # several blocks
LAYER = describe(BLOB, "application/octet-stream")


class Store:
    """A target, and what it holds. replace: lets it hold other bytes under a digest."""

    def __init__(self, target: Target, replace: Callable[[Descriptor, bytes], None]) -> None:
        self.target = target
        self.replace = replace


@pytest.fixture(params=["registry", "layout"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "registry":
        double: RegistryDouble = request.getfixturevalue("double")
        return Store(
            request.getfixturevalue("registry"), lambda descriptor, data: double.blobs.update({descriptor.digest: data})
        )

    def replace(descriptor: Descriptor, data: bytes) -> None:
        path = tmp_path / "packs" / "blobs" / "sha256" / descriptor.digest.removeprefix("sha256:")
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    return Store(Layout(tmp_path / "packs"), replace)


@pytest.fixture
def target(store: Store) -> Target:
    return store.target


def fetched(target: Target, descriptor: Descriptor) -> bytes:
    file = io.BytesIO()
    target.fetch_into(descriptor, file)
    return file.getvalue()


class Faulty(io.BytesIO):
    """A file that fails with error at the call of a method that follows `left` others."""

    def __init__(self, data: bytes, method: str, left: int, error: OSError) -> None:
        super().__init__(data)
        self.method, self.left, self.error = method, left, error

    def read(self, size: int | None = -1) -> bytes:
        self.step("read")
        return super().read(size)

    def write(self, data: object) -> int:
        self.step("write")
        return super().write(data)  # type: ignore[arg-type]

    def flush(self) -> None:
        self.step("flush")

    def step(self, method: str) -> None:
        if method == self.method:
            self.left -= 1
            if self.left < 0:
                raise self.error


# -- what holds for every blob ----------------------------------------------------------------------------------------


def test_any_range_of_any_blob_is_the_slice(target: Target) -> None:
    @given(st.binary(min_size=1, max_size=300), st.data())
    def holds(blob: bytes, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(blob) - 1))
        size = data.draw(st.integers(1, len(blob) - start))
        descriptor = describe(blob, "a/b")
        target.push(descriptor, blob)
        assert target.fetch_range(descriptor, start, size) == blob[start : start + size]

    holds()


def test_any_file_that_was_pushed_is_fetched_into_any_file(target: Target) -> None:
    @given(blob=st.binary(max_size=300), before=st.binary(max_size=400), position=st.integers(0, 400))
    def holds(blob: bytes, before: bytes, position: int) -> None:
        descriptor = describe(blob, "a/b")
        source, sink = io.BytesIO(blob), io.BytesIO(before)
        source.seek(position)
        sink.seek(position)
        target.push(descriptor, source)
        target.fetch_into(descriptor, sink)
        assert sink.getvalue() == blob == target.fetch(descriptor)

    holds()


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_a_blob_of_whole_blocks_or_not(target: Target, size: int) -> None:
    blob = b"x" * size
    descriptor = describe(blob, "a/b")
    target.push(descriptor, io.BytesIO(blob))
    assert fetched(target, descriptor) == blob


def test_an_unbuffered_file_that_takes_or_gives_less_than_a_block(target: Target) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 1000))

        def write(self, data: object) -> int:
            return super().write(data[:1000])  # type: ignore[index]

    target.push(LAYER, Slow(BLOB))
    sink = Slow()
    target.fetch_into(LAYER, sink)
    assert sink.getvalue() == BLOB


def test_a_blob_larger_than_the_limit_for_bytes_in_flat_memory(target: Target, store: Store, tmp_path: Path) -> None:
    blob = bytes(MAX_BLOB_BYTES + 1)
    descriptor = describe(blob, "a/b")
    for fails in (lambda: target.fetch(descriptor), lambda: target.push(descriptor, blob)):
        with pytest.raises(IntegrityError, match=f"too large: expected at most {MAX_BLOB_BYTES} bytes"):
            fails()
    (tmp_path / "source").write_bytes(blob)
    with open(tmp_path / "source", "rb") as source:
        target.push(descriptor, source)
    with open(tmp_path / "sink", "w+b") as sink:
        tracemalloc.start()
        target.fetch_into(descriptor, sink)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (tmp_path / "sink").read_bytes() == blob
    assert peak < 2 * 2**20
    assert target.fetch_range(descriptor, len(blob) - 2, 2) == b"\0\0"


def test_a_file_is_read_in_blocks(target: Target) -> None:
    class Watched(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert size >= 0
            self.largest = max(self.largest, size)
            return super().read(size)

    file = Watched(BLOB)
    target.push(LAYER, file)
    assert file.largest == BLOCK_BYTES


# -- what is refused --------------------------------------------------------------------------------------------------


def test_content_that_is_not_there(target: Target) -> None:
    with pytest.raises(NotFound):
        target.fetch_range(LAYER, 0, 1)
    with pytest.raises(NotFound):
        fetched(target, LAYER)


@pytest.mark.parametrize(("start", "size"), [(0, 0), (-1, 1), (0, len(BLOB) + 1), (len(BLOB), 1), (5, -1)])
def test_a_range_that_is_not_within_the_blob(target: Target, start: int, size: int) -> None:
    target.push(LAYER, BLOB)
    with pytest.raises(
        IntegrityError,
        match="range is not within the blob: "
        f"expected at least one of its {len(BLOB)} bytes, got {size} bytes from byte {start} on$",
    ):
        target.fetch_range(LAYER, start, size)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (b"X" + BLOB[1:], f"digest differs: expected {LAYER.digest}, got sha256:.*; try again"),
        (BLOB[:-1], f"size differs: expected {len(BLOB)} bytes, got {len(BLOB) - 1}; try again"),
        (BLOB + b"!", r"(answer is too long|size differs)"),
    ],
)
def test_a_blob_that_differs_is_refused_and_never_overflows_the_file(store: Store, held: bytes, message: str) -> None:
    store.target.push(LAYER, BLOB)
    store.replace(LAYER, held)
    file = io.BytesIO()
    with pytest.raises(IntegrityError, match=message):
        store.target.fetch_into(LAYER, file)
    assert len(file.getvalue()) <= LAYER.size


def test_a_range_of_a_blob_that_was_cut_is_refused(store: Store) -> None:
    store.target.push(LAYER, BLOB)
    store.replace(LAYER, BLOB[:100])
    with pytest.raises(IntegrityError) as caught:
        store.target.fetch_range(LAYER, 200, 10)
    assert caught.value.code == "E_SIZE"


@pytest.mark.parametrize("content", [BLOB[:-1], BLOB + b"!", b""])
def test_a_file_of_another_length_is_not_sent(target: Target, content: bytes) -> None:
    with pytest.raises(IntegrityError, match=f"size differs: expected {len(BLOB)} bytes, got {len(content)}$"):
        target.push(LAYER, io.BytesIO(content))
    assert not target.exists(LAYER)


def test_a_file_that_becomes_shorter_on_its_way_is_not_stored(target: Target) -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            self.truncate(BLOCK_BYTES)
            return super().read(size)

    with pytest.raises(IntegrityError, match=f"size differs: expected {len(BLOB)} bytes, got {BLOCK_BYTES}$"):
        target.push(LAYER, Shrinking(BLOB))
    assert not target.exists(LAYER)


def test_a_manifest_is_pushed_as_bytes(target: Target) -> None:
    data = encode_image_manifest(ImageManifest(config=LAYER, layers=()))
    with pytest.raises(TypeError, match="a manifest is pushed as bytes"):
        target.push(describe(data, IMAGE_MANIFEST_MEDIA_TYPE), io.BytesIO(data))


# -- errors of the caller's file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "left"), [("write", 0), ("write", 2), ("flush", 0)])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT])
def test_an_error_of_the_file_that_is_written_comes_out_unchanged(
    store: Store, method: str, left: int, number: int
) -> None:
    store.target.push(LAYER, BLOB)
    error = OSError(number, os.strerror(number))
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        store.target.fetch_into(LAYER, Faulty(b"", method, left, error))
    assert caught.value is error
    assert fetched(store.target, LAYER) == BLOB


@pytest.mark.parametrize("left", [0, 2])
@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT])
def test_an_error_of_the_file_that_is_pushed_comes_out_unchanged(target: Target, left: int, number: int) -> None:
    error = OSError(number, os.strerror(number))
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        target.push(LAYER, Faulty(BLOB, "read", left, error))
    assert caught.value is error
    assert not target.exists(LAYER)


def test_a_closed_file_is_the_callers_mistake(target: Target) -> None:
    target.push(LAYER, BLOB)
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(ValueError, match="closed file"):
        target.fetch_into(LAYER, closed)
    with pytest.raises(ValueError, match="closed file"):
        target.push(LAYER, closed)
