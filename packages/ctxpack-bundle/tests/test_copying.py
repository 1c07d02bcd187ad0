"""A file of any size is copied and hashed in one pass, also if it changes during the copy."""

from __future__ import annotations

import hashlib
import os
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
