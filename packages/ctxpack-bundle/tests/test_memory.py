"""Memory is a few chunks, whatever the size of the files."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ctxpack_bundle import Piece, inflate_chunk, inflate_first, make_chunk, make_chunks, pack, runs
from ctxpack_identity import IntegrityError

MIB = 1 << 20
SIZE = 64 * MIB


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Fail when more than limit bytes are allocated at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.fixture(params=["noise", "zeros"])
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "large"
    with open(path, "wb") as file:
        if request.param == "noise":
            for _ in range(SIZE // MIB):
                file.write(os.urandom(MIB))
        else:
            file.truncate(SIZE)
    return path


def test_a_large_file_is_never_in_memory(large: Path, make_pack: Callable[..., Path], arena: Any) -> None:
    with at_most(4 * MIB):
        folder = make_pack(large)
    with at_most(4 * MIB):  # the chunker's buffer, the pieces between two cuts, and one piece with its chunk
        for piece in pack(str(folder)):
            make_chunk(piece)
    with at_most(24 * MIB):  # a run of 4 MiB, its chunks, and the next run
        for run in runs(map(Piece.of, pack(str(folder)))):
            make_chunks([piece.data for piece in run])
    chunks = [(len(piece), make_chunk(piece)) for piece in pack(str(folder))]
    with at_most(4 * MIB):
        arena.unpack(inflate_chunk(chunk, size, where="chunk") for size, chunk in chunks)
    assert (arena.staging / "artifacts/large").stat().st_size == SIZE


def test_many_files_are_never_in_memory(tmp_path: Path, make_pack: Callable[..., Path], arena: Any) -> None:
    for folder in range(10):
        (tmp_path / f"out/folder-{folder}").mkdir(parents=True)
        for number in range(100):
            (tmp_path / f"out/folder-{folder}/{number}").write_bytes(b"x")
    with at_most(2 * MIB):
        packed = make_pack(tmp_path / "out")
    pieces = list(pack(str(packed)))
    with at_most(MIB):
        arena.unpack(pieces)


def test_a_chunk_is_not_inflated_beyond_its_announced_size() -> None:
    bomb = gzip.compress(bytes(200 * MIB))
    for announced in (0, 1000, MIB):
        with at_most(4 * MIB), pytest.raises(IntegrityError, match="chunk unpacks to more than announced"):
            inflate_chunk(bomb, announced, where="chunk")
    with at_most(40 * MIB), pytest.raises(IntegrityError, match="chunk unpacks to more than announced"):
        inflate_first(bomb, where="first chunk")
