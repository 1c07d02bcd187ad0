"""A file of any size is copied and hashed in one pass, also if it changes during the copy."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctxpack_bundle.copying import Copier
from ctxpack_identity import LocalFailure

BLOCK = 1 << 20  # bytes
SIZES = [0, 1, 511, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 5]


def content(size: int) -> bytes:
    return hashlib.shake_128(str(size).encode()).digest(size)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def copied(source: Path, target: Path, size: int) -> tuple[tuple[str, int], list[int]]:
    reported: list[int] = []
    with opened(source, os.O_RDONLY) as one, opened(target, os.O_RDWR | os.O_CREAT) as other, Copier() as copier:
        return copier.copy(one, other, size, where="source", on_bytes=reported.append), reported


@pytest.mark.parametrize("size", SIZES)
def test_the_digest_is_that_of_the_copy(tmp_path: Path, size: int) -> None:
    data = content(size)
    (tmp_path / "a").write_bytes(data)
    done, reported = copied(tmp_path / "a", tmp_path / "b", size)
    assert done == (hashlib.sha256(data).hexdigest(), size)
    assert (tmp_path / "b").read_bytes() == data
    assert sum(reported) == size


@pytest.mark.parametrize("size", SIZES)
def test_one_copier_serves_many_files(tmp_path: Path, size: int) -> None:
    with Copier() as copier:
        for number in range(3):
            data = content(size + number)
            (tmp_path / "a").write_bytes(data)
            copy = tmp_path / str(number)
            with opened(tmp_path / "a", os.O_RDONLY) as one, opened(copy, os.O_RDWR | os.O_CREAT) as other:
                sha256, length = copier.copy(one, other, len(data), where="a", on_bytes=lambda count: None)
            assert (sha256, length) == (hashlib.sha256(data).hexdigest(), len(data))
            assert copy.read_bytes() == data


@pytest.mark.parametrize("size", [10, BLOCK, 2 * BLOCK])
def test_a_file_that_grew_is_reported_as_longer_but_not_read_to_its_end(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(content(size + 5 * BLOCK))
    (_, length), _ = copied(tmp_path / "a", tmp_path / "b", size)
    assert size < length <= size + 5 * BLOCK
    if os.path.getsize(tmp_path / "b") == length:  # not a clone
        assert length <= size + BLOCK


@pytest.mark.parametrize("size", [10, BLOCK, 2 * BLOCK])
def test_a_file_that_shrank_is_reported_as_shorter(tmp_path: Path, size: int) -> None:
    data = content(size // 2)
    (tmp_path / "a").write_bytes(data)
    done, _ = copied(tmp_path / "a", tmp_path / "b", size)
    assert done == (hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize("size", [10, 2 * BLOCK])
def test_an_error_names_the_source_that_cannot_be_read(tmp_path: Path, size: int) -> None:
    with pytest.raises(LocalFailure, match="source: cannot be read: Is a directory"):
        copied(tmp_path, tmp_path / "b", size)


@pytest.mark.parametrize("size", [10, 3 * BLOCK])
def test_a_copy_that_cannot_be_written_is_an_oserror(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(content(size))
    (tmp_path / "b").touch()
    with (
        opened(tmp_path / "a", os.O_RDONLY) as one,
        opened(tmp_path / "b", os.O_RDONLY) as other,
        Copier() as copier,
        pytest.raises(OSError, match="Bad file descriptor"),
    ):
        copier.copy(one, other, size, where="a", on_bytes=lambda count: None)


MIB = 1 << 20


def make_sparse(path: Path, size: int, parts: dict[int, bytes]) -> bytes:
    """Write parts at their offsets into a file of this size, and return its content."""
    with open(path, "wb") as file:
        for offset, data in parts.items():
            file.seek(offset)
            file.write(data)
        file.truncate(size)
    return path.read_bytes()


SPARSE: dict[str, tuple[int, dict[int, bytes]]] = {
    "nothing but a hole": (8 * MIB, {}),
    "data first": (8 * MIB, {0: b"x"}),
    "data last": (8 * MIB + 5, {8 * MIB: b"12345"}),
    "data in the middle": (9 * MIB, {3 * MIB + 77: b"x" * 70_000}),
    "much data": (16 * MIB, {MIB: content(3 * MIB + 1), 10 * MIB: content(2 * MIB)}),
    "many small holes": (2 * MIB, dict.fromkeys(range(0, 2 * MIB, 64 << 10), b"x")),
    "a small file": (100 << 10, {0: b"x"}),
}


@pytest.mark.parametrize(("size", "parts"), SPARSE.values(), ids=SPARSE)
@pytest.mark.parametrize("clones", [False, True], ids=["copied", "cloned"])
def test_holes_stay_holes(
    tmp_path: Path, size: int, parts: dict[int, bytes], clones: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(copy: int, request: int, source: int) -> None:
        shutil.copyfile(tmp_path / "a", tmp_path / "b")

    if clones:
        monkeypatch.setattr("fcntl.ioctl", clone)
        monkeypatch.setattr("sys.platform", "linux")
    data = make_sparse(tmp_path / "a", size, parts)
    done, reported = copied(tmp_path / "a", tmp_path / "b", size)
    assert done == (hashlib.sha256(data).hexdigest(), size)
    assert (tmp_path / "b").read_bytes() == data
    assert sum(reported) == size
    assert max(reported) <= BLOCK
    if not clones:
        assert (tmp_path / "b").stat().st_blocks <= (tmp_path / "a").stat().st_blocks


def test_a_copy_of_holes_needs_their_room_nowhere(tmp_path: Path) -> None:
    """600 MiB of which 8 KiB are on the disk: the copy is not larger."""
    size = 600 * MIB
    with open(tmp_path / "a", "wb") as file:
        file.write(b"x" * 4096)
        file.seek(size - 4096)
        file.write(b"y" * 4096)
    (_, length), _ = copied(tmp_path / "a", tmp_path / "b", size)
    status = (tmp_path / "b").stat()
    assert (length, status.st_size) == (size, size)
    assert status.st_blocks * 512 <= 64 << 10


def grow_sparse(path: Path, more: bytes) -> None:
    with open(path, "wb") as file:
        file.write(b"x")
        file.seek(99 << 30)
        file.write(more)
        file.truncate(100 << 30)


@pytest.mark.parametrize("more", [b"x", b""], ids=["data", "hole"])
def test_a_sparse_file_that_grew_is_reported_as_longer(tmp_path: Path, more: bytes) -> None:
    grow_sparse(tmp_path / "a", more)
    (_, length), _ = copied(tmp_path / "a", tmp_path / "b", 4 * MIB)
    assert 4 * MIB < length <= 5 * MIB


def test_a_sparse_file_that_shrank_is_reported_as_shorter(tmp_path: Path) -> None:
    data = make_sparse(tmp_path / "a", 2 * MIB, {0: b"x"})
    done, _ = copied(tmp_path / "a", tmp_path / "b", 4 * MIB)
    assert done == (hashlib.sha256(data).hexdigest(), 2 * MIB)


def test_without_a_way_to_find_holes_a_copy_is_dense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "SEEK_HOLE", raising=False)
    data = make_sparse(tmp_path / "a", 3 * MIB, {0: b"x"})
    done, _ = copied(tmp_path / "a", tmp_path / "b", 3 * MIB)
    assert done == (hashlib.sha256(data).hexdigest(), 3 * MIB)
    assert (tmp_path / "b").read_bytes() == data
