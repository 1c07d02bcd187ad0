"""Bytes are written and hashed at the same time, and errors of both are raised."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.folder import create_member
from ctxpack_bundle.sidehash import BUFFERS, SideHash, hash_blocks


def hash_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "hash"]


@given(contents=st.lists(st.lists(st.binary(max_size=100), max_size=5), max_size=3))
def test_the_digest_is_that_of_the_written_bytes(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("written")
    with SideHash() as side_hash:
        for number, blocks in enumerate(contents):
            fd = create_member(str(folder / str(number)))
            try:
                returned = side_hash.write(map(memoryview, blocks), fd)
            finally:
                os.close(fd)
            whole = b"".join(blocks)
            assert returned == (hashlib.sha256(whole).hexdigest(), len(whole))
            assert (folder / str(number)).read_bytes() == whole


@given(parts=st.lists(st.binary(max_size=100) | st.integers(1, 3 << 20), max_size=5))
def test_holes_are_hashed_as_zeros_and_not_written(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes | int]
) -> None:
    path = tmp_path_factory.mktemp("holes") / "file"
    blocks = [memoryview(part) if isinstance(part, bytes) else part for part in parts]
    whole = b"".join(map(bytes, parts))  # bytes() of a number are so many zeros
    fd = create_member(str(path))
    with SideHash() as side_hash:
        returned = side_hash.write(blocks, fd)
    os.close(fd)
    assert returned == hash_blocks(blocks) == (hashlib.sha256(whole).hexdigest(), len(whole))
    assert path.read_bytes() == whole


def test_so_many_buffers_in_turn_are_enough(tmp_path: Path) -> None:
    buffers = [bytearray(1 << 20) for _ in range(BUFFERS)]
    wanted = hashlib.sha256()

    def blocks() -> Iterator[memoryview]:
        for number in range(20):
            buffer = buffers[number % BUFFERS]
            buffer[:] = bytes([number]) * len(buffer)
            wanted.update(buffer)
            yield memoryview(buffer)

    fd = create_member(str(tmp_path / "large"))
    with SideHash() as side_hash:
        returned = side_hash.write(blocks(), fd)
    os.close(fd)
    assert returned == (wanted.hexdigest(), 20 << 20)
    assert hashlib.sha256((tmp_path / "large").read_bytes()).hexdigest() == wanted.hexdigest()


def test_the_thread_starts_with_the_first_write_and_ends_with_close(tmp_path: Path) -> None:
    fd = create_member(str(tmp_path / "file"))
    with SideHash() as side_hash:
        assert hash_threads() == []
        side_hash.write([memoryview(b"content")], fd)
        assert hash_threads() == ["hash"]
    os.close(fd)
    assert hash_threads() == []


def test_errors_of_the_write_and_of_the_source_are_raised(tmp_path: Path) -> None:
    def broken() -> Iterator[memoryview]:
        yield memoryview(bytes(2 << 20))
        raise ValueError("source failed")

    (tmp_path / "read-only").touch()
    fd = os.open(tmp_path / "read-only", os.O_RDONLY)
    with SideHash() as side_hash:
        with pytest.raises(OSError, match="Bad file descriptor"):
            side_hash.write([memoryview(bytes(2 << 20))], fd)
        os.close(fd)
        fd = create_member(str(tmp_path / "other"))
        with pytest.raises(ValueError, match="source failed"):
            side_hash.write(broken(), fd)
    os.close(fd)
    assert hash_threads() == []
