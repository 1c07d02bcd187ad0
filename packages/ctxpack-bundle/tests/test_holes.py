"""Runs of zeros become holes, and the content stays the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpack_bundle.folder import create_member
from ctxpack_bundle.holes import LEAST_HOLE, Block, data_ranges, has_holes, with_holes, write_block

KIB = 1 << 10
PARTS = st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([1, 4095, LEAST_HOLE - 1, LEAST_HOLE, 200_000])))


def content_of(parts: list[tuple[int, int]]) -> bytes:
    return b"".join(bytes([value]) * size for value, size in parts)


def filled(blocks: list[Block]) -> bytes:
    return b"".join(bytes(block) for block in blocks)  # bytes() of a number are so many zeros


@given(st.lists(PARTS.map(content_of), max_size=3))
def test_blocks_with_holes_are_the_same_bytes(blocks: list[bytes]) -> None:
    found = list(with_holes(map(memoryview, blocks)))
    assert filled(found) == b"".join(blocks)
    assert all(block >= LEAST_HOLE if isinstance(block, int) else len(block) for block in found)


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"", []),
        (bytes(LEAST_HOLE - 1), [LEAST_HOLE - 1, "bytes"]),
        (bytes(LEAST_HOLE), [LEAST_HOLE]),
        (bytes(LEAST_HOLE + 7), [LEAST_HOLE + 7]),
        (bytes(LEAST_HOLE) + b"x", [LEAST_HOLE, "x"]),
        (b"x" + bytes(3 * LEAST_HOLE), ["x", 2 * LEAST_HOLE + 1]),
        (b"x" * LEAST_HOLE + bytes(2 * LEAST_HOLE) + b"y", ["x", 2 * LEAST_HOLE, "y"]),
    ],
)
def test_a_long_run_of_zeros_is_a_hole(block: bytes, found: list[object]) -> None:
    kinds = [part if isinstance(part, int) else chr(part[0]) for part in with_holes([memoryview(block)])]
    if found[1:] == ["bytes"]:
        kinds, found = [len(block)], found[:1]
    assert kinds == found


@given(PARTS)
def test_written_blocks_are_the_content_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("written") / "file"
    fd = create_member(str(path))
    blocks: list[Block] = [size if not value else memoryview(bytes([value]) * size) for value, size in parts]
    length = sum(write_block(fd, block) for block in blocks)
    os.ftruncate(fd, length)
    os.close(fd)
    assert path.read_bytes() == content_of(parts)


@given(PARTS, st.integers(0, 500_000))
def test_ranges_cover_all_data_up_to_the_limit(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int]], limit: int
) -> None:
    data = content_of(parts)
    path = tmp_path_factory.mktemp("ranges") / "file"
    with open(path, "wb") as file:
        for value, size in parts:
            file.write(bytes([value]) * size) if value else file.seek(size, os.SEEK_CUR)
        file.truncate(len(data))
    read, end = bytearray(), 0
    with open(path, "rb") as file:
        for start, stop in data_ranges(file.fileno(), limit):
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == start
            read += bytes(start - len(read)) + os.read(file.fileno(), stop - start)
            assert end <= start <= stop <= limit
            end = stop
    assert read == data[:limit]


def test_where_holes_are_not_known_all_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seek(fd: int, position: int, how: int) -> int:
        if how != os.SEEK_SET:
            raise OSError(22, "Invalid argument")
        return real(fd, position, how)

    real: Callable[[int, int, int], int] = os.lseek
    monkeypatch.setattr(os, "lseek", seek)
    (tmp_path / "file").write_bytes(b"12345")
    with open(tmp_path / "file", "rb") as file:
        assert list(data_ranges(file.fileno(), 100)) == [(0, 100)]


def test_a_file_with_fewer_blocks_than_bytes_may_have_holes(tmp_path: Path) -> None:
    (tmp_path / "dense").write_bytes(b"x" * 100 * KIB)
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(100 * KIB)
    assert has_holes((tmp_path / "sparse").stat())
    assert not has_holes((tmp_path / "dense").stat())
